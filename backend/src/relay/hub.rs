//! One account's clients and its runner.

use super::fanout::{Drained, Fanout, Port};
use super::internal::Replies;
use super::signal::{CloseReason, Signal};
use crate::auth::secret::TokenHash;
use crate::upstream::connection::Payload;
use crate::upstream::encode;
use crate::upstream::link::{self, Batch, LinkHandler};
use crate::upstream::outbox::Outbox;
use crate::upstream::{Placement, PlacementError, RunnerAddress, UpstreamError};
use bytes::Bytes;
use lodge_proto::frame::{FrameError, Kind};
use lodge_proto::relay::{Actor, Rights, ToClient, ToRunner};
use lodge_proto::{Command, Cursor, ErrorBody, ErrorCode, Outcome, SessionId};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

#[derive(Debug)]
struct Member {
    actor: Actor,
    /// The login it came with; the REST client has none.
    login: Option<TokenHash>,
}

#[derive(Debug)]
struct State {
    fanout: Fanout,
    members: HashMap<u32, Member>,
    /// `None` while no runner is there.
    outbox: Option<Outbox>,
    /// Why none is there.
    lost: ErrorBody,
}

/// One account's clients and its runner.
#[derive(Debug)]
pub(crate) struct Hub {
    state: Mutex<State>,
    replies: Arc<Replies>,
    internal: u32,
}

