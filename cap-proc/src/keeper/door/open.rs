//! Opening for a command.
//!
//! Runs in the keeper. A file or a directory that is only read is opened to be read, never waiting, and judged as it was opened,
//! as cap-fs does it. Everything else that a path leads to is opened as a path only, judged, and then opened once more by that
//! descriptor: nothing can be swapped in between, and nothing that is refused was ever changed. What is not there is made in a directory
//! that was itself opened and judged, under a name that nothing had, and judged again where it came to lie (T-02).

use super::ask::PathAt;
use super::caller::Caller;
use super::judge::entry;
use super::place::{Above, Found, Inside, Place, Start};
use super::{Answer, Door};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, OpenHow, ResolveFlag, fcntl, open, openat2, readlinkat};
use nix::sys::stat::{Mode, SFlag};
use nix::unistd::UnlinkatFlags;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use warden_beneath::parent::Parent;
use warden_beneath::paths;
use warden_beneath::rules::Want;

/// Links to nothing that are followed to what is to be made, and files that others make first.
const ATTEMPTS: usize = 16;
/// `struct open_how`: three words of 8 bytes.
const HOW_BYTES: u64 = 24;
/// Of flags: the file's access mode of 3 asks for both rights.
const READ_ONLY: i32 = libc::O_RDONLY;

/// How something is to be opened.
#[derive(Debug, Clone, Copy)]
pub struct How {
    /// As the caller said.
    pub flags: OFlag,
    /// Of what is made, as the caller said.
    pub mode: u32,
}

impl How {
    /// Whether the descriptor writes, or the opening itself does.
    fn writes(self) -> bool {
        self.flags.bits() & libc::O_ACCMODE != READ_ONLY || self.flags.contains(OFlag::O_TRUNC)
    }

    fn makes(self) -> bool {
        self.flags.contains(OFlag::O_CREAT)
    }

    fn nameless(self) -> bool {
        self.flags.contains(OFlag::O_TMPFILE)
    }

    /// For an open of what is known: it makes nothing, follows nothing, takes no terminal, and is the keeper's own until it
    /// is handed over.
    fn again(self) -> OFlag {
        let not = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        self.flags.difference(not) | OFlag::O_NOCTTY | OFlag::O_CLOEXEC
    }

    fn answer(self, opened: OwnedFd) -> Answer {
        // Lock files are made by who opens them, to read only too.
        let at_once = !self.writes() && !self.makes();
        Answer::Opened { opened, close_on_exec: self.flags.contains(OFlag::O_CLOEXEC), at_once }
    }
}

impl Door {
    /// open, openat, creat.
    pub(super) fn open(&mut self, caller: &Caller<'_>, at: PathAt, how: How, walk: ResolveFlag) -> nix::Result<Answer> {
        if how.makes() && how.flags.contains(OFlag::O_DIRECTORY) {
            return Err(Errno::EINVAL);
        }
        if !how.makes() && !how.writes() && !how.nameless() {
            return self.open_to_read(caller, at, how, walk);
        }
        let mut start = self.start(caller, at, walk)?;
        let mut look = how.flags & (OFlag::O_NOFOLLOW | OFlag::O_DIRECTORY);
        if how.makes() && how.flags.contains(OFlag::O_EXCL) {
            look |= OFlag::O_NOFOLLOW;
        }
        for _ in 0..ATTEMPTS {
            match self.find(caller, &start, look) {
                Ok(_) if how.makes() && how.flags.contains(OFlag::O_EXCL) => return Err(Errno::EEXIST),
                Ok(found) => return self.open_found(caller, found, how),
                Err(Errno::ENOENT) if how.makes() => {}
                Err(errno) => return Err(errno),
            }
            match self.make(caller, &start, how)? {
                Made::Opened(answer) => return Ok(answer),
                Made::ByAnother => {}
                Made::LinkTo(next) => start = next,
            }
        }
        Err(Errno::ELOOP)
    }

