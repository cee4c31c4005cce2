//! The live events of one session: a bounded tail shared by all its viewers, each of whom has only a position in it.

use bytes::Bytes;
use lodge_proto::SessionId;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

/// Bytes of a session's tail.
pub(crate) const TAIL_BYTES: usize = 8 * 1024 * 1024;
/// A viewer this many bytes behind takes a snapshot instead.
pub(crate) const LAG_BYTES: u64 = 2 * 1000 * 1000;
/// A viewer this far behind takes a snapshot instead.
pub(crate) const LAG_TIME: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Entry {
    text: Bytes,
    /// Bytes of the tail before this entry, counted from the beginning of the connection.
    offset: u64,
    at: Instant,
}

/// What a viewer finds at its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lag {
    None,
    /// Too far behind: it has to take a snapshot.
    TooFar,
}

/// One session of a runner connection.
#[derive(Debug)]
pub(crate) struct Group {
    /// The handle clients see.
    pub(crate) handle: u64,
    /// Known from the first join on.
    pub(crate) session_id: Option<SessionId>,
    tail: VecDeque<Entry>,
    /// Number of the first entry in `tail`.
    first: u64,
    /// Bytes ever appended.
    end_offset: u64,
    /// Viewers by channel, with the number of the next entry each takes.
    viewers: HashMap<u32, u64>,
    /// How many viewers have taken everything: the tail is freed when all have.
    caught_up: usize,
}

impl Group {
    pub(crate) fn new(handle: u64) -> Self {
        Self {
            handle,
            session_id: None,
            tail: VecDeque::new(),
            first: 0,
            end_offset: 0,
            viewers: HashMap::new(),
            caught_up: 0,
        }
    }

    fn end(&self) -> u64 {
        self.first + self.tail.len() as u64
    }

    /// From here on the client takes live events.
    pub(crate) fn join(&mut self, channel: u32) {
        self.leave(channel);
        self.viewers.insert(channel, self.end());
        self.caught_up += 1;
    }

    /// The client takes no more of them; what waited for it is forgotten.
    pub(crate) fn leave(&mut self, channel: u32) -> bool {
        let Some(position) = self.viewers.remove(&channel) else {
            return false;
        };
        if position == self.end() {
            self.caught_up -= 1;
        }
        self.free_taken();
        true
    }

    pub(crate) fn viewers(&self) -> impl Iterator<Item = u32> + '_ {
        self.viewers.keys().copied()
    }

    pub(crate) fn is_watched(&self) -> bool {
        !self.viewers.is_empty()
    }

    /// Adds a live event; the oldest go when the tail is over its bound or nobody may use them any more.
    pub(crate) fn append(&mut self, text: Bytes, now: Instant) {
        let length = text.len() as u64;
        self.tail.push_back(Entry {
            text,
            offset: self.end_offset,
            at: now,
        });
        self.end_offset += length;
        self.caught_up = 0;
        while self.tail.len() > 1 && self.front_is_useless(now) {
            self.tail.pop_front();
            self.first += 1;
        }
    }

    fn front_is_useless(&self, now: Instant) -> bool {
        self.tail.front().is_some_and(|front| {
            self.end_offset - front.offset > TAIL_BYTES as u64 || now.duration_since(front.at) > LAG_TIME
        })
    }

    /// Whether the client may still take what it has not taken.
    pub(crate) fn lag(&self, channel: u32, now: Instant) -> Lag {
        let Some(&position) = self.viewers.get(&channel) else {
            return Lag::None;
        };
        let Some(index) = position.checked_sub(self.first) else {
            return Lag::TooFar;
        };
        let Some(next) = self.tail.get(usize::try_from(index).unwrap_or(usize::MAX)) else {
            return Lag::None;
        };
        // The entry in hand does not count: one event may be longer than the bound.
        let beyond = self.end_offset - next.offset - next.text.len() as u64;
        if beyond > LAG_BYTES || now.duration_since(next.at) > LAG_TIME {
            Lag::TooFar
        } else {
            Lag::None
        }
    }

    /// Takes entries for the client until `budget` is used up. `true` when more wait.
    pub(crate) fn take(&mut self, channel: u32, budget: &mut usize, out: &mut Vec<Bytes>) -> bool {
        let end = self.end();
        let Some(position) = self.viewers.get_mut(&channel) else {
            return false;
        };
        if *position == end {
            return false;
        }
        while *position < end && *budget > 0 {
            let index = usize::try_from(*position - self.first).unwrap_or(usize::MAX);
            let Some(entry) = self.tail.get(index) else { break };
            *budget = budget.saturating_sub(entry.text.len());
            out.push(entry.text.clone());
            *position += 1;
        }
        if *position < end {
            return true;
        }
        self.caught_up += 1;
        self.free_taken();
        false
    }

    fn free_taken(&mut self) {
        if self.caught_up == self.viewers.len() && !self.tail.is_empty() {
            // Numbers go on; `end` stays what it was.
            self.first = self.end();
            self.tail = VecDeque::new();
        }
    }

    #[cfg(test)]
    pub(crate) fn tail_len(&self) -> usize {
        self.tail.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(bytes: usize) -> Bytes {
        Bytes::from(vec![b'x'; bytes])
    }

    fn take_all(group: &mut Group, channel: u32) -> usize {
        let mut out = Vec::new();
        let mut budget = usize::MAX;
        while group.take(channel, &mut budget, &mut out) {}
        out.len()
    }

    #[tokio::test(start_paused = true)]
    async fn the_tail_is_shared_and_freed_when_all_have_read() {
        let mut group = Group::new(1);
        group.join(1);
        group.join(2);
        for _ in 0..3 {
            group.append(event(10), Instant::now());
        }
        assert_eq!(take_all(&mut group, 1), 3);
        assert_eq!(group.tail_len(), 3);
        assert_eq!(take_all(&mut group, 2), 3);
        assert_eq!(group.tail_len(), 0);
        group.append(event(10), Instant::now());
        assert_eq!(take_all(&mut group, 1), 1);
        assert!(group.leave(2), "who leaves frees what only it kept");
        assert_eq!(group.tail_len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn lag_is_by_bytes_or_by_time_and_one_long_event_is_no_lag() {
        let mut group = Group::new(1);
        group.join(1);
        group.append(event(9_000_000), Instant::now());
        assert_eq!(group.lag(1, Instant::now()), Lag::None);
        assert_eq!(take_all(&mut group, 1), 1);
        group.append(event(10), Instant::now());
        group.append(event(2_000_000), Instant::now());
        assert_eq!(group.lag(1, Instant::now()), Lag::None);
        group.append(event(1), Instant::now());
        assert_eq!(group.lag(1, Instant::now()), Lag::TooFar);
        take_all(&mut group, 1);
        group.append(event(1), Instant::now());
        tokio::time::advance(LAG_TIME + Duration::from_millis(1)).await;
        assert_eq!(group.lag(1, Instant::now()), Lag::TooFar);
    }

    #[tokio::test(start_paused = true)]
    async fn the_tail_is_bounded_by_bytes_and_age() {
        let mut group = Group::new(1);
        group.join(1);
        for _ in 0..100 {
            group.append(event(1_000_000), Instant::now());
        }
        assert_eq!(group.tail_len(), 8);
        assert_eq!(group.lag(1, Instant::now()), Lag::TooFar);
        tokio::time::advance(LAG_TIME * 2).await;
        group.append(event(1), Instant::now());
        assert_eq!(group.tail_len(), 1);
    }
}
