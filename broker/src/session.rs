//! From a caller's command to a broker that can run tasks, and its end.
//!
//! The order matters and is the same every time: unreadable, then somebody other than root, then the spawner while there
//! is one thread, then the runtime, the workspaces, the log, and last the broker's own jail. Only then is a task started.

use crate::audit::{AuditConfig, AuditLog, Durability, Head, HeaderFacts, HexDigest, Mirror, open_directory};
use crate::cache::Cache;
use crate::deciding::{self, Deciding};
use crate::failure::{Class, Failure};
use crate::identity::{self, Identity};
use crate::places::{self, CEILING, Places, program_folders};
use crate::runtime::{OpenedWorkspace, Runtime};
use crate::scratch::{self, Scratch};
use crate::task::{Cancel, Surroundings};
use crate::terminal;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid};
use std::cell::RefCell;
use std::future::Future;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use tokio::sync::watch;
use warden_policy::{Access, AuditSink, Effective, Feature};
use warden_spawner::birth;
use warden_spawner::trusted::FileIdentity;

/// Where a program of ours is, and the identities of it and of every directory passed on the way.
type OurProgram = (PathBuf, Vec<FileIdentity>);

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
}

impl Session {
    /// The programs once more, for one task.
    pub fn programs_of_task(&self) -> Result<Vec<OwnedFd>, Failure> {
        self.programs.iter().map(|fd| fd.try_clone().map_err(|e| Failure::internal(e.to_string()))).collect()
    }

    /// The scratch directory once more, for one task.
    pub fn scratch_of_task(&self) -> Result<Option<OwnedFd>, Failure> {
        let copy = self.scratch.folder().as_fd().try_clone_to_owned();
        copy.map(Some).map_err(|e| Failure::internal(e.to_string()))
    }
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
    refuse_unsupported(&request.policy)?;
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
    let (link, _spawner) = warden_spawner::start(binaries).map_err(|e| Failure::internal(e.to_string()))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::internal(format!("the event loop could not be started: {e}")))?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async move {
        let runtime = Runtime::new(link)?;
        let session = Rc::new(open_session(runtime, request, &places, &ours, identity == Identity::Root).await?);
        let result = body(session.clone()).await;
        let head = end(&session);
        Ok((result?, Some(head?)))
    })
}

/// What is asked for and cannot be given is refused, not left out in silence.
fn refuse_unsupported(policy: &Effective) -> Result<(), Failure> {
    let isolation = policy.isolation();
    for (name, wanted) in [("namespaces", isolation.namespaces), ("cgroups", isolation.cgroups)] {
        if wanted == Feature::Require {
            return Err(Failure::new(
                Class::Unavailable,
                format!(
                    "the policy says `isolation.{name} = \"require\"`, and this version of warden does not use {name}; say \"auto\" or \"off\""
                ),
            ));
        }
    }
    Ok(())
}

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
    request: Request,
    places: &Places,
    ours: &[OurProgram],
    as_root: bool,
) -> Result<Session, Failure> {
    let cancel = watch_signals()?;
    let mut workspaces = Vec::new();
    for workspace in request.policy.workspaces() {
        let path = workspace.path.to_str().ok_or_else(|| Failure::usage("a workspace's path is not UTF-8"))?;
        let opened = runtime.open_workspace(path).await?;
        // T-02: what the policy compared with its ceiling is what was opened, and not what was put in its place since.
        if opened.path != path {
            return Err(Failure::usage(format!("workspace {path} was replaced while it was opened; start again")));
        }
        workspaces.push(opened);
    }
    check_deciding(&request, &workspaces, places, ours)?;
    let (audit, audit_dir) = open_audit(&request.policy, places)?;
    let audit = Rc::new(RefCell::new(audit));
    let (cache, cache_warning) = open_cache(&places.cache);
    if let Some(warning) = cache_warning
        && !request.quiet
    {
        terminal::note(&format!("warden: {warning}"));
    }
    let (run, scratch) = open_scratch(&places.run, request.quiet)?;
    let mut degraded = Vec::new();
    if as_root {
        degraded.push("the task runs as root (isolation.allow_root)".to_owned());
    }
    rotate_on_hangup(audit.clone())?;
    // The last act before a task: from here on the broker opens nothing but beneath its own directories.
    let cache_dir = cache.as_ref().map(|cache| cache.directory().as_fd());
    let jail = warden_spawner::broker_jail::shut(audit_dir.as_fd(), run.as_fd(), cache_dir)
        .map_err(|e| Failure::new(Class::Unavailable, e.to_string()))?;
    degraded.extend(jail.degraded);
    let programs = request.programs.into_iter().map(Deciding::into_fd).collect();
    Ok(Session {
        around: Surroundings { runtime, audit, cancel },
        cache,
        workspaces,
        programs,
        policy: request.policy,
        degraded,
        scratch,
    })
}

