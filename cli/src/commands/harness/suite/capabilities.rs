//! The table of the documentation: what each harness can, as runs of the suite saw it.

use super::faults;
use super::report::{Observed, Outcome, Report};
use crate::failure::Failure;
use lodge_proto::ErrorCode;
use lodge_proto::session::Capabilities;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Where the table goes.
struct Place {
    begin: &'static str,
    end: &'static str,
}

const CAPABILITIES: Place = Place {
    begin: "<!-- capabilities: begin; written by scripts/harness-table -->",
    end: "<!-- capabilities: end -->",
};
const FAULTS: Place = Place {
    begin: "<!-- faults: begin; written by scripts/harness-faults -->",
    end: "<!-- faults: end -->",
};

/// Puts reports of `lodge harness test --json` as a table between the markers of a page.
#[derive(Debug, clap::Args)]
pub(in super::super) struct Args {
    /// The page.
    #[arg(long, value_name = "FILE")]
    page: PathBuf,
    /// The table of faults, in place of that of what each can.
    #[arg(long)]
    faults: bool,
    /// The reports, in the order of the columns.
    #[arg(required = true)]
    reports: Vec<PathBuf>,
}

pub(in super::super) fn run(args: &Args) -> anyhow::Result<u8> {
    let mut reports = Vec::new();
    for path in &args.reports {
        let text = read(path)?;
        let report: Report = serde_json::from_str(&text).map_err(|error| {
            Failure::new(ErrorCode::InvalidArgument, format!("this is no report: {error}"))
                .at(path.display().to_string())
                .mend("lodge harness test NAME --json")
        })?;
        reports.push(report);
    }
    let (place, text) = if args.faults {
        (FAULTS, faults::table(&reports))
    } else {
        (CAPABILITIES, table(&reports))
    };
    let page = between(&read(&args.page)?, &place, &text).ok_or_else(|| {
        Failure::new(ErrorCode::InvalidArgument, "the page has no place for the table")
            .at(args.page.display().to_string())
            .mend(format!(
                "put these two lines into it: {} {}",
                place.begin, place.end
            ))
    })?;
    std::fs::write(&args.page, page).map_err(|error| unusable(&args.page, &error))?;
    Ok(0)
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| unusable(path, &error))
}

fn unusable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(
        ErrorCode::InvalidArgument,
        format!("the file cannot be used: {error}"),
    )
    .at(path.display().to_string())
}

/// The page with this text between its markers; `None` where it has none.
fn between(page: &str, place: &Place, text: &str) -> Option<String> {
    let Place { begin, end } = place;
    let (before, rest) = page.split_once(begin)?;
    let (_, after) = rest.split_once(end)?;
    Some(format!("{before}{begin}\n\n{text}\n{end}{after}"))
}

type Row = (&'static str, fn(&Report) -> String);

/// What the table tells, row by row.
const ROWS: &[Row] = &[
    ("version", |report| report.version.clone()),
    ("cases that passed", |report| {
        let ok = report
            .cases
            .iter()
            .filter(|case| case.result == Outcome::Ok)
            .count();
        format!("{ok} of {}", report.cases.len())
    }),
    ("joins a running turn (steer)", |report| {
        seen(report.observed.steered)
    }),
    ("abort", |report| can(report, |can| can.abort)),
    ("goes on after a kill -9", |report| seen(report.observed.resumed)),
    ("fork", |report| can(report, |can| can.fork)),
    ("fork before a message", |report| {
        can(report, |can| can.fork_at_message)
    }),
    ("compaction on demand", |report| can(report, |can| can.compact)),
    ("images in prompts", |report| seen(report.observed.images)),
    ("asks before tools run", |report| asks(&report.observed)),
    ("models to choose from", |report| {
        count(report, |can| can.models.len())
    }),
    ("thinking levels", |report| {
        named(report, |can| can.thinking_levels.clone())
    }),
    ("modes", |report| {
        named(report, |can| {
            can.modes.iter().map(|mode| mode.id.clone()).collect()
        })
    }),
    ("shows its thinking", |report| seen(report.observed.thinking)),
    ("shows output of commands", |report| {
        match (report.observed.tool_output, report.observed.live_tool_output) {
            (_, Some(true)) => "live".to_owned(),
            (Some(true), _) => "at the end".to_owned(),
            (told, _) => seen(told),
        }
    }),
    ("tells its plan", |report| seen(report.observed.plan)),
    ("tells of retries", |report| seen(report.observed.retries)),
    ("tells tokens of a turn", |report| seen(report.observed.usage)),
    ("tells the size of the context", |report| {
        seen(report.observed.context_size)
    }),
];

fn seen(what: Option<bool>) -> String {
    match what {
        Some(true) => "yes",
        Some(false) => "no",
        None => "?",
    }
    .to_owned()
}

fn can(report: &Report, what: fn(&Capabilities) -> bool) -> String {
    seen(report.observed.capabilities.as_ref().map(what))
}

fn count(report: &Report, what: fn(&Capabilities) -> usize) -> String {
    let count = report.observed.capabilities.as_ref().map(what);
    count.map_or_else(|| "?".to_owned(), |count| count.to_string())
}

fn named(report: &Report, what: fn(&Capabilities) -> Vec<String>) -> String {
    match report.observed.capabilities.as_ref().map(what) {
        None => "?".to_owned(),
        Some(names) if names.is_empty() => "none".to_owned(),
        Some(names) => names.join(", "),
    }
}

fn asks(observed: &Observed) -> String {
    let Some(choices) = &observed.permission_choices else {
        return "no".to_owned();
    };
    let names: Vec<String> = choices
        .iter()
        .filter_map(|choice| serde_json::to_value(choice).ok()?.as_str().map(str::to_owned))
        .map(|name| name.replace('_', " "))
        .collect();
    names.join(", ")
}

/// The first two lines of a table with a column for each harness.
pub(super) fn head(reports: &[Report]) -> String {
    let mut text = String::from("| |");
    for report in reports {
        let _ = write!(text, " {} |", cell(&report.title));
    }
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(reports.len()));
    text.push('\n');
    text
}

