//! What a task may spend and has spent: one ledger, in the broker, for every limit (T-06).
//!
//! A cost is reserved before the act and settled after it, so that what is under way counts as spent.

use std::time::Duration;
use tokio::time::Instant;
use warden_proto::msg::policy::{BudgetKind, BudgetSnapshot};

/// One kind of cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cost {
    /// Turns of the loop.
    Steps,
    /// Operations on files.
    FsOps,
    /// Growth of files, bytes.
    FsWritten,
    /// Processes at once.
    Processes,
    /// Calls to the model.
    LlmCalls,
    /// Tokens of the model.
    LlmTokens,
    /// Actions in a browser.
    BrowserActions,
}

impl Cost {
    /// The limit's key in the policy.
    pub fn key(self) -> &'static str {
        match self {
            Self::Steps => "steps",
            Self::FsOps => "fs_ops",
            Self::FsWritten => "fs_written",
            Self::Processes => "processes",
            Self::LlmCalls => "llm_calls",
            Self::LlmTokens => "llm_tokens",
            Self::BrowserActions => "browser_actions",
        }
    }
}

/// Why a call was refused for its cost.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("limit {key} is reached: {used} of {limit} used, {wanted} more asked for")]
pub struct Spent {
    /// The limit's key.
    pub key: &'static str,
    /// What there is.
    pub limit: u64,
    /// What is used, reservations included.
    pub used: u64,
    /// What was asked for.
    pub wanted: u64,
}

#[derive(Debug, Clone, Copy)]
struct Account {
    limit: u64,
    used: u64,
}

/// A reservation: give it back with [`Ledger::settle`].
#[derive(Debug)]
#[must_use = "a reservation that is not settled stays spent"]
pub struct Reserved {
    cost: Cost,
    amount: u64,
}

/// The limits of one task.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    /// Turns.
    pub steps: u64,
    /// Operations on files.
    pub fs_ops: u64,
    /// Growth of files, bytes.
    pub fs_written: u64,
    /// Processes at once.
    pub processes: u64,
    /// Calls to the model.
    pub llm_calls: u64,
    /// Tokens.
    pub llm_tokens: u64,
    /// Browser actions.
    pub browser_actions: u64,
    /// Wall clock.
    pub wall: Duration,
}

/// Longest wall limit that means anything: it keeps deadlines in the clock's range.
const WALL_MAX: Duration = Duration::from_secs(3650 * 24 * 60 * 60);

/// What one task has spent.
#[derive(Debug)]
pub struct Ledger {
    steps: Account,
    fs_ops: Account,
    fs_written: Account,
    processes: Account,
    llm_calls: Account,
    llm_tokens: Account,
    browser_actions: Account,
    wall: Duration,
    start: Instant,
    charges: u64,
}

impl Ledger {
    /// An untouched ledger; the wall clock starts now.
    pub fn new(allowance: &Allowance) -> Self {
        let open = |limit| Account { limit, used: 0 };
        Self {
            steps: open(allowance.steps),
            fs_ops: open(allowance.fs_ops),
            fs_written: open(allowance.fs_written),
            processes: open(allowance.processes),
            llm_calls: open(allowance.llm_calls),
            llm_tokens: open(allowance.llm_tokens),
            browser_actions: open(allowance.browser_actions),
            wall: allowance.wall.min(WALL_MAX),
            start: Instant::now(),
            charges: 0,
        }
    }

    fn account(&mut self, cost: Cost) -> &mut Account {
        match cost {
            Cost::Steps => &mut self.steps,
            Cost::FsOps => &mut self.fs_ops,
            Cost::FsWritten => &mut self.fs_written,
            Cost::Processes => &mut self.processes,
            Cost::LlmCalls => &mut self.llm_calls,
            Cost::LlmTokens => &mut self.llm_tokens,
            Cost::BrowserActions => &mut self.browser_actions,
        }
    }

    /// Reserves `amount`, or says which limit is in the way.
    pub fn reserve(&mut self, cost: Cost, amount: u64) -> Result<Reserved, Spent> {
        let account = self.account(cost);
        let total = account.used.saturating_add(amount);
        // Nothing more is always there, also where an act came to more than was reserved for it.
        if amount > 0 && total > account.limit {
            return Err(Spent { key: cost.key(), limit: account.limit, used: account.used, wanted: amount });
        }
        account.used = total;
        if amount > 0 {
            self.charges = self.charges.saturating_add(1);
        }
        Ok(Reserved { cost, amount })
    }

