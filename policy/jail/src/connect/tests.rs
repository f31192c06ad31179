//! What a connect's words mean, and what passes for a connection.

use super::*;

fn v4(family: u16, rest: &[u8]) -> Vec<u8> {
    [family.to_ne_bytes().as_slice(), rest].concat()
}

#[test]
fn an_address_is_read_whole_or_not_at_all() {
    let full = v4(2, &[0x01, 0xbb, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(address(Family::V4, &full), Ok("127.0.0.1:443".parse().expect("an address")));
    assert_eq!(address(Family::V4, &full[..15]), Err(Errno::EINVAL));
    assert_eq!(address(Family::V6, &full), Err(Errno::EAFNOSUPPORT));
    let mut six = v4(10, &[0, 80]);
    six.resize(23, 0);
    assert_eq!(address(Family::V6, &six), Err(Errno::EINVAL));
    six.push(1);
    assert_eq!(address(Family::V6, &six), Ok("[::1]:80".parse().expect("an address")));
    assert_eq!(address(Family::V4, &six), Err(Errno::EAFNOSUPPORT));
    assert_eq!(address(Family::V4, &[0, 0]), Err(Errno::EACCES), "AF_UNSPEC takes a connection back");
    assert_eq!(address(Family::V4, &v4(1, b"/run/bus")), Err(Errno::EAFNOSUPPORT));
}

#[test]
fn only_tcp_with_a_peer_is_a_connection() {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::UnixStream;
    let server = TcpListener::bind("127.0.0.1:0").expect("listens");
    let client = TcpStream::connect(server.local_addr().expect("an address")).expect("connects");
    assert!(is_connection(client.as_fd()));
    assert!(!is_connection(server.as_fd()), "nobody is at its other end");
    let datagrams = UdpSocket::bind("127.0.0.1:0").expect("binds");
    datagrams.connect(server.local_addr().expect("an address")).expect("connects");
    assert!(!is_connection(datagrams.as_fd()));
    let (pair, _other) = UnixStream::pair().expect("a pair");
    assert!(!is_connection(pair.as_fd()));
    assert!(!is_connection(File::open("/dev/null").expect("opens").as_fd()));
}

#[test]
fn what_a_thread_has_under_a_number_is_told_by_the_kernel() {
    let own = std::process::id();
    let server = std::net::TcpListener::bind("127.0.0.1:0").expect("listens");
    let found = socket_of(own, server.as_raw_fd()).expect("is one");
    assert_eq!(found, (Family::V4, socket_number(server.as_fd()).expect("has a number")));
    assert!(flags_of(own, server.as_raw_fd()).expect("has flags").contains(OFlag::O_CLOEXEC));
    server.set_nonblocking(true).expect("sets");
    assert!(flags_of(own, server.as_raw_fd()).expect("has flags").contains(OFlag::O_NONBLOCK));
    let (pair, _other) = std::os::unix::net::UnixStream::pair().expect("a pair");
    assert_eq!(socket_of(own, pair.as_raw_fd()), Err(Errno::EACCES));
    let file = File::open("/dev/null").expect("opens");
    assert_eq!(socket_of(own, file.as_raw_fd()), Err(Errno::ENOTSOCK));
    assert_eq!(socket_of(own, 1 << 20), Err(Errno::EBADF));
    assert_eq!(socket_of(own, -1), Err(Errno::EBADF));
}