/// T-10: nothing that decides about this run or the next lies where the task can write.
fn check_deciding(
    request: &Request,
    opened: &[OpenedWorkspace],
    places: &Places,
    ours: &[OurProgram],
) -> Result<(), Failure> {
    let writable: Vec<(String, FileIdentity)> = request
        .policy
        .workspaces()
        .iter()
        .zip(opened)
        .filter(|(workspace, _)| workspace.access == Access::ReadWrite)
        .map(|(workspace, opened)| (workspace.label.clone(), opened.identity))
        .collect();
    for file in request.deciding.iter().chain(&request.programs) {
        file.outside(&writable)?;
    }
    for (path, passed) in ours {
        deciding::outside("warden's program", path, passed, &writable)?;
    }
    // A policy that does not exist yet decides too, from the moment that a task has written it.
    let (own, ceiling) = (&places.policy, Path::new(CEILING));
    for (what, place) in [
        ("audit directory", places.audit.as_path()),
        ("cache", &places.cache),
        ("run directory", &places.run),
        ("place of your own policy", own.parent().unwrap_or(own)),
        ("place of the system's policy", ceiling.parent().unwrap_or(ceiling)),
    ] {
        deciding::place_outside(what, place, &writable)?;
    }
    Ok(())
}

/// What the next run would execute: the spawner's programs and this one. Each with what was passed on the way to it.
fn ours(binaries: &warden_spawner::Binaries) -> Result<Vec<OurProgram>, Failure> {
    let own =
        std::env::current_exe().map_err(|e| Failure::internal(format!("warden does not know where it is: {e}")))?;
    let passed = warden_spawner::trusted::passed(&own);
    Ok(binaries.passed.iter().cloned().chain(std::iter::once((own, passed))).collect())
}

fn open_audit(policy: &Effective, places: &Places) -> Result<(AuditLog, OwnedFd), Failure> {
    let dir = open_directory(&places.audit)?;
    let settings = policy.audit();
    let mut config = AuditConfig::new(places.audit.display().to_string());
    config.durability = match settings.durability {
        warden_policy::Durability::Flush => Durability::Flush,
        warden_policy::Durability::Sync => Durability::Sync,
    };
    config.mirror = match &settings.sink {
        None => None,
        Some(AuditSink::Journald) => Some(Mirror::journald(Path::new(crate::audit::JOURNALD_SOCKET))?),
        Some(AuditSink::Descriptor(number)) => {
            let fd = i32::try_from(*number).ok().and_then(|n| warden_proto::sys::adopt(n).ok()).ok_or_else(|| {
                Failure::usage(format!("[audit] sink = \"fd:{number}\": no such descriptor was passed"))
            })?;
            Some(Mirror::descriptor(fd, &format!("fd:{number}"))?)
        }
    };
    let facts = HeaderFacts {
        build: crate::cache::hex(&warden_proto::build_id()),
        versions: vec![("warden".to_owned(), env!("CARGO_PKG_VERSION").to_owned())],
        policy_hash: HexDigest::parse(policy.hash()).unwrap_or(HexDigest::ZERO),
        rules_hash: HexDigest::from_bytes(warden_spawner::rules_sha256()),
        degraded: Vec::new(),
    };
    Ok((AuditLog::open(&dir, config, facts)?, dir))
}

