//! A command whose rule names hosts: TCP, connected by others, and nothing else (T-07).

use crate::provider::{Provider, Reply, Server};
use crate::support::*;
use std::time::{Duration, Instant};
use warden_proto::msg::connect::{ConnectAddress, ConnectRefusal};
use warden_proto::msg::error::ErrorCode;

/// What each line may use; `t` prints `ok` or an errno's name.
const PRELUDE: &str = "import ctypes, errno, fcntl, os, socket, struct, sys, threading, time\n\
    TCP, V6 = socket.SOCK_STREAM, socket.AF_INET6\n\
    libc = ctypes.CDLL(None, use_errno=True)\n\
    def raw(n, *args):\n  a = libc.syscall(ctypes.c_long(n), *[ctypes.c_long(x) for x in args])\n\
    \x20 if a < 0: raise OSError(ctypes.get_errno(), 'refused')\n  return a\n\
    def t(f):\n  try: f(); return 'ok'\n  except OSError as e: return errno.errorcode.get(e.errno, str(e))\n\
    def new(family=socket.AF_INET): return socket.socket(family, TCP)\n\
    def said(s):\n  s.sendall(b'hello'); return s.recv(9).decode()\n";

/// Its Python has hosts and its shell has none.
fn helper(provider: Option<std::os::fd::OwnedFd>) -> Helper {
    Helper::with(Options { network: vec![PYTHON], provider, ..Options::default() })
}

fn printed(helper: &mut Helper, code: &str) -> String {
    helper.python(&format!("{PRELUDE}{code}"))
}

fn outside(code: &str) -> String {
    let ran =
        std::process::Command::new("/usr/bin/python3").args(["-c", &format!("{PRELUDE}{code}")]).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8_lossy(&ran.stdout).trim_end().to_owned()
}

#[test]
fn a_connect_leads_where_the_provider_says_whatever_was_asked() {
    let (provider, lane) = Provider::that(Reply::Connection);
    let trap = Server::echo();
    let mut helper = helper(Some(lane));
    let code = format!(
        "for family, at in ((socket.AF_INET, ('203.0.113.7', 443)), (V6, ('2001:db8::1', 80)), (socket.AF_INET, ('127.0.0.1', {}))):\n\
         \x20 s = new(family); s.connect(at); print(said(s), s.getpeername()[1])",
        trap.port
    );
    let own = provider.server.port;
    assert_eq!(printed(&mut helper, &code), format!("hello {own}\nhello {own}\nhello {own}"));
    assert_eq!((trap.came(), provider.server.came(), provider.given()), (0, 3, 3));
    let v4 = |address, port| ConnectAddress::V4 { address, port };
    let mut six = [0; 16];
    (six[0], six[1], six[2], six[3], six[15]) = (0x20, 0x01, 0x0d, 0xb8, 1);
    let six = ConnectAddress::V6 { address: six, port: 80 };
    assert_eq!(*provider.asked.lock().unwrap(), [v4([203, 0, 113, 7], 443), six, v4([127, 0, 0, 1], trap.port)]);
    assert_eq!(provider.lanes.lock().unwrap()[0].command, PYTHON);
}

#[test]
fn flags_of_the_descriptor_stay_and_another_name_of_it_does_not_follow() {
    let (provider, lane) = Provider::that(Reply::Connection);
    let mut helper = helper(Some(lane));
    let flags = "for wait in (True, False):\n  for inherit in (True, False):\n\
        \x20   s = new(); s.setblocking(wait); s.set_inheritable(inherit); n = s.fileno()\n\
        \x20   before = fcntl.fcntl(n, fcntl.F_GETFL), fcntl.fcntl(n, fcntl.F_GETFD)\n\
        \x20   print(s.connect_ex(('192.0.2.1', 1)), before == (fcntl.fcntl(n, fcntl.F_GETFL), fcntl.fcntl(n, fcntl.F_GETFD)))";
    assert_eq!(printed(&mut helper, flags), ["0 True"; 4].join("\n"));
    let twice = "s = new(); d = s.dup(); at = ('192.0.2.1', 1); s.connect(at); n = s.dup()\n\
        print(t(lambda: s.connect(at)), t(lambda: n.connect(at)), t(d.getpeername), t(lambda: d.connect(at)), said(d), said(n))";
    assert_eq!(printed(&mut helper, twice), "EISCONN EISCONN ENOTCONN ok hello hello");
    // A child has its own table, and a number in it means its own socket.
    let fork = "a, s = new(), new(); n = s.fileno()\nif os.fork() == 0:\n\
        \x20 p, q = os.pipe(); os.dup2(p, n); print(t(lambda: s.connect(('192.0.2.1', 1))), t(lambda: a.connect(('192.0.2.1', 1))), flush=True); os._exit(0)\n\
        os.wait(); s.connect(('192.0.2.1', 1)); print(said(s), t(a.getpeername))";
    assert_eq!(printed(&mut helper, fork), "ENOTSOCK ok\nhello ENOTCONN");
    assert_eq!(provider.server.came(), provider.given());
}

