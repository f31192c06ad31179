//! What one process of a command's tree holds in memory, as `/proc` tells it.
//!
//! Read by the keeper, which trusts the kernel's numbers and nothing that a process may choose: fields are found by their
//! names at the start of a line, and the kernel writes a program's own name and its mappings' names without line breaks.
//! A process may vanish between any two reads, and then holds nothing (T-06).

use nix::errno::Errno;
use nix::sys::stat::makedev;
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::io::Read;

/// Longest `status` or `smaps_rollup` that is read.
const FIELDS_MAX_BYTES: u64 = 16 * 1024;
/// Threads of one process that are looked at one by one.
const THREADS_MAX: usize = 4096;
/// Kernel memory of a thread: its stack and what else belongs to it.
const THREAD_BYTES: u64 = 32 * 1024;

/// A process that holds memory.
#[derive(Debug)]
pub struct Process {
    /// Its number.
    pub pid: Pid,
    /// The thread whose entry in `/proc` shows the memory: a leader that has ended shows nothing of its living threads.
    pub shown_by: Pid,
    /// Threads.
    pub threads: u64,
    /// At most so many bytes: pages that several processes share are in it whole, files on disk are not.
    pub most_bytes: u64,
    /// Of these, what it shares by mappings.
    pub shared_bytes: u64,
    /// Kernel memory: page tables and stacks of threads.
    kernel_bytes: u64,
    /// Of private memory, what is swapped out.
    swapped_bytes: u64,
}

/// A file by device and inode.
pub type FileId = (u64, u64);

impl Process {
    /// What a process holds; `None` where it is gone or has no memory of its own any more.
    pub fn look(pid: Pid) -> Option<Self> {
        let status = read(&format!("/proc/{pid}/status"), FIELDS_MAX_BYTES).ok()?;
        let fields = Fields(&status);
        let threads = fields.number("Threads:").unwrap_or(1);
        if fields.bytes("VmRSS:").is_some() {
            return Some(Self::shown(pid, pid, threads, &fields));
        }
        if threads <= 1 {
            return None;
        }
        Self::threads(pid).into_iter().find_map(|thread| {
            let status = read(&format!("/proc/{pid}/task/{thread}/status"), FIELDS_MAX_BYTES).ok()?;
            let fields = Fields(&status);
            fields.bytes("VmRSS:").map(|_| Self::shown(pid, thread, threads, &fields))
        })
    }

    fn shown(pid: Pid, shown_by: Pid, threads: u64, fields: &Fields<'_>) -> Self {
        let bytes = |name| fields.bytes(name).unwrap_or(0);
        let kernel_bytes = bytes("VmPTE:").saturating_add(threads.saturating_mul(THREAD_BYTES));
        let (shared_bytes, swapped_bytes) = (bytes("RssShmem:"), bytes("VmSwap:"));
        let parts = [bytes("RssAnon:"), shared_bytes, swapped_bytes, bytes("HugetlbPages:"), kernel_bytes];
        let most_bytes = parts.into_iter().fold(0, u64::saturating_add);
        Self { pid, shown_by, threads, most_bytes, shared_bytes, kernel_bytes, swapped_bytes }
    }

    /// Its threads, as many as are looked at.
    pub fn threads(pid: Pid) -> Vec<Pid> {
        let Ok(listing) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
        let numbers = listing.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        numbers.take(THREADS_MAX).map(Pid::from_raw).collect()
    }

    /// Its share: of pages that n processes map, an n-th. Walks the page tables. Pages of `held` files that it maps are
    /// left out, since whoever holds the file is counted for all of it, as far as `mappings_left`, bytes of text, goes; then
    /// they count twice. EACCES where it may not be looked at.
    pub fn share_bytes(&self, held: &BTreeSet<FileId>, mappings_left: &mut u64) -> Result<u64, Errno> {
        let base = format!("/proc/{}/task/{}", self.pid, self.shown_by);
        let text = read(&format!("{base}/smaps_rollup"), FIELDS_MAX_BYTES)?;
        let fields = Fields(&text);
        let bytes = |name| fields.bytes(name).unwrap_or(0);
        // What is swapped out of shared memory is in the first of the two alone; `MADV_PAGEOUT` lets a program ask for it.
        let shared_swap = bytes("Swap:").saturating_sub(self.swapped_bytes);
        let looks = !held.is_empty() && self.shared_bytes > 0;
        let mapped = if looks { mapped_bytes(&base, held, mappings_left) } else { 0 };
        let parts = [
            bytes("Pss_Anon:"),
            bytes("Pss_Shmem:").saturating_sub(mapped),
            bytes("SwapPss:"),
            shared_swap,
            bytes("Private_Hugetlb:"),
            bytes("Shared_Hugetlb:"),
            self.kernel_bytes,
        ];
        Ok(parts.into_iter().fold(0, u64::saturating_add))
    }
}

