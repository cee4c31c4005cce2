//! The loop: frames in, frames out, processes reaped, until the stream ends.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use lodge_guest::mux::{self, CONNECTIONS, Frame, Hello, Kind};
use lodge_guest::walls::Walls;
use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::bounds::{Bounds, Counts, Crossed};
use crate::children::Children;
use crate::config::ConfigError;
use crate::forwarder::Forwarder;
use crate::landlock::LandlockError;
use crate::link::{Link, LinkError};
use crate::poller::{Poller, Token};
use crate::seccomp::SeccompError;
use crate::sys::{self, PrivilegeError, Reaped};

/// Time between TERM and KILL after a shutdown frame.
const TERM_GRACE: Duration = Duration::from_secs(2);
/// Time after a KILL for the last output and the exits.
const KILL_GRACE: Duration = Duration::from_millis(500);
/// Zombies reaped in one turn of the loop, so that a flood of them cannot starve the rest.
const REAP_BATCH: usize = 1024;

#[derive(Debug, thiserror::Error)]
pub(crate) enum InitError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Landlock(#[from] LandlockError),
    #[error(transparent)]
    Seccomp(#[from] SeccompError),
    #[error(transparent)]
    Privilege(#[from] PrivilegeError),
    #[error("cannot listen on port {port} of the guest's loopback: {source}")]
    Listen { port: u16, source: io::Error },
    #[error("it must be PID 1 of a PID namespace: at its end it kills every process it can reach")]
    NotPid1,
    #[error("cannot {step}: {source}")]
    System { step: &'static str, source: io::Error },
}

impl InitError {
    fn system(step: &'static str) -> impl Fn(Errno) -> Self {
        move |errno| Self::System {
            step,
            source: errno.into(),
        }
    }
}

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Continue,
    End,
}

#[derive(Debug)]
pub(crate) struct MainLoop {
    link: Link,
    signals: SignalFd,
    children: Children,
    forwarder: Option<Forwarder>,
    bounds: Option<Bounds>,
    /// When everything that is left gets killed.
    deadline: Option<Instant>,
    /// Zombies may be left from the last batch.
    reap_again: bool,
    childless: bool,
}

impl MainLoop {
    pub(crate) fn new(
        stream: OwnedFd,
        walls: &Walls,
        forwarder: Option<Forwarder>,
        count_processes: bool,
    ) -> Result<Self, InitError> {
        let mut link = Link::new(stream).map_err(|source| InitError::System {
            step: "use the stream",
            source,
        })?;
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        mask.thread_block().map_err(InitError::system("block SIGCHLD"))?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
            .map_err(InitError::system("watch SIGCHLD"))?;
        link.send_json(
            Kind::Hello,
            0,
            &Hello {
                version: mux::VERSION,
            },
        )?;
        Ok(Self {
            link,
            signals,
            children: Children::new(walls.limits.clone()),
            forwarder,
            bounds: Bounds::new(walls, count_processes),
            deadline: None,
            reap_again: false,
            childless: false,
        })
    }

    /// Runs until the stream ends or a shutdown is complete; then nothing else is left alive.
    pub(crate) fn run(mut self) -> Result<(), InitError> {
        let result = loop {
            match self.turn() {
                Ok(Next::Continue) => {}
                Ok(Next::End) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        sys::kill_all(Signal::SIGKILL);
        // After the kill the last frames may go out, if there is room for them; nobody waits for more.
        let _ = self.link.flush();
        result
    }

    fn turn(&mut self) -> Result<Next, InitError> {
        let now = Instant::now();
        let mut waits = vec![self.children.settle(now, &mut self.link)?];
        if let Some(forwarder) = &mut self.forwarder {
            waits.push(forwarder.settle(now, &mut self.link));
        }
        waits.push(self.measure()?);
        waits.push(self.deadline.map(|at| at.saturating_duration_since(now)));
        waits.push(self.reap_again.then_some(Duration::ZERO));
        if self.link.flush().is_err() || self.shutdown_complete(now) {
            return Ok(Next::End);
        }
        let sendable = |forwarder: &Forwarder| forwarder.sendable(&self.link);
        if self.forwarder.as_ref().is_some_and(sendable) {
            waits.push(Some(Duration::ZERO));
        }
        let timeout = waits.into_iter().flatten().min();
        for (token, ready) in self.wait(timeout)? {
            if self.dispatch(token, ready)? == Next::End {
                return Ok(Next::End);
            }
        }
        if self.reap_again {
            self.reap();
        }
        Ok(Next::Continue)
    }

    /// Ends everything when a bound was crossed; otherwise says when to look again.
    fn measure(&mut self) -> Result<Option<Duration>, InitError> {
        let Some(bounds) = self.bounds.as_mut().filter(|_| self.deadline.is_none()) else {
            return Ok(None);
        };
        let connections = self.forwarder.as_ref().map_or(0, Forwarder::traffic);
        let counts = Counts {
            output: self.children.output(),
            traffic: self.link.traffic() + connections,
        };
        match bounds.look(counts) {
            Ok(next) => Ok(Some(next)),
            Err(Crossed { limit, gently }) => {
                self.link.send_json(Kind::Limit, 0, &limit)?;
                if gently {
                    self.shut_down(Signal::SIGTERM, KILL_GRACE);
                } else {
                    self.shut_down(Signal::SIGKILL, KILL_GRACE);
                }
                Ok(Some(Duration::ZERO))
            }
        }
    }

    fn wait(&self, timeout: Option<Duration>) -> Result<Vec<(Token, PollFlags)>, InitError> {
        let mut poller = Poller::default();
        let paused = self.children.overfed();
        poller.add(Token::Mux, self.link.fd(), self.link.interest(paused));
        poller.add(Token::Signals, self.signals.as_fd(), PollFlags::POLLIN);
        self.children.interest(&mut poller, self.link.congested());
        if let Some(forwarder) = &self.forwarder {
            forwarder.interest(&mut poller);
        }
        poller.wait(timeout).map_err(InitError::system("poll"))
    }

    fn dispatch(&mut self, token: Token, ready: PollFlags) -> Result<Next, InitError> {
        match token {
            Token::Mux => return self.mux(ready),
            Token::Signals => {
                while let Ok(Some(_)) = self.signals.read_signal() {}
                self.reap();
            }
            Token::Stdin(_) | Token::Stdout(_) | Token::Stderr(_) => {
                self.children.ready(token, &mut self.link)?;
            }
            _ => {
                if let Some(forwarder) = &mut self.forwarder {
                    forwarder.ready(token, ready, &mut self.link);
                }
            }
        }
        Ok(Next::Continue)
    }

    fn mux(&mut self, ready: PollFlags) -> Result<Next, InitError> {
        if ready.intersects(PollFlags::POLLHUP | PollFlags::POLLERR) {
            return Ok(Next::End);
        }
        if ready.contains(PollFlags::POLLIN) {
            let mut frames = Vec::new();
            if !self.link.receive(&mut frames)? {
                return Ok(Next::End);
            }
            for frame in &frames {
                self.obey(frame)?;
            }
        }
        Ok(Next::Continue)
    }

    fn obey(&mut self, frame: &Frame) -> Result<(), InitError> {
        if frame.stream >= CONNECTIONS && frame.kind != Kind::Start {
            if let Some(forwarder) = &mut self.forwarder {
                forwarder.frame(frame, &mut self.link)?;
            }
            return Ok(());
        }
        match frame.kind {
            Kind::Start => self.children.start(frame, &mut self.link)?,
            Kind::Stdin => self.children.stdin(frame),
            Kind::Signal => self.children.signal(frame)?,
            Kind::Credit => self.children.credit(frame)?,
            Kind::Resize => self.children.resize(frame)?,
            Kind::Shutdown => self.shut_down(Signal::SIGTERM, TERM_GRACE),
            kind => return Err(LinkError::Direction(kind).into()),
        }
        Ok(())
    }

    /// Sends everything `signal`, and leaves when all is told, at the latest after `grace`.
    fn shut_down(&mut self, signal: Signal, grace: Duration) {
        if self.deadline.is_none() {
            self.deadline = Some(Instant::now() + grace);
            self.children.close();
            sys::kill_all(signal);
            // Learns whether there is anybody to wait for.
            self.reap();
        }
    }

    fn shutdown_complete(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|at| {
            now >= at || (self.childless && self.children.all_announced() && self.link.is_flushed())
        })
    }

    fn reap(&mut self) {
        let now = Instant::now();
        self.reap_again = false;
        for _ in 0..REAP_BATCH {
            match sys::reap() {
                Reaped::Process(pid, exit) => self.children.reaped(pid, exit, now),
                Reaped::NoneYet => {
                    self.childless = false;
                    return;
                }
                Reaped::NoChild => {
                    self.childless = true;
                    return;
                }
            }
        }
        self.reap_again = true;
    }
}
