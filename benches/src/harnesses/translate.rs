//! How fast recordings become events, beside the parsing of their lines as JSON and nothing more.

use super::Sizes;
use anyhow::{Context, ensure};
use lodge_runner::translate::Recording;
use std::hint::black_box;
use std::io::Cursor;
use std::path::Path;
use std::time::{Duration, Instant};

/// One adapter.
#[derive(Debug)]
pub(crate) struct Translated {
    /// Lines that the harness wrote, and their bytes, in one repetition.
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    pub(crate) events: u64,
    pub(crate) folding: Duration,
    /// The same lines through `serde_json` into values.
    pub(crate) parsing: Duration,
}

/// Folds every recording of an adapter, again and again until it is enough.
pub(super) fn measure(recordings: &Path, adapter: &str, sizes: &Sizes) -> anyhow::Result<Translated> {
    let all = read(&recordings.join(adapter), adapter)?;
    let lines = || all.iter().flat_map(Recording::lines);
    let once: usize = lines().map(<[u8]>::len).sum();
    ensure!(once > 0, "the recordings are empty");
    let rounds = sizes.bytes.div_ceil(once);
    let mut best: Option<Translated> = None;
    for _ in 0..sizes.repeats {
        let mut events = 0;
        let mut folding = Duration::ZERO;
        let mut parsing = Duration::ZERO;
        // In turns, so that a noisy moment hits both.
        for _ in 0..rounds {
            // What a fold takes apart is copied before the clock runs.
            let copies = all.clone();
            let begun = Instant::now();
            for recording in copies {
                recording.fold(|event| {
                    black_box(event);
                    events += 1;
                })?;
            }
            folding += begun.elapsed();
            let begun = Instant::now();
            for line in lines() {
                let _ = black_box(serde_json::from_slice::<serde_json::Value>(line));
            }
            parsing += begun.elapsed();
        }
        let found = Translated {
            records: (lines().count() * rounds) as u64,
            bytes: (once * rounds) as u64,
            events,
            folding,
            parsing,
        };
        if best.as_ref().is_none_or(|best| found.folding < best.folding) {
            best = Some(found);
        }
    }
    best.context("nothing was repeated")
}

fn read(folder: &Path, adapter: &str) -> anyhow::Result<Vec<Recording>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("recordings in {}", folder.display()))?;
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    paths.sort();
    let read = |path: &std::path::PathBuf| -> anyhow::Result<Recording> {
        let text = std::fs::read(path)?;
        Recording::read(adapter, Cursor::new(text)).with_context(|| path.display().to_string())
    };
    paths.iter().map(read).collect()
}
