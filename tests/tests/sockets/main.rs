//! Sockets of a command (T-07): what answers the user's uid by a path or an abstract name, the host's network, and every
//! other family, each tried by a real program under a real keeper, and beside it by the same program outside.

mod clients;
mod families;
mod probe;
mod servers;

use probe::Probe;
use servers::Servers;

/// The user's bus, an agent of keys, a container daemon: a path is all it takes to ask them.
#[test]
fn a_command_reaches_no_server_by_a_path_or_a_name_and_a_program_outside_does() {
    let probe = Probe::new();
    let servers = Servers::bind(&probe.place);
    let mut tries = Vec::new();
    for (kind, address) in servers.addresses() {
        // A socket of its own, and the two that a command can have, led elsewhere.
        tries.push((format!("made({kind}).connect({address})"), "EACCES"));
        tries.push((format!("pair(STREAM).connect({address})"), "EACCES"));
        tries.push((format!("pair(SEQPACKET).connect({address})"), "EACCES"));
        tries.push((format!("pair(STREAM).sendto(b'x', {address})"), "EACCES"));
        tries.push((format!("pair(SEQPACKET).sendmsg([b'x'], [], 0, {address})"), "EACCES"));
    }
    probe.inside(&tries);
    assert!(servers.nobody_came(), "somebody was asked");
    let controls: Vec<_> =
        servers.addresses().map(|(kind, address)| (format!("made({kind}).connect({address})"), "ok")).collect();
    probe.outside(&controls);
    assert!(servers.everybody_came(), "control: the same line reaches each of them outside");
}

/// A pair that speaks to itself is all there is; a datagram pair could be led elsewhere, by connect or by each packet.
#[test]
fn a_pair_speaks_to_itself_and_to_nobody_else() {
    let probe = Probe::new();
    let servers = Servers::bind(&probe.place);
    let pairs = [
        ("pair(STREAM)", "ok"),
        ("pair(SEQPACKET)", "ok"),
        ("pair(STREAM).send(b'x')", "ok"),
        ("pair(STREAM | socket.SOCK_NONBLOCK).send(b'x')", "ok"),
        ("spoken(STREAM)", "ok"),
        ("spoken(SEQPACKET)", "ok"),
        ("pair(DGRAM)", "EACCES"),
        ("pair(DGRAM | socket.SOCK_CLOEXEC)", "EACCES"),
        // To the kernel a raw pair is a datagram pair.
        ("pair(socket.SOCK_RAW)", "EACCES"),
        ("pair(STREAM).bind('made')", "EACCES"),
        ("pair(STREAM).bind('\\0warden-test-made')", "EACCES"),
        ("pair(STREAM).bind('')", "EACCES"),
        ("pair(STREAM).listen()", "EACCES"),
        ("pair(STREAM).sendmsg([b'x'])", "EACCES"),
        ("pair(STREAM).sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack('i', 0))])", "EACCES"),
        ("pair(STREAM).setsockopt(socket.SOL_SOCKET, 26, filter_of_one())", "EPERM"),
        ("pair(STREAM).setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)", "ok"),
    ];
    probe.inside(&pairs);
    assert!(!probe.place.path("work/made").exists());
    let outside = [
        ("pair(DGRAM)", "ok"),
        ("pair(socket.SOCK_RAW)", "ok"),
        ("pair(STREAM).sendmsg([b'x'])", "ok"),
        ("pair(STREAM).sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack('i', 0))])", "ok"),
        ("pair(STREAM).setsockopt(socket.SOL_SOCKET, 26, filter_of_one())", "ok"),
        ("made(STREAM).bind('\\0warden-test-made')", "ok"),
    ];
    probe.outside(&outside);
    let datagram = servers.datagram();
    probe.outside(&[
        (format!("pair(DGRAM).connect({datagram})"), "ok"),
        (format!("pair(DGRAM).sendto(b'x', {datagram})"), "EISCONN|ok"),
    ]);
}

/// What could make or lead a socket without the call that is refused.
#[test]
fn no_other_way_leads_to_a_socket() {
    let probe = Probe::new();
    let servers = Servers::bind(&probe.place);
    let path = servers.in_workspace();
    let tries = [
        // io_uring has operations of its own for socket and connect.
        ("raw(425, 8, 0)".to_owned(), "ENOSYS"),
        (format!("os.open({path}, os.O_RDWR)"), "ENXIO|EACCES"),
        ("os.open(f'/proc/self/fd/{pair(STREAM).fileno()}', os.O_RDWR)".to_owned(), "ENXIO|EACCES|ENOENT"),
        ("open('/dev/vsock')".to_owned(), "EACCES|ENOENT"),
        ("open('/dev/net/tun', 'r+b')".to_owned(), "EACCES|ENOENT"),
        // A descriptor of a process outside that holds a socket.
        (format!("raw(438, raw(434, {}, 0), 0, 0)", std::process::id()), "EPERM|ESRCH"),
    ];
    probe.inside(&tries);
    assert!(servers.nobody_came());
    // None of what it was given is a socket.
    let held = "[os.readlink(f'/proc/self/fd/{n}').split(':')[0] for n in range(3)]".to_owned();
    probe.says(&[(held, "['/dev/null', 'pipe', 'pipe']")]);
}
