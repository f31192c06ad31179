//! The audit directory: ours alone, reached by descriptor only, because the broker later gives up every path.

use super::clock::Instants;
use super::error::AuditError;
use crate::failure::shell_word;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::{AccessFlags, access};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Opens the directory at `path`, making it and its missing parents with mode 0700. For use before lock-down.
pub fn open_directory(path: &Path) -> Result<OwnedFd, AuditError> {
    use std::os::unix::fs::DirBuilderExt;
    let shown = path.display().to_string();
    let wrong = |source| AuditError::Directory { dir: shown.clone(), source, remedy: remedy(path, source) };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|e| wrong(Errno::from_raw(e.raw_os_error().unwrap_or(nix::libc::EIO))))?;
    nix::fcntl::open(path, directory_flags(), Mode::empty()).map_err(wrong)
}

/// What to type so that this user can keep its log there; nothing where typing does not help.
fn remedy(path: &Path, errno: Errno) -> String {
    if !matches!(errno, Errno::EACCES | Errno::EPERM | Errno::ENOENT) {
        return "; choose another [audit] dir".to_owned();
    }
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let closed = |each: &&&Path| each.exists() && access(**each, AccessFlags::X_OK).is_err();
    let mut above: Vec<&Path> = path.ancestors().skip(1).collect();
    above.reverse();
    let dir = shell_word(path);
    let typed = match above.iter().find(closed) {
        Some(closed) => format!("uid {uid} cannot pass it: chmod o+x {}", shell_word(closed)),
        None if path.exists() => format!("chown {uid}:{gid} {dir} && chmod 700 {dir}"),
        None => format!("mkdir -p -m 700 {dir} && chown {uid}:{gid} {dir}"),
    };
    format!("; as root type: {typed}; or choose another [audit] dir")
}

fn directory_flags() -> OFlag {
    // No O_NOFOLLOW: an administrator may point the directory elsewhere; what counts is the thing opened.
    OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC
}

/// The one directory, checked, and open for listing and syncing.
#[derive(Debug)]
pub(super) struct AuditDirectory {
    fd: OwnedFd,
}

impl AuditDirectory {
    /// Takes a descriptor (O_PATH will do) and refuses a directory that anybody else owns or reaches (T-09, T-13).
    pub fn ours(given: impl AsFd, shown: &str) -> Result<Self, AuditError> {
        let dir = shown.to_owned();
        let this = Self::any(given, shown)?;
        let wrong = |source| AuditError::Directory { dir: dir.clone(), source, remedy: String::new() };
        let stat = fstat(&this.fd).map_err(wrong)?;
        let uid = nix::unistd::geteuid().as_raw();
        if stat.st_uid != uid {
            return Err(AuditError::Foreign { dir, owner: stat.st_uid, uid });
        }
        let mode = stat.st_mode & 0o7777;
        if mode & 0o077 != 0 {
            return Err(AuditError::Open { dir, mode });
        }
        Ok(this)
    }

    /// For readers, who may be somebody else than the writer.
    pub fn any(given: impl AsFd, shown: &str) -> Result<Self, AuditError> {
        let wrong = |source| match source {
            Errno::ENOTDIR => AuditError::NotADirectory { dir: shown.to_owned() },
            source => AuditError::Directory { dir: shown.to_owned(), source, remedy: String::new() },
        };
        Ok(Self { fd: openat(given, ".", directory_flags(), Mode::empty()).map_err(wrong)? })
    }

    pub fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// The names of all segments, oldest start first.
    pub fn segments(&self) -> Result<Vec<String>, AuditError> {
        let own = openat(&self.fd, ".", directory_flags(), Mode::empty()).map_err(AuditError::List)?;
        let mut listing = Dir::from_fd(own).map_err(AuditError::List)?;
        let mut names = Vec::new();
        for entry in listing.iter() {
            let entry = entry.map_err(AuditError::List)?;
            if let Some(name) = entry.file_name().to_str().ok().filter(|name| is_segment_name(name)) {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Opens a segment for reading. A link, a pipe or a device in its place is refused, and cannot make us wait.
    pub fn open_segment(&self, name: &str) -> Result<File, AuditError> {
        let read = |source: Errno| AuditError::Read { segment: name.to_owned(), source: source.into() };
        if !is_segment_name(name) {
            return Err(AuditError::NotASegment { name: name.to_owned() });
        }
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let fd = openat(&self.fd, name, flags, Mode::empty()).map_err(read)?;
        let kind = fstat(&fd).map_err(read)?.st_mode & SFlag::S_IFMT.bits();
        if kind != SFlag::S_IFREG.bits() {
            return Err(read(Errno::EINVAL));
        }
        Ok(File::from(fd))
    }
}

/// `<utc>-<pid>-<random>.jsonl`; names sort by time.
pub(super) fn new_segment_name(now: &Instants) -> Result<String, AuditError> {
    let mut random = [0u8; 8];
    getrandom::fill(&mut random).map_err(AuditError::Random)?;
    let utc: String = super::clock::utc_text(now.unix_seconds).chars().filter(|c| !matches!(c, '-' | ':')).collect();
    let pid = std::process::id();
    Ok(format!("{utc}.{:06}Z-{pid}-{:016x}.jsonl", now.micros, u64::from_be_bytes(random)))
}

/// Whether a name is one that [`new_segment_name`] makes.
pub(super) fn is_segment_name(name: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let Some(rest) = name.strip_suffix(".jsonl") else {
        return false;
    };
    let mut parts = rest.split('-');
    let (Some(utc), Some(pid), Some(random), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let stamp = utc.strip_suffix('Z').and_then(|u| u.split_once('T')).and_then(|(date, time)| {
        let (clock, micros) = time.split_once('.')?;
        Some(date.len() == 8 && clock.len() == 6 && micros.len() == 6 && [date, clock, micros].into_iter().all(digits))
    });
    stamp == Some(true)
        && digits(pid)
        && pid.len() <= 10
        && random.len() == 16
        && random.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The time in a segment's name, in the form records have.
pub(super) fn start_time(name: &str) -> String {
    let cut = |from: usize, to: usize| name.get(from..to).unwrap_or_default();
    format!("{}-{}-{}T{}:{}:{}Z", cut(0, 4), cut(4, 6), cut(6, 8), cut(9, 11), cut(11, 13), cut(13, 22))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_recognised_and_sort_by_time() {
        let name = new_segment_name(&Instants { unix_seconds: 1_795_219_199, micros: 42, mono_us: 0 }).unwrap();
        assert!(name.starts_with("20261120T235959.000042Z-"), "{name}");
        assert!(is_segment_name(&name));
        assert_eq!(start_time(&name), "2026-11-20T23:59:59.000042Z");
        for wrong in [
            "x.jsonl",
            "../20261120T235959.000042Z-1-0123456789abcdef.jsonl",
            "20261120T235959.000042Z-1-0123456789abcdef",
            "20261120T235959.000042Z-1-0123456789abcdeF.jsonl",
            "20261120T235959.000042Z--0123456789abcdef.jsonl",
            "20261120T235959.000042Z-1-0123456789abcdef-.jsonl",
            ".jsonl",
            "",
        ] {
            assert!(!is_segment_name(wrong), "{wrong}");
        }
    }
}
