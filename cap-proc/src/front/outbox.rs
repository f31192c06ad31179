//! Frames on their way to the broker: queued where its socket has no room, so that no wait is anywhere but in poll.

use bincode::Encode;
use std::collections::VecDeque;
use warden_proto::blob::{self, Body};
use warden_proto::codec::CodecError;
use warden_proto::frame::pack;
use warden_proto::limits::{BLOB_MAX_BYTES, INLINE_MAX_BYTES};
use warden_proto::{Bytes, FrameSocket, Kind, SocketError};

/// Over so many queued bytes no more calls are taken: a broker that does not read is not served either (T-06).
const QUEUED_MAX_BYTES: usize = 4 * BLOB_MAX_BYTES;
/// Bytes that a reply takes besides its payloads, generously.
const REPLY_SPARE_BYTES: usize = 8 * 1024;

/// The queue.
#[derive(Debug, Default)]
pub struct Outbox {
    packets: VecDeque<Vec<u8>>,
    queued_bytes: usize,
    next_blob: u32,
}

impl Outbox {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Whether calls may be taken.
    pub fn has_room(&self) -> bool {
        self.queued_bytes < QUEUED_MAX_BYTES
    }

    /// Queues one frame.
    pub fn push<T: Encode>(&mut self, kind: Kind, request: u32, body: &T) -> Result<(), CodecError> {
        let mut packet = Vec::new();
        pack(kind, request, body, &mut packet)?;
        self.queued_bytes = self.queued_bytes.saturating_add(packet.len());
        self.packets.push_back(packet);
        Ok(())
    }

    /// Makes bodies of the payloads of one reply, queueing ahead what has no room in its frame. Each is at most what
    /// the broker has asked for, and it has said that it holds as much.
    pub fn bodies(&mut self, payloads: [Vec<u8>; 2]) -> Result<[Body; 2], CodecError> {
        let mut inline_left = INLINE_MAX_BYTES.saturating_sub(REPLY_SPARE_BYTES);
        let [first, second] = payloads;
        Ok([self.body(first, &mut inline_left)?, self.body(second, &mut inline_left)?])
    }

    fn body(&mut self, bytes: Vec<u8>, inline_left: &mut usize) -> Result<Body, CodecError> {
        let too_long = |e: warden_proto::bounded::TooLong| {
            CodecError::Encode(bincode::error::EncodeError::OtherString(e.to_string()))
        };
        if let Some(left) = inline_left.checked_sub(bytes.len()) {
            *inline_left = left;
            return Ok(Body::Inline { bytes: Bytes::new(bytes).map_err(too_long)? });
        }
        self.next_blob = self.next_blob.wrapping_add(1);
        let blob = self.next_blob;
        for part in blob::parts(blob, &bytes) {
            self.push(Kind::Part, 0, &part.map_err(too_long)?)?;
        }
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        Ok(Body::Sent { blob, len })
    }

    /// Sends what the socket has room for.
    pub fn flush(&mut self, link: &FrameSocket) -> Result<(), SocketError> {
        while let Some(packet) = self.packets.front() {
            match link.send_packet(packet, &[], false) {
                Ok(()) => {
                    self.queued_bytes = self.queued_bytes.saturating_sub(packet.len());
                    self.packets.pop_front();
                }
                Err(SocketError::WouldBlock) => return Ok(()),
                Err(other) => return Err(other),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_payloads_travel_in_the_reply_and_long_ones_ahead_of_it() {
        let mut outbox = Outbox::default();
        let bodies = outbox.bodies([vec![1; 100], vec![2; 200_000]]).unwrap();
        assert!(matches!(bodies, [Body::Inline { .. }, Body::Sent { len: 200_000, .. }]));
        assert_eq!(outbox.packets.len(), 4);
    }

    #[test]
    fn two_payloads_share_the_room_of_one_frame() {
        let mut outbox = Outbox::default();
        let bodies = outbox.bodies([vec![1; 40_000], vec![2; 40_000]]).unwrap();
        assert!(matches!(bodies, [Body::Inline { .. }, Body::Sent { .. }]));
    }
}
