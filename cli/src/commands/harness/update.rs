//! `lodge harness update`

use super::{Bar, Broker, body, refuse_configured};
use crate::data::DataDir;
use crate::terminal::{print_json, println};
use lodge_runner::harness::install::{Installer, Source, Updated};
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The agent.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    name: Option<String>,
    /// Every agent that is installed.
    #[arg(long)]
    all: bool,
    /// Take the packages from this directory; no network and no npm is used.
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What became of one agent.
#[derive(Debug, Serialize)]
struct Outcome {
    name: String,
    /// What new sessions use now.
    version: String,
    /// Whether it was installed just now.
    updated: bool,
    removed: Vec<String>,
    /// Older versions that running sessions use.
    in_use: Vec<String>,
}

impl Outcome {
    fn new(updated: Updated) -> Self {
        let texts = |versions: &[_]| versions.iter().map(ToString::to_string).collect();
        Self {
            removed: texts(&updated.removed),
            in_use: texts(&updated.in_use),
            updated: updated.is_new,
            version: updated.harness.version.to_string(),
            name: updated.harness.name,
        }
    }

    fn say(&self) {
        let Self { name, version, .. } = self;
        let what = if self.updated {
            "is installed"
        } else {
            "is up to date"
        };
        println(&format!("{name} {version} {what}."));
        for old in &self.removed {
            println(&format!("{name} {old} is removed."));
        }
        for old in &self.in_use {
            println(&format!(
                "{name} {old} stays: sessions run on it. A later update removes it."
            ));
        }
    }
}

pub(super) fn run(data: &DataDir, installer: Installer, args: &Args) -> anyhow::Result<u8> {
    let names: Vec<String> = match &args.name {
        Some(name) => vec![name.clone()],
        None => installed(&installer),
    };
    if let Some(name) = &args.name {
        refuse_configured(data, name)?;
    }
    let source = match &args.from {
        Some(directory) => Source::Directory(directory.clone()),
        None => Source::Registry { cache: None },
    };
    let installer = installer.with_way_out(Arc::new(Broker));
    let (mut outcomes, mut failed) = (Vec::new(), None);
    for name in &names {
        let mut progress = Bar::new();
        let updated = installer.update(name, &source, &mut progress);
        progress.finish();
        match updated {
            Ok(updated) => outcomes.push(Outcome::new(updated)),
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    // What was done is told also where the rest failed.
    if args.json {
        print_json(&outcomes)?;
    } else {
        outcomes.iter().for_each(Outcome::say);
    }
    if let Some(error) = failed {
        return Err(body(&error));
    }
    if names.is_empty() && !args.json {
        println("No agent is installed: see lodge harness list.");
    }
    Ok(0)
}

/// The agents of which a version is there, also one that this Lodge refuses.
fn installed(installer: &Installer) -> Vec<String> {
    let is_there = |name: &String| installer.is_present(name).unwrap_or(true);
    let names = installer.catalog().harnesses().map(|entry| entry.name.clone());
    names.filter(is_there).collect()
}
