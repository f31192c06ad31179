//! Opening, reading and writing regular files by name.
//!
//! Runs in cap-fs, locked. A file is opened without being made or cut, judged by what it is and where it lies, and only
//! then cut or written. One that is not there is made in a directory that was itself opened and judged, under a name that
//! nothing had (O_EXCL), and judged again (T-02).
//!
//! `write_file` writes in place: the file keeps its inode, its mode and its other names, and a program that has it open
//! sees the new bytes. The price is that a crash in the middle leaves a part; what was asked for is in the audit log.

use crate::content;
use crate::files::{Done, Files};
use crate::handles::{Handle, OpenFile};
use crate::spot::Spot;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::SFlag;
use nix::unistd::UnlinkatFlags;
use warden_beneath::errors::OpError;
use warden_beneath::paths;
use warden_beneath::pulse::Pulse;
use warden_beneath::rules::Want;
use warden_beneath::tree::{ATTEMPTS, Opened};
use warden_proto::limits::BLOB_MAX_BYTES;
use warden_proto::msg::fs::{FsReply, HelperTarget, OpenFlags};

/// What to do when a file is, or is not, there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Make {
    /// It must be there.
    Never,
    /// Either way.
    Missing,
    /// It must not be there.
    Always,
}

impl Files {
    /// `fs.open`.
    pub fn open_file(&mut self, target: &HelperTarget, flags: OpenFlags) -> Result<FsReply, OpError> {
        self.handles.room()?;
        let write = flags.write || flags.append || flags.truncate;
        if flags.exclusive && !flags.create {
            return Err(OpError::Invalid("an exclusive open is one that creates".to_owned()));
        }
        let make = match (flags.create, flags.exclusive) {
            (false, _) => Make::Never,
            (true, false) => Make::Missing,
            (true, true) => Make::Always,
        };
        let want = if write || flags.create { Want::Change } else { Want::See };
        let spot = Spot::of(&self.world, &self.handles, target)?;
        let (opened, hashable) = acquire(&spot, want, write, make)?;
        if write {
            self.links.allow_write(&self.world, spot.tree, &opened.stat, &spot.shown)?;
        } else {
            self.links.allow(&self.world, spot.tree, &opened.stat, want, &spot.shown)?;
        }
        let mut size_bytes = paths::size(&opened.stat);
        if flags.truncate && size_bytes > 0 {
            content::cut(&opened.fd, 0, &spot.shown)?;
            size_bytes = 0;
        }
        let file = OpenFile {
            fd: opened.fd,
            read: flags.read,
            write,
            append: flags.append,
            hashable,
            offset: 0,
            max: spot.tree.max_file.clone(),
            grant: spot.tree.grant.clone(),
            shown: spot.shown.clone(),
        };
        let handle = self.handles.add(Handle::File(file))?;
        Ok(FsReply::Opened { handle, size_bytes })
    }

    /// `fs.read_file`.
    pub fn read_file(
        &mut self,
        target: &HelperTarget,
        offset: u64,
        max_bytes: u32,
        pulse: &mut dyn Pulse,
    ) -> Result<Done, OpError> {
        let spot = Spot::of(&self.world, &self.handles, target)?;
        let (opened, _) = acquire(&spot, Want::See, false, Make::Never)?;
        self.links.allow(&self.world, spot.tree, &opened.stat, Want::See, &spot.shown)?;
        let max_bytes = usize::try_from(max_bytes).unwrap_or(BLOB_MAX_BYTES).min(BLOB_MAX_BYTES);
        let bytes = content::read_at(&opened.fd, offset, max_bytes, &spot.shown, pulse)?;
        let end = offset.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        let truncated = content::size(&opened.fd, &spot.shown)? > end;
        Ok(Done::Content { bytes, truncated })
    }

