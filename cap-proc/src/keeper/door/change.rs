//! Making, moving and removing for a command.
//!
//! Runs in the keeper. Each act takes a directory that was opened and judged, and one name in it. Between two places that
//! have different rules nothing moves and nothing is linked: EXDEV, upon which programs copy, and each file is judged by the
//! way (T-02).

use super::ask::{PathAt, Space};
use super::caller::Caller;
use super::judge::entry;
use super::open::reopen;
use super::place::{Above, Found, Inside, Place};
use super::{Answer, Door};
use nix::errno::Errno;
use nix::fcntl::{
    AT_FDCWD, AtFlags, FallocateFlags, OFlag, OpenHow, RenameFlags, ResolveFlag, fallocate, openat2, renameat2,
};
use nix::sys::stat::{Mode, SFlag, mkdirat, mknodat};
use nix::unistd::{UnlinkatFlags, ftruncate, linkat, symlinkat, unlinkat};
use std::ffi::OsStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use warden_beneath::paths;
use warden_beneath::rules::Want;

const NO_WALK: ResolveFlag = ResolveFlag::empty();

/// Where two names may be joined or changed into each other: the same workspaces, or none.
fn same_places(one: &Place, other: &Place) -> bool {
    match (one, other) {
        (Place::Elsewhere(_), Place::Elsewhere(_)) => true,
        (Place::Beneath(one), Place::Beneath(other)) => {
            one.iter().map(|inside| inside.tree).eq(other.iter().map(|inside| inside.tree))
        }
        _ => false,
    }
}

impl Door {
    fn spot(&self, caller: &Caller<'_>, at: PathAt) -> nix::Result<Above> {
        let start = self.start(caller, at, NO_WALK)?;
        self.above(caller, &start)
    }

    /// The place of a name that is made, moved or removed, judged.
    fn allow_name(&mut self, above: &Above) -> nix::Result<()> {
        if let (Place::Beneath(all), Some(inside)) = (above.place.clone(), above.inside()) {
            self.allow(&all, Want::See)?;
            self.allow(&inside, Want::Change)?;
        }
        Ok(())
    }

    /// The name, with its slash where the caller wrote one: the kernel then says what that means.
    fn name(above: &Above) -> Vec<u8> {
        let mut name = above.name.clone();
        if above.slash {
            name.push(b'/');
        }
        name
    }

    pub(super) fn remove(&mut self, caller: &Caller<'_>, at: PathAt, directory: bool) -> nix::Result<Answer> {
        let above = self.spot(caller, at)?;
        if !above.is_dots() {
            self.allow_name(&above)?;
            self.allow_removal(&above)?;
        }
        let how = if directory { UnlinkatFlags::RemoveDir } else { UnlinkatFlags::NoRemoveDir };
        unlinkat(&above.fd, OsStr::from_bytes(&Self::name(&above)), how)?;
        Ok(Answer::Done)
    }

    pub(super) fn rename(&mut self, caller: &Caller<'_>, from: PathAt, to: PathAt, flags: u32) -> nix::Result<Answer> {
        // T-02: judged in the turn in which it moves, and while nobody walks.
        let _turn = self.world.turns.to_move()?;
        let (from, to) = (self.spot(caller, from)?, self.spot(caller, to)?);
        if from.is_dots() || to.is_dots() {
            return Err(Errno::EBUSY);
        }
        // A whiteout is a device, which is made in no workspace.
        let flags = RenameFlags::from_bits(flags).filter(|flags| !flags.contains(RenameFlags::RENAME_WHITEOUT));
        let flags = flags.ok_or(Errno::EINVAL)?;
        if entry(&from)?.is_none() {
            return Err(Errno::ENOENT);
        }
        if !same_places(&from.place, &to.place) {
            return Err(Errno::EXDEV);
        }
        self.allow_name(&from)?;
        self.allow_name(&to)?;
        self.allow_rename(&from, &to)?;
        if flags.contains(RenameFlags::RENAME_EXCHANGE) {
            if entry(&to)?.is_none() {
                return Err(Errno::ENOENT);
            }
            self.allow_rename(&to, &from)?;
        }
        let (old, new) = (Self::name(&from), Self::name(&to));
        renameat2(&from.fd, OsStr::from_bytes(&old), &to.fd, OsStr::from_bytes(&new), flags)?;
        Ok(Answer::Done)
    }

