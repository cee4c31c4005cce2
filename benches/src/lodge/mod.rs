//! Lodge itself: a real harness process in its sandbox, shim, runner, backend, WebSocket.

pub mod instance;
mod role;

pub use role::{RoleArgs, role};

use crate::clock::now_ns;
use crate::load::{self, Bounds, Seen, Until};
use crate::proc::{CpuMeter, memory};
use crate::report::{self, Cells, Row, Sizes, kib, nanos, per, rate};
use anyhow::{Context, ensure};
use instance::{Creation, Guest, Lodge, show};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Where its programs are.
#[derive(Debug)]
pub struct Programs {
    /// Directory of `lodge-shim` and `lodge-fake-pi`.
    pub dir: PathBuf,
    /// Guest init.
    pub init: PathBuf,
}

/// Longest turn of a measurement.
const TURN: Duration = Duration::from_mins(1);
/// Idle sessions that are weighed.
const WEIGHED: usize = 10;

/// All rows.
pub fn measure(dir: &Path, programs: &Programs, sizes: &Sizes) -> anyhow::Result<Cells> {
    let lodge = Lodge::start(dir, programs)?;
    let mut bench = Bench {
        lodge,
        sizes,
        cells: Cells::default(),
    };
    // One by one, so that a failure of one leaves the others.
    bench.part("memory", Bench::memory);
    bench.part("session.create", |bench| bench.creation(programs));
    bench.part("latency", Bench::latency);
    bench.part("bursts", Bench::bursts);
    bench.part("viewers", Bench::viewers);
    bench.part("offline", Bench::offline);
    Ok(bench.cells)
}

struct Bench<'a> {
    lodge: Lodge,
    sizes: &'a Sizes,
    cells: Cells,
}

