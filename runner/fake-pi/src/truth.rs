//! The truth file: what was really received and said, one JSON object a line.
//!
//! `{"kind":"start"|"prompt"|"steer"|"follow_up"|"said"|"failed", "text":…}`. A line is one write in append mode, made
//! before anything is answered: it outlives a kill at any moment.

use serde_json::json;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;

#[derive(Debug)]
pub(crate) struct Truth(File);

impl Truth {
    pub(crate) fn open() -> std::io::Result<Self> {
        let path =
            std::env::var_os("FAKE_PI_TRUTH").map_or_else(|| home().join("truth.jsonl"), PathBuf::from);
        OpenOptions::new().create(true).append(true).open(path).map(Self)
    }

    pub(crate) fn note(&mut self, kind: &str, text: &str) -> std::io::Result<()> {
        let mut line = json!({ "kind": kind, "text": text }).to_string();
        line.push('\n');
        self.0.write_all(line.as_bytes())
    }
}

pub(crate) fn home() -> PathBuf {
    std::env::var_os("HOME").map_or_else(|| PathBuf::from("."), PathBuf::from)
}
