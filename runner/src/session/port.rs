//! Who writes the session's journal: its shim, or, when none lives, the runner itself.

use super::journal::{self, Own};
use super::link::Link;
use crate::fold::Record;
use lodge_shim::journal::{Ids, JournalError, Reader, Writer, now_ms};
use std::path::{Path, PathBuf};

/// The journal's name in a session's directory.
pub use lodge_shim::wire::JOURNAL_NAME;

/// The journal, taken by the runner.
#[derive(Debug)]
pub struct Local {
    dir: PathBuf,
    writer: Writer,
    ids: Ids,
}

impl Local {
    /// Takes the journal of a session whose shim is gone.
    pub fn open(session_dir: &Path) -> Result<Self, JournalError> {
        let dir = session_dir.join(JOURNAL_NAME);
        let (writer, _) = Writer::open(&dir)?;
        let ids = Ids::load(&dir)?;
        Ok(Self { dir, writer, ids })
    }

    /// All records from `from_seq` on.
    pub fn read(&self, from_seq: u64) -> Result<Vec<Record>, JournalError> {
        let mut reader = Reader::from_seq(&self.dir, from_seq)?;
        let mut records = Vec::new();
        while let Some(record) = reader.next()? {
            records.push(journal::read(&record));
        }
        Ok(records)
    }

    /// Number of the oldest record that is still there.
    pub fn oldest(&self) -> Result<u64, JournalError> {
        Ok(Reader::oldest(&self.dir)?.next_seq())
    }

    /// Number of the last record.
    pub fn head(&self) -> u64 {
        self.writer.head_seq()
    }

    /// Appends a record; `None` where its id is known. What is not to be lost is synced before it counts.
    pub fn append(&mut self, own: &Own) -> Result<Option<Record>, JournalError> {
        if self.ids.contains(&own.id) {
            return Ok(None);
        }
        let time_ms = now_ms();
        let position = self.writer.stage(own.kind, 0, &[&own.id, &own.body], time_ms)?;
        self.writer.commit()?;
        if own.sync {
            self.writer.sync()?;
        }
        self.ids.insert(own.id, position.seq);
        let mut raw = Vec::new();
        lodge_shim::journal::encode_into(
            &mut raw,
            position.seq,
            time_ms,
            own.kind,
            0,
            &[&own.id, &own.body],
        );
        Ok(lodge_shim::journal::Record::decode(&raw)
            .ok()
            .map(|record| journal::read(&record)))
    }

    /// Deletes segments whose records are all before `before_seq`.
    pub fn prune(&mut self, before_seq: u64) {
        if let Err(error) = self.writer.prune(before_seq) {
            tracing::warn!(%error, "pruning a journal");
        }
    }
}

/// How the session reaches its journal.
#[derive(Debug)]
pub enum Port {
    /// Not at all yet, or a shim is being started.
    Detached,
    Local(Box<Local>),
    Shim(Link),
}
