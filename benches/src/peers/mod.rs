//! Peers that install from npm, each measured through its own server by the same clients.

pub mod goose;
pub mod opencode;
pub mod sandbox_agent;

use crate::clock::now_ns;
use crate::load::{self, Bounds, Conn, Seen, Until};
use crate::mock;
use crate::proc::{CpuMeter, memory};
use crate::report::{self, Cells, Row, Sizes, kib, nanos, rate};
use anyhow::{Context, ensure};
use serde_json::Value;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

/// Longest turn of a measurement.
const TURN: Duration = Duration::from_mins(1);

/// A port that is free now.
fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

const PACKAGES: [&str; 3] = [
    "@sandbox-agent/cli-linux-x64",
    "@aaif/goose-binary-linux-x64",
    "opencode-linux-x64",
];

/// Names and versions of what is installed, and of Lodge.
pub fn versions(peers: &Path) -> Vec<(String, String)> {
    let mut found = vec![("lodge".to_owned(), env!("CARGO_PKG_VERSION").to_owned())];
    for name in PACKAGES {
        let read = || -> anyhow::Result<String> {
            let text = std::fs::read_to_string(peers.join("node_modules").join(name).join("package.json"))?;
            let package: Value = serde_json::from_str(&text)?;
            Ok(package["version"].as_str().context("no version")?.to_owned())
        };
        found.push((
            name.to_owned(),
            read().unwrap_or_else(|error| format!("not installed ({error})")),
        ));
    }
    found
}

/// A program of a package.
fn program(peers: &Path, package: &str, path: &str) -> anyhow::Result<std::path::PathBuf> {
    let program = peers.join("node_modules").join(package).join(path);
    let found = program.canonicalize();
    found.with_context(|| {
        format!("{package} is not installed (npm could not fetch it, or this is another platform)")
    })
}

/// One peer that runs.
pub trait Peer {
    /// Processes whose time counts: all but agent and model.
    fn pids(&self) -> Vec<u32>;
    /// Begins another session.
    fn session(&mut self) -> anyhow::Result<()>;
    /// Clients of the session; with `after`, ones that come back and saw this id last.
    fn clients(&mut self, count: usize, after: Option<&str>) -> anyhow::Result<Vec<Conn>>;
    /// Why there cannot be a second client of a session, or one that comes back.
    fn alone(&self) -> Option<&'static str> {
        None
    }
    /// Begins a turn.
    fn prompt(&mut self, conns: &mut [Conn], text: &str) -> anyhow::Result<()>;
}

const MILLISECOND: Duration = Duration::from_millis(1);

/// One turn before these clients.
fn run(
    peer: &mut dyn Peer,
    clients: usize,
    events: u64,
    period: Duration,
) -> anyhow::Result<(Seen, Duration)> {
    peer.session()?;
    let mut conns = peer.clients(clients, None)?;
    let cpu = CpuMeter::start(&peer.pids());
    peer.prompt(&mut conns, &mock::directive(events, period))?;
    let bounds = Bounds {
        until: Until::Count(events),
        deadline: TURN,
        quiet: Duration::from_secs(10),
    };
    let seen = load::watch(&mut conns, bounds)?;
    eprintln!(
        "bench:   {clients} clients, {events} events: {} delivered, {} lost",
        seen.delivered,
        seen.lost(events)
    );
    ensure!(seen.delivered > 0, "no event came within {} s", TURN.as_secs());
    Ok((seen, cpu.used()))
}