/// A line, the answer of a command with hosts, and that of a program outside, where it shows that the line works.
const ANSWERS: [(&str, &str, &str); 27] = [
    ("socket.socket(socket.AF_INET, TCP)", "ok", "ok"),
    ("socket.socket(socket.AF_INET, TCP, socket.IPPROTO_TCP)", "ok", "ok"),
    ("socket.socket(V6, TCP | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)", "ok", "ok"),
    ("socket.socket(socket.AF_INET, socket.SOCK_DGRAM)", "EACCES", "ok"),
    ("socket.socket(V6, socket.SOCK_DGRAM)", "EACCES", "ok"),
    ("socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)", "EACCES", ""),
    ("socket.socket(socket.AF_INET, TCP, 262)", "EACCES", ""),
    ("socket.socket(socket.AF_INET, TCP, 132)", "EACCES", ""),
    ("raw(41, 2, 1, 6 | 1 << 32)", "ok", "ok"),
    ("socket.socket(socket.AF_UNIX)", "EACCES", "ok"),
    ("socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)", "EACCES", "ok"),
    ("new().bind(('127.0.0.1', 0))", "EACCES", "ok"),
    ("new().listen()", "EACCES", "ok"),
    ("new().sendto(b'x', ('127.0.0.1', {port}))", "EACCES", "EPIPE|BrokenPipe"),
    // TCP fast open connects without connect.
    ("new().sendto(b'x', 0x20000000, ('127.0.0.1', {port}))", "EACCES", "ok"),
    ("new().send(b'x', 0x20000000)", "EACCES", ""),
    ("new().sendmsg([b'x'], [], 0x20000000, ('127.0.0.1', {port}))", "EACCES", "ok"),
    ("new().setsockopt(6, 31, b'tls')", "EPERM", ""),
    ("new().setsockopt(6, socket.TCP_NODELAY, 1)", "ok", "ok"),
    // Taking a connection back.
    ("raw(42, new().detach(), id(buf) and at(struct.pack('HHI8x', 0, 0, 0)), 16)", "EACCES", "ok"),
    ("raw(42, new().detach(), at(struct.pack('HHI8x', 10, 0, 0)), 16)", "EAFNOSUPPORT", "EAFNOSUPPORT"),
    ("raw(42, new().detach(), at(struct.pack('HHI8x', 2, 0, 0)), 15)", "EINVAL", "EINVAL"),
    ("raw(42, new().detach(), at(struct.pack('HHI8x', 2, 0, 0)), -1)", "EINVAL", "EINVAL"),
    ("raw(42, new().detach(), 8, 16)", "EFAULT", "EFAULT"),
    ("raw(42, 999, at(struct.pack('HHI8x', 2, 0, 0)), 16)", "EBADF", "EBADF"),
    ("raw(42, os.pipe()[0], at(struct.pack('HHI8x', 2, 0, 0)), 16)", "ENOTSOCK", "ENOTSOCK"),
    ("socket.socketpair()[0].connect('/run/bus')", "EACCES", "ENOENT|EISCONN|EINVAL"),
];

