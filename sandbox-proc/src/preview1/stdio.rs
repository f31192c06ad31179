//! Descriptors 0, 1 and 2: an empty input, and the two outputs, which go to the broker in frames.

#![forbid(unsafe_code)]

use super::memory::{Errno, View, number};
use super::{MODULE, errno};
use crate::worker::call::Halt;
use crate::worker::guest::Guest;
use warden_proto::limits::INLINE_MAX_BYTES;
use warden_proto::msg::proc::Stream;
use wasmtime::{Caller, Linker};

/// Buffers of one call; more is refused as WASI allows.
const IOVECS_MAX: u32 = 1024;
const RIGHT_READ: u64 = 1 << 1;
const RIGHT_WRITE: u64 = 1 << 6;

pub fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.func_wrap(MODULE, "fd_write", fd_write)?;
    linker.func_wrap(MODULE, "fd_read", fd_read)?;
    linker
        .func_wrap(MODULE, "fd_close", |mut caller: Caller<'_, Guest>, fd: i32| number(close(caller.data_mut(), fd)))?;
    linker.func_wrap(
        MODULE,
        "fd_seek",
        |caller: Caller<'_, Guest>, fd: i32, _offset: i64, _whence: i32, _out: i32| {
            number(open(caller.data(), fd).and(Err(errno::SPIPE)))
        },
    )?;
    linker.func_wrap(MODULE, "fd_fdstat_get", |mut caller: Caller<'_, Guest>, fd: i32, out: i32| {
        let open = open(caller.data(), fd);
        let mut view = View::new(&mut caller)?;
        Ok::<_, wasmtime::Error>(number(open.and_then(|fd| view.put(out, &fdstat(fd)))))
    })?;
    linker.func_wrap(MODULE, "fd_prestat_get", |_fd: i32, _out: i32| errno::BADF)?;
    linker.func_wrap(MODULE, "fd_prestat_dir_name", |_fd: i32, _path: i32, _len: i32| errno::BADF)?;
    Ok(())
}

/// The index of an open descriptor.
fn open(guest: &Guest, fd: i32) -> Result<usize, Errno> {
    let index = usize::try_from(fd).map_err(|_| errno::BADF)?;
    match guest.closed.get(index) {
        Some(false) => Ok(index),
        _ => Err(errno::BADF),
    }
}

fn close(guest: &mut Guest, fd: i32) -> Result<(), Errno> {
    let index = open(guest, fd)?;
    *guest.closed.get_mut(index).ok_or(errno::BADF)? = true;
    Ok(())
}

/// `fdstat`: of no known type (so not a terminal), readable or writable, nothing else.
fn fdstat(fd: usize) -> [u8; 24] {
    let mut out = [0; 24];
    let rights = if fd == 0 { RIGHT_READ } else { RIGHT_WRITE };
    if let Some(field) = out.get_mut(8..16) {
        field.copy_from_slice(&rights.to_le_bytes());
    }
    out
}

fn fd_write(mut caller: Caller<'_, Guest>, fd: i32, iovs: i32, count: i32, written: i32) -> wasmtime::Result<i32> {
    let stream = match open(caller.data(), fd) {
        Ok(1) => Stream::Stdout,
        Ok(2) => Stream::Stderr,
        _ => return Ok(errno::BADF),
    };
    let mut view = View::new(&mut caller)?;
    let bytes = match gather(&view, iovs, count) {
        Ok(bytes) => bytes,
        Err(number) => return Ok(number),
    };
    let (_, guest) = view.split();
    let sent = guest.link.output(stream, &bytes)?;
    let sent = u32::try_from(sent).map_err(|e| Halt::Broken(e.to_string()))?;
    Ok(number(view.put(written, &sent.to_le_bytes())))
}

/// The first bytes of the buffers, as many as one frame takes: a short write, which every caller knows how to continue.
fn gather(view: &View<'_, '_>, iovs: i32, count: i32) -> Result<Vec<u8>, Errno> {
    let count = count.cast_unsigned();
    if count > IOVECS_MAX {
        return Err(errno::INVAL);
    }
    let mut bytes = Vec::new();
    for index in 0..count {
        let at = iovs.cast_unsigned().checked_add(index.saturating_mul(8)).ok_or(errno::FAULT)?;
        let base = view.u32(at.cast_signed())?;
        let len = view.u32(at.checked_add(4).ok_or(errno::FAULT)?.cast_signed())?;
        let buffer = view.bytes(base.cast_signed(), len.cast_signed())?;
        let room = INLINE_MAX_BYTES.saturating_sub(bytes.len());
        bytes.extend_from_slice(buffer.get(..room).unwrap_or(buffer));
        if bytes.len() >= INLINE_MAX_BYTES {
            break;
        }
    }
    Ok(bytes)
}

/// Standard input is empty.
fn fd_read(mut caller: Caller<'_, Guest>, fd: i32, _iovs: i32, _count: i32, read: i32) -> wasmtime::Result<i32> {
    if open(caller.data(), fd) != Ok(0) {
        return Ok(errno::BADF);
    }
    let mut view = View::new(&mut caller)?;
    Ok(number(view.put(read, &0_u32.to_le_bytes())))
}
