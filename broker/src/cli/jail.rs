//! `warden jail CMD`: one native command in cap-proc's jail, with the caller's streams passed through.
//!
//! What `bwrap`, `landrun` or `srt` do for a person, within the same policies, limits and log as a guest's commands. No
//! worker, template or compiler is started for it.

mod request;

use super::guest::{put_end, task_id};
use super::layers::{self, UserLayer};
use super::limits::allowance;
use super::{Answer, outcome};
use crate::audit::{About, HexDigest, TaskRecord};
use crate::failure::Failure;
use crate::runtime::OpenedWorkspace;
use crate::session::{self, First, Hangup, Request, Session};
use crate::streams::Streams;
use crate::task::{Early, Ended, Ending, Errand, Spec, Task};
use crate::terminal;
use clap::Args;
use nix::sys::stat::{Mode, umask};
use request::{at, request};
use std::cell::RefCell;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};
use warden_policy::{Call, Effective, LimitKey, PathArg, SpawnKind, Verdict};
use warden_proto::msg::proc::GroupSetup;

/// Where neither a flag nor a policy bounds the time: longer than any command, and short enough for every clock.
const NO_BOUND: Duration = Duration::from_secs(365 * 24 * 3600);

/// What holds in the workspaces, named as the keys of a policy.
#[derive(Debug, Args)]
#[command(next_help_heading = "Rules of the workspaces")]
struct FileArgs {
    /// What no command may see the inside of, such as '**/.env'; repeatable
    #[arg(long, value_name = "GLOB")]
    deny: Vec<String>,
    /// What may be read and not changed; repeatable
    #[arg(long, value_name = "GLOB")]
    deny_write: Vec<String>,
    /// Let what would run later outside be written: .git/hooks, .git/config, .envrc, .vscode, .idea, .cargo/config
    #[arg(long)]
    allow_run_later: bool,
    /// Let programs that lie in a workspace be run
    #[arg(long)]
    exec_workspace: bool,
    /// Longest file (64MiB unless this or a policy says otherwise, and never more than --fs-written)
    #[arg(long, value_name = "SIZE")]
    max_file: Option<String>,
}

/// `warden jail`
#[derive(Debug, Args)]
#[command(
    after_help = "Without a policy the flags are the policy: the command may be given any arguments, sees the system's programs and \
libraries read-only, a private directory as $HOME and $TMPDIR that is gone afterwards, and of your files what --workspace names; without \
--workspace none. It gets no network, no socket of another program, no terminal and none of your environment.\n\n\
With a policy (--policy, else your own, within the system's) CMD is a `[[proc.command]]` of it, by name or by its path: its arguments, \
environment, working directory and timeout hold. Flags only narrow: --workspace must lie in a workspace of the policy, --allow-proc must \
name commands of it, --deny and --deny-write come on top of its rules, and limits are the least. What asks for more (--allow-run-later, \
--exec-workspace, --max-file, :rw) where the policy does not say so ends with 126 and names both rules.\n\n\
CMD without a slash is looked up once in /usr/bin and /bin; with one it is that file, which may not lie where the command itself could \
write. The command starts where you stand, if that lies in a workspace, else in the command's `cwd` or the first workspace, else in its \
private directory. When it ends, everything that it started ends.\n\n\
Standard input, output and error are passed through pipes, to their ends and without a bound; a terminal is never handed on, and what is \
shown on one is shown with control characters made visible, but newline, tab, carriage return and colours. The log keeps length and \
SHA-256 of each stream.\n\n\
The rules of a workspace hold: what is denied, and what may not be changed, is EACCES to the command, and standard error, result and log \
name rule and path. What would run later outside (.git/hooks, .git/config, .envrc, .vscode, .idea, .cargo/config) is not written, so that \
`git init` and `git clone` need --allow-run-later. Where a host does not allow this, the command is refused, or with --unchecked runs \
without, and the result says `degraded`.\n\n\
Exit status: the command's own, or 128+N when signal N ended it; 124 its time or a budget was used up, 125 warden failed, 126 denied, \
127 not found, 130, 143 or 129 when you or the end of your terminal ended it, 2 for a mistake on the command line or in a policy.\n\n\
Examples:\n  warden jail ls -l /usr\n  warden jail --workspace .:ro -- grep -rn TODO .\n  \
warden jail --workspace . --deny '**/.env' -- npm test\n  warden jail --workspace . --allow-run-later -- git init\n  \
warden jail --policy warden.toml -- cargo test\n  curl -s https://example.org/data.json | warden jail -- jq .name"
)]
pub struct JailArgs {
    /// A policy to stay within, instead of your own
    #[arg(long, visible_alias = "config", value_name = "P")]
    policy: Option<PathBuf>,
    /// A folder for the command, read-write unless `:ro` follows; repeatable. Without a policy and without this: none
    #[arg(long, value_name = "D[:ro|:rw]")]
    workspace: Vec<String>,
    /// Run CMD only if it is one of these; repeatable. With a policy they must be commands of it
    #[arg(long, value_name = "CMD")]
    allow_proc: Vec<String>,
    #[command(flatten)]
    files: FileArgs,
    /// On a host where the rules of files cannot be kept on a command: run it without them
    #[arg(long)]
    unchecked: bool,
    /// Most time, such as 30s or 5m (unbounded without it, unless a policy says otherwise)
    #[arg(long, value_name = "DUR")]
    timeout: Option<String>,
    /// Most memory, such as 2GiB; a command has four times this over all its processes, and never less than 1GiB
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// Most that files may grow by, all together (100MiB unless this or a policy says otherwise)
    #[arg(long, value_name = "SIZE")]
    fs_written: Option<String>,
    /// Most processes at once (16 unless this or a policy says otherwise)
    #[arg(long, value_name = "N")]
    processes: Option<u64>,
    /// Started as root: run as this user
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD [ARGS]")]
    command: Vec<OsString>,
}

