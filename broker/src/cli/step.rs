//! `warden step --task T`: the bounded plan–act–observe loop from flags.

use super::Answer;
use super::layers::{self, UserLayer};
use super::limits::LimitArgs;
use super::task::{LoopTask, brain_bytes, planner, run_loop};
use crate::failure::{Class, Failure};
use clap::Args;
use std::path::PathBuf;
use warden_policy::{Access, Brain, Layer, Llm, Policy, Scope, Workspace, allowed_command};

/// `warden step`
#[derive(Debug, Args)]
#[command(
    after_help = "Without --config the workspace is --workspace or the current directory, read-write, and the commands are those of \
--allow-proc; the model comes from `[llm]` of your policy, or from --replay.\n\nThe rules of the workspace hold for \
commands too; what would run later outside of any jail, such as .git/hooks and .git/config, they cannot write. Where a host does not allow \
this, a command is refused, or with --unchecked runs without, and the result says `degraded`.\n\nExamples:\n  \
warden step --task 'Summarise the notes' --workspace ./notes --replay run.jsonl\n  \
warden step --task 'Run the tests' --workspace ./copy --allow-proc python3 --replay run.jsonl"
)]
pub struct StepArgs {
    /// What is to be done, in words
    #[arg(long, value_name = "T")]
    task: String,
    /// What the brain is told before its first plan, as JSON: it reads it as the data of its first observation
    #[arg(long, visible_alias = "obs", value_name = "J", default_value = "{}")]
    observation: String,
    /// A policy; also a `hostd.toml`, the configuration of warden's predecessor, which has no `version`
    #[arg(long, value_name = "P")]
    config: Option<PathBuf>,
    /// A brain of the world osagent:agent/control, instead of the built-in one
    #[arg(long, value_name = "C")]
    component: Option<PathBuf>,
    /// The folder to work in
    #[arg(long, value_name = "D")]
    workspace: Option<PathBuf>,
    /// Allow a command, with any arguments; repeatable
    #[arg(long, value_name = "CMD")]
    allow_proc: Vec<String>,
    /// On a host where the rules of files cannot be kept on commands: run those of --allow-proc without them
    #[arg(long, requires = "allow_proc")]
    unchecked: bool,
    /// Number of the first step
    #[arg(long, value_name = "N", default_value_t = 0)]
    step: u32,
    /// Answer model calls from a recording
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    #[command(flatten)]
    limits: LimitArgs,
    /// Started as root: run as this user
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
}

/// Runs the command.
pub fn run(args: StepArgs, json: bool) -> Result<Answer, Failure> {
    if args.task.trim().is_empty() {
        return Err(Failure::usage("--task: say in words what is to be done"));
    }
    serde_json::from_str::<serde::de::IgnoredAny>(&args.observation)
        .map_err(|e| Failure::usage(format!("--observation is no JSON: {e}")))?;
    let request = request(&args)?;
    let user = args.config.clone().map_or(UserLayer::Own, UserLayer::File);
    let layers = layers::read(user, Some(request))?;
    if layers.policy.llm().is_none() {
        return Err(Failure::usage(
            "no model is set up: give `[llm]` in your policy or with --config, or a recording with --replay FILE",
        ));
    }
    let mut deciding = layers.files;
    let brain = match &args.component {
        None => Brain::AgentCore,
        Some(path) => Brain::Component(layers::named(path)?),
    };
    let brain = brain_bytes(&brain, &mut deciding)?;
    let guest = planner(args.task, args.observation, args.step)?;
    let task = LoopTask {
        policy: layers.policy,
        deciding,
        guest,
        brain,
        predicates: Vec::new(),
        runbook: None,
        user: args.user,
        manifest: None,
    };
    run_loop(task, json)
}

/// The flags as the task's layer. With --config and no --workspace, the file's workspaces stand.
fn request(args: &StepArgs) -> Result<Policy, Failure> {
    let mut request = Policy::empty(super::REQUEST_OF_FLAGS, Scope::Request);
    let current = std::env::current_dir().map_err(|e| Failure::usage(format!("the current directory: {e}")))?;
    if args.workspace.is_some() || args.config.is_none() {
        let path = args.workspace.as_ref().map_or(current.clone(), |path| current.join(path));
        request.workspaces = Some(vec![Workspace::new("workspace", path, Access::ReadWrite)]);
    }
    if !args.allow_proc.is_empty() || args.config.is_none() {
        let mut commands = Vec::new();
        for name in &args.allow_proc {
            let mut command =
                allowed_command(name, &current).map_err(|why| Failure::usage(format!("--allow-proc {name}: {why}")))?;
            // T-10: to name a command is not to give up the rules of files; that is asked for by its own name.
            command.unchecked = args.unchecked;
            commands.push(command);
        }
        request.commands = Some(commands);
    }
    if let Some(replay) = &args.replay {
        request.llm = Some(Llm::Replay { file: layers::named(replay)? });
    }
    args.limits.to_limits(&mut request.limits)?;
    layers::resolve(&mut request, Layer::Task)?;
    if let Some(missing) =
        request.commands.iter().flatten().find(|c| matches!(c.path, warden_policy::CommandPath::Lookup(_)))
    {
        let message = format!("--allow-proc {}: no such program in /usr/bin or /bin", missing.name);
        return Err(Failure::new(Class::NotFound, message));
    }
    Ok(request)
}
