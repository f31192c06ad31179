//! One task from its first frame to its result.
//!
//! Runs in the broker, one future per task on its one thread. It owns the task's worker, its helpers, its ledger and its
//! record, and shares nothing with other tasks but the spawner and the audit log (T-11). The worker speaks, the monitor
//! table says whether it may, the policy decides, the ledger reserves, the log is written, the helper acts: in this order
//! for every call.

mod absent;
mod act;
mod answers;
mod commands;
mod ending;
mod errand;
mod file_grants;
mod files;
mod floods;
mod handles;
mod helpers;
mod loops;
mod model;
pub mod monitor;
mod outputs;
mod policies;
mod predicate_command;
pub mod predicates;
mod process_grants;
mod processes;
pub mod report;
pub mod runbook;
mod spec;

pub use crate::cancel::Cancel;
pub use commands::Early;
pub use ending::{Ended, Ending, Verdict};
pub use errand::Errand;
pub use spec::{Player, Spec, UMASK};

use crate::audit::{AuditLog, HexDigest};
use crate::cancel::{cancelled, unless_cancelled};
use crate::jailed::{Birth, Jailed, JailedError};
use crate::ledger::Ledger;
use crate::output::Sinks;
use crate::peer::PeerError;
use crate::progress::Progress;
use crate::runtime::Runtime;
use floods::Floods;
use handles::{Handles, Processes};
use helpers::Helpers;
use monitor::State;
use nix::errno::Errno;
use report::Report;
use std::cell::RefCell;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};
use warden_proto::limits::{CANCEL_GRACE, CLEANUP_DEADLINE, REPLY_DEADLINE};
use warden_proto::msg::error::{CallError, ErrorCode};
use warden_proto::msg::fs::FsCall;
use warden_proto::msg::life::Role;
use warden_proto::msg::loops::LoopCall;
use warden_proto::msg::proc::ProcCall;
use warden_proto::msg::worker::{Finish, GuestKind, Output, WorkerCall, WorkerReply, WorkerSetup};
use warden_proto::{Kind, Text};

/// Calls of one task, whatever they cost: a bound on the log that one task can fill.
const CALLS_MAX: u64 = 200_000;
/// How a task ends whose output nobody reads any more, like any program in a pipeline.
const SIGPIPE: i32 = 13;
/// What a guest that missed its own timer gets before it is killed.
const DEADLINE_GRACE: Duration = Duration::from_millis(250);

/// What the task shares with the rest of the broker.
#[derive(Clone)]
pub struct Surroundings {
    /// The spawner.
    pub runtime: Runtime,
    /// The log.
    pub audit: Rc<RefCell<AuditLog>>,
    /// Whether a person has asked for the end.
    pub cancel: watch::Receiver<Cancel>,
}

/// A running task.
pub struct Task {
    id: [u8; 16],
    id_text: String,
    spec: Spec,
    around: Surroundings,
    policy_hash: HexDigest,
    /// None where a person's own command is all there is.
    worker: Option<Jailed>,
    helpers: Helpers,
    /// The start of its commands' helper, where it was begun before the task.
    early: Option<Early>,
    handles: Handles,
    processes: Processes,
    ledger: Ledger,
    report: Report,
    state: State,
    sinks: Sinks,
    progress: Rc<dyn Progress>,
    evaluated: Vec<predicates::Evaluated>,
    outcome: Option<String>,
    reason: Option<String>,
    /// Steps in a row that ended without a plan.
    planner_errors: u32,
    /// Steps begun: their numbers, which no claim on the budget moves.
    steps_begun: u32,
    /// Calls that cap-llm was sent.
    model_calls: u32,
    /// The model's limit that the planner met last, if it has planned nothing since.
    model_spent: Option<String>,
    verdict: Option<Verdict>,
    /// Fuel and peak memory, as a worker said after the verdict.
    used: (u64, u64),
    /// Calls of the worker's so far.
    calls: u64,
    floods: Floods,
}

/// A task stops now.
pub(crate) struct Stop(Ending);

/// Either an answer for the worker or the end of the task.
pub(crate) type Answer = Result<WorkerReply, Stop>;

impl From<PeerError> for Stop {
    fn from(error: PeerError) -> Self {
        Stop(Ending::WorkerLost(error.to_string()))
    }
}

