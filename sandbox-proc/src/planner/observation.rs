//! What the planner is told after its actions, with a bound on all of it: a file of a megabyte must not end a model's
//! turn (T-16), nor push the other results out.

#![forbid(unsafe_code)]

use serde_json::{Value, json};

/// One text inside an output, bytes.
const TEXT_MAX_BYTES: usize = 32 * 1024;
/// The whole observation, bytes.
const DATA_MAX_BYTES: usize = 256 * 1024;

/// A step's result: summary and data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    pub summary: String,
    pub data: String,
}

/// After a plan's actions.
pub fn of_actions(reports: Vec<Value>) -> Observation {
    let failures = reports.iter().filter(|report| report.get("success") != Some(&Value::Bool(true))).count();
    let summary = format!("executed {} action(s) with {failures} failure(s)", reports.len());
    let mut room = DATA_MAX_BYTES;
    let actions: Vec<Value> = reports.into_iter().map(|report| fit(report, &mut room)).collect();
    Observation { summary, data: json!({"actions": actions}).to_string() }
}

/// After a completion that the broker did not accept.
pub fn of_unmet(unmet: &[String]) -> Observation {
    let summary = format!("not complete: {} condition(s) of the task do not hold yet", unmet.len());
    Observation { summary, data: json!({"actions": [], "unmet": unmet}).to_string() }
}

/// Cuts a report's texts, and leaves its output out when there is no more room.
fn fit(mut report: Value, room: &mut usize) -> Value {
    if let Some(output) = report.get_mut("output") {
        cut(output);
        let len = output.to_string().len();
        if len > *room {
            *output = json!({"left_out": format!("{len} bytes: the observation is full; ask for less at a time")});
        }
    }
    *room = room.saturating_sub(report.to_string().len());
    report
}

fn cut(value: &mut Value) {
    match value {
        Value::String(text) if text.len() > TEXT_MAX_BYTES => {
            let mut end = TEXT_MAX_BYTES;
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            let left_out = text.len() - end;
            text.truncate(end);
            text.push_str(&format!("\n[cut: {left_out} bytes more]"));
        }
        Value::Array(items) => items.iter_mut().for_each(cut),
        Value::Object(fields) => fields.values_mut().for_each(cut),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(success: bool, contents: &str) -> Value {
        json!({"capability": "fs.read_file", "success": success, "output": {"contents": contents}, "error": null})
    }

    #[test]
    fn failures_are_counted() {
        let observation = of_actions(vec![report(true, "a"), report(false, "")]);
        assert_eq!(observation.summary, "executed 2 action(s) with 1 failure(s)");
        let data: Value = serde_json::from_str(&observation.data).unwrap();
        assert_eq!(data["actions"][0]["output"]["contents"], "a");
    }

    #[test]
    fn long_texts_are_cut_and_a_full_observation_leaves_out() {
        let observation = of_actions((0..64).map(|_| report(true, &"ä".repeat(60_000))).collect());
        assert!(observation.data.len() < DATA_MAX_BYTES + 64 * 512);
        let data: Value = serde_json::from_str(&observation.data).unwrap();
        let first = data["actions"][0]["output"]["contents"].as_str().unwrap();
        assert!(first.ends_with("bytes more]") && first.len() < TEXT_MAX_BYTES + 64);
        assert!(data["actions"][63]["output"]["left_out"].is_string());
        assert_eq!(data["actions"][63]["success"], true);
    }

    #[test]
    fn unmet_conditions_are_listed() {
        let observation = of_unmet(&["file repo:SUMMARY.md exists".into()]);
        assert!(observation.summary.contains("1 condition"));
        assert!(observation.data.contains("SUMMARY.md"));
    }
}
