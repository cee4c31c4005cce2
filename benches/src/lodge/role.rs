//! The roles of Lodge as processes of this program: the same library calls as in `lodge`, with the runner's harness
//! replaced by the scripted one. (`lodge` itself takes no harness but installed ones.)

use anyhow::{Context, bail};
use lodge_runner::harness::install::InstalledHarness;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use tokio::signal::unix::{SignalKind, signal};

/// Arguments of a role.
#[derive(Debug, clap::Args)]
pub struct RoleArgs {
    #[arg(value_parser = ["gateway", "history", "runner", "backend"])]
    name: String,
    #[arg(long)]
    data: PathBuf,
    /// Of the runner: directory of lodge-shim.
    #[arg(long)]
    programs: Option<PathBuf>,
    /// Of the runner: guest init.
    #[arg(long)]
    init: Option<PathBuf>,
    /// Of the runner: the scripted harness, alone in its directory; without it, those that are installed.
    #[arg(long)]
    harness: Option<PathBuf>,
}

/// Serves until TERM.
pub fn role(args: &RoleArgs) -> anyhow::Result<()> {
    let data = args.data.as_path();
    // Before any thread starts, as in `lodge`.
    let gateway = match args.name.as_str() {
        "gateway" => Some(lodge_gateway::Config::prepare(
            &lodge_gateway::Options::embedded(data),
        )?),
        _ => None,
    };
    let filter = tracing_subscriber::EnvFilter::new("info");
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match (args.name.as_str(), gateway) {
            ("gateway", Some(config)) => lodge_gateway::serve(config, ready, told_to_stop()?).await?,
            ("history", _) => {
                let config = lodge_history::Config::in_data_dir(data);
                lodge_history::serve(config, ready, told_to_stop()?).await?;
            }
            ("runner", _) => lodge_runner::serve(runner(args)?, ready, told_to_stop()?).await?,
            ("backend", _) => {
                let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
                let settings = lodge_backend::Settings {
                    listen,
                    ..lodge_backend::Settings::default()
                };
                let config = lodge_backend::Config::embedded(data, settings);
                let say = |address| println!("ready {address}");
                lodge_backend::serve(config, say, told_to_stop()?).await?;
            }
            (name, _) => bail!("no role {name}"),
        }
        anyhow::Ok(())
    })
}

fn runner(args: &RoleArgs) -> anyhow::Result<lodge_runner::Config> {
    let programs = args.programs.as_deref().context("--programs is missing")?;
    let mut config = lodge_runner::Config::new(&args.data, programs);
    config.init_binary = args.init.clone().context("--init is missing")?;
    config.stop_sessions_on_exit = true;
    let Some(harness) = args.harness.as_deref() else {
        return Ok(config);
    };
    let harness = harness.canonicalize()?;
    let root = harness
        .parent()
        .map(Path::to_owned)
        .context("the harness has no directory")?;
    let installed = InstalledHarness {
        name: "pi".to_owned(),
        version: semver::Version::new(0, 87, 1),
        argv0: vec![harness],
        roots: vec![root],
    };
    config.harness_overrides.insert("pi".to_owned(), installed);
    Ok(config)
}

fn ready() {
    println!("ready");
}

/// Resolves on TERM.
fn told_to_stop() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        terminate.recv().await;
    })
}
