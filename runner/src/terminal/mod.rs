//! Terminals of sessions: login shells in their sandboxes, and the clients that watch them.
//!
//! The shell lives with its session's shim, so a terminal outlives connections and the runner. What is kept here is
//! what it has shown, for clients that come later, and who is to get what it shows next.

mod shell;
#[cfg(test)]
mod tests;

use crate::conns::{ConnId, Outbox};
use crate::guest::{Stream, StreamEvent, StreamInput};
use bytes::Bytes;
use lodge_proto::frame::{self, Header, Kind, flags};
use lodge_proto::relay::ToClient;
use lodge_proto::workspace::{TerminalExit, TerminalInfo};
use lodge_proto::{ErrorBody, ErrorCode, SessionId};
use lodge_shim::stream::{Channel, SCROLLBACK, StreamExit, Terminal as Live};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use shell::start;

/// Bytes of one frame to a relay.
const SLICE: usize = 32 * 1024;
/// Bytes of terminals that may wait for a relay: more would come between it and what agents do.
const WAITING: usize = 256 * 1024;
/// Largest size of a terminal, in character cells.
const MAX_CELLS: u16 = 1000;

/// All terminals of a runner. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Terminals {
    all: Arc<Mutex<BTreeMap<u32, Terminal>>>,
}

#[derive(Debug)]
struct Terminal {
    session: SessionId,
    info: TerminalInfo,
    input: StreamInput,
    /// Tells a terminal that was taken over from the one before it.
    binding: u64,
    scrollback: VecDeque<u8>,
    watchers: Vec<(Outbox, u32)>,
}

fn not_found(id: u32) -> ErrorBody {
    ErrorBody::new(ErrorCode::NotFound, format!("this session has no terminal {id}"))
}

/// Whether a terminal can have this size.
pub fn check_size(rows: u16, cols: u16) -> Result<(), ErrorBody> {
    if (1..=MAX_CELLS).contains(&rows) && (1..=MAX_CELLS).contains(&cols) {
        return Ok(());
    }
    Err(ErrorBody::new(
        ErrorCode::InvalidArgument,
        format!("rows and cols are 1 to {MAX_CELLS}"),
    ))
}

impl Terminals {
    fn all(&self) -> MutexGuard<'_, BTreeMap<u32, Terminal>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An id that no terminal has.
    pub fn free_id(&self) -> u32 {
        let all = self.all();
        loop {
            let id = crate::shared::random_u32();
            if id != 0 && !all.contains_key(&id) {
                return id;
            }
        }
    }

    /// Takes a terminal that was just opened, or that outlived something, under its id.
    pub fn insert(&self, session: SessionId, live: Live, stream: Stream) -> TerminalInfo {
        let info = TerminalInfo {
            terminal_id: live.id,
            rows: live.rows,
            cols: live.cols,
            opened_at: live.opened_at,
        };
        let mut all = self.all();
        let binding = all.get(&live.id).map_or(0, |before| before.binding + 1);
        let terminal = Terminal {
            session,
            info: info.clone(),
            input: stream.input.clone(),
            binding,
            scrollback: VecDeque::new(),
            watchers: Vec::new(),
        };
        if let Some(before) = all.insert(live.id, terminal) {
            // What was shown meanwhile is in the scrollback that the shim sends now.
            let control = ToClient::TerminalLagged { terminal_id: live.id };
            for (outbox, channel) in before.watchers {
                outbox.control(channel, 0, &control);
            }
        }
        drop(all);
        tokio::spawn(self.clone().follow(live.id, binding, stream));
        info
    }

    /// After a session's shim was reached, or is gone: terminals that are not in `live` have ended.
    pub fn settle(&self, session: SessionId, live: Vec<(Live, Stream)>) {
        let ended: Vec<u32> = {
            let all = self.all();
            let of_session = all.iter().filter(|(_, terminal)| terminal.session == session);
            of_session
                .map(|(id, _)| *id)
                .filter(|id| live.iter().all(|(terminal, _)| terminal.id != *id))
                .collect()
        };
        for id in ended {
            self.ended(id, None, StreamExit::default());
        }
        for (terminal, stream) in live {
            self.insert(session, terminal, stream);
        }
    }

    /// Passes a terminal's output on until it ends.
    async fn follow(self, id: u32, binding: u64, mut stream: Stream) {
        loop {
            match stream.next().await {
                Some(StreamEvent::Output { channel, bytes }) => {
                    let watched = self.shown(id, binding, &bytes);
                    for outbox in &watched {
                        outbox.below(WAITING).await;
                    }
                    if channel != Channel::Replay {
                        stream.input.grant(bytes.len());
                    }
                }
                Some(StreamEvent::Exit(exit)) => return self.ended(id, Some(binding), exit),
                // Its session looks for the shim, and settles what became of the terminal.
                None => return,
            }
        }
    }