/// Runs the command.
pub fn run(args: JailArgs, json: bool) -> Result<Answer, Failure> {
    let words = texts(&args.command)?;
    let Some((command, arguments)) = words.split_first() else {
        return Err(Failure::usage("name the command that is to run"));
    };
    let current = std::env::current_dir().map_err(|e| Failure::usage(format!("the current directory: {e}")));
    let user = args.policy.clone().map_or(UserLayer::Own, UserLayer::File);
    let layers = layers::read_with(user, |above| request(&args, command, above, &current).map(Some))?;
    let policy = Rc::new(layers.policy);
    let name = name_of(&policy, command, &current);
    // Of a command that the policy does not know nothing is opened; the policy says so, on the record.
    let programs = layers::open_programs(&policy)?;
    let known = policy.commands().iter().find(|each| each.name == name);
    let errand = Errand {
        stands: current.as_ref().ok().and_then(|current| place_of(&policy, current)),
        program: known.map(|each| each.path.display().to_string()).unwrap_or_default(),
        args: arguments.to_vec(),
        command: name,
    };
    let streams = Streams::take(!json)?;
    let (first, begun) = begin_early(policy.clone(), &errand)?;
    let hangup = Hangup::Ends;
    let (deciding, user) = (layers.files, args.user);
    let request = Request { policy, user, deciding, programs, quiet: json, guests: false, first, hangup };
    // Who names no folder and has no policy may not have thought of it; a person is told, and no log is filled with it.
    let hint = request.policy.workspaces().is_empty() && !json && terminal::is_watched();
    let started = Instant::now();
    let play = async move |session: Rc<Session>| play(&session, errand, streams, &begun).await;
    let ((ended, id), head) = session::run(request, play)?;
    let mut answer = outcome::command(ended, &id, started.elapsed(), head.as_ref());
    if hint && answer.status != 0 && answer.note.is_empty() {
        "warden: the command had none of your files; give it a folder with --workspace D, or D:ro to read only"
            .clone_into(&mut answer.note);
    }
    Ok(answer)
}

/// The task's name, and the start of what will run its command.
struct Begun {
    id: [u8; 16],
    umask: u32,
    early: RefCell<Option<Early>>,
}

/// A command that the policy allows has its helper started while the broker still opens its log and shuts its jail. For one
/// that it does not allow nothing is started: that is only for the record.
fn begin_early(policy: Rc<Effective>, errand: &Errand) -> Result<(Option<First>, Rc<Begun>), Failure> {
    let begun = Rc::new(Begun { id: task_id()?, umask: own_umask(), early: RefCell::default() });
    if !is_allowed(&policy, errand) {
        return Ok((None, begun));
    }
    let filled = begun.clone();
    let first: First = Box::new(move |opened| {
        let (runtime, workspaces, group) = (opened.runtime, opened.workspaces.to_vec(), opened.group);
        // What fails here fails again, and is said, where the command is to start.
        let (Ok(programs), Ok(scratch)) = (opened.programs_of_task(), opened.scratch_of_task()) else { return };
        let spec = spec(policy, workspaces, programs, scratch, (group, filled.umask));
        *filled.early.borrow_mut() = Early::begin(runtime, filled.id, &spec).ok();
    });
    Ok((Some(first), begun))
}

