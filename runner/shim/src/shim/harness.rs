//! What the guest sends, and how a sandbox ends.

use std::time::{Duration, Instant};

use lodge_guest::mux::{self, Frame, MuxError};
use nix::sys::signal::Signal;
use rustix::process::Signal as Kill;

use super::guest::{HARNESS, Received};
use super::lines::{Line, Lines};
use super::log::log;
use super::{Shim, ShimError, tree};
use crate::journal::{
    Exit, FLAG_UNTERMINATED, JournalError, Kind, Limit, Oversize, StartFailed, Started, Writer, now_ms,
};
use crate::wire::{CODE_EXITED, Harness};

/// How long a sandbox whose process or stream has ended may keep the rest open.
const COLLAPSE: Duration = Duration::from_secs(2);
/// How long the guest's processes get after TERM when the shim itself is ended.
const TERM_GRACE: Duration = Duration::from_secs(2);
/// How long a stopped session waits for its runner to take note.
const STOP_LINGER: Duration = Duration::from_secs(5);

impl Shim {
    /// Reads once and journals what came.
    pub(super) fn read_guest(&mut self) -> Result<(), ShimError> {
        let Some(guest) = &mut self.guest else {
            return Ok(());
        };
        match guest.receive(&mut self.scratch) {
            Received::Nothing => return Ok(()),
            Received::Some => {}
            Received::End => {
                guest.close();
                self.dead_at.get_or_insert(Instant::now() + COLLAPSE);
                return Ok(());
            }
        }
        let time = now_ms();
        loop {
            let Some(guest) = &mut self.guest else {
                return Ok(());
            };
            let frame = match guest.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(()),
                Err(error) => return self.guest_misbehaved(&error),
            };
            match self.take_frame(&frame, time) {
                Ok(()) => {}
                Err(FrameError::Guest(error)) => return self.guest_misbehaved(&error),
                Err(FrameError::Shim(error)) => return Err(error),
            }
        }
    }

    fn take_frame(&mut self, frame: &Frame, time: u64) -> Result<(), FrameError> {
        if frame.kind == mux::Kind::Hello {
            return self.guest_is_up(frame);
        }
        if frame.kind == mux::Kind::Limit {
            return self.limit_crossed(frame);
        }
        if frame.stream != HARNESS {
            return Ok(self.take_stream_frame(frame)?);
        }
        match frame.kind {
            mux::Kind::Stdout => {
                journal_bytes(&mut self.journal, &mut self.out, Kind::Out, &frame.payload, time)?;
            }
            mux::Kind::Stderr => {
                journal_bytes(&mut self.journal, &mut self.err, Kind::Err, &frame.payload, time)?;
            }
            mux::Kind::Started => {
                let body = Started {
                    pid: frame.parse::<mux::Started>()?.pid,
                };
                self.harness = Harness::Running;
                self.stage_json(Kind::Started, &body)?;
            }
            mux::Kind::StartFailed => {
                let mux::StartFailed { error, errno } = frame.parse()?;
                self.start_failed(error, errno)?;
            }
            mux::Kind::Exit => {
                let mux::Exit { code, signal } = frame.parse()?;
                self.harness_exited(&Exit {
                    code,
                    signal,
                    reason: None,
                })?;
            }
            kind => return Err(unexpected(kind).into()),
        }
        Ok(())
    }

    /// Init's last word before it kills everything: what follows is the harness's exit.
    fn limit_crossed(&mut self, frame: &Frame) -> Result<(), FrameError> {
        let mux::Limit { key, allowed, found } = frame.parse()?;
        if self.limit_told {
            return Ok(());
        }
        self.limit_told = true;
        // The guest's text goes into the journal: it is the name of a key or nothing.
        let key = key.chars().take(64).collect();
        self.stage_json(Kind::Limit, &Limit { key, allowed, found })?;
        Ok(())
    }

    fn guest_is_up(&mut self, frame: &Frame) -> Result<(), FrameError> {
        let hello: mux::Hello = frame.parse()?;
        if hello.version != mux::VERSION {
            let reason = format!("version {} where {} is spoken", hello.version, mux::VERSION);
            return Err(MuxError::Payload {
                kind: frame.kind,
                reason,
            }
            .into());
        }
        self.hello_by = None;
        let (Some(guest), Some(spec)) = (&mut self.guest, self.spec.take()) else {
            return Err(unexpected(frame.kind).into());
        };
        let start = serde_json::to_vec(&spec.start).map_err(ShimError::Encode)?;
        guest.queue(mux::Kind::Start, &start)?;
        Ok(())
    }

    /// The guest is hostile territory: once it speaks nonsense, its sandbox ends.
    fn guest_misbehaved(&mut self, error: &MuxError) -> Result<(), ShimError> {
        self.end_sandbox(&format!("the guest's stream is damaged: {error}"))
    }

    fn stage_json<T: serde::Serialize>(&mut self, kind: Kind, body: &T) -> Result<u64, ShimError> {
        let body = serde_json::to_vec(body)?;
        Ok(self.journal.stage(kind, 0, &[&body], now_ms())?.seq)
    }

    pub(super) fn start_failed(&mut self, error: String, errno: i32) -> Result<(), ShimError> {
        let seq = self.stage_json(Kind::StartFailed, &StartFailed { error, errno })?;
        self.ended(seq);
        Ok(())
    }

    fn harness_exited(&mut self, exit: &Exit) -> Result<(), ShimError> {
        if self.exit_seq.is_some() {
            return Ok(());
        }
        let time = now_ms();
        finish_lines(&mut self.journal, &mut self.out, Kind::Out, time)?;
        finish_lines(&mut self.journal, &mut self.err, Kind::Err, time)?;
        let seq = self.stage_json(Kind::Exit, exit)?;
        self.ended(seq);
        Ok(())
    }

    fn ended(&mut self, seq: u64) {
        self.harness = Harness::Exited;
        self.exit_seq = Some(seq);
        self.hello_by = None;
        self.kill_at = None;
        self.spec = None;
        self.leave_at = Some(Instant::now() + self.linger);
        self.refuse_inputs();
        self.end_streams();
    }

    /// Tells the runner which of its inputs were not, and will not be, delivered.
    pub(super) fn refuse_inputs(&mut self) {
        while let Some(input) = self.inputs.take() {
            let id = u128::from_be_bytes(input.id);
            self.tell(
                CODE_EXITED,
                format!("input {id:032x} was not delivered: the harness is gone"),
            );
        }
    }

    /// Records that the sandbox is gone, if the harness's own end is not known, and kills what is left.
    fn end_sandbox(&mut self, reason: &str) -> Result<(), ShimError> {
        if self.harness == Harness::Starting && self.exit_seq.is_none() {
            self.start_failed(reason.to_owned(), 0)?;
        } else {
            self.harness_exited(&Exit {
                code: None,
                signal: None,
                reason: Some(reason.to_owned()),
            })?;
        }
        self.dead_at = None;
        let Some(mut guest) = self.guest.take() else {
            return Ok(());
        };
        guest.close();
        tree::let_end(guest.pid(), self.cleanup());
        tree::kill_all(guest.pid());
        Ok(())
    }

    pub(super) fn guest_timers(&mut self, now: Instant) -> Result<(), ShimError> {
        let due = |at: Option<Instant>| at.is_some_and(|at| now >= at);
        if due(self.hello_by) {
            let waited = self.limits.hello_ms;
            let epitaph = self
                .guest
                .as_ref()
                .map(super::guest::Guest::epitaph)
                .unwrap_or_default();
            return self.end_sandbox(&format!("the guest said nothing for {waited} ms: {epitaph}"));
        }
        if due(self.kill_at) {
            self.kill_at = None;
            self.kill_guest(now);
        }
        let over = self.guest.as_ref().is_some_and(super::guest::Guest::is_over);
        if over || (due(self.dead_at) && self.may_give_up(now)) {
            let epitaph = self
                .guest
                .as_ref()
                .map(super::guest::Guest::epitaph)
                .unwrap_or_default();
            return self.end_sandbox(&format!("sandbox died: {epitaph}"));
        }
        Ok(())
    }

    /// A dead sandbox's last bytes wait in the socket while the runner is behind: they are not given up.
    fn may_give_up(&mut self, now: Instant) -> bool {
        let unread = self.guest.as_ref().is_some_and(|guest| guest.mux().is_some());
        let paused = unread && self.backlog.unacked() >= self.limits.unacked_bytes;
        if paused {
            self.dead_at = Some(now + COLLAPSE);
        }
        !paused
    }

    fn kill_guest(&mut self, now: Instant) {
        let Some(guest) = &mut self.guest else { return };
        guest.hang_up();
        // A launcher that has to remove something sees the end of its stream, and is killed when it is late.
        if let Some(pid) = guest.pid().filter(|_| self.limits.cleanup_ms == 0) {
            let _ = rustix::process::kill_process_group(pid, Kill::KILL);
        }
        let patience = COLLAPSE.max(Duration::from_millis(self.limits.cleanup_ms));
        self.dead_at.get_or_insert(now + patience);
    }

    pub(super) fn cleanup(&self) -> Duration {
        Duration::from_millis(self.limits.cleanup_ms)
    }

    /// Asks the guest to end; kills it when `grace` is over.
    pub(super) fn stop(&mut self, grace: Duration, linger: Duration) -> Result<(), ShimError> {
        self.linger = linger;
        let now = Instant::now();
        if self.exit_seq.is_some() {
            self.leave_at = Some(now + linger);
            return Ok(());
        }
        match &mut self.guest {
            Some(guest) => {
                if let Err(error) = guest.queue(mux::Kind::Shutdown, &[]) {
                    log(format_args!("cannot ask the guest to stop: {error}"));
                }
                self.kill_at = Some(now + grace);
                Ok(())
            }
            None => self.start_failed("stopped before it was started".to_owned(), 0),
        }
    }

    pub(super) fn stop_for_runner(&mut self, grace: Duration) -> Result<(), ShimError> {
        self.stop(grace, STOP_LINGER)
    }

    pub(super) fn take_signals(&mut self) -> Result<(), ShimError> {
        let mut terminate = false;
        while let Ok(Some(info)) = self.signals.read_signal() {
            let ends = [Signal::SIGTERM as u32, Signal::SIGINT as u32];
            terminate |= ends.contains(&info.ssi_signo);
        }
        while let Some((pid, status)) = tree::reap() {
            if let Some(guest) = &mut self.guest
                && guest.reaped(pid, status)
            {
                // Its init may live on for a moment; the end of the stream tells it to go.
                guest.hang_up();
                self.dead_at.get_or_insert(Instant::now() + COLLAPSE);
            }
        }
        if terminate {
            self.stop(TERM_GRACE, Duration::ZERO)
        } else {
            Ok(())
        }
    }
}

