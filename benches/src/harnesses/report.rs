//! The table.

use super::latency::Latency;
use super::translate::Translated;
use super::weight::Weight;
use super::{Measured, Sizes};
use crate::proc;
use crate::report::{a_second, as_f64, count, kib, nanos, today};
use std::fmt::Write as _;
use std::time::Duration;

/// All that was measured, in the order of the table.
#[derive(Debug)]
pub(super) struct Report {
    quick: bool,
    sizes: Sizes,
    load_before: String,
    pub(super) translated: Vec<(String, Measured<Translated>)>,
    pub(super) weights: Vec<(String, Measured<Weight>)>,
    pub(super) latencies: Vec<(String, Measured<Latency>)>,
    pub(super) versions: Vec<(String, String)>,
    pub(super) took: Duration,
}

impl Report {
    pub(super) fn new(quick: bool, sizes: Sizes, load_before: String) -> Self {
        Self {
            quick,
            sizes,
            load_before,
            translated: Vec::new(),
            weights: Vec::new(),
            latencies: Vec::new(),
            versions: Vec::new(),
            took: Duration::ZERO,
        }
    }

    /// The whole file.
    pub(super) fn markdown(&self) -> String {
        let mut out = String::from("# Harnesses: translation, memory, first delta\n\n");
        let flag = if self.quick { " --quick" } else { "" };
        let profile = if cfg!(debug_assertions) {
            ", **without optimisation**: the times of Lodge are no true ones"
        } else {
            ""
        };
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(
            out,
            "Made by `benches/harnesses{flag}` in one run of {} s, {}{profile}. All figures are from that run.\n",
            self.took.as_secs(),
            today()
        );
        let _ = writeln!(out, "- Machine: {}", proc::machine());
        let _ = writeln!(
            out,
            "- Load average before and after: {}; {}",
            self.load_before,
            proc::load()
        );
        let versions: Vec<String> = self
            .versions
            .iter()
            .map(|(name, version)| format!("{name} {version}"))
            .collect();
        let _ = writeln!(out, "- Harnesses: {}\n", versions.join(", "));
        self.translation(&mut out);
        self.memory(&mut out);
        self.first_delta(&mut out);
        out.push_str(include_str!("METHOD.md"));
        out
    }

    fn translation(&self, out: &mut String) {
        out.push_str("## Translation of recordings\n\n");
        out.push_str(
            "| adapter | records/s | MB/s | a record | events out | of parsing alone (MB/s) |\n|---|---|---|---|---|---|\n",
        );
        for (name, found) in &self.translated {
            let Some(found) = cells(out, name, found, 5) else {
                continue;
            };
            let ratio = found.folding.as_secs_f64() / found.parsing.as_secs_f64().max(f64::EPSILON);
            let _ = writeln!(
                out,
                "| {name} | {} | {:.1} | {} | {} for {} records | {ratio:.2} × its time ({:.1}) |",
                count(a_second(found.records, found.folding)),
                megabytes(found.bytes, found.folding),
                nanos(crate::report::per(found.folding, found.records)),
                count(found.events),
                count(found.records),
                megabytes(found.bytes, found.parsing),
            );
        }
        out.push('\n');
    }

    fn memory(&self, out: &mut String) {
        let _ = writeln!(
            out,
            "## Memory of an idle session\n\nProportional set size, mean of {} sessions after a first one.\n",
            self.sizes.sessions
        );
        out.push_str("| harness | runner grows by | shim | bwrap and guest init | Lodge together | the harness itself |\n");
        out.push_str("|---|---|---|---|---|---|\n");
        for (name, found) in &self.weights {
            let Some(found) = cells(out, name, found, 5) else {
                continue;
            };
            let _ = writeln!(
                out,
                "| {name} | {} | {} | {} | {} | {} |",
                kib(found.runner),
                kib(found.shim),
                kib(found.init),
                kib(found.runner + found.shim + found.init),
                kib(found.harness),
            );
        }
        out.push('\n');
    }

    fn first_delta(&self, out: &mut String) {
        out.push_str("## From the prompt to the first delta\n\n");
        out.push_str("| harness | turns | through Lodge: p50 / p95 | alone: p50 / p95 | Lodge adds at p50 | ratio at p50 / p95 |\n");
        out.push_str("|---|---|---|---|---|---|\n");
        for (name, found) in &self.latencies {
            let Some(found) = cells(out, name, found, 5) else {
                continue;
            };
            let at = |share: f64| {
                (
                    Latency::percentile(&found.lodge, share).unwrap_or(0),
                    Latency::percentile(&found.bare, share).unwrap_or(0),
                )
            };
            let ((lodge50, bare50), (lodge95, bare95)) = (at(0.5), at(0.95));
            let added = match lodge50.checked_sub(bare50) {
                Some(added) => nanos(Some(added)),
                None => format!("−{}", nanos(Some(bare50 - lodge50))),
            };
            let _ = writeln!(
                out,
                "| {name} | {} | {} / {} | {} / {} | {added} | {:.2} / {:.2} |",
                found.lodge.len(),
                nanos(Some(lodge50)),
                nanos(Some(lodge95)),
                nanos(Some(bare50)),
                nanos(Some(bare95)),
                as_f64(lodge50) / as_f64(bare50.max(1)),
                as_f64(lodge95) / as_f64(bare95.max(1)),
            );
        }
        out.push('\n');
    }
}

/// What was measured; a line that says why it was not.
fn cells<'a, T>(out: &mut String, name: &str, found: &'a Measured<T>, columns: usize) -> Option<&'a T> {
    match found {
        Ok(found) => Some(found),
        Err(why) => {
            let _ = writeln!(
                out,
                "| {name} | not measured: {why} |{}",
                " |".repeat(columns - 1)
            );
            None
        }
    }
}

fn megabytes(bytes: u64, time: Duration) -> f64 {
    as_f64(bytes) / 1e6 / time.as_secs_f64().max(f64::EPSILON)
}
