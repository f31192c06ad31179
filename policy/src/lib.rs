//! The rules of wasi-warden: policies and manifests parsed, layers combined, calls decided.
//!
//! Linked into the broker only. Pure: it opens nothing, resolves nothing, remembers nothing; the caller hands in texts and
//! paths and gets data, verdicts and reasons. What it reads is either a file the broker has vetted (policies, manifests) or
//! text from a jailed peer (paths, names, arguments), and on neither may it panic.
//!
//! A call's way through here: [`Policy::parse`] for each layer, [`Effective::combine`] once, [`Effective::decide`] per call.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::as_conversions,
        clippy::panic,
        clippy::unreachable,
        clippy::arithmetic_side_effects
    )
)]

mod argv;
mod capability;
mod decide;
mod explain;
mod glob;
mod layer;
mod limits;
mod manifest;
mod marks;
mod model;
mod parse;
mod path;
mod render;
mod seed_config;
mod source;
pub mod units;

pub use argv::{ArgvShape, ArgvShapeError};
pub use capability::{CAPABILITIES, canonical as canonical_capability, pattern_matches};
pub use decide::{
    Answered, Call, Denial, FsGrant, FsOp, Grant, GrantScope, Intent, LayerVerdict, PathArg, ProcGrant, SecondPath,
    SpawnKind, Verdict,
};
pub use explain::Explanation;
pub use glob::{GLOB_MAX_BYTES, Glob, GlobError, PathRule, RUN_LATER_GLOBS, RuleKind};
pub use layer::{
    DEFAULT_DENY, DoorReason, Effective, EffectiveApproval, EffectiveAudit, EffectiveCommand, EffectiveIsolation,
    EffectiveWorkspace, WidenError,
};
pub use limits::{EffectiveLimits, LimitKey, LimitUnit, Limits, NarrowedLimit};
pub use manifest::{
    Brain, BrowserCheck, FileCheck, Manifest, ManifestKind, OnFailure, PREDICATE_DEPTH_MAX, PREDICATES_MAX, Predicate,
    Step,
};
pub use marks::Marks;
pub use model::{
    APPROVAL_TIMEOUT_DEFAULT, Access, Approval, ApprovalVia, Asked, Audit, AuditSink, Browser, BrowserDriver,
    COMMAND_TIMEOUT_DEFAULT, Command, CommandPath, Durability, Feature, Input, Isolation, Layer, Llm, LlmProvider,
    MAX_FILE_BYTES_DEFAULT, NetRule, Policy, Scope, Secret, SecretSource, SecretText, SecretUse, Tools,
    ToolsEscalation, ToolsPins, ToolsProfile, ToolsWorkspace, Workspace,
};
pub use path::{InvalidArgument, NAME_MAX_BYTES, OutsidePath, PATH_MAX_BYTES, PathError, TaskPath, is_label};
pub use seed_config::allowed_command;
pub use source::{Format, Position, SOURCE_MAX_BYTES, SourceError};
