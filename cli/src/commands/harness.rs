//! `lodge harness`

mod suite;
mod update;

use super::sandbox::egress::Egress;
use crate::commands::wait;
use crate::config::Config;
use crate::data::DataDir;
use crate::failure::Failure;
use crate::table;
use crate::terminal::{print_json, println};
use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
use lodge_gateway::egress::decisions::Unheard;
use lodge_gateway::egress::name::Host;
use lodge_gateway::egress::{EgressPolicy, Settings, Unlisted};
use lodge_proto::command::HarnessInfo;
use lodge_proto::{ErrorBody, ErrorCode};
use lodge_runner::harness::install::{InstallError, Installer, Progress, Registry, Source, Step, WayOut};
use serde::Serialize;
use std::any::Any;
use std::io::IsTerminal;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Install, list, test, update and remove agents.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  lodge harness list\n  lodge harness install pi\n  \
    lodge harness update --all\n  lodge harness test pi\n\n\
    For a machine without network:\n  lodge harness install pi --cache ./packages     here, with network\n  \
    lodge harness install pi --from ./packages      there"
)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// The agents this Lodge knows, and which are installed.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Install the pinned version of an agent and its runtime into the data directory.
    Install {
        name: String,
        /// Take the packages from this directory; no network and no npm is used.
        #[arg(long, value_name = "DIR", conflicts_with = "cache")]
        from: Option<PathBuf>,
        /// Keep what is downloaded in this directory, for --from on another machine.
        #[arg(long, value_name = "DIR")]
        cache: Option<PathBuf>,
    },
    /// Bring installed agents to the pinned version, and remove older ones that no session uses any more.
    Update(update::Args),
    /// Remove every version of an agent, and runtimes that no other one needs.
    Remove { name: String },
    /// Try everything that an agent must do, with the installed program and the demo model.
    Test(suite::Args),
    #[command(hide = true)]
    Table(suite::capabilities::Args),
}

pub fn run(data: &DataDir, args: &Args) -> anyhow::Result<u8> {
    let installer = Installer::new(data.path()).map_err(|error| body(&error))?;
    match &args.action {
        Action::List { json } => list(data, &installer, *json)?,
        Action::Install { name, from, cache } => {
            refuse_configured(data, name)?;
            data.create()?;
            let source = match from {
                Some(directory) => Source::Directory(directory.clone()),
                None => Source::Registry { cache: cache.clone() },
            };
            let mut progress = Bar::new();
            let installer = installer.with_way_out(Arc::new(Broker));
            let installed = installer.install(name, &source, &mut progress);
            progress.finish();
            let installed = installed.map_err(|error| body(&error))?;
            println(&format!("{} {} is installed.", installed.name, installed.version));
        }
        Action::Update(args) => return update::run(data, installer, args),
        Action::Remove { name } => {
            refuse_configured(data, name)?;
            installer.remove(name).map_err(|error| match error {
                InstallError::InUse { .. } => in_use(data, name, &error),
                error => body(&error),
            })?;
            println(&format!("{name} is removed."));
        }
        Action::Test(args) => return test(data, &installer, args),
        Action::Table(args) => return suite::capabilities::run(args),
    }
    Ok(0)
}

fn test(data: &DataDir, installer: &Installer, args: &suite::Args) -> anyhow::Result<u8> {
    installer.resolve(args.name()).map_err(|error| body(&error))?;
    let known = installer.list();
    match known.iter().find(|known| known.name == args.name()) {
        Some(harness) => wait(suite::run(data, harness, args)),
        None => Ok(1),
    }
}

/// Agents of the configuration file are not Lodge's to install, update or remove.
fn refuse_configured(data: &DataDir, name: &str) -> anyhow::Result<()> {
    if Config::read(data)?.agents(data)?.get(name).is_none() {
        return Ok(());
    }
    let what = format!("`{name}` is an [[agent]] of the configuration file: Lodge did not install it");
    let failure = Failure::new(ErrorCode::InvalidArgument, what).at(data.config().display().to_string());
    Err(failure
        .mend("change it the way it was installed, or edit that file")
        .into())
}

