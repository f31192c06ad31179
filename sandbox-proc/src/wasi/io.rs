//! `wasi:io`: an empty input, outputs that never hold anything back, and a poll that only ever waits for a clock.

#![forbid(unsafe_code)]

use super::bindings::wasi::io::error;
use super::bindings::wasi::io::poll;
use super::bindings::wasi::io::streams::{self, StreamError};
use crate::worker::call::Halt;
use crate::worker::guest::Guest;
use std::time::Instant;
use warden_proto::limits::INLINE_MAX_BYTES;
use warden_proto::msg::proc::Stream;
use wasmtime::component::Resource;

/// A resource that no guest ever holds: an error of a stream, a terminal, a file.
#[derive(Debug)]
pub enum Nothing {}

/// Standard input, which is at its end.
#[derive(Debug)]
pub struct Input;

/// One of the two outputs.
#[derive(Debug)]
pub struct OutputTo(pub Stream);

/// Ready now, or at a time.
#[derive(Debug)]
pub struct Pollable {
    /// When; none for now.
    pub at: Option<Instant>,
}

type Answer<T> = wasmtime::Result<Result<T, StreamError>>;
type Out = Resource<OutputTo>;
type In = Resource<Input>;

/// Bytes that one write takes; a guest asks for this number first.
fn room() -> u64 {
    u64::try_from(INLINE_MAX_BYTES).unwrap_or(u64::MAX)
}

impl Guest {
    fn emit(&mut self, stream: &Out, bytes: &[u8]) -> wasmtime::Result<()> {
        let stream = self.table.get(stream)?.0;
        let mut rest = bytes;
        while !rest.is_empty() {
            let sent = self.link.output(stream, rest)?;
            rest = rest.get(sent..).unwrap_or_default();
        }
        Ok(())
    }

    /// Sleeps until `at`, or until the guest's time is up: no epoch reaches a guest that is inside the host (T-06).
    fn sleep_until(&self, at: Instant) -> Result<(), Halt> {
        let deadline = self.link.deadline();
        std::thread::sleep(at.min(deadline).saturating_duration_since(Instant::now()));
        if at > deadline { Err(Halt::OutOfTime) } else { Ok(()) }
    }

    fn is_ready(&self, pollable: &Resource<Pollable>) -> wasmtime::Result<Option<Instant>> {
        Ok(self.table.get(pollable)?.at.filter(|at| *at > Instant::now()))
    }
}

impl error::Host for Guest {}

impl error::HostError for Guest {
    fn to_debug_string(&mut self, _: Resource<Nothing>) -> wasmtime::Result<String> {
        Ok(String::new())
    }

    fn drop(&mut self, _: Resource<Nothing>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl poll::Host for Guest {
    fn poll(&mut self, pollables: Vec<Resource<Pollable>>) -> wasmtime::Result<Vec<u32>> {
        if pollables.is_empty() {
            return Err(wasmtime::format_err!("a poll of nothing would never end"));
        }
        loop {
            let mut ready = Vec::new();
            let mut earliest: Option<Instant> = None;
            for (index, pollable) in (0_u32..).zip(&pollables) {
                match self.is_ready(pollable)? {
                    None => ready.push(index),
                    Some(at) => earliest = Some(earliest.map_or(at, |earliest| earliest.min(at))),
                }
            }
            match earliest {
                Some(at) if ready.is_empty() => self.sleep_until(at)?,
                _ => return Ok(ready),
            }
        }
    }
}

impl poll::HostPollable for Guest {
    fn ready(&mut self, pollable: Resource<Pollable>) -> wasmtime::Result<bool> {
        Ok(self.is_ready(&pollable)?.is_none())
    }

    fn block(&mut self, pollable: Resource<Pollable>) -> wasmtime::Result<()> {
        match self.is_ready(&pollable)? {
            Some(at) => Ok(self.sleep_until(at)?),
            None => Ok(()),
        }
    }

    fn drop(&mut self, pollable: Resource<Pollable>) -> wasmtime::Result<()> {
        self.table.delete(pollable)?;
        Ok(())
    }
}

impl streams::Host for Guest {}

impl streams::HostInputStream for Guest {
    fn read(&mut self, _: In, _: u64) -> Answer<Vec<u8>> {
        Ok(Err(StreamError::Closed))
    }

    fn blocking_read(&mut self, _: In, _: u64) -> Answer<Vec<u8>> {
        Ok(Err(StreamError::Closed))
    }

    fn skip(&mut self, _: In, _: u64) -> Answer<u64> {
        Ok(Err(StreamError::Closed))
    }

    fn blocking_skip(&mut self, _: In, _: u64) -> Answer<u64> {
        Ok(Err(StreamError::Closed))
    }

    fn subscribe(&mut self, _: In) -> wasmtime::Result<Resource<Pollable>> {
        Ok(self.table.push(Pollable { at: None })?)
    }

    fn drop(&mut self, input: In) -> wasmtime::Result<()> {
        self.table.delete(input)?;
        Ok(())
    }
}

impl streams::HostOutputStream for Guest {
    fn check_write(&mut self, _: Out) -> Answer<u64> {
        Ok(Ok(room()))
    }

    fn write(&mut self, stream: Out, contents: Vec<u8>) -> Answer<()> {
        if contents.len() > INLINE_MAX_BYTES {
            return Err(wasmtime::format_err!(
                "a write of {} bytes where {INLINE_MAX_BYTES} were permitted",
                contents.len()
            ));
        }
        self.emit(&stream, &contents).map(Ok)
    }

    fn blocking_write_and_flush(&mut self, stream: Out, contents: Vec<u8>) -> Answer<()> {
        self.emit(&stream, &contents).map(Ok)
    }

    fn flush(&mut self, _: Out) -> Answer<()> {
        Ok(Ok(()))
    }

    fn blocking_flush(&mut self, _: Out) -> Answer<()> {
        Ok(Ok(()))
    }

    fn subscribe(&mut self, _: Out) -> wasmtime::Result<Resource<Pollable>> {
        Ok(self.table.push(Pollable { at: None })?)
    }

    fn write_zeroes(&mut self, stream: Out, len: u64) -> Answer<()> {
        match usize::try_from(len) {
            Ok(len) if len <= INLINE_MAX_BYTES => self.emit(&stream, &vec![0; len]).map(Ok),
            _ => Err(wasmtime::format_err!("a write of {len} zeroes where {INLINE_MAX_BYTES} were permitted")),
        }
    }

    fn blocking_write_zeroes_and_flush(&mut self, stream: Out, len: u64) -> Answer<()> {
        self.write_zeroes(stream, len)
    }

    fn splice(&mut self, _: Out, _: In, _: u64) -> Answer<u64> {
        Ok(Err(StreamError::Closed))
    }

    fn blocking_splice(&mut self, _: Out, _: In, _: u64) -> Answer<u64> {
        Ok(Err(StreamError::Closed))
    }

    fn drop(&mut self, stream: Out) -> wasmtime::Result<()> {
        self.table.delete(stream)?;
        Ok(())
    }
}
