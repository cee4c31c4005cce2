//! Who gets what: a state machine without I/O.
//!
//! Per client there is a queue of frames for it alone (replies, controls, missed events) and a position in the tail
//! of every session it joined. The queue goes first: a `join` comes after the missed events in it, and positions
//! move only after it is empty, so each client gets exactly the runner's order.

use super::group::{Group, Lag};
use super::internal::Replies;
use super::signal::{CloseReason, Signal};
use super::terminals::{self, TerminalQueue};
use super::wrap::{self, Field};
use crate::upstream::UpstreamError;
use bytes::Bytes;
use lodge_proto::SessionId;
use lodge_proto::frame::{Header, Kind, flags};
use lodge_proto::relay::{ToClient, ToRelay};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::time::Instant;

/// Bytes that may wait for one client alone: a snapshot of the largest kind and as much of missed events.
pub(crate) const DIRECT_BYTES: usize = 32 * 1024 * 1024;
/// Session handles a runner may use on one connection.
const MAX_HANDLES: usize = 65_536;

/// Sessions one client may follow live.
const MAX_JOINED: usize = 1024;

/// Where the frames of a channel go.
#[derive(Debug)]
pub(crate) enum Port {
    /// To a WebSocket.
    Socket(Arc<Signal>),
    /// To whoever waits for the replies.
    Internal(Arc<Replies>),
}

#[derive(Debug)]
struct Client {
    port: Port,
    direct: VecDeque<Bytes>,
    direct_bytes: usize,
    /// Runner handles of the sessions it takes live.
    joined: Vec<u64>,
    terminals: TerminalQueue,
}

impl Client {
    fn push(&mut self, text: Bytes, urgent: bool) {
        let Port::Socket(signal) = &self.port else { return };
        self.direct_bytes += text.len();
        self.direct.push_back(text);
        if self.direct_bytes > DIRECT_BYTES {
            signal.close(CloseReason::Overflow);
            self.direct.clear();
        }
        signal.ready(urgent);
    }
}

/// What a client's writer takes at once.
#[derive(Debug, Default)]
pub(crate) struct Drained {
    pub(crate) texts: Vec<Bytes>,
    /// Binary frames, to be written after the texts.
    pub(crate) binaries: Vec<Bytes>,
    /// More waits.
    pub(crate) more: bool,
    /// Sessions the client is too far behind in: the runner is asked for a snapshot.
    pub(crate) resync: Vec<SessionId>,
}

/// The clients of one runner connection.
#[derive(Debug)]
pub(crate) struct Fanout {
    clients: HashMap<u32, Client>,
    groups: HashMap<u64, Group>,
    last_channel: u32,
    handles: Arc<AtomicU64>,
}

impl Fanout {
    /// `handles` counts the handles that clients see, over all runners of this relay.
    pub(crate) fn new(handles: Arc<AtomicU64>) -> Self {
        Self {
            clients: HashMap::new(),
            groups: HashMap::new(),
            last_channel: 0,
            handles,
        }
    }

    /// Adds a client and says its channel.
    pub(crate) fn attach(&mut self, port: Port) -> u32 {
        loop {
            self.last_channel = self.last_channel.wrapping_add(1).max(1);
            if !self.clients.contains_key(&self.last_channel) {
                break;
            }
        }
        let client = Client {
            port,
            direct: VecDeque::new(),
            direct_bytes: 0,
            joined: Vec::new(),
            terminals: TerminalQueue::default(),
        };
        self.clients.insert(self.last_channel, client);
        self.last_channel
    }

    /// Takes a client away.
    pub(crate) fn detach(&mut self, channel: u32) {
        if let Some(client) = self.clients.remove(&channel) {
            for handle in client.joined {
                self.groups.get_mut(&handle).map(|group| group.leave(channel));
            }
        }
    }

    /// Queues a control of the relay's own for one client.
    pub(crate) fn tell(&mut self, channel: u32, control: &ToClient) {
        if let Some(client) = self.clients.get_mut(&channel) {
            client.push(wrap::control(control), true);
        }
    }

    /// Queues a wrapped text for one client.
    pub(crate) fn push(&mut self, channel: u32, text: Bytes) {
        if let Some(client) = self.clients.get_mut(&channel) {
            client.push(text, true);
        }
    }

    fn broadcast(&mut self, text: &Bytes, urgent: bool) {
        for client in self.clients.values_mut() {
            client.push(text.clone(), urgent);
        }
    }

    /// The runner went away: nothing it numbered holds any more. What is queued still goes out.
    pub(crate) fn runner_lost(&mut self, control: &ToClient, now: Instant) {
        self.flush_groups(now);
        for client in self.clients.values_mut() {
            client.terminals.runner_lost();
            if let Port::Internal(replies) = &client.port {
                replies.runner_lost();
            }
        }
        self.broadcast(&wrap::control(control), true);
    }

