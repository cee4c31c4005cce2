//! Which inputs and appended records a journal already holds.

use std::collections::HashMap;
use std::path::Path;

use super::{Generation, Id, JournalError, Kind, Reader, Record};

/// The ids of a journal: what makes a repeated input or append harmless, also for a later shim.
///
/// It covers the retained segments: pruning a record forgets its id.
#[derive(Debug, Default)]
pub struct Ids {
    seqs: HashMap<Id, u64>,
    /// Highest generation found.
    generation: u64,
}

impl Ids {
    /// Reads the whole retained journal.
    pub fn load(dir: &Path) -> Result<Self, JournalError> {
        let mut ids = Self::default();
        let mut reader = Reader::oldest(dir)?;
        while let Some(record) = reader.next()? {
            ids.note(&record);
        }
        Ok(ids)
    }

    fn note(&mut self, record: &Record<'_>) {
        match record.kind {
            Kind::InDone => {}
            Kind::Generation => {
                let generation = record.json::<Generation>().map_or(0, |body| body.generation);
                self.generation = self.generation.max(generation);
            }
            _ => {
                if let Some((id, _)) = record.split_id() {
                    self.seqs.insert(id, record.seq);
                }
            }
        }
    }

    /// Highest shim generation whose record is retained, 0 for none.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether an input or append with this id is in the journal.
    pub fn contains(&self, id: &Id) -> bool {
        self.seqs.contains_key(id)
    }

    /// Enters an id; false when it is there already.
    pub fn insert(&mut self, id: Id, seq: u64) -> bool {
        match self.seqs.entry(id) {
            std::collections::hash_map::Entry::Occupied(_) => false,
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(seq);
                true
            }
        }
    }

    /// Forgets the ids of records before `seq`.
    pub fn forget_before(&mut self, seq: u64) {
        self.seqs.retain(|_, at| *at >= seq);
    }
}