impl Bench<'_> {
    fn part(&mut self, name: &str, run: impl FnOnce(&mut Self) -> anyhow::Result<()>) {
        eprintln!("bench:   {name}");
        if let Err(error) = run(self) {
            eprintln!("bench:   {name}: {error:#}");
            self.cells
                .notes
                .push(format!("{name} could not be measured: {error:#}").replace('\n', " "));
        }
    }

    /// One turn of a new session before `clients` viewers, with the time it took of each part.
    fn run(
        &mut self,
        clients: usize,
        events: u64,
        period_ms: u64,
    ) -> anyhow::Result<(Seen, Vec<(String, Duration)>)> {
        let (session, _) = self.lodge.create()?;
        let guest = Guest::of(&session)?;
        let mut conns = self.lodge.viewers(&session, clients)?;
        let mut control = self.lodge.browser()?;
        let named = self.parts(&guest);
        let pids: Vec<u32> = named.iter().map(|(pid, _)| *pid).collect();
        let cpu = CpuMeter::start(&pids);
        self.lodge
            .prompt(&mut control, &session, &format!("stamp {events} {period_ms}"))?;
        let bounds = Bounds {
            until: Until::TurnEnded,
            deadline: TURN,
            quiet: Duration::from_secs(8),
        };
        let seen = load::watch(&mut conns, bounds)?;
        let used: Vec<(String, Duration)> = cpu
            .each()
            .into_iter()
            .zip(&named)
            .map(|((_, used), (_, name))| (name.clone(), used))
            .collect();
        eprintln!(
            "bench:     {clients} clients, {events} events: {} delivered, {} lost, {} closed; {}",
            seen.delivered,
            seen.lost(events),
            seen.closed,
            split(&used, seen.delivered),
        );
        ensure!(seen.delivered > 0, "no event came");
        drop(conns);
        if seen.older > 0 {
            let held = self.lodge.in_history(&session)?;
            let note =
                format!("{clients} clients without a pace: history holds {held} of the {events} events");
            self.cells.notes.push(note);
            ensure!(held == events, "history holds {held} of {events} events");
        }
        self.lodge.delete(&session)?;
        Ok((seen, used))
    }

    /// The processes that a delivery passes, with the names of their parts.
    fn parts(&self, guest: &Guest) -> Vec<(u32, String)> {
        let mut named = vec![
            (self.lodge.backend.pid(), "backend".to_owned()),
            (self.lodge.runner.pid(), "runner".to_owned()),
        ];
        named.extend(guest.processes.iter().cloned());
        named
    }

    fn latency(&mut self) -> anyhow::Result<()> {
        let events = self.sizes.slow_events;
        let (seen, used) = self.run(1, events, 20)?;
        self.cells.latency(Row::Latency50, &seen, events);
        self.cells.verdict(
            Row::Latency50,
            seen.percentile(0.5).is_some_and(|p50| p50 <= 100_000),
        );
        self.cells
            .notes
            .push(format!("CPU at 50 events/s: {}", split(&used, seen.delivered)));
        let events = self.sizes.fast_events;
        let (seen, used) = self.run(1, events, 1)?;
        self.cells.latency(Row::Latency1000, &seen, events);
        self.cells.cpu(Row::Cpu1000, total(&used), &seen);
        self.cells.notes.push(format!(
            "CPU at 1,000 events/s, 1 client: {}",
            split(&used, seen.delivered)
        ));
        Ok(())
    }

    fn bursts(&mut self) -> anyhow::Result<()> {
        for (row, clients, events) in self.sizes.bursts() {
            let (seen, used) = self.run(clients, events, 0)?;
            self.cells.burst(row, &seen, events, total(&used));
            if row == Row::Burst1 {
                let a_second = report::a_second(seen.delivered, total(&used));
                self.cells
                    .verdict(Row::Burst1Cpu, a_second >= 200_000 && seen.lost(events) == 0);
            }
            let note = format!(
                "CPU without a pace, {clients} clients: {}",
                split(&used, seen.delivered)
            );
            self.cells.notes.push(note);
        }
        Ok(())
    }

    fn viewers(&mut self) -> anyhow::Result<()> {
        let events = self.sizes.fast_events;
        let (seen, used) = self.run(100, events, 1)?;
        self.cells.latency(Row::Viewers, &seen, events);
        let fast = seen.percentile(0.5).is_some_and(|p50| p50 <= 10_000_000);
        self.cells.verdict(Row::Viewers, fast && seen.lost(events) == 0);
        self.cells.set(Row::ViewersRate, rate(&seen));
        self.cells.cpu(Row::ViewersCpu, total(&used), &seen);
        let each = per(total(&used), seen.delivered);
        self.cells
            .verdict(Row::ViewersCpu, each.is_some_and(|ns| ns <= 1_000));
        self.cells
            .notes
            .push(format!("CPU with 100 viewers: {}", split(&used, seen.delivered)));
        Ok(())
    }

    fn memory(&mut self) -> anyhow::Result<()> {
        let (first, _) = self.lodge.create()?;
        let roles = [
            ("backend", self.lodge.backend.pid()),
            ("runner", self.lodge.runner.pid()),
            ("gateway", self.lodge.gateway.pid()),
            ("history", self.lodge.history.pid()),
        ];
        let weigh = |name: &str, pid: u32| {
            let memory = memory(pid);
            // A process that is not dumpable shows its PSS to nobody but root.
            let pss = if memory.pss > 0 {
                kib(memory.pss)
            } else {
                "–".to_owned()
            };
            format!("{name} {pss} / {}", kib(memory.rss))
        };
        let parts: Vec<String> = roles.iter().map(|(name, pid)| weigh(name, *pid)).collect();
        self.cells
            .set(Row::MemoryParts, format!("{} (PSS / RSS)", parts.join(", ")));
        let runner = memory(self.lodge.runner.pid());
        let mut sessions = vec![first];
        for _ in 0..WEIGHED {
            sessions.push(self.lodge.create()?.0);
        }
        let grown = memory(self.lodge.runner.pid()).pss.saturating_sub(runner.pss) / WEIGHED as u64;
        let guest = Guest::of(&sessions[1])?;
        let parts: Vec<String> = guest
            .processes
            .iter()
            .map(|(pid, name)| weigh(name, *pid))
            .collect();
        let sum: u64 = guest.pids().into_iter().map(|pid| memory(pid).pss).sum();
        let text = format!(
            "{} PSS: {}, runner +{}",
            kib(sum + grown),
            parts.join(", "),
            kib(grown)
        );
        self.cells.set(Row::MemorySession, text);
        for session in &sessions {
            self.lodge.delete(session)?;
        }
        let before = memory(self.lodge.backend.pid());
        let idle: Vec<_> = (0..self.sizes.idle_sockets)
            .map(|_| self.lodge.browser())
            .collect::<Result<_, _>>()?;
        self.cells.per_item(
            Row::MemorySocket,
            before,
            memory(self.lodge.backend.pid()),
            idle.len(),
        );
        Ok(())
    }

    fn creation(&mut self, programs: &Programs) -> anyhow::Result<()> {
        let mut times: Vec<Creation> = Vec::new();
        for _ in 0..self.sizes.creates {
            let (session, creation) = self.lodge.create()?;
            times.push(creation);
            self.lodge.delete(&session)?;
        }
        let median = |of: fn(&Creation) -> Duration| {
            let mut each: Vec<Duration> = times.iter().map(of).collect();
            each.sort_unstable();
            nanos(
                each.get(each.len() / 2)
                    .and_then(|time| u64::try_from(time.as_nanos()).ok()),
            )
        };
        let text = format!(
            "{} / {} (answered after {})",
            median(|creation| creation.first_event),
            median(|creation| creation.ready),
            median(|creation| creation.answered)
        );
        self.cells.set(Row::Create, text);
        let begun = Instant::now();
        Command::new(programs.dir.join("lodge-fake-pi"))
            .arg("--version")
            .output()?;
        let own = u64::try_from(begun.elapsed().as_nanos()).ok();
        self.cells.notes.push(format!(
            "the scripted harness's own start, outside a sandbox: {}",
            nanos(own)
        ));
        Ok(())
    }

    /// A client that goes away in a turn of 1,000 events a second, and comes back with its cursor.
    fn offline(&mut self) -> anyhow::Result<()> {
        let (away, events) = (self.sizes.away(), self.sizes.away_events());
        let (session, _) = self.lodge.create()?;
        let mut conn = self.lodge.browser()?;
        show(&mut conn, &session, None)?;
        let epoch = conn.wait_for(|text| {
            let frame: Value = serde_json::from_slice(text).ok()?;
            let cursor = frame["control"]["cursor"].as_str()?;
            Some(cursor.split_once('.')?.0.to_owned())
        })?;
        conn.tally.keep_last = true;
        let mut control = self.lodge.browser()?;
        self.lodge
            .prompt(&mut control, &session, &format!("stamp {events} 1"))?;
        let mut conns = [conn];
        let before = Bounds {
            until: Until::Count(500),
            deadline: TURN,
            quiet: TURN,
        };
        load::watch(&mut conns, before)?;
        let [conn] = conns;
        let last: Value = serde_json::from_slice(&conn.tally.last_text)?;
        let seq = last["event"]["seq"]
            .as_u64()
            .context("an event without a number")?;
        let next = conn.tally.next();
        drop(conn);
        std::thread::sleep(away);
        let mut conn = self.lodge.browser()?;
        let back_ns = now_ns();
        conn.tally.resume_at(next);
        conn.tally.cut_ns = back_ns;
        show(&mut conn, &session, Some(&format!("{epoch}.{seq}")))?;
        let mut conns = [conn];
        let rest = Bounds {
            until: Until::TurnEnded,
            deadline: TURN,
            quiet: Duration::from_secs(8),
        };
        load::watch(&mut conns, rest)?;
        let tally = &conns[0].tally;
        self.cells.set(Row::Offline, report::missed(tally, back_ns, away));
        let took = tally.cut_done_ns.saturating_sub(back_ns);
        let whole = tally.next() == events && tally.skipped == 0;
        self.cells
            .verdict(Row::Offline, tally.before_cut > 0 && whole && took <= 100_000_000);
        self.cells.notes.push(format!(
            "offline: {} of the {} that came after the return came inside a snapshot",
            tally.folded, tally.delivered
        ));
        self.lodge.delete(&session)
    }
}

fn total(used: &[(String, Duration)]) -> Duration {
    used.iter().map(|(_, used)| *used).sum()
}

/// What each part used a delivery.
fn split(used: &[(String, Duration)], delivered: u64) -> String {
    let parts: Vec<String> = used
        .iter()
        .map(|(name, used)| format!("{name} {}", nanos(per(*used, delivered))))
        .collect();
    parts.join(", ")
}