    /// The runner is there, and every client has been announced to it.
    pub(crate) fn runner_ready(&mut self) {
        for client in self.clients.values() {
            if let Port::Internal(replies) = &client.port {
                replies.runner_ready();
            }
        }
        self.broadcast(&wrap::control(&ToClient::RunnerReady {}), true);
    }

    /// Live events that clients have not taken yet move to their own queues, ahead of what is said next.
    fn flush_groups(&mut self, now: Instant) {
        for (&channel, client) in &mut self.clients {
            let mut texts = Vec::new();
            for handle in client.joined.drain(..) {
                let Some(group) = self.groups.get_mut(&handle) else {
                    continue;
                };
                if group.lag(channel, now) == Lag::None {
                    let mut budget = usize::MAX;
                    group.take(channel, &mut budget, &mut texts);
                }
            }
            for text in texts {
                client.push(text, false);
            }
        }
        self.groups.clear();
    }

    /// Routes one frame of the runner.
    pub(crate) fn on_frame(
        &mut self,
        header: &Header,
        text: &str,
        now: Instant,
    ) -> Result<(), UpstreamError> {
        let for_relay = header.flags & flags::FOR_RELAY != 0;
        match header.kind {
            Kind::Event if header.channel == 0 => {
                self.live(header, text, now);
                Ok(())
            }
            Kind::Event => self.direct(header, Field::Event, text),
            Kind::Reply => {
                self.reply(header.channel, text);
                Ok(())
            }
            Kind::Control if for_relay => self.on_relay_control(header, text),
            Kind::Control if header.channel == 0 => {
                self.broadcast(&wrap::wrap(Field::Control, 0, text), false);
                Ok(())
            }
            Kind::Control => {
                if header.session != 0 {
                    // A new answer to a subscription covers everything the client has not been given yet.
                    self.leave(header.channel, header.session);
                }
                self.direct(header, Field::Control, text)
            }
            Kind::Command => Err(UpstreamError::Protocol("a runner sends no command frames".into())),
            // Blobs have a way of their own, credits are not in use on this connection.
            Kind::Blob | Kind::Credit => Ok(()),
        }
    }

    /// Queues bytes of a terminal for the client of the frame's channel. `Some` names the terminal that this client is
    /// too slow for: it was told, and the runner is to be.
    pub(crate) fn on_blob(&mut self, header: &Header, bytes: &[u8]) -> Result<Option<u32>, UpstreamError> {
        let terminal = u32::try_from(header.session).ok().filter(|id| *id != 0);
        let (Some(terminal), true) = (terminal, header.channel != 0) else {
            return Err(UpstreamError::Protocol(
                "a blob needs a channel and a terminal".into(),
            ));
        };
        let Some(client) = self.clients.get_mut(&header.channel) else {
            return Ok(None);
        };
        let Port::Socket(signal) = &client.port else {
            return Ok(None);
        };
        let first = header.flags & flags::FOLDED != 0;
        signal.ready(header.flags & flags::URGENT != 0);
        if client.terminals.push(terminal, bytes, first) {
            return Ok(None);
        }
        let control = ToClient::TerminalLagged {
            terminal_id: terminal,
        };
        client.push(wrap::control(&control), true);
        Ok(Some(terminal))
    }

    fn live(&mut self, header: &Header, text: &str, now: Instant) {
        let Some(group) = self
            .groups
            .get_mut(&header.session)
            .filter(|group| group.is_watched())
        else {
            return;
        };
        let wrapped = wrap::wrap(Field::Event, group.handle, text);
        group.append(wrapped, now);
        let urgent = header.flags & flags::URGENT != 0;
        for channel in group.viewers() {
            if let Some(Client {
                port: Port::Socket(signal),
                ..
            }) = self.clients.get(&channel)
            {
                signal.ready(urgent);
            }
        }
    }

    fn direct(&mut self, header: &Header, field: Field, text: &str) -> Result<(), UpstreamError> {
        // The client may have left a moment ago.
        if !self.clients.contains_key(&header.channel) {
            return Ok(());
        }
        let handle = if header.session == 0 {
            0
        } else {
            self.group(header.session)?.handle
        };
        let urgent = field != Field::Event || header.flags & flags::URGENT != 0;
        if let Some(client) = self.clients.get_mut(&header.channel) {
            let wrapped = wrap::wrap(field, handle, text);
            let ends_terminal = field == Field::Control && handle == 0 && terminals::is_end(text);
            let now = if ends_terminal {
                client.terminals.end(wrapped)
            } else {
                Some(wrapped)
            };
            if let Some(text) = now {
                client.push(text, urgent);
            }
        }
        Ok(())
    }

    fn reply(&mut self, channel: u32, text: &str) {
        match self.clients.get_mut(&channel) {
            Some(Client {
                port: Port::Internal(replies),
                ..
            }) => replies.deliver(text),
            Some(client) => client.push(wrap::wrap(Field::Response, 0, text), true),
            None => {}
        }
    }

