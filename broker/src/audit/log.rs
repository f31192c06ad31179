//! The writer: one per broker, on the thread that decides.

use super::calls::Calls;
use super::chain::{Links, Tip};
use super::clock::Instants;
use super::directory::{AuditDirectory, new_segment_name};
use super::encode::{END_RECORD_MAX_BYTES, Line};
use super::error::AuditError;
use super::mirror::Mirror;
use super::record::{BeginRecord, EndRecord, Head, HexDigest, Outcome, Record, Ticket, Value};
use super::segment::{Segment, discard, sync_directory};
use std::os::fd::AsFd;
use std::time::Duration;

/// `[audit] durability`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// In the kernel before the effect: survives the broker's death by SIGKILL.
    #[default]
    Flush,
    /// On disk before the effect: survives a power cut.
    Sync,
}

/// How the log is kept.
#[derive(Debug)]
pub struct AuditConfig {
    pub durability: Durability,
    /// A second place for every record.
    pub mirror: Option<Mirror>,
    /// A segment that has reached this many bytes is closed and followed by another.
    pub segment_max_bytes: u64,
    /// So is one this old.
    pub segment_max_age: Duration,
    /// The directory's path, for messages only.
    pub shown_dir: String,
}

impl AuditConfig {
    /// The design's values: flush, no mirror, 64 MiB, 24 h.
    pub fn new(shown_dir: impl Into<String>) -> Self {
        Self {
            durability: Durability::default(),
            mirror: None,
            segment_max_bytes: 64 * 1024 * 1024,
            segment_max_age: Duration::from_secs(24 * 60 * 60),
            shown_dir: shown_dir.into(),
        }
    }
}

/// What every opening record says of the broker, beside what the log finds out itself.
#[derive(Clone, Debug)]
pub struct HeaderFacts {
    /// The build id that hellos carry.
    pub build: String,
    /// Versions of what takes part, by name: `warden`, `wasmtime`, `kernel`…
    pub versions: Vec<(String, String)>,
    pub policy_hash: HexDigest,
    /// Over the compiled-in seccomp and Landlock rule files.
    pub rules_hash: HexDigest,
    /// What this host does not enforce although the design asks for it.
    pub degraded: Vec<String>,
}

/// An audit log being written.
#[derive(Debug)]
pub struct AuditLog {
    dir: AuditDirectory,
    config: AuditConfig,
    facts: HeaderFacts,
    boot_id: String,
    uid: u32,
    segment: Segment,
    opened_mono_us: u64,
    /// Records in this segment.
    records: u64,
    next_seq: u64,
    head: HexDigest,
    line: Line,
    calls: Calls,
    poison: Option<String>,
}

impl AuditLog {
    /// Opens a segment of our own in `dir` and writes its opening record. Refuses a directory that is not ours
    /// alone. `dir` may be an O_PATH descriptor; only it is used from here on, never a path.
    pub fn open(dir: impl AsFd, config: AuditConfig, facts: HeaderFacts) -> Result<Self, AuditError> {
        let dir = AuditDirectory::ours(dir, &config.shown_dir)?;
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map_err(AuditError::BootId)?;
        // Before our own file exists, so that a reader who sees it sees all it names.
        let links = Links::survey(&dir)?;
        let now = Instants::now()?;
        let segment = Segment::create(&dir, new_segment_name(&now)?)?;
        let head = links.previous.as_ref().map_or(HexDigest::ZERO, |tip| tip.head);
        let mut log = Self {
            dir,
            config,
            facts,
            boot_id: boot_id.trim().to_owned(),
            uid: nix::unistd::geteuid().as_raw(),
            segment,
            opened_mono_us: now.mono_us,
            records: 0,
            next_seq: 0,
            head,
            line: Line::default(),
            calls: Calls::default(),
            poison: None,
        };
        log.write_opening(&links, false).inspect_err(|_| {
            if log.segment.written() == 0 {
                discard(&log.dir, log.segment.name());
            }
        })?;
        Ok(log)
    }

    /// Records what is about to be done. Unless this returns a ticket, it must not be done.
    pub fn begin(&mut self, act: &BeginRecord<'_>) -> Result<Ticket, AuditError> {
        let now = self.admit()?;
        let seq = self.next_seq;
        self.line.start(seq, &now);
        let identity = self.line.identity(self.uid, act);
        self.line.phase("begin");
        self.line.value(&act.input);
        self.line.verdict(act);
        self.line.ending(&EndRecord::default(), None);
        self.reserve(self.calls.in_flight().saturating_add(1))?;
        self.commit(true)?;
        // The line still holds the bytes that the end record repeats.
        Ok(self.calls.enter(seq, now.mono_us, self.line.part(identity), act.policy_hash.copied()))
    }

