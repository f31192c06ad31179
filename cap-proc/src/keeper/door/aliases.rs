//! Other mounts that show a workspace or `/proc` a second time.
//!
//! Where something lies is told by its path, and the keeper's Landlock domain goes by directories whatever their paths. So a bind
//! mount of a workspace, or of a folder around it, is to the rules a place beneath no workspace and to Landlock the workspace
//! itself; and in another mount of `/proc`, `self` is the keeper. What lies in such a place is opened for nobody (T-02, T-13).
//!
//! Runs in the keeper. The list is the kernel's; it is read again whenever the kernel says that mounts have changed.

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use warden_beneath::paths::{self, Facts};
use warden_beneath::tree::Tree;
use warden_beneath::world::World;

/// Of the kernel's list; a host with more than 50,000 mounts has no door.
const TABLE_MAX_BYTES: u64 = 16 * 1024 * 1024;

/// One mount.
#[derive(Debug)]
struct Mount {
    number: u64,
    file_system: Vec<u8>,
    /// What of its file system it shows.
    root: Vec<u8>,
    /// Where.
    point: Vec<u8>,
    is_proc: bool,
}

/// Places that are not to be gone into, each by the mount that it lies on and the path of its top.
#[derive(Debug)]
pub struct Aliases {
    table: File,
    tops: Vec<(u64, Vec<u8>)>,
    /// Another mount lies in a workspace.
    inner: bool,
    /// Nobody can mount anything here any more.
    held: bool,
}

impl Aliases {
    /// Of these workspaces. `held`: the list is the one of a namespace of the task's own, in which nothing changes.
    pub fn find(world: &World, held: bool) -> nix::Result<Self> {
        let table = open("/proc/self/mountinfo", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        let mut aliases = Self { table: File::from(table), tops: Vec::new(), inner: false, held };
        aliases.read(world)?;
        Ok(aliases)
    }

    /// Whether `fd`, which lies at `own` beneath no workspace, lies in one of them.
    pub fn hold(&mut self, world: &World, fd: BorrowedFd<'_>, own: &[u8]) -> nix::Result<bool> {
        if !self.held && self.changed() {
            self.read(world)?;
        }
        if !self.may_hold(own) {
            return Ok(false);
        }
        let mount = mount_of(fd)?;
        Ok(self.tops.iter().any(|(number, top)| *number == mount && paths::below(top, own).is_some()))
    }

    /// Whether a path leads into one of them, as of the last reading; another mount may lie there.
    pub fn may_hold(&self, path: &[u8]) -> bool {
        self.tops.iter().any(|(_, top)| paths::below(top, path).is_some())
    }

    /// The kernel tells each change once.
    fn changed(&self) -> bool {
        let mut fds = [PollFd::new(self.table.as_fd(), PollFlags::POLLPRI)];
        let polled = poll(&mut fds, PollTimeout::ZERO);
        let [table] = fds;
        let told = PollFlags::POLLPRI | PollFlags::POLLERR;
        polled != Ok(0) && table.revents().is_none_or(|events| events.intersects(told))
    }

    fn read(&mut self, world: &World) -> nix::Result<()> {
        let mut text = Vec::new();
        self.table.seek(SeekFrom::Start(0)).map_err(|_| Errno::EIO)?;
        (&mut self.table).take(TABLE_MAX_BYTES).read_to_end(&mut text).map_err(|_| Errno::EIO)?;
        if u64::try_from(text.len()).is_ok_and(|length| length >= TABLE_MAX_BYTES) {
            return Err(Errno::EOVERFLOW);
        }
        let mounts: Vec<Mount> = text.split(|byte| *byte == b'\n').filter_map(mount).collect();
        self.tops = mounts.iter().filter(|mount| is_other_proc(mount)).map(|m| (m.number, m.point.clone())).collect();
        let root = |tree: &Tree| Ok((mount_of(tree.root.as_fd())?, world.own.of(tree.root.as_fd())?));
        let roots = world.trees.iter().map(root).collect::<nix::Result<Vec<_>>>()?;
        for (number, own) in &roots {
            self.tops.extend(others(&mounts, *number, own));
        }
        self.inner = has_inner(&mounts, &roots);
        Ok(())
    }

    /// Whether a mount that is no workspace lies in one, as of the last reading.
    pub fn has_inner(&self) -> bool {
        self.inner
    }
}

/// The number of the mount that it lies on.
fn mount_of(fd: BorrowedFd<'_>) -> nix::Result<u64> {
    Facts::of(fd, &paths::facts(fd)?).map(|facts| facts.mount)
}

/// A `proc` file system at another place, where no path begins with `/proc/`.
fn is_other_proc(mount: &Mount) -> bool {
    mount.is_proc && paths::below(b"/proc", &mount.point).is_none()
}

/// Whether any of the mounts lies in a workspace and is none: `roots` are the workspaces' mounts and places.
fn has_inner(mounts: &[Mount], roots: &[(u64, Vec<u8>)]) -> bool {
    let is_in = |mount: &&Mount| roots.iter().any(|(_, own)| paths::below(own, &mount.point).is_some());
    mounts.iter().filter(is_in).any(|mount| !roots.iter().any(|(number, _)| *number == mount.number))
}

/// Where mounts but number `number` show what lies at `own` on it, or a part of that.
fn others(mounts: &[Mount], number: u64, own: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let Some(its) = mounts.iter().find(|mount| mount.number == number) else { return Vec::new() };
    let Some(rest) = paths::below(&its.point, own) else { return Vec::new() };
    let place = joined(&its.root, trimmed(rest.as_bytes()));
    let top = |mount: &Mount| match paths::below(&mount.root, &place) {
        Some(rest) => Some(joined(&mount.point, trimmed(rest.as_bytes()))),
        None => paths::below(&place, &mount.root).map(|_| mount.point.clone()),
    };
    let same = mounts.iter().filter(|mount| mount.number != number && mount.file_system == its.file_system);
    same.filter_map(|mount| Some((mount.number, top(mount)?))).collect()
}

fn trimmed(path: &[u8]) -> &[u8] {
    path.strip_prefix(b"/").unwrap_or(path)
}

fn joined(above: &[u8], below: &[u8]) -> Vec<u8> {
    match (above, below) {
        (_, []) => above.to_vec(),
        (b"/", _) => [b"/", below].concat(),
        _ => [above, b"/", below].concat(),
    }
}

/// A line of `/proc/self/mountinfo`: number, its parent's, file system, root, point, options, optional fields, `-`, kind.
fn mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let number = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let file_system = fields.nth(1)?.to_vec();
    let (root, point) = (unescaped(fields.next()?), unescaped(fields.next()?));
    let is_proc = fields.skip_while(|field| *field != b"-").nth(1)? == b"proc";
    Some(Mount { number, file_system, root, point, is_proc })
}