    /// How often something was reserved: where it has not changed, a call cost nothing.
    pub fn charges(&self) -> u64 {
        self.charges
    }

    /// Replaces a reservation by what the act really cost. More than was reserved counts in full (a model's tokens are
    /// known only afterwards), so the next reservation fails.
    pub fn settle(&mut self, reserved: Reserved, actual: u64) {
        let account = self.account(reserved.cost);
        account.used = account.used.saturating_sub(reserved.amount).saturating_add(actual);
    }

    /// Gives back what is no longer held (a process that has ended).
    pub fn give_back(&mut self, cost: Cost, amount: u64) {
        let account = self.account(cost);
        account.used = account.used.saturating_sub(amount);
    }

    /// What is left of `cost`.
    pub fn left(&mut self, cost: Cost) -> u64 {
        let account = self.account(cost);
        account.limit.saturating_sub(account.used)
    }

    /// What is used of `cost`.
    pub fn used(&mut self, cost: Cost) -> u64 {
        self.account(cost).used
    }

    /// When the task's time is up.
    pub fn deadline(&self) -> Instant {
        self.start + self.wall
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// One budget as guests see it.
    pub fn snapshot(&mut self, kind: BudgetKind) -> BudgetSnapshot {
        let of = |account: Account| BudgetSnapshot { kind, limit: Some(account.limit), used: account.used };
        match kind {
            BudgetKind::Steps => of(self.steps),
            BudgetKind::WallclockMs => {
                BudgetSnapshot { kind, limit: Some(millis(self.wall)), used: millis(self.elapsed()) }
            }
            BudgetKind::LlmTokens => of(self.llm_tokens),
            BudgetKind::Processes => of(self.processes),
            BudgetKind::FilesystemOps => of(self.fs_ops),
            BudgetKind::BrowserActions => of(self.browser_actions),
        }
    }

    /// Takes units of a budget at a guest's own wish. Time cannot be claimed: only what is left of it is shortened.
    pub fn claim(&mut self, kind: BudgetKind, units: u64) -> Result<(), Spent> {
        let cost = match kind {
            BudgetKind::Steps => Cost::Steps,
            BudgetKind::LlmTokens => Cost::LlmTokens,
            BudgetKind::Processes => Cost::Processes,
            BudgetKind::FilesystemOps => Cost::FsOps,
            BudgetKind::BrowserActions => Cost::BrowserActions,
            BudgetKind::WallclockMs => {
                let (limit, used) = (millis(self.wall), millis(self.elapsed()));
                if used.saturating_add(units) > limit {
                    return Err(Spent { key: "wall", limit, used, wanted: units });
                }
                self.wall = self.wall.saturating_sub(Duration::from_millis(units));
                return Ok(());
            }
        };
        self.reserve(cost, units).map(|_kept| ())
    }
}

/// Whole milliseconds.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> Ledger {
        Ledger::new(&Allowance {
            steps: 2,
            fs_ops: 10,
            fs_written: 100,
            processes: 4,
            llm_calls: 1,
            llm_tokens: 1000,
            browser_actions: 0,
            wall: Duration::from_secs(60),
        })
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_reservation_counts_until_it_is_settled() {
        let mut ledger = ledger();
        let first = ledger.reserve(Cost::FsWritten, 80).unwrap();
        assert!(ledger.reserve(Cost::FsWritten, 30).is_err());
        ledger.settle(first, 10);
        assert!(ledger.reserve(Cost::FsWritten, 30).is_ok());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_costs_more_than_was_reserved_counts_in_full() {
        let mut ledger = ledger();
        let call = ledger.reserve(Cost::LlmTokens, 100).unwrap();
        ledger.settle(call, 1500);
        let spent = ledger.reserve(Cost::LlmTokens, 1).unwrap_err();
        assert_eq!((spent.key, spent.used, spent.limit), ("llm_tokens", 1500, 1000));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_claim_cannot_pass_the_limit_and_huge_ones_do_not_wrap() {
        let mut ledger = ledger();
        assert!(ledger.claim(BudgetKind::Steps, 1).is_ok());
        assert!(ledger.claim(BudgetKind::Steps, u64::MAX).is_err());
        assert!(ledger.claim(BudgetKind::WallclockMs, u64::MAX).is_err());
        assert!(ledger.claim(BudgetKind::Steps, 1).is_ok());
        assert!(ledger.claim(BudgetKind::Steps, 1).is_err());
    }
}
