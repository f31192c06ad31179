//! Somebody outside changes the tree while the helper works in it (T-02). The secret is never read, the outside never
//! written; and enough of the calls succeed to show that the race was run.

use crate::rig::*;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use warden_proto::msg::fs::*;

/// Rounds that a race has at least; it goes on until both outcomes were seen, for at most [`RACE_MAX`].
const ROUNDS_MIN: u32 = 4_000;
const RACE_MAX: Duration = Duration::from_secs(30);

/// A thread that exchanges two names as fast as it can.
struct Swapper {
    stop: Arc<AtomicBool>,
    swaps: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Swapper {
    fn exchanging(one: PathBuf, other: PathBuf) -> Self {
        let (stop, swaps) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (stop.clone(), swaps.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if renameat2(AT_FDCWD, &one, AT_FDCWD, &other, RenameFlags::RENAME_EXCHANGE).is_ok() {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Self { stop, swaps, thread: Some(thread) }
    }

    fn swaps(&self) -> u64 {
        self.swaps.load(Ordering::Relaxed)
    }
}

impl Drop for Swapper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// Repeats `round`, which says whether it succeeded, and checks that it did at times and at times did not.
fn race(swapper: &Swapper, mut round: impl FnMut(u32) -> bool) {
    let (mut won, mut lost, started) = (0_u32, 0_u32, Instant::now());
    while won + lost < ROUNDS_MIN || won == 0 || lost == 0 {
        if round(won + lost) {
            won += 1
        } else {
            lost += 1
        }
        assert!(started.elapsed() < RACE_MAX, "{won} succeeded, {lost} did not: no race");
    }
    assert!(swapper.swaps() > 100, "only {} swaps", swapper.swaps());
}

#[test]
fn a_link_that_changes_where_it_leads_never_shows_the_secret() {
    let place = Place::new();
    fs::write(place.inside("fine"), "fine").unwrap();
    fs::write(place.inside(".env"), "secret").unwrap();
    fs::write(place.outside("secret"), "secret").unwrap();
    for target in [place.outside("secret"), PathBuf::from(".env"), PathBuf::from("../outside/secret")] {
        for name in ["a", "b"] {
            let _ = fs::remove_file(place.inside(name));
        }
        symlink("fine", place.inside("a")).unwrap();
        symlink(&target, place.inside("b")).unwrap();
        let mut helper = place.helper(&[("**/.env", RuleKind::Deny)]);
        let swapper = Swapper::exchanging(place.inside("a"), place.inside("b"));
        race(&swapper, |_| match helper.read("a") {
            Ok(bytes) => {
                assert_eq!(bytes, b"fine");
                true
            }
            Err(error) => {
                assert_eq!(error.code, warden_proto::msg::error::ErrorCode::Denied, "{error:?}");
                false
            }
        });
    }
}

#[test]
fn a_parent_that_becomes_a_link_never_shows_the_secret() {
    let place = Place::new();
    for dir in [place.inside("real"), place.inside("locked")] {
        fs::create_dir(dir).unwrap();
    }
    fs::write(place.inside("real/f"), "fine").unwrap();
    fs::write(place.inside("locked/f"), "secret").unwrap();
    fs::write(place.outside("f"), "secret").unwrap();
    for target in [place.outside(""), PathBuf::from("locked")] {
        let _ = fs::remove_file(place.inside("link"));
        symlink(&target, place.inside("link")).unwrap();
        let mut helper = place.helper(&[("locked", RuleKind::Deny)]);
        let swapper = Swapper::exchanging(place.inside("real"), place.inside("link"));
        race(&swapper, |_| match helper.read("real/f") {
            Ok(bytes) => {
                assert_eq!(bytes, b"fine");
                true
            }
            Err(_) => false,
        });
        drop(swapper);
        // Whichever way it ended, the next turn begins with the directory under its own name.
        if place.inside("real").symlink_metadata().unwrap().is_symlink() {
            fs::remove_file(place.inside("real")).unwrap();
            fs::rename(place.inside("link"), place.inside("real")).unwrap();
        }
    }
}

#[test]
fn a_write_never_leaves_the_workspace_nor_reaches_a_denied_file() {
    let place = Place::new();
    fs::write(place.inside("file"), "").unwrap();
    fs::write(place.inside(".env"), "untouched").unwrap();
    fs::write(place.outside("target"), "untouched").unwrap();
    for target in [place.outside("target"), PathBuf::from(".env")] {
        let _ = fs::remove_file(place.inside("link"));
        symlink(&target, place.inside("link")).unwrap();
        let mut helper = place.helper(&[("**/.env", RuleKind::DenyWrite)]);
        let swapper = Swapper::exchanging(place.inside("file"), place.inside("link"));
        race(&swapper, |round| helper.write("file", round.to_string().as_bytes()).is_ok());
        drop(swapper);
        assert_eq!(fs::read(place.outside("target")).unwrap(), b"untouched");
        assert_eq!(fs::read(place.inside(".env")).unwrap(), b"untouched");
        if place.inside("file").symlink_metadata().unwrap().is_symlink() {
            fs::rename(place.inside("link"), place.inside("file")).unwrap();
        }
    }
}

#[test]
fn nothing_is_made_renamed_or_removed_outside() {
    let place = Place::new();
    fs::create_dir(place.inside("dir")).unwrap();
    fs::write(place.outside("victim"), "x").unwrap();
    fs::create_dir(place.outside("sub")).unwrap();
    fs::write(place.outside("sub/victim"), "x").unwrap();
    symlink(place.outside(""), place.inside("link")).unwrap();
    let mut helper = place.helper(&[]);
    let swapper = Swapper::exchanging(place.inside("dir"), place.inside("link"));
    race(&swapper, |round| {
        let name = format!("dir/n{}", round % 50);
        match round % 5 {
            0 => helper.write(&name, b"x").is_ok(),
            1 => helper.call(FsCall::EnsureDir { target: at(&format!("dir/d{}/e", round % 7)) }).is_ok(),
            2 => helper.call(FsCall::Rename { target: at("dir/victim"), to: at("dir/stolen") }).is_ok(),
            3 => helper.call(FsCall::RemoveFile { target: at("dir/victim") }).is_ok(),
            _ => helper.call(FsCall::RemoveDir { target: at("dir/sub"), recursive: true }).is_ok(),
        }
    });
    drop(swapper);
    let mut left: Vec<_> = fs::read_dir(place.outside("")).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["sub", "victim"]);
    assert_eq!(fs::read(place.outside("sub/victim")).unwrap(), b"x");
}

#[test]
fn a_tree_that_changes_while_it_is_removed_takes_nothing_outside_along() {
    let place = Place::new();
    fs::create_dir(place.outside("sub")).unwrap();
    fs::write(place.outside("sub/victim"), "x").unwrap();
    fs::create_dir(place.inside("t")).unwrap();
    symlink(place.outside("sub"), place.inside("link")).unwrap();
    fs::create_dir(place.inside("t/sub")).unwrap();
    let mut helper = place.helper(&[]);
    let swapper = Swapper::exchanging(place.inside("t/sub"), place.inside("link"));
    let (started, mut removed) = (Instant::now(), 0);
    while started.elapsed() < Duration::from_secs(3) || removed == 0 {
        let _ = fs::create_dir_all(place.inside("t/sub/deep"));
        if helper.call(FsCall::RemoveDir { target: at("t"), recursive: true }).is_ok() {
            removed += 1;
        }
        assert!(started.elapsed() < RACE_MAX, "never removed");
        let _ = fs::create_dir(place.inside("t"));
        let _ = fs::create_dir(place.inside("t/sub"));
        if place.inside("link").symlink_metadata().is_err() {
            let _ = symlink(place.outside("sub"), place.inside("link"));
        }
    }
    drop(swapper);
    assert_eq!(fs::read(place.outside("sub/victim")).unwrap(), b"x");
}
