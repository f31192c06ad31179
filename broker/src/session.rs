//! From a caller's command to a broker that can run tasks, and its end.
//!
//! The order matters and is the same every time: unreadable, then somebody other than root, then the spawner while there
//! is one thread, then the runtime, the workspaces, the log, and last the broker's own jail. Only then is a task started.
//! What the task will surely need may begin to start before the log is open ([`Request::first`]): it shuts its jail
//! meanwhile, and is asked nothing before the task.

mod apart;
mod directories;
mod isolation;
mod person;

use crate::audit::{AuditLog, Head};
use crate::cache::Cache;
use crate::deciding::Deciding;
use crate::failure::{Class, Failure};
use crate::identity::{self, Identity};
use crate::places::{self, Places, program_folders};
use crate::runtime::{OpenedWorkspace, Runtime};
use crate::scratch::Scratch;
use crate::task::{Cancel, Surroundings};
use crate::terminal;
use apart::{OurProgram, check_deciding, ours};
use directories::{open_audit, open_cache, open_scratch};
use nix::unistd::{Gid, Uid};
pub use person::Hangup;
use person::{Watch, rotate_on_hangup, watch_signals};
use std::cell::{OnceCell, RefCell};
use std::future::Future;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::watch;
use warden_policy::{Access, Effective};
use warden_proto::msg::proc::GroupSetup;
use warden_spawner::{TemplateBounds, birth, signals};

/// What a session is started with.
pub struct Request {
    /// The layers together.
    pub policy: Rc<Effective>,
    /// `--user`.
    pub user: Option<String>,
    /// Files that decided, still to be compared with the workspaces.
    pub deciding: Vec<Deciding>,
    /// The programs of the policy's commands.
    pub programs: Vec<Deciding>,
    /// Say on standard error what is done.
    pub quiet: bool,
    /// A guest will run: a template is warmed for it, and compiled code is kept.
    pub guests: bool,
    /// What is to be begun as soon as it can be, beside the rest of the session's start.
    pub first: Option<First>,
    /// What SIGHUP does.
    pub hangup: Hangup,
}

/// Begins something with what is open by then.
pub type First = Box<dyn FnOnce(&Opened<'_>)>;

/// What is open before the log is.
pub struct Opened<'a> {
    /// The spawner.
    pub runtime: &'a Runtime,
    /// The policy's workspaces.
    pub workspaces: &'a [OpenedWorkspace],
    /// The programs of the policy's commands.
    pub programs: &'a [OwnedFd],
    /// The scratch folder.
    pub scratch: &'a Scratch,
    /// What control groups of commands bound, if there are any.
    pub group: Option<GroupSetup>,
}

/// A broker that can run tasks.
pub struct Session {
    /// What tasks share.
    pub around: Surroundings,
    /// Compiled code; none when the cache cannot be used.
    pub cache: Option<Cache>,
    /// The policy's workspaces, opened.
    pub workspaces: Vec<OpenedWorkspace>,
    /// The programs of the policy's commands, opened.
    pub programs: Vec<OwnedFd>,
    /// The layers together.
    pub policy: Rc<Effective>,
    /// What this host or policy does not give.
    pub degraded: Vec<String>,
    scratch: Scratch,
    /// What control groups of commands bound, if there are any.
    pub group: Option<GroupSetup>,
}

impl Session {
    /// The programs once more, for one task.
    pub fn programs_of_task(&self) -> Result<Vec<OwnedFd>, Failure> {
        copies(&self.programs)
    }

    /// The scratch directory once more, for one task.
    pub fn scratch_of_task(&self) -> Result<Option<OwnedFd>, Failure> {
        copy_of(&self.scratch).map(Some)
    }
}

impl Opened<'_> {
    /// The programs once more, for one task.
    pub fn programs_of_task(&self) -> Result<Vec<OwnedFd>, Failure> {
        copies(self.programs)
    }

    /// The scratch directory once more, for one task.
    pub fn scratch_of_task(&self) -> Result<Option<OwnedFd>, Failure> {
        copy_of(self.scratch).map(Some)
    }
}

fn copies(programs: &[OwnedFd]) -> Result<Vec<OwnedFd>, Failure> {
    programs.iter().map(|fd| fd.try_clone().map_err(|e| Failure::internal(e.to_string()))).collect()
}

fn copy_of(scratch: &Scratch) -> Result<OwnedFd, Failure> {
    scratch.folder().as_fd().try_clone_to_owned().map_err(|e| Failure::internal(e.to_string()))
}

