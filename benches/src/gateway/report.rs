//! The table.

use super::{Ask, Column, Idle, Run};
use crate::proc;
use crate::report::{as_f64, count, kib, nanos};
use std::fmt::Write as _;
use std::time::Duration;

const LODGE: &str = "Lodge";
const PLAIN: &str = "plain proxy, Unix socket";
const DIRECT: &str = "none: the model itself";

impl Column {
    /// The median over the rounds.
    fn median(&self, ask: Ask, value: impl Fn(&Run) -> f64) -> Option<f64> {
        // A run in which nothing came in time is told below the tables.
        let runs = self.runs.iter().filter(|run| run.ask == ask && run.seen.done > 0);
        let mut values: Vec<f64> = runs.map(value).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    }

    fn rate(&self, ask: Ask) -> Option<f64> {
        self.median(ask, |run| as_f64(run.seen.done) / run.seen.seconds)
    }

    fn p50(&self, ask: Ask) -> Option<f64> {
        self.median(ask, |run| as_f64(run.seen.p50))
    }

    fn p99(&self, ask: Ask) -> Option<f64> {
        self.median(ask, |run| as_f64(run.seen.p99))
    }

    fn rss(&self, ask: Ask) -> Option<f64> {
        self.median(ask, |run| as_f64(run.rss))
    }

    fn added(&self, direct: Option<&Self>, ask: Ask, of: impl Fn(&Self, Ask) -> Option<f64>) -> Option<f64> {
        Some((of(self, ask)? - of(direct?, ask)?).max(0.0))
    }
}

pub(super) fn markdown(
    (quick, first): (bool, bool),
    load_before: &str,
    columns: &[Column],
    versions: &[(String, String)],
    took: Duration,
) -> String {
    let mut out = String::from("# Gateways: what passing a request on costs\n\n");
    let flag = match (quick, first) {
        (false, false) => "",
        (true, false) => " --quick",
        (false, true) => " --first",
        (true, true) => " --quick --first",
    };
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "Made by `benches/gateway{flag}` in one run of {} s, {}. All gateways take turns at every measurement, so that \
         a noisy moment hits all of them; of several rounds the median is shown.\n",
        took.as_secs(),
        crate::report::today()
    );
    let _ = writeln!(out, "- Machine: {}", proc::machine());
    let _ = writeln!(
        out,
        "- Load average before and after: {load_before}; {}",
        proc::load()
    );
    let named = versions.iter().filter(|(_, version)| !version.is_empty());
    let named: Vec<String> = named.map(|(name, version)| format!("{name} {version}")).collect();
    let _ = writeln!(out, "- Compared: {}\n", named.join(", "));
    table(&mut out, columns);
    aims(&mut out, columns);
    problems(&mut out, columns);
    out.push_str(include_str!("METHOD.md"));
    out
}

fn table(out: &mut String, columns: &[Column]) {
    let names: Vec<&str> = columns.iter().map(|column| column.title.as_str()).collect();
    let _ = writeln!(out, "| | {} |", names.join(" | "));
    let _ = writeln!(out, "|---|{}", "---|".repeat(columns.len()));
    let direct = columns.iter().find(|column| column.title == DIRECT);
    let mut row = |name: &str, cell: &dyn Fn(&Column) -> Option<String>| {
        let cells: Vec<String> = columns
            .iter()
            .map(|column| cell(column).unwrap_or_else(|| "–".to_owned()))
            .collect();
        let _ = writeln!(out, "| {name} | {} |", cells.join(" | "));
    };
    let gateway = |column: &Column| (column.title != DIRECT).then_some(());
    for (ask, name) in [
        (Ask::Small, "requests a second, 200 B, 32 connections"),
        (Ask::Medium, "requests a second, 100 kB, 32 connections"),
        (Ask::Large, "requests a second, 500 kB, 8 connections"),
    ] {
        row(name, &|column| Some(whole(column.rate(ask)?)));
    }
    for (ask, name) in [
        (Ask::Small, "CPU a request, 200 B"),
        (Ask::Medium, "CPU a request, 100 kB"),
        (Ask::Large, "CPU a request, 500 kB"),
    ] {
        row(name, &|column| {
            gateway(column)?;
            let cpu = |run: &Run| run.cpu.as_secs_f64() * 1e9 / as_f64(run.seen.all.max(1));
            Some(time(column.median(ask, cpu)?))
        });
    }
    row("one request alone, 200 B: p50 / p99", &|column| {
        Some(pair(column.p50(Ask::Alone)?, column.p99(Ask::Alone)?))
    });
    row("of that, added: p50 / p99", &|column| {
        gateway(column)?;
        let p50 = column.added(direct, Ask::Alone, Column::p50)?;
        Some(pair(p50, column.added(direct, Ask::Alone, Column::p99)?))
    });
    row("time to the first chunk: p50 / p99", &|column| {
        Some(pair(column.p50(Ask::FirstChunk)?, column.p99(Ask::FirstChunk)?))
    });
    for (ask, streams) in [
        (Ask::Streams100, "100 streams of 20"),
        (Ask::Streams1000, "1,000 streams of 10"),
    ] {
        let name = format!("a chunk's delay, {streams} chunks a second: p50 / p99");
        row(&name, &|column| {
            let share = column.median(ask, |run| as_f64(run.seen.done) / as_f64(run.seen.wanted.max(1)))?;
            let mut text = pair(column.p50(ask)?, column.p99(ask)?);
            if share < 0.9999 {
                let _ = write!(text, " ({:.0} % came)", share * 100.0);
            }
            Some(text)
        });
        row("of a core, there", &|column| {
            gateway(column)?;
            let share = |run: &Run| run.cpu.as_secs_f64() / run.took.as_secs_f64() * 100.0;
            Some(format!("{:.0} %", column.median(ask, share)?))
        });
    }
    row("resident, idle: all / of no file", &|column| {
        gateway(column)?;
        let Idle { all, own } = column.idle;
        Some(format!("{} / {}", kib(all), kib(own))).filter(|_| all > 0)
    });
    for (ask, name) in [
        (Ask::Streams100, "resident at 100 streams"),
        (Ask::Streams1000, "resident at 1,000 streams"),
        (Ask::Large, "resident at 8 requests of 500 kB"),
    ] {
        row(name, &|column| {
            gateway(column)?;
            Some(memory(column.rss(ask)?))
        });
    }
    out.push('\n');
}