/// Space, tab, newline and backslash are written as three octal digits behind a backslash.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = || u8::from_str_radix(std::str::from_utf8(after.get(..3)?).ok()?, 8).ok();
        let code = (*first == b'\\').then(octal).flatten();
        text.push(code.unwrap_or(*first));
        rest = if code.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
        22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
        23 22 0:20 / /proc rw - proc proc rw\n\
        24 22 254:0 /srv/ws /mnt/a\\040b rw shared:1 - ext4 /dev/vda rw\n\
        25 22 254:0 /srv/ws/sub /mnt/c rw - ext4 /dev/vda rw\n\
        26 22 254:0 /srv /mnt/d rw - ext4 /dev/vda rw\n\
        27 22 254:0 /srv/wsx /mnt/e rw - ext4 /dev/vda rw\n\
        28 22 0:20 / /chroot/proc rw - proc proc rw\n\
        29 23 0:20 /sys /proc/sys ro - proc proc rw\n\
        30 22 254:1 /srv/ws /mnt/f rw - ext4 /dev/vdb rw\n";

    fn mounts() -> Vec<Mount> {
        TABLE.as_bytes().split(|byte| *byte == b'\n').filter_map(mount).collect()
    }

    fn texts(found: Vec<(u64, Vec<u8>)>) -> Vec<(u64, String)> {
        found.into_iter().map(|(number, top)| (number, String::from_utf8(top).unwrap())).collect()
    }

    #[test]
    fn a_workspace_is_found_wherever_another_mount_shows_it() {
        let expected = [(24, "/mnt/a b"), (25, "/mnt/c"), (26, "/mnt/d/ws")].map(|(n, top)| (n, top.to_owned()));
        assert_eq!(texts(others(&mounts(), 22, b"/srv/ws")), expected);
        // One that lies on a bind mount itself: the whole around it stays open but for that place.
        let expected = [(22, "/srv/ws"), (25, "/mnt/c"), (26, "/mnt/d/ws")].map(|(n, top)| (n, top.to_owned()));
        assert_eq!(texts(others(&mounts(), 24, b"/mnt/a b")), expected);
        assert!(others(&mounts(), 22, b"/elsewhere").is_empty());
    }

    #[test]
    fn a_mount_in_a_workspace_is_told_from_a_workspace_in_a_workspace() {
        let root = |number, place: &str| (number, place.as_bytes().to_vec());
        assert!(has_inner(&mounts(), &[root(22, "/mnt")]));
        assert!(has_inner(&mounts(), &[root(24, "/mnt/a b"), root(22, "/mnt")]));
        assert!(!has_inner(&mounts(), &[root(24, "/mnt/a b")]));
        assert!(!has_inner(&mounts(), &[root(22, "/srv/ws"), root(24, "/mnt/a b")]));
        assert!(!has_inner(&mounts(), &[root(22, "/mnt/a")]));
    }

    #[test]
    fn proc_is_known_at_another_place_and_not_at_its_own() {
        let points: Vec<_> = mounts().into_iter().filter(is_other_proc).map(|mount| mount.point).collect();
        assert_eq!(points, [b"/chroot/proc"]);
    }
}
