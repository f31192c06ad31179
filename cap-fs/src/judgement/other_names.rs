use crate::fixture::*;
use std::fs;
use warden_beneath::links::DeniedInodes;
use warden_proto::msg::fs::*;

#[test]
fn another_name_of_a_denied_file_is_denied_and_other_hard_links_are_ordinary() {
    let mut fx = Fixture::new(&[("**/.env", DENY), ("Makefile", DENY_WRITE), ("hidden", DENY)], |dir| {
        fs::create_dir_all(dir.join("hidden/deep")).unwrap();
        for name in [".env", "Makefile", "hidden/deep/f", "plain"] {
            fs::write(dir.join(name), name).unwrap();
        }
        for (old, new) in [(".env", "e"), ("Makefile", "m"), ("hidden/deep/f", "h"), ("plain", "p")] {
            fs::hard_link(dir.join(old), dir.join(new)).unwrap();
        }
    });
    for (name, rule) in [("e", "rule[0]"), ("h", "rule[2]")] {
        assert_eq!(denied_by(fx.read(name)), rule);
        assert_eq!(denied_by(fx.write(name, b"x")), rule);
        assert_eq!(denied_by(fx.metadata(name)), rule);
        assert_eq!(denied_by(fx.rename(name, "other")), rule);
        assert_eq!(denied_by(fx.ask(FsCall::RemoveFile { target: at(name) })), rule);
    }
    assert_eq!(fx.read("m").unwrap(), b"Makefile");
    assert_eq!(denied_by(fx.write("m", b"x")), "rule[1]");
    // The control: a file with two names, neither of them denied, and ours.
    assert_eq!(fx.read("p").unwrap(), b"plain");
    fx.write("p", b"both").unwrap();
    assert_eq!(fs::read(fx.host("plain")).unwrap(), b"both");
    assert_eq!(fs::read(fx.host("Makefile")).unwrap(), b"Makefile");
}

#[test]
fn a_denied_name_in_another_workspace_counts() {
    let fill = |dir: &std::path::Path| {
        fs::write(dir.join("w1/key"), "secret").unwrap();
        fs::hard_link(dir.join("w1/key"), dir.join("w0/alias")).unwrap();
        fs::write(dir.join("w0/f"), "x").unwrap();
    };
    let rules: [&[(&str, RuleKind)]; 2] = [&[], &[("key", DENY)]];
    let mut fx = Fixture::several(&rules, fill, |_| {});
    assert_eq!(denied_by(fx.read("alias")), "rule[0]");
    fx.read("f").unwrap();
}

#[test]
fn a_file_with_several_names_is_written_only_if_it_is_ours() {
    if !nix::unistd::geteuid().is_root() {
        crate::fixture::skip::skipped("only root can give a file away");
        return;
    }
    let mut fx = Fixture::new(&[], |dir| {
        for (name, owner) in [("theirs", 1000), ("mine", 0), ("single", 1000)] {
            fs::write(dir.join(name), "x").unwrap();
            std::os::unix::fs::chown(dir.join(name), Some(owner), None).unwrap();
        }
        fs::hard_link(dir.join("theirs"), dir.join("t2")).unwrap();
        fs::hard_link(dir.join("mine"), dir.join("m2")).unwrap();
    });
    fx.read("t2").unwrap();
    assert_eq!(denied_by(fx.write("t2", b"y")), "grant[0]");
    fx.write("m2", b"y").unwrap();
    fx.write("single", b"y").unwrap();
}

#[test]
fn a_link_that_somebody_outside_makes_later_is_found_when_the_collection_is_old() {
    let mut fx = Fixture::new(&[("**/.env", DENY)], |_| {});
    fs::write(fx.host(".env"), "secret").unwrap();
    fs::hard_link(fx.host(".env"), fx.host("alias")).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert_eq!(denied_by(fx.read("alias")), "rule[0]");
}

#[test]
fn where_the_walk_cannot_finish_files_with_several_names_are_refused() {
    let mut fx = Fixture::new(&[("**/.env", DENY)], |dir| {
        let mut deep = dir.join("t");
        (0..140).for_each(|_| deep = deep.join("d"));
        fs::create_dir_all(&deep).unwrap();
        fs::write(dir.join("a"), "x").unwrap();
        fs::hard_link(dir.join("a"), dir.join("b")).unwrap();
        fs::write(dir.join("one"), "x").unwrap();
    });
    assert_eq!(denied_by(fx.read("b")), "grant[0]");
    assert_eq!(denied_by(fx.write("b", b"y")), "grant[0]");
    fx.write("one", b"y").unwrap();
}

/// A number for the report of whoever changes the walk: run with `--ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn what_a_collection_costs() {
    let rules: Vec<(&str, RuleKind)> = [
        "**/.git/config*",
        "**/.git/hooks/**",
        "**/.envrc",
        "**/.vscode/**",
        "**/.idea/**",
        "**/.cargo/config*",
        "**/.env",
        "**/*.pem",
    ]
    .map(|glob| (glob, DENY_WRITE))
    .to_vec();
    let fx = Fixture::new(&rules, |dir| {
        for d in 0..1_000 {
            fs::create_dir(dir.join(format!("d{d}"))).unwrap();
            (0..100).for_each(|f| fs::write(dir.join(format!("d{d}/f{f}")), "").unwrap());
        }
    });
    let started = std::time::Instant::now();
    let found = warden_beneath::links::DeniedInodes::collect(&fx.files.world);
    println!("101,000 entries, 8 rules: {:?}, complete: {}", started.elapsed(), found.is_complete());
}

/// T-02: what is found while somebody moves is not all there is.
#[test]
fn a_collection_that_gets_no_turn_is_not_complete() {
    let fx = Fixture::new(&[("**/.env", DENY)], |dir| {
        fs::write(dir.join(".env"), "x").unwrap();
        fs::hard_link(dir.join(".env"), dir.join("e")).unwrap();
    });
    let other = fx.turns();
    let moving = other.to_move().unwrap();
    assert!(!DeniedInodes::collect(&fx.files.world).is_complete());
    drop(moving);
    assert!(DeniedInodes::collect(&fx.files.world).is_complete(), "control");
}
