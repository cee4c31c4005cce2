//! From what the program inside says and what is seen outside to a result, and whether that is the wanted one.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::facts::{GuestReport, Outcome, Step};
use crate::table::Wanted;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    Denied,
    Harmless,
    Limited,
    Allowed,
    Reported,
    None,
    Holds,
    Escaped,
    Refused,
    /// The attack worked.
    Open,
    /// It could not be tried: neither good nor bad, but a difference.
    Untested,
    /// The probe means nothing here.
    Absent,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Denied => "denied",
            Self::Harmless => "harmless",
            Self::Limited => "limited",
            Self::Allowed => "allowed",
            Self::Reported => "reported",
            Self::None => "none",
            Self::Holds => "holds",
            Self::Escaped => "escaped",
            Self::Refused => "refused",
            Self::Open => "OPEN",
            Self::Untested => "UNTESTED",
            Self::Absent => "-",
        })
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Denied | Self::DeniedUnlessNesting => "denied",
            Self::Harmless => "harmless",
            Self::Limited => "limited",
            Self::Allowed => "allowed",
            Self::Reported => "reported",
            Self::DeniedOrReported => "denied or reported",
            Self::None => "none",
            Self::Holds => "holds",
            Self::Escaped => "escaped",
            Self::Refused => "refused",
            Self::Absent => "-",
        })
    }
}

impl Wanted {
    /// Whether `found` is as good as this.
    pub fn accepts(self, found: Found) -> bool {
        match self {
            Self::Denied | Self::DeniedUnlessNesting => found == Found::Denied,
            Self::Harmless => matches!(found, Found::Harmless | Found::Denied),
            Self::Limited => matches!(found, Found::Limited | Found::Denied),
            Self::Allowed => found == Found::Allowed,
            Self::Reported | Self::DeniedOrReported => matches!(found, Found::Reported | Found::Denied),
            Self::None => found == Found::None,
            Self::Holds => found == Found::Holds,
            Self::Escaped => found == Found::Escaped,
            Self::Refused => found == Found::Refused,
            Self::Absent => found == Found::Absent,
        }
    }
}

/// Everything that is known of one run inside.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    pub(crate) report: Option<GuestReport>,
    /// What was seen outside.
    pub(crate) effects: Vec<String>,
    /// What a person is told of the workspace.
    pub(crate) findings: Vec<String>,
    /// The bound that ended the sandbox, or how the program ended without a report.
    pub(crate) ended: Option<String>,
    /// Whether that was a bound.
    pub(crate) bounded: bool,
}

/// The result of a probe that acted inside.
pub(crate) fn judge(wanted: Wanted, evidence: &Evidence) -> (Found, String) {
    let Evidence {
        report,
        effects,
        findings,
        ended,
        bounded,
    } = evidence;
    if wanted == Wanted::Reported || wanted == Wanted::DeniedOrReported {
        return reported(evidence);
    }
    if !effects.is_empty() {
        return (Found::Open, effects.join("; "));
    }
    let Some(report) = report else {
        let how = ended.clone().unwrap_or_else(|| "no report".to_owned());
        return match (wanted, bounded) {
            (Wanted::Limited, true) => (Found::Limited, how),
            _ => (Found::Untested, how),
        };
    };
    if wanted == Wanted::Escaped {
        return escaped(findings);
    }
    let real = || report.steps.iter().filter(|step| !step.substitute);
    if let Some(step) = real().find(|step| step.outcome == Outcome::Missing) {
        return (Found::Untested, format!("{}: {}", step.name, step.detail));
    }
    let done: Vec<&Step> = real().filter(|step| step.outcome == Outcome::Done).collect();
    let breaches = done.iter().filter(|step| !step.needs_effect);
    let breaches: Vec<String> = breaches
        .map(|step| format!("{}: {}", step.name, step.detail))
        .collect();
    let limited: Vec<String> = real()
        .filter(|step| step.outcome == Outcome::Limited)
        .map(|step| format!("{}: {}", step.name, step.detail))
        .collect();
    let attempts = report.steps.len();
    if attempts == 0 {
        return (Found::Untested, "nothing was attempted".to_owned());
    }
    match wanted {
        Wanted::Allowed if !breaches.is_empty() => (Found::Allowed, breaches.join("; ")),
        Wanted::Harmless if !done.is_empty() => (Found::Harmless, names(&done)),
        Wanted::None if breaches.is_empty() => (Found::None, format!("{attempts} attempts")),
        Wanted::Limited if breaches.is_empty() && !limited.is_empty() => (Found::Limited, limited.join("; ")),
        _ if !breaches.is_empty() => (Found::Open, breaches.join("; ")),
        _ => (Found::Denied, format!("{attempts} attempts")),
    }
}

