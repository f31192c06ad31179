//! The hard limits of a task, `[limits]`: one table of keys, units and defaults that parsing, layers and rendering share (T-06).

use std::time::Duration;

/// One key of `[limits]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LimitKey {
    Steps,
    /// Milliseconds.
    Wall,
    Fuel,
    /// Bytes.
    Memory,
    /// Bytes captured of each output stream.
    Output,
    FsOps,
    /// Bytes.
    FsWritten,
    Processes,
    NetRequests,
    /// Bytes.
    NetBytes,
    BrowserActions,
    LlmCalls,
    LlmTokens,
}

/// How a limit is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitUnit {
    Count,
    Bytes,
    Milliseconds,
}

impl LimitKey {
    pub const ALL: [LimitKey; 13] = [
        LimitKey::Steps,
        LimitKey::Wall,
        LimitKey::Fuel,
        LimitKey::Memory,
        LimitKey::Output,
        LimitKey::FsOps,
        LimitKey::FsWritten,
        LimitKey::Processes,
        LimitKey::NetRequests,
        LimitKey::NetBytes,
        LimitKey::BrowserActions,
        LimitKey::LlmCalls,
        LimitKey::LlmTokens,
    ];

    /// The key as written in a policy.
    pub fn name(self) -> &'static str {
        match self {
            LimitKey::Steps => "steps",
            LimitKey::Wall => "wall",
            LimitKey::Fuel => "fuel",
            LimitKey::Memory => "memory",
            LimitKey::Output => "output",
            LimitKey::FsOps => "fs_ops",
            LimitKey::FsWritten => "fs_written",
            LimitKey::Processes => "processes",
            LimitKey::NetRequests => "net_requests",
            LimitKey::NetBytes => "net_bytes",
            LimitKey::BrowserActions => "browser_actions",
            LimitKey::LlmCalls => "llm_calls",
            LimitKey::LlmTokens => "llm_tokens",
        }
    }

    pub fn unit(self) -> LimitUnit {
        match self {
            LimitKey::Wall => LimitUnit::Milliseconds,
            LimitKey::Memory | LimitKey::Output | LimitKey::FsWritten | LimitKey::NetBytes => LimitUnit::Bytes,
            _ => LimitUnit::Count,
        }
    }

    /// A value of this key as a policy writes it.
    pub fn written(self, value: u64) -> String {
        match self.unit() {
            LimitUnit::Count => value.to_string(),
            LimitUnit::Bytes => crate::units::format_size(value),
            LimitUnit::Milliseconds => crate::units::format_duration(Duration::from_millis(value)),
        }
    }

    /// What holds where nothing is said. `wall` has none here: its default belongs to the command that is run.
    pub fn default_value(self) -> Option<u64> {
        const MIB: u64 = 1024 * 1024;
        match self {
            LimitKey::Wall | LimitKey::Fuel => None,
            LimitKey::Steps => Some(32),
            LimitKey::Memory => Some(256 * MIB),
            LimitKey::Output => Some(MIB),
            LimitKey::FsOps => Some(10_000),
            LimitKey::FsWritten | LimitKey::NetBytes => Some(100 * MIB),
            LimitKey::Processes => Some(16),
            LimitKey::NetRequests => Some(200),
            LimitKey::BrowserActions => Some(500),
            LimitKey::LlmCalls => Some(64),
            LimitKey::LlmTokens => Some(200_000),
        }
    }

    fn index(self) -> usize {
        LimitKey::ALL.iter().position(|key| *key == self).unwrap_or_default()
    }
}

/// The limits one layer states; `None` was left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits([Option<u64>; LimitKey::ALL.len()]);

impl Limits {
    pub fn get(&self, key: LimitKey) -> Option<u64> {
        self.0.get(key.index()).copied().flatten()
    }

    /// In the key's unit: a count, bytes or milliseconds.
    pub fn set(&mut self, key: LimitKey, value: u64) {
        if let Some(place) = self.0.get_mut(key.index()) {
            *place = Some(value);
        }
    }

    pub fn set_wall(&mut self, wall: Duration) {
        self.set(LimitKey::Wall, u64::try_from(wall.as_millis()).unwrap_or(u64::MAX));
    }

    /// Whether any limit is stated.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }
}

/// The limits in force: of each key the least that a layer states or defaults to, and the rule it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectiveLimits([(Option<u64>, String); LimitKey::ALL.len()]);

impl EffectiveLimits {
    pub(crate) fn new(choose: impl Fn(LimitKey) -> (Option<u64>, String)) -> EffectiveLimits {
        EffectiveLimits(LimitKey::ALL.map(choose))
    }

    /// The limit in the key's unit; `None` is unlimited, which only `fuel` and an undecided `wall` can be.
    pub fn get(&self, key: LimitKey) -> Option<u64> {
        self.0.get(key.index()).and_then(|(value, _)| *value)
    }

    /// The rule to name when this limit is reached.
    pub fn rule(&self, key: LimitKey) -> &str {
        self.0.get(key.index()).map_or("", |(_, rule)| rule)
    }

    /// The wall limit, or the default of the command that is run.
    pub fn wall_or(&self, command_default: Duration) -> Duration {
        self.get(LimitKey::Wall).map_or(command_default, Duration::from_millis)
    }
}

/// A limit that a layer asks for and one above it does not give: limits are the least of all layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NarrowedLimit {
    pub key: LimitKey,
    /// In the key's unit.
    pub asked: u64,
    pub asked_by: String,
    /// What holds.
    pub value: u64,
    /// The rule of the layer that won.
    pub rule: String,
    /// That layer says nothing of it: its default won.
    pub by_default: bool,
}

impl std::fmt::Display for NarrowedLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let NarrowedLimit { key, asked, asked_by, value, rule, by_default } = self;
        let (asked, value) = (key.written(*asked), key.written(*value));
        let default = if *by_default { "the default of " } else { "" };
        write!(
            f,
            "{asked_by} asks for {asked} and gets {value}, by {default}{rule}: limits are the least of all layers"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_its_own_place() {
        let mut limits = Limits::default();
        for (number, key) in (0u64..).zip(LimitKey::ALL) {
            limits.set(key, number);
        }
        for (number, key) in (0u64..).zip(LimitKey::ALL) {
            assert_eq!(limits.get(key), Some(number), "{key:?}");
        }
    }
}