#[test]
fn a_command_with_hosts_has_tcp_and_nothing_else() {
    let (provider, lane) = Provider::that(Reply::Connection);
    let trap = Server::echo();
    let mut helper = helper(Some(lane));
    let setup = "kept = []\nbuf = 1\ndef at(b):\n  kept.append(ctypes.create_string_buffer(b, len(b))); return ctypes.addressof(kept[-1])\n";
    let lines: String = ANSWERS
        .iter()
        .map(|(line, ..)| format!("print(t(lambda: {}))\n", line.replace("{port}", &trap.port.to_string())))
        .collect();
    let code = format!("{setup}{lines}");
    let inside = printed(&mut helper, &code);
    for ((line, wanted, _), found) in ANSWERS.iter().zip(inside.lines()) {
        assert!(wanted.split('|').any(|each| each == found), "{line}: {found}");
    }
    assert_eq!((trap.came(), provider.given()), (0, 0), "nothing was connected");
    for ((line, _, wanted), found) in ANSWERS.iter().zip(outside(&code).lines()) {
        assert!(wanted.is_empty() || wanted.split('|').any(|each| each == found), "control: {line}: {found}");
    }
    assert!(trap.came() > 0, "control: the same lines reach it outside");
}

#[test]
fn a_command_without_hosts_or_without_a_provider_has_no_network() {
    let (_provider, lane) = Provider::that(Reply::Connection);
    let mut with = helper(Some(lane));
    let line = "exec /usr/bin/python3 -c 'import socket; socket.socket()' 2>&1 | grep -o 'Permission denied'";
    let ran = with.run(command(SH, &["-c", line])).unwrap();
    assert_eq!(ran.stdout, "Permission denied\n", "{ran:?}");
    assert_eq!(printed(&mut with, "print(t(new))"), "ok", "control");
    let mut without = helper(None);
    let error = without.run(command(PYTHON, &["-c", "1"])).unwrap_err();
    assert_eq!(error.code, ErrorCode::Unavailable, "{error:?}");
    assert_eq!(without.run(command(SH, &["-c", "echo runs"])).unwrap().stdout, "runs\n");
    // A provider that is gone: what it was asked by is refused, and the rest of the command goes on.
    let (_, lane) = Provider::that(Reply::Garbage);
    let mut broken = helper(Some(lane));
    let code = "for n in range(3): print(t(lambda: new().connect(('192.0.2.1', 1))))\nprint(os.system('true'))";
    assert_eq!(printed(&mut broken, code), "ECONNREFUSED\nECONNREFUSED\nECONNREFUSED\n0");
}

#[test]
fn what_is_no_connection_is_not_handed_on() {
    for (reply, errno) in [
        (Reply::Datagrams, "ECONNREFUSED"),
        (Reply::Unconnected, "ECONNREFUSED"),
        (Reply::NoDescriptor, "ECONNREFUSED"),
        (Reply::TwoDescriptors, "ECONNREFUSED"),
        (Reply::Stranger, "ok"),
        (Reply::Refusal(ConnectRefusal::Denied), "EACCES"),
        (Reply::Refusal(ConnectRefusal::Refused), "ECONNREFUSED"),
        (Reply::Refusal(ConnectRefusal::Unreachable), "ENETUNREACH"),
        (Reply::Refusal(ConnectRefusal::TimedOut), "ETIMEDOUT"),
    ] {
        let (_provider, lane) = Provider::that(reply);
        let mut helper = helper(Some(lane));
        let code = "s = new(); print(t(lambda: s.connect(('192.0.2.1', 1))), t(s.getpeername))";
        let peer = if errno == "ok" { "ok" } else { "ENOTCONN" };
        assert_eq!(printed(&mut helper, code), format!("{errno} {peer}"));
    }
}

