//! Operations on an open file, by its handle.
//!
//! Runs in cap-fs, locked. What the handle may do was decided at its opening; a rule that would match the file under a name
//! it got later does not end the handle.

use crate::content;
use crate::files::Files;
use crate::handles::{Handle, OpenFile};
use nix::unistd::fsync;
use std::time::Duration;
use warden_beneath::errors::OpError;
use warden_beneath::pulse::{Pulse, Timer};
use warden_proto::Bytes;
use warden_proto::limits::INLINE_MAX_BYTES;
use warden_proto::msg::fs::FsReply;

/// Longest file whose hash is taken at close.
const HASH_MAX_BYTES: u64 = 64 * 1024 * 1024;
/// Longest time that one read of a handle takes before it is given up.
const READ_MAX: Duration = Duration::from_secs(9);

impl Files {
    /// Reads at the handle's own offset.
    pub fn read(&mut self, file: u32, max_bytes: u32) -> Result<FsReply, OpError> {
        let file = self.handles.file(file)?;
        if !file.read {
            return Err(OpError::Invalid(format!("`{}` was not opened for reading", file.shown)));
        }
        let max_bytes = usize::try_from(max_bytes).unwrap_or(INLINE_MAX_BYTES).min(INLINE_MAX_BYTES);
        let mut timer = Timer::lasting(READ_MAX);
        let bytes = content::read_at(&file.fd, file.offset, max_bytes, &file.shown, &mut timer)?;
        file.offset = file.offset.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        let bytes = Bytes::new(bytes).map_err(|e| OpError::Limit(e.to_string()))?;
        Ok(FsReply::Data { bytes })
    }

    /// Writes at the handle's own offset, or at the end.
    pub fn write(&mut self, file: u32, bytes: &[u8]) -> Result<FsReply, OpError> {
        let file = writable(self.handles.file(file)?)?;
        let before = content::size(&file.fd, &file.shown)?;
        let at = if file.append { before } else { file.offset };
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if len > 0 {
            file.max.hold(at.saturating_add(len), &file.shown)?;
            self.growth.hold(before, at.saturating_add(len), &file.shown)?;
        }
        let (written, result) = content::write_at(&file.fd, at, bytes, &file.shown);
        let written = u64::try_from(written).unwrap_or(u64::MAX);
        file.offset = at.saturating_add(written);
        if written == 0 {
            result?;
        }
        // A disk that filled up midway took a part: the answer says how much, the next write says why.
        let after = content::size(&file.fd, &file.shown)?;
        Ok(FsReply::Written { bytes: written, grown: after.saturating_sub(before) })
    }

    /// Sets the length.
    pub fn set_len(&mut self, file: u32, len: u64) -> Result<FsReply, OpError> {
        let file = writable(self.handles.file(file)?)?;
        file.max.hold(len, &file.shown)?;
        let before = content::size(&file.fd, &file.shown)?;
        self.growth.hold(before, len, &file.shown)?;
        content::cut(&file.fd, len, &file.shown)?;
        // A hole is charged like bytes: the file may be filled through it later without growing.
        Ok(FsReply::Written { bytes: 0, grown: len.saturating_sub(before) })
    }

    /// To the disk.
    pub fn flush(&mut self, file: u32) -> Result<FsReply, OpError> {
        let file = self.handles.file(file)?;
        fsync(&file.fd).map_err(OpError::system("write to the disk", &file.shown))?;
        Ok(FsReply::Done)
    }

    /// Ends a handle. The size and hash are of what the file holds now, by the helper's own descriptor.
    pub fn close(&mut self, handle: u32, pulse: &mut dyn Pulse) -> Result<FsReply, OpError> {
        let file = match self.handles.remove(handle)? {
            Handle::File(file) if file.write => file,
            Handle::File(_) | Handle::Dir(_) => return Ok(FsReply::Closed { size_bytes: None, sha256: None }),
        };
        let size_bytes = content::size(&file.fd, &file.shown).ok();
        let short = size_bytes.is_some_and(|size| size <= HASH_MAX_BYTES) && file.hashable;
        // Without a hash where it takes too long or cannot be read: the handle has ended all the same.
        let sha256 = match short {
            true => content::sha256(&file.fd, HASH_MAX_BYTES, &file.shown, pulse).ok(),
            false => None,
        };
        Ok(FsReply::Closed { size_bytes, sha256 })
    }
}

fn writable(file: &mut OpenFile) -> Result<&mut OpenFile, OpError> {
    if !file.write {
        return Err(OpError::denied(&file.grant, &file.shown, "was not opened for writing"));
    }
    Ok(file)
}

#[cfg(test)]
mod tests;
