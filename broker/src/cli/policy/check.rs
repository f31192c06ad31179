//! `warden policy check`: what a policy grants, in short, what about it is doubtful, and what would keep a task from starting.
//!
//! Runs in the broker's process before there is a session: nothing is started. What would fail at the start of a task fails
//! here, all of it at once, each with the place where the policy says it.

mod mistakes;

use super::reading::{self, Reading};
use crate::cli::Answer;
use crate::cli::layers::{open_program, open_recording, open_secrets};
use crate::deciding::{self, Deciding};
use crate::failure::Failure;
use crate::progress::one_line;
use nix::sys::stat::stat;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use warden_policy::units::{format_duration, format_size};
use warden_policy::{Access, ApprovalVia, Effective, EffectiveCommand, LimitKey, Llm, RuleKind};

/// Longest line, characters.
const LINE_MAX_CHARS: usize = 300;

/// Checks the policy of `file`, or the caller's own layers.
pub fn run(file: Option<PathBuf>) -> Result<Answer, Failure> {
    let Reading { policy, mut files, absent: mut problems } = reading::read(file.as_deref())?;
    if policy.layer_files().is_empty() {
        return Err(super::no_policy());
    }
    let mut take = |opened: Result<Vec<Deciding>, Failure>| match opened {
        Ok(opened) => files.extend(opened),
        Err(failure) => problems.push(failure.message),
    };
    for command in policy.commands() {
        take(open_program(&policy, command).map(|file| vec![file]));
    }
    take(open_secrets(&policy));
    take(open_recording(&policy).map(|file| file.into_iter().collect()));
    outside_workspaces(&policy, &files, &mut problems);
    if !problems.is_empty() {
        // Often the reason of what is not there.
        mistakes::literal_paths(&policy, &mut problems);
    }
    if !problems.is_empty() {
        let shown: Vec<String> = problems.iter().map(|each| one_line(each, LINE_MAX_CHARS)).collect();
        return Err(Failure::usage(shown.join("\n")));
    }
    let mut warnings = Vec::new();
    doubts(&policy, &mut warnings);
    mistakes::of(&policy, &mut warnings);
    Ok(Answer { json: to_json(&policy, &warnings), text: to_text(&policy), note: notes(&warnings), status: 0 })
}

/// T-10: nothing that decides may lie where a task can write; a run would refuse it, so a check must.
fn outside_workspaces(policy: &Effective, files: &[Deciding], problems: &mut Vec<String>) {
    let writable: Vec<(String, (u64, u64))> = policy
        .workspaces()
        .iter()
        .filter(|workspace| workspace.access == Access::ReadWrite)
        .filter_map(|workspace| {
            let facts = stat(&workspace.path).ok()?;
            Some((workspace.label.clone(), (facts.st_dev, facts.st_ino)))
        })
        .collect();
    let audit = policy.audit().dir.iter().map(|dir| deciding::place_outside("audit directory", dir, &writable));
    let all = files.iter().map(|file| file.outside(&writable)).chain(audit);
    problems.extend(all.filter_map(Result::err).map(|error| error.to_string()));
}

/// What is allowed and should be known, and what is asked for and not given.
fn doubts(policy: &Effective, warnings: &mut Vec<String>) {
    for (index, command) in policy.commands().iter().enumerate() {
        let needed = policy.door_needed(index).unwrap_or_default();
        match (command.unchecked, needed.first()) {
            (true, Some(first)) => warnings.push(format!(
                "{}: unchecked = true, so where a host does not allow the check it runs without what the policy says of files: {} ({})",
                command.rule, first.reason, first.rule
            )),
            (true, None) => {
                warnings.push(format!("{}: unchecked = true is not needed here; leave it out", command.rule));
            }
            (false, _) => {}
        }
        if !command.network.is_empty() {
            warnings.push(format!(
                "{}: network: this version gives a command none, so it is refused where it would be started",
                command.rule
            ));
        }
        if policy.argv_shapes(index).is_empty() {
            warnings.push(format!("{}: no `args`, so it may be run without arguments only", command.rule));
        }
    }
    for workspace in policy.workspaces().iter().filter(|each| each.path == Path::new("/")) {
        warnings.push(format!("{}: the whole file system is a workspace", workspace.rule));
    }
    warnings.extend(policy.narrowed_limits().iter().map(ToString::to_string));
    (0..policy.workspaces().len()).for_each(|index| open_folders(policy, index, warnings));
    unused(policy, warnings);
}

