//! The broker's own jail, shut once everything it needs is open. Here because the broker imports no jail itself.

use std::os::fd::BorrowedFd;
use warden_jail::{GrantKind, Grants, Role, life};

/// The broker could not shut its jail.
#[derive(Debug, thiserror::Error)]
#[error("the broker could not shut its own jail: {0}")]
pub struct BrokerJailError(#[from] life::LifeError);

/// What the broker's jail came to.
#[derive(Debug, Clone)]
pub struct BrokerJail {
    /// Landlock ABI in force, 0 for none.
    pub landlock_abi: u8,
    /// What this kernel does not enforce.
    pub degraded: Vec<String>,
}

/// Shuts it: from here on the broker writes beneath these directories and opens nothing else (T-01, T-03).
pub fn shut(
    audit: BorrowedFd<'_>,
    run: BorrowedFd<'_>,
    cache: Option<BorrowedFd<'_>>,
) -> Result<BrokerJail, BrokerJailError> {
    let mut grants = Grants::none().with(GrantKind::Audit, audit).with(GrantKind::Run, run);
    if let Some(cache) = cache {
        grants = grants.with(GrantKind::Cache, cache);
    }
    let isolation = life::lock_down(Role::Broker, &grants)?;
    Ok(BrokerJail { landlock_abi: isolation.landlock_abi, degraded: isolation.degraded })
}