fn names(steps: &[&Step]) -> String {
    let names: Vec<&str> = steps.iter().map(|step| step.name.as_str()).collect();
    names.join("; ")
}

/// Everything that was done is told, by the path that the step names.
fn reported(evidence: &Evidence) -> (Found, String) {
    let Some(report) = &evidence.report else {
        return (
            Found::Untested,
            evidence.ended.clone().unwrap_or_else(|| "no report".to_owned()),
        );
    };
    let done: Vec<&Step> = report
        .steps
        .iter()
        .filter(|step| step.outcome == Outcome::Done)
        .collect();
    let told = |step: &&&Step| {
        evidence
            .findings
            .iter()
            .any(|finding| finding.contains(&step.detail))
    };
    let untold: Vec<&str> = done
        .iter()
        .filter(|step| !told(step))
        .map(|step| step.name.as_str())
        .collect();
    if !untold.is_empty() || (done.is_empty() && !evidence.effects.is_empty()) {
        return (
            Found::Open,
            format!(
                "not reported: {}; {}",
                untold.join("; "),
                evidence.effects.join("; ")
            ),
        );
    }
    if done.is_empty() {
        return (Found::Denied, "every attempt failed".to_owned());
    }
    (Found::Reported, evidence.findings.join("; "))
}

fn escaped(findings: &[String]) -> (Found, String) {
    match findings
        .iter()
        .find(|finding| finding.chars().any(char::is_control))
    {
        Some(finding) => (Found::Open, format!("shown as it is: {finding:?}")),
        None if findings.is_empty() => (Found::Untested, "nothing to show".to_owned()),
        None => (Found::Escaped, findings.join("; ")),
    }
}

