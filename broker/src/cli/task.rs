//! `warden task run MANIFEST`: a goal for a brain, or a runbook of fixed steps.

mod early;

use super::guest::{self, Guest};
use super::layers::{self, UserLayer};
use super::{Answer, outcome};
use crate::audit::HexDigest;
use crate::deciding::Deciding;
use crate::failure::{Class, Failure};
use crate::places::program_folders;
use crate::progress;
use crate::session::{self, Hangup, Request, Session};
use crate::task::runbook::Runbook;
use clap::Args;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;
use warden_policy::{Brain, Effective, Format, Layer, Llm, Manifest, ManifestKind, OnFailure, Predicate, Step};
use warden_proto::Text;
use warden_proto::msg::worker::GuestKind;

/// `wall` of a task where nothing is said.
const TASK_WALL: Duration = Duration::from_secs(600);

/// `warden task run`
#[derive(Debug, Args)]
#[command(
    after_help = "A manifest (TOML, YAML or JSON):\n  kind = \"goal\"\n  policy = \"warden.toml\"\n  goal = \"Make the failing test pass\"\n  [[success]]\n  command = \"python3\"\n  args = [\"-m\", \"unittest\"]\n\n\
Example:\n  warden task run task.toml --json\n\n\
The task is `done` only when warden itself has found every [[success]] predicate to hold; without any it ends `unverified`.\n\n\
Signals: SIGINT (Ctrl-C), SIGTERM and SIGQUIT end the task within its grace, with status 130, 143 or 131; a second one at once. \
SIGHUP ends nothing: it begins a new segment of the audit log."
)]
pub struct TaskRunArgs {
    /// The manifest
    #[arg(value_name = "MANIFEST", required_unless_present = "manifest")]
    file: Option<PathBuf>,
    /// The same as MANIFEST, for scripts that name it by a flag
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    manifest: Option<PathBuf>,
    /// Answer model calls from a recording
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// Started as root: run as this user
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
}

/// Everything a loop task needs, whichever command asked for it.
pub struct LoopTask {
    /// The layers together, and their files.
    pub policy: Effective,
    /// Files that decided.
    pub deciding: Vec<Deciding>,
    /// How the guest is run.
    pub guest: GuestKind,
    /// The brain's bytes.
    pub brain: Vec<u8>,
    /// What must hold.
    pub predicates: Vec<Predicate>,
    /// A runbook.
    pub runbook: Option<Runbook>,
    /// `--user`.
    pub user: Option<String>,
    /// SHA-256 of its manifest, if it has one.
    pub manifest: Option<HexDigest>,
}

/// Runs the command.
pub fn run(args: TaskRunArgs, json: bool) -> Result<Answer, Failure> {
    let path = args.file.or(args.manifest).ok_or_else(|| Failure::usage("name a manifest"))?;
    let file = Deciding::open("manifest", &path, nix::unistd::getuid().as_raw())?;
    let name = path.display().to_string();
    let text = file.text()?;
    let manifest_sha256 = HexDigest::of(text.as_bytes());
    let manifest = Manifest::parse(&text, Format::of_file_name(&name), &name, file.folder())
        .map_err(|e| Failure::usage(e.to_string()))?;
    let Manifest { kind, policy, mut request, success } = manifest;
    layers::resolve(&mut request, Layer::Task)?;
    if let Some(replay) = &args.replay {
        request.llm = Some(Llm::Replay { file: layers::named(replay)? });
    }
    let marks = request.marks.clone();
    let user = policy.map_or(UserLayer::Own, UserLayer::File);
    let layers = layers::read(user, Some(request))?;
    early::check(&layers.policy, &kind, &success, |rule| marks.place(&name, rule))?;
    let mut deciding = layers.files;
    deciding.push(file);
    let (task, brain, runbook) = match kind {
        ManifestKind::Goal { goal, brain } => (goal, brain_bytes(&brain, &mut deciding)?, None),
        ManifestKind::Runbook { steps } => {
            (runbook_text(&steps)?, builtin("runbook-player", &mut deciding)?, Some(Runbook::new(&steps)))
        }
        other => {
            let message =
                format!("kind \"{}\" is not run by this version of warden; `warden run` runs a module", other.name());
            return Err(Failure::new(Class::Unavailable, message));
        }
    };
    let guest = planner(task, "{}".to_owned(), 1)?;
    let task = LoopTask {
        policy: layers.policy,
        deciding,
        guest,
        brain,
        predicates: success,
        runbook,
        user: args.user,
        manifest: Some(manifest_sha256),
    };
    run_loop(task, json)
}

/// The setup of a planner.
pub fn planner(task: String, observation: String, first_step: u32) -> Result<GuestKind, Failure> {
    let long = |what: &'static str| move |e: warden_proto::bounded::TooLong| Failure::usage(format!("{what}: {e}"));
    Ok(GuestKind::Planner {
        task: Text::new(task).map_err(long("the task"))?,
        observation: Text::new(observation).map_err(long("the observation"))?,
        first_step,
    })
}

