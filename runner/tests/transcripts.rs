//! Every recorded transcript of a real harness, folded: the events as snapshots, the invariants checked.

#![allow(clippy::unwrap_used)] // A test that panics has failed.

use lodge_proto::Event;
use lodge_proto::invariants::Checker;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn fixtures(harness: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(harness);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no fixtures in {}", folder.display());
    files
}

fn fold(harness: &str, transcript: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    lodge_runner::translate::transcript(harness, transcript, |event| events.push(event.clone())).unwrap();
    events
}

fn check(name: &str, events: &[Event]) {
    let mut checker = Checker::new();
    for event in events {
        if let Err(violation) = checker.event(event) {
            panic!("{name}: {violation}\n{event:#?}");
        }
    }
    checker
        .finish()
        .unwrap_or_else(|violation| panic!("{name}: {violation}"));
}

/// One line an event, deltas of one part joined, so that a snapshot can be read.
fn digest(events: &[Event]) -> String {
    let mut out = String::new();
    let mut run: Option<(String, usize, usize)> = None;
    let flush = |run: &mut Option<(String, usize, usize)>, out: &mut String| {
        if let Some((tag, count, bytes)) = run.take() {
            let _ = writeln!(out, "{tag} ×{count}, {bytes} bytes");
        }
    };
    for event in events {
        let value = serde_json::to_value(event).unwrap();
        let tag = event.body.tag().to_owned();
        if let Some(delta) = value.get("delta").and_then(serde_json::Value::as_str) {
            match &mut run {
                Some((open, count, bytes)) if *open == tag => {
                    *count += 1;
                    *bytes += delta.len();
                }
                _ => {
                    flush(&mut run, &mut out);
                    run = Some((tag, 1, delta.len()));
                }
            }
            continue;
        }
        flush(&mut run, &mut out);
        let mut fields = value.as_object().unwrap().clone();
        for field in ["session_id", "seq", "ts", "event", "turn_id"] {
            fields.remove(field);
        }
        let mut line = serde_json::Value::Object(fields).to_string();
        if line.chars().count() > 400 {
            line = line.chars().take(400).collect::<String>() + "…";
        }
        let _ = writeln!(out, "{tag} {line}");
    }
    flush(&mut run, &mut out);
    out
}

fn fold_to_snapshots(harness: &str) {
    for path in fixtures(harness) {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let events = fold(harness, &std::fs::read(&path).unwrap());
        check(&name, &events);
        insta::assert_snapshot!(name, digest(&events));
    }
}

fn fold_twice(harness: &str) {
    for path in fixtures(harness) {
        let transcript = std::fs::read(&path).unwrap();
        assert_eq!(
            fold(harness, &transcript),
            fold(harness, &transcript),
            "{}",
            path.display()
        );
    }
}

/// The tests of one harness, by the name of its folder.
macro_rules! harness {
    ($name:ident) => {
        mod $name {
            #[test]
            fn transcripts_fold_to_their_snapshots() {
                super::fold_to_snapshots(stringify!($name));
            }

            #[test]
            fn folding_twice_gives_the_same_events() {
                super::fold_twice(stringify!($name));
            }

            #[test]
            fn damaged_transcripts_keep_the_invariants() {
                super::fold_damaged(stringify!($name));
            }
        }
    };
}

harness!(pi);
harness!(codex);
harness!(claude);
harness!(opencode);
harness!(acp);

/// A small generator, so that a failure can be repeated from its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }
}

fn fold_damaged(harness: &str) {
    for path in fixtures(harness) {
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for seed in 1..=40u64 {
            let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            let mut damaged: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
            for _ in 0..=damaged.len() / 10 {
                let at = random.below(damaged.len());
                let other = random.below(damaged.len());
                match random.below(4) {
                    0 if damaged.len() > 1 => drop(damaged.remove(at)),
                    1 => damaged.insert(at, damaged[at].clone()),
                    2 => damaged.swap(at, other),
                    _ => cut(&mut damaged[at]),
                }
            }
            let events = fold(harness, damaged.join("\n").as_bytes());
            check(&format!("{} with seed {seed}", path.display()), &events);
        }
    }
}

/// Cuts the harness's line in half; the transcript's own line stays whole.
fn cut(line: &mut String) {
    let mut record: serde_json::Value = serde_json::from_str(line).unwrap();
    let inner = record["line"].as_str().unwrap();
    let half: String = inner.chars().take(inner.chars().count() / 2).collect();
    record["line"] = half.into();
    *line = record.to_string();
}
