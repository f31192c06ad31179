//! The broker's end of a link, driven by a raw socket.

use crate::{frame, hostile, hurl, packet, part};
use std::time::{Duration, Instant};
use tokio::time::Instant as Moment;
use warden_proto::blob::Part;
use warden_proto::limits::{BODY_MAX_BYTES, FRAME_MAX_BYTES};
use warden_proto::msg::worker::WorkerCall;
use warden_proto::{FrameSocket, Kind, codec, socket};
use wasi_warden::peer::{Peer, PeerError};

/// A text of at most 64 bytes stands for any reply here.
type Answer = warden_proto::Text<64>;

/// One call, as a task makes it.
async fn call(peer: &mut Peer, patience: Duration) -> Result<Answer, PeerError> {
    let deadline = Moment::now() + patience;
    let request = peer.begin_call(&7_u32, deadline).await?;
    tokio::time::timeout_at(deadline, peer.reply::<Answer>(request)).await.map_err(|_| PeerError::Silent)?
}

/// Asks a peer that sends `packets` and then ends.
async fn asked(packets: &[Vec<u8>], descriptors: &[i32]) -> Result<Answer, PeerError> {
    let (ours, theirs) = socket::pair().expect("a pair");
    let mut peer = Peer::new(ours)?;
    let (packets, descriptors) = (packets.to_vec(), descriptors.to_vec());
    let sender = std::thread::spawn(move || {
        packets.iter().for_each(|packet| hurl(&theirs, packet, &descriptors));
        // The call must find somebody there, so that it is the packets that are judged.
        std::thread::sleep(Duration::from_millis(20));
    });
    let answer = call(&mut peer, Duration::from_secs(2)).await;
    drop(peer);
    sender.join().expect("the sender ends");
    answer
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(future)
}

fn good_reply() -> Vec<u8> {
    frame(Kind::Reply, 1, &codec::encode(&Answer::new("fine").unwrap()).unwrap())
}

#[test]
fn every_hostile_frame_is_refused_and_no_other_peer_suffers() {
    let table = hostile();
    assert!(table.len() >= 30);
    block_on(async {
        for (what, packets) in &table {
            let refused = asked(packets, &[]).await;
            assert!(matches!(refused, Err(PeerError::Refused(_))), "{what}: {refused:?}");
            // The control, each time: a peer that behaves is answered.
            let fine = asked(&[good_reply()], &[]).await;
            assert_eq!(fine.expect("a good reply").as_str(), "fine", "after {what}");
        }
    });
}

#[test]
fn descriptors_that_were_not_asked_for_are_refused_and_closed() {
    block_on(async {
        let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let before = open();
        for count in [1, 2, 16, 64] {
            let refused = asked(&[good_reply()], &vec![0; count]).await;
            assert!(matches!(refused, Err(PeerError::Refused(_))), "{count}: {refused:?}");
        }
        // Other tests of this program open and close theirs meanwhile; a leak of 83 would be seen.
        assert!(open() < before + 60, "{} and {before}", open());
    });
}

#[test]
fn a_silent_peer_and_one_that_is_gone_are_told_apart() {
    block_on(async {
        let gone = asked(&[], &[]).await;
        assert!(matches!(gone, Err(PeerError::Gone)), "{gone:?}");
        let (ours, theirs) = socket::pair().unwrap();
        let mut peer = Peer::new(ours).unwrap();
        let silent = call(&mut peer, Duration::from_millis(50)).await;
        assert!(matches!(silent, Err(PeerError::Silent)), "{silent:?}");
        // Parts for ever are no answer either: the bound ends them, or the clock.
        hurl(&theirs, &part(1, 1), &[]);
        let silent = call(&mut peer, Duration::from_millis(50)).await;
        assert!(matches!(silent, Err(PeerError::Silent)), "{silent:?}");
    });
}

/// A peer that does not read is not waited for without end.
#[test]
fn a_peer_that_does_not_read_is_stuck() {
    block_on(async {
        let (ours, _theirs) = socket::pair().unwrap();
        let mut peer = Peer::new(ours).unwrap();
        let body = vec![0_u8; 900_000];
        let mut outcome = Ok(());
        let began = Instant::now();
        for _ in 0..16 {
            let deadline = Moment::now() + Duration::from_millis(100);
            if let Err(error) = peer.place(body.clone(), 0, deadline).await {
                outcome = Err(error);
                break;
            }
        }
        assert!(matches!(outcome, Err(PeerError::Stuck)), "{outcome:?}");
        assert!(began.elapsed() < Duration::from_secs(5));
    });
}

/// A small generator: the same numbers in every run, so that a failure can be found again.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

/// A hundred thousand packets, random and nearly right: each is a frame or refused, and nothing panics or grows.
#[test]
fn a_hundred_thousand_random_frames_do_no_harm() {
    use warden_proto::msg::worker::{Finish, Output};
    let (ours, theirs) = socket::pair().unwrap();
    let mut link = FrameSocket::new(ours);
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let (mut frames, mut refused, mut decoded) = (0, 0, 0);
    for turn in 0..100_000_u32 {
        let len = (numbers.next() % 96) as usize;
        let body = numbers.bytes(len);
        let bytes = match turn % 4 {
            // At least one byte: an empty packet is the end of a link.
            0 => [body, vec![1]].concat(),
            1 => packet(1, (numbers.next() % 12) as u16, turn, &body),
            // Small numbers are where tags and lengths lie.
            2 => frame(Kind::Call, turn, &body.iter().map(|byte| byte % 5).collect::<Vec<u8>>()),
            _ => frame(Kind::Output, turn, &body.iter().map(|byte| byte % 3).collect::<Vec<u8>>()),
        };
        hurl(&theirs, &bytes, &[]);
        match link.try_receive(0) {
            Ok(frame) => {
                frames += 1;
                decoded += u32::from(frame.decode::<WorkerCall>().is_ok());
                decoded += u32::from(frame.decode::<Output>().is_ok());
                decoded += u32::from(frame.decode::<Finish>().is_ok());
                let _ = frame.decode::<Part>();
            }
            Err(_) => refused += 1,
        }
    }
    assert_eq!(frames + refused, 100_000);
    assert!(frames > 50_000 && refused > 10_000 && decoded > 0, "{frames} {refused} {decoded}");
    const { assert!(BODY_MAX_BYTES < FRAME_MAX_BYTES) };
}
