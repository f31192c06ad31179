//! Hostile peers: every frame that a jailed process could send and must not ends that process and no other (T-05).
//!
//! Twice: the broker's end of a link driven by a raw socket, and a live task whose own link is taken from its worker and
//! its helper and used against the broker, as a worker whose guest has escaped would.

mod link;
mod taken_over;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd};
use warden_proto::blob::Part;
use warden_proto::limits::{FRAME_MAX_BYTES, INLINE_MAX_BYTES};
use warden_proto::{Bytes, Kind, codec};

fn packet(version: u16, kind: u16, request: u32, body: &[u8]) -> Vec<u8> {
    [&version.to_le_bytes()[..], &kind.to_le_bytes(), &request.to_le_bytes(), body].concat()
}

fn frame(kind: Kind, request: u32, body: &[u8]) -> Vec<u8> {
    packet(1, kind.to_wire(), request, body)
}

fn part(blob: u32, len: usize) -> Vec<u8> {
    let part = Part { blob, bytes: Bytes::new(vec![7; len]).expect("it fits") };
    frame(Kind::Part, 0, &codec::encode(&part).expect("it encodes"))
}

/// Sends a packet as it is, with descriptors, waiting for room; a link that is closed takes nothing more.
fn hurl(fd: &OwnedFd, bytes: &[u8], descriptors: &[i32]) {
    let rights = [ControlMessage::ScmRights(descriptors)];
    let control: &[ControlMessage<'_>] = if descriptors.is_empty() { &[] } else { &rights };
    let _ = sendmsg::<()>(fd.as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None);
}

/// Packets of a peer that waits for its first call, each with why it is none of a well-behaved one.
fn hostile() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let reply = |body: &[u8]| frame(Kind::Reply, 1, body);
    let mut all: Vec<(&'static str, Vec<Vec<u8>>)> = vec![
        ("one byte", vec![vec![0]]),
        ("seven bytes", vec![vec![1, 0, 5, 0, 0, 0, 0]]),
        ("garbage", vec![vec![0xff; 64]]),
        ("text", vec![b"GET / HTTP/1.1\r\n\r\n".to_vec()]),
        ("version 0", vec![packet(0, 6, 1, &[0])]),
        ("version 2", vec![packet(2, 6, 1, &[0])]),
        ("version 65535", vec![packet(u16::MAX, 6, 1, &[0])]),
        ("kind 0", vec![packet(1, 0, 1, &[0])]),
        ("kind 11", vec![packet(1, 11, 1, &[0])]),
        ("kind 65535", vec![packet(1, u16::MAX, 1, &[0])]),
        ("a packet longer than a frame", vec![vec![1; FRAME_MAX_BYTES + 1]]),
        ("a hello after the start", vec![frame(Kind::Hello, 0, &[0; 36])]),
        ("a setup", vec![frame(Kind::Setup, 0, &[0; 40])]),
        ("a second locked", vec![frame(Kind::Locked, 0, &[0; 16])]),
        ("a cancel", vec![frame(Kind::Cancel, 1, &[])]),
        ("a call of a helper's", vec![frame(Kind::Call, 1, &[0; 4])]),
        ("output of a helper's", vec![frame(Kind::Output, 0, &[0; 4])]),
        ("a finish of a helper's", vec![frame(Kind::Finish, 0, &[0; 4])]),
        ("a goodbye", vec![frame(Kind::Goodbye, 0, &[])]),
        ("a reply to nobody", vec![frame(Kind::Reply, 2, &[0; 4])]),
        ("a reply to request 0", vec![frame(Kind::Reply, 0, &[0; 4])]),
        ("a reply to the last request there can be", vec![frame(Kind::Reply, u32::MAX, &[0; 4])]),
        ("an empty reply", vec![reply(&[])]),
        ("a reply cut short", vec![reply(&[3, 0, 0])]),
        ("a reply with bytes behind it", vec![reply(&[4, 0, 0, 0, 0, 0, 0, 0, b'a', b'b', b'c', b'd', b'e'])]),
        ("a length of 2^64 - 1", vec![reply(&[0xff; 8])]),
        ("a length of 2^40", vec![reply(&(1_u64 << 40).to_le_bytes())]),
        ("a length beyond the bound", vec![reply(&[&65_u64.to_le_bytes()[..], &[b'a'; 65]].concat())]),
        ("text that is no UTF-8", vec![reply(&[&2_u64.to_le_bytes()[..], &[0xc3, 0x28]].concat())]),
        ("a part that is none", vec![frame(Kind::Part, 0, &[1, 2, 3])]),
        (
            "a part with a length of its own",
            vec![frame(Kind::Part, 0, &[&1_u32.to_le_bytes()[..], &[0xff; 8]].concat())],
        ),
        ("five payloads at once", (0..5).map(|blob| part(blob, 1)).collect()),
    ];
    let too_much = (1 << 20) / INLINE_MAX_BYTES + 1;
    all.push(("more than a mebibyte in parts", (0..too_much).map(|_| part(1, INLINE_MAX_BYTES)).collect()));
    all
}
