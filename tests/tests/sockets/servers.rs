//! Servers of the test that answer anybody of this host: by paths in the workspace and beside it, and by abstract names.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use warden_tests::Place;

struct Server {
    socket: OwnedFd,
    kind: &'static str,
    /// As Python names it.
    address: String,
}

pub struct Servers(Vec<Server>);

impl Servers {
    /// Each kind by a path that the command may read and write, one beside its workspace, and an abstract name.
    pub fn bind(place: &Place) -> Servers {
        let mut servers = Vec::new();
        for (kind, ty) in
            [("STREAM", SockType::Stream), ("SEQPACKET", SockType::SeqPacket), ("DGRAM", SockType::Datagram)]
        {
            for folder in ["work", "run"] {
                let path = place.path(&format!("{folder}/bus-{kind}"));
                let socket = serve(ty, &UnixAddr::new(&path).expect("a short path"));
                // Whoever is refused is refused by the jail, not by the file's mode.
                std::fs::set_permissions(&path, PermissionsExt::from_mode(0o777)).expect("its mode");
                std::fs::set_permissions(place.path(folder), PermissionsExt::from_mode(0o755)).expect("its mode");
                servers.push(Server { socket, kind, address: text(&path) });
            }
            let name = format!("warden-test-{}-{kind}", place.path("").display());
            let socket = serve(ty, &UnixAddr::new_abstract(name.as_bytes()).expect("a short name"));
            servers.push(Server { socket, kind, address: format!("'\\0{name}'") });
        }
        Servers(servers)
    }

    /// Kind and address of each.
    pub fn addresses(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|server| (server.kind, server.address.as_str()))
    }

    pub fn datagram(&self) -> &str {
        self.addresses().find(|(kind, _)| *kind == "DGRAM").expect("there is one").1
    }

    pub fn in_workspace(&self) -> &str {
        self.addresses().next().expect("there is one").1
    }

    /// Nobody has connected, and no datagram has come.
    pub fn nobody_came(&self) -> bool {
        self.0.iter().all(|server| !server.was_asked())
    }

    /// Somebody has connected to each that can tell.
    pub fn everybody_came(&self) -> bool {
        // A connect to a datagram socket sends nothing.
        self.0.iter().filter(|server| server.kind != "DGRAM").all(Server::was_asked)
    }
}

impl Server {
    /// Whether a connection or a datagram waits.
    fn was_asked(&self) -> bool {
        let mut waits = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        poll(&mut waits, PollTimeout::ZERO).expect("polls") > 0
    }
}

fn serve(ty: SockType, address: &UnixAddr) -> OwnedFd {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let made = socket(AddressFamily::Unix, ty, flags, None).expect("a socket");
    bind(made.as_raw_fd(), address).expect("is bound");
    if ty != SockType::Datagram {
        listen(&made, Backlog::MAXCONN).expect("listens");
    }
    made
}

fn text(path: &Path) -> String {
    format!("{:?}", path.display().to_string())
}
