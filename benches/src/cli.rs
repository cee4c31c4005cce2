//! The command line: what `benches/run` starts, and the processes that a measurement starts.

use crate::report::{Cells, Report, Sizes};
use crate::{baseline, floor, lodge, mock, peers, proc};
use anyhow::Context;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::time::{Duration, Instant};

#[derive(Debug, Parser)]
#[command(about = "Measures Lodge; use benches/run.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure all and write the table. Paths are relative to the repository.
    Measure(MeasureArgs),
    /// A role of Lodge as a process.
    Role(lodge::RoleArgs),
    /// The plain relay.
    Relay(baseline::RelayArgs),
    /// Measure sandboxes and write their table.
    Sandbox(crate::sandbox::Args),
    /// Measure gateways and write their table.
    Gateway(crate::gateway::Args),
    /// Model, plain proxy or clients of that.
    #[command(subcommand)]
    GatewayPart(crate::gateway::Part),
    /// Measure harnesses and write their table.
    Harnesses(crate::harnesses::Args),
    /// An ACP agent that streams markers, for peers that start agents.
    MockAcp,
}

#[derive(Debug, clap::Args)]
struct MeasureArgs {
    /// Less of everything: about a minute and a half.
    #[arg(long)]
    quick: bool,
    /// Only these: lodge, relay, sandbox-agent, goose, opencode.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Where the peers are installed (`node_modules`).
    #[arg(long, default_value = "target/bench-peers")]
    peers: PathBuf,
    /// Directory of lodge-shim and lodge-fake-pi.
    #[arg(long, default_value = "target/release")]
    programs: PathBuf,
    /// Guest init, statically linked.
    #[arg(long, default_value = "target/guest/lodge-init")]
    init: PathBuf,
    /// Where the data of the run goes; removed at its end.
    #[arg(long, default_value = "target/bench-work")]
    work: PathBuf,
    /// The file to write.
    #[arg(long, default_value = "benches/RESULTS.md")]
    out: PathBuf,
}

/// Does what the command line says.
pub fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Measure(args) => measure(&args),
        Command::Role(args) => lodge::role(&args),
        Command::Relay(args) => baseline::relay(&args),
        Command::Sandbox(args) => crate::sandbox::run(&args),
        Command::Gateway(args) => crate::gateway::run(&args),
        Command::GatewayPart(part) => crate::gateway::part(&part),
        Command::Harnesses(args) => crate::harnesses::run(&args),
        Command::MockAcp => mock::acp(),
    }
}

fn measure(args: &MeasureArgs) -> anyhow::Result<()> {
    let sizes = if args.quick { Sizes::QUICK } else { Sizes::FULL };
    let begun = Instant::now();
    let load_before = proc::load();
    std::fs::create_dir_all(&args.work)?;
    let dir = tempfile::tempdir_in(args.work.canonicalize()?).context("a directory for the run")?;
    proc::end_with_everything(dir.path(), Duration::from_mins(12))?;
    let wanted = |name: &str| args.only.is_empty() || args.only.iter().any(|only| only == name);
    let mut columns = Vec::new();
    let mut column = |name: &str, title: &str, measured: &mut dyn FnMut() -> anyhow::Result<Cells>| {
        if wanted(name) {
            eprintln!("bench: {title} ({} s so far)", begun.elapsed().as_secs());
            let cells = measured().unwrap_or_else(|error| {
                eprintln!("bench: {title}: {error:#}");
                Cells::failed(&error)
            });
            columns.push((title.to_owned(), cells));
        }
    };
    let programs = lodge::Programs {
        dir: args.programs.clone(),
        init: args.init.clone(),
    };
    column("lodge", "Lodge", &mut || {
        lodge::measure(dir.path(), &programs, &sizes)
    });
    column("relay", "relay, flush each", &mut || {
        baseline::measure(dir.path(), baseline::Flush::Each, &sizes)
    });
    column("relay", "relay, flush drained", &mut || {
        baseline::measure(dir.path(), baseline::Flush::Drained, &sizes)
    });
    column("sandbox-agent", "sandbox-agent", &mut || {
        peers::sandbox_agent::measure(dir.path(), &args.peers, &sizes)
    });
    column("goose", "goose serve", &mut || {
        peers::goose::measure(dir.path(), &args.peers, &sizes)
    });
    column("opencode", "opencode serve", &mut || {
        peers::opencode::measure(dir.path(), &args.peers, &sizes)
    });
    let floor = floor::measure(sizes.slow_events)?;
    let report = Report {
        quick: args.quick,
        load_before,
        floor,
        versions: peers::versions(&args.peers),
        columns,
        took: begun.elapsed(),
    };
    let text = report.markdown();
    std::fs::write(&args.out, &text).with_context(|| format!("writing {}", args.out.display()))?;
    println!("{text}");
    Ok(())
}
