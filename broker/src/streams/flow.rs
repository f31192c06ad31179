//! The three pumps of one command, and what passed them.

use super::channel::Channel;
use super::{Streams, Taken};
use crate::audit::HexDigest;
use crate::output::Kept;
use crate::terminal::Passing;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;
use sha2::{Digest, Sha256};
use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use tokio::task::JoinHandle;

/// Bytes on their way in one stream at a time.
const PIECE_BYTES: usize = 64 * 1024;
/// What the first of them are read into.
const FIRST_BYTES: usize = 4 * 1024;

/// The command's ends, to be handed over and closed here.
#[derive(Debug)]
pub struct Ends {
    /// Whether the first is its standard input; else that is /dev/null.
    pub stdin: bool,
    /// In order: input if there is one, output, error.
    pub pipes: Vec<OwnedFd>,
}

/// What passed one stream.
#[derive(Debug, Clone)]
pub struct Streamed {
    /// Bytes.
    pub bytes: u64,
    /// Their hash.
    pub sha256: HexDigest,
}

/// Counted while it passes.
#[derive(Debug, Default)]
struct Meter {
    bytes: u64,
    hash: Sha256,
    /// Why its other end took no more, where that was no reader that went away.
    lost: Option<Errno>,
    kept: Option<(Kept, usize)>,
}

impl Meter {
    fn count(&mut self, bytes: &[u8]) {
        self.bytes = self.bytes.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        self.hash.update(bytes);
    }
}

type Shared = Rc<RefCell<Meter>>;

/// Where an output goes.
enum Sink {
    /// To the person; through `Passing` where that is a terminal.
    Person(Channel, Option<Passing>),
    /// Into the meter, for the result.
    Kept,
}

/// Our ends, before the command runs.
struct Ours {
    stdin: Option<(Taken, OwnedFd)>,
    stdout: (Option<Taken>, OwnedFd),
    /// None where both outputs are one.
    stderr: Option<(Option<Taken>, OwnedFd)>,
}

/// The streams of one command.
pub struct Flow {
    ours: Option<Ours>,
    input: Option<JoinHandle<()>>,
    outputs: Vec<JoinHandle<()>>,
    meters: [Shared; 3],
    present: [bool; 3],
}

impl Flow {
    /// Makes the pipes. `keep_max_bytes`: most of each output that is kept, where it is kept.
    pub fn prepare(streams: Streams, keep_max_bytes: usize) -> nix::Result<(Self, Ends)> {
        let Streams { stdin, stdout, stderr, joined } = streams;
        let meters: [Shared; 3] = Default::default();
        let [_, out, err] = &meters;
        for (meter, taken) in [(out, &stdout), (err, &stderr)] {
            if taken.is_none() {
                meter.borrow_mut().kept = Some((Kept::default(), keep_max_bytes));
            }
        }
        let (stdin, stdin_end) = match stdin {
            Some(taken) => {
                let (ours, theirs) = pair(true)?;
                (Some((taken, ours)), Some(theirs))
            }
            None => (None, None),
        };
        let (out_ours, out_end) = pair(false)?;
        let (stderr, err_end) = if joined {
            (None, out_end.try_clone().map_err(|_| Errno::EMFILE)?)
        } else {
            let (ours, theirs) = pair(false)?;
            (Some((stderr, ours)), theirs)
        };
        let present = [stdin.is_some(), true, !joined];
        let ours = Ours { stdin, stdout: (stdout, out_ours), stderr };
        let flow = Self { ours: Some(ours), input: None, outputs: Vec::new(), meters, present };
        let ends =
            Ends { stdin: stdin_end.is_some(), pipes: stdin_end.into_iter().chain([out_end, err_end]).collect() };
        Ok((flow, ends))
    }

    /// The command runs: from here on bytes pass. Must be called in a `LocalSet`.
    pub fn start(&mut self) -> nix::Result<()> {
        let Some(Ours { stdin, stdout, stderr }) = self.ours.take() else { return Ok(()) };
        let [in_meter, out_meter, err_meter] = self.meters.clone();
        if let Some((taken, writer)) = stdin {
            let (source, sink) = (Channel::source(taken.fd)?, Channel::sink(writer)?);
            self.input = Some(tokio::task::spawn_local(pump_in(source, sink, in_meter)));
        }
        let outputs = [(Some(stdout), out_meter), (stderr, err_meter)];
        for ((taken, reader), meter) in outputs.into_iter().filter_map(|(output, meter)| Some((output?, meter))) {
            let source = Channel::source(reader)?;
            let sink = match taken {
                Some(taken) => {
                    let passing = taken.terminal.then(Passing::default);
                    Sink::Person(Channel::sink(taken.fd)?, passing)
                }
                None => Sink::Kept,
            };
            self.outputs.push(tokio::task::spawn_local(pump_out(source, sink, meter)));
        }
        Ok(())
    }