/// The share that a process has, by mappings, of memory files that are counted as held.
fn mapped_bytes(base: &str, held: &BTreeSet<FileId>, left: &mut u64) -> u64 {
    let Ok(text) = read(&format!("{base}/smaps"), *left) else { return 0 };
    *left = left.saturating_sub(u64::try_from(text.len()).unwrap_or(u64::MAX));
    let (mut total, mut counted) = (0_u64, false);
    for line in text.lines() {
        if let Some(bytes) = line.strip_prefix("Pss:").and_then(kibibytes) {
            total = total.saturating_add(if counted { bytes } else { 0 });
        } else if let Some(file) = shared_mapping(line) {
            counted = held.contains(&file);
        } else if is_mapping(line) {
            counted = false;
        }
    }
    total
}

/// `start-end perms offset dev inode name`: a mapping, in contrast to `Name: value` about one.
fn is_mapping(line: &str) -> bool {
    line.split_once(' ').is_some_and(|(range, _)| !range.ends_with(':') && range.contains('-'))
}

/// The file, where a line begins a shared mapping of one.
fn shared_mapping(line: &str) -> Option<FileId> {
    let mut words = line.split_ascii_whitespace();
    let (range, modes, _offset, device) = (words.next()?, words.next()?, words.next()?, words.next()?);
    if !range.contains('-') || !modes.ends_with('s') {
        return None;
    }
    let (major, minor) = device.split_once(':')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    Some((makedev(number(major)?, number(minor)?), words.next()?.parse().ok()?))
}

/// `Name:  value` lines.
struct Fields<'a>(&'a str);

impl<'a> Fields<'a> {
    fn value(&self, name: &str) -> Option<&'a str> {
        self.0.lines().find_map(|line| line.strip_prefix(name))
    }

    fn bytes(&self, name: &str) -> Option<u64> {
        self.value(name).and_then(kibibytes)
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.value(name)?.trim().parse().ok()
    }
}

fn kibibytes(value: &str) -> Option<u64> {
    value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kibibytes| kibibytes.saturating_mul(1024))
}

/// A file of `/proc`, in bounded memory. A program's own name in it may be no UTF-8.
fn read(path: &str, max_bytes: u64) -> Result<String, Errno> {
    let errno = |e: std::io::Error| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO));
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(errno)?.take(max_bytes).read_to_end(&mut bytes).map_err(errno)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_names_only() {
        let text = "Name:\tVmRSS:\\n7 kB\nVmRSS:\t      12 kB\nThreads:\t3\nRssAnon:\t1 GB\n";
        let fields = Fields(text);
        assert_eq!((fields.bytes("VmRSS:"), fields.number("Threads:")), (Some(12 * 1024), Some(3)));
        assert_eq!((fields.bytes("RssAnon:"), fields.bytes("Rss:")), (None, None));
    }

    #[test]
    fn a_mapping_names_its_file_whatever_its_path_looks_like() {
        let line = "7f00-7f10 rw-s 00000000 00:01 1234                       /memfd:a b Pss: 9 kB (deleted)";
        assert_eq!(shared_mapping(line), Some((1, 1234)));
        assert_eq!(shared_mapping(&line.replace("rw-s", "rw-p")), None);
        assert!(is_mapping(line) && !is_mapping("Pss:    9 kB") && !is_mapping("VmFlags: rd wr"));
    }

    #[test]
    fn a_process_that_is_gone_holds_nothing_and_this_one_something() {
        assert!(Process::look(Pid::from_raw(i32::MAX)).is_none());
        let own = Process::look(Pid::this()).unwrap();
        let share = own.share_bytes(&BTreeSet::new(), &mut 1024).unwrap();
        assert!(own.most_bytes > 0 && share > 0 && share <= own.most_bytes.saturating_mul(2), "{own:?} {share}");
    }
}
