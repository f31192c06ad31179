//! Checks on a plan before it leaves the guest: inputs against the catalogue, aliases against what was started.
//!
//! They are a kindness to the model, which learns at once what was wrong, and no line of defence: the broker checks again and decides.

use crate::catalogue::{self, ALIAS_MAX_BYTES, Action, AliasUse, Field, PATH_MAX_BYTES, Shape};
use crate::turn::Planned;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// Most actions of one plan.
pub const ACTIONS_MAX: usize = 16;

/// What is wrong with a plan, in words that a model can act on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanFault {
    #[error("a plan holds at most {ACTIONS_MAX} actions, this one {0}; do the rest in later steps")]
    TooMany(usize),
    #[error("action {place}: there is no action {name:?}; there are: {offered}")]
    Unknown { place: usize, name: String, offered: String },
    #[error("action {place}, {action}: the field {field:?} is missing")]
    Missing { place: usize, action: &'static str, field: &'static str },
    #[error("action {place}, {action}: there is no field {field:?}; it takes {takes}")]
    Extra { place: usize, action: &'static str, field: String, takes: String },
    #[error("action {place}, {action}: the field {field:?} must be {wanted}")]
    Shape { place: usize, action: &'static str, field: &'static str, wanted: String },
    #[error("action {place}, {action}: the alias {alias:?} is taken; an alias is used once in a task")]
    AliasTaken { place: usize, action: &'static str, alias: String },
    #[error("action {place}, {action}: nothing was started as {alias:?}; proc.start comes first")]
    AliasUnknown { place: usize, action: &'static str, alias: String },
}

/// The aliases of a task, as far as observations told.
#[derive(Debug, Clone, Default)]
pub struct Aliases {
    started: BTreeSet<String>,
}

impl Aliases {
    /// Takes up what became of a plan: an alias whose start failed is free again.
    pub fn settle(&mut self, plan: &[Planned], succeeded: &[bool]) {
        for (place, planned) in plan.iter().enumerate() {
            let failed = succeeded.get(place) == Some(&false);
            if let (Some(alias), true) = (begun_alias(planned), failed) {
                self.started.remove(alias);
            }
        }
    }

    /// Counts the starts of a plan that goes out now.
    pub fn begin(&mut self, plan: &[Planned]) {
        self.started.extend(plan.iter().filter_map(begun_alias).map(str::to_owned));
    }
}

fn begun_alias(planned: &Planned) -> Option<&str> {
    let action = catalogue::find(&planned.capability)?;
    (action.alias_use == AliasUse::Begins).then(|| planned.input.get("alias")?.as_str()).flatten()
}

/// Puts a plan into its one form: dotted names, and no optional field that says null, as some models fill in every field of a schema.
pub fn tidy(actions: &mut [Planned]) {
    for planned in actions {
        let Some(action) = catalogue::find(&planned.capability) else { continue };
        planned.capability = action.name.to_owned();
        for field in action.fields.iter().filter(|field| !field.required) {
            if planned.input.get(field.name).is_some_and(Value::is_null) {
                planned.input.remove(field.name);
            }
        }
    }
}

/// Checks a plan; places count from 1.
pub fn plan(actions: &[Planned], aliases: &Aliases, offered: &[&'static str]) -> Result<(), PlanFault> {
    if actions.len() > ACTIONS_MAX {
        return Err(PlanFault::TooMany(actions.len()));
    }
    let mut begun_here = BTreeSet::new();
    for (place, planned) in (1..).zip(actions) {
        let action = catalogue::find(&planned.capability).ok_or_else(|| PlanFault::Unknown {
            place,
            name: crate::clip::line(&planned.capability, 128),
            offered: offered.join(", "),
        })?;
        input(place, action, &planned.input)?;
        alias(place, action, planned, aliases, &mut begun_here)?;
    }
    Ok(())
}

fn alias<'a>(
    place: usize,
    action: &'static Action,
    planned: &'a Planned,
    aliases: &Aliases,
    begun_here: &mut BTreeSet<&'a str>,
) -> Result<(), PlanFault> {
    let name = |field: &str| planned.input.get(field).and_then(Value::as_str);
    match (action.alias_use, name("alias"), name("process")) {
        (AliasUse::Begins, Some(alias), _) if aliases.started.contains(alias) || !begun_here.insert(alias) => {
            return Err(PlanFault::AliasTaken { place, action: action.name, alias: alias.to_owned() });
        }
        (AliasUse::Refers, _, Some(alias)) if !aliases.started.contains(alias) && !begun_here.contains(alias) => {
            return Err(PlanFault::AliasUnknown { place, action: action.name, alias: alias.to_owned() });
        }
        _ => {}
    }
    Ok(())
}

fn input(place: usize, action: &'static Action, given: &Map<String, Value>) -> Result<(), PlanFault> {
    for field in action.fields {
        match given.get(field.name) {
            None | Some(Value::Null) if field.required && field.shape != Shape::Json => {
                return Err(PlanFault::Missing { place, action: action.name, field: field.name });
            }
            None if field.required => return Err(PlanFault::Missing { place, action: action.name, field: field.name }),
            None => {}
            Some(value) => {
                shape(field, value).map_err(|wanted| PlanFault::Shape { place, action: action.name, field: field.name, wanted })?
            }
        }
    }
    match given.keys().find(|key| action.fields.iter().all(|field| field.name != key.as_str())) {
        None => Ok(()),
        Some(key) => Err(PlanFault::Extra {
            place,
            action: action.name,
            field: crate::clip::line(key, 64),
            takes: match action.fields {
                [] => "none".to_owned(),
                fields => fields.iter().map(|field| field.name).collect::<Vec<_>>().join(", "),
            },
        }),
    }
}

/// `Err` says what was wanted.
fn shape(field: &Field, value: &Value) -> Result<(), String> {
    let (fits, wanted) = match field.shape {
        Shape::Text => (value.is_string(), "a string".to_owned()),
        Shape::Path => (
            value.as_str().is_some_and(|path| !path.is_empty() && path.len() <= PATH_MAX_BYTES && !path.contains('\0')),
            format!("a path: a string of 1 to {PATH_MAX_BYTES} bytes without NUL"),
        ),
        Shape::Alias => (value.as_str().is_some_and(is_alias), "a name: a letter, then at most 63 letters, digits, _ . or -".to_owned()),
        Shape::Unsigned => (value.is_u64(), "a whole number, 0 or more".to_owned()),
        Shape::Flag => (value.is_boolean(), "true or false".to_owned()),
        Shape::Texts => (value.as_array().is_some_and(|items| items.iter().all(Value::is_string)), "a list of strings".to_owned()),
        Shape::Environment => {
            (value.as_array().is_some_and(|items| items.iter().all(is_variable)), "a list of {\"key\":string,\"value\":string}".to_owned())
        }
        Shape::Choice(names) => (value.as_str().is_some_and(|name| names.contains(&name)), format!("one of {}", names.join(", "))),
        Shape::Json => (true, String::new()),
    };
    if fits { Ok(()) } else { Err(wanted) }
}

fn is_alias(name: &str) -> bool {
    name.len() <= ALIAS_MAX_BYTES
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

fn is_variable(value: &Value) -> bool {
    value.as_object().is_some_and(|pair| {
        pair.len() == 2 && pair.get("key").is_some_and(Value::is_string) && pair.get("value").is_some_and(Value::is_string)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn planned(capability: &str, input: Value) -> Planned {
        Planned { capability: capability.into(), input: input.as_object().unwrap().clone(), audit_tag: None }
    }

    fn check(capability: &str, input: Value) -> Result<(), String> {
        plan(&[planned(capability, input)], &Aliases::default(), &["fs.read_file"]).map_err(|fault| fault.to_string())
    }

    #[test]
    fn an_input_of_the_right_shape_passes() {
        check("fs.read_file", json!({"path": "repo:a", "max_bytes": 10})).unwrap();
        check("proc.spawn", json!({"command": "git", "args": ["status"], "env": [{"key": "A", "value": "b"}]})).unwrap();
        check("policy.log_event", json!({"event_type": "note", "payload": null})).unwrap();
        check("fs.list_dir", json!({})).unwrap();
    }

    #[test]
    fn an_input_of_the_wrong_shape_says_which_field() {
        let fault = |capability, input| check(capability, input).unwrap_err();
        assert!(fault("fs.read_file", json!({})).contains("\"path\" is missing"));
        assert!(fault("fs.read_file", json!({"path": null})).contains("\"path\" is missing"));
        assert!(fault("fs.read_file", json!({"path": "a\0b"})).contains("without NUL"));
        assert!(fault("fs.read_file", json!({"path": "x".repeat(4097)})).contains("4096 bytes"));
        assert!(fault("fs.read_file", json!({"path": "a", "max_bytes": -1})).contains("whole number"));
        assert!(fault("fs.read_file", json!({"path": "a", "max_bytes": 1.5})).contains("whole number"));
        assert!(fault("fs.read_file", json!({"path": "a", "mode": "r"})).contains("it takes path, offset"));
        assert!(fault("proc.spawn", json!({"command": "git", "args": "status"})).contains("list of strings"));
        assert!(fault("proc.spawn", json!({"command": "git", "args": [], "env": {"A": "b"}})).contains("\"key\""));
        assert!(fault("policy.describe", json!({"x": 1})).contains("it takes none"));
        assert!(fault("policy.claim_budget", json!({"kind": "gold", "units": 1})).contains("one of steps"));
        assert!(fault("fs.format_disk", json!({})).contains("there are: fs.read_file"));
    }

    #[test]
    fn a_plan_is_tidied_before_it_is_checked() {
        let mut actions = [planned("fs_read_file", json!({"path": "a", "offset": null})), planned("fs.nothing", json!({"x": null}))];
        tidy(&mut actions);
        assert_eq!(actions[0], planned("fs.read_file", json!({"path": "a"})));
        assert_eq!(actions[1], planned("fs.nothing", json!({"x": null})));
    }

    #[test]
    fn a_plan_is_bounded() {
        let one = planned("fs.list_dir", json!({}));
        assert!(plan(&vec![one.clone(); ACTIONS_MAX], &Aliases::default(), &[]).is_ok());
        assert!(matches!(plan(&vec![one; ACTIONS_MAX + 1], &Aliases::default(), &[]), Err(PlanFault::TooMany(17))));
    }

    #[test]
    fn aliases_are_begun_before_they_are_used_and_only_once() {
        let start = planned("proc.start", json!({"command": "git", "args": [], "alias": "server"}));
        let wait = planned("proc.wait", json!({"process": "server"}));
        let mut aliases = Aliases::default();
        assert!(matches!(plan(std::slice::from_ref(&wait), &aliases, &[]), Err(PlanFault::AliasUnknown { place: 1, .. })));
        assert!(matches!(plan(&[start.clone(), start.clone()], &aliases, &[]), Err(PlanFault::AliasTaken { place: 2, .. })));
        let both = [start.clone(), wait.clone()];
        plan(&both, &aliases, &[]).unwrap();
        aliases.begin(&both);
        plan(std::slice::from_ref(&wait), &aliases, &[]).unwrap();
        assert!(plan(std::slice::from_ref(&start), &aliases, &[]).is_err());
        aliases.settle(&both, &[false, false]);
        plan(std::slice::from_ref(&start), &aliases, &[]).unwrap();
        assert!(plan(&[wait], &aliases, &[]).is_err());
        assert!(check("proc.start", json!({"command": "git", "args": [], "alias": "1x"})).unwrap_err().contains("a name"));
    }
}
