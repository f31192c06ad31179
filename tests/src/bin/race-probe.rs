//! A hostile command: its threads change a path while another of them makes a call with it, as often as it takes to slip
//! between the check of a supervisor and the use (T-02).
//!
//! `race-probe flip ACT ALLOWED DENIED ROUNDS INODE` changes the bytes of the argument; the two paths have one length.
//! `race-probe swap LINK ALLOWED DENIED ROUNDS INODE` changes where a symbolic link leads. ROUNDS calls are made with ACT (`read`,
//! `write`, `rename`, `link`, `truncate`), or reads of the link; it prints `allowed N refused N won N`. A call is won if
//! what it gave is the denied file, told by its inode; the test looks besides at what is left of the file.
//! `race-probe flood FILE SECONDS THREADS` opens a file as fast as it can and prints how often a second.

#![allow(unsafe_code, reason = "a path that changes under a call is no value of the language's")]

use std::ffi::CString;
use std::fs::File;
use std::io::{Error, Result};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, symlink};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Where a renamed or linked file goes meanwhile.
const PASSING: &str = "passing";

/// A path whose bytes change while calls are made with it; it ends with a zero that stays.
struct Shifting {
    bytes: Vec<AtomicU8>,
    allowed: Vec<u8>,
    denied: Vec<u8>,
}

impl Shifting {
    fn new(allowed: &str, denied: &str) -> Self {
        assert_eq!(allowed.len(), denied.len(), "paths of one length");
        let bytes = allowed.bytes().chain([0]).map(AtomicU8::new).collect();
        Self { bytes, allowed: allowed.into(), denied: denied.into() }
    }

    fn become_other(&self, denied: bool) {
        let (from, to) = if denied { (&self.allowed, &self.denied) } else { (&self.denied, &self.allowed) };
        for ((byte, from), to) in self.bytes.iter().zip(from).zip(to) {
            if from != to {
                byte.store(*to, Ordering::Relaxed);
            }
        }
    }

    fn pointer(&self) -> *const libc::c_char {
        self.bytes.as_ptr().cast()
    }

    fn open(&self, flags: libc::c_int) -> Result<File> {
        // SAFETY: the bytes live as long as `self` and their last is always zero; the kernel alone reads them.
        let fd = unsafe { libc::openat(libc::AT_FDCWD, self.pointer(), flags | libc::O_CLOEXEC) };
        if fd < 0 {
            return Err(Error::last_os_error());
        }
        // SAFETY: the kernel has just given this descriptor to nobody else.
        Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    fn truncate(&self) -> Result<()> {
        // SAFETY: as in `open`.
        answer(unsafe { libc::truncate(self.pointer(), 0) })
    }

    fn rename(&self, to: &CString) -> Result<()> {
        // SAFETY: as in `open`; `to` is a string of its own.
        answer(unsafe { libc::renameat(libc::AT_FDCWD, self.pointer(), libc::AT_FDCWD, to.as_ptr()) })
    }

    fn link(&self, to: &CString) -> Result<()> {
        // SAFETY: as in `rename`.
        answer(unsafe { libc::linkat(libc::AT_FDCWD, self.pointer(), libc::AT_FDCWD, to.as_ptr(), 0) })
    }
}

fn answer(returned: libc::c_int) -> Result<()> {
    if returned == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}

/// One call; the inode that it gave.
fn act(name: &str, path: &Shifting, allowed: &str, passing: &CString) -> Result<u64> {
    match name {
        "read" => path.open(libc::O_RDONLY)?.metadata().map(|facts| facts.ino()),
        "write" => path.open(libc::O_WRONLY)?.metadata().map(|facts| facts.ino()),
        "truncate" => path.truncate().map(|()| 0),
        "rename" => {
            path.rename(passing)?;
            let inode = std::fs::symlink_metadata(PASSING)?.ino();
            std::fs::rename(PASSING, allowed).map(|()| inode)
        }
        "link" => {
            path.link(passing)?;
            let inode = std::fs::symlink_metadata(PASSING)?.ino();
            std::fs::remove_file(PASSING).map(|()| inode)
        }
        other => Err(Error::other(format!("no act {other}"))),
    }
}

/// Makes `rounds` calls while `change` is called by two threads, and prints what came of them.
fn race(rounds: u64, denied: u64, change: impl Fn(bool) + Sync, mut call: impl FnMut() -> Result<u64>) {
    let over = AtomicBool::new(false);
    let (mut allowed, mut refused, mut won) = (0_u64, 0_u64, 0_u64);
    std::thread::scope(|scope| {
        for first in [true, false] {
            let (over, change) = (&over, &change);
            scope.spawn(move || {
                let mut to = first;
                while !over.load(Ordering::Relaxed) {
                    change(to);
                    to = !to;
                    std::hint::spin_loop();
                }
            });
        }
        for _ in 0..rounds {
            match call() {
                Ok(inode) if inode == denied => won += 1,
                Ok(_) => allowed += 1,
                Err(_) => refused += 1,
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    println!("allowed {allowed} refused {refused} won {won}");
}

fn flip(name: &str, allowed: &str, denied: &str, rounds: u64, inode: u64) -> Result<()> {
    let path = Shifting::new(allowed, denied);
    let passing = CString::new(PASSING).map_err(Error::other)?;
    race(rounds, inode, |to| path.become_other(to), || act(name, &path, allowed, &passing));
    Ok(())
}

fn swap(link: &str, allowed: &str, denied: &str, rounds: u64, inode: u64) {
    let change = |to: bool| {
        let next = format!("{link}.{to}");
        let _ = symlink(if to { denied } else { allowed }, &next);
        let _ = std::fs::rename(&next, link);
    };
    race(rounds, inode, change, || File::open(link)?.metadata().map(|facts| facts.ino()));
}

fn flood(file: &str, seconds: u64, threads: usize) -> Result<()> {
    let count = AtomicU64::new(0);
    let until = Instant::now() + Duration::from_secs(seconds);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while Instant::now() < until {
                    if File::open(file).is_ok_and(|file| file.as_raw_fd() > 2) {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    println!("{}", count.load(Ordering::Relaxed) / seconds.max(1));
    Ok(())
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<u64>().map_err(Error::other);
    match args.as_slice() {
        ["flip", name, allowed, denied, rounds, inode] => flip(name, allowed, denied, number(rounds)?, number(inode)?),
        ["swap", link, allowed, denied, rounds, inode] => {
            swap(link, allowed, denied, number(rounds)?, number(inode)?);
            Ok(())
        }
        ["flood", file, seconds, threads] => flood(file, number(seconds)?, threads.parse().map_err(Error::other)?),
        _ => Err(Error::other("usage: race-probe flip|swap|flood …")),
    }
}