/// Whether the control showed that the attack works where nothing forbids it, and what it did.
pub(crate) fn control(report: Option<&GuestReport>, effects: &[String]) -> Result<String, String> {
    let Some(report) = report else {
        return Err("the control gave no report".to_owned());
    };
    let done: Vec<&Step> = report
        .steps
        .iter()
        .filter(|step| step.outcome == Outcome::Done)
        .collect();
    if done.is_empty() && effects.is_empty() {
        let tried = report
            .steps
            .iter()
            .take(3)
            .map(|step| format!("{}: {}", step.name, step.detail));
        return Err(format!(
            "nothing worked outside either: {}",
            tried.collect::<Vec<_>>().join("; ")
        ));
    }
    let direct = done.iter().filter(|step| !step.substitute).count();
    Ok(format!(
        "{direct} of {} attempts, {} effects",
        report.steps.len(),
        effects.len()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(outcome: Outcome, needs_effect: bool) -> Step {
        Step {
            name: "try".into(),
            outcome,
            needs_effect,
            substitute: false,
            detail: "d".into(),
        }
    }

    fn evidence(steps: Vec<Step>, effects: &[&str]) -> Evidence {
        Evidence {
            report: Some(GuestReport {
                id: "F01".into(),
                steps,
            }),
            effects: effects.iter().map(|&effect| effect.to_owned()).collect(),
            ..Evidence::default()
        }
    }

    #[test]
    fn an_act_that_works_is_a_breach_and_a_write_only_with_its_effect() {
        let denied = step(Outcome::Denied, false);
        let found = |steps, effects: &[&str]| judge(Wanted::Denied, &evidence(steps, effects)).0;
        assert_eq!(found(vec![denied.clone()], &[]), Found::Denied);
        assert_eq!(
            found(vec![denied.clone(), step(Outcome::Done, false)], &[]),
            Found::Open
        );
        assert_eq!(found(vec![step(Outcome::Done, true)], &[]), Found::Denied);
        assert_eq!(found(vec![step(Outcome::Done, true)], &["a file"]), Found::Open);
        assert_eq!(found(vec![denied], &["a secret came out"]), Found::Open);
    }

    #[test]
    fn what_could_not_be_tried_is_a_difference() {
        for (wanted, evidence) in [
            (Wanted::Denied, Evidence::default()),
            (Wanted::Denied, evidence(vec![], &[])),
            (Wanted::Denied, evidence(vec![step(Outcome::Missing, false)], &[])),
            (Wanted::Reported, Evidence::default()),
            (Wanted::Limited, Evidence::default()),
        ] {
            let (found, _) = judge(wanted, &evidence);
            assert_eq!(found, Found::Untested);
            assert!(!wanted.accepts(found));
        }
    }

    #[test]
    fn a_private_effect_is_harmless_where_that_is_wanted() {
        let done = evidence(vec![step(Outcome::Done, true)], &[]);
        assert_eq!(judge(Wanted::Harmless, &done).0, Found::Harmless);
        let seen = evidence(vec![step(Outcome::Done, true)], &["seen"]);
        assert_eq!(judge(Wanted::Harmless, &seen).0, Found::Open);
    }

    #[test]
    fn limits_are_met_inside_or_by_the_end_of_everything() {
        let limited = evidence(vec![step(Outcome::Limited, false)], &[]);
        assert_eq!(judge(Wanted::Limited, &limited).0, Found::Limited);
        let unlimited = evidence(
            vec![step(Outcome::Limited, false), step(Outcome::Done, false)],
            &[],
        );
        assert_eq!(judge(Wanted::Limited, &unlimited).0, Found::Open);
        let killed = Evidence {
            ended: Some("limits.memory".into()),
            bounded: true,
            ..Evidence::default()
        };
        assert_eq!(judge(Wanted::Limited, &killed).0, Found::Limited);
        assert_eq!(judge(Wanted::Denied, &killed).0, Found::Untested);
    }

    #[test]
    fn what_is_left_behind_must_be_reported() {
        let mut left = evidence(vec![step(Outcome::Done, true)], &[]);
        assert_eq!(judge(Wanted::Reported, &left).0, Found::Open);
        left.findings = vec!["other: is a repository".into()];
        assert_eq!(judge(Wanted::Reported, &left).0, Found::Open);
        left.findings = vec!["d: is a repository".into()];
        assert_eq!(judge(Wanted::DeniedOrReported, &left).0, Found::Reported);
        assert_eq!(judge(Wanted::Escaped, &left).0, Found::Escaped);
        left.findings = vec!["a\u{1b}]0;".into()];
        assert_eq!(judge(Wanted::Escaped, &left).0, Found::Open);
    }

    #[test]
    fn a_control_in_which_nothing_works_fails() {
        let none = evidence(vec![step(Outcome::Denied, false)], &[]);
        assert!(control(none.report.as_ref(), &[]).is_err());
        assert!(control(None, &[]).is_err());
        assert!(control(none.report.as_ref(), &["seen".into()]).is_ok());
        let mut stand_in = step(Outcome::Done, false);
        stand_in.substitute = true;
        let report = evidence(vec![stand_in], &[]);
        assert!(control(report.report.as_ref(), &[]).is_ok());
        // Inside, a stand-in is no breach.
        assert_eq!(judge(Wanted::Denied, &report).0, Found::Denied);
    }
}
