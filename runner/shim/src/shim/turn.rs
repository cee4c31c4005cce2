//! One turn of the loop.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::guest::Guest;
use super::log::log;
use super::{Shim, ShimError, tree};
use crate::journal::{JournalError, Kind, now_ms};
use crate::wire::{CODE_CORRUPT, CODE_DISK_FULL, CODE_DISK_OK, Harness};

/// Bytes that may wait for a full disk before nothing more is taken from the runner.
const MAX_STAGED: usize = 4 << 20;
/// How often a full disk is tried again.
const DISK_RETRY: Duration = Duration::from_millis(500);
/// Bytes of inputs whose beginning is journalled in one batch.
const INPUT_BATCH: usize = 1 << 20;
/// How long a leaving shim waits for its runner to take the last records.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How often a shim without a runner looks whether its session is still there.
const LOOK_AROUND: Duration = Duration::from_secs(5);

/// What the loop waits for, apart from connections that have not said hello.
const SIGNALS: usize = 0;
const LISTENER: usize = 1;
const MUX: usize = 2;
const STDERR: usize = 3;
const ACTIVE: usize = 4;

/// What the kernel says is ready.
#[derive(Debug)]
struct Ready {
    fixed: [PollFlags; 5],
    fresh: Vec<bool>,
}

impl Shim {
    /// Serves until the session's harness is gone and that is known, or until a signal ends it.
    pub fn run(mut self) -> Result<(), ShimError> {
        while !self.may_leave() {
            let ready = self.wait()?;
            self.take(&ready)?;
            self.follow_runner();
            self.timers()?;
            self.settle()?;
            self.stream_all();
        }
        self.leave()
    }

    /// Whether new bytes may become records.
    fn may_record(&self) -> bool {
        self.retry_at.is_none()
    }

    fn reads_guest(&self) -> bool {
        self.may_record() && self.backlog.unacked() < self.limits.unacked_bytes
    }

    /// Also while the disk is full: an acknowledgement may be what frees it.
    fn reads_runner(&self) -> bool {
        !self.inputs.is_full() && self.journal.staged_bytes() < MAX_STAGED
    }

    fn wait(&self) -> Result<Ready, ShimError> {
        let (slots, mut fds) = self.watched();
        let fresh = self.server.fresh.iter();
        fds.extend(fresh.map(|connection| PollFd::from_borrowed_fd(connection.fd(), PollFlags::IN)));
        match poll(&mut fds, self.timeout().as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(ShimError::Poll(error)),
        }
        let mut found = fds.iter().map(PollFd::revents);
        let mut fixed = [PollFlags::empty(); 5];
        for (slot, flags) in slots.into_iter().zip(&mut found) {
            fixed[slot] = flags;
        }
        Ok(Ready {
            fixed,
            fresh: found.map(|flags| !flags.is_empty()).collect(),
        })
    }