fn table(reports: &[Report]) -> String {
    let mut text = head(reports);
    for (name, value) in ROWS {
        let _ = write!(text, "| {name} |");
        for report in reports {
            let _ = write!(text, " {} |", cell(&value(report)));
        }
        text.push('\n');
    }
    for report in reports {
        for case in report.cases.iter().filter(|case| case.result == Outcome::Failed) {
            let _ = write!(
                text,
                "\n{}: `{}` failed: {}\n",
                report.title,
                case.case,
                cell(&case.detail)
            );
        }
    }
    text
}

/// A text that stays in its cell.
pub(super) fn cell(text: &str) -> String {
    let plain: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    plain.replace('|', "\\|").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::super::report::CaseReport;
    use super::*;
    use lodge_proto::input::PermissionChoice;
    use lodge_proto::session::Tier;

    fn report(title: &str) -> Report {
        Report {
            harness: title.to_lowercase(),
            title: title.to_owned(),
            version: "1.2.3".to_owned(),
            tier: Tier::Process,
            cases: vec![CaseReport {
                case: "text".to_owned(),
                result: Outcome::Failed,
                detail: "a|b\nc".to_owned(),
                duration_ms: 1,
            }],
            observed: Observed {
                capabilities: Some(Capabilities {
                    fork: true,
                    ..Capabilities::default()
                }),
                permission_choices: Some(vec![PermissionChoice::Once, PermissionChoice::DenyAndStop]),
                steered: Some(false),
                ..Observed::default()
            },
            duration_ms: 0,
        }
    }

    #[test]
    fn the_table_says_what_was_seen_and_what_was_not() {
        let text = table(&[report("One"), report("Two")]);
        assert!(text.starts_with("| | One | Two |\n|---|---|---|\n| version | 1.2.3 | 1.2.3 |\n"));
        for row in [
            "| fork | yes | yes |",
            "| fork before a message | no | no |",
            "| joins a running turn (steer) | no | no |",
            "| goes on after a kill -9 | ? | ? |",
            "| asks before tools run | once, deny and stop | once, deny and stop |",
            "| cases that passed | 0 of 1 | 0 of 1 |",
        ] {
            assert!(text.contains(row), "{row} is not in {text}");
        }
        assert!(text.contains("One: `text` failed: a\\|b c\n"), "{text}");
    }

    #[test]
    fn a_page_keeps_what_is_around_its_markers() {
        for place in [CAPABILITIES, FAULTS] {
            let page = format!("before\n{}\nold\n{}\nafter\n", place.begin, place.end);
            let new = between(&page, &place, "new").unwrap();
            assert!(new.starts_with("before\n") && new.ends_with("\nafter\n") && new.contains("new"));
            assert!(!new.contains("old"));
            assert_eq!(
                between(&new, &place, "new").as_deref(),
                Some(new.as_str()),
                "it can be done again"
            );
        }
        assert_eq!(between("no markers", &FAULTS, "new"), None);
    }
}
