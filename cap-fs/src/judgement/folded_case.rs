use crate::fixture::*;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use std::fs;
use std::time::{Duration, Instant};
use warden_beneath::paths::RelPath;

/// No file system here folds case, so two links whose names differ only in case stand for one: to `folds_case_on` they
/// look the same.
#[test]
fn where_names_compare_without_case_so_do_rules() {
    let mut fx = Fixture::new(&[("MAKEFILE", DENY), ("DIR/key", DENY)], |dir| {
        fs::write(dir.join("Makefile"), "x").unwrap();
        fs::create_dir(dir.join("dir")).unwrap();
        fs::write(dir.join("dir/key"), "x").unwrap();
    });
    // The control: case tells names apart.
    fx.read("Makefile").unwrap();
    fx.read("dir/key").unwrap();
    fs::hard_link(fx.host("Makefile"), fx.host("mAKEFILE")).unwrap();
    assert_eq!(denied_by(fx.read("Makefile")), "rule[0]");
    assert!(!fx.names("").contains(&"Makefile".to_owned()));
    fs::hard_link(fx.host("dir/key"), fx.host("dir/KEY")).unwrap();
    assert_eq!(denied_by(fx.read("dir/key")), "rule[1]");
}

/// T-06: where it was asked of each name by its whole path, one open of a deep file kept a keeper for seconds.
#[test]
fn a_deep_path_costs_as_many_steps_as_it_has_names() {
    let fx = Fixture::new(&[], |_| {});
    let deep = |count: usize| RelPath::parse(&"a/".repeat(count)).unwrap();
    let mut at = fs::File::open(fx.host("")).unwrap().into();
    for _ in 0..2000 {
        mkdirat(&at, "a", Mode::S_IRWXU).unwrap();
        at = openat(&at, "a", OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty()).unwrap();
    }
    let tree = &fx.files.world.trees[0];
    let took = |path: &RelPath| {
        let one = || {
            let began = Instant::now();
            assert!(!tree.folds_case_on(path));
            began.elapsed()
        };
        (0..5).map(|_| one()).min().unwrap_or(Duration::MAX)
    };
    let (short, long) = (took(&deep(250)), took(&deep(2000)));
    // The control: the last name is asked about too.
    fs::File::create(fx.host("b")).unwrap();
    fs::rename(fx.host("b"), format!("/proc/self/fd/{}/b", std::os::fd::AsRawFd::as_raw_fd(&at))).unwrap();
    let (one, other) = ("b", "B");
    nix::unistd::linkat(&at, one, &at, other, nix::fcntl::AtFlags::empty()).unwrap();
    assert!(tree.folds_case_on(&deep(2000).join(b"b")));
    // Level by level: who removes it from the top holds a descriptor for each.
    while fs::rename(fx.host("a/a"), fx.host("rest")).is_ok() {
        fs::remove_dir(fx.host("a")).unwrap();
        fs::rename(fx.host("rest"), fx.host("a")).unwrap();
    }
    assert!(long < short * 24, "8 times the names took {long:?} instead of {short:?}");
}
