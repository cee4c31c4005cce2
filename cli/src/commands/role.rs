//! The hidden subcommands: one process of a Lodge each.

use crate::commands::wait;
use crate::data::DataDir;
use crate::roles;
use rustix::process::{Pid, Signal};
use std::net::SocketAddr;
use std::path::PathBuf;

/// What every role is told.
#[derive(Debug, clap::Args)]
struct Common {
    /// Process number of the supervisor: the role ends with it.
    #[arg(long, value_name = "PID")]
    supervisor: Option<i32>,
}

/// The LLM gateway.
#[derive(Debug, clap::Args)]
pub struct GatewayArgs {
    #[command(flatten)]
    common: Common,
}

/// The history service.
#[derive(Debug, clap::Args)]
pub struct HistoryArgs {
    #[command(flatten)]
    common: Common,
}

/// The runner.
#[derive(Debug, clap::Args)]
pub struct RunnerArgs {
    #[command(flatten)]
    common: Common,
    /// Sessions may work below this directory.
    #[arg(long, value_name = "DIR")]
    workspace: Vec<PathBuf>,
    /// Stop the harnesses when the runner is stopped.
    #[arg(long)]
    stop_sessions: bool,
    /// Tools ask before they run.
    #[arg(long)]
    ask_permissions: bool,
}

/// The backend.
#[derive(Debug, clap::Args)]
pub struct BackendArgs {
    #[command(flatten)]
    common: Common,
    /// Address of the web interface.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
}

pub fn gateway(data: &DataDir, args: &GatewayArgs) -> anyhow::Result<u8> {
    args.common.begin()?;
    let config = roles::gateway_config(data)?;
    log_to_stderr();
    wait(roles::gateway(config)).map(|()| 0)
}

pub fn history(data: &DataDir, args: &HistoryArgs) -> anyhow::Result<u8> {
    args.common.begin()?;
    log_to_stderr();
    wait(roles::history(data)).map(|()| 0)
}

pub fn runner(data: &DataDir, args: &RunnerArgs) -> anyhow::Result<u8> {
    args.common.begin()?;
    log_to_stderr();
    wait(roles::runner(data, &args.workspace, |config| {
        config.stop_sessions_on_exit = args.stop_sessions;
        config.ask_permissions = args.ask_permissions;
    }))
    .map(|()| 0)
}

pub fn backend(data: &DataDir, args: &BackendArgs) -> anyhow::Result<u8> {
    args.common.begin()?;
    log_to_stderr();
    wait(roles::backend(data, args.listen)).map(|()| 0)
}

impl Common {
    /// Ties the life of this process to its supervisor's.
    fn begin(&self) -> anyhow::Result<()> {
        let Some(supervisor) = self.supervisor else {
            return Ok(());
        };
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // It may have died before the line above.
        anyhow::ensure!(
            rustix::process::getppid()
                .map(Pid::as_raw_nonzero)
                .map(std::num::NonZero::get)
                == Some(supervisor),
            "the supervisor (process {supervisor}) is gone"
        );
        Ok(())
    }
}

/// Lines for the role's log; the supervisor writes them to the file.
fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
}
