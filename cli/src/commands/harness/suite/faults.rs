//! The table of the documentation: how each harness ends when something goes wrong, as runs of the suite saw it.

use super::capabilities::{cell, head};
use super::cases::Case;
use super::report::{CaseReport, Outcome, Report};
use std::fmt::Write as _;
use std::time::Duration;

/// A row for each fault, a column for each harness.
pub(super) fn table(reports: &[Report]) -> String {
    let mut text = head(reports);
    let versions: Vec<&str> = reports.iter().map(|report| report.version.as_str()).collect();
    let _ = writeln!(text, "| version | {} |", versions.join(" | "));
    for case in Case::ALL.iter().filter(|case| case.is_fault()) {
        let _ = write!(text, "| `{}` |", case.name());
        for report in reports {
            let found = report.cases.iter().find(|found| found.case == case.name());
            let _ = write!(text, " {} |", found.map_or_else(|| "?".to_owned(), ended));
        }
        text.push('\n');
    }
    text
}

/// What became of it, and how long the whole case took.
fn ended(case: &CaseReport) -> String {
    let how = match case.result {
        Outcome::Failed => format!("**not as wanted**: {}", case.detail),
        Outcome::Ok if case.detail.is_empty() => "ok".to_owned(),
        Outcome::Ok | Outcome::Unsupported => case.detail.clone(),
    };
    let seconds = Duration::from_millis(case.duration_ms).as_secs_f64();
    format!("{} ({seconds:.0} s)", cell(&how))
}

#[cfg(test)]
mod tests {
    use super::super::report::Observed;
    use super::*;
    use lodge_proto::session::Tier;

    #[test]
    fn every_fault_has_its_row_and_what_did_not_run_is_not_claimed() {
        let case = |name: &str, result, detail: &str| CaseReport {
            case: name.to_owned(),
            result,
            detail: detail.to_owned(),
            duration_ms: 1_400,
        };
        let report = Report {
            harness: "one".to_owned(),
            title: "One".to_owned(),
            version: "1.2.3".to_owned(),
            tier: Tier::Process,
            cases: vec![
                case("error", Outcome::Ok, "failed, provider_error"),
                case("hang", Outcome::Failed, "a|b"),
                case("text", Outcome::Ok, ""),
            ],
            observed: Observed::default(),
            duration_ms: 0,
        };
        let text = table(&[report]);
        for row in [
            "| version | 1.2.3 |",
            "| `error` | failed, provider_error (1 s) |",
            "| `hang` | **not as wanted**: a\\|b (1 s) |",
            "| `error-529` | ? |",
        ] {
            assert!(text.contains(row), "{row} is not in {text}");
        }
        assert!(!text.contains("`text`"), "{text}");
    }
}
