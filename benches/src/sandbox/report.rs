//! The table.

use super::{Resident, Row};
use crate::proc;
use crate::report::{as_f64, kib, nanos};
use std::fmt::Write as _;
use std::time::Duration;

/// An aim: a row, how many times faster than which other row it should be.
const AIMS: [(&str, &str, f64); 9] = [
    (
        "process tier, no network",
        "bwrap alone, the same binds",
        1.0 / 1.3,
    ),
    ("process tier, broker", "bwrap alone, the same binds", 1.0 / 1.3),
    ("process tier, broker", "codex sandbox", 5.0),
    ("process tier, broker", "sandbox-runtime (srt)", 40.0),
    ("process tier, broker", "docker run --network none", 40.0),
    (
        "command in a warm process sandbox",
        "docker exec, warm container",
        20.0,
    ),
    ("command in a warm container", "docker exec, warm container", 20.0),
    ("command in a warm microVM", "docker exec, warm container", 20.0),
    ("microVM from snapshot", "docker run --network none", 1.0),
];

pub(super) fn markdown(
    quick: bool,
    load_before: &str,
    rows: &[Row],
    resident: &[Resident],
    took: Duration,
) -> String {
    let mut out = String::from("# Sandboxes: start, warm command, memory\n\n");
    let flag = if quick { " --quick" } else { "" };
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "Made by `benches/sandbox{flag}` in one run of {} s, {}. All rows take turns in every round, so that a noisy \
         moment hits all of them.\n",
        took.as_secs(),
        crate::report::today()
    );
    let _ = writeln!(out, "- Machine: {}", proc::machine());
    let _ = writeln!(
        out,
        "- Load average before and after: {load_before}; {}\n",
        proc::load()
    );
    times(&mut out, rows);
    stages(&mut out, rows);
    aims(&mut out, rows);
    memory(&mut out, resident);
    out.push_str(include_str!("METHOD.md"));
    out
}

fn times(out: &mut String, rows: &[Row]) {
    out.push_str("| | runs | median | minimum | of bwrap alone |\n|---|---|---|---|---|\n");
    let base = rows
        .iter()
        .find(|row| row.name.starts_with("bwrap alone"))
        .and_then(Row::median);
    for row in rows {
        if let Some(problem) = &row.problem {
            let problem = problem.replace(['\n', '|'], " ");
            let _ = writeln!(out, "| {} | 0 | not measured: {problem} | | |", row.name);
            continue;
        }
        let ratio = ratio(row.median(), base).map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"));
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {ratio} |",
            row.name,
            row.runs(),
            text(row.median()),
            text(row.minimum())
        );
    }
    out.push('\n');
}

/// Where the time goes, of the rows that tell.
fn stages(out: &mut String, rows: &[Row]) {
    let rows: Vec<&Row> = rows
        .iter()
        .filter(|row| row.runs() > 0 && !row.stages.is_empty())
        .collect();
    let Some(first) = rows.first() else {
        return;
    };
    let line = |out: &mut String, name: &str, cells: &[String]| {
        let _ = writeln!(out, "| {name} | {} |", cells.join(" | "));
    };
    let names: Vec<String> = rows.iter().map(|row| row.name.to_owned()).collect();
    line(out, "of that, medians", &names);
    let _ = writeln!(out, "|---|{}", "---|".repeat(rows.len()));
    for (index, stage) in first.stages.iter().enumerate() {
        let cells: Vec<String> = rows.iter().map(|row| text(row.stage(index))).collect();
        line(out, stage, &cells);
    }
    out.push('\n');
}

fn aims(out: &mut String, rows: &[Row]) {
    out.push_str("| aim | wanted | measured (medians) | |\n|---|---|---|---|\n");
    let median = |name: &str| rows.iter().find(|row| row.name == name).and_then(Row::median);
    for (ours, theirs, wanted) in AIMS {
        let measured = ratio(median(theirs), median(ours));
        let verdict = match measured {
            Some(found) if found >= wanted => "**met**",
            Some(_) => "**missed**",
            None => "not measured",
        };
        let found = measured.map_or_else(|| "–".to_owned(), |found| format!("{found:.2} ×"));
        let _ = writeln!(
            out,
            "| {ours} against {theirs} | ≥ {wanted:.2} × as fast | {found} | {verdict} |"
        );
    }
    out.push('\n');
}

fn memory(out: &mut String, resident: &[Resident]) {
    out.push_str("| resident while idle (PSS of all its processes on the host) | |\n|---|---|\n");
    for row in resident {
        let text = match &row.pss_kib {
            Ok(found) => kib(*found),
            Err(error) => format!("not measured: {error:#}").replace(['\n', '|'], " "),
        };
        let _ = writeln!(out, "| {} | {text} |", row.name);
    }
    out.push('\n');
}

fn ratio(over: Option<Duration>, under: Option<Duration>) -> Option<f64> {
    Some(as_f64(u64::try_from(over?.as_nanos()).ok()?) / as_f64(u64::try_from(under?.as_nanos()).ok()?))
}

fn text(time: Option<Duration>) -> String {
    nanos(time.and_then(|time| u64::try_from(time.as_nanos()).ok()))
}
