//! Who is asked, what is recorded, and what the host has to give.

use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ApprovalVia {
    #[default]
    Tty,
    Queue,
    Deny,
}

/// `[approval]`; what is `None` was left out.
#[derive(Debug, Clone, Default)]
pub struct Approval {
    pub ask: Vec<String>,
    pub via: Option<ApprovalVia>,
    pub timeout: Option<Duration>,
}

/// `timeout` of an approval where it is left out.
pub const APPROVAL_TIMEOUT_DEFAULT: Duration = Duration::from_secs(120);

/// In rising strictness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Durability {
    #[default]
    Flush,
    Sync,
}

/// Where else the records go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditSink {
    Journald,
    Descriptor(u32),
}

/// `[audit]`
#[derive(Debug, Clone, Default)]
pub struct Audit {
    pub dir: Option<PathBuf>,
    pub durability: Option<Durability>,
    pub sink: Option<AuditSink>,
}

/// In rising strictness, so that the strictest of several layers is their maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Feature {
    Off,
    #[default]
    Auto,
    Require,
}

/// `[isolation]`
#[derive(Debug, Clone, Default)]
pub struct Isolation {
    pub namespaces: Option<Feature>,
    pub cgroups: Option<Feature>,
    pub allow_root: Option<bool>,
}