impl Task {
    /// Starts the task's worker.
    pub async fn start(
        spec: Spec,
        around: Surroundings,
        sinks: Sinks,
        progress: Rc<dyn Progress>,
        id: [u8; 16],
    ) -> Result<Self, JailedError> {
        let Some(player) = &spec.player else {
            return Err(JailedError::Setup { role: Role::Worker.name(), why: "there is no guest to run".to_owned() });
        };
        let setup = WorkerSetup {
            task: id,
            guest: player.kind.clone(),
            fuel: spec.fuel,
            memory_bytes: spec.memory_bytes,
            wall_ms: crate::ledger::millis(spec.allowance.wall),
            home: Text::cut(&spec.home()),
        };
        let ledger = Ledger::new(&spec.allowance);
        let descriptors = [player.code.as_fd()];
        let birth = Birth { role: Role::Worker, descriptors: &descriptors, inherit: Vec::new() };
        let worker = unless_cancelled(&around.cancel, Jailed::start(&around.runtime, birth, &setup)).await;
        let worker = worker.map_err(|signal| JailedError::Cancelled { signal })??;
        let (pid, locked) = (worker.child.pid, worker.locked.clone());
        let mut task = Self::new(spec, around, sinks, progress, id);
        (task.ledger, task.worker) = (ledger, Some(worker));
        task.report.landlock_abi = locked.landlock_abi;
        if let Err(Stop(Ending::AuditLost(why))) = task.record_start(Role::Worker, pid, &locked) {
            return Err(JailedError::Unrecorded { role: Role::Worker.name(), why });
        }
        Ok(task)
    }

    /// A task that has done nothing yet and has no worker.
    fn new(spec: Spec, around: Surroundings, sinks: Sinks, progress: Rc<dyn Progress>, id: [u8; 16]) -> Self {
        let state = match spec.player.as_ref().map(|player| &player.kind) {
            Some(GuestKind::Planner { .. }) => State::BetweenSteps,
            Some(GuestKind::Program { .. }) | None => State::Program,
        };
        Self {
            id,
            id_text: crate::cache::hex(&id),
            policy_hash: HexDigest::parse(spec.policy.hash()).unwrap_or(HexDigest::ZERO),
            ledger: Ledger::new(&spec.allowance),
            spec,
            around,
            worker: None,
            helpers: Helpers::default(),
            early: None,
            handles: Handles::default(),
            processes: Processes::default(),
            report: Report::default(),
            state,
            sinks,
            progress,
            evaluated: Vec::new(),
            outcome: None,
            reason: None,
            planner_errors: 0,
            steps_begun: 0,
            model_calls: 0,
            model_spent: None,
            verdict: None,
            used: (0, 0),
            calls: 0,
            floods: Floods::default(),
        }
    }

    /// The worker. Where there is none nothing asks for it; one that is gone ends the task.
    pub(crate) fn worker(&mut self) -> Result<&mut Jailed, Stop> {
        self.worker.as_mut().ok_or_else(|| Stop(Ending::WorkerLost("the task has none".to_owned())))
    }

    /// Serves the worker until the task is over.
    pub async fn run(mut self) -> Ended {
        let mut finish = None;
        let ending = match self.serve().await {
            Ok(end) => {
                let ending = self.ending_of(&end);
                finish = Some(end);
                ending
            }
            Err(Stop(ending)) => ending,
        };
        self.used = finish.map_or(self.used, |f| (f.fuel, f.memory_peak_bytes));
        self.ended(ending).await
    }

    /// The end of the task's processes, and everything that is told of it.
    async fn ended(mut self, ending: Ending) -> Ended {
        let (fuel, memory_peak_bytes) = self.used;
        let recorded = self.end_processes(matches!(ending, Ending::Cancelled(_))).await;
        Ended {
            // What ended without its record did not end well, whatever it did (T-09).
            ending: recorded.map_or_else(|Stop(lost)| lost, |()| ending),
            report: self.report,
            fuel,
            memory_peak_bytes,
            predicates: self.evaluated,
            outcome: self.outcome,
            reason: self.reason,
            ledger: self.ledger,
            sinks: self.sinks,
            policy: self.spec.policy,
        }
    }