    /// A second name of a file is judged as a change of the file: by it the file could be changed.
    pub(super) fn link(&mut self, caller: &Caller<'_>, from: PathAt, to: PathAt, flags: i32) -> nix::Result<Answer> {
        if flags & !libc::AT_SYMLINK_FOLLOW != 0 {
            // AT_EMPTY_PATH: a name for what may have none. Programs fall back on the path.
            return Err(Errno::ENOENT);
        }
        let follow = flags & libc::AT_SYMLINK_FOLLOW != 0;
        let start = self.start(caller, from, NO_WALK)?;
        let found = self.find(caller, &start, if follow { OFlag::empty() } else { OFlag::O_NOFOLLOW })?;
        let above = self.spot(caller, to)?;
        if above.is_dots() || entry(&above)?.is_some() {
            return Err(Errno::EEXIST);
        }
        if above.slash {
            return Err(Errno::ENOENT);
        }
        if found.kind() == SFlag::S_IFDIR {
            return Err(Errno::EPERM);
        }
        if !same_places(&found.place, &above.place) {
            return Err(Errno::EXDEV);
        }
        if let Place::Beneath(all) = found.place.clone() {
            if found.kind() == SFlag::S_IFLNK {
                self.allow(&all, Want::Change)?;
            } else {
                self.allow_file(&found, &all, Want::Change)?;
            }
        }
        self.allow_name(&above)?;
        self.room_for(&above, 0)?;
        // By its own descriptor, so that it is what was judged.
        let source = format!("/proc/self/fd/{}", found.fd.as_raw_fd());
        linkat(AT_FDCWD, source.as_str(), &above.fd, above.os_name(), AtFlags::AT_SYMLINK_FOLLOW)?;
        self.count(&above, 0);
        Ok(Answer::Done)
    }

    pub(super) fn symlink(&mut self, caller: &Caller<'_>, text: u64, at: PathAt) -> nix::Result<Answer> {
        let text = caller.path(text)?;
        let above = self.spot(caller, at)?;
        self.new_name(&above)?;
        if let Place::Beneath(all) = &above.place {
            let follows = |inside: &Inside| self.tree(inside.tree).is_ok_and(|tree| tree.symlinks);
            if !all.iter().all(follows) {
                return Err(Errno::EPERM);
            }
        }
        let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
        self.room_for(&above, length)?;
        symlinkat(OsStr::from_bytes(&text), &above.fd, OsStr::from_bytes(&Self::name(&above)))?;
        self.count(&above, length);
        Ok(Answer::Done)
    }

    /// T-06: whether a name may come into a workspace, with so many bytes behind it.
    fn room_for(&mut self, above: &Above, bytes: u64) -> nix::Result<()> {
        if matches!(above.place, Place::Beneath(_)) { self.growth.room_to_make(bytes) } else { Ok(()) }
    }

    /// It has come.
    fn count(&mut self, above: &Above, bytes: u64) {
        if matches!(above.place, Place::Beneath(_)) {
            self.growth.made(bytes);
        }
    }

    /// A name that nothing has, judged.
    fn new_name(&mut self, above: &Above) -> nix::Result<()> {
        if above.is_dots() || entry(above)?.is_some() {
            return Err(Errno::EEXIST);
        }
        self.allow_name(above)
    }

