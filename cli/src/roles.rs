//! What runs behind the hidden role subcommands.

use crate::commands::harness::Broker;
use crate::config::Config;
use crate::data::DataDir;
use crate::failure::Failure;
use crate::supervise::child::READY;
use lodge_proto::ErrorCode;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

/// What keeps agents from being started here, one line each; `lodge doctor` says more.
pub fn sandbox_problems() -> Vec<String> {
    match lodge_sandbox::host::require_process_tier() {
        Ok(_) => Vec::new(),
        Err(error) => vec![format!("no agent can be started: {error}; see: lodge doctor")],
    }
}

/// Reads the gateway's configuration and makes this process fit to hold keys. To be called before any thread starts.
pub fn gateway_config(data: &DataDir) -> anyhow::Result<lodge_gateway::Config> {
    Ok(lodge_gateway::Config::prepare(
        &lodge_gateway::Options::embedded(data.path()),
    )?)
}

pub async fn gateway(config: lodge_gateway::Config) -> anyhow::Result<()> {
    Ok(lodge_gateway::serve(config, ready, told_to_stop()?).await?)
}

pub async fn history(data: &DataDir) -> anyhow::Result<()> {
    let config = lodge_history::Config::in_data_dir(data.path());
    Ok(lodge_history::serve(config, ready, told_to_stop()?).await?)
}

/// Runs the runner; `set` changes its further settings.
pub async fn runner(
    data: &DataDir,
    workspaces: &[PathBuf],
    set: impl FnOnce(&mut lodge_runner::Config),
) -> anyhow::Result<()> {
    let mut config = lodge_runner::Config::new(data.path(), Path::new(""));
    config.shim_binary = companion("lodge-shim")?;
    config.init_binary = companion("lodge-init")?;
    config.tier_binary = companion("lodge-tier")?;
    config.workspace_roots = workspaces.to_vec();
    set(&mut config);
    // Not checked against the machine again: one that is gone by now keeps no other harness from its work.
    config.agents = Config::read(data)?.agents(data)?;
    config.way_out = Some(Arc::new(Broker));
    Ok(lodge_runner::serve(config, ready, told_to_stop()?).await?)
}

/// A program that comes with this one: beside it, or where scripts/build-guest puts guest init in a build tree.
pub fn companion(name: &str) -> Result<PathBuf, Failure> {
    let own = std::env::current_exe().unwrap_or_default();
    let programs = own.parent().unwrap_or(Path::new("/"));
    // In a build tree cargo puts a copy that is not static beside this program.
    let places = [programs.join("../guest").join(name), programs.join(name)];
    places.iter().find(|path| path.is_file()).cloned().ok_or_else(|| {
        Failure::new(
            ErrorCode::SandboxUnavailable,
            format!("the program {name} is missing"),
        )
        .at(programs.display().to_string())
        .mend("in a source tree: scripts/build-guest and cargo build --bins; else install Lodge again")
    })
}

pub async fn backend(data: &DataDir, listen: SocketAddr) -> anyhow::Result<()> {
    let settings = lodge_backend::Settings {
        listen,
        ..Config::read(data)?.backend
    };
    let config = lodge_backend::Config::embedded(data.path(), settings);
    Ok(lodge_backend::serve(config, |_| ready(), told_to_stop()?).await?)
}

/// Tells the supervisor that the role serves.
fn ready() {
    println!("{READY}");
}

/// Resolves on TERM or INT.
fn told_to_stop() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
