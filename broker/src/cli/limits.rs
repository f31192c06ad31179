//! Limits given as flags, and the allowance that a policy's limits come to.

use crate::failure::Failure;
use crate::ledger::Allowance;
use clap::Args;
use std::time::Duration;
use warden_policy::{Effective, LimitKey, Limits, units};

/// `--fuel`, `--memory`, `--timeout`: they can only narrow what the policy says.
#[derive(Debug, Args, Clone)]
pub struct LimitArgs {
    /// Stop the guest after about N WebAssembly instructions (not counted without it)
    #[arg(long, value_name = "N")]
    pub fuel: Option<u64>,
    /// Most linear memory of the guest, such as 64MiB
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Most time, such as 30s or 5m
    #[arg(long, value_name = "DUR")]
    pub timeout: Option<String>,
}

impl LimitArgs {
    /// As limits of the task's layer.
    pub fn to_limits(&self, limits: &mut Limits) -> Result<(), Failure> {
        if let Some(fuel) = self.fuel {
            limits.set(LimitKey::Fuel, fuel);
        }
        if let Some(text) = &self.memory {
            let bytes = units::parse_size(text).map_err(|e| Failure::usage(format!("--memory {text}: {e}")))?;
            limits.set(LimitKey::Memory, bytes);
        }
        if let Some(text) = &self.timeout {
            let wall = units::parse_duration(text).map_err(|e| Failure::usage(format!("--timeout {text}: {e}")))?;
            limits.set_wall(wall);
        }
        Ok(())
    }
}

/// What a task may spend under `policy`; `wall` where the policy says nothing.
pub fn allowance(policy: &Effective, wall: Duration) -> Allowance {
    let get = |key| policy.limits().get(key).unwrap_or(u64::MAX);
    Allowance {
        steps: get(LimitKey::Steps),
        fs_ops: get(LimitKey::FsOps),
        fs_written: get(LimitKey::FsWritten),
        processes: get(LimitKey::Processes),
        llm_calls: get(LimitKey::LlmCalls),
        llm_tokens: get(LimitKey::LlmTokens),
        browser_actions: get(LimitKey::BrowserActions),
        wall: policy.limits().wall_or(wall),
    }
}