    pub(super) fn make_directory(&mut self, caller: &Caller<'_>, at: PathAt, mode: u32) -> nix::Result<Answer> {
        let above = self.spot(caller, at)?;
        self.new_name(&above)?;
        self.room_for(&above, 0)?;
        mkdirat(&above.fd, above.os_name(), caller.mode(mode)?)?;
        if let Some(inside) = above.inside() {
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_BENEATH);
            let made = openat2(&above.fd, above.os_name(), how)?;
            self.count(&above, 0);
            self.judge_made(above, inside, &made, UnlinkatFlags::RemoveDir)?;
        }
        Ok(Answer::Done)
    }

    /// Files and, outside of workspaces, FIFOs: in a workspace one would keep waiting whoever opens it outside.
    pub(super) fn make_node(&mut self, caller: &Caller<'_>, at: PathAt, mode: u32) -> nix::Result<Answer> {
        let kind = match SFlag::from_bits_truncate(mode & libc::S_IFMT) {
            none if none.is_empty() => SFlag::S_IFREG,
            kind @ (SFlag::S_IFREG | SFlag::S_IFIFO) => kind,
            _ => return Err(Errno::EPERM),
        };
        let above = self.spot(caller, at)?;
        self.new_name(&above)?;
        if above.slash {
            return Err(Errno::ENOENT);
        }
        let Some(inside) = above.inside() else {
            mknodat(&above.fd, above.os_name(), kind, caller.mode(mode)?, 0)?;
            return Ok(Answer::Done);
        };
        if kind != SFlag::S_IFREG {
            return Err(Errno::EPERM);
        }
        self.growth.room_to_make(0)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let how = OpenHow::new().flags(flags).mode(caller.mode(mode)?).resolve(ResolveFlag::RESOLVE_BENEATH);
        let made = openat2(&above.fd, above.os_name(), how)?;
        self.growth.made(0);
        self.judge_made(above, inside, &made, UnlinkatFlags::NoRemoveDir)?;
        Ok(Answer::Done)
    }

    pub(super) fn truncate(&mut self, caller: &Caller<'_>, at: PathAt, length: i64) -> nix::Result<Answer> {
        let asked = u64::try_from(length).map_err(|_| Errno::EINVAL)?;
        let start = self.start(caller, at, NO_WALK)?;
        let found = self.find(caller, &start, OFlag::empty())?;
        match found.kind() {
            SFlag::S_IFREG => {}
            SFlag::S_IFDIR => return Err(Errno::EISDIR),
            _ => return Err(Errno::EINVAL),
        }
        let Place::Beneath(all) = found.place.clone() else {
            if asked > self.file_bytes {
                return Err(Errno::EFBIG);
            }
            cut(&found, length)?;
            return Ok(Answer::Done);
        };
        let grown = self.allow_length(&found, &all, asked)?;
        cut(&found, length)?;
        self.growth.grew(&found.stat, grown);
        Ok(Answer::Done)
    }

    /// By what the file grows, if it may become so long.
    fn allow_length(&mut self, found: &Found, all: &[Inside], length: u64) -> nix::Result<u64> {
        self.allow_file(found, all, Want::Change)?;
        self.hold_length(all, length)?;
        let grown = length.saturating_sub(paths::size(&found.stat));
        if grown > 0 && grown > self.growth.left() { Err(Errno::ENOSPC) } else { Ok(grown) }
    }

    /// fallocate: space is taken at once, of many files between two looks, so it is counted as it is taken (T-06). Where the
    /// keeper cannot do it the answer is that of a file system that cannot, upon which programs write.
    pub(super) fn allocate(&mut self, caller: &Caller<'_>, space: Space) -> nix::Result<Answer> {
        let Space { descriptor, mode, offset, length } = space;
        let end = offset.checked_add(length).filter(|_| offset >= 0 && length > 0).ok_or(Errno::EINVAL)?;
        let end = u64::try_from(end).map_err(|_| Errno::EINVAL)?;
        let Ok(fd) = caller.descriptor(descriptor) else { return Err(Errno::EOPNOTSUPP) };
        if !caller.writes(descriptor)? {
            return Err(Errno::EBADF);
        }
        caller.waits()?;
        let found = self.find_open(fd)?;
        let Place::Beneath(all) = found.place.clone() else { return Err(Errno::EOPNOTSUPP) };
        if mode != 0 || found.kind() != SFlag::S_IFREG {
            return Err(Errno::EOPNOTSUPP);
        }
        if end > self.file_bytes {
            return Err(Errno::EFBIG);
        }
        let grown = self.allow_length(&found, &all, end)?;
        // Written by who made it, and by nobody who opens it anew: a file of mode 0444.
        let file = open_to_write(&found).map_err(|_| Errno::EOPNOTSUPP)?;
        fallocate(&file, FallocateFlags::empty(), offset, length)?;
        self.growth.grew(&found.stat, grown);
        Ok(Answer::Done)
    }

    fn hold_length(&mut self, all: &[Inside], length: u64) -> nix::Result<()> {
        for inside in all {
            let tree = self.tree(inside.tree)?;
            if tree.max_file.hold(length, "").is_err() {
                let rule = tree.max_file.rule.clone();
                let text = warden_beneath::errors::shown(&tree.label, inside.path.as_bytes());
                self.denials.note(&rule, &text);
                return Err(Errno::EFBIG);
            }
        }
        Ok(())
    }
}

fn open_to_write(found: &Found) -> nix::Result<OwnedFd> {
    reopen(found, OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK, Mode::empty())
}

fn cut(found: &Found, length: i64) -> nix::Result<()> {
    ftruncate(&open_to_write(found)?, length)
}
