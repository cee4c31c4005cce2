//! Recorded transcripts through an adapter: for debugging, and for tests.

use crate::fold::{Created, Exit, Note, Output, Record, RecordBody, SessionFold};
use crate::harness::AnyAdapter;
use crate::harness::opencode::recorded;
use lodge_proto::session::Tier;
use lodge_proto::{Event, SessionId};
use serde::Deserialize;
use std::io::BufRead;

/// The session id that every translated transcript has.
pub const SESSION: SessionId = SessionId(uuid::Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001));

/// A transcript that could not be translated.
#[derive(Debug, thiserror::Error)]
pub enum TranslateError {
    #[error("no adapter is named `{name}`; there are: {}", AnyAdapter::NAMES.join(", "))]
    UnknownHarness { name: String },
    #[error("reading line {line}")]
    Read { line: u64, source: std::io::Error },
    #[error("line {line} is no record of a transcript")]
    Malformed { line: u64, source: serde_json::Error },
}

/// One line of a transcript.
#[derive(Debug, Deserialize)]
struct Line {
    t: u64,
    dir: Direction,
    #[serde(rename = "line")]
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Direction {
    In,
    Out,
    Err,
    Meta,
    HttpIn,
    HttpOut,
    Sse,
    #[serde(other)]
    Other,
}

/// Folds a transcript (one JSON object a line: `t` in milliseconds, `dir`, `line`) into canonical events.
///
/// `ts` of an event is the `t` of its line. History acknowledges each turn at once. At the end of the transcript
/// the harness is taken to be gone, so that everything that was open is closed.
pub fn transcript(
    harness: &str,
    reader: impl BufRead,
    mut event: impl FnMut(&Event),
) -> Result<(), TranslateError> {
    let mut translation = Translation::new(harness)?;
    let http = is_http(harness);
    read(http, reader, |step| translation.step(step, &mut event))?;
    translation.finish(&mut event);
    Ok(())
}

/// A transcript in memory, as what the harness said and heard, to be folded again and again.
#[derive(Debug, Clone)]
pub struct Recording {
    harness: String,
    steps: Vec<Step>,
}

impl Recording {
    /// Reads a transcript (see [`transcript`]).
    pub fn read(harness: &str, reader: impl BufRead) -> Result<Self, TranslateError> {
        // A name that nobody has is refused before anything is read.
        Translation::new(harness)?;
        let mut steps = Vec::new();
        read(is_http(harness), reader, |step| steps.push(step))?;
        Ok(Self {
            harness: harness.to_owned(),
            steps,
        })
    }

    /// What the harness wrote, line by line.
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.steps
            .iter()
            .filter(|step| step.dir == Direction::Out)
            .map(|step| step.bytes.as_slice())
    }

    /// Folds all of it; it is taken, so that nothing is copied meanwhile. The name of the harness was checked before.
    pub fn fold(self, mut event: impl FnMut(&Event)) -> Result<(), TranslateError> {
        let mut translation = Translation::new(&self.harness)?;
        for step in self.steps {
            translation.step(step, &mut event);
        }
        translation.finish(&mut event);
        Ok(())
    }
}

/// What the fold is told of one line.
#[derive(Debug, Clone)]
struct Step {
    time_ms: u64,
    dir: Direction,
    bytes: Vec<u8>,
}

/// Whether a harness was recorded as an HTTP server, without the bridge.
fn is_http(harness: &str) -> bool {
    matches!(AnyAdapter::new(harness), Some(AnyAdapter::OpenCode(_)))
}

fn read(http: bool, reader: impl BufRead, mut step: impl FnMut(Step)) -> Result<(), TranslateError> {
    for (number, line) in (1u64..).zip(reader.lines()) {
        let line = line.map_err(|source| TranslateError::Read { line: number, source })?;
        if line.trim().is_empty() {
            continue;
        }
        let line: Line = serde_json::from_str(&line)
            .map_err(|source| TranslateError::Malformed { line: number, source })?;
        let time_ms = line.t;
        let (dir, text) = if http {
            bridged(line)
        } else {
            (line.dir, line.text)
        };
        step(Step {
            time_ms,
            dir,
            bytes: text.into_bytes(),
        });
    }
    Ok(())
}

/// HTTP as the bridge would have put it. What the server itself printed goes to standard error there.
fn bridged(line: Line) -> (Direction, String) {
    let Line { dir, text, .. } = line;
    let bridged = match dir {
        Direction::In | Direction::HttpIn => return (Direction::In, recorded::request(&text)),
        Direction::Out | Direction::HttpOut => recorded::response(&text),
        Direction::Sse => recorded::event(&text),
        other => return (other, text),
    };
    match bridged {
        Some(line) => (Direction::Out, line),
        None if text.contains("server listening on") => (Direction::Other, text),
        None => (Direction::Err, text),
    }
}

/// A translation under way.
struct Translation {
    fold: SessionFold,
    out: Output,
    seq: u64,
    time_ms: u64,
}

impl Translation {
    fn new(harness: &str) -> Result<Self, TranslateError> {
        let adapter = AnyAdapter::new(harness).ok_or_else(|| TranslateError::UnknownHarness {
            name: harness.to_owned(),
        })?;
        let mut fold = SessionFold::new(SESSION, adapter);
        fold.read_transcript();
        let mut translation = Self {
            fold,
            out: Output::new(),
            seq: 0,
            time_ms: 0,
        };
        let created = Created {
            session: SESSION,
            harness: harness.to_owned(),
            workspace: "/workspace".to_owned(),
            title: None,
            model: None,
            thinking_level: None,
            tier: Tier::Process,
            profile: None,
            wish: crate::fold::Wish::default(),
            fork: None,
        };
        translation.apply(RecordBody::Note(Box::new(Note::Created(Box::new(created)))));
        translation.apply(RecordBody::Generation { generation: 1 });
        translation.apply(RecordBody::Started);
        Ok(translation)
    }

    fn step(&mut self, step: Step, event: &mut impl FnMut(&Event)) {
        self.time_ms = self.time_ms.max(step.time_ms);
        let Step { dir, bytes, .. } = step;
        match dir {
            Direction::In => {
                let id = u128::from(self.seq).to_le_bytes();
                self.apply(RecordBody::InBegin { id, bytes });
            }
            Direction::Out => self.apply(RecordBody::Out(bytes)),
            Direction::Err => self.apply(RecordBody::Err(bytes)),
            Direction::Meta | Direction::HttpIn | Direction::HttpOut | Direction::Sse | Direction::Other => {}
        }
        self.flush(event);
    }

    fn finish(&mut self, event: &mut impl FnMut(&Event)) {
        self.apply(RecordBody::Exit(Exit {
            code: None,
            signal: None,
            reason: Some("end of the transcript".into()),
        }));
        self.flush(event);
    }

    fn apply(&mut self, body: RecordBody) {
        self.seq += 1;
        let record = Record {
            seq: self.seq,
            time_ms: self.time_ms,
            body,
        };
        self.fold.apply(&record, &mut self.out);
        if let Some(turn) = self.fold.wants().persist.map(|record| record.id) {
            let message_version = self.fold.info().message_count;
            self.apply(RecordBody::Note(Box::new(Note::HistoryAck {
                turn,
                message_version,
            })));
        }
    }

    fn flush(&mut self, event: &mut impl FnMut(&Event)) {
        self.out.events.iter().for_each(event);
        self.out.clear();
    }
}
