//! What the result says of a task: the broker's own record of steps, denials and usage, never a worker's claims (T-14).

use super::outputs::Room;
use serde_json::{Value, json};
use warden_proto::msg::error::{CallError, ErrorCode};

/// Actions kept, their outputs in the bounds of [`Room`]: a hostile worker fills no memory (T-06).
const ACTIONS_MAX: usize = 10_000;
/// Denials kept; more are counted.
const DENIALS_MAX: usize = 1000;
/// Steps kept in full.
const STEPS_MAX: usize = 10_000;

/// A denial, as results list it.
#[derive(Debug, Clone)]
pub struct Denial {
    /// The contract's name.
    pub capability: String,
    /// What was asked for, in the guest's terms.
    pub target: String,
    /// The rule.
    pub rule: String,
    /// Why.
    pub reason: String,
}

/// One step of the loop.
#[derive(Debug, Clone, Default)]
pub struct Step {
    /// Its number.
    pub step: u32,
    /// What the planner said it thinks.
    pub thought: String,
    /// `actions[]`, rendered.
    pub actions: Vec<Value>,
}

/// Everything a result says beyond its outcome.
#[derive(Debug, Default)]
pub struct Report {
    /// The steps so far.
    pub steps: Vec<Step>,
    /// The denials so far.
    pub denials: Vec<Denial>,
    /// All denials, those among them that are not kept one by one.
    pub denials_total: u64,
    /// Calls that reached a helper, by capability's first part.
    pub calls: std::collections::BTreeMap<&'static str, u64>,
    /// What of the jails this host could not give.
    pub degraded: Vec<String>,
    /// What holds commands where the host offers it, beside the jail that they have everywhere.
    pub held: Vec<String>,
    /// Landlock ABI in force.
    pub landlock_abi: u8,
    /// Actions that came after the report was full: counted, and in the log like all others.
    pub actions_left_out: u64,
    /// How the first action that failed in this step did.
    failure: Option<String>,
    /// The listing that may go on with the next call: its path, and from which entry on.
    listing: Option<(String, u32)>,
    actions: usize,
    room: Room,
}

impl Report {
    /// Notes a denial.
    pub fn deny(&mut self, capability: &str, target: &str, error: &CallError) {
        if error.code != ErrorCode::Denied {
            return;
        }
        self.deny_more(1);
        if self.denials.len() < DENIALS_MAX {
            self.denials.push(Denial {
                capability: capability.to_owned(),
                target: target.to_owned(),
                rule: error.rule.to_string(),
                reason: error.message.to_string(),
            });
        }
    }

    /// Counts denials of which no more is known.
    pub fn deny_more(&mut self, count: u64) {
        self.denials_total = self.denials_total.saturating_add(count);
    }

    /// How the step that has begun failed, if it did; it is told once.
    pub fn take_failure(&mut self) -> Option<String> {
        self.failure.take()
    }

    /// Begins a step.
    pub fn begin_step(&mut self, step: u32) {
        self.failure = None;
        self.listing = None;
        if self.steps.len() < STEPS_MAX {
            self.steps.push(Step { step, ..Step::default() });
        }
    }

    /// The step that has begun.
    pub fn step(&mut self) -> Option<&mut Step> {
        self.steps.last_mut()
    }

    /// Whether a call for the entries from `after` on of `path` is a part of the action before it. Nothing but that very call
    /// is: a worker chooses what it asks for, not how its acts are counted (T-14).
    pub fn takes_page(&mut self, path: &str, after: u32) -> bool {
        let expected = self.listing.take();
        after > 0 && expected.is_some_and(|(of, from)| of == path && from == after)
    }

    /// Adds the outcome of a call on files: an action of its own, or with `goes_on` the next page of the last one. `next` is
    /// where a listing goes on, else 0.
    pub fn listed(
        &mut self,
        goes_on: bool,
        capability: &str,
        path: &str,
        outcome: Result<Value, CallError>,
        next: u32,
    ) {
        let before = self.actions;
        match outcome {
            Ok(page) if goes_on => self.add_page(page),
            // What the brain is told of the whole action.
            Err(error) if goes_on => self.fail_listing(capability, &error),
            outcome => self.action(capability, &outcome),
        }
        let kept = goes_on || self.actions > before;
        self.listing = (next > 0 && kept).then(|| (path.to_owned(), next));
    }

    fn last_action(&mut self) -> Option<&mut Value> {
        self.steps.last_mut().and_then(|step| step.actions.last_mut())
    }

    fn add_page(&mut self, mut page: Value) {
        // T-06: where there is no room the page's entries are left out, and `truncated` stays what the page before said: true.
        self.room.fit(&mut page);
        if let Some(output) = self.last_action().and_then(|action| action.get_mut("output")) {
            warden_proto::render::append_entries(output, page);
        }
    }

    fn fail_listing(&mut self, capability: &str, error: &CallError) {
        self.note_failure(capability, error);
        let failed = warden_proto::render::action(capability, &Err(error.clone()));
        if let Some(action) = self.last_action() {
            *action = failed;
        }
    }

    fn note_failure(&mut self, capability: &str, error: &CallError) {
        if self.failure.is_none() {
            let rule = if error.rule.is_empty() { String::new() } else { format!(" ({})", error.rule) };
            self.failure = Some(format!("{capability} failed: {}: {}{rule}", error.code.name(), error.message));
        }
    }