/// Whether the policy allows it, here or where the command starts by itself. The task decides again.
fn is_allowed(policy: &Effective, errand: &Errand) -> bool {
    let args: Vec<&str> = errand.args.iter().map(String::as_str).collect();
    [errand.stands.as_deref(), None].into_iter().any(|cwd| {
        let (command, args, cwd) = (errand.command.as_str(), args.as_slice(), cwd.map(PathArg::Text));
        let call = Call::Spawn { kind: SpawnKind::Spawn, command, args, cwd, env_names: &[], timeout: None };
        matches!(policy.decide(&call), Ok(Verdict::Allow(_)))
    })
}

/// What the command may do and spend.
fn spec(
    policy: Rc<Effective>,
    workspaces: Vec<OpenedWorkspace>,
    programs: Vec<OwnedFd>,
    scratch: Option<OwnedFd>,
    (group, umask): (Option<GroupSetup>, u32),
) -> Spec {
    let limit = |key| policy.limits().get(key).unwrap_or(u64::MAX);
    Spec {
        allowance: allowance(&policy, NO_BOUND),
        fuel: None,
        memory_bytes: limit(LimitKey::Memory),
        output_max_bytes: limit(LimitKey::Output),
        player: None,
        predicates: Vec::new(),
        runbook: None,
        workspaces,
        programs,
        scratch,
        group,
        umask,
        recording: None,
        policy,
    }
}

/// Runs the command as a task of its own, on the record from before it begins to after it has ended.
async fn play(
    session: &Session,
    errand: Errand,
    streams: Streams,
    Begun { id, umask, early }: &Begun,
) -> Result<(Ended, String), Failure> {
    let (id, early) = (*id, early.take());
    let name = crate::cache::hex(&id);
    let policy = session.policy.clone();
    let policy_hash = HexDigest::parse(policy.hash()).unwrap_or(HexDigest::ZERO);
    let record = TaskRecord { task: &name, policy_hash: &policy_hash };
    let workspaces = policy.workspaces().iter().map(|each| (each.label.clone(), each.access.name())).collect();
    let about = About { kind: "command", manifest: None, guest: None, workspaces };
    let (programs, scratch) = (session.programs_of_task()?, session.scratch_of_task()?);
    let spec = spec(policy.clone(), session.workspaces.clone(), programs, scratch, (session.group, *umask));
    record.begins(&mut session.around.audit.borrow_mut(), &about)?;
    let mut ended = Task::errand(spec, session.around.clone(), (id, early), errand, streams).await;
    for what in &session.degraded {
        ended.report.degrade(what);
    }
    let played = Ok(ended);
    let recorded = put_end(session, &record, true, &played);
    let mut ended = played?;
    if let Err(lost) = recorded {
        // What ended without its record did not end well, whatever it did (T-09).
        ended.ending = Ending::AuditLost(lost.to_string());
    }
    Ok((ended, name))
}

/// What the caller's files are not made with: a command of the caller's own makes them as the caller does.
fn own_umask() -> u32 {
    // It is read by changing it; there is one thread.
    let own = umask(Mode::S_IRWXG | Mode::S_IRWXO);
    umask(own);
    own.bits()
}

fn texts(words: &[OsString]) -> Result<Vec<String>, Failure> {
    let text = |word: &OsString| {
        let text = word.to_str().filter(|text| !text.contains('\0'));
        text.map(str::to_owned).ok_or_else(|| {
            let shown = terminal::one_line(&word.to_string_lossy(), 80);
            Failure::usage(format!("the argument `{shown}` is no UTF-8 text, and the log could not hold it"))
        })
    };
    words.iter().map(text).collect()
}

/// The name by which the policy knows a command: of a path, that of the command which is this very path.
fn name_of(policy: &Effective, word: &str, current: &Result<PathBuf, Failure>) -> String {
    if !word.contains('/') {
        return word.to_owned();
    }
    let path = at(current, Path::new(word)).unwrap_or_else(|_| PathBuf::from(word));
    let real = path.canonicalize().unwrap_or_else(|_| path.clone());
    let known = policy
        .commands()
        .iter()
        .find(|each| each.path == path || each.path.canonicalize().is_ok_and(|each| each == real));
    known.map_or_else(|| word.to_owned(), |command| command.name.clone())
}

/// A folder as `label:path`, in the workspace that holds it most closely.
fn place_of(policy: &Effective, folder: &Path) -> Option<String> {
    let folder = folder.canonicalize().ok()?;
    let holds = policy.workspaces().iter().filter(|workspace| folder.starts_with(&workspace.path));
    let workspace = holds.max_by_key(|workspace| workspace.path.components().count())?;
    let inside = folder.strip_prefix(&workspace.path).ok()?.to_str()?;
    Some(format!("{}:{inside}", workspace.label))
}