/// The refusal with the sessions that are in the way, as far as a Lodge on this data directory knows them.
fn in_use(data: &DataDir, name: &str, error: &InstallError) -> anyhow::Error {
    let running = wait(super::sessions::running(data, name)).unwrap_or_default();
    let ids: Vec<String> = running.iter().map(|session| session.id.to_string()).collect();
    let message = if ids.is_empty() {
        format!("{error}; close its sessions and try again")
    } else {
        format!(
            "{error}; close these sessions with `lodge sessions close ID` and try again: {}",
            ids.join(", ")
        )
    };
    let details = serde_json::json!({ "harness": name, "sessions": ids });
    ErrorBody::new(error.code(), message).with_details(details).into()
}

/// As a person and the exit status need it; the message says what to do.
fn body(error: &InstallError) -> anyhow::Error {
    ErrorBody::new(error.code(), crate::failure::chain(error)).into()
}

/// An agent of the list.
#[derive(Debug, Serialize)]
struct Listed {
    #[serde(flatten)]
    info: HarnessInfo,
    /// The version that `lodge harness update` would bring.
    #[serde(skip_serializing_if = "Option::is_none")]
    update: Option<String>,
    /// It comes from `[[agent]]` of the configuration file.
    configured: bool,
}

impl Listed {
    fn state(&self) -> String {
        let state = match (&self.info.problem, self.info.installed) {
            (_, true) if self.configured => "configured",
            (_, true) => "installed",
            (Some(problem), false) => &problem.message,
            (None, false) => "not installed",
        };
        match &self.update {
            Some(version) if self.info.installed => format!("{state}; update available: {version}"),
            // First: a long problem is cut.
            Some(version) => format!("update available: {version}; {state}"),
            None => state.to_owned(),
        }
    }
}

fn list(data: &DataDir, installer: &Installer, json: bool) -> anyhow::Result<()> {
    let config = Config::read(data)?;
    let mut harnesses = Vec::new();
    for info in installer.list() {
        let update = installer.update_of(&info.name).map_err(|error| body(&error))?;
        harnesses.push(Listed {
            info,
            update: update.map(|version| version.to_string()),
            configured: false,
        });
    }
    harnesses.extend(config.list_agents(data)?.into_iter().map(|info| Listed {
        info,
        update: None,
        configured: true,
    }));
    if json {
        return print_json(&harnesses);
    }
    let rows: Vec<_> = harnesses
        .iter()
        .map(|harness| {
            [
                harness.info.name.clone(),
                harness.info.version.clone(),
                harness.state(),
                harness.info.description.clone(),
            ]
        })
        .collect();
    table::print(["NAME", "VERSION", "STATE", "DESCRIPTION"], &rows);
    Ok(())
}

/// The egress broker in this process: to the registry and nowhere else.
#[derive(Debug)]
pub struct Broker;

impl WayOut for Broker {
    fn serve(&self, listener: UnixListener, registry: &Registry) -> std::io::Result<Box<dyn Any + Send>> {
        let policy = EgressPolicy::new(
            &[registry.host.as_str()],
            &[] as &[&str],
            &[registry.port.into()],
            Unlisted::Deny,
        );
        let policy = policy.map_err(std::io::Error::other)?;
        let bracketed = if registry.host.contains(':') {
            format!("[{}]", registry.host)
        } else {
            registry.host.clone()
        };
        let host = Host::parse(bracketed.as_bytes()).map_err(std::io::Error::other)?;
        let settings = Settings {
            // The host's own npm goes there: a mirror in the private network is as good as any.
            allow_private: vec![(host, registry.port)],
            ..Settings::default()
        };
        let serving = Egress::start(Some(listener), policy, settings, Arc::new(Unheard));
        Ok(Box::new(serving.map_err(std::io::Error::other)?))
    }
}

/// A bar at a terminal, a line a step elsewhere.
struct Bar {
    bar: Option<ProgressBar>,
}

impl Bar {
    fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self { bar }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Progress for Bar {
    fn step(&mut self, step: &Step) {
        match &self.bar {
            Some(bar) => bar.set_message(step.to_string()),
            None => eprintln!("{step}"),
        }
    }

    fn packages(&mut self, done: usize, total: usize) {
        let Some(bar) = &self.bar else { return };
        if bar.length() != Some(total as u64)
            && let Ok(style) = ProgressStyle::with_template("{spinner} {msg} [{bar:30}] {pos}/{len}")
        {
            bar.set_style(style);
            bar.set_length(total as u64);
        }
        bar.set_position(done as u64);
    }
}
