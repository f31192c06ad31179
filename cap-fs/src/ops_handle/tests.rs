use crate::fixture::*;
use sha2::{Digest, Sha256};
use std::fs;
use warden_proto::Bytes;
use warden_proto::limits::HANDLES_MAX;
use warden_proto::msg::error::ErrorCode;
use warden_proto::msg::fs::*;

const RW: OpenFlags =
    OpenFlags { read: true, write: true, append: false, create: true, truncate: false, exclusive: false };

fn write(fx: &mut Fixture, file: u32, bytes: &[u8]) -> FsReply {
    fx.ask(FsCall::Write { file, bytes: Bytes::new(bytes.to_vec()).unwrap() }).unwrap()
}

fn read(fx: &mut Fixture, file: u32) -> Vec<u8> {
    match fx.ask(FsCall::Read { file, max_bytes: 100 }).unwrap() {
        FsReply::Data { bytes } => bytes.into_vec(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_handle_has_its_own_offset_and_close_tells_size_and_hash() {
    let mut fx = Fixture::new(&[], |_| {});
    let (one, two) = (fx.open("f", RW).unwrap(), fx.open("f", RW).unwrap());
    assert_ne!(one, two);
    assert_eq!(write(&mut fx, one, b"hello "), FsReply::Written { bytes: 6, grown: 6 });
    assert_eq!(write(&mut fx, one, b"world"), FsReply::Written { bytes: 5, grown: 5 });
    assert_eq!(read(&mut fx, two), b"hello world");
    assert_eq!(read(&mut fx, two), b"");
    fx.ask(FsCall::Flush { file: one }).unwrap();
    let sha256 = Some(Sha256::digest(b"hello world").into());
    assert_eq!(fx.ask(FsCall::Close { handle: one }).unwrap(), FsReply::Closed { size_bytes: Some(11), sha256 });
    assert_eq!(code(fx.ask(FsCall::Close { handle: one })), ErrorCode::NotFound);
    let reader = fx.open("f", OpenFlags { write: false, create: false, ..RW }).unwrap();
    assert_ne!(reader, one, "a number is not used again");
    assert_eq!(fx.ask(FsCall::Close { handle: reader }).unwrap(), FsReply::Closed { size_bytes: None, sha256: None });
}

#[test]
fn an_append_handle_writes_at_the_end() {
    let mut fx = Fixture::new(&[], |dir| fs::write(dir.join("f"), "123").unwrap());
    let handle = fx.open("f", OpenFlags { append: true, ..RW }).unwrap();
    fs::write(fx.host("f"), "123456").unwrap();
    write(&mut fx, handle, b"7");
    assert_eq!(fs::read(fx.host("f")).unwrap(), b"1234567");
}

#[test]
fn a_handle_does_only_what_it_was_opened_for() {
    let mut fx = Fixture::new(&[], |dir| fs::write(dir.join("f"), "123").unwrap());
    let reader = fx.open("f", OpenFlags { write: false, create: false, ..RW }).unwrap();
    let bytes = Bytes::new(b"x".to_vec()).unwrap();
    assert_eq!(denied_by(fx.ask(FsCall::Write { file: reader, bytes })), "grant[0]");
    assert_eq!(denied_by(fx.ask(FsCall::SetLen { file: reader, len: 0 })), "grant[0]");
    let writer = fx.open("f", OpenFlags { read: false, ..RW }).unwrap();
    assert_eq!(code(fx.ask(FsCall::Read { file: writer, max_bytes: 1 })), ErrorCode::InvalidArgument);
    assert_eq!(code(fx.ask(FsCall::Read { file: 99, max_bytes: 1 })), ErrorCode::NotFound);
}

#[test]
fn handles_are_limited_and_close_gives_room() {
    let mut fx = Fixture::new(&[], |dir| fs::write(dir.join("f"), "1").unwrap());
    let flags = OpenFlags { write: false, create: false, ..RW };
    let handles: Vec<u32> = (0..HANDLES_MAX).map(|_| fx.open("f", flags).unwrap()).collect();
    assert_eq!(code(fx.open("f", flags)), ErrorCode::Limit);
    assert_eq!(code(fx.ask(FsCall::OpenDir { target: at("") })), ErrorCode::Limit);
    fx.ask(FsCall::Close { handle: handles[0] }).unwrap();
    fx.open("f", flags).unwrap();
}