/// A cache that cannot be used is skipped with a warning.
fn open_cache(path: &Path) -> (Option<Cache>, Option<String>) {
    match private_directory(path) {
        Ok(dir) => (Some(Cache::new(dir)), None),
        Err(why) => (None, Some(format!("the cache of compiled code {} is not used: {why}", path.display()))),
    }
}

/// Makes and opens a directory of ours alone.
fn private_directory(path: &Path) -> Result<OwnedFd, String> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| e.to_string())?;
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let dir = open(path, flags, Mode::empty()).map_err(|e| e.to_string())?;
    let facts = nix::sys::stat::fstat(&dir).map_err(|e| e.to_string())?;
    if facts.st_uid != nix::unistd::geteuid().as_raw() {
        return Err("it belongs to another user".to_owned());
    }
    if facts.st_mode & 0o077 != 0 {
        return Err("others can reach into it; `chmod 700` it".to_owned());
    }
    Ok(dir)
}

/// The run directory, and a scratch folder that was made in it. What other sessions left there is said, not walked (T-06).
fn open_scratch(run: &Path, quiet: bool) -> Result<(OwnedFd, Scratch), Failure> {
    let failed = |why: String| Failure::internal(format!("the run directory {}: {why}", run.display()));
    let above = private_directory(run).map_err(failed)?;
    match scratch::abandoned(&above) {
        Ok(left) if left.is_empty() || quiet => {}
        Ok(left) => terminal::note(&format!(
            "warden: {} holds {} folder(s) of commands whose session is gone, such as {}; remove what you do not need",
            run.display(),
            left.len(),
            left.first().map(String::as_str).unwrap_or_default()
        )),
        Err(errno) => return Err(failed(errno.to_string())),
    }
    let scratch = Scratch::make(&above).map_err(|errno| failed(format!("no scratch folder could be made: {errno}")))?;
    Ok((above, scratch))
}

