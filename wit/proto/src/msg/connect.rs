//! Connections of commands: what runner and keepers of cap-proc say to whoever provides them.
//!
//! A command whose rule names hosts is connected by others (`docs/threat-model.md`, T-07). The runner inherits one SEQPACKET
//! lane to the provider; for each such command it sends the provider an end of a lane of the command's own, which the
//! keeper has the other end of. One packet is one value, encoded as every message is, without a frame's header. The
//! provider trusts neither: an address is what a command wishes, and says nothing about where it may go.

use bincode::{Decode, Encode};
use std::net::{IpAddr, SocketAddr};

/// Runner to provider, with one descriptor, the provider's end: this lane is of this command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct ConnectLane {
    /// The front's name for the process.
    pub process: u32,
    /// Index of the command in the setup, whose rule names the hosts.
    pub command: u16,
}

/// Keeper to provider, on a command's lane: a connection is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct ConnectAsk {
    /// The keeper's name for it, to be repeated in the answer.
    pub request: u32,
    /// What the command gave connect.
    pub address: ConnectAddress,
}

/// An address as a command gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum ConnectAddress {
    /// Of IPv4.
    V4 {
        /// In the order in which it is written.
        address: [u8; 4],
        /// As a number.
        port: u16,
    },
    /// Of IPv6.
    V6 {
        /// In the order in which it is written.
        address: [u8; 16],
        /// As a number.
        port: u16,
    },
}

/// Provider to keeper, with one descriptor where it is `Ok`, a connected TCP socket, and none else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct ConnectAnswer {
    /// Of the ask.
    pub request: u32,
    /// That it comes, or why not.
    pub result: Result<(), ConnectRefusal>,
}

/// Why there is no connection; the command gets the errno that connect has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum ConnectRefusal {
    /// The rule does not have it (EACCES).
    Denied,
    /// Nobody is there, or nobody listens (ECONNREFUSED).
    Refused,
    /// There is no way there (ENETUNREACH).
    Unreachable,
    /// It took too long (ETIMEDOUT).
    TimedOut,
}

impl From<SocketAddr> for ConnectAddress {
    fn from(address: SocketAddr) -> Self {
        let port = address.port();
        match address.ip() {
            IpAddr::V4(ip) => Self::V4 { address: ip.octets(), port },
            IpAddr::V6(ip) => Self::V6 { address: ip.octets(), port },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    #[test]
    fn the_bytes_stay_what_they_are() {
        let lane = ConnectLane { process: 7, command: 2 };
        assert_eq!(codec::encode(&lane).unwrap(), [7, 0, 0, 0, 2, 0]);
        let ask = ConnectAsk { request: 1, address: "127.0.0.1:443".parse::<SocketAddr>().unwrap().into() };
        assert_eq!(codec::encode(&ask).unwrap(), [1, 0, 0, 0, 0, 0, 0, 0, 127, 0, 0, 1, 0xbb, 1]);
        let answer = ConnectAnswer { request: 1, result: Ok(()) };
        assert_eq!(codec::encode(&answer).unwrap(), [1, 0, 0, 0, 0, 0, 0, 0]);
        for (at, refusal) in
            [ConnectRefusal::Denied, ConnectRefusal::Refused, ConnectRefusal::Unreachable, ConnectRefusal::TimedOut]
                .into_iter()
                .enumerate()
        {
            let bytes = codec::encode(&ConnectAnswer { request: 1, result: Err(refusal) }).unwrap();
            assert_eq!(bytes, [1, 0, 0, 0, 1, 0, 0, 0, u8::try_from(at).unwrap(), 0, 0, 0]);
            assert_eq!(codec::decode::<ConnectAnswer>(&bytes).unwrap().result, Err(refusal));
        }
        assert!(codec::decode::<ConnectAnswer>(&[1, 0, 0, 0, 2, 0, 0, 0]).is_err(), "no such result");
        assert!(
            codec::decode::<ConnectAsk>(&[1, 0, 0, 0, 0, 0, 0, 0, 127, 0, 0, 1, 0xbb, 1, 0]).is_err(),
            "one too many"
        );
    }
}