/// Starts a broker, runs `body` in it, and ends it: the log is closed and its head returned beside the body's result.
pub fn run<T, F, B>(request: Request, body: B) -> Result<(T, Option<Head>), Failure>
where
    B: FnOnce(Rc<Session>) -> F,
    F: Future<Output = Result<T, Failure>>,
{
    let internal = |what: &str| {
        let what = what.to_owned();
        move |e: nix::errno::Errno| Failure::internal(format!("{what}: {e}"))
    };
    birth::harden().map_err(internal("warden could not make itself unreadable to others"))?;
    check_open_files()?;
    // T-10: limits are merged by the least, and whoever asked for more is told, whatever form the result has.
    for narrowed in request.policy.narrowed_limits() {
        terminal::note(&format!("warden: {narrowed}"));
    }
    let (places, identity) = settle(&request)?;
    let binaries = warden_spawner::Binaries::open(&program_folders())
        .map_err(|e| Failure::new(Class::Unavailable, e.to_string()))?;
    let ours = ours(&binaries)?;
    if let Identity::Becomes { uid, gid, why } = &identity {
        if !request.quiet {
            terminal::note(&format!("warden: started as root; running as uid {uid} ({why})"));
        }
        birth::become_user(Uid::from_raw(*uid), Gid::from_raw(*gid))
            .map_err(|e| Failure::internal(format!("warden could not stop being root: {e}")))?;
    }
    isolation::check_namespaces(&request.policy)?;
    let delegation = isolation::control_groups(&request.policy)?;
    let group = delegation.as_ref().map(isolation::bounds);
    // From here to the session's own watch: Ctrl-C reaches the spawner too, and must not be what ends it.
    let held = signals::hold().map_err(internal("warden could not hold signals"))?;
    let bounds = TemplateBounds { warm: request.guests, ..TemplateBounds::default() };
    let started = warden_spawner::start(binaries, bounds, delegation);
    let (link, spawner) = started.map_err(|e| Failure::internal(e.to_string()))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::internal(format!("the event loop could not be started: {e}")))?;
    let local = tokio::task::LocalSet::new();
    let person = Rc::new(OnceCell::new());
    let told = person.clone();
    let result = local.block_on(&runtime, async move {
        let runtime = Runtime::new(link)?;
        let watch = watch_signals(request.hangup)?;
        let _ = told.set(watch.cancel.clone());
        held.release().map_err(|e| Failure::internal(format!("warden could not take signals: {e}")))?;
        let as_root = identity == Identity::Root;
        let session = open_session(runtime, request, &places, &ours, (as_root, watch, group)).await?;
        let session = Rc::new(session);
        let result = body(session.clone()).await;
        let head = end(&session);
        Ok((result?, Some(head?)))
    });
    // T-12: link A closes with the loop and its futures, the spawner ends with the link, and what it has reaped is gone for
    // good, whoever process 1 is.
    drop(local);
    drop(runtime);
    let asked = person.get().is_some_and(|cancel: &watch::Receiver<Cancel>| *cancel.borrow() != Cancel::No);
    warden_spawner::await_end(spawner, if asked { SPAWNER_END_ASKED } else { SPAWNER_END });
    result
}

/// Open files that each of warden's processes gets along with: the front of cap-proc has four for each command.
const OPEN_FILES_MIN: u64 = 128;

/// With fewer a jailed process would end before it could say why.
fn check_open_files() -> Result<(), Failure> {
    let most = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).map_or(0, |(_, most)| most);
    if most >= OPEN_FILES_MIN {
        return Ok(());
    }
    let message = format!(
        "a process may have {most} open files here and warden needs {OPEN_FILES_MIN}; give it more (`ulimit -Hn 1024` in the \
         shell, LimitNOFILE= of a service)"
    );
    Err(Failure::new(Class::Unavailable, message))
}

/// What the spawner gets to end and reap everything it made.
const SPAWNER_END: Duration = Duration::from_secs(2);
/// The same where a person has asked for the end, and has waited for the task's already.
const SPAWNER_END_ASKED: Duration = Duration::from_millis(500);

