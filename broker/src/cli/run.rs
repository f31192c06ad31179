//! `warden run FILE`: one module or component, in a worker's jail.

use super::guest::{self, Guest};
use super::layers::{self, UserLayer};
use super::limits::LimitArgs;
use super::{Answer, outcome};
use crate::failure::{Class, Failure};
use crate::progress;
use crate::session::{self, Hangup, Request, Session};
use clap::Args;
use nix::fcntl::OFlag;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};
use warden_policy::{Policy, Scope};
use warden_proto::msg::proc::EnvVar;
use warden_proto::msg::worker::GuestKind;
use warden_proto::{List, Text};

/// Longest module, bytes.
const MODULE_MAX_BYTES: u64 = 256 * 1024 * 1024;
/// `wall` of a run where nothing is said.
const RUN_WALL: Duration = Duration::from_secs(30);

/// `warden run`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  warden run hello.wat\n  warden run --timeout 5s --memory 64MiB tool.wasm -- first second\n  warden run --json tool.wasm\n\n\
The guest gets no file, no network, no environment variable and no argument but those you name here.\n\
On a terminal its output is shown with control characters made visible, but newline, tab, carriage return and colours; a pipe or a\n\
file gets its very bytes."
)]
pub struct RunArgs {
    /// A core module (binary or text, `_start` or `run() -> i32`) or a component
    file: PathBuf,
    /// Give the guest an environment variable
    #[arg(long = "env", value_name = "KEY=VALUE")]
    env: Vec<String>,
    #[command(flatten)]
    limits: LimitArgs,
    /// A policy to stay within, instead of your own
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Started as root: run as this user
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Arguments of the guest
    #[arg(last = true)]
    args: Vec<String>,
}

/// Runs the command.
pub fn run(args: RunArgs, json: bool) -> Result<Answer, Failure> {
    let module = read_module(&args.file)?;
    let kind = program(&args)?;
    let mut request = Policy::empty(super::REQUEST_OF_FLAGS, Scope::Request);
    args.limits.to_limits(&mut request.limits)?;
    let user = args.config.clone().map_or(UserLayer::Own, UserLayer::File);
    let layers = layers::read(user, Some(request))?;
    let policy = Rc::new(layers.policy);
    let programs = layers::open_programs(&policy)?;
    let request = Request {
        policy,
        user: args.user,
        deciding: layers.files,
        programs,
        quiet: json,
        guests: true,
        first: None,
        hangup: Hangup::NewSegment,
    };
    let started = Instant::now();
    let guest = guest_of(kind, module, json);
    let play = async move |session: Rc<Session>| guest::run(&session, guest, Rc::new(progress::Silent)).await;
    let ((ended, id), head) = session::run(request, play)?;
    Ok(outcome::program(ended, &id, started.elapsed(), head.as_ref()))
}

/// A module or component alone: no plan, nothing that must hold, and the time of a run.
fn guest_of(kind: GuestKind, module: Vec<u8>, keep_output: bool) -> Guest {
    Guest {
        what: "program",
        manifest: None,
        kind,
        module,
        wall: RUN_WALL,
        predicates: Vec::new(),
        runbook: None,
        recording: None,
        keep_output,
    }
}

/// Reads a module as the calling user. Its bytes are hashed here and parsed elsewhere.
///
/// T-06: a FIFO or a device would hold us up before there is any deadline, so what is no regular file is not opened; and if
/// one takes the file's place meanwhile, opening it does not wait and its kind is asked of what was opened.
fn read_module(path: &Path) -> Result<Vec<u8>, Failure> {
    let shown = path.display();
    let unreadable = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => Failure::new(Class::NotFound, format!("module {shown} does not exist")),
        _ => Failure::new(Class::NotFound, format!("module {shown} could not be read: {e}")),
    };
    let irregular = || {
        let message = format!("module {shown} is no regular file; name one that holds a module, binary or text");
        Failure::new(Class::NotFound, message)
    };
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(irregular());
    }
    let flags = (OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits();
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(unreadable)?;
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(irregular());
    }
    let mut bytes = Vec::new();
    let limit = MODULE_MAX_BYTES.saturating_add(1);
    file.take(limit).read_to_end(&mut bytes).map_err(|e| Failure::internal(format!("{shown}: {e}")))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MODULE_MAX_BYTES {
        return Err(Failure::new(Class::InvalidModule, format!("module {shown} is longer than 256 MiB")));
    }
    Ok(bytes)
}

fn program(args: &RunArgs) -> Result<GuestKind, Failure> {
    let name = args.file.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let all = std::iter::once(name).chain(args.args.iter().cloned());
    let all =
        all.map(Text::new).collect::<Result<Vec<_>, _>>().map_err(|e| Failure::usage(format!("an argument: {e}")))?;
    let env = args.env.iter().map(|pair| environment(pair)).collect::<Result<Vec<_>, _>>()?;
    Ok(GuestKind::Program {
        args: List::new(all).map_err(|e| Failure::usage(format!("arguments: {e}")))?,
        env: List::new(env).map_err(|e| Failure::usage(format!("--env: {e}")))?,
    })
}

fn environment(pair: &str) -> Result<EnvVar, Failure> {
    let bad = |why: String| Failure::usage(format!("--env {pair}: {why}"));
    let (key, value) = pair.split_once('=').ok_or_else(|| bad("write KEY=VALUE".to_owned()))?;
    if key.is_empty() || pair.contains('\0') {
        return Err(bad("the name is empty or holds a NUL".to_owned()));
    }
    Ok(EnvVar {
        key: Text::new(key).map_err(|e| bad(e.to_string()))?,
        value: Text::new(value).map_err(|e| bad(e.to_string()))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::limits::allowance;
    use nix::sys::stat::Mode;
    use warden_policy::Effective;

    /// T-06: a guest that never ends is ended, also where nobody has said when.
    #[test]
    fn a_run_has_thirty_seconds_where_nothing_is_said_and_what_is_said_otherwise() {
        let kind = GuestKind::Program { args: List::default(), env: List::default() };
        let guest = guest_of(kind, Vec::new(), false);
        let wall = |timeout: Option<&str>| {
            let mut request = Policy::empty("the command line", Scope::Request);
            let limits = LimitArgs { fuel: None, memory: None, timeout: timeout.map(str::to_owned) };
            limits.to_limits(&mut request.limits).unwrap();
            allowance(&Effective::combine(None, None, Some(request)).unwrap(), guest.wall).wall
        };
        assert_eq!(wall(None), Duration::from_secs(30));
        assert_eq!(wall(Some("2m")), Duration::from_secs(120));
    }

    #[test]
    fn only_a_regular_file_is_a_module_and_nothing_else_holds_us_up() {
        let dir = tempfile::tempdir().unwrap();
        let (fifo, file, gone) = (dir.path().join("fifo"), dir.path().join("file"), dir.path().join("gone"));
        nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        std::fs::write(&file, "bytes").unwrap();
        for irregular in [fifo.as_path(), dir.path(), Path::new("/dev/zero")] {
            let failure = read_module(irregular).unwrap_err();
            assert_eq!((failure.class, failure.class.status()), (Class::NotFound, 127), "{failure}");
            assert!(failure.message.contains("no regular file"), "{failure}");
        }
        assert_eq!(read_module(&gone).unwrap_err().class, Class::NotFound);
        assert_eq!(read_module(&file).unwrap(), b"bytes");
    }
}