    /// Most opens by far: nothing is made or changed by one, so it takes the fewest steps.
    fn open_to_read(&mut self, caller: &Caller<'_>, at: PathAt, how: How, walk: ResolveFlag) -> nix::Result<Answer> {
        let mut flags = how.again() | how.flags & OFlag::O_NOFOLLOW;
        // A directory keeps nobody waiting, and is told apart by the open itself.
        let may_wait = !flags.intersects(OFlag::O_NONBLOCK | OFlag::O_DIRECTORY);
        flags.set(OFlag::O_NONBLOCK, may_wait || flags.contains(OFlag::O_NONBLOCK));
        let path = caller.path(at.address)?;
        let straight = if walk.is_empty() { self.straight(caller, at.directory, &path, flags)? } else { None };
        let found = match straight {
            Some(found) => found,
            None => {
                let start = self.begin(caller, at.directory, path, walk)?;
                let Some(found) = self.find_to_read(&start, flags)? else {
                    let found = self.find(caller, &start, how.flags & (OFlag::O_NOFOLLOW | OFlag::O_DIRECTORY))?;
                    return self.open_found(caller, found, how);
                };
                found
            }
        };
        if let Place::Beneath(all) = &found.place {
            self.allow_file(&found, all, Want::See)?;
        }
        if may_wait {
            let kept = how.again().difference(OFlag::O_CLOEXEC | OFlag::O_NOCTTY | OFlag::O_DIRECTORY);
            fcntl(&found.fd, FcntlArg::F_SETFL(kept))?;
        }
        Ok(how.answer(found.fd))
    }

    /// openat2: as openat, with what the caller asks of the walk besides.
    pub(super) fn open_how(&mut self, caller: &Caller<'_>, at: PathAt, from: u64, size: u64) -> nix::Result<Answer> {
        if size < HOW_BYTES {
            return Err(Errno::EINVAL);
        }
        if size > 4096 {
            return Err(Errno::E2BIG);
        }
        let bytes = caller.memory(from, size)?;
        let word = |index: usize| {
            let eight = bytes.get(index.saturating_mul(8)..).and_then(|rest| rest.first_chunk::<8>());
            eight.map(|eight| u64::from_le_bytes(*eight)).ok_or(Errno::EFAULT)
        };
        // What a later kernel knows and this does not must not be asked for.
        if bytes.iter().skip(24).any(|byte| *byte != 0) {
            return Err(Errno::E2BIG);
        }
        let (flags, mode, resolve) = (word(0)?, word(1)?, word(2)?);
        let flags = i32::try_from(flags).map_err(|_| Errno::EINVAL)?;
        let flags = OFlag::from_bits_retain(flags);
        let walk = ResolveFlag::from_bits(resolve).ok_or(Errno::EINVAL)?;
        if flags.contains(OFlag::O_PATH) {
            // The kernel lets no supervisor hand over a descriptor that is a path only; by openat, where the flags lie in a
            // register, such a one is opened by the program itself. Programs fall back on that.
            return Err(Errno::ENOSYS);
        }
        let makes = flags.intersects(OFlag::O_CREAT) || flags.contains(OFlag::O_TMPFILE);
        let mode = u32::try_from(mode).ok().filter(|mode| mode & !0o7777 == 0 && (makes || *mode == 0));
        let mode = mode.ok_or(Errno::EINVAL)?;
        if mode & (libc::S_ISUID | libc::S_ISGID) != 0 {
            // T-07, T-13: as the filter answers it where it can see the mode.
            return Err(Errno::EPERM);
        }
        self.open(caller, at, How { flags, mode }, walk)
    }

    fn open_found(&mut self, caller: &Caller<'_>, found: Found, how: How) -> nix::Result<Answer> {
        let kind = found.kind();
        if kind == SFlag::S_IFLNK {
            return Err(Errno::ELOOP);
        }
        if kind == SFlag::S_IFDIR && !how.nameless() && (how.writes() || how.makes()) {
            return Err(Errno::EISDIR);
        }
        match found.place.clone() {
            Place::Elsewhere(own) => self.open_elsewhere(caller, found, &own, how),
            Place::Beneath(all) => self.open_beneath(&found, &all, how),
        }
    }

    fn open_beneath(&mut self, found: &Found, all: &[Inside], how: How) -> nix::Result<Answer> {
        if how.nameless() {
            // As on a file system without them: what has no name no rule could judge.
            return Err(Errno::EOPNOTSUPP);
        }
        if !how.writes() {
            self.allow_file(found, all, Want::See)?;
        } else {
            self.allow_file(found, all, Want::Change)?;
            self.growth.room()?;
            self.growth.keep(found.fd.as_fd(), &found.stat)?;
        }
        Ok(how.answer(reopen(found, how.again(), Mode::empty())?))
    }

