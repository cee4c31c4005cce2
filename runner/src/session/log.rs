//! A session's recent events, encoded once for every reader.

use bytes::Bytes;
use lodge_proto::frame::{self, Header, Kind};
use lodge_proto::{Cursor, Event};
use std::collections::VecDeque;

/// Bytes kept at most; older events give way to a snapshot.
const MAX_BYTES: usize = 32 * 1024 * 1024;

/// One event as the browser will get it.
#[derive(Debug, Clone)]
struct Entry {
    seq: u64,
    json: Bytes,
}

/// Events of one session from some number on, without gap.
#[derive(Debug)]
pub struct EventLog {
    epoch: u32,
    /// Events up to this number are not here.
    floor: u64,
    entries: VecDeque<Entry>,
    bytes: usize,
}

/// What a cursor finds.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// Everything after it is here.
    All,
    /// It lies before what is kept, or there is none.
    TooOld,
    /// It is of another epoch, or ahead of the log.
    Foreign(&'static str),
}

impl EventLog {
    /// An empty log behind event `floor`.
    pub fn new(epoch: u32, floor: u64) -> Self {
        Self {
            epoch,
            floor,
            entries: VecDeque::new(),
            bytes: 0,
        }
    }

    /// The log's epoch.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Number of the last event.
    pub fn head(&self) -> u64 {
        self.entries.back().map_or(self.floor, |entry| entry.seq)
    }

    /// Appends the next event and its frame for live readers.
    pub fn append(&mut self, event: &Event, handle: u64, live: &mut Vec<u8>) {
        let Ok(json) = serde_json::to_vec(event) else {
            return;
        };
        let header = self.header(event.seq, handle);
        if frame::encode(&header, &json, live).is_err() {
            tracing::error!(
                seq = event.seq,
                "an event is over the frame limit and reaches clients by snapshot only"
            );
        }
        self.bytes += json.len();
        self.entries.push_back(Entry {
            seq: event.seq,
            json: Bytes::from(json),
        });
        while self.bytes > MAX_BYTES {
            let Some(oldest) = self.entries.pop_front() else {
                break;
            };
            self.bytes -= oldest.json.len();
            self.floor = oldest.seq;
        }
    }

    fn header(&self, seq: u64, handle: u64) -> Header {
        Header {
            seq,
            epoch: self.epoch,
            ..Header::new(Kind::Event).session(handle)
        }
    }

    /// Forgets events up to `seq`.
    pub fn forget(&mut self, seq: u64) {
        while let Some(oldest) = self.entries.front().filter(|entry| entry.seq <= seq) {
            self.bytes -= oldest.json.len();
            self.floor = oldest.seq;
            self.entries.pop_front();
        }
    }

    /// What a client's cursor finds.
    pub fn find(&self, cursor: Option<Cursor>) -> Found {
        match cursor {
            None => Found::TooOld,
            Some(cursor) if cursor.epoch != self.epoch => Found::Foreign("the numbers began anew"),
            Some(cursor) if cursor.seq > self.head() => {
                Found::Foreign("the cursor lies ahead of the session")
            }
            Some(cursor) if cursor.seq < self.floor => Found::TooOld,
            Some(_) => Found::All,
        }
    }

    /// Frames of all events after `seq`, for one client.
    pub fn replay(&self, seq: u64, handle: u64, channel: u32, out: &mut Vec<u8>) {
        let from = self.entries.partition_point(|entry| entry.seq <= seq);
        for entry in self.entries.iter().skip(from) {
            let header = self.header(entry.seq, handle).channel(channel);
            // Over the limit only where `append` refused it too.
            let _ = frame::encode(&header, &entry.json, out);
        }
    }
}