/// All rows of a peer.
fn measure(peer: &mut dyn Peer, started: Duration, sizes: &Sizes) -> anyhow::Result<Cells> {
    let mut cells = Cells::default();
    let fresh = memory(peer.pids()[0]);
    run(peer, 1, 1, Duration::ZERO).context("the first turn")?;
    if peer.alone().is_none() {
        // Now: later connections would take what earlier ones gave back.
        peer.session()?;
        let before = memory(peer.pids()[0]);
        let idle = peer.clients(sizes.idle_sockets.min(500), None)?;
        std::thread::sleep(Duration::from_millis(300));
        cells.per_item(Row::MemorySocket, before, memory(peer.pids()[0]), idle.len());
    }
    cells.set(Row::Create, creation(peer, sizes)?);
    let (seen, _) = run(peer, 1, sizes.slow_events, Duration::from_millis(20))?;
    cells.latency(Row::Latency50, &seen, sizes.slow_events);
    let (seen, used) = run(peer, 1, sizes.fast_events, MILLISECOND)?;
    cells.latency(Row::Latency1000, &seen, sizes.fast_events);
    cells.cpu(Row::Cpu1000, used, &seen);
    let [(_, _, most), ..] = sizes.bursts();
    let most = most.min(20_000);
    let (seen, used) = run(peer, 1, most, Duration::ZERO)?;
    cells.burst(Row::Burst1, &seen, most, used);
    if let Some(why) = peer.alone() {
        for row in [Row::Burst100, Row::Burst1000, Row::Viewers, Row::Offline] {
            cells.set(row, format!("n/a: {why}"));
        }
    } else {
        many_clients(peer, sizes, &mut cells);
        let missed = offline(peer, sizes).unwrap_or_else(|error| format!("failed: {error:#}"));
        cells.set(Row::Offline, missed);
    }
    let pid = peer.pids()[0];
    let loaded = memory(pid);
    cells.set(
        Row::MemoryParts,
        format!("{} fresh, {} after the load", kib(fresh.rss), kib(loaded.rss)),
    );
    cells.notes.push(format!(
        "start to ready {} ms; memory is RSS of the server",
        started.as_millis()
    ));
    Ok(cells)
}

fn many_clients(peer: &mut dyn Peer, sizes: &Sizes, cells: &mut Cells) {
    for (row, clients, events) in &sizes.bursts()[1..] {
        if sizes.quick && *clients > 100 {
            cells.set(*row, "not with --quick".to_owned());
            continue;
        }
        let events = (*events).min(match (sizes.quick, *clients > 100) {
            (true, _) => 1_000,
            (false, true) => 500,
            (false, false) => 5_000,
        });
        match run(peer, *clients, events, Duration::ZERO) {
            Ok((seen, used)) => cells.burst(*row, &seen, events, used),
            Err(error) => cells.set(*row, format!("failed: {error:#}")),
        }
    }
    match run(peer, 100, sizes.fast_events, MILLISECOND) {
        Ok((seen, used)) => {
            cells.latency(Row::Viewers, &seen, sizes.fast_events);
            cells.cpu(Row::ViewersCpu, used, &seen);
            cells.set(Row::ViewersRate, rate(&seen));
        }
        Err(error) => cells.set(Row::Viewers, format!("failed: {error:#}")),
    }
}

/// Median time from making a session to the first event of its first turn.
fn creation(peer: &mut dyn Peer, sizes: &Sizes) -> anyhow::Result<String> {
    let mut times = Vec::new();
    for _ in 0..sizes.creates {
        let begun = Instant::now();
        run(peer, 1, 1, Duration::ZERO)?;
        times.push(u64::try_from(begun.elapsed().as_nanos())?);
    }
    times.sort_unstable();
    Ok(format!(
        "{} to the first token",
        nanos(times.get(times.len() / 2).copied())
    ))
}

/// A client that goes away in a turn of 1,000 events a second, and comes back after 5 s.
fn offline(peer: &mut dyn Peer, sizes: &Sizes) -> anyhow::Result<String> {
    let away = sizes.away();
    peer.session()?;
    let mut conns = peer.clients(1, None)?;
    let events = sizes.away_events();
    peer.prompt(&mut conns, &mock::directive(events, MILLISECOND))?;
    let before = Bounds {
        until: Until::Count(500),
        deadline: TURN,
        quiet: TURN,
    };
    load::watch(&mut conns, before)?;
    let (next, id) = (conns[0].tally.next(), conns[0].tally.last_id.clone());
    drop(conns);
    std::thread::sleep(away);
    let back_ns = now_ns();
    let mut conns = peer.clients(1, Some(&id))?;
    conns[0].tally.resume_at(next);
    conns[0].tally.cut_ns = back_ns;
    let rest = Bounds {
        until: Until::Count(events),
        deadline: TURN,
        quiet: Duration::from_secs(2),
    };
    load::watch(&mut conns, rest)?;
    Ok(report::missed(&conns[0].tally, back_ns, away))
}