    /// The command has ended: nothing more is read for it, and what it wrote comes out, however slow its reader is. Dropped
    /// before it is ready, the rest is lost.
    pub async fn finish(&mut self) {
        self.stop_input();
        for pump in &mut self.outputs {
            let _ = pump.await;
        }
        self.outputs.clear();
    }

    fn stop_input(&mut self) {
        if let Some(input) = self.input.take() {
            input.abort();
        }
    }

    /// What passed standard input, output and error so far; none where nothing could: an input that is /dev/null, an error
    /// that goes where the output goes.
    pub fn streamed(&self) -> [Option<Streamed>; 3] {
        let [stdin, stdout, stderr] = self.present;
        let [input, output, error] = self.meters.each_ref().map(|meter| {
            let meter = meter.borrow();
            Streamed { bytes: meter.bytes, sha256: HexDigest::from_bytes(meter.hash.clone().finalize().into()) }
        });
        [stdin.then_some(input), stdout.then_some(output), stderr.then_some(error)]
    }

    /// Why standard output could not be written, if it was lost. What cannot be said on standard error changes nothing.
    pub fn lost(&self) -> Option<Errno> {
        let [_, out, _] = &self.meters;
        out.borrow().lost
    }

    /// What was kept of both outputs.
    pub fn take_kept(&mut self) -> [Kept; 2] {
        let [_, out, err] = &self.meters;
        [out, err].map(|meter| meter.borrow_mut().kept.take().map(|(kept, _)| kept).unwrap_or_default())
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.stop_input();
        self.outputs.iter().for_each(JoinHandle::abort);
    }
}

/// A pipe to a command, or from it: our end, which does not wait, and the command's, which does as any program expects.
fn pair(ours_writes: bool) -> nix::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
    let (ours, theirs) = if ours_writes { (writer, reader) } else { (reader, writer) };
    fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((ours, theirs))
}

/// From the person to the command. Over when either has had enough; the command then reads end-of-file.
async fn pump_in(source: Channel, sink: Channel, meter: Shared) {
    let mut buffer = vec![0; FIRST_BYTES];
    // What cannot be read has ended, as far as the command can tell.
    while let Ok(count @ 1..) = source.read(&mut buffer).await {
        let bytes = buffer.get(..count).unwrap_or_default();
        meter.borrow_mut().count(bytes);
        if sink.write(bytes).await.is_err() {
            return;
        }
        grow(&mut buffer, count);
    }
}

/// Most streams are short; one that fills what it is read into is read in whole pieces from then on.
fn grow(buffer: &mut Vec<u8>, count: usize) {
    if count == buffer.len() {
        buffer.resize(PIECE_BYTES, 0);
    }
}

/// From the command to the person or the result. Over when either has had enough; a command that writes on then hears it
/// as in any pipeline, by SIGPIPE.
async fn pump_out(source: Channel, mut sink: Sink, meter: Shared) {
    let mut buffer = vec![0; FIRST_BYTES];
    while let Ok(count @ 1..) = source.read(&mut buffer).await {
        let bytes = buffer.get(..count).unwrap_or_default();
        meter.borrow_mut().count(bytes);
        if let Err(errno) = sink.take(bytes, &meter).await {
            meter.borrow_mut().lost = (errno != Errno::EPIPE).then_some(errno);
            return;
        }
        grow(&mut buffer, count);
        // T-06: a stream that always has more keeps neither the others nor the clock waiting.
        tokio::task::yield_now().await;
    }
    sink.end().await;
}

impl Sink {
    async fn take(&mut self, bytes: &[u8], meter: &Shared) -> nix::Result<()> {
        match self {
            // T-14: a terminal gets nothing that steers it, anything else the very bytes.
            Self::Person(channel, Some(passing)) => channel.write(&passing.pass(bytes)).await,
            Self::Person(channel, None) => channel.write(bytes).await,
            Self::Kept => {
                if let Some((kept, max)) = &mut meter.borrow_mut().kept {
                    kept.add(bytes, *max);
                }
                Ok(())
            }
        }
    }

    /// What was held back comes out, and colours end before warden speaks.
    async fn end(&mut self) {
        if let Self::Person(channel, Some(passing)) = self {
            let rest = passing.end();
            let _ = channel.write(&rest).await;
        }
    }
}