/// SIGINT and SIGTERM end tasks gently the first time and everything at once the second.
fn watch_signals() -> Result<watch::Receiver<Cancel>, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |e: std::io::Error| Failure::internal(format!("signals could not be watched: {e}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let (send, receive) = watch::channel(Cancel::No);
    tokio::task::spawn_local(async move {
        loop {
            let number = tokio::select! {
                _ = interrupt.recv() => 2,
                _ = terminate.recv() => 15,
            };
            if *send.borrow() != Cancel::No {
                // The spawner ends with us, and with it everything it made (T-12).
                std::process::exit(crate::failure::SIGNAL_BASE.saturating_add(number));
            }
            let _ = send.send(Cancel::Gently(number));
        }
    });
    Ok(receive)
}

fn rotate_on_hangup(audit: Rc<RefCell<AuditLog>>) -> Result<(), Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut hangup = signal(SignalKind::hangup()).map_err(|e| Failure::internal(e.to_string()))?;
    tokio::task::spawn_local(async move {
        while hangup.recv().await.is_some() {
            if let Err(error) = audit.borrow_mut().rotate() {
                tracing::error!(%error, "the audit log could not be rotated");
            }
        }
    });
    Ok(())
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
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;
    use warden_policy::{Format, Policy};

    /// A folder with the places of one caller beside a workspace `work`.
    struct Host(tempfile::TempDir);

    impl Host {
        fn new() -> Self {
            let host = Self(tempfile::tempdir().unwrap());
            for name in ["work", "home", "lib", "work/lib"] {
                std::fs::create_dir(host.path(name)).unwrap();
            }
            for name in ["lib/cap-fs", "work/lib/cap-fs"] {
                std::fs::write(host.path(name), "").unwrap();
            }
            host
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn places(&self, policy: &str) -> Places {
            let beside = self.path("home");
            Places { policy: self.path(policy), audit: beside.clone(), cache: beside.clone(), run: beside }
        }

        /// What is said with the workspace `work`, a policy at `policy` and a program at `program`.
        fn check(&self, access: &str, policy: &str, program: &str) -> Result<(), Failure> {
            let work = self.path("work");
            let text =
                format!("version = 1\n[[fs.workspace]]\nlabel = \"w\"\npath = \"work\"\naccess = \"{access}\"\n");
            let layer = Policy::parse(&text, Format::Toml, "test", self.0.path()).unwrap();
            let effective = Rc::new(Effective::combine(None, Some(layer), None).unwrap());
            let request = Request { policy: effective, user: None, deciding: vec![], programs: vec![], quiet: true };
            let facts = std::fs::metadata(&work).unwrap();
            let opened = OpenedWorkspace {
                id: 1,
                identity: (facts.dev(), facts.ino()),
                uid: facts.uid(),
                path: work.display().to_string(),
            };
            let program = self.path(program);
            let ours = [(program.clone(), warden_spawner::trusted::passed(&program))];
            check_deciding(&request, &[opened], &self.places(policy), &ours)
        }
    }

    #[test]
    fn our_own_programs_in_a_workspace_are_refused_unless_it_is_read_only() {
        let host = Host::new();
        let refused = host.check("read-write", "home/policy.toml", "work/lib/cap-fs").unwrap_err();
        assert!(refused.message.contains("warden's program") && refused.message.contains("`w`"), "{refused}");
        assert!(host.check("read-write", "home/policy.toml", "lib/cap-fs").is_ok());
        assert!(host.check("read-only", "home/policy.toml", "work/lib/cap-fs").is_ok());
    }

    #[test]
    fn a_policy_that_does_not_exist_yet_cannot_be_planted() {
        let host = Host::new();
        let refused = host.check("read-write", "work/wasi-warden/policy.toml", "lib/cap-fs").unwrap_err();
        assert!(refused.message.contains("your own policy"), "{refused}");
        assert!(host.check("read-write", "home/wasi-warden/policy.toml", "lib/cap-fs").is_ok());
    }

    fn effective(dir: &Path, text: &str) -> Effective {
        let layer = Policy::parse(&format!("version = 1\n{text}"), Format::Toml, "test", dir).unwrap();
        Effective::combine(None, Some(layer), None).unwrap()
    }

    #[test]
    fn a_log_that_cannot_be_closed_fails_the_command_and_one_that_can_does_not() {
        let host = Host::new();
        let places = Places { audit: host.path("log"), ..host.places("home/policy.toml") };
        let (mut log, _dir) = open_audit(&effective(&host.path("work"), ""), &places).unwrap();
        assert!(closed(&mut log).is_ok());
        let failure = closed(&mut log).unwrap_err();
        assert_eq!((failure.class, failure.class.status()), (Class::Internal, 125), "{failure}");
    }

    #[test]
    fn a_sink_is_a_descriptor_that_was_passed_and_none_of_our_own() {
        use std::os::fd::{AsRawFd, IntoRawFd};
        let host = Host::new();
        let (_read, write) = nix::unistd::pipe().unwrap();
        let passed = write.into_raw_fd();
        warden_proto::sys::note_inherited();
        let (_other_read, ours) = nix::unistd::pipe().unwrap();
        let opened = |number: i32| {
            let places = Places { audit: host.path("log"), ..host.places("home/policy.toml") };
            let sink = format!("[audit]\nsink = \"fd:{number}\"\n");
            open_audit(&effective(&host.path("work"), &sink), &places).map(drop)
        };
        assert!(opened(ours.as_raw_fd()).is_err_and(|e| e.message.contains("no such descriptor")));
        opened(passed).unwrap();
        assert!(opened(passed).is_err(), "it is given out once");
    }
}
