use crate::fixture::*;
use std::fs;

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