    /// Ends the worker and every helper, in one grace for all, and puts each end on the record (T-12). A person who asked
    /// for the end does not wait longer than that grace for what commands made to be removed.
    async fn end_processes(&mut self, cancelled: bool) -> Result<(), Stop> {
        self.worker.iter().for_each(|worker| worker.child.kill());
        let deadline = Instant::now() + CANCEL_GRACE;
        let cleanup = if cancelled { deadline } else { deadline + CLEANUP_DEADLINE };
        let helpers = self.helpers.end_all(deadline, cleanup).await;
        if let Some(mut worker) = self.worker.take() {
            let exit = timeout_at(deadline, worker.child.exited()).await.ok();
            self.record_end(Role::Worker, worker.child.pid, exit)?;
        }
        helpers.into_iter().try_for_each(|(role, pid, exit)| self.record_end(role, pid, exit))
    }

    /// The loop: one frame of the worker after the other.
    async fn serve(&mut self) -> Result<Finish, Stop> {
        loop {
            let limit = self.ledger.deadline() + DEADLINE_GRACE;
            let mut cancel = self.around.cancel.clone();
            let worker = self.worker()?;
            let frame = tokio::select! {
                biased;
                signal = cancelled(&mut cancel) => return Err(Stop(Ending::Cancelled(signal))),
                () = sleep_until(limit) => return Err(Stop(Ending::Timeout)),
                frame = worker.peer.next() => frame?,
            };
            match frame.kind {
                Kind::Output => {
                    let output: Output = frame.decode().map_err(PeerError::from)?;
                    self.pass_output(output, limit).await?;
                }
                Kind::Finish => return frame.decode().map_err(|e| PeerError::from(e).into()),
                Kind::Call => {
                    let call: WorkerCall = frame.decode().map_err(PeerError::from)?;
                    // T-06: the moment of grace is for the worker's last words, and not for one more act.
                    self.still_wanted()?;
                    let reply = self.answer(call).await?;
                    self.send_reply(frame.request, &reply).await?;
                    if let Some(verdict) = self.verdict.clone() {
                        return Err(self.over(verdict).await);
                    }
                }
                other => return Err(PeerError::Refused(format!("a worker may not send {other:?}")).into()),
            }
        }
    }

    /// Output goes to its sink, and no slow reader of it keeps a person or the clock waiting.
    async fn pass_output(&mut self, output: Output, limit: Instant) -> Result<(), Stop> {
        let mut cancel = self.around.cancel.clone();
        tokio::select! {
            biased;
            signal = cancelled(&mut cancel) => Err(Stop(Ending::Cancelled(signal))),
            () = sleep_until(limit) => Err(Stop(Ending::Timeout)),
            kept = self.sinks.take(output) => match kept {
                Ok(()) => Ok(()),
                // As a pipeline ends: nobody reads what the guest says any more.
                Err(Errno::EPIPE) => Err(Stop(Ending::Cancelled(SIGPIPE))),
                Err(errno) => Err(Stop(Ending::OutputLost(errno.to_string()))),
            },
        }
    }

    async fn send_reply(&mut self, request: u32, reply: &WorkerReply) -> Result<(), Stop> {
        let deadline = (Instant::now() + REPLY_DEADLINE).min(self.ledger.deadline() + DEADLINE_GRACE);
        match self.worker()?.peer.send(Kind::Reply, request, reply, &[], deadline).await {
            // A reply of ours that does not fit a frame is no fault of the worker's.
            Err(PeerError::Failed(why)) => {
                let error = CallError::new(ErrorCode::Internal, &format!("the answer is too long for a frame: {why}"));
                Ok(self.worker()?.peer.send(Kind::Reply, request, &failed(error), &[], deadline).await?)
            }
            // It has ended, and may have said how: its last frame is still to be read.
            Err(PeerError::Gone) => Ok(()),
            other => Ok(other?),
        }
    }

    /// T-15: the verdict has fallen. The worker may still say what it used; nothing it asks is done any more.
    async fn over(&mut self, verdict: Verdict) -> Stop {
        let Ok(worker) = self.worker() else { return Stop(Ending::Verdict(verdict)) };
        let last = tokio::time::timeout(DEADLINE_GRACE, worker.peer.next()).await;
        if let Ok(Ok(frame)) = last
            && frame.kind == Kind::Finish
            && let Ok(finish) = frame.decode::<Finish>()
        {
            self.used = (finish.fuel, finish.memory_peak_bytes);
        }
        Stop(Ending::Verdict(verdict))
    }