    /// Adds an action's outcome to the step that has begun, and returns whether it succeeded.
    pub fn action(&mut self, capability: &str, result: &Result<Value, CallError>) {
        self.listing = None;
        if let Err(error) = result {
            self.note_failure(capability, error);
        }
        if self.actions >= ACTIONS_MAX {
            self.actions_left_out = self.actions_left_out.saturating_add(1);
            return;
        }
        let mut rendered = warden_proto::render::action(capability, result);
        if let Some(output) = rendered.get_mut("output") {
            self.room.fit(output);
        }
        self.actions = self.actions.saturating_add(1);
        if let Some(step) = self.steps.last_mut() {
            step.actions.push(rendered);
        }
    }

    /// What went wrong, in order: actions that failed, and commands that ran and did not end with status 0.
    pub fn troubles(&self) -> impl Iterator<Item = String> + '_ {
        self.steps.iter().flat_map(|step| {
            step.actions.iter().filter_map(|action| Some(format!("step {}: {}", step.step, trouble(action)?)))
        })
    }

    /// Counts a call.
    pub fn count(&mut self, capability: &'static str) {
        let family = capability.split_once('.').map_or(capability, |(family, _)| family);
        let count = self.calls.entry(family).or_insert(0);
        *count = count.saturating_add(1);
    }

    /// Notes what a jail could not give, once.
    pub fn degrade(&mut self, what: &str) {
        if !self.degraded.iter().any(|d| d == what) {
            self.degraded.push(what.to_owned());
        }
    }

    /// Notes what holds commands besides, once.
    pub fn hold(&mut self, what: &str) {
        if !self.held.iter().any(|h| h == what) {
            self.held.push(what.to_owned());
        }
    }

    /// `steps` of a result.
    pub fn steps_json(&self) -> Value {
        Value::Array(
            self.steps.iter().map(|s| json!({"step": s.step, "thought": s.thought, "actions": s.actions})).collect(),
        )
    }

    /// The actions whose output is not whole, in words.
    pub fn truncated(&self) -> impl Iterator<Item = String> + '_ {
        let actions = self.steps.iter().flat_map(|step| &step.actions);
        actions.filter(|action| action.pointer("/output/truncated") == Some(&Value::Bool(true))).map(|action| {
            let text = |pointer| action.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            let what = if text("/output/path").is_empty() { text("/output/command") } else { text("/output/path") };
            let capability = text("/capability");
            match (action.pointer("/output/entries"), action.pointer("/output/total")) {
                (Some(Value::Array(entries)), Some(total)) => {
                    format!("{capability} {what}: {} of {total} entries", entries.len())
                }
                _ => format!("{capability} {what}"),
            }
        })
    }

    /// `denials` of a result.
    pub fn denials_json(&self) -> Value {
        Value::Array(
            self.denials
                .iter()
                .map(|d| json!({"capability": d.capability, "target": d.target, "rule": d.rule, "reason": d.reason}))
                .collect(),
        )
    }

    /// `isolation` of a result.
    pub fn isolation_json(&self) -> Value {
        json!({"landlock_abi": self.landlock_abi, "degraded": self.degraded, "held": self.held})
    }
}

/// How an action went wrong, if it did.
fn trouble(action: &Value) -> Option<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let capability = text(&action["capability"]);
    if let Some(error) = action["error"].as_object() {
        let part = |name: &str| error.get(name).map(&text).unwrap_or_default();
        let rule = Some(part("rule")).filter(|rule| !rule.is_empty()).map(|rule| format!(" ({rule})"));
        return Some(format!("{capability} failed: {}: {}{}", part("code"), part("message"), rule.unwrap_or_default()));
    }
    let output = &action["output"];
    let end = end_of_command(output)?;
    let words =
        std::iter::once(text(&output["command"])).chain(output["args"].as_array().into_iter().flatten().map(text));
    let line = words.collect::<Vec<_>>().join(" ");
    Some(format!("{capability} {line}").trim().to_owned() + ": " + &end)
}

/// How a command ended, of the output of an action that saw its end; none for status 0, and where no end was seen. The
/// action itself has succeeded: it ran the command.
pub fn end_of_command(output: &Value) -> Option<String> {
    let Some(Value::Bool(timed_out)) = output.get("timed_out") else { return None };
    match (output["status"].as_i64(), output["signal"].as_i64()) {
        (Some(0), _) => None,
        (Some(status), _) => Some(format!("status {status}")),
        (None, _) if *timed_out => Some("its time was up, and it was ended".to_owned()),
        (None, signal) => Some(format!("signal {} ended it", signal.unwrap_or(0))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_wrong_is_told_with_its_step_and_what_went_well_is_not() {
        let ran = |status: Value, signal: Value, timed_out: bool| json!({"command": "python3", "args": ["-m", "unittest"], "status": status, "signal": signal, "timed_out": timed_out});
        let mut report = Report::default();
        report.begin_step(1);
        report.action("proc.spawn", &Ok(ran(json!(0), Value::Null, false)));
        report.action("fs.list_dir", &Ok(json!({"path": "work:"})));
        report.begin_step(2);
        report.action("proc.spawn", &Ok(ran(json!(1), Value::Null, false)));
        report.action("proc.spawn", &Ok(ran(Value::Null, json!(9), true)));
        report.action("proc.wait", &Ok(ran(Value::Null, json!(6), false)));
        let rule = CallError { rule: warden_proto::Text::cut("user:x"), ..CallError::new(ErrorCode::Denied, "no") };
        report.action("fs.read_file", &Err(rule));
        let line = "python3 -m unittest";
        let expected = [
            format!("step 2: proc.spawn {line}: status 1"),
            format!("step 2: proc.spawn {line}: its time was up, and it was ended"),
            format!("step 2: proc.wait {line}: signal 6 ended it"),
            "step 2: fs.read_file failed: denied: no (user:x)".to_owned(),
        ];
        assert_eq!(report.troubles().collect::<Vec<_>>(), expected);
    }
}
