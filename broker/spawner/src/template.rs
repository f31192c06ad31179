//! The warm template as the spawner sees it: one packet with a link goes in, one process id comes out.
//!
//! The template makes each worker a child of the spawner (CLONE_PARENT), so that only the spawner reaps and kills it.
//! Workers share the template's address layout, so it is replaced at its [`TemplateBounds`] (T-03).

use crate::binaries::Binaries;
use crate::child::{StartError, execute};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{ControlMessage, MsgFlags, recv, sendmsg};
use nix::unistd::Pid;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};
use warden_proto::msg::life::Role;
use warden_proto::socket;

/// How long one template serves.
#[derive(Debug, Clone, Copy)]
pub struct TemplateBounds {
    /// Workers of one template.
    pub forks_max: u32,
    /// Its life.
    pub age_max: Duration,
    /// One is started before it is asked for.
    pub warm: bool,
}

impl Default for TemplateBounds {
    fn default() -> Self {
        Self { forks_max: 1_000, age_max: Duration::from_secs(600), warm: true }
    }
}

/// From exec to warm; a cold disk may be slow.
const WARM_DEADLINE: Duration = Duration::from_secs(10);
/// From a request to its process id.
const FORK_DEADLINE: Duration = Duration::from_secs(2);

/// A running template.
#[derive(Debug)]
pub struct Template {
    /// Its process.
    pub pid: Pid,
    control: OwnedFd,
    born: Instant,
    forks: u32,
    warm: bool,
}

impl Template {
    /// Starts a template; it warms while others work.
    pub fn start(binaries: &Binaries) -> Result<Self, StartError> {
        let (control, theirs) = socket::pair().map_err(|errno| StartError { step: "make a socket", errno })?;
        let (program, arguments) = binaries.of(Role::Template);
        let pid = execute(program, arguments, vec![theirs])?;
        Ok(Self { pid, control, born: Instant::now(), forks: 0, warm: false })
    }

    /// Whether another should take its place.
    pub fn spent(&self, bounds: &TemplateBounds) -> bool {
        self.forks >= bounds.forks_max || self.born.elapsed() > bounds.age_max
    }

    /// Forks one worker whose link is `link`.
    pub fn fork(&mut self, link: &OwnedFd) -> Result<Pid, StartError> {
        let failed = |step| move |errno| StartError { step, errno };
        if !self.warm {
            let mut build = [0_u8; 64];
            let len = self.receive(&mut build, WARM_DEADLINE).map_err(failed("wait for the template to be warm"))?;
            if build.get(..len) != Some(warden_proto::build_id().as_slice()) {
                return Err(StartError { step: "trust the template: it is of another build", errno: Errno::EPROTO });
            }
            self.warm = true;
        }
        let numbers = [link.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&numbers)];
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        sendmsg::<()>(self.control.as_raw_fd(), &[IoSlice::new(b"F")], &rights, flags, None)
            .map_err(failed("ask the template"))?;
        let mut answer = [0_u8; 4];
        self.receive(&mut answer, FORK_DEADLINE).map_err(failed("hear from the template"))?;
        self.forks = self.forks.saturating_add(1);
        match i32::from_le_bytes(answer) {
            pid @ 1.. => Ok(Pid::from_raw(pid)),
            errno => Err(StartError { step: "fork in the template", errno: Errno::from_raw(errno.saturating_neg()) }),
        }
    }

    fn receive(&self, buffer: &mut [u8], deadline: Duration) -> nix::Result<usize> {
        let end = Instant::now() + deadline;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Errno::ETIMEDOUT);
            }
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(self.control.as_fd(), PollFlags::POLLIN)], timeout) {
                Err(Errno::EINTR) | Ok(0) => continue,
                Err(other) => return Err(other),
                Ok(_) => {}
            }
            return match recv(self.control.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT)? {
                0 => Err(Errno::ECONNRESET),
                len => Ok(len),
            };
        }
    }

    /// Ends it; its workers live on.
    pub fn end(self) {
        let _ = kill(self.pid, Signal::SIGKILL);
    }
}
