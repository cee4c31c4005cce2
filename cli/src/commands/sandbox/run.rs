//! `lodge sandbox run`

use super::egress::Egress;
use super::private::Private;
use super::running::Sandbox;
use super::scene::{Scene, Which, tools, unavailable};
use super::signals::{Signals, size};
use crate::data::DataDir;
use crate::failure::{Failure, chain, describe};
use crate::terminal::complain;
use lodge_guest::client::{ClientError, Command, Event};
use lodge_guest::mux::{Exit, Limit, Start, StartFailed};
use lodge_proto::ErrorCode;
use lodge_sandbox::policy::Policy;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use signal_hook::consts::SIGPIPE;
use std::io::{ErrorKind, IsTerminal, Read, Write};
use std::sync::Arc;

/// As shells and `env` have it: the command was found and cannot be run.
const CANNOT_RUN: u8 = 126;
/// The command was not found.
const NOT_FOUND: u8 = 127;
/// `ENOENT`, the same on every architecture.
const ENOENT: i32 = 2;

/// What is to be run.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  lodge sandbox run -- bash\n  \
    lodge sandbox run --tier container --profile strict --workspace job -- python3 job.py < input\n\n\
    Exit status: the command's, or 128 and the number of the signal that ended it; 126 it cannot be run, 127 there is no \
    such command; 27 a limit was crossed; else as for every command of Lodge.")]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    /// The command and its arguments.
    #[arg(trailing_var_arg = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

/// Why the command has no exit status.
enum Cut {
    /// Whoever read the output is gone.
    Unread,
    NotStarted(StartFailed),
    Failed(anyhow::Error),
}

pub(super) fn run(data: &DataDir, args: &Args) -> anyhow::Result<u8> {
    let signals = Signals::listen()?;
    let private = Private::new(&tools(data)?.state)
        .map_err(|error| unavailable(format!("no private directory can be made: {error}")))?;
    let mut scene = Scene::new(data, &args.which, private.path())?;
    let egress = Egress::serve(data, &mut scene)?;
    let ended = match Sandbox::start(&scene, &signals) {
        Ok(sandbox) => {
            let ended = converse(&sandbox, &scene, args, &signals);
            sandbox.end();
            ended
        }
        Err(error) => Err(Cut::Failed(error)),
    };
    drop((egress, private));
    match (ended, signals.status()) {
        (Ok(exit), _) => Ok(status(exit)),
        (Err(_), Some(status)) => Ok(status),
        (Err(Cut::Unread), None) => Ok(status(Exit {
            code: None,
            signal: Some(SIGPIPE),
        })),
        (Err(Cut::NotStarted(failed)), None) => Ok(not_started(&failed)),
        (Err(Cut::Failed(error)), None) => Err(error),
    }
}

/// Runs the command at this terminal, or with these pipes, until it ends.
fn converse(sandbox: &Sandbox, scene: &Scene, args: &Args, signals: &Signals) -> Result<Exit, Cut> {
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let mut env = scene.plan.guest_env.clone();
    if let (true, Ok(term)) = (terminal, std::env::var("TERM")) {
        env.retain(|(name, _)| name != "TERM");
        env.push(("TERM".to_owned(), term));
    }
    let start = Start {
        argv: args.command.clone(),
        env,
        cwd: scene.plan.workspace.to_string_lossy().into_owned(),
        pty: terminal,
        size: terminal.then(size).flatten(),
    };
    let failed = |error: &ClientError| Cut::Failed(unavailable(chain(error)));
    // Before anything is typed ahead.
    let _raw = terminal.then(Raw::begin).transpose().map_err(Cut::Failed)?;
    let command = Arc::new(sandbox.client.start(&start).map_err(|error| failed(&error))?);
    signals.are_for(&command);
    feed(&command);
    follow(&command, &scene.policy)
}

/// Passes output on until the command ends.
fn follow(command: &Command, policy: &Policy) -> Result<Exit, Cut> {
    let mut limit = None;
    loop {
        match command.next_event() {
            Event::Stdout(bytes) => write_all(std::io::stdout().lock(), "standard output", &bytes)?,
            Event::Stderr(bytes) => write_all(std::io::stderr().lock(), "standard error", &bytes)?,
            Event::Limit(crossed) => limit = Some(crossed),
            Event::StartFailed(failed) => return Err(Cut::NotStarted(failed)),
            Event::Exit(exit) if limit.is_none() => return Ok(exit),
            Event::Exit(_) | Event::Gone => {
                let error = limit.map_or_else(
                    || unavailable(ClientError::Gone.to_string()),
                    |limit| exceeded(&limit, policy),
                );
                return Err(Cut::Failed(error));
            }
        }
    }
}

fn exceeded(limit: &Limit, policy: &Policy) -> anyhow::Error {
    let Limit { key, allowed, found } = limit;
    let unit = match key.as_str() {
        "limits.processes" | "limits.open_files" => "",
        key if key.ends_with("_seconds") => " s",
        _ => " bytes",
    };
    let what =
        format!("{key} was crossed and the sandbox was ended: {allowed}{unit} allowed, {found}{unit} found");
    Failure::new(ErrorCode::LimitExceeded, what)
        .at(policy.place(key))
        .mend("make do with less, or raise it there")
        .into()
}

fn not_started(failed: &StartFailed) -> u8 {
    let failure = Failure::new(ErrorCode::NotFound, failed.error.as_str())
        .mend("name a program of the guest: lodge sandbox run -- sh -c 'command -v NAME'");
    complain(&describe(&failure.into()));
    if failed.errno == ENOENT {
        NOT_FOUND
    } else {
        CANNOT_RUN
    }
}

fn write_all(mut out: impl Write, name: &str, bytes: &[u8]) -> Result<(), Cut> {
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Cut::Unread),
        Err(error) => {
            let what = format!("{name} cannot be written to: {error}");
            Err(Cut::Failed(Failure::new(ErrorCode::Internal, what).into()))
        }
    }
}

/// As a shell says it: 128 and the signal.
fn status(exit: Exit) -> u8 {
    let status = exit.code.or(exit.signal.map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(status).unwrap_or(1)
}

fn feed(command: &Arc<Command>) {
    let command = Arc::clone(command);
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut chunk = vec![0; 32 << 10];
        loop {
            match stdin.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) if command.write(&chunk[..count]).is_ok() => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => return,
            }
        }
        let _ = command.close_stdin();
    });
}

/// The terminal in raw mode: the one inside does the line editing.
#[derive(Debug)]
struct Raw(Termios);

impl Raw {
    fn begin() -> anyhow::Result<Self> {
        let before = tcgetattr(std::io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}
