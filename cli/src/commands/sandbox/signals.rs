//! Signals on their way to a command in a sandbox.

use lodge_guest::client::Command;
use lodge_guest::mux::Resize;
use rustix::termios::tcgetwinsize;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

/// Those that ask for an end.
const ENDING: [i32; 4] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM];
/// Those that only the command knows a meaning of.
const OTHERS: [i32; 3] = [SIGUSR1, SIGUSR2, SIGWINCH];
/// Time in which a sandbox takes a signal; one that does not is ended.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whom signals are for.
#[derive(Debug)]
enum Target {
    Nobody,
    /// A sandbox that starts: to be hung up on.
    Sandbox(UnixStream),
    Command(Arc<Command>, UnixStream),
}

#[derive(Debug)]
struct State {
    target: Target,
    /// The signal for which everything is ended.
    ended_by: Option<i32>,
}

/// Takes the signals of this process from now on.
#[derive(Debug, Clone)]
pub(super) struct Signals(Arc<Mutex<State>>);

impl Signals {
    /// Signals that are ignored stay so, as `nohup` wants it.
    pub(super) fn listen() -> std::io::Result<Self> {
        let heard = ENDING.into_iter().chain(OTHERS);
        let heard = heard.filter(|signal| !crate::signals::is_ignored(*signal));
        let mut arriving = signal_hook::iterator::Signals::new(heard)?;
        let signals = Self(Arc::new(Mutex::new(State {
            target: Target::Nobody,
            ended_by: None,
        })));
        let listening = signals.clone();
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || arriving.forever().for_each(|signal| listening.take(signal)))?;
        Ok(signals)
    }

    /// A sandbox is about to start; `stream` is this end of its stream.
    pub(super) fn starting(&self, stream: UnixStream) {
        let mut state = self.state();
        if state.ended_by.is_some() {
            hang_up(&stream);
        }
        state.target = Target::Sandbox(stream);
    }

    /// From now on they are the command's.
    pub(super) fn are_for(&self, command: &Arc<Command>) {
        let mut state = self.state();
        if let Target::Sandbox(stream) = std::mem::replace(&mut state.target, Target::Nobody) {
            state.target = Target::Command(Arc::clone(command), stream);
        }
    }

    /// The status to exit with where a signal, and not the command, ended everything.
    pub(super) fn status(&self) -> Option<u8> {
        let signal = self.state().ended_by?;
        u8::try_from(128 + signal).ok()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, signal: i32) {
        let command = match &self.state().target {
            Target::Command(command, _) => Some(Arc::clone(command)),
            Target::Nobody | Target::Sandbox(_) => None,
        };
        let passed = command.is_some_and(|command| pass(command, signal));
        if !passed && ENDING.contains(&signal) {
            let mut state = self.state();
            state.ended_by.get_or_insert(signal);
            if let Target::Sandbox(stream) | Target::Command(_, stream) = &state.target {
                hang_up(stream);
            }
        }
    }
}

/// Whether the sandbox took it. Writing to it blocks while it takes nothing.
fn pass(command: Arc<Command>, signal: i32) -> bool {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let passed = match (signal, size()) {
            (SIGWINCH, Some(size)) => command.resize(size),
            (SIGWINCH, None) => Ok(()),
            (signal, _) => command.signal(signal),
        };
        let _ = tell.send(passed.is_ok());
    });
    told.recv_timeout(PATIENCE) == Ok(true)
}

fn hang_up(stream: &UnixStream) {
    let _ = stream.shutdown(Shutdown::Both);
}

/// Of the terminal this runs at.
pub(super) fn size() -> Option<Resize> {
    let size = tcgetwinsize(std::io::stdout()).ok()?;
    Some(Resize {
        rows: size.ws_row,
        cols: size.ws_col,
    })
}