/// What the runbook player is told: the steps as JSON.
fn runbook_text(steps: &[Step]) -> Result<String, Failure> {
    let steps: Vec<_> = steps
        .iter()
        .map(|step| {
            let on_failure = if step.on_failure == OnFailure::Stop { "stop" } else { "continue" };
            json!({"capability": step.capability, "input": step.input, "on_failure": on_failure, "audit_tag": step.audit_tag})
        })
        .collect();
    Ok(json!({"steps": steps}).to_string())
}

/// The bytes of the brain a manifest or flag names.
pub fn brain_bytes(brain: &Brain, deciding: &mut Vec<Deciding>) -> Result<Vec<u8>, Failure> {
    match brain {
        Brain::AgentCore => builtin("agent-core", deciding),
        Brain::Component(path) => decided("the brain", path, deciding),
    }
}

/// The bytes of a guest, of the very file that was checked and will be compared with the workspaces (T-10): one that a task
/// can replace would think for the next.
fn decided(what: &'static str, path: &Path, deciding: &mut Vec<Deciding>) -> Result<Vec<u8>, Failure> {
    let file = Deciding::open(what, path, nix::unistd::getuid().as_raw())?;
    let bytes = file.bytes()?;
    deciding.push(file);
    Ok(bytes)
}

/// A guest that came with warden.
fn builtin(name: &str, deciding: &mut Vec<Deciding>) -> Result<Vec<u8>, Failure> {
    let file = format!("guests/{name}.wasm");
    let folders = program_folders();
    match folders.iter().map(|folder| folder.join(&file)).find(|path| path.is_file()) {
        Some(path) => decided("the guest", &path, deciding),
        None => {
            let places: Vec<String> = folders.iter().map(|f| f.display().to_string()).collect();
            let message =
                format!("{file} was not found in {}; build it with `cargo build --release`", places.join(", "));
            Err(Failure::new(Class::Unavailable, message))
        }
    }
}

/// A brain that is no module is named: it may be one that came with warden, which nobody has asked for by its name.
fn naming(failure: Failure, brain: Option<&Path>) -> Failure {
    match (failure.class, brain) {
        (Class::InvalidModule, Some(brain)) => {
            Failure::new(failure.class, format!("{}: {}", brain.display(), failure.message))
        }
        _ => failure,
    }
}

/// Runs a plan–act–observe loop to its end.
pub fn run_loop(task: LoopTask, json: bool) -> Result<Answer, Failure> {
    if let Some(predicate) = crate::task::predicates::cannot_be_evaluated(&task.predicates) {
        let message = format!(
            "the predicate `{predicate}` cannot be evaluated: this version of warden has no helper that holds the thing"
        );
        return Err(Failure::new(Class::Unavailable, message));
    }
    if let Some(Llm::Endpoint { provider, .. }) = task.policy.llm() {
        let message = format!(
            "[llm] provider = \"{}\": this version of warden speaks to no model endpoint; use provider = \"replay\" with a recording",
            provider.name()
        );
        return Err(Failure::new(Class::Unavailable, message));
    }
    let recording = layers::open_recording(&task.policy)?;
    let transcript = recording.as_ref().map(|file| file.path.display().to_string());
    let programs = layers::open_programs(&task.policy)?;
    let policy = Rc::new(task.policy);
    let mut deciding = task.deciding;
    let recording_fd = recording.as_ref().map(Deciding::duplicate).transpose()?;
    deciding.extend(recording);
    let guest = Guest {
        what: if task.runbook.is_some() { "runbook" } else { "goal" },
        manifest: task.manifest,
        kind: task.guest,
        module: task.brain,
        wall: TASK_WALL,
        predicates: task.predicates,
        runbook: task.runbook,
        recording: recording_fd,
        keep_output: true,
    };
    let brain =
        deciding.iter().find(|file| ["the guest", "the brain"].contains(&file.what)).map(|file| file.path.clone());
    let hangup = Hangup::NewSegment;
    let request =
        Request { policy, user: task.user, deciding, programs, quiet: json, guests: true, first: None, hangup };
    let progress = progress::for_terminal(json);
    let play = async move |session: Rc<Session>| guest::run(&session, guest, progress).await;
    let ((ended, id), head) = session::run(request, play).map_err(|failure| naming(failure, brain.as_deref()))?;
    Ok(outcome::task(ended, &id, head.as_ref(), transcript.as_deref()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::stat;

    #[test]
    fn a_brain_in_a_workspace_is_among_what_is_compared_and_its_bytes_are_those_that_were_checked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("brain.wasm");
        std::fs::write(&path, "checked").unwrap();
        let facts = stat(dir.path()).unwrap();
        let mut deciding = Vec::new();
        assert_eq!(decided("the guest", &path, &mut deciding).unwrap(), b"checked");
        let [file] = deciding.as_slice() else { panic!("{deciding:?}") };
        assert!(file.outside(&[("w".to_owned(), (facts.st_dev, facts.st_ino))]).is_err());
        assert!(file.outside(&[("w".to_owned(), (facts.st_dev, facts.st_ino + 1_000_000))]).is_ok());
    }
}