    /// Records what came of it. After an error the caller ends the task; the log takes no more calls.
    pub fn end(&mut self, ticket: Ticket, end: &EndRecord<'_>) -> Result<(), AuditError> {
        let now = Instants::now().inspect_err(|e| self.poison = Some(e.to_string()))?;
        let call = self.calls.of(&ticket)?;
        self.line.start(self.next_seq, &now);
        self.line.raw(&call.identity);
        self.line.phase("end");
        self.line.raw(b"{\"begin\":");
        self.line.number(ticket.seq);
        self.line.raw(b"},\"decision\":null,\"rule\":null");
        self.line.policy(call.policy_hash.as_ref());
        self.line.ending(end, Some(now.mono_us.saturating_sub(call.mono_us)));
        let written = self.commit(false);
        self.calls.leave(&ticket);
        written.inspect_err(|e| self.poison = Some(e.to_string()))
    }

    /// Records an act whose only effect is its answer, or one that was denied. Unless this succeeds, the
    /// answer must not go out.
    pub fn single(&mut self, record: &Record<'_>) -> Result<(), AuditError> {
        let now = self.admit()?;
        self.line.start(self.next_seq, &now);
        self.line.identity(self.uid, &record.act);
        self.line.phase("single");
        self.line.value(&record.act.input);
        self.line.verdict(&record.act);
        self.line.ending(&record.end, record.duration_us);
        self.reserve(self.calls.in_flight())?;
        self.commit(true)
    }

    /// Closes this segment and goes on in a new one: at its greatest size or age, and on SIGHUP. Calls in
    /// flight end in the new one. If no new one can be made, the old one stays.
    pub fn rotate(&mut self) -> Result<(), AuditError> {
        self.refuse_if_poisoned()?;
        // The closing record is formed last; only its hash is missing from the links that name this segment.
        let own = Tip { segment: self.segment.name().to_owned(), head: HexDigest::ZERO };
        let mut links = Links::continuing(&self.dir, own)?;
        let now = Instants::now()?;
        let mut next = Segment::create(&self.dir, new_segment_name(&now)?)?;
        let ahead = self.ahead(self.calls.in_flight()).saturating_add(OPENING_MAX_BYTES);
        if let Err(e) = next.reserve(ahead) {
            discard(&self.dir, next.name());
            return Err(e);
        }
        if let Err(e) = self.write_closing("rotation") {
            discard(&self.dir, next.name());
            return Err(e);
        }
        if let Some(own) = &mut links.previous {
            own.head = self.head;
        }
        self.segment = next;
        self.records = 0;
        self.opened_mono_us = now.mono_us;
        self.write_opening(&links, true).inspect_err(|e| self.poison = Some(e.to_string()))
    }

    /// Writes the closing record and gives the segment up. Returns the final head.
    pub fn close(mut self) -> Result<Head, AuditError> {
        self.write_closing("end")?;
        Ok(self.head())
    }

    /// Writes the closing record of a log that others still hold. It takes no more calls afterwards.
    pub fn finish(&mut self) -> Result<Head, AuditError> {
        self.refuse_if_poisoned()?;
        self.write_closing("end")?;
        self.poison = Some("the log is closed".to_owned());
        Ok(self.head())
    }

    /// Where the log stands, for a result's `audit` object.
    pub fn head(&self) -> Head {
        Head { segment: self.segment.name().to_owned(), seq: self.next_seq.saturating_sub(1), head: self.head }
    }

    /// Why the log takes no more calls, once it does not.
    pub fn poisoned(&self) -> Option<&str> {
        self.poison.as_deref()
    }

    /// Calls whose end record is still to come.
    pub fn in_flight(&self) -> u64 {
        self.calls.in_flight()
    }