    /// Keeps and spreads output; answers where it went.
    fn shown(&self, id: u32, binding: u64, bytes: &[u8]) -> Vec<Outbox> {
        let mut all = self.all();
        let Some(terminal) = all.get_mut(&id).filter(|terminal| terminal.binding == binding) else {
            return Vec::new();
        };
        terminal.scrollback.extend(bytes);
        let excess = terminal.scrollback.len().saturating_sub(SCROLLBACK);
        terminal.scrollback.drain(..excess);
        terminal
            .watchers
            .retain(|(outbox, channel)| outbox.send(blobs(id, *channel, bytes, 0)));
        terminal
            .watchers
            .iter()
            .map(|(outbox, _)| outbox.clone())
            .collect()
    }

    fn ended(&self, id: u32, binding: Option<u64>, exit: StreamExit) {
        let mut all = self.all();
        let current = all.get(&id).map(|terminal| terminal.binding);
        if current.is_none() || binding.is_some_and(|binding| current != Some(binding)) {
            return;
        }
        let Some(terminal) = all.remove(&id) else { return };
        drop(all);
        let control = ToClient::TerminalClosed {
            session_id: terminal.session,
            terminal_id: id,
            exit: told(exit),
        };
        for (outbox, channel) in terminal.watchers {
            outbox.control(channel, 0, &control);
        }
    }

    /// A client watches from now on; before that it gets what the terminal has shown.
    pub fn watch(&self, session: SessionId, id: u32, outbox: &Outbox, channel: u32) -> Result<(), ErrorBody> {
        let mut all = self.all();
        let terminal = of(&mut all, session, id)?;
        let shown: Vec<u8> = terminal.scrollback.iter().copied().collect();
        outbox.send(blobs(id, channel, &shown, flags::FOLDED));
        let same = |(other, number): &(Outbox, u32)| other.id == outbox.id && *number == channel;
        if !terminal.watchers.iter().any(same) {
            terminal.watchers.push((outbox.clone(), channel));
        }
        Ok(())
    }

    /// A client watches no longer: one terminal, or any.
    pub fn unwatch(&self, conn: ConnId, channel: u32, id: Option<u32>) {
        for (_, terminal) in self
            .all()
            .iter_mut()
            .filter(|(key, _)| id.is_none_or(|id| **key == id))
        {
            terminal
                .watchers
                .retain(|(outbox, number)| outbox.id != conn || *number != channel);
        }
    }

    /// A relay's connection is gone with its clients.
    pub fn unwatch_all(&self, conn: ConnId) {
        for terminal in self.all().values_mut() {
            terminal.watchers.retain(|(outbox, _)| outbox.id != conn);
        }
    }

    /// What a client typed; only one that watches may type.
    pub fn type_in(&self, conn: ConnId, channel: u32, id: u32, bytes: &[u8]) {
        if let Some(terminal) = self.all().get(&id)
            && !bytes.is_empty()
            && terminal
                .watchers
                .iter()
                .any(|(outbox, number)| outbox.id == conn && *number == channel)
        {
            terminal.input.write(bytes);
        }
    }

    /// The row of a terminal.
    pub fn info(&self, session: SessionId, id: u32) -> Result<TerminalInfo, ErrorBody> {
        of(&mut self.all(), session, id).map(|terminal| terminal.info.clone())
    }

    /// A session's terminals.
    pub fn list(&self, session: SessionId) -> Vec<TerminalInfo> {
        let all = self.all();
        let own = all.values().filter(|terminal| terminal.session == session);
        own.map(|terminal| terminal.info.clone()).collect()
    }

    pub fn resize(&self, session: SessionId, id: u32, rows: u16, cols: u16) -> Result<(), ErrorBody> {
        check_size(rows, cols)?;
        let mut all = self.all();
        let terminal = of(&mut all, session, id)?;
        (terminal.info.rows, terminal.info.cols) = (rows, cols);
        terminal.input.resize(rows, cols);
        Ok(())
    }

    /// Ends the shell and what runs on its terminal.
    pub fn close(&self, session: SessionId, id: u32) -> Result<(), ErrorBody> {
        let mut all = self.all();
        let terminal = of(&mut all, session, id)?;
        terminal.input.kill();
        Ok(())
    }
}

fn of(all: &mut BTreeMap<u32, Terminal>, session: SessionId, id: u32) -> Result<&mut Terminal, ErrorBody> {
    all.get_mut(&id)
        .filter(|terminal| terminal.session == session)
        .ok_or_else(|| not_found(id))
}

fn told(exit: StreamExit) -> TerminalExit {
    let unknown = exit.code.is_none() && exit.signal.is_none();
    TerminalExit {
        code: exit.code,
        signal: exit.signal,
        reason: exit
            .error
            .or_else(|| unknown.then(|| "its sandbox has ended".to_owned())),
    }
}

/// Frames for one client. The first one has these flags, and is there even without bytes when it has any.
fn blobs(id: u32, channel: u32, bytes: &[u8], first: u16) -> Bytes {
    let mut out = Vec::with_capacity(bytes.len() + frame::HEADER_LEN);
    let mut header = Header::new(Kind::Blob)
        .channel(channel)
        .session(u64::from(id))
        .flags(first);
    let empty = (bytes.is_empty() && first != 0).then_some(&[][..]);
    for slice in empty.into_iter().chain(bytes.chunks(SLICE)) {
        if let Err(error) = frame::encode(&header, slice, &mut out) {
            tracing::error!(%error, "a terminal's frame");
        }
        header = header.flags(0);
    }
    Bytes::from(out)
}