/// T-01: `secret/**` denies all that lies in `secret`, and not the folder itself: it can still be looked at and made. Who means
/// both must say so.
fn open_folders(policy: &Effective, index: usize, warnings: &mut Vec<String>) {
    let rules = policy.workspace_rules(index);
    let deny = || rules.iter().filter(|rule| rule.kind == RuleKind::Deny);
    for rule in deny() {
        let glob = rule.glob.text();
        let Some(folder) = glob.strip_suffix("/**").filter(|folder| !folder.ends_with("**")) else { continue };
        if !deny().any(|other| other.glob.text() == folder || other.glob.covers(folder)) {
            warnings.push(format!(
                "{}: `{glob}` denies what lies in `{folder}` and not `{folder}` itself; `{folder}` denies both",
                rule.id
            ));
        }
    }
}

/// A grant that nothing serves must not look like one.
fn unused(policy: &Effective, warnings: &mut Vec<String>) {
    let sections = [
        ("[[net.allow]]", !policy.net().is_empty()),
        ("[browser]", policy.browser().is_some()),
        ("[input]", policy.input().is_some_and(|input| input.enabled)),
        ("[tools]", policy.tools().is_some()),
        ("[[secret]]", !policy.secrets().is_empty()),
    ];
    for (section, _) in sections.iter().filter(|(_, stated)| *stated) {
        warnings.push(format!("{section}: this version grants nothing by it"));
    }
    if let Some(Llm::Endpoint { .. }) = policy.llm() {
        warnings.push("[llm]: this version answers from recordings only (provider = \"replay\")".to_owned());
    }
    if !policy.approval_settings().ask.is_empty() {
        warnings.push("[approval] ask: this version cannot ask, so what is named there is denied".to_owned());
    }
    without_effect(policy, warnings);
    if policy.isolation().allow_root {
        warnings.push("[isolation] allow_root: a task that root starts may run as root".to_owned());
    }
}

/// Keys that are read and change nothing yet, each where it stands.
fn without_effect(policy: &Effective, warnings: &mut Vec<String>) {
    let mut keys = vec![
        ("limits.net_requests".to_owned(), "this version makes no request"),
        ("limits.net_bytes".to_owned(), "this version makes no request"),
        ("approval.timeout".to_owned(), "this version asks nobody; what is named in `ask` is denied"),
    ];
    if policy.approval_settings().via != ApprovalVia::Deny {
        keys.push(("approval.via".to_owned(), "this version asks nobody; what is named in `ask` is denied"));
    }
    for workspace in policy.workspaces() {
        let why = "this version leases no file, so every byte goes through the broker";
        keys.push((format!("fs.workspace.{}.lease", workspace.label), why));
    }
    for (key, why) in keys {
        for place in policy.places_stated(&key) {
            warnings.push(format!("{place}: {key}: without effect yet: {why}"));
        }
    }
}

fn notes(warnings: &[String]) -> String {
    warnings.iter().map(|each| format!("warning: {}\n", one_line(each, LINE_MAX_CHARS))).collect()
}

fn to_json(policy: &Effective, warnings: &[String]) -> Value {
    let whole = policy.to_json();
    json!({
        "schema": "warden.policy-check/1",
        "ok": true,
        "policy_hash": policy.hash(),
        "layers": whole.get("layers"),
        "granted": granted(policy),
        "warnings": warnings,
    })
}

/// The summary's lines, each a kind and its words.
fn granted(policy: &Effective) -> Value {
    let lines = lines(policy);
    lines.into_iter().map(|(kind, text)| json!({"kind": kind, "grant": text})).collect()
}

fn to_text(policy: &Effective) -> String {
    let mut text = String::from("the policy is right\n");
    for (layer, file) in policy.layer_files() {
        text.push_str(&format!("{:<10} {}\n", layer.name(), one_line(file, LINE_MAX_CHARS)));
    }
    for (kind, line) in lines(policy) {
        text.push_str(&format!("{kind:<10} {}\n", one_line(&line, LINE_MAX_CHARS)));
    }
    text.push_str(&format!("{:<10} {}\n", "hash", policy.hash()));
    text
}

