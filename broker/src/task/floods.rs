//! Calls that no limit of the policy holds: they cost nothing, or what they cost is spent. Each is a record in the log all the
//! same, so their number is bounded and the task ends there, by its name (T-06).

use warden_proto::msg::error::{CallError, ErrorCode};

/// Calls refused because one limit is spent, and answered.
pub const REFUSED_MAX: u32 = 1_000;
/// Calls that cost nothing, and are answered.
pub const FREE_MAX: u32 = 20_000;

/// The count of such calls in one task.
#[derive(Debug, Default)]
pub struct Floods {
    /// By the limit's rule: as many as the policy has limits.
    refused: Vec<(String, u32)>,
    free: u32,
}

impl Floods {
    /// Counts a call by what it cost and how it was answered. `Some` ends the task, and says why.
    pub fn count(&mut self, capability: &str, charged: bool, error: Option<&CallError>) -> Option<String> {
        match error {
            Some(error) if error.code == ErrorCode::Limit && is_limit(&error.rule) => self.refuse(&error.rule),
            _ if charged => None,
            _ => self.free(capability),
        }
    }

    fn refuse(&mut self, rule: &str) -> Option<String> {
        let at = match self.refused.iter().position(|(known, _)| known == rule) {
            Some(at) => at,
            None => {
                self.refused.push((rule.to_owned(), 0));
                self.refused.len().saturating_sub(1)
            }
        };
        let (_, count) = self.refused.get_mut(at)?;
        *count = count.saturating_add(1);
        (*count > REFUSED_MAX).then(|| {
            format!("{REFUSED_MAX} calls were refused since {rule} is spent, and the guest does not stop asking")
        })
    }

    fn free(&mut self, capability: &str) -> Option<String> {
        self.free = self.free.saturating_add(1);
        (self.free > FREE_MAX).then(|| {
            format!(
                "the guest made {FREE_MAX} calls that cost nothing, more than a task may; the last was {capability}"
            )
        })
    }
}

/// `user:limits.fs_ops`, and not the bound of one file or one frame.
fn is_limit(rule: &str) -> bool {
    rule.split_once(':').is_some_and(|(_, rest)| rest.starts_with("limits."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use warden_proto::Text;

    fn spent(rule: &str) -> CallError {
        CallError { rule: Text::cut(rule), ..CallError::new(ErrorCode::Limit, "spent") }
    }

    #[test]
    fn refusals_are_counted_for_each_limit_and_the_one_too_many_names_it() {
        let mut floods = Floods::default();
        for _ in 0..REFUSED_MAX {
            assert_eq!(floods.count("fs.read_file", false, Some(&spent("user:limits.fs_ops"))), None);
            assert_eq!(floods.count("proc.spawn", false, Some(&spent("task:limits.processes"))), None);
        }
        let why = floods.count("fs.read_file", false, Some(&spent("user:limits.fs_ops"))).unwrap();
        assert!(why.contains("user:limits.fs_ops"), "{why}");
    }

    #[test]
    fn what_costs_something_is_no_flood_and_what_costs_nothing_is_bounded() {
        let mut floods = Floods::default();
        let denied = CallError::denied("default-deny", "no");
        for turn in 0..FREE_MAX {
            assert_eq!(floods.count("fs.read_file", true, None), None);
            // A bound that is no budget is answered as often as it is met, for what the call costs.
            assert_eq!(floods.count("fs.write_file", true, Some(&spent("user:fs.workspace.a.max_file"))), None);
            let error = (turn % 2 == 0).then_some(&denied);
            assert_eq!(floods.count("policy.describe", false, error), None);
        }
        assert!(floods.count("policy.describe", false, None).unwrap().contains("policy.describe"));
    }
}
