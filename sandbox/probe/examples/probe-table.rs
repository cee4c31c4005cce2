//! The comparison of `docs/security/probes.md`.
//!
//! - `probe-table column NAME PROGRAM DIR [ARGUMENT]...`: all probes in one foreign sandbox, as JSON. NAME: `none`,
//!   `bwrap`, `codex BINARY`, `srt BINARY`, `docker HOST IMAGE`. Scenes are made in DIR.
//! - `probe-table render TITLE=FILE...`: the page. A FILE is such a column or the output of `lodge sandbox check --json`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use lodge_probe::foreign::{Cell, Foreign, column};
use lodge_probe::table::PROBES;
use lodge_probe::{Found, Report};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["column", name, program, parent, rest @ ..] => measure(name, program, parent, rest),
        ["render", columns @ ..] => render(columns),
        _ => {
            Err("usage: probe-table column NAME PROGRAM DIR [ARGUMENT]... | render TITLE=FILE...".to_owned())
        }
    };
    match result {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("probe-table: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(name: &str, program: &str, parent: &str, rest: &[&str]) -> Result<String, String> {
    let foreign = match (name, rest) {
        ("none", []) => Foreign::None,
        ("bwrap", []) => Foreign::NaiveBwrap,
        ("codex", [binary]) => Foreign::Codex {
            program: binary.into(),
        },
        ("srt", [binary]) => Foreign::SandboxRuntime {
            program: binary.into(),
        },
        ("docker", [host, image]) => Foreign::Docker {
            host: (*host).to_owned(),
            image: (*image).to_owned(),
        },
        _ => return Err(format!("unknown sandbox {name}")),
    };
    let cells = column(&foreign, Path::new(parent), Path::new(program));
    let named: BTreeMap<&str, &Cell> = PROBES.iter().map(|probe| probe.id).zip(&cells).collect();
    serde_json::to_string_pretty(&named).map_err(|error| error.to_string())
}

/// Cells by id, from either kind of file.
fn read(file: &str) -> Result<BTreeMap<String, Cell>, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    if let Ok(report) = serde_json::from_str::<Report>(&text) {
        let cells = report.rows.into_iter().map(|row| {
            let cell = match row.found {
                Found::Absent => Cell::Absent,
                found if row.ok => Cell::AsWanted(found),
                found => Cell::Different(found, row.detail),
            };
            (row.id, cell)
        });
        return Ok(cells.collect());
    }
    serde_json::from_str(&text).map_err(|error| format!("{file}: {error}"))
}

fn shown(cell: Option<&Cell>) -> String {
    match cell {
        None | Some(Cell::Absent) => "–".to_owned(),
        Some(Cell::AsWanted(found)) => found.to_string(),
        Some(Cell::Different(Found::Open, _)) => "**open**".to_owned(),
        Some(Cell::Different(Found::Untested, _)) => "not testable".to_owned(),
        Some(Cell::Different(found, _)) => format!("**{found}**"),
    }
}

fn count(cells: &BTreeMap<String, Cell>, matching: impl Fn(&Cell) -> bool) -> usize {
    cells.values().filter(|cell| matching(cell)).count()
}

fn render(columns: &[&str]) -> Result<String, String> {
    let mut titles = Vec::new();
    let mut all = Vec::new();
    for pair in columns {
        let (title, file) = pair
            .split_once('=')
            .ok_or_else(|| format!("{pair} is no TITLE=FILE"))?;
        titles.push(title);
        all.push(read(file)?);
    }
    let mut out = String::new();
    let _ = writeln!(out, "| # | probe | {} |", titles.join(" | "));
    let _ = writeln!(out, "|---|---|{}", "---|".repeat(titles.len()));
    for probe in PROBES {
        let cells: Vec<String> = all.iter().map(|cells| shown(cells.get(probe.id))).collect();
        let title = probe.title.replace('|', "\\|").replace('*', "\\*");
        let _ = writeln!(out, "| {} | {title} | {} |", probe.id, cells.join(" | "));
    }
    let different = |cell: &Cell| matches!(cell, Cell::Different(found, _) if *found != Found::Untested);
    let untested = |cell: &Cell| matches!(cell, Cell::Different(Found::Untested, _));
    let tried = |cell: &Cell| *cell != Cell::Absent;
    for (what, matching) in [
        ("**open**", &different as &dyn Fn(&Cell) -> bool),
        ("not testable", &untested),
        ("tried", &tried),
    ] {
        let counts: Vec<String> = all
            .iter()
            .map(|cells| count(cells, matching).to_string())
            .collect();
        let _ = writeln!(out, "| | {what} | {} |", counts.join(" | "));
    }
    Ok(out)
}