fn lines(policy: &Effective) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    for (index, workspace) in policy.workspaces().iter().enumerate() {
        let rules = policy.workspace_rules(index);
        let denied = rules.iter().filter(|rule| rule.kind == RuleKind::Deny).count();
        let kept = rules.iter().filter(|rule| rule.kind == RuleKind::DenyWrite).count();
        lines.push((
            "files",
            format!(
                "{}: {} {}, {denied} deny and {kept} deny_write rules, files up to {}",
                workspace.label,
                workspace.path.display(),
                workspace.access.name(),
                format_size(workspace.max_file_bytes)
            ),
        ));
    }
    for (index, command) in policy.commands().iter().enumerate() {
        lines.push(("command", command_line(policy, index, command)));
    }
    match policy.llm() {
        None => {}
        Some(Llm::Replay { file }) => lines.push(("model", format!("answers of the recording {}", file.display()))),
        Some(Llm::Endpoint { provider, base_url, model, .. }) => {
            lines.push(("model", format!("{model} at {base_url} ({})", provider.name())));
        }
    }
    if lines.is_empty() {
        lines.push(("nothing", "no file, no command, no model: a task can only compute".to_owned()));
    }
    lines.push(("limits", limits(policy)));
    lines
}

fn command_line(policy: &Effective, index: usize, command: &EffectiveCommand) -> String {
    let shapes = policy.argv_shapes(index).len();
    let place = command.cwd.and_then(|at| policy.workspaces().get(at)).map_or("/", |each| each.label.as_str());
    let mut line = format!(
        "{}: {}, {shapes} argv shapes, in {place}, up to {}",
        command.name,
        command.path.display(),
        format_duration(command.timeout)
    );
    for (said, stated) in [
        (", pinned", command.sha256.is_some()),
        (", may run programs of the workspace", command.exec_workspace),
        (", UNCHECKED", command.unchecked),
    ] {
        if stated {
            line.push_str(said);
        }
    }
    line
}

fn limits(policy: &Effective) -> String {
    let says = |key: LimitKey| Some(format!("{} {}", key.name(), key.written(policy.limits().get(key)?)));
    LimitKey::ALL.into_iter().filter_map(says).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use warden_policy::{Format, Policy};

    fn warned(text: &str) -> String {
        let policy = Policy::parse(text, Format::Toml, "test.toml", Path::new("/")).unwrap();
        let policy = Effective::combine(None, Some(policy), None).unwrap();
        let mut warnings = Vec::new();
        doubts(&policy, &mut warnings);
        warnings.join("\n")
    }

    const COMMAND: &str =
        "version = 1\n[[proc.command]]\nname = \"true\"\npath = \"/usr/bin/true\"\nargs = [[\"**\"]]\n";

    #[test]
    fn an_unchecked_command_is_warned_of_and_a_plain_one_is_not() {
        let workspace = "[[fs.workspace]]\nlabel = \"repo\"\npath = \"/srv\"\naccess = \"read-write\"\n";
        assert_eq!(warned(COMMAND), "");
        let unchecked = warned(&format!("{COMMAND}unchecked = true\n{workspace}"));
        assert!(unchecked.contains("unchecked = true, so where a host does not"), "{unchecked}");
        assert_eq!(warned(&format!("{COMMAND}{workspace}")), "");
    }

    #[test]
    fn a_deny_rule_that_leaves_its_folder_open_is_warned_of_and_one_that_does_not_is_not() {
        let deny = |globs: &str| {
            warned(&format!("version = 1\n[[fs.workspace]]\nlabel = \"repo\"\npath = \"/srv\"\ndeny = [{globs}]\n"))
        };
        let open = deny("\"secret/**\"");
        assert!(open.contains("user:fs.workspace.repo.deny[0]") && open.contains("`secret` denies both"), "{open}");
        assert!(deny("\"**/keys/**\"").contains("`**/keys` denies both"));
        for both in ["\"secret\"", "\"secret/**\", \"secret\"", "\"a/secret/**\", \"a\"", "\"**\"", "\"secret/*\""] {
            assert_eq!(deny(both), "", "{both}");
        }
    }

    #[test]
    fn a_section_that_grants_nothing_is_named_and_its_absence_is_not() {
        let net = warned("version = 1\n[[net.allow]]\nhost = \"example.com\"\n");
        assert!(net.contains("[[net.allow]]"), "{net}");
        assert_eq!(warned("version = 1\n"), "");
        let ask = warned("version = 1\n[approval]\nask = [\"proc.spawn\"]\n");
        assert!(ask.contains("denied"), "{ask}");
    }
}
