//! Whoever provides connections, in the tests: a thread that does with each ask what the test says, and servers that count.

use nix::sys::socket::MsgFlags;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use warden_proto::msg::connect::{ConnectAddress, ConnectAnswer, ConnectAsk, ConnectLane, ConnectRefusal};
use warden_proto::{FrameSocket, codec, socket, sys};

/// What becomes of an ask.
#[derive(Clone, Copy)]
pub enum Reply {
    /// A connection to the test's server.
    Connection,
    Refusal(ConnectRefusal),
    /// Nothing, ever.
    Silence,
    /// `Ok`, with what is no connection.
    Datagrams,
    Unconnected,
    NoDescriptor,
    TwoDescriptors,
    /// The right answer to an ask that was never made, and then to this one.
    Stranger,
    /// Bytes that are no answer.
    Garbage,
}

pub struct Provider {
    pub server: Server,
    pub asked: Arc<Mutex<Vec<ConnectAddress>>>,
    pub given: Arc<AtomicUsize>,
    pub lanes: Arc<Mutex<Vec<ConnectLane>>>,
}

impl Provider {
    /// A provider that does the same with every ask, and the runner's end of its lane.
    pub fn that(reply: Reply) -> (Provider, OwnedFd) {
        Self::choosing(move |_| reply)
    }

    /// One that looks at what was asked.
    pub fn choosing(choose: impl Fn(&ConnectAsk) -> Reply + Send + Sync + 'static) -> (Provider, OwnedFd) {
        let (ours, theirs) = socket::pair().unwrap();
        let server = Server::echo();
        let (asked, lanes) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        let given = Arc::new(AtomicUsize::new(0));
        let provider = Provider { server, asked, given, lanes };
        let (to, asked, given) = (provider.server.port, provider.asked.clone(), provider.given.clone());
        let (lanes, choose) = (provider.lanes.clone(), Arc::new(choose));
        std::thread::spawn(move || {
            while let Some((bytes, mut descriptors)) = receive(ours.as_fd()) {
                lanes.lock().unwrap().push(codec::decode(&bytes).unwrap());
                let lane = FrameSocket::new(descriptors.pop().unwrap());
                let (asked, given, choose) = (asked.clone(), given.clone(), choose.clone());
                std::thread::spawn(move || {
                    while let Some((bytes, _)) = receive(lane.as_fd()) {
                        let ask: ConnectAsk = codec::decode(&bytes).unwrap();
                        asked.lock().unwrap().push(ask.address);
                        answer(&lane, &ask, choose(&ask), to, &given);
                    }
                });
            }
        });
        (provider, theirs)
    }

    pub fn given(&self) -> usize {
        self.given.load(Ordering::SeqCst)
    }
}

fn receive(lane: BorrowedFd<'_>) -> Option<(Vec<u8>, Vec<OwnedFd>)> {
    let mut buffer = vec![0; 4096];
    let packet = sys::receive(lane, &mut buffer, MsgFlags::empty()).ok().filter(|packet| packet.len > 0)?;
    buffer.truncate(packet.len);
    Some((buffer, packet.descriptors))
}

fn answer(lane: &FrameSocket, ask: &ConnectAsk, reply: Reply, to: u16, given: &AtomicUsize) {
    let send = |request, result, descriptors: &[BorrowedFd<'_>]| {
        let packet = codec::encode(&ConnectAnswer { request, result }).unwrap();
        let _ = lane.send_packet(&packet, descriptors, true);
    };
    let connect = || {
        given.fetch_add(1, Ordering::SeqCst);
        TcpStream::connect(("127.0.0.1", to)).unwrap()
    };
    let request = ask.request;
    match reply {
        Reply::Connection => send(request, Ok(()), &[connect().as_fd()]),
        Reply::Refusal(why) => send(request, Err(why), &[]),
        Reply::Silence => {}
        Reply::Datagrams => {
            let made = UdpSocket::bind("127.0.0.1:0").unwrap();
            made.connect(("127.0.0.1", to)).unwrap();
            send(request, Ok(()), &[made.as_fd()]);
        }
        Reply::Unconnected => send(request, Ok(()), &[TcpListener::bind("127.0.0.1:0").unwrap().as_fd()]),
        Reply::NoDescriptor => send(request, Ok(()), &[]),
        Reply::TwoDescriptors => {
            let made = connect();
            send(request, Ok(()), &[made.as_fd(), made.as_fd()]);
        }
        Reply::Stranger => {
            let made = connect();
            send(request.wrapping_add(77), Ok(()), &[made.as_fd()]);
            send(request, Ok(()), &[made.as_fd()]);
        }
        Reply::Garbage => drop(lane.send_packet(b"?", &[], true)),
    }
}

/// A server on loopback that says back what it is told.
pub struct Server {
    pub port: u16,
    came: Arc<AtomicUsize>,
}

impl Server {
    pub fn echo() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, came) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
        let counted = came.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                counted.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || {
                    let _ = stream.set_read_timeout(Some(Duration::from_secs(30)));
                    let (mut from, mut to) = (&stream, &stream);
                    let _ = std::io::copy(&mut from, &mut to);
                });
            }
        });
        Server { port, came }
    }

    /// How many have connected.
    pub fn came(&self) -> usize {
        // Whoever connects is counted a moment later.
        std::thread::sleep(Duration::from_millis(50));
        self.came.load(Ordering::SeqCst)
    }
}