    /// The keeper's own domain says what may be opened here.
    fn open_elsewhere(&mut self, caller: &Caller<'_>, found: Found, own: &[u8], how: How) -> nix::Result<Answer> {
        let mode = if how.nameless() { caller.mode(how.mode)? } else { Mode::empty() };
        if found.kind() == SFlag::S_IFSOCK {
            return Err(Errno::ENXIO);
        }
        // T-01: an open for reading cuts nothing. Below Landlock's ABI 3 no domain refuses that.
        let reads = how.flags.bits() & libc::O_ACCMODE == READ_ONLY;
        if reads && how.flags.contains(OFlag::O_TRUNC) && found.kind() == SFlag::S_IFREG {
            return Err(Errno::EACCES);
        }
        // Who opens one end of a FIFO waits for the other. A pipe without a name has both.
        let waits = found.kind() == SFlag::S_IFIFO
            && !own.starts_with(b"pipe:")
            && !how.flags.contains(OFlag::O_NONBLOCK)
            && how.flags.bits() & libc::O_ACCMODE != libc::O_RDWR;
        if waits {
            return Ok(Answer::Waits {
                path: found.fd,
                flags: how.again(),
                close_on_exec: how.flags.contains(OFlag::O_CLOEXEC),
            });
        }
        Ok(how.answer(reopen(&found, how.again(), mode)?))
    }

    /// Makes what is not there.
    fn make(&mut self, caller: &Caller<'_>, start: &Start, how: How) -> nix::Result<Made> {
        let above = self.above(caller, start)?;
        if above.slash || above.is_dots() {
            return Err(Errno::EISDIR);
        }
        if let Some(stat) = entry(&above)? {
            let link = paths::kind(&stat) == SFlag::S_IFLNK;
            if !link || how.flags.contains(OFlag::O_EXCL) {
                return Ok(Made::ByAnother);
            }
            if how.flags.contains(OFlag::O_NOFOLLOW) {
                return Err(Errno::ELOOP);
            }
            if !self.follows {
                let as_path = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC);
                self.allow_link(openat2(&above.fd, above.os_name(), as_path)?.as_fd())?;
            }
            // A link to nothing: what is made is what it names.
            let path = readlinkat(&above.fd, above.os_name())?.into_vec();
            let absolute = path.first() == Some(&b'/');
            if !start.resolve.is_empty() && (absolute || start.resolve.contains(ResolveFlag::RESOLVE_IN_ROOT)) {
                // Its root, and its `..`, are the caller's directory, which is not where this walk has come to.
                return Err(Errno::ELOOP);
            }
            let base = if absolute { None } else { Some(above.fd) };
            return Ok(Made::LinkTo(Start { base, path, resolve: start.resolve }));
        }
        let mode = caller.mode(how.mode)?;
        let inside = above.inside();
        if let (Place::Beneath(all), Some(inside)) = (&above.place, &inside) {
            self.allow(all, Want::See)?;
            self.allow(inside, Want::Change)?;
            self.growth.room_to_make(0)?;
        }
        let flags = how.again().difference(OFlag::O_TRUNC) | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
        let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
        let opened = match openat2(&above.fd, above.os_name(), OpenHow::new().flags(flags).mode(mode).resolve(resolve))
        {
            Err(Errno::EEXIST) if !how.flags.contains(OFlag::O_EXCL) => return Ok(Made::ByAnother),
            other => other?,
        };
        if let Some(inside) = inside {
            self.judge_made(above, inside, &opened, UnlinkatFlags::NoRemoveDir)?;
            self.growth.made(0);
            let stat = paths::facts(&opened)?;
            self.growth.keep_new(opened.as_fd(), &stat)?;
        }
        Ok(Made::Opened(how.answer(opened)))
    }

    /// T-02: judged again by where it came to lie, which also tells a directory that folds case; taken back where that is
    /// denied.
    pub(super) fn judge_made(
        &mut self,
        above: Above,
        inside: Vec<Inside>,
        made: &OwnedFd,
        how: UnlinkatFlags,
    ) -> nix::Result<()> {
        let allowed = match self.place(made.as_fd())? {
            Place::Beneath(all) => self.allow(&all, Want::Change),
            Place::Elsewhere(_) => Err(Errno::EACCES),
        };
        if let Err(errno) = allowed {
            let path = inside.into_iter().next().map(|inside| inside.path).unwrap_or_default();
            let stat = paths::facts(made)?;
            Parent { fd: above.fd, name: above.name, path }.undo(&stat, how);
            return Err(errno);
        }
        Ok(())
    }
}

/// What came of making a file.
enum Made {
    Opened(Answer),
    /// Somebody else was first: it is there now.
    ByAnother,
    /// The name is a link to something that is not there.
    LinkTo(Start),
}

/// Opens what was found, the very thing.
pub(super) fn reopen(found: &Found, flags: OFlag, mode: Mode) -> nix::Result<OwnedFd> {
    open(format!("/proc/self/fd/{}", found.fd.as_raw_fd()).as_str(), flags, mode)
}