    /// One call: the table first, then the family's own handler; and what no limit holds is counted (T-06).
    async fn answer(&mut self, call: WorkerCall) -> Answer {
        let row = monitor::row_of(&call).filter(|row| row.states.contains(&self.state));
        let Some(row) = row else {
            return Err(PeerError::Refused(format!("a call came that may not come while {:?}", self.state)).into());
        };
        let (before, closes, counts) = (self.ledger.charges(), is_close(&call), is_counted(&call));
        let reply = match self.gate(row, &call)? {
            Some(refused) => refused,
            None => self.perform(row, call).await?,
        };
        let error = if let WorkerReply::Error(error) = &reply { Some(error) } else { None };
        // What closes gives back, and there is no more of it than of what opens.
        if counts && !(closes && error.is_none()) {
            let charged = self.ledger.charges() != before;
            if let Some(why) = self.floods.count(row.capability, charged, error) {
                self.verdict.get_or_insert(Verdict::Exhausted(why));
            }
        }
        Ok(reply)
    }

    async fn perform(&mut self, row: monitor::Row, call: WorkerCall) -> Answer {
        match call {
            WorkerCall::Fs { origin, base64, call } => self.files(row, (origin, base64), call).await,
            WorkerCall::Proc { origin, alias, call } => self.commands(row, origin, alias.as_str(), call).await,
            WorkerCall::Llm { origin, call } => self.model(row, origin, call).await,
            WorkerCall::Policy { origin, call } => self.policy(row, origin, call).await,
            WorkerCall::Loop { call } => self.turn(row, call).await,
            WorkerCall::Absent { origin, capability } => self.absent(origin, capability.as_str()),
        }
    }

    /// Before any handler: calls that cost nothing are counted too, since each is a record in the log (T-06), and what a
    /// person wants to be asked about is not done by way of a handle or a process that was opened under another name.
    fn gate(&mut self, row: monitor::Row, call: &WorkerCall) -> Result<Option<WorkerReply>, Stop> {
        self.calls = self.calls.saturating_add(1);
        if self.calls > CALLS_MAX {
            return Err(Stop(Ending::Verdict(Verdict::Exhausted(format!(
                "the guest made {CALLS_MAX} calls, more than any task may"
            )))));
        }
        if is_close(call) || row.capability.is_empty() || row.capability.starts_with("task.") {
            return Ok(None);
        }
        let asked = self.spec.policy.approval(row.capability).map(str::to_owned);
        match self.check_approval(row.capability, asked.as_deref()) {
            Ok(()) => Ok(None),
            Err(error) => {
                self.refuse(row, row.capability, "", crate::audit::Value::Null, &error)?;
                if call.is_action() {
                    self.report.action(row.capability, &Err(error.clone()));
                }
                Ok(Some(failed(error)))
            }
        }
    }

    fn ending_of(&self, finish: &Finish) -> Ending {
        match (&self.verdict, &finish.end) {
            // What the broker decided stands, whatever the worker says after it (T-15). The worker's own account of an
            // exhausted guest is more exact than a missing verdict.
            (Some(verdict), _) => Ending::Verdict(verdict.clone()),
            (None, end) => Ending::Guest(end.clone()),
        }
    }
}

/// Whether a call gives something back.
fn is_close(call: &WorkerCall) -> bool {
    matches!(
        call,
        WorkerCall::Fs { call: FsCall::Close { .. }, .. } | WorkerCall::Proc { call: ProcCall::Close { .. }, .. }
    )
}

/// Turns of the loop are bounded by its steps; an action that never became a call is bounded by nothing.
fn is_counted(call: &WorkerCall) -> bool {
    matches!(call, WorkerCall::Loop { call: LoopCall::BadAction { .. } }) || !matches!(call, WorkerCall::Loop { .. })
}

/// An error reply.
pub(crate) fn failed(error: CallError) -> WorkerReply {
    WorkerReply::Error(error)
}