/// An aim in words, what was wanted of it, what was measured and whether that is good.
type Aim = (&'static str, String, Option<(f64, bool)>, &'static str);

fn aims(out: &mut String, columns: &[Column]) {
    let find = |title: &str| columns.iter().find(|column| column.title == title);
    let (lodge, plain, direct) = (find(LODGE), find(PLAIN), find(DIRECT));
    let ratio = |over: Option<f64>, under: Option<f64>| Some(over? / under?);
    let faster = |than: &str| {
        ratio(
            lodge.and_then(|l| l.rate(Ask::Small)),
            find(than).and_then(|c| c.rate(Ask::Small)),
        )
    };
    let added = |column: Option<&Column>| column.and_then(|c| c.added(direct, Ask::Alone, Column::p50));
    let first = |column: Option<&Column>| column.and_then(|c| c.p50(Ask::FirstChunk));
    let resident = |column: Option<&Column>| column.and_then(|c| c.rss(Ask::Streams100));
    let idle = |column: Option<&Column>| column.map(|c| as_f64(c.idle.all)).filter(|all| *all > 0.0);
    let least = |found: Option<f64>, wanted: f64| found.map(|found| (found, found >= wanted));
    let most = |found: Option<f64>, wanted: f64| found.map(|found| (found, found <= wanted));
    let p99 = lodge
        .and_then(|l| l.p99(Ask::Streams1000))
        .map(|nanos| nanos / 1e6);
    let all: [Aim; 7] = [
        (
            "requests a second at 200 B against LiteLLM",
            "≥ 200 ×".into(),
            least(faster("LiteLLM"), 200.0),
            " ×",
        ),
        (
            "requests a second at 200 B against Portkey",
            "≥ 35 ×".into(),
            least(faster("Portkey"), 35.0),
            " ×",
        ),
        (
            "added p50 against the plain proxy",
            "≤ 1.25 ×".into(),
            most(ratio(added(lodge), added(plain)), 1.25),
            " ×",
        ),
        (
            "time to the first chunk against the plain proxy",
            "≤ 1.2 ×".into(),
            most(ratio(first(lodge), first(plain)), 1.2),
            " ×",
        ),
        (
            "1,000 streams on one core, chunk p99",
            "< 2 ms".into(),
            p99.map(|found| (found, found < 2.0)),
            " ms",
        ),
        (
            "memory when idle against LiteLLM",
            "≤ 1/25".into(),
            most(ratio(idle(lodge), idle(find("LiteLLM"))), 0.04),
            " ×",
        ),
        (
            "memory at 100 streams against LiteLLM",
            "≤ 1/25".into(),
            most(ratio(resident(lodge), resident(find("LiteLLM"))), 0.04),
            " ×",
        ),
    ];
    out.push_str("| aim | wanted | measured | |\n|---|---|---|---|\n");
    for (name, wanted, measured, unit) in all {
        let (found, verdict) = match measured {
            Some((found, true)) => (format!("{found:.3}{unit}"), "**met**"),
            Some((found, false)) => (format!("{found:.3}{unit}"), "**missed**"),
            None => ("–".to_owned(), "not measured"),
        };
        let _ = writeln!(out, "| {name} | {wanted} | {found} | {verdict} |");
    }
    out.push('\n');
}

/// What did not go as it should, so that no cell hides it.
fn problems(out: &mut String, columns: &[Column]) {
    let clean = |text: &str| text.replace(['\n', '\r', '|'], " ");
    let mut any = false;
    for column in columns {
        if let Some(problem) = &column.problem {
            any = true;
            let _ = writeln!(out, "- {}: not measured: {}", column.title, clean(problem));
        }
        for run in column.runs.iter().filter(|run| run.seen.done == 0) {
            any = true;
            let _ = writeln!(
                out,
                "- {}, {:?}: nothing came in the time of one round",
                column.title, run.ask
            );
        }
        for run in column.runs.iter().filter(|run| run.seen.problems > 0) {
            any = true;
            let problem = clean(run.seen.problem.as_deref().unwrap_or_default());
            let _ = writeln!(
                out,
                "- {}, {:?}: {} failed, the first with: {problem}",
                column.title, run.ask, run.seen.problems
            );
        }
    }
    if any {
        out.push('\n');
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it was a count of nanoseconds"
)]
fn rounded(value: f64) -> u64 {
    value.max(0.0).round() as u64
}

fn whole(value: f64) -> String {
    count(rounded(value))
}

fn time(value: f64) -> String {
    nanos(Some(rounded(value)))
}

fn pair(one: f64, other: f64) -> String {
    format!("{} / {}", time(one), time(other))
}

fn memory(value: f64) -> String {
    kib(rounded(value))
}
