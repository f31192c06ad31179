//! Every family and kind of socket(2) and socketpair(2), asked for by their numbers.

use crate::probe::Probe;

/// The newest family of Linux 6.18 is 45 (AF_MCTP); the rest are nobody's yet.
const FAMILIES: std::ops::Range<u32> = 0..64;

/// One line that asks for all families of one kind and prints the answers there are.
fn all(call: &str, kind: &str) -> String {
    let (first, end) = (FAMILIES.start, FAMILIES.end);
    format!("answers(lambda family: {call}(family, {kind}), range({first}, {end}))")
}

const KINDS: [&str; 7] = [
    "STREAM",
    "DGRAM",
    "SEQPACKET",
    "socket.SOCK_RAW",
    "socket.SOCK_RDM",
    "STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK",
    // The old packet socket, which needed no family of its own.
    "10",
];

#[test]
fn no_family_of_sockets_is_made_and_the_kernel_has_several() {
    let probe = Probe::new();
    let tries: Vec<_> = KINDS.iter().map(|kind| (all("made_raw", kind), "{'EACCES'}")).collect();
    probe.says(&tries);
    // Control: outside the same line makes some of them, and is told several reasons for others.
    let outside = probe.heard_outside(&[all("made_raw", "STREAM"), all("made_raw", "DGRAM")]);
    for answers in outside {
        assert!(answers.contains("'ok'") && answers.contains("'EAFNOSUPPORT'"), "{answers}");
    }
}

#[test]
fn named_families_are_refused_one_by_one() {
    let probe = Probe::new();
    let named = [
        "made_raw(socket.AF_INET, STREAM)",
        "made_raw(socket.AF_INET, DGRAM)",
        "made_raw(socket.AF_INET6, STREAM)",
        "made_raw(socket.AF_INET6, DGRAM)",
        "made_raw(socket.AF_NETLINK, socket.SOCK_RAW)",
        "made_raw(socket.AF_NETLINK, DGRAM)",
        "made_raw(socket.AF_PACKET, socket.SOCK_RAW)",
        "made_raw(socket.AF_VSOCK, STREAM)",
        "made_raw(socket.AF_ALG, SEQPACKET)",
        "made_raw(socket.AF_INET, STREAM, 262)", // MPTCP, which Landlock's rules of TCP do not mean
        "made_raw(socket.AF_INET, STREAM, 132)", // SCTP
        "made_raw(43, STREAM)",                  // SMC, which falls back on TCP
        "made_raw(44, socket.SOCK_RAW)",         // XDP
        "made_raw(socket.AF_INET, DGRAM, 1)",    // ping, which needs no right where groups may
        // High bits mean nothing to the kernel, and must not to the filter.
        "raw(41, 1 << 32 | 1, 1, 0)",
        "raw(41, 2, 1 << 32 | 1, 0)",
        "raw(53, 1 << 32 | 1, 2, 0, 0)",
    ];
    probe.inside(&named.map(|line| (line, "EACCES")));
    probe.outside(&[
        ("made_raw(socket.AF_INET, STREAM)", "ok"),
        ("made_raw(socket.AF_INET6, DGRAM)", "ok"),
        ("made_raw(socket.AF_NETLINK, socket.SOCK_RAW)", "ok"),
        ("raw(41, 1 << 32 | 1, 1, 0)", "ok"),
    ]);
}

/// socketpair makes pairs of AF_UNIX; of another family that could one day make them, none.
#[test]
fn pairs_are_of_one_family() {
    let probe = Probe::new();
    let others = "answers(lambda family: pair_raw(family, STREAM), [n for n in range(64) if n != 1])".to_owned();
    let unix = "answers(lambda family: pair_raw(family, STREAM), [1])".to_owned();
    probe.says(&[(others.clone(), "{'EACCES'}"), (unix, "{'ok'}")]);
    let outside = probe.heard_outside(&[others]);
    assert!(!outside[0].contains("EACCES"), "control: {outside:?}");
}