    /// `fs.write_file`.
    pub fn write_file(
        &mut self,
        target: &HelperTarget,
        contents: &[u8],
        append: bool,
        parents: bool,
    ) -> Result<FsReply, OpError> {
        let spot = Spot::of(&self.world, &self.handles, target)?;
        let len = u64::try_from(contents.len()).unwrap_or(u64::MAX);
        spot.tree.max_file.hold(len, &spot.shown)?;
        // Where there is no room for a new file none is made: what is refused leaves nothing behind.
        let room = self.growth.hold(0, len, &spot.shown);
        if parents
            && room.is_ok()
            && let Some(above) = spot.above()
        {
            crate::ops_dir::make_directories(&above)?;
        }
        let make = if room.is_ok() { Make::Missing } else { Make::Never };
        let (opened, _) = match (acquire(&spot, Want::Change, true, make), room) {
            (Err(error), Err(no_room)) if is_missing(&error) => return Err(no_room),
            (acquired, _) => acquired?,
        };
        self.links.allow_write(&self.world, spot.tree, &opened.stat, &spot.shown)?;
        let before = paths::size(&opened.stat);
        let at = if append { before } else { 0 };
        spot.tree.max_file.hold(at.saturating_add(len), &spot.shown)?;
        self.growth.hold(before, at.saturating_add(len), &spot.shown)?;
        if !append && before > 0 {
            content::cut(&opened.fd, 0, &spot.shown)?;
        }
        let (_, result) = content::write_at(&opened.fd, at, contents, &spot.shown);
        if result.is_err() && append {
            // A part of an addition is taken back. What a replacement replaced is gone already.
            content::cut(&opened.fd, before, &spot.shown)?;
        }
        result?;
        let after = content::size(&opened.fd, &spot.shown)?;
        Ok(FsReply::Written { bytes: len, grown: after.saturating_sub(before) })
    }
}

/// Opens a regular file, or makes it. Also says whether the descriptor can be read.
fn acquire(spot: &Spot<'_>, want: Want, write: bool, make: Make) -> Result<(Opened, bool), OpError> {
    // A mere read has one attempt; only a file that is made can be made by somebody else first.
    let attempts = if make == Make::Never { 1 } else { ATTEMPTS };
    let mut last = OpError::Conflict(format!("`{}` is made and removed by others all the time", spot.shown));
    for _ in 0..attempts {
        if make != Make::Always {
            match open_plain(spot, want, write) {
                Err(error) if is_missing(&error) => last = error,
                other => return other,
            }
        }
        if make != Make::Never
            && let Some(made) = create(spot, make)?
        {
            return Ok((made, true));
        }
    }
    Err(last)
}

fn open_plain(spot: &Spot<'_>, want: Want, write: bool) -> Result<(Opened, bool), OpError> {
    let opened = match write {
        false => (spot.open(OFlag::O_RDONLY, want)?, true),
        true => match spot.open(OFlag::O_RDWR, want) {
            Err(error) if error.errno() == Some(Errno::EACCES) => (spot.open(OFlag::O_WRONLY, want)?, false),
            other => (other?, true),
        },
    };
    let (file, _) = &opened;
    spot.tree.plain(&file.stat, &spot.shown)?;
    if paths::kind(&file.stat) == SFlag::S_IFDIR {
        return Err(OpError::system("open as a file", &spot.shown)(Errno::EISDIR));
    }
    Ok(opened)
}

/// Makes a file that was not there; `None` if somebody else did.
fn create(spot: &Spot<'_>, make: Make) -> Result<Option<Opened>, OpError> {
    let parent = spot.parent(Want::Change)?;
    match parent.entry(&spot.shown)? {
        Some(_) if make == Make::Always => return Err(OpError::system("create", &spot.shown)(Errno::EEXIST)),
        // Creating never follows the last component, so a link that leads nowhere stays one.
        Some(stat) if paths::kind(&stat) == SFlag::S_IFLNK => {
            return Err(OpError::Conflict(format!("`{}` is a link that leads to nothing", spot.shown)));
        }
        Some(_) => return Ok(None),
        None => {}
    }
    let made = spot.tree.create_in(std::os::fd::AsFd::as_fd(&parent.fd), &parent.name, OFlag::O_RDWR, &spot.shown);
    let fd = match made {
        Err(error) if error.errno() == Some(Errno::EEXIST) && make != Make::Always => return Ok(None),
        other => other?,
    };
    let stat = paths::facts(&fd).map_err(OpError::system("look at", &spot.shown))?;
    match spot.judge_made(fd) {
        Ok(opened) => Ok(Some(opened)),
        Err(error) => {
            parent.undo(&stat, UnlinkatFlags::NoRemoveDir);
            Err(error)
        }
    }
}

fn is_missing(error: &OpError) -> bool {
    error.errno() == Some(Errno::ENOENT) || matches!(error, OpError::NotFound(_))
}

#[cfg(test)]
mod tests;
