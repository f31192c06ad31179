//! The command line: what each command takes, and how everything it prints comes out.
//!
//! With `--json` (or `WARDEN_OUTPUT=json`) every command prints exactly one JSON object on standard output, usage errors
//! included; what is for people goes to standard error.

mod audit;
mod doctor;
mod guest;
mod jail;
mod layers;
mod limits;
mod outcome;
mod policy;
mod remedies;
mod run;
mod step;
mod task;

use crate::failure::{Class, Failure};
use crate::terminal;
use clap::{Args, Parser, Subcommand};
use serde_json::Value;
use std::ffi::OsString;

/// What stands for a file's name where flags are the task's layer.
const REQUEST_OF_FLAGS: &str = "the command line";

/// What a command has to say at its end.
pub struct Answer {
    /// With `--json`.
    pub json: Value,
    /// Without it: for standard output.
    pub text: String,
    /// For standard error, without `--json`.
    pub note: String,
    /// The exit status.
    pub status: i32,
}

#[derive(Debug, Parser)]
#[command(
    name = "warden",
    version,
    about = "Runs what an untrusted agent wants done, in jails, within a policy, on the record",
    after_help = "Exit status of run: the guest's own when it ended by itself (of a status beyond one byte the low byte, or 1 where that is 0).\n\
Else: 0 done; 1 not done; 2 the command line, a policy or a manifest is wrong, or a policy, manifest, recording or log folder is not \
there; 124 budget or time exhausted; 125 the guest trapped, the module is not valid or wants what is not there, or warden itself \
failed; 126 denied by policy; 127 module, command, tool or sample not found; 128+N ended by signal N.\n\n\
Files: ~/.config/wasi-warden/policy.toml is your policy, /etc/wasi-warden/policy.toml the ceiling nobody passes.\n\
Start with `warden doctor`, then `warden policy check`, then `warden task run MANIFEST`.\n\n\
Example:\n  warden run hello.wat"
)]
struct Cli {
    /// Print exactly one JSON object on standard output
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one WebAssembly module or component in a jail
    Run(run::RunArgs),
    /// Run one command of the system in a jail, its input and output passed through
    Jail(jail::JailArgs),
    /// Plan, act and observe towards a goal given in words
    Step(step::StepArgs),
    /// Run a task from its manifest
    Task(TaskArgs),
    /// Check, show and explain the policy
    Policy(policy::PolicyArgs),
    /// Verify and read the audit log
    Audit(audit::AuditArgs),
    /// Say what this host can enforce
    Doctor(doctor::DoctorArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  warden task run task.toml")]
struct TaskArgs {
    #[command(subcommand)]
    command: TaskCommand,
}

#[derive(Debug, Subcommand)]
enum TaskCommand {
    /// Run a manifest: a goal for a brain, or a runbook of fixed steps
    Run(task::TaskRunArgs),
}

/// Whether JSON is wanted, known before the command line is understood.
fn wants_json(arguments: &[OsString]) -> bool {
    arguments.iter().take_while(|a| *a != "--").any(|a| a == "--json") || environment_wants_json()
}

fn environment_wants_json() -> bool {
    std::env::var_os("WARDEN_OUTPUT").is_some_and(|v| v == "json")
}

/// The command's name on the command line, if there is one.
fn first_word(arguments: &[OsString]) -> Option<&OsString> {
    arguments.iter().skip(1).find(|each| !each.as_encoded_bytes().starts_with(b"-"))
}

/// Runs the command line and returns the exit status.
pub fn main() -> i32 {
    // T-13: before anything is read, for every command. Then, before anything is opened, what we were started with.
    let hardened = warden_spawner::birth::harden();
    // Before there is anything to leave behind: a person's signal is the status that is told of it, whenever it comes.
    let hardened = hardened.and(warden_spawner::signals::end_with_statuses());
    warden_proto::sys::note_inherited();
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    let mut json = wants_json(&arguments);
    // `help` is a command of clap's own and knows no flag of ours.
    if first_word(&arguments).is_some_and(|word| word == "help") {
        arguments.retain(|each| each != "--json");
    }
    start_log();
    if let Err(errno) = hardened {
        return answer(
            Err(Failure::internal(format!(
                "warden could not make itself unreadable to others, or not take signals: {errno}"
            ))),
            json,
        );
    }
    let result = match Cli::try_parse_from(&arguments) {
        Ok(cli) => {
            // What stands after the command's name is the command's.
            if matches!(cli.command, Command::Jail(_)) {
                json = cli.json || environment_wants_json();
            }
            obey(cli.command, json)
        }
        Err(error) => match explain_usage(&error, &arguments, json) {
            Ok(status) => return status,
            Err(failure) => Err(failure),
        },
    };
    answer(result, json)
}

fn answer(result: Result<Answer, Failure>, json: bool) -> i32 {
    match result {
        Ok(answer) => print(&answer, json),
        Err(failure) => {
            let status = failure.class.status();
            if json {
                return told(terminal::say_json(&failure.to_json()), status);
            }
            terminal::note(&format!("warden: {failure}"));
            status
        }
    }
}

fn obey(command: Command, json: bool) -> Result<Answer, Failure> {
    match command {
        Command::Run(args) => run::run(args, json),
        Command::Jail(args) => jail::run(args, json),
        Command::Step(args) => step::run(args, json),
        Command::Task(TaskArgs { command: TaskCommand::Run(args) }) => task::run(args, json),
        Command::Policy(args) => policy::run(args),
        Command::Audit(args) => audit::run(args, json),
        Command::Doctor(args) => doctor::run(&args),
    }
}

/// Help and version are no errors; everything else is a usage error with its own words.
fn explain_usage(error: &clap::Error, arguments: &[OsString], json: bool) -> Result<i32, Failure> {
    use clap::error::ErrorKind;
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let text = error.render().to_string();
            let said = if json {
                terminal::say_json(&serde_json::json!({"schema": "warden.help/1", "text": text}))
            } else {
                terminal::say(&text)
            };
            Ok(told(said, 0))
        }
        _ => {
            let hint = separator_hint(error, arguments).unwrap_or_default();
            let text = error.render().to_string();
            if json {
                return Err(Failure::usage(format!("{}{hint}", text.trim())));
            }
            terminal::note(&format!("{}{hint}", text.trim_end()));
            Ok(2)
        }
    }
}

