//! `warden policy`: is it right, what does it come to, and which rule decides a call.
//!
//! Runs in the broker's process before there is a session: nothing is started. It trusts the policy files as `layers` does
//! and escapes every text of theirs on its way to a terminal (T-14).

mod check;
pub mod reading;

use super::Answer;
use super::layers::{self, Layers, UserLayer};
use crate::deciding::Deciding;
use crate::failure::{Class, Failure};
use crate::progress::one_line;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::path::PathBuf;
use warden_policy::{CAPABILITIES, Effective, Explanation, Format, Layer, Manifest, Verdict, canonical_capability};

/// Longest line of an explanation, characters.
const LINE_MAX_CHARS: usize = 400;

/// `warden policy`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  warden policy check warden.toml\n  warden policy why fs.write_file repo:src/main.rs --config warden.toml"
)]
pub struct PolicyArgs {
    #[command(subcommand)]
    command: PolicyCommand,
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// Say whether a policy is right, what it grants, and what is doubtful
    #[command(after_help = "Example:\n  warden policy check warden.toml\n\n\
A mistake is named as file:line:column, exit status 2. Nothing is started.")]
    Check(CheckArgs),
    /// Print the effective policy: what all layers together leave
    #[command(after_help = "Example:\n  warden policy show --config warden.toml > effective.toml\n\n\
The text is a policy file again. Layers: the system's ceiling, yours, the task's request.")]
    Show(LayerArgs),
    /// Say which rule of which layer allows or denies a call, and why
    #[command(after_help = "Examples:\n  warden policy why fs.write_file repo:src/main.rs\n  \
warden policy why fs.open repo:notes.txt write\n  \
warden policy why proc.spawn cargo --config warden.toml -- test --release\n\n\
Exit status: 0 allowed, 126 denied. Nothing is started or opened; arguments with a dash come after `--`.")]
    Why(WhyArgs),
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// The policy; your own where none is named
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// The same as FILE, by the flag that other commands have for it
    #[arg(long, value_name = "P", conflicts_with = "file")]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct LayerArgs {
    /// The user's layer, instead of your own
    #[arg(long, value_name = "P")]
    config: Option<PathBuf>,
    /// A manifest: its policy is the user's layer (unless --config names one), its requests the task's
    #[arg(long, value_name = "M")]
    manifest: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct WhyArgs {
    /// A capability, such as fs.read_file or proc.spawn
    #[arg(value_name = "CAP")]
    capability: String,
    /// What it is used on: paths as guests write them, or a command and its arguments
    #[arg(value_name = "ARGS")]
    words: Vec<String>,
    #[command(flatten)]
    layers: LayerArgs,
}

/// Runs the command.
pub fn run(args: PolicyArgs) -> Result<Answer, Failure> {
    match args.command {
        PolicyCommand::Check(args) => check::run(args.file.or(args.config)),
        PolicyCommand::Show(args) => Ok(show(&read(&args)?.policy)),
        PolicyCommand::Why(args) => {
            let words: Vec<&str> = args.words.iter().map(String::as_str).collect();
            why(&read(&args.layers)?.policy, &args.capability, &words)
        }
    }
}

/// The layers as a run of the same task would have them.
fn read(args: &LayerArgs) -> Result<Layers, Failure> {
    let (mut named, mut request) = (args.config.clone(), None);
    if let Some(path) = &args.manifest {
        let file = Deciding::open("manifest", path, nix::unistd::getuid().as_raw())?;
        let name = path.display().to_string();
        let manifest = Manifest::parse(&file.text()?, Format::of_file_name(&name), &name, file.folder())
            .map_err(|e| Failure::usage(e.to_string()))?;
        let mut task = manifest.request;
        layers::resolve(&mut task, Layer::Task)?;
        request = Some(task);
        named = named.or(manifest.policy);
    }
    let layers = layers::read(named.map_or(UserLayer::Own, UserLayer::File), request)?;
    if layers.policy.layer_files().is_empty() {
        return Err(no_policy());
    }
    Ok(layers)
}

/// Without any layer nothing is allowed, and there is nothing to show.
fn no_policy() -> Failure {
    let own = crate::places::Places::of_caller().policy;
    Failure::usage(format!(
        "there is no policy: {} does not exist, so nothing is granted but what flags name. Write one, or name one with --config",
        own.display()
    ))
}

fn show(policy: &Effective) -> Answer {
    let mut object = json!({"schema": "warden.policy/1"});
    if let (Some(object), Value::Object(whole)) = (object.as_object_mut(), policy.to_json()) {
        object.extend(whole);
    }
    // TOML has its own escapes for control characters; line by line the rest is made visible too.
    let text = policy.to_toml().lines().map(|line| visible(line) + "\n").collect();
    Answer { json: object, text, note: String::new(), status: 0 }
}

/// A line with nothing in it that steers a terminal, uncut.
fn visible(line: &str) -> String {
    one_line(line, usize::MAX)
}

fn why(policy: &Effective, capability: &str, words: &[&str]) -> Result<Answer, Failure> {
    let capability = canonical_capability(capability);
    if !CAPABILITIES.contains(&capability.as_str()) {
        return Err(unknown_capability(&capability));
    }
    let explanation = policy
        .explain_words(&capability, words)
        .map_err(|e| Failure::usage(one_line(&e.to_string(), LINE_MAX_CHARS)))?;
    let status = if matches!(explanation.verdict, Verdict::Allow(_)) { 0 } else { Class::Denied.status() };
    Ok(Answer { json: why_json(&explanation), text: why_text(&explanation), note: String::new(), status })
}

/// Not a denial: nobody asks for what does not exist, somebody mistyped it.
fn unknown_capability(name: &str) -> Failure {
    let family = name.split('.').next().unwrap_or_default();
    let near: Vec<&str> = CAPABILITIES.iter().copied().filter(|each| each.split('.').next() == Some(family)).collect();
    let offer = if near.is_empty() { CAPABILITIES.join(" ") } else { near.join(" ") };
    Failure::usage(format!("there is no capability `{}`; there are: {offer}", one_line(name, 80)))
}

/// The deciding rule, its reason, and the rule that asks for approval.
fn decision(verdict: &Verdict) -> (bool, String, &str, Option<&str>) {
    match verdict {
        Verdict::Allow(grant) => {
            let rule = grant.rules.last().cloned().unwrap_or_default();
            (true, rule, &grant.reason, grant.approval.as_deref())
        }
        Verdict::Deny(denial) => (false, denial.rule.clone(), &denial.reason, None),
    }
}

fn why_json(explanation: &Explanation) -> Value {
    let (allowed, rule, reason, approval) = decision(&explanation.verdict);
    let layers: Vec<Value> = explanation
        .layers
        .iter()
        .enumerate()
        .map(|(index, each)| {
            let layer = each.layer.map(warden_policy::Layer::name);
            let path = path_of(explanation, index);
            json!({"layer": layer, "path": path, "allowed": each.allowed, "rule": each.rule, "reason": each.reason})
        })
        .collect();
    json!({
        "schema": "warden.why/1",
        "capability": explanation.capability,
        "target": explanation.target,
        "to": explanation.second.as_ref().map(|second| &second.path),
        "allowed": allowed,
        "rule": rule,
        "reason": reason,
        "approval": approval,
        "layers": layers,
    })
}

/// Which of a rename's two paths a verdict is about.
fn path_of(explanation: &Explanation, verdict: usize) -> Option<&str> {
    let second = explanation.second.as_ref()?;
    if verdict < second.first_verdict { explanation.target.as_deref() } else { Some(&second.path) }
}

fn why_text(explanation: &Explanation) -> String {
    let (allowed, rule, reason, approval) = decision(&explanation.verdict);
    let word = if allowed { "allowed" } else { "denied" };
    let mut target = explanation.target.clone().unwrap_or_default();
    if let Some(second) = &explanation.second {
        target.push_str(&format!(" to {}", second.path));
    }
    let mut lines = vec![format!("{word}  {} {target}", explanation.capability), format!("  by {rule}: {reason}")];
    if let Some(rule) = approval {
        lines.push(format!("  after a person's approval, by {rule}"));
    }
    for (index, each) in explanation.layers.iter().enumerate() {
        let layer = each.layer.map_or("built-in", warden_policy::Layer::name);
        let word = if each.allowed { "allows" } else { "denies" };
        let path = path_of(explanation, index).map(|path| format!("{path}  ")).unwrap_or_default();
        lines.push(format!("{layer:<8} {word}  {path}{}: {}", each.rule, each.reason));
    }
    lines.iter().map(|line| one_line(line.trim_end(), LINE_MAX_CHARS) + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use warden_policy::Policy;

    fn effective(text: &str) -> Effective {
        let policy = Policy::parse(text, Format::Toml, "test.toml", Path::new("/")).unwrap();
        Effective::combine(None, Some(policy), None).unwrap()
    }

    const FILES: &str = "version = 1\n[[fs.workspace]]\nlabel = \"repo\"\npath = \"/srv/repo\"\ndeny = [\"**/.env\"]\n";

    #[test]
    fn a_denied_call_names_rule_and_status_and_an_allowed_one_does_too() {
        let policy = effective(FILES);
        let denied = why(&policy, "fs.read-file", &["repo:.env"]).unwrap();
        assert_eq!((denied.status, denied.json["allowed"].clone()), (126, json!(false)));
        assert_eq!(denied.json["rule"], "user:fs.workspace.repo.deny[0]");
        let allowed = why(&policy, "fs.read_file", &["repo:a.txt"]).unwrap();
        assert_eq!((allowed.status, allowed.json["allowed"].clone()), (0, json!(true)));
        assert_eq!(allowed.json["layers"][0]["layer"], "user");
    }

    #[test]
    fn a_mistyped_capability_is_a_usage_error_and_a_right_one_is_not() {
        let policy = effective(FILES);
        let failure = why(&policy, "fs.raed_file", &["repo:a"]).err().unwrap();
        assert!(failure.class == Class::Usage && failure.message.contains("fs.read_file"), "{failure}");
        assert!(why(&policy, "fs.metadata", &["repo:a"]).is_ok());
    }

    #[test]
    fn a_word_that_says_nothing_is_a_usage_error_and_both_paths_of_a_rename_are_shown() {
        let policy = effective(&FILES.replace("deny =", "access = \"read-write\"\ndeny ="));
        let failure = why(&policy, "fs.open", &["repo:a", "wrtie"]).err().unwrap();
        assert!(failure.class == Class::Usage && failure.message.contains("wrtie"), "{failure}");
        assert_eq!(why(&policy, "fs.write_file", &["repo:a", "repo:b"]).err().unwrap().class, Class::Usage);
        assert_eq!(why(&policy, "fs.open", &["repo:a", "write"]).unwrap().status, 0);
        let denied = why(&policy, "fs.rename", &["repo:a", "repo:.env"]).unwrap();
        assert_eq!((denied.status, denied.json["to"].clone()), (126, json!("repo:.env")));
        assert!(denied.text.contains("fs.rename repo:a to repo:.env"), "{}", denied.text);
        assert!(denied.text.contains("denies  repo:.env  user:fs.workspace.repo.deny[0]"), "{}", denied.text);
        assert!(denied.text.contains("allows  repo:a  user:fs.workspace.repo"), "{}", denied.text);
        assert_eq!(why(&policy, "fs.rename", &["repo:a", "repo:b"]).unwrap().status, 0);
    }

    #[test]
    fn a_target_cannot_steer_the_terminal() {
        let answer = why(&effective(FILES), "fs.read_file", &["repo:a\u{1b}[2J\nallowed"]).unwrap();
        assert!(!answer.text.contains('\u{1b}'), "{}", answer.text);
        assert_eq!(answer.text.lines().filter(|line| line.starts_with("allowed")).count(), 1, "{}", answer.text);
    }

    #[test]
    fn what_is_shown_reads_back_as_the_same_policy() {
        let policy = effective(FILES);
        let shown = show(&policy);
        assert_eq!(shown.json["policy_hash"], policy.hash());
        let again = effective(&shown.text);
        assert_eq!(show(&again).json["policy"], shown.json["policy"]);
    }
}