/// The keeper goes on serving, and ends the wait.
#[test]
fn a_provider_that_is_silent_holds_up_nobody_but_the_connect() {
    let (provider, lane) = Provider::that(Reply::Silence);
    let mut helper = helper(Some(lane));
    let code = "said = []\nw = threading.Thread(target=lambda: said.append(t(lambda: new().connect(('192.0.2.1', 1))))); w.start()\n\
        time.sleep(0.3); began = time.monotonic()\n\
        for n in range(20): os.waitpid(os.posix_spawn('/bin/true', ['true'], {}), 0)\n\
        open('made', 'w').close(); os.chmod('made', 0o600); print(time.monotonic() - began < 5, said)\n\
        w.join(); print(said)";
    let began = Instant::now();
    assert_eq!(printed(&mut helper, code), "True []\n['ETIMEDOUT']");
    assert!(began.elapsed() > Duration::from_secs(8), "{:?}", began.elapsed());
    // Killed while it waits: its end is told at once.
    let process = helper
        .start(command(PYTHON, &["-c", &format!("{PRELUDE}print('up', flush=True); new().connect(('192.0.2.1', 1))")]));
    assert_eq!(helper.line(process), "up");
    wait_for("the ask", || provider.asked.lock().unwrap().len() > 1);
    let began = Instant::now();
    helper
        .call(&warden_proto::msg::proc::ProcCall::Signal {
            process,
            signal: warden_proto::msg::proc::ProcessSignal::Kill,
        })
        .unwrap();
    helper.wait(process);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[test]
fn a_storm_of_connects_is_bounded_and_ends() {
    let (provider, lane) = Provider::choosing(|_| {
        std::thread::sleep(Duration::from_millis(2));
        Reply::Connection
    });
    let mut helper = helper(Some(lane));
    let code = "from collections import Counter\nthreading.stack_size(1 << 18)\nfound = Counter()\ndef one():\n  for n in range(5): found[t(lambda: new().connect(('192.0.2.1', 1)))] += 1\n\
        ts = [threading.Thread(target=one) for n in range(150)]\n[x.start() for x in ts]; [x.join() for x in ts]\n\
        print(sum(found.values()), sorted(found))";
    let found = printed(&mut helper, code);
    assert!(found == "750 ['EAGAIN', 'ok']" || found == "750 ['ok']", "{found}");
    assert_eq!(provider.server.came(), provider.given());
    assert_eq!(printed(&mut helper, "s = new(); s.connect(('192.0.2.1', 1)); print(said(s))"), "hello");
}

/// A thread that puts other things under the number, and one that rewrites the address, while connects are judged.
#[test]
fn a_descriptor_and_an_address_that_change_under_the_look_win_nothing() {
    let (provider, lane) = Provider::that(Reply::Connection);
    let trap = Server::echo();
    let mut helper = helper(Some(lane));
    let code = format!(
        "wanted = struct.pack('>HI8x', {port}, 0x7f000001)\nv4 = struct.pack('H', 2) + wanted\nunix = struct.pack('H', 1) + b'/run/user/bus'\n\
         box = ctypes.create_string_buffer(v4, 16); at = ctypes.addressof(box)\nstop = []\nslot = new().detach(); p, q = os.pipe(); a, b = socket.socketpair()\n\
         def swap():\n  while not stop:\n    for other in (p, a.fileno(), fresh.fileno()): os.dup2(other, slot)\n\
         def rewrite():\n  while not stop:\n    ctypes.memmove(at, unix, 15); ctypes.memmove(at, b'\\0\\0', 2); ctypes.memmove(at, v4, 16)\n\
         fresh = new()\nts = [threading.Thread(target=f) for f in (swap, rewrite)]\n[x.start() for x in ts]\nfound = set()\n\
         for n in range(2000):\n  found.add(t(lambda: raw(42, slot, at, 16)))\n\
         stop.append(1); [x.join() for x in ts]\nprint(' '.join(sorted(found)))",
        port = trap.port
    );
    let found = printed(&mut helper, &code);
    for errno in found.split(' ') {
        let known = ["ok", "EACCES", "EAFNOSUPPORT", "ENOTSOCK", "EBADF", "EISCONN", "EINVAL"];
        assert!(known.contains(&errno), "{found}");
    }
    assert!(found.contains("ok") && found.contains(' '), "the race was run: {found}");
    assert_eq!(trap.came(), 0);
    assert_eq!(provider.server.came(), provider.given(), "every connection is one that was given");
}

/// By i386's gate, `socketcall` and `connect` kill.
#[test]
fn another_abi_connects_nothing() {
    let (provider, lane) = Provider::that(Reply::Connection);
    let mut helper = helper(Some(lane));
    for number in [102, 362] {
        let code = format!(
            "{PRELUDE}import mmap\nm = mmap.mmap(-1, 4096, prot=7)\nm.write(b'\\xb8' + struct.pack('I', {number}) + b'\\xcd\\x80\\xc3')\n\
             ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))()"
        );
        let ran = helper.run(command(PYTHON, &["-c", &code])).unwrap();
        assert_eq!(ran.exit.signal, Some(libc::SIGSYS), "{ran:?}");
    }
    let same = "import mmap\nm = mmap.mmap(-1, 4096, prot=7)\nm.write(b'\\xb8' + struct.pack('I', 39) + b'\\x0f\\x05\\xc3')\n\
        print(ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))() == os.getpid())";
    assert_eq!(printed(&mut helper, same), "True", "control: its own gate answers");
    assert_eq!(provider.given(), 0);
}
