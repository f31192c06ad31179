//! Extended attributes, for a command: those of users and no other.
//!
//! Runs in the keeper. Landlock does not govern them: done by the command they would reach every file of the uid, and in a
//! denied place they would be read. So every call but those that read by a descriptor waits here, and goes the way of a change of mode ([`super::metadata`]): names and values are read
//! once, what the path names is opened as a path only, its place and its rules are judged, and the act is done on what was
//! opened (T-01, T-02, T-08). What is read is written into the caller's memory only while it waits.
//!
//! Only names of `user.` exist here: access lists, capabilities of programs and labels are as on a file system without any
//! (T-07, T-13). What is set takes the disk, or the kernel's memory, and no file's size tells: it counts as something made, in
//! the private directory too, whether it is there at the end or not (T-06).

use super::ask::{Attribute, Room, Subject};
use super::caller::Caller;
use super::metadata::errno;
use super::place::{Found, Place};
use super::{Answer, Door};
use nix::errno::Errno;
use nix::sys::stat::SFlag;
use rustix::fs::{XattrFlags, getxattr, listxattr, removexattr, setxattr};
use std::os::fd::AsRawFd;
use warden_beneath::rules::Want;

/// XATTR_NAME_MAX, without the final NUL.
const NAME_MAX_BYTES: usize = 255;
/// XATTR_SIZE_MAX and XATTR_LIST_MAX.
const VALUE_MAX_BYTES: u64 = 64 << 10;
/// Of names that a command sees.
const USERS: &[u8] = b"user.";

/// What is to be changed, read from the caller.
struct Written {
    value: Vec<u8>,
    flags: XattrFlags,
}

impl Door {
    /// setxattr and its kin.
    pub(super) fn attribute(&mut self, caller: &Caller<'_>, of: Subject, act: Attribute) -> nix::Result<Answer> {
        match act {
            Attribute::Get { name, to } => {
                let name = read_name(caller, name)?;
                let found = self.find_to_ask(caller, of)?;
                if !has_any(&found) {
                    return Err(Errno::ENODATA);
                }
                answer(caller, &value_of(&found, &name)?, to)
            }
            Attribute::List { to } => {
                let found = self.find_to_ask(caller, of)?;
                let names = if has_any(&found) { names_of(&found)? } else { Vec::new() };
                answer(caller, &names, to)
            }
            Attribute::Set { name, value, flags } => {
                let flags = XattrFlags::from_bits(flags).ok_or(Errno::EINVAL)?;
                let name = read_name(caller, name)?;
                let value = read_value(caller, value)?;
                self.set_attribute(caller, of, &name, &Written { value, flags })
            }
            Attribute::Remove { name } => {
                let name = read_name(caller, name)?;
                let found = self.find_to_change(caller, of)?;
                removexattr(itself(&found), name).map_err(errno)?;
                Ok(Answer::Done)
            }
        }
    }

    fn set_attribute(
        &mut self,
        caller: &Caller<'_>,
        of: Subject,
        name: &[u8],
        written: &Written,
    ) -> nix::Result<Answer> {
        let found = self.find_to_change(caller, of)?;
        let bytes = name.len().saturating_add(written.value.len());
        let bytes = u64::try_from(bytes).map_err(|_| Errno::E2BIG)?;
        self.growth.room_to_make(bytes)?;
        setxattr(itself(&found), name, &written.value, written.flags).map_err(errno)?;
        self.growth.made(bytes);
        Ok(Answer::Done)
    }

    /// In workspaces what may be seen, and the private directory; anywhere else there is nothing to ask for.
    fn find_to_ask(&mut self, caller: &Caller<'_>, of: Subject) -> nix::Result<Found> {
        let found = self.subject(caller, of).map_err(hidden)?;
        match &found.place {
            Place::Beneath(all) => {
                let all = all.clone();
                if has_any(&found) { self.allow_file(&found, &all, Want::See) } else { self.allow(&all, Want::See) }?;
            }
            Place::Elsewhere(own) if self.is_private(own)? => {}
            Place::Elsewhere(_) => return Err(Errno::EOPNOTSUPP),
        }
        Ok(found)
    }

    fn find_to_change(&mut self, caller: &Caller<'_>, of: Subject) -> nix::Result<Found> {
        let found = self.subject(caller, of)?;
        self.allow_change(&found)?;
        // As the kernel: those of users are what files and directories have. A link's own entry would be followed besides.
        if has_any(&found) { Ok(found) } else { Err(Errno::EPERM) }
    }
}

fn has_any(found: &Found) -> bool {
    matches!(found.kind(), SFlag::S_IFREG | SFlag::S_IFDIR)
}

/// By the descriptor's own entry, because an O_PATH descriptor has no attributes.
fn itself(found: &Found) -> String {
    format!("/proc/self/fd/{}", found.fd.as_raw_fd())
}

/// Where nobody may be looked into, files have no attributes.
fn hidden(errno: Errno) -> Errno {
    if errno == Errno::EPERM { Errno::EOPNOTSUPP } else { errno }
}

fn read_name(caller: &Caller<'_>, at: u64) -> nix::Result<Vec<u8>> {
    let name = match caller.path(at) {
        Err(Errno::ENAMETOOLONG) => return Err(Errno::ERANGE),
        other => other.map_err(hidden)?,
    };
    if name.is_empty() || name.len() > NAME_MAX_BYTES {
        return Err(Errno::ERANGE);
    }
    if name.starts_with(USERS) { Ok(name) } else { Err(Errno::EOPNOTSUPP) }
}

fn read_value(caller: &Caller<'_>, value: Room) -> nix::Result<Vec<u8>> {
    match value.bytes {
        0 => Ok(Vec::new()),
        length if length > VALUE_MAX_BYTES => Err(Errno::E2BIG),
        length => caller.memory(value.address, length),
    }
}

/// All of it, however long: what does not fit is the caller's to hear.
fn value_of(found: &Found, name: &[u8]) -> nix::Result<Vec<u8>> {
    let mut value = room();
    let length = getxattr(itself(found), name, value.as_mut_slice()).map_err(too_long)?;
    value.truncate(length);
    Ok(value)
}

fn names_of(found: &Found) -> nix::Result<Vec<u8>> {
    let mut names = room();
    let length = listxattr(itself(found), names.as_mut_slice()).map_err(too_long)?;
    names.truncate(length);
    let of_users = names.split_inclusive(|byte| *byte == 0).filter(|name| name.starts_with(USERS));
    Ok(of_users.flatten().copied().collect())
}

fn room() -> Vec<u8> {
    vec![0; usize::try_from(VALUE_MAX_BYTES).unwrap_or_default()]
}

/// No room is larger than ours.
fn too_long(error: rustix::io::Errno) -> Errno {
    match errno(error) {
        Errno::ERANGE => Errno::E2BIG,
        other => other,
    }
}

/// As the kernel answers: into no room at all nothing goes but the length.
fn answer(caller: &Caller<'_>, bytes: &[u8], to: Room) -> nix::Result<Answer> {
    let length = u32::try_from(bytes.len()).map_err(|_| Errno::E2BIG)?;
    if to.bytes == 0 {
        return Ok(Answer::Length(length));
    }
    if u64::from(length) > to.bytes {
        return Err(Errno::ERANGE);
    }
    caller.write(to.address, bytes)?;
    Ok(Answer::Length(length))
}
