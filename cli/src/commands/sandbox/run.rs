//! `lodge sandbox run`

use super::egress::Egress;
use super::scene::{Scene, Which, unavailable};
use crate::data::DataDir;
use crate::failure::Failure;
use lodge_guest::client::{Client, ClientError, Command, Event};
use lodge_guest::mux::{Exit, Resize, Start};
use lodge_proto::ErrorCode;
use lodge_sandbox::launch;
use lodge_sandbox::policy::Tier;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::Signals;
use std::io::{IsTerminal, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// What is to be run.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    /// The command and its arguments.
    #[arg(trailing_var_arg = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

/// How long guest init may take to say hello. A virtual machine that is emulated boots slowly on a loaded host.
pub(super) const fn patience(tier: Tier) -> Duration {
    Duration::from_secs(match tier {
        Tier::Process => 20,
        Tier::Container => 90,
        Tier::Microvm => 240,
    })
}

pub(super) fn run(data: &DataDir, args: &Args) -> anyhow::Result<u8> {
    let mut scene = Scene::new(data, &args.which)?;
    let _egress = Egress::serve(data, &mut scene)?;
    let sandbox = Sandbox::start(&scene)?;
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
    let command = Arc::new(sandbox.client.start(&start).map_err(|error| failed(&error))?);
    forward_signals(&command)?;
    feed(&command);
    let raw = terminal.then(Raw::begin).transpose()?;
    let ended = follow(&command);
    drop(raw);
    let ended = ended?;
    sandbox.end();
    Ok(ended)
}

/// A sandbox that runs, and the process on the host that it hangs on.
#[derive(Debug)]
pub(super) struct Sandbox {
    pub(super) client: Client,
    child: Child,
    /// The lock on what was made in the workspace for it.
    hold: Option<OwnedFd>,
    state: PathBuf,
}

impl Sandbox {
    pub(super) fn start(scene: &Scene) -> anyhow::Result<Self> {
        let mut command = launch::compile(&scene.plan, &scene.tools, &scene.gateway_socket)
            .map_err(|error| unavailable(crate::failure::chain(&error)))?;
        let (ours, theirs) = UnixStream::pair()?;
        let mut child = command
            .spawn(theirs.into(), Stdio::inherit())
            .map_err(|error| unavailable(crate::failure::chain(&error)))?;
        match Client::new(ours.into(), patience(scene.plan.tier)) {
            Ok(client) => Ok(Self {
                client,
                child,
                hold: command.hold.take(),
                state: scene.tools.state.clone(),
            }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(unavailable(crate::failure::chain(&error)))
            }
        }
    }

    /// Ends what is left in it, and waits until nothing of it is there.
    pub(super) fn end(mut self) {
        let _ = self.client.shutdown(Duration::from_secs(10));
        let _ = self.child.wait();
        drop(self.hold.take());
        if let Err(error) = lodge_sandbox::placeholder::sweep(&self.state) {
            eprintln!("lodge: stand-ins are left in the workspace: {}", crate::failure::chain(&error));
        }
    }
}

fn failed(error: &ClientError) -> anyhow::Error {
    let code = match error {
        ClientError::Limit(_) => ErrorCode::LimitExceeded,
        ClientError::StartFailed(_) => ErrorCode::NotFound,
        _ => ErrorCode::SandboxUnavailable,
    };
    Failure::new(code, crate::failure::chain(error)).into()
}

/// Passes output on until the command ends; the status to exit with.
fn follow(command: &Command) -> anyhow::Result<u8> {
    let mut limit = None;
    loop {
        match command.next_event() {
            Event::Stdout(bytes) => write_all(&mut std::io::stdout(), &bytes)?,
            Event::Stderr(bytes) => write_all(&mut std::io::stderr(), &bytes)?,
            Event::Limit(crossed) => limit = Some(crossed),
            Event::StartFailed(refused) => return Err(failed(&ClientError::StartFailed(refused))),
            Event::Exit(_) | Event::Gone if limit.is_some() => {
                return Err(limit.map_or_else(|| failed(&ClientError::Gone), |limit| {
                    failed(&ClientError::Limit(limit))
                }));
            }
            Event::Exit(exit) => return Ok(status(exit)),
            Event::Gone => return Err(failed(&ClientError::Gone)),
        }
    }
}

fn write_all(out: &mut impl Write, bytes: &[u8]) -> std::io::Result<()> {
    out.write_all(bytes)?;
    out.flush()
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
        let mut chunk = [0; 32 << 10];
        loop {
            match stdin.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) if command.write(&chunk[..count]).is_ok() => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => return,
            }
        }
        let _ = command.close_stdin();
    });
}

fn forward_signals(command: &Arc<Command>) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH])?;
    let command = Arc::clone(command);
    std::thread::spawn(move || {
        for signal in signals.forever() {
            let passed = match (signal, size()) {
                (SIGWINCH, Some(size)) => command.resize(size),
                (SIGWINCH, None) => Ok(()),
                (signal, _) => command.signal(signal),
            };
            if passed.is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// Of the terminal this runs at.
fn size() -> Option<Resize> {
    let size = tcgetwinsize(std::io::stdout()).ok()?;
    Some(Resize {
        rows: size.ws_row,
        cols: size.ws_col,
    })
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
