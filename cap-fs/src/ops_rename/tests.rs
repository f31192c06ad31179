use crate::fixture::*;
use std::fs;
use std::os::unix::fs::symlink;
use warden_proto::msg::error::ErrorCode;
use warden_proto::msg::fs::*;

#[test]
fn files_move_and_replace_but_neither_name_may_be_denied() {
    let mut fx = Fixture::new(&[("**/.env", DENY), ("Makefile", DENY_WRITE)], |dir| {
        for name in ["a", "b", ".env", "Makefile"] {
            fs::write(dir.join(name), name).unwrap();
        }
        fs::create_dir(dir.join("d")).unwrap();
        symlink("Makefile", dir.join("l")).unwrap();
    });
    fx.rename("a", "d/a").unwrap();
    fx.rename("d/a", "b").unwrap();
    assert_eq!(fs::read(fx.host("b")).unwrap(), b"a");
    for (from, to, rule) in [
        (".env", "x", "rule[0]"),
        ("b", ".env", "rule[0]"),
        ("b", "d/.env", "rule[0]"),
        ("Makefile", "x", "rule[1]"),
        ("b", "Makefile", "rule[1]"),
    ] {
        assert_eq!(denied_by(fx.rename(from, to)), rule, "{from} {to}");
    }
    // A link is moved itself.
    fx.rename("l", "d/l").unwrap();
    assert!(fx.host("d/l").symlink_metadata().unwrap().is_symlink());
    assert_eq!(code(fx.rename("missing", "y")), ErrorCode::NotFound);
    assert_eq!(code(fx.rename("b", "nodir/y")), ErrorCode::NotFound);
    assert_eq!(code(fx.rename("b", "d")), ErrorCode::Conflict);
    assert_eq!(denied_by(fx.rename("b", "../../x")), "grant[0]");
    assert_eq!(fs::read(fx.host("Makefile")).unwrap(), b"Makefile");
}

#[test]
fn a_directory_stays_while_its_name_decides_and_moves_while_it_does_not() {
    let mut fx = Fixture::new(&[("conf/key", DENY), ("**/.git/hooks/**", DENY_WRITE), ("**/.env", DENY)], |dir| {
        for name in ["conf", "x", "y", "proj/.git/hooks", "evil/hooks", "evil2"] {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        for name in ["conf/key", "x/key", "evil/hooks/pre-commit", "y/.env"] {
            fs::write(dir.join(name), "x").unwrap();
        }
    });
    // Away from the denied name, and onto it.
    assert_eq!(denied_by(fx.rename("conf", "z")), "rule[0]");
    fs::remove_dir_all(fx.host("conf")).unwrap();
    assert_eq!(denied_by(fx.rename("x", "conf")), "rule[0]");
    assert_eq!(denied_by(fx.rename("evil", "evil2/.git")), "rule[1]");
    assert_eq!(denied_by(fx.rename("evil/hooks", "proj/.git/hooks")), "rule[1]");
    assert_eq!(denied_by(fx.rename("proj/.git", "proj/git")), "rule[1]");
    // A rule that holds under any name is no obstacle, and still holds.
    fx.rename("y", "moved").unwrap();
    assert_eq!(denied_by(fx.read("moved/.env")), "rule[2]");
    fx.rename("proj", "project").unwrap();
    assert_eq!(code(fx.rename("moved", "moved/inside")), ErrorCode::InvalidArgument);
}

#[test]
fn between_workspaces_both_rule_books_hold() {
    let fill = |dir: &std::path::Path| {
        for name in ["w0/plain/sub", "w0/secret", "w0/big", "w1"] {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        fs::write(dir.join("w0/plain/sub/f"), "x").unwrap();
        fs::write(dir.join("w0/secret/a.key"), "x").unwrap();
        fs::write(dir.join("w0/big/f"), [0; 100]).unwrap();
        fs::write(dir.join("w0/f"), "x").unwrap();
        fs::write(dir.join("w0/long"), [0; 100]).unwrap();
        fs::write(dir.join("w0/x.tmp"), "x").unwrap();
    };
    let rules: [&[(&str, RuleKind)]; 2] = [&[("**/*.key", DENY)], &[("**/*.tmp", DENY)]];
    let mut fx = Fixture::several(&rules, fill, |tree| {
        if tree.label == "w1" {
            tree.max_file.max_bytes = 50;
        }
    });
    let mut go = |from: &str, to: &str| fx.ask(FsCall::Rename { target: at(from), to: within(1, to) });
    go("plain", "plain").unwrap();
    go("f", "f").unwrap();
    assert_eq!(denied_by(go("secret", "secret")), "rule[0]");
    assert_eq!(denied_by(go("x.tmp", "x.tmp")), "rule[0]");
    assert_eq!(code(go("long", "long")), ErrorCode::Limit);
    assert_eq!(code(go("big", "big")), ErrorCode::Limit);
    assert!(fx.host("secret/a.key").exists());
}

#[test]
fn a_link_to_a_parent_does_not_hide_whose_child_it_is() {
    let mut fx = Fixture::new(&[("conf/key", DENY), ("conf/ro", DENY_WRITE)], |dir| {
        fs::create_dir_all(dir.join("conf/key.d")).unwrap();
        for name in ["conf/key", "conf/ro", "conf/free", "plain"] {
            fs::write(dir.join(name), name).unwrap();
        }
        symlink("conf", dir.join("via")).unwrap();
    });
    for (name, rule) in [("via/key", "rule[0]"), ("via/ro", "rule[1]")] {
        assert_eq!(denied_by(fx.ask(FsCall::RemoveFile { target: at(name) })), rule, "{name}");
        assert_eq!(denied_by(fx.rename(name, "taken")), rule, "{name}");
        assert_eq!(denied_by(fx.rename("plain", name)), rule, "{name}");
        assert_eq!(denied_by(fx.write(name, b"x")), rule, "{name}");
    }
    fs::remove_file(fx.host("conf/key")).unwrap();
    assert_eq!(denied_by(fx.write("via/key", b"x")), "rule[0]");
    assert_eq!(denied_by(fx.ask(FsCall::EnsureDir { target: at("via/key") })), "rule[0]");
    assert_eq!(denied_by(fx.rename("via/key.d", "via/key")), "rule[0]");
    assert!(!fx.host("conf/key").exists() && fx.host("plain").exists());
    assert_eq!(fs::read(fx.host("conf/ro")).unwrap(), b"conf/ro");
    // The control: what no rule names goes through the same link.
    fx.rename("via/free", "via/freed").unwrap();
    fx.ask(FsCall::RemoveFile { target: at("via/freed") }).unwrap();
    fx.ask(FsCall::RemoveDir { target: at("via/key.d"), recursive: true }).unwrap();
}

/// T-02: a walk for a command would miss a folder that a guest moves behind its back.
#[test]
fn nothing_moves_while_another_process_of_the_task_walks() {
    let mut fx = Fixture::new(&[("**/.env", DENY)], |dir| {
        fs::create_dir(dir.join("d")).unwrap();
        fs::write(dir.join("f"), "f").unwrap();
    });
    let other = fx.turns();
    let walk = other.to_walk().unwrap();
    for (from, to) in [("d", "e"), ("f", "g")] {
        assert_eq!(code(fx.rename(from, to)), ErrorCode::Conflict);
        assert!(fx.host(from).exists());
    }
    drop(walk);
    fx.rename("d", "e").unwrap();
    fx.rename("f", "g").unwrap();
    assert!(other.to_move().is_ok(), "a rename gives its turn back");
}
