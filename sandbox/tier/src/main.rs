//! `lodge-tier`: one process a sandbox, between the framed stream and an engine (Docker, Podman, QEMU).

use std::os::fd::RawFd;
use std::path::Path;
use std::process::ExitCode;

use lodge_sandbox::launch::EngineHint;
use lodge_sandbox::plan::MUX_FD;
use lodge_sandbox::policy::Tier;
use lodge_tier::{Job, RequestError, container, microvm};
use tokio::runtime::Runtime;

const USAGE: &str = "usage: lodge-tier run --request-fd N
       lodge-tier sweep STATE
       lodge-tier keep
Started by Lodge. `run` reads what to run as JSON from descriptor N; descriptor 3 is the framed stream. `sweep` removes
what killed launchers left, for Lodge's state of sandboxes in STATE. `keep` is started by `run` and holds a snapshot's
memory for the next one.";

#[derive(Debug, thiserror::Error)]
enum TierError {
    #[error("{USAGE}")]
    Usage,
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("cannot die with the parent: {0}")]
    Parent(std::io::Error),
    #[error("cannot start: {0}")]
    Runtime(std::io::Error),
    #[error("cannot keep memory: {0}")]
    Keep(std::io::Error),
    #[error("the process tier needs no lodge-tier")]
    Process,
    #[error(transparent)]
    Container(#[from] container::ContainerError),
    #[error(transparent)]
    Microvm(#[from] microvm::MicrovmError),
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lodge-tier: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), TierError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["run", "--request-fd", fd] => serve(fd.parse().map_err(|_| TierError::Usage)?),
        ["sweep", state] => sweep(Path::new(state)),
        ["keep"] => microvm::keep().map_err(TierError::Keep),
        _ => Err(TierError::Usage),
    }
}

fn runtime() -> Result<Runtime, TierError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(TierError::Runtime)
}

fn sweep(state: &Path) -> Result<(), TierError> {
    let removed = runtime()?.block_on(container::sweep(&EngineHint::from_env(), state))?;
    println!("{removed} removed");
    Ok(())
}

fn serve(request: RawFd) -> Result<(), TierError> {
    // TERM and not KILL: what was started has to be ended and removed.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))
        .map_err(|e| TierError::Parent(e.into()))?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let job = Job::take(request, MUX_FD)?;
    runtime()?.block_on(async {
        match job.request.plan.tier {
            Tier::Process => Err(TierError::Process),
            Tier::Container => Ok(container::run(job).await?),
            Tier::Microvm => Ok(microvm::run(job).await?),
        }
    })
}