/// Whose fault it is.
enum FrameError {
    Guest(MuxError),
    Shim(ShimError),
}

impl From<MuxError> for FrameError {
    fn from(error: MuxError) -> Self {
        Self::Guest(error)
    }
}

impl From<ShimError> for FrameError {
    fn from(error: ShimError) -> Self {
        Self::Shim(error)
    }
}

fn unexpected(kind: mux::Kind) -> MuxError {
    MuxError::Payload {
        kind,
        reason: "it may not be sent here".to_owned(),
    }
}

fn journal_bytes(
    journal: &mut Writer,
    lines: &mut Lines,
    kind: Kind,
    bytes: &[u8],
    time: u64,
) -> Result<(), ShimError> {
    if bytes.is_empty() {
        return finish_lines(journal, lines, kind, time);
    }
    lines.push(bytes, |line| journal_line(journal, kind, &line, time))
}

fn finish_lines(journal: &mut Writer, lines: &mut Lines, kind: Kind, time: u64) -> Result<(), ShimError> {
    lines.finish(|line| journal_line(journal, kind, &line, time))
}

fn journal_line(journal: &mut Writer, kind: Kind, line: &Line<'_>, time: u64) -> Result<(), ShimError> {
    let staged: Result<_, JournalError> = match line {
        Line::Whole(bytes) => journal.stage(kind, 0, &[bytes], time),
        Line::Unterminated(bytes) => journal.stage(kind, FLAG_UNTERMINATED, &[bytes], time),
        Line::Oversize { head, length } => {
            let stream = if kind == Kind::Out { "out" } else { "err" }.to_owned();
            let head = String::from_utf8_lossy(head).into_owned();
            let body = serde_json::to_vec(&Oversize {
                stream,
                length: *length,
                head,
            })?;
            journal.stage(Kind::Oversize, 0, &[&body], time)
        }
    };
    staged?;
    Ok(())
}
