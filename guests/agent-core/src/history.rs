//! The conversation so far, bounded: what was observed and what the model planned on it.
//!
//! The newest exchanges are sent whole; when they grow past the bound the older ones are sent in brief, which still tells what was denied, and
//! the oldest not at all. A turn is remembered in one canonical form, whichever form the model gave it in; failed repairs are not.

use crate::clip;
use crate::host::Message;
use crate::observation::Observation;
use crate::turn::{Planned, Turn};
use serde_json::{Value, json};

/// Longest conversation that is sent whole, bytes, beside prompt and task.
pub const WHOLE_MAX_BYTES: usize = 64 * 1024;
/// Most exchanges that are sent at all.
pub const EXCHANGES_MAX: usize = 48;
/// Longest turn as it is remembered, bytes.
pub const TURN_MAX_BYTES: usize = 8 * 1024;

#[derive(Debug, Clone)]
struct Exchange {
    observed: String,
    observed_brief: String,
    /// None: the step ended without a plan.
    turn: Option<(String, String)>,
}

/// The exchanges, oldest first.
#[derive(Debug, Clone, Default)]
pub struct History {
    exchanges: Vec<Exchange>,
}

impl History {
    /// A step begins. The same observation again, after a step without a plan, is not repeated.
    pub fn observe(&mut self, observation: &Observation) {
        let observed = observation.full();
        if self.exchanges.last().is_some_and(|last| last.turn.is_none() && last.observed == observed) {
            return;
        }
        self.exchanges.push(Exchange { observed, observed_brief: observation.brief(), turn: None });
        let surplus = self.exchanges.len().saturating_sub(EXCHANGES_MAX);
        self.exchanges.drain(..surplus);
    }

    /// The step's plan.
    pub fn plan(&mut self, turn: &Turn) {
        if let Some(last) = self.exchanges.last_mut() {
            last.turn = Some((clip::json(&canonical(turn), TURN_MAX_BYTES), brief(turn)));
        }
    }

    /// The messages to send; the last one is the newest observation, whole.
    pub fn messages(&self) -> Vec<Message> {
        let mut newest_first = Vec::new();
        let mut whole_bytes = 0usize;
        for (age, exchange) in self.exchanges.iter().rev().enumerate() {
            let turn_bytes = exchange.turn.as_ref().map_or(0, |(whole, _)| whole.len());
            whole_bytes = whole_bytes.saturating_add(exchange.observed.len()).saturating_add(turn_bytes);
            let in_brief = age > 0 && whole_bytes > WHOLE_MAX_BYTES;
            if let Some((whole, brief)) = &exchange.turn {
                newest_first.push(Message::assistant(if in_brief { brief.clone() } else { whole.clone() }));
            }
            let observed = if in_brief { &exchange.observed_brief } else { &exchange.observed };
            newest_first.push(Message::user(observed.clone()));
        }
        newest_first.reverse();
        newest_first
    }
}

fn canonical(turn: &Turn) -> Value {
    match turn {
        Turn::Continue { thought, actions } => {
            let actions: Vec<Value> =
                actions.iter().map(|planned| json!({"capability": planned.capability, "input": planned.input})).collect();
            json!({"status": "continue", "thought": thought, "actions": actions})
        }
        Turn::Complete { reason, result } => json!({"status": "complete", "reason": reason, "result": result}),
    }
}

fn brief(turn: &Turn) -> String {
    let path = |planned: &Planned| planned.input.get("path").and_then(Value::as_str).map(|path| clip::line(path, 120));
    let value = match turn {
        Turn::Continue { actions, .. } => {
            let actions: Vec<Value> = actions
                .iter()
                .map(|planned| match path(planned) {
                    Some(path) => json!({"capability": planned.capability, "input": {"path": path}}),
                    None => json!({"capability": planned.capability}),
                })
                .collect();
            json!({"status": "continue", "actions": actions})
        }
        Turn::Complete { reason, .. } => json!({"status": "complete", "reason": clip::line(reason, 200)}),
    };
    value.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Role;

    fn turn(contents: &str) -> Turn {
        let input = json!({"path": "a", "contents": contents}).as_object().unwrap().clone();
        Turn::Continue { thought: "t".into(), actions: vec![Planned { capability: "fs.write_file".into(), input, audit_tag: None }] }
    }

    #[test]
    fn messages_alternate_and_end_with_the_newest_observation() {
        let mut history = History::default();
        history.observe(&Observation::new(0, "start", "{}"));
        history.plan(&turn("x"));
        history.observe(&Observation::new(1, "ok", "{}"));
        let roles: Vec<Role> = history.messages().iter().map(|message| message.role).collect();
        assert_eq!(roles, [Role::User, Role::Assistant, Role::User]);
        assert!(history.messages()[1].content.contains("\"contents\":\"x\""));
        assert!(history.messages()[2].content.starts_with("Observation of step 1:"));
    }

    #[test]
    fn the_same_observation_is_not_repeated_after_a_failed_step() {
        let mut history = History::default();
        history.observe(&Observation::new(0, "start", "{}"));
        history.observe(&Observation::new(0, "start", "{}"));
        assert_eq!(history.messages().len(), 1);
        history.observe(&Observation::new(1, "again", "{}"));
        assert_eq!(history.messages().len(), 2);
    }

    #[test]
    fn a_long_conversation_is_bounded_and_its_denials_stay() {
        let mut history = History::default();
        let denied =
            r#"{"actions":[{"capability":"proc.spawn","success":false,"error":{"code":"denied","message":"m","rule":"first-rule"}}]}"#;
        history.observe(&Observation::new(0, "", denied));
        history.plan(&turn("x"));
        for step in 1..30 {
            let data = json!({"actions": [{"output": "y".repeat(12_000), "success": true}]}).to_string();
            history.observe(&Observation::new(step, "", &data));
            history.plan(&turn(&"z".repeat(50_000)));
        }
        history.observe(&Observation::new(30, "", &json!({"big": "w".repeat(15_000)}).to_string()));
        let messages = history.messages();
        let total: usize = messages.iter().map(|message| message.content.len()).sum();
        assert!(total < WHOLE_MAX_BYTES + 30 * 400, "{total}");
        assert!(messages[0].content.contains("first-rule"));
        assert!(messages.last().unwrap().content.len() > 15_000);
        for step in 31..200 {
            history.observe(&Observation::new(step, "", "{}"));
        }
        assert_eq!(history.messages().len(), EXCHANGES_MAX);
    }
}
