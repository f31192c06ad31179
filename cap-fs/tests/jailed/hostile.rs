//! Frames that break the protocol end the helper that got them, and no other (T-05).

use crate::rig::*;
use std::fs;
use std::os::fd::AsFd;
use warden_proto::Kind;
use warden_proto::blob::{Body, Part};
use warden_proto::msg::fs::*;

/// A sound order.
fn order() -> FsOrder {
    FsOrder { call: FsHelperCall::Metadata { target: at("f") }, growth_max: 0 }
}

#[test]
fn garbage_kills_only_the_helper_that_got_it() {
    let place = Place::new();
    fs::write(place.inside("f"), "x").unwrap();
    let mut bystander = place.helper(&[]);
    type Break = fn(&mut Helper);
    let cases: [(&str, Break); 8] = [
        ("short", |h| h.link.send_packet(b"abc", &[], true).unwrap()),
        ("noise", |h| h.link.send_packet(&[0xa5; 4096], &[], true).unwrap()),
        ("unknown kind", |h| h.link.send_packet(&[1, 0, 99, 0, 0, 0, 0, 0], &[], true).unwrap()),
        ("a call that is none", |h| h.link.send(Kind::Call, 1, &[0xffu8; 32], &[], true).unwrap()),
        ("trailing bytes", |h| {
            h.link.send(Kind::Call, 1, &(order(), 7u8), &[], true).unwrap();
        }),
        ("out of state", |h| h.link.send(Kind::Setup, 0, &(), &[], true).unwrap()),
        ("a payload that did not come", |h| {
            let contents = Body::Sent { blob: 5, len: 10 };
            h.send(&FsCall::WriteFile { target: at("f"), contents, append: false, parents: false });
        }),
        ("too much in parts", |h| {
            for blob in 0..5 {
                let part = Part { blob, bytes: warden_proto::Bytes::new(vec![0; 10]).unwrap() };
                let _ = h.link.send(Kind::Part, 0, &part, &[], true);
            }
        }),
    ];
    for (what, break_it) in cases {
        let mut helper = place.helper(&[]);
        assert_eq!(helper.read("f").unwrap(), b"x");
        break_it(&mut helper);
        assert_eq!(helper.status().code(), Some(15), "{what}");
    }
    assert_eq!(bystander.read("f").unwrap(), b"x");
}

#[test]
fn a_descriptor_is_not_accepted() {
    let place = Place::new();
    fs::write(place.inside("f"), "x").unwrap();
    let mut helper = place.helper(&[]);
    let gift = fs::File::open("/etc/passwd").unwrap();
    helper.link.send(Kind::Call, 1, &order(), &[gift.as_fd()], true).unwrap();
    assert_eq!(helper.status().code(), Some(15));
    let mut helper = place.helper(&[]);
    helper.call(order().call).unwrap();
}