    /// What this log cannot promise here, for `doctor`, results and the log itself.
    pub fn degraded(&self) -> Option<&'static str> {
        (!self.segment.can_reserve())
            .then_some("audit: the filesystem cannot allocate ahead; a full disk kills tasks in the middle of a call")
    }

    fn refuse_if_poisoned(&self) -> Result<(), AuditError> {
        match &self.poison {
            Some(reason) => Err(AuditError::Poisoned { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    /// Whether a new call may come, in this segment or a new one; the time of its record.
    fn admit(&mut self) -> Result<Instants, AuditError> {
        self.refuse_if_poisoned()?;
        let now = Instants::now()?;
        let age_us = now.mono_us.saturating_sub(self.opened_mono_us);
        if self.segment.written() < self.config.segment_max_bytes
            && u128::from(age_us) < self.config.segment_max_age.as_micros()
        {
            return Ok(now);
        }
        self.rotate()?;
        Instants::now()
    }

    /// Bytes that the end records of `calls` calls and the closing record may take.
    fn ahead(&self, calls: u64) -> u64 {
        let one = u64::try_from(END_RECORD_MAX_BYTES).unwrap_or(u64::MAX);
        one.saturating_mul(calls.saturating_add(1))
    }

    /// Makes sure of the line in the buffer and of all that must be written after it.
    fn reserve(&mut self, calls: u64) -> Result<(), AuditError> {
        let line = u64::try_from(self.line.sealed_len()).unwrap_or(u64::MAX);
        let ahead = self.ahead(calls).saturating_add(line);
        self.segment.reserve(ahead)
    }

    /// Seals the line and writes it. Only a written record moves the chain on.
    fn commit(&mut self, before_effect: bool) -> Result<(), AuditError> {
        let hash = self.line.seal(&self.head);
        if let Err(e) = self.segment.append(self.line.bytes()) {
            // A torn tail, or space given back that calls in flight count on: no more calls.
            if self.segment.torn() || self.calls.in_flight() > 0 {
                self.poison = Some(e.to_string());
            }
            return Err(e);
        }
        self.head = hash;
        self.next_seq = self.next_seq.saturating_add(1);
        self.records = self.records.saturating_add(1);
        let mirrored = match &self.config.mirror {
            Some(mirror) => mirror.send(self.line.bytes()),
            None => Ok(()),
        };
        let synced = match self.config.durability {
            // After a failed fdatasync nobody knows what is on disk, and asking again would lie.
            Durability::Sync if before_effect => self.segment.sync(),
            _ => Ok(()),
        };
        mirrored.and(synced).inspect_err(|e| self.poison = Some(e.to_string()))
    }

    fn write_opening(&mut self, links: &Links, continues: bool) -> Result<(), AuditError> {
        let now = Instants::now()?;
        let hash = self.facts.policy_hash;
        let act = own_act("open", &hash);
        let line = &mut self.line;
        line.start(self.next_seq, &now);
        line.identity(self.uid, &act);
        line.phase("single");
        line.raw(b"{\"segment\":");
        line.name(self.segment.name());
        line.raw(b",\"boot_id\":");
        line.name(&self.boot_id);
        line.raw(b",\"pid\":");
        line.number(u64::from(std::process::id()));
        line.raw(b",\"uid\":");
        line.number(u64::from(self.uid));
        line.raw(b",\"build\":");
        line.name(&self.facts.build);
        line.raw(b",\"versions\":");
        let versions: Vec<_> =
            self.facts.versions.iter().map(|(name, version)| (name.as_str(), Value::Text(version))).collect();
        line.value(&Value::Fields(&versions));
        line.raw(b",\"policy_hash\":");
        line.digest(&self.facts.policy_hash);
        line.raw(b",\"rules_hash\":");
        line.digest(&self.facts.rules_hash);
        line.raw(b",\"degraded\":");
        line.value(&Value::Texts(&self.facts.degraded));
        line.raw(b",\"continues\":");
        line.raw(if continues { b"true" } else { b"false" });
        links.write(line);
        line.raw(b"}");
        line.verdict(&act);
        line.ending(&EndRecord::default(), None);
        self.reserve(self.calls.in_flight())?;
        self.commit(true)?;
        if self.config.durability == Durability::Sync {
            sync_directory(&self.dir)?;
        }
        Ok(())
    }

    fn write_closing(&mut self, reason: &str) -> Result<(), AuditError> {
        let now = Instants::now()?;
        let hash = self.facts.policy_hash;
        let act = BeginRecord {
            input: Value::Fields(&[
                ("reason", Value::Text(reason)),
                ("records", Value::Number(self.records)),
                ("head", Value::Text(self.head.as_str())),
                ("in_flight", Value::Number(self.calls.in_flight())),
            ]),
            ..own_act("close", &hash)
        };
        self.line.start(self.next_seq, &now);
        self.line.identity(self.uid, &act);
        self.line.phase("single");
        self.line.value(&act.input);
        self.line.verdict(&act);
        self.line.ending(&EndRecord { result: Outcome::Unstated, bytes: None }, None);
        self.commit(true)
    }
}

/// An opening record's greatest length: its links (at most 32 of under 200 bytes) and its bounded facts.
const OPENING_MAX_BYTES: u64 = 20 * 1024;

fn own_act<'a>(op: &'a str, policy_hash: &'a HexDigest) -> BeginRecord<'a> {
    BeginRecord {
        task: None,
        role: "broker",
        capability: "audit.segment",
        op,
        input: Value::Null,
        decision: None,
        rule: None,
        policy_hash: Some(policy_hash),
    }
}
