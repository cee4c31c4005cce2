//! What a check found, for a person and for a program.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::judge::Found;
use crate::table::Wanted;

/// One probe's result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    pub id: String,
    pub title: String,
    pub wanted: Wanted,
    pub found: Found,
    /// Whether the same act works where nothing forbids it, and how that was seen; or why not.
    pub control: Control,
    /// Found as wanted, and the control worked.
    pub ok: bool,
    /// Escaped: nothing in it steers a terminal.
    pub detail: String,
}

/// Result of a positive control.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", content = "detail", rename_all = "snake_case")]
pub enum Control {
    Works(String),
    Fails(String),
    /// The probe is about nothing that could be done elsewhere.
    NotNeeded,
}

impl Control {
    pub fn is_good(&self) -> bool {
        !matches!(self, Self::Fails(_))
    }
}

impl From<Result<String, String>> for Control {
    fn from(result: Result<String, String>) -> Self {
        match result {
            Ok(detail) => Self::Works(shown(&detail)),
            Err(detail) => Self::Fails(shown(&detail)),
        }
    }
}

/// Characters of a detail that are kept.
const DETAIL: usize = 400;

/// Text of a guest as a person may see it: escaped and cut.
pub(crate) fn shown(text: &str) -> String {
    let cut: String = text.chars().take(DETAIL).collect();
    lodge_sandbox::findings::shown(std::path::Path::new(&cut))
}

/// All rows of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub tier: String,
    pub profile: String,
    /// Number of the user who ran it.
    pub uid: u32,
    pub rows: Vec<Row>,
}

impl Report {
    /// Rows that are not as wanted.
    pub fn differences(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| !row.ok)
    }

    /// A line for each probe, a sum at the end.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for row in &self.rows {
            let mark = if row.ok { "ok  " } else { "DIFF" };
            let _ = writeln!(
                out,
                "{mark} {}  {:<18} {:<9} {}",
                row.id, row.wanted, row.found, row.title
            );
            if !row.ok {
                let _ = writeln!(out, "           found: {}", row.detail);
                if let Control::Fails(why) = &row.control {
                    let _ = writeln!(out, "           control: {why}");
                }
            }
        }
        let differences = self.differences().count();
        let _ = writeln!(
            out,
            "{} probes in the {} tier with profile {}: {} as wanted, {differences} different",
            self.rows.len(),
            self.tier,
            self.profile,
            self.rows.len() - differences
        );
        out
    }
}