/// Decides who we are, and makes the directories that belong to that user while we still can.
fn settle(request: &Request) -> Result<(Places, Identity), Failure> {
    let workspaces: Vec<(PathBuf, bool)> =
        request.policy.workspaces().iter().map(|w| (w.path.clone(), w.access == Access::ReadWrite)).collect();
    let identity = identity::choose(request.user.as_deref(), &workspaces, request.policy.isolation().allow_root)?;
    let places = Places::of_caller();
    // Root's own tasks have a folder of their own too: the ones above it belong to everybody whom root runs tasks as.
    let runs_as = match &identity {
        Identity::Caller => None,
        Identity::Root => Some((0, 0)),
        Identity::Becomes { uid, gid, .. } => Some((*uid, *gid)),
    };
    let mut places = runs_as.map_or(places.clone(), |(uid, _)| places.for_user(uid));
    if let Some(dir) = &request.policy.audit().dir {
        places.audit = dir.clone();
    }
    if let Some((uid, gid)) = runs_as {
        for dir in [&places.audit, &places.cache, &places.run] {
            places::make_for(dir, uid, gid)
                .map_err(|e| Failure::internal(format!("{} could not be made: {e}", dir.display())))?;
        }
    }
    Ok((places, identity))
}

async fn open_session(
    runtime: Runtime,
    mut request: Request,
    places: &Places,
    ours: &[OurProgram],
    (as_root, watch, group): (bool, Watch, Option<GroupSetup>),
) -> Result<Session, Failure> {
    let Watch { cancel, hangup } = watch;
    let workspaces = open_workspaces(&runtime, &request.policy).await?;
    check_deciding(&request, &workspaces, places, ours)?;
    let (run, scratch) = open_scratch(&places.run, request.quiet)?;
    let programs: Vec<OwnedFd> = std::mem::take(&mut request.programs).into_iter().map(Deciding::into_fd).collect();
    if let Some(first) = request.first.take() {
        let (workspaces, programs, scratch) = (&workspaces, &programs, &scratch);
        first(&Opened { runtime: &runtime, workspaces, programs, scratch, group });
        // What it has begun goes as far as it can alone.
        tokio::task::yield_now().await;
    }
    let (audit, audit_dir) = open_audit(&request.policy, places).inspect_err(|_| {
        let _ = scratch.remove();
    })?;
    let audit = Rc::new(RefCell::new(audit));
    let (cache, cache_warning) = if request.guests { open_cache(&places.cache) } else { (None, None) };
    if let Some(warning) = cache_warning
        && !request.quiet
    {
        terminal::note(&format!("warden: {warning}"));
    }
    let mut degraded = Vec::new();
    if as_root {
        degraded.push("the task runs as root (isolation.allow_root)".to_owned());
    }
    if let Some(hangup) = hangup {
        rotate_on_hangup(audit.clone(), hangup);
    }
    // The last act before a task: from here on the broker opens nothing but beneath its own directories.
    let cache_dir = cache.as_ref().map(|cache| cache.directory().as_fd());
    let jail = warden_spawner::broker_jail::shut(audit_dir.as_fd(), run.as_fd(), cache_dir)
        .map_err(|e| Failure::new(Class::Unavailable, e.to_string()))?;
    degraded.extend(jail.degraded);
    let around = Surroundings { runtime, audit, cancel };
    Ok(Session { around, cache, workspaces, programs, policy: request.policy, degraded, scratch, group })
}

async fn open_workspaces(runtime: &Runtime, policy: &Effective) -> Result<Vec<OpenedWorkspace>, Failure> {
    let mut workspaces = Vec::new();
    for workspace in policy.workspaces() {
        let path = workspace.path.to_str().ok_or_else(|| Failure::usage("a workspace's path is not UTF-8"))?;
        let opened = runtime.open_workspace(path).await?;
        // T-02: what the policy compared with its ceiling is what was opened, and not what was put in its place since.
        if opened.path != path {
            return Err(Failure::usage(format!("workspace {path} was replaced while it was opened; start again")));
        }
        workspaces.push(opened);
    }
    Ok(workspaces)
}

/// Where the log stands now, and the end of what only this session needed.
fn end(session: &Session) -> Result<Head, Failure> {
    // Each keeper has removed what its command left. What a killed one could not is the work of an untrusted command, and
    // may be deep and large without end: the broker does not walk it (T-06), it says where it is.
    if let Err(error) = session.scratch.remove() {
        tracing::warn!(name = session.scratch.name(), %error, "a command's private files were left behind");
    }
    closed(&mut session.around.audit.borrow_mut())
}

/// T-09: a task whose end is not on the record did not end well, whatever it did.
fn closed(audit: &mut AuditLog) -> Result<Head, Failure> {
    audit
        .finish()
        .map_err(|e| Failure::internal(format!("the audit log could not be closed; its last records may be lost: {e}")))
}

#[cfg(test)]
mod tests;
