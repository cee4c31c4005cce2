//! What a run of the suite found, for people and for programs.

use crate::table;
use crate::terminal::{one_line, println};
use lodge_proto::input::PermissionChoice;
use lodge_proto::session::{Capabilities, Tier};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What became of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    Ok,
    /// The session's capabilities say that it cannot.
    Unsupported,
    Failed,
}

/// A case that was run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CaseReport {
    pub(super) case: String,
    pub(super) result: Outcome,
    /// Why it failed, or what is worth to be known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) detail: String,
    pub(super) duration_ms: u64,
}

/// What was seen of a harness. `None`: no case looked at it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Observed {
    /// As the session advertised it.
    pub(super) capabilities: Option<Capabilities>,
    /// Output of a command is shown while it runs.
    pub(super) live_tool_output: Option<bool>,
    /// Output of a command is shown at all.
    pub(super) tool_output: Option<bool>,
    pub(super) thinking: Option<bool>,
    /// Tokens of a turn are told.
    pub(super) usage: Option<bool>,
    /// Tokens of the context are told.
    pub(super) context_size: Option<bool>,
    /// Retries of model calls are told.
    pub(super) retries: Option<bool>,
    /// The conversation goes on after the harness was killed.
    pub(super) resumed: Option<bool>,
    pub(super) steered: Option<bool>,
    pub(super) images: Option<bool>,
    pub(super) plan: Option<bool>,
    /// What may be answered to the question whether a tool may run.
    pub(super) permission_choices: Option<Vec<PermissionChoice>>,
}

impl Observed {
    /// Adds what another lane saw.
    pub(super) fn merge(&mut self, other: Self) {
        self.capabilities = self.capabilities.take().or(other.capabilities);
        self.live_tool_output = self.live_tool_output.or(other.live_tool_output);
        self.tool_output = self.tool_output.or(other.tool_output);
        self.thinking = self.thinking.or(other.thinking);
        self.usage = self.usage.or(other.usage);
        self.context_size = self.context_size.or(other.context_size);
        self.retries = self.retries.or(other.retries);
        self.resumed = self.resumed.or(other.resumed);
        self.steered = self.steered.or(other.steered);
        self.images = self.images.or(other.images);
        self.plan = self.plan.or(other.plan);
        self.permission_choices = self.permission_choices.take().or(other.permission_choices);
    }
}

/// A run of the suite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) harness: String,
    pub(super) title: String,
    pub(super) version: String,
    pub(super) tier: Tier,
    pub(super) cases: Vec<CaseReport>,
    pub(super) observed: Observed,
    pub(super) duration_ms: u64,
}

impl Report {
    pub(super) fn failed(&self) -> usize {
        let failed = |case: &&CaseReport| case.result == Outcome::Failed;
        self.cases.iter().filter(failed).count()
    }

    /// A table, then each failure in full, then one line that counts.
    pub(super) fn print(&self) {
        let rows: Vec<_> = self
            .cases
            .iter()
            .map(|case| {
                let result = match case.result {
                    Outcome::Ok => "ok",
                    Outcome::Unsupported => "unsupported",
                    Outcome::Failed => "FAILED",
                };
                let seconds = Duration::from_millis(case.duration_ms).as_secs_f64();
                [
                    case.case.clone(),
                    result.to_owned(),
                    format!("{seconds:.1} s"),
                    case.detail.clone(),
                ]
            })
            .collect();
        table::print(["CASE", "RESULT", "TIME", ""], &rows);
        for case in self.cases.iter().filter(|case| case.result == Outcome::Failed) {
            println(&format!(
                "FAILED {}: {}",
                case.case,
                one_line(&case.detail, 2_000)
            ));
        }
        let failed = self.failed();
        let tier = match self.tier {
            Tier::Process => "",
            Tier::Container => " in a container",
            Tier::Microvm => " in a microVM",
        };
        println(&format!(
            "harness {}{tier}: {} as wanted, {failed} different",
            self.harness,
            self.cases.len() - failed
        ));
    }
}