impl Hub {
    pub(crate) fn new(account: &str, handles: Arc<AtomicU64>) -> Self {
        let replies = Arc::<Replies>::default();
        let mut fanout = Fanout::new(handles);
        let internal = fanout.attach(Port::Internal(Arc::clone(&replies)));
        let actor = Actor {
            account: account.to_owned(),
            name: account.to_owned(),
            rights: Rights::Own,
        };
        let members = HashMap::from([(internal, Member { actor, login: None })]);
        let lost = ErrorBody::new(ErrorCode::Unavailable, "the runner is not connected yet");
        Self {
            state: Mutex::new(State {
                fanout,
                members,
                outbox: None,
                lost,
            }),
            replies,
            internal,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a client. Its first frame is `welcome`, its second `runner_lost` while no runner is there.
    pub(crate) fn attach(self: &Arc<Self>, actor: Actor, login: TokenHash) -> Attachment {
        let signal = Arc::<Signal>::default();
        let mut state = self.state();
        let channel = state.fanout.attach(Port::Socket(Arc::clone(&signal)));
        state.fanout.tell(
            channel,
            &ToClient::Welcome {
                version: lodge_proto::relay::VERSION,
                account: actor.account.clone(),
                name: actor.name.clone(),
            },
        );
        if state.outbox.is_some() {
            state.to_runner(channel, &ToRunner::Attach { actor: actor.clone() });
        } else {
            let error = state.lost.clone();
            state.fanout.tell(channel, &ToClient::RunnerLost { error });
        }
        state.members.insert(
            channel,
            Member {
                actor: actor.clone(),
                login: Some(login),
            },
        );
        drop(state);
        Attachment {
            hub: Arc::clone(self),
            channel,
            actor,
            signal,
        }
    }

    /// Sends a command and waits for its result, over a restart of the runner too.
    pub(crate) async fn request(
        &self,
        actor: &Actor,
        command: &Command,
        limit: Duration,
    ) -> Result<Value, ErrorBody> {
        let reply = self.replies.expect(&command.id)?;
        let result = tokio::select! {
            result = self.send_until_answered(actor, command) => result,
            reply = reply => match reply.map(|response| response.outcome) {
                Ok(Outcome::Ok(value)) => Ok(value),
                Ok(Outcome::Error(error)) => Err(error),
                Err(_) => Err(ErrorBody::new(ErrorCode::Conflict, "another request uses this id")),
            },
            () = tokio::time::sleep(limit) => Err(self.late(limit)),
        };
        self.replies.forget(&command.id);
        result
    }

    fn late(&self, limit: Duration) -> ErrorBody {
        let state = self.state();
        if state.outbox.is_some() {
            let message = format!("the runner did not answer within {} s", limit.as_secs());
            return ErrorBody::new(ErrorCode::DeadlineExceeded, message);
        }
        state.lost.clone()
    }

    /// Sends the command on every runner connection there is. Comes back only with an error.
    async fn send_until_answered(&self, actor: &Actor, command: &Command) -> Result<Value, ErrorBody> {
        let text = serde_json::to_string(command).map_err(|e| {
            ErrorBody::new(
                ErrorCode::Internal,
                format!("the command could not be written: {e}"),
            )
        })?;
        let mut connection = self.replies.connection();
        loop {
            if *connection.borrow_and_update() != 0 {
                // A connection that went away meanwhile is followed by another.
                let _ = self.forward(self.internal, actor, &text).await;
            }
            if connection.changed().await.is_err() {
                return Err(ErrorBody::new(ErrorCode::Unavailable, "the backend stops"));
            }
        }
    }

    async fn forward(&self, channel: u32, actor: &Actor, text: &str) -> Result<(), ErrorBody> {
        let (outbox, lost) = {
            let state = self.state();
            (state.outbox.clone(), state.lost.clone())
        };
        let Some(outbox) = outbox else { return Err(lost) };
        let mut frame = Vec::new();
        encode::command(channel, actor, text, &mut frame)
            .map_err(|e: FrameError| ErrorBody::new(ErrorCode::InvalidArgument, e.to_string()))?;
        outbox
            .send(&frame)
            .await
            .map_err(|gone| ErrorBody::new(ErrorCode::Unavailable, gone.to_string()))
    }

    /// A frame as if a runner had sent it.
    #[cfg(test)]
    pub(crate) fn frame(&self, header: &lodge_proto::frame::Header, text: &str) {
        self.state()
            .fanout
            .on_frame(header, text, Instant::now())
            .expect("a frame by the rules");
    }

    fn close_all(&self, reason: CloseReason) {
        self.state()
            .fanout
            .signals()
            .for_each(|signal| signal.close(reason));
    }
}

impl State {
    fn to_runner(&self, channel: u32, control: &ToRunner) {
        let Some(outbox) = &self.outbox else { return };
        let mut frame = Vec::new();
        let sent =
            encode::control(channel, control, &mut frame).is_ok() && outbox.send_control(&frame).is_ok();
        if !sent {
            warn!(channel, "a control for the runner was not taken");
        }
    }
}

impl LinkHandler for Hub {
    fn up(&self, outbox: Outbox) {
        let mut state = self.state();
        state.outbox = Some(outbox);
        for channel in state.fanout.channels() {
            if let Some(member) = state.members.get(&channel) {
                state.to_runner(
                    channel,
                    &ToRunner::Attach {
                        actor: member.actor.clone(),
                    },
                );
            }
        }
        state.fanout.runner_ready();
    }

    fn frames(&self, batch: &mut Batch<'_>) -> Result<(), UpstreamError> {
        let now = Instant::now();
        let mut state = self.state();
        while let Some((header, payload)) = batch.next_frame()? {
            match payload {
                Payload::Text(text) => state.fanout.on_frame(&header, text, now)?,
                Payload::Bytes(bytes) if header.kind == Kind::Blob => {
                    if let Some(terminal_id) = state.fanout.on_blob(&header, bytes)? {
                        state.to_runner(header.channel, &ToRunner::TerminalDetach { terminal_id });
                    }
                }
                Payload::Bytes(_) => {}
            }
        }
        Ok(())
    }

    fn down(&self, reason: &UpstreamError) {
        let error = reason.to_body();
        let mut state = self.state();
        state.outbox = None;
        state.lost = error.clone();
        state
            .fanout
            .runner_lost(&ToClient::RunnerLost { error }, Instant::now());
    }
}

/// A client of a hub; dropping it takes the client away.
#[derive(Debug)]
pub(crate) struct Attachment {
    hub: Arc<Hub>,
    pub(crate) channel: u32,
    pub(crate) actor: Actor,
    pub(crate) signal: Arc<Signal>,
}

impl Attachment {
    /// Where the client stands. While no runner is there that is not kept: the client says it again at `runner_ready`.
    pub(crate) async fn hello(&self, cursors: BTreeMap<SessionId, Option<Cursor>>) {
        let outbox = self.hub.state().outbox.clone();
        let mut frame = Vec::new();
        let subscribe = ToRunner::Subscribe { cursors };
        if let Some(outbox) = outbox
            && encode::control(self.channel, &subscribe, &mut frame).is_ok()
        {
            // A connection that ends now is followed by `runner_lost`.
            let _ = outbox.send(&frame).await;
        }
    }

    /// Passes a checked command on.
    pub(crate) async fn command(&self, text: &str) -> Result<(), ErrorBody> {
        self.hub.forward(self.channel, &self.actor, text).await
    }

    /// Passes what was typed into a terminal on. The runner checks that there is such a terminal.
    pub(crate) async fn terminal_input(&self, terminal: u32, bytes: &[u8]) -> Result<(), ErrorBody> {
        if self.actor.rights < Rights::Own {
            return Err(ErrorBody::new(ErrorCode::Forbidden, "this account may only look"));
        }
        let outbox = self.hub.state().outbox.clone();
        let mut frame = Vec::new();
        encode::blob(self.channel, terminal, bytes, &mut frame)
            .map_err(|error| ErrorBody::new(ErrorCode::InvalidArgument, error.to_string()))?;
        if let Some(outbox) = outbox {
            // Of a connection that ends now the client hears by `runner_lost`.
            let _ = outbox.send(&frame).await;
        }
        Ok(())
    }

    /// Queues a wrapped text of the relay's own.
    pub(crate) fn push(&self, text: Bytes) {
        self.hub.state().fanout.push(self.channel, text);
    }

    /// What to write next; asks for snapshots where the client is too far behind.
    pub(crate) fn drain(&self, budget: usize) -> Drained {
        let mut state = self.hub.state();
        let drained = state.fanout.drain(self.channel, budget, Instant::now());
        for &session_id in &drained.resync {
            state.to_runner(self.channel, &ToRunner::Resync { session_id });
        }
        drained
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let mut state = self.hub.state();
        state.fanout.detach(self.channel);
        state.members.remove(&self.channel);
        state.to_runner(self.channel, &ToRunner::Detach {});
    }
}

/// All hubs of this process.
#[derive(Debug)]
pub(crate) struct Relay {
    hubs: Mutex<HashMap<String, Arc<Hub>>>,
    placement: Arc<dyn Placement>,
    handles: Arc<AtomicU64>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Relay {
    /// A relay whose links end with `stop`; they run on `tasks`.
    pub(crate) fn new(placement: Arc<dyn Placement>, stop: CancellationToken, tasks: TaskTracker) -> Self {
        Self {
            hubs: Mutex::default(),
            placement,
            handles: Arc::default(),
            stop,
            tasks,
        }
    }

    fn hubs(&self) -> MutexGuard<'_, HashMap<String, Arc<Hub>>> {
        self.hubs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The hub of an account; its link starts with the first call.
    pub(crate) fn hub(&self, account: &str) -> Arc<Hub> {
        let mut hubs = self.hubs();
        if let Some(hub) = hubs.get(account) {
            return Arc::clone(hub);
        }
        let hub = Arc::new(Hub::new(account, Arc::clone(&self.handles)));
        hubs.insert(account.to_owned(), Arc::clone(&hub));
        let placement = Arc::clone(&self.placement);
        self.tasks.spawn(link::run(
            account.to_owned(),
            placement,
            Arc::clone(&hub),
            self.stop.clone(),
        ));
        hub
    }

    /// Where the runner of an account is.
    pub(crate) async fn locate(&self, account: &str) -> Result<RunnerAddress, PlacementError> {
        self.placement.locate(account).await
    }

    /// Closes the sockets that came with this login.
    pub(crate) fn close_login(&self, login: &TokenHash) {
        for hub in self.hubs().values() {
            let state = hub.state();
            let channels = state
                .members
                .iter()
                .filter(|(_, member)| member.login.as_ref() == Some(login));
            for (&channel, _) in channels {
                if let Some(signal) = state.fanout.signal(channel) {
                    signal.close(CloseReason::LoginEnded);
                }
            }
        }
    }

    /// Closes every socket.
    pub(crate) fn close_all(&self) {
        self.hubs()
            .values()
            .for_each(|hub| hub.close_all(CloseReason::Restart));
    }
}
