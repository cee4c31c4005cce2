//! Records of the shim's journal and of the fold: the same thing in two forms.

use crate::fold::{Exit, JournalCommand, Limit, Note, Record, RecordBody, Timer};
use lodge_shim::journal::{self, Kind};
use serde::Serialize;

/// A record of the runner's own, ready to be appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    pub kind: Kind,
    /// Names the record, so that a repetition is dropped.
    pub id: [u8; 16],
    pub body: Vec<u8>,
    /// Wait until it survives a loss of power.
    pub sync: bool,
}

impl Own {
    fn new(kind: Kind, id: [u8; 16], body: &impl Serialize, sync: bool) -> Self {
        // The types are ours and serialise always; an empty body would be read as unknown, never as another one.
        Self {
            kind,
            id,
            body: serde_json::to_vec(body).unwrap_or_default(),
            sync,
        }
    }

    /// A command. Its id comes from its client id: the same command is appended once.
    pub fn command(command: &JournalCommand) -> Self {
        let id = hash(&[
            b"cmd",
            command.sender.account.as_bytes(),
            command.client_id.as_bytes(),
        ]);
        Self::new(Kind::Cmd, id, command, true)
    }

    /// Account and client id of a command that makes sense only with a harness.
    pub(super) fn command_for_harness(&self) -> Option<(String, String)> {
        if self.kind != Kind::Cmd {
            return None;
        }
        let command: JournalCommand = serde_json::from_slice(&self.body).ok()?;
        super::requests::needs_harness(&command.body).then_some((command.sender.account, command.client_id))
    }

    /// A timer that fired. `at` tells two settings of one timer apart.
    pub fn timer(timer: Timer, at: u64) -> Self {
        let text = serde_json::to_vec(&timer).unwrap_or_default();
        Self::new(
            Kind::Timer,
            hash(&[b"timer", &text, &at.to_le_bytes()]),
            &timer,
            false,
        )
    }

    /// A note that is true once, whoever writes it how often.
    pub fn note_once(note: &Note, key: &str) -> Self {
        Self::new(Kind::Note, hash(&[b"note", key.as_bytes()]), note, true)
    }

    /// A note.
    pub fn note(note: &Note) -> Self {
        Self::new(Kind::Note, *uuid::Uuid::now_v7().as_bytes(), note, false)
    }

    /// The closing record of a generation whose shim is gone.
    pub fn closed(reason: &str) -> Self {
        Self::new(Kind::Closed, *uuid::Uuid::now_v7().as_bytes(), &reason, true)
    }
}

fn hash(parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let mut id = [0; 16];
    id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    id
}

/// Reads a record of the journal. What cannot be read is carried as unknown, so that numbers stay gap-free.
pub fn read(record: &journal::Record<'_>) -> Record {
    Record {
        seq: record.seq,
        time_ms: record.time_ms,
        body: body(record).unwrap_or(RecordBody::Unknown(record.kind.into())),
    }
}

fn body(record: &journal::Record<'_>) -> Option<RecordBody> {
    let own = || record.split_id().map(|(_, body)| body);
    Some(match record.kind {
        Kind::Generation => RecordBody::Generation {
            generation: record.json::<journal::Generation>().ok()?.generation,
        },
        Kind::Started => RecordBody::Started,
        Kind::StartFailed => RecordBody::StartFailed {
            message: record.json::<journal::StartFailed>().ok()?.error,
        },
        Kind::Out => RecordBody::Out(record.body.to_vec()),
        Kind::Err => RecordBody::Err(record.body.to_vec()),
        Kind::Oversize => {
            let oversize = record.json::<journal::Oversize>().ok()?;
            RecordBody::Oversize {
                stream: oversize.stream,
                length: oversize.length,
            }
        }
        Kind::InBegin => {
            let (id, bytes) = record.split_id()?;
            RecordBody::InBegin {
                id,
                bytes: bytes.to_vec(),
            }
        }
        Kind::InDone => RecordBody::InDone {
            id: record.split_id()?.0,
        },
        Kind::Exit => {
            let exit = record.json::<journal::Exit>().ok()?;
            RecordBody::Exit(Exit {
                code: exit.code,
                signal: exit.signal,
                reason: exit.reason,
            })
        }
        Kind::Limit => {
            let journal::Limit { key, allowed, found } = record.json().ok()?;
            RecordBody::Limit(Limit { key, allowed, found })
        }
        Kind::Closed => RecordBody::Closed {
            reason: serde_json::from_slice(own()?).ok()?,
        },
        Kind::Cmd => RecordBody::Cmd(Box::new(serde_json::from_slice::<JournalCommand>(own()?).ok()?)),
        Kind::Timer => RecordBody::Timer(serde_json::from_slice(own()?).ok()?),
        Kind::Note => RecordBody::Note(Box::new(serde_json::from_slice(own()?).ok()?)),
        Kind::Unknown(kind) => RecordBody::Unknown(kind),
    })
}