    fn on_relay_control(&mut self, header: &Header, text: &str) -> Result<(), UpstreamError> {
        match serde_json::from_str(text).map_err(UpstreamError::Control)? {
            ToRelay::Hello { .. } => Err(UpstreamError::Protocol("a second hello".into())),
            ToRelay::Join { session_id } => self.join(header, session_id),
            ToRelay::Leave {} => {
                self.leave(header.channel, header.session);
                Ok(())
            }
        }
    }

    fn join(&mut self, header: &Header, session_id: SessionId) -> Result<(), UpstreamError> {
        if header.session == 0 || header.channel == 0 {
            return Err(UpstreamError::Protocol(
                "a join needs a channel and a session handle".into(),
            ));
        }
        let group = self.group(header.session)?;
        if group.session_id.is_some_and(|bound| bound != session_id) {
            return Err(UpstreamError::Protocol(format!(
                "session handle {} is bound to another session",
                header.session
            )));
        }
        group.session_id = Some(session_id);
        let Some(client) = self.clients.get_mut(&header.channel) else {
            return Ok(());
        };
        if !client.joined.contains(&header.session) {
            if client.joined.len() >= MAX_JOINED {
                return Err(UpstreamError::Protocol(format!(
                    "a client joined more than {MAX_JOINED} sessions"
                )));
            }
            client.joined.push(header.session);
        }
        if let Some(group) = self.groups.get_mut(&header.session) {
            group.join(header.channel);
        }
        Ok(())
    }

    fn leave(&mut self, channel: u32, handle: u64) {
        if let Some(group) = self.groups.get_mut(&handle) {
            group.leave(channel);
        }
        if let Some(client) = self.clients.get_mut(&channel) {
            client.joined.retain(|joined| *joined != handle);
        }
    }

    fn group(&mut self, handle: u64) -> Result<&mut Group, UpstreamError> {
        if self.groups.len() >= MAX_HANDLES && !self.groups.contains_key(&handle) {
            return Err(UpstreamError::Protocol(format!(
                "more than {MAX_HANDLES} session handles"
            )));
        }
        let handles = &self.handles;
        Ok(self
            .groups
            .entry(handle)
            .or_insert_with(|| Group::new(handles.fetch_add(1, Ordering::Relaxed) + 1)))
    }

    /// Takes up to `budget` bytes (and at least one frame) for a client.
    pub(crate) fn drain(&mut self, channel: u32, budget: usize, now: Instant) -> Drained {
        let mut drained = Drained::default();
        let mut budget = budget;
        let Some(client) = self.clients.get_mut(&channel) else {
            return drained;
        };
        while budget > 0
            && let Some(text) = client.direct.pop_front()
        {
            client.direct_bytes -= text.len();
            budget = budget.saturating_sub(text.len());
            drained.texts.push(text);
        }
        if client.direct.is_empty() {
            // A queue that was long once gives its memory back.
            client.direct.shrink_to(16);
        } else {
            drained.more = true;
            return drained;
        }
        self.drain_live(channel, &mut budget, now, &mut drained);
        // Terminals come last: they never hold up what an agent does.
        if let Some(client) = self.clients.get_mut(&channel)
            && !drained.more
        {
            let Drained { texts, binaries, .. } = &mut drained;
            drained.more = client.terminals.take(&mut budget, texts, binaries);
        }
        drained
    }

    fn drain_live(&mut self, channel: u32, budget: &mut usize, now: Instant, drained: &mut Drained) {
        let Some(client) = self.clients.get_mut(&channel) else {
            return;
        };
        let groups = &mut self.groups;
        client.joined.retain(|handle| {
            let Some(group) = groups.get_mut(handle) else {
                return false;
            };
            if group.lag(channel, now) == Lag::TooFar {
                group.leave(channel);
                drained.resync.extend(group.session_id);
                return false;
            }
            drained.more |= group.take(channel, budget, &mut drained.texts);
            true
        });
        if drained.more && client.joined.len() > 1 {
            // Whoever came first this time comes last the next.
            client.joined.rotate_left(1);
        }
    }

    /// Every channel, in the order in which they are announced on a new runner connection.
    pub(crate) fn channels(&self) -> Vec<u32> {
        let mut channels: Vec<u32> = self.clients.keys().copied().collect();
        channels.sort_unstable();
        channels
    }

    pub(crate) fn signal(&self, channel: u32) -> Option<&Arc<Signal>> {
        match &self.clients.get(&channel)?.port {
            Port::Socket(signal) => Some(signal),
            Port::Internal(_) => None,
        }
    }

    pub(crate) fn signals(&self) -> impl Iterator<Item = &Arc<Signal>> {
        self.clients.values().filter_map(|client| match &client.port {
            Port::Socket(signal) => Some(signal),
            Port::Internal(_) => None,
        })
    }
}
