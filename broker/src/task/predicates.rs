//! Success predicates: asked of the helper that holds the thing, by the broker, when the brain says it is done (T-15).

use super::{Ending, Stop, Task};
use std::time::Duration;
use warden_policy::Predicate;
use warden_proto::Text;
use warden_proto::msg::error::CallError;
use warden_proto::msg::fs::FileCheck;
use warden_proto::msg::life::Role;

/// A predicate's own time.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// A predicate's own processes.
pub const PROCESSES: u32 = 16;

/// A predicate and what was found.
#[derive(Debug, Clone)]
pub struct Evaluated {
    /// As people read it.
    pub predicate: String,
    /// Whether it holds.
    pub met: bool,
    /// What was found.
    pub detail: String,
}

impl Evaluated {
    /// For `predicates[]` of a result.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({"predicate": self.predicate, "met": self.met, "detail": self.detail})
    }
}

impl Task {
    /// Evaluates every predicate and returns what does not hold, for the brain and for people.
    pub(super) async fn evaluate(&mut self) -> Result<Vec<String>, Stop> {
        self.evaluated.clear();
        let mut unmet = Vec::new();
        for predicate in self.spec.predicates.clone() {
            self.still_wanted()?;
            let (found, detail) = self.judge(&predicate).await?;
            // T-15: what could not be found out is not met, whichever way it was meant.
            let met = found == Some(true);
            let detail = if found.is_none() { format!("could not be evaluated: {detail}") } else { detail };
            let name = predicate.to_string();
            self.progress.predicate(&name, met, &detail);
            if !met {
                unmet.push(format!("{name}: {detail}"));
            }
            self.evaluated.push(Evaluated { predicate: name, met, detail });
        }
        Ok(unmet)
    }

    async fn judge(&mut self, predicate: &Predicate) -> Result<Found, Stop> {
        let Predicate::File { path, check } = predicate else {
            return Box::pin(self.judge_other(predicate)).await;
        };
        let check = match file_check(check) {
            Ok(check) => check,
            Err(why) => return Ok((None, why)),
        };
        let answer = self.check_file(&predicate.to_string(), path, check).await?;
        self.found(answer)
    }

    /// What an answer says, unless a person or the clock has ended the task over it (T-15): an end that was asked for while
    /// a predicate was evaluated is the task's end, and what the evaluation came to by it is nothing.
    fn found(&self, answer: Result<(bool, String), CallError>) -> Result<Found, Stop> {
        self.still_wanted()?;
        Ok(told(answer))
    }

    /// The helper that a predicate is asked of. Where it cannot be started, nothing is known of what it holds, and the task
    /// ends as an error: to call it unmet would blame the task for a broken installation.
    pub(super) async fn need_for_predicate(&mut self, role: Role, predicate: &str) -> Result<(), Stop> {
        let Err(error) = self.need(role).await? else { return Ok(()) };
        let row = super::monitor::PREDICATE;
        self.refuse(row, row.capability, predicate, crate::audit::Value::Text(predicate), &error)?;
        let why = format!("{predicate} could not be evaluated: {}", error.message);
        Err(Stop(Ending::HelperMissing(why)))
    }

    async fn judge_other(&mut self, predicate: &Predicate) -> Result<Found, Stop> {
        match predicate {
            Predicate::Command { command, args } => {
                let answer = self.check_command(&predicate.to_string(), command, args).await?;
                self.found(answer)
            }
            Predicate::All(parts) => {
                let mut unknown = None;
                for part in parts {
                    let (met, detail) = self.judge(part).await?;
                    match met {
                        Some(true) => {}
                        Some(false) => return Ok((Some(false), format!("{part}: {detail}"))),
                        None => unknown = Some(format!("{part}: {detail}")),
                    }
                }
                Ok(unknown.map_or((Some(true), "all hold".to_owned()), |detail| (None, detail)))
            }
            Predicate::Any(parts) => {
                let (mut details, mut unknown) = (Vec::new(), false);
                for part in parts {
                    let (met, detail) = self.judge(part).await?;
                    if met == Some(true) {
                        return Ok((met, detail));
                    }
                    unknown |= met.is_none();
                    details.push(format!("{part}: {detail}"));
                }
                Ok((if unknown { None } else { Some(false) }, details.join("; ")))
            }
            Predicate::Not(part) => {
                let (met, detail) = self.judge(part).await?;
                Ok((met.map(|met| !met), detail))
            }
            _ => Ok((None, UNKNOWN.to_owned())),
        }
    }
}

/// Whether it holds, if that could be found out, and what was found.
type Found = (Option<bool>, String);

const UNKNOWN: &str = "this version of warden cannot evaluate it: it has no helper that holds the thing";

/// The first predicate that no helper of this version can evaluate: a task with one could never be done.
pub fn cannot_be_evaluated(predicates: &[Predicate]) -> Option<&Predicate> {
    predicates.iter().find_map(|predicate| match predicate {
        Predicate::File { .. } | Predicate::Command { .. } => None,
        Predicate::All(parts) | Predicate::Any(parts) => cannot_be_evaluated(parts),
        Predicate::Not(part) => cannot_be_evaluated(std::slice::from_ref(part)),
        other => Some(other),
    })
}

/// The question in cap-fs's terms.
fn file_check(check: &warden_policy::FileCheck) -> Result<FileCheck, String> {
    let too_long = |e: warden_proto::bounded::TooLong| format!("the predicate is too long: {e}");
    Ok(match check {
        warden_policy::FileCheck::Exists => FileCheck::Exists,
        warden_policy::FileCheck::Absent => FileCheck::Absent,
        warden_policy::FileCheck::Contains(regex) => {
            FileCheck::Contains { regex: Text::new(regex.clone()).map_err(too_long)? }
        }
        warden_policy::FileCheck::Sha256(hex) => FileCheck::Sha256 { digest: digest_of(hex)? },
        warden_policy::FileCheck::Json { pointer, equals } => FileCheck::JsonEquals {
            pointer: Text::new(pointer.clone()).map_err(too_long)?,
            value: Text::new(equals.to_string()).map_err(too_long)?,
        },
    })
}

fn digest_of(hex: &str) -> Result<[u8; 32], String> {
    let byte = |at: usize| hex.get(at..at.saturating_add(2)).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let bytes: Option<Vec<u8>> = (0..hex.len()).step_by(2).map(byte).collect();
    bytes.and_then(|b| b.try_into().ok()).ok_or_else(|| "the SHA-256 is not 64 hex digits".to_owned())
}

/// A predicate that could not be asked neither holds nor fails.
fn told(answer: Result<(bool, String), CallError>) -> Found {
    match answer {
        Ok((met, detail)) => (Some(met), detail),
        Err(error) if error.rule.is_empty() => (None, error.message.to_string()),
        Err(error) => (None, format!("{} ({})", error.message, error.rule)),
    }
}