    fn watched(&self) -> (Vec<usize>, Vec<PollFd<'_>>) {
        let wanted = |read: bool, write: bool| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, read);
            flags.set(PollFlags::OUT, write);
            flags
        };
        let mut slots = vec![SIGNALS, LISTENER];
        let mut fds = vec![
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::from_borrowed_fd(self.server.fd(), PollFlags::IN),
        ];
        if let Some(guest) = &self.guest {
            let flags = wanted(self.reads_guest(), guest.has_output());
            // A stream that is not read must not be watched: its hang-up would never stop being reported.
            if let Some(mux) = guest.mux().filter(|_| !flags.is_empty()) {
                slots.push(MUX);
                fds.push(PollFd::new(mux, flags));
            }
            if let Some(stderr) = guest.stderr() {
                slots.push(STDERR);
                fds.push(PollFd::new(stderr, PollFlags::IN));
            }
        }
        if let Some(active) = &self.server.active {
            let head = self.journal.head_seq();
            let held_back = active.waits_until(head).is_some_and(|at| Instant::now() < at);
            let flags = wanted(self.reads_runner(), active.is_behind(head) && !held_back);
            slots.push(ACTIVE);
            fds.push(PollFd::from_borrowed_fd(active.fd(), flags));
        }
        (slots, fds)
    }

    fn timeout(&self) -> Option<Timespec> {
        let fresh = self.server.fresh.iter().map(|connection| connection.deadline);
        let own = match self.retry_at {
            // Nothing else can happen before that.
            Some(retry) => [Some(retry), None, None, None],
            None if self.journal.has_staged() => {
                return Some(Timespec {
                    tv_sec: 0,
                    tv_nsec: 0,
                });
            }
            None => [self.hello_by, self.kill_at, self.dead_at, self.leave_at],
        };
        let runner = match &self.server.active {
            Some(active) => active.waits_until(self.journal.head_seq()),
            None => Some(Instant::now() + LOOK_AROUND),
        };
        let next = own.into_iter().flatten().chain(fresh).chain(runner).min()?;
        // Rounded up, else the last millisecond is spent spinning.
        let wait = next.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        Timespec::try_from(wait).ok()
    }

    fn take(&mut self, ready: &Ready) -> Result<(), ShimError> {
        if !ready.fixed[SIGNALS].is_empty() {
            self.take_signals()?;
        }
        if !ready.fixed[STDERR].is_empty()
            && let Some(guest) = &mut self.guest
        {
            guest.read_stderr();
        }
        if ready.fixed[MUX].intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) && self.reads_guest()
        {
            self.read_guest()?;
        }
        if self.reads_runner() {
            if !ready.fixed[ACTIVE].difference(PollFlags::OUT).is_empty() {
                self.read_active()?;
            }
        } else if ready.fixed[ACTIVE].intersects(PollFlags::HUP | PollFlags::ERR) {
            // What it sent is not taken; it will come again, and ids make that harmless.
            self.server.active = None;
        }
        self.read_fresh(&ready.fresh)?;
        if !ready.fixed[LISTENER].is_empty() {
            self.server.accept();
        }
        Ok(())
    }

    fn timers(&mut self) -> Result<(), ShimError> {
        if self.server.active.is_none() && self.kill_at.is_none() && !self.journal_dir.exists() {
            log(format_args!("the session's directory is gone"));
            self.stop(LAST_WORDS, Duration::ZERO)?;
        }
        let now = Instant::now();
        self.server.drop_late(now);
        if self.retry_at.is_some_and(|at| now < at) {
            return Ok(());
        }
        self.guest_timers(now)
    }

    /// Journals what this turn brought, then lets the inputs go whose beginning is on disk.
    pub(super) fn settle(&mut self) -> Result<(), ShimError> {
        if self.retry_at.is_some_and(|at| Instant::now() < at) {
            return Ok(());
        }
        loop {
            self.begin_inputs()?;
            if !self.commit()? {
                return Ok(());
            }
            let Some(guest) = &mut self.guest else {
                return Ok(());
            };
            let begun = !self.begun.is_empty();
            for input in self.begun.drain(..) {
                if let Err(error) = guest.queue_input(&input) {
                    log(format_args!("an input cannot be sent: {error}"));
                }
            }
            guest.flush();
            while let Some(id) = guest.next_done() {
                self.journal.stage(Kind::InDone, 0, &[&id], now_ms())?;
            }
            if !begun {
                self.commit()?;
                return Ok(());
            }
        }
    }

    /// Stages the beginning of the inputs that the guest has room for.
    fn begin_inputs(&mut self) -> Result<(), ShimError> {
        let ready = self.harness == Harness::Running && self.guest.as_ref().is_some_and(Guest::has_room);
        let mut room = if ready { INPUT_BATCH } else { 0 };
        while room > 0 {
            let Some(input) = self.inputs.begin(self.journal.next_seq()) else {
                break;
            };
            self.journal
                .stage(Kind::InBegin, 0, &[&input.id, &input.bytes], now_ms())?;
            room = room.saturating_sub(input.bytes.len().max(1));
            self.begun.push(input);
        }
        Ok(())
    }

    /// Writes the batch, and syncs it when an append asked for that; false when the disk is full.
    fn commit(&mut self) -> Result<bool, ShimError> {
        match self.try_commit() {
            Ok(()) => {
                if self.retry_at.take().is_some() {
                    self.tell(CODE_DISK_OK, "the disk has room again".to_owned());
                }
                Ok(true)
            }
            Err(error) if error.is_disk_full() => {
                self.disk_full(&error);
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn try_commit(&mut self) -> Result<(), JournalError> {
        let bytes = self.journal.staged_bytes() as u64;
        if bytes > 0 {
            self.journal.commit()?;
            self.backlog.wrote(self.journal.head_seq(), bytes);
        }
        if self.sync_wanted {
            self.journal.sync()?;
            self.sync_wanted = false;
        }
        Ok(())
    }

    fn disk_full(&mut self, error: &JournalError) {
        if self.retry_at.is_none() {
            log(format_args!("the disk is full, the harness waits"));
            self.tell(CODE_DISK_FULL, error.to_string());
        }
        self.retry_at = Some(Instant::now() + DISK_RETRY);
    }

    pub(super) fn tell(&mut self, code: &str, message: String) {
        if let Some(active) = &mut self.server.active {
            active.say_error(code, message);
        }
    }

    pub(super) fn stream_all(&mut self) {
        let head = self.journal.head_seq();
        let Some(active) = &mut self.server.active else {
            return;
        };
        match active.stream(head) {
            Ok(true) => {}
            Ok(false) => self.server.active = None,
            Err(error) => {
                log(format_args!("cannot read the journal back: {error}"));
                active.say_error(CODE_CORRUPT, error.to_string());
                active.flush();
                self.server.active = None;
            }
        }
    }

    /// After the harness's end: it is acknowledged, or nobody came for too long.
    fn may_leave(&self) -> bool {
        let Some(exit_seq) = self.exit_seq else {
            return false;
        };
        // The record must be on disk, else leaving would lose it.
        self.journal.head_seq() >= exit_seq
            && !self.journal.has_staged()
            && (self.acked >= exit_seq || self.leave_at.is_some_and(|at| Instant::now() >= at))
    }

    fn leave(mut self) -> Result<(), ShimError> {
        self.server.unlink();
        let group = self.guest.as_mut().and_then(|guest| {
            guest.close();
            guest.pid()
        });
        tree::let_end(group, self.cleanup());
        tree::kill_all(group);
        self.journal.sync()?;
        let deadline = Instant::now() + LAST_WORDS;
        let head = self.journal.head_seq();
        while let Some(active) = &mut self.server.active {
            if !active.stream(head)? || !active.is_behind(head) {
                break;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(timeout) = Timespec::try_from(left) else {
                break;
            };
            let fd = &mut [PollFd::from_borrowed_fd(active.fd(), PollFlags::OUT)];
            if left.is_zero() || poll(fd, Some(&timeout)).map_err(ShimError::Poll)? == 0 {
                break;
            }
        }
        Ok(())
    }
}