/// A word too many after `warden run FILE` is most likely one for the guest.
fn separator_hint(error: &clap::Error, arguments: &[OsString]) -> Option<String> {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    let word = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(word)) if error.kind() == ErrorKind::UnknownArgument => word,
        _ => return None,
    };
    let running = first_word(arguments).is_some_and(|command| command == "run");
    running.then(|| {
        let word = terminal::one_line(word, 80);
        format!("\n\narguments of the guest come after `--`: warden run FILE -- {word}")
    })
}

/// The status of a command whose answer was written, or is wanted by nobody any more; a full disk must not pass for an answer.
fn told(said: std::io::Result<bool>, status: i32) -> i32 {
    let Err(error) = said else { return status };
    terminal::note(&format!("warden: the answer could not be written to standard output: {error}"));
    Class::Internal.status()
}

fn print(answer: &Answer, json: bool) -> i32 {
    if json {
        return told(terminal::say_json(&answer.json), answer.status);
    }
    let status = told(terminal::say(&answer.text), answer.status);
    if !answer.note.is_empty() {
        terminal::note(&answer.note);
    }
    status
}

/// Logs go to standard error; WARDEN_LOG chooses what (default: warnings).
fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("WARDEN_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("error"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false);
    let _ = log.with_writer(|| terminal::LogWriter).try_init();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(words: &[&str]) -> Option<String> {
        let arguments: Vec<OsString> = words.iter().map(OsString::from).collect();
        let error = Cli::try_parse_from(&arguments).expect_err("a mistake");
        separator_hint(&error, &arguments)
    }

    #[test]
    fn a_word_too_many_after_a_module_is_told_its_place_and_another_mistake_is_not() {
        assert!(hint(&["warden", "--json", "run", "a.wasm", "first"]).is_some_and(|hint| hint.contains("-- first")));
        assert_eq!(hint(&["warden", "run", "a.wasm", "--fuel", "x"]), None);
        assert_eq!(hint(&["warden", "task", "run", "a.toml", "first"]), None);
    }
}
