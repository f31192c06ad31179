//! The calls in flight: for each, what its end record repeats from its begin record. Slots are reused, so that
//! a call in a steady state allocates nothing.

use super::error::AuditError;
use super::record::{HexDigest, Ticket};

#[derive(Debug, Default)]
pub(super) struct Calls {
    slots: Vec<Call>,
    free: Vec<usize>,
}

/// One call between its two records.
#[derive(Debug, Default)]
pub(super) struct Call {
    /// Sequence number of the begin record; none when the slot is free.
    seq: Option<u64>,
    pub mono_us: u64,
    /// The members `task` to `op`, as they stand in the begin record.
    pub identity: Vec<u8>,
    pub policy_hash: Option<HexDigest>,
}

impl Calls {
    pub fn in_flight(&self) -> u64 {
        u64::try_from(self.slots.len().saturating_sub(self.free.len())).unwrap_or(u64::MAX)
    }

    pub fn enter(&mut self, seq: u64, mono_us: u64, identity: &[u8], policy_hash: Option<HexDigest>) -> Ticket {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Call::default());
            self.slots.len().saturating_sub(1)
        });
        if let Some(call) = self.slots.get_mut(slot) {
            call.seq = Some(seq);
            call.mono_us = mono_us;
            call.identity.clear();
            call.identity.extend_from_slice(identity);
            call.policy_hash = policy_hash;
        }
        Ticket { slot, seq }
    }

    pub fn of(&self, ticket: &Ticket) -> Result<&Call, AuditError> {
        self.slots.get(ticket.slot).filter(|call| call.seq == Some(ticket.seq)).ok_or(AuditError::UnknownTicket)
    }

    pub fn leave(&mut self, ticket: &Ticket) {
        if let Some(call) = self.slots.get_mut(ticket.slot).filter(|call| call.seq == Some(ticket.seq)) {
            call.seq = None;
            self.free.push(ticket.slot);
        }
    }
}
