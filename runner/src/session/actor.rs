//! The task that owns a session. It alone touches the fold; everyone else sends it requests.

use super::link::Incoming;
use super::log::EventLog;
use super::port::Port;
use super::{Answering, Report, Request, recover};
use crate::conns::{ConnId, Outbox, ReplyPort};
use crate::fold::{DeliveryId, Output, Record, Reply, SessionFold, Timer};
use crate::shared::Shared;
use crate::store::{SessionRow, Snapshot};
use bytes::Bytes;
use lodge_proto::event::EventBody;
use lodge_proto::ids::{RequestId, TurnId};
use lodge_proto::session::SessionInfo;
use lodge_proto::{ErrorBody, SessionId};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::Instrument as _;

/// Answers of commands kept in memory, for clients that ask again before the database has them.
const KEPT_ANSWERS: usize = 1024;

/// What the session's own tasks tell it.
#[derive(Debug)]
pub(super) enum Internal {
    /// History has stored a turn.
    Persisted { turn: TurnId, message_version: u64 },
    /// A snapshot is stored; the journal is needed from after this record on.
    SnapshotSaved { oldest: u64, floor_seq: u64 },
    /// All is ready for the harness to be started, or cannot be.
    Prepared(Box<Result<super::launch::Prepared, ErrorBody>>),
    /// The lease of a session whose shim outlived the runner goes on.
    Leased(crate::lease::Lease),
    /// The gateway says something of the guest.
    Network(crate::lease::Notice),
    /// The gateway has the answer to this question, or cannot be told.
    NetworkTold(String),
    /// The database has an approval.
    ApprovalKept(RequestId),
    /// The bytes of an input with blobs, or why there are none.
    Filled(DeliveryId, Result<Vec<u8>, ErrorBody>),
    /// The shim was spawned, or could not be.
    Spawned(Result<(), ErrorBody>),
    /// The workspace was looked through.
    Looked(Box<super::findings::Looked>),
}

/// Commands that wait for the harness.
#[derive(Debug)]
pub(super) enum Waiting {
    Command(crate::session::journal::Own, (String, String)),
    Start(Answering),
    Sandbox(tokio::sync::oneshot::Sender<Result<crate::guest::Streams, ErrorBody>>),
}

#[derive(Debug)]
pub(super) struct Actor {
    pub(super) shared: Arc<Shared>,
    pub(super) row: SessionRow,
    /// The session's handle in frames.
    pub(super) handle: u64,
    pub(super) dir: PathBuf,
    pub(super) fold: SessionFold,
    pub(super) out: Output,
    pub(super) log: EventLog,
    pub(super) port: Port,
    /// Own records that wait for a port.
    pub(super) unwritten: Vec<super::journal::Own>,
    pub(super) joined: BTreeMap<ConnId, (Outbox, BTreeSet<u32>)>,
    pub(super) waiters: HashMap<(String, String), Vec<ReplyPort>>,
    pub(super) answered: HashMap<(String, String), Result<serde_json::Value, ErrorBody>>,
    pub(super) sent: HashSet<DeliveryId>,
    /// The input whose blobs are being read; those after it wait.
    pub(super) filling: Option<DeliveryId>,
    pub(super) fired: HashSet<(Timer, u64)>,
    pub(super) persisting: Option<TurnId>,
    pub(super) killed: bool,
    pub(super) launching: bool,
    /// The shim of a start that is not decided yet: the number of its journal's last record when it was reached.
    pub(super) awaited: Option<u64>,
    /// Requests to end that came while the harness was being started: they are met when it is known what to end.
    pub(super) ending: Vec<Request>,
    pub(super) waiting: Vec<Waiting>,
    pub(super) lease: Option<crate::lease::Lease>,
    /// Approvals on their way to the database.
    pub(super) keeping: HashSet<RequestId>,
    /// Approvals were appended; the fold may not have read them yet.
    pub(super) told_of_approvals: bool,
    /// Questions whose answers are on their way to the gateway.
    pub(super) told_gateway: HashSet<String>,
    /// The workspace as it was looked at last; `None` while a look is under way.
    pub(super) baseline: Option<lodge_sandbox::findings::Baseline>,
    pub(super) internal: mpsc::UnboundedSender<Internal>,
    pub(super) reports: mpsc::UnboundedSender<Report>,
    pub(super) told: Option<SessionInfo>,
    /// Seqs of the snapshots that are kept, so that the log reaches back to the oldest.
    pub(super) boundaries: BTreeMap<u64, u64>,
    /// Bytes of records that the shim was not told of.
    pub(super) unacknowledged: usize,
    pub(super) ended: bool,
}

pub(super) async fn run(
    shared: Arc<Shared>,
    row: SessionRow,
    handle: u64,
    inbox: mpsc::Receiver<Request>,
    reports: mpsc::UnboundedSender<Report>,
) {
    let id = row.info.id;
    let span = tracing::info_span!("session", session = %id);
    let work = async {
        let (internal, own) = mpsc::unbounded_channel();
        match recover::open(shared, row, handle, internal, reports.clone()).await {
            Ok(actor) => actor.serve(inbox, own).await,
            Err(error) => {
                tracing::error!(%error, "the session cannot be opened");
                refuse(id, inbox, &error).await;
            }
        }
    };
    work.instrument(span).await;
    let _ = reports.send(Report::Ended(id));
}

/// Answers whatever comes for a session that cannot be opened, until its handle is dropped.
async fn refuse(session_id: SessionId, mut inbox: mpsc::Receiver<Request>, error: &ErrorBody) {
    use lodge_proto::relay::ToClient;
    while let Some(request) = inbox.recv().await {
        match request {
            Request::Subscribe { outbox, channel, .. } => {
                outbox.control(
                    channel,
                    0,
                    &ToClient::SubscribeFailed {
                        session_id,
                        error: error.clone(),
                    },
                );
            }
            Request::Command { reply, .. } | Request::Query { reply, .. } => reply.send(Err(error.clone())),
            Request::Start {
                reply: Some(answering),
            } => answering.reply.send(Err(error.clone())),
            Request::Stop { done, .. } | Request::Shutdown { done, .. } | Request::Discard { done } => {
                let _ = done.send(());
            }
            Request::Sandbox { reply } => drop(reply.send(Err(error.clone()))),
            Request::Origin { reply, .. } => drop(reply.send(Err(error.clone()))),
            Request::Opened { reply } => drop(reply.send(())),
            Request::Start { reply: None }
            | Request::Unsubscribe { .. }
            | Request::ConnGone { .. }
            | Request::ApprovalsChanged { .. }
            | Request::SharedWith { .. } => {}
        }
    }
}

impl Actor {
    async fn serve(mut self, mut inbox: mpsc::Receiver<Request>, mut own: mpsc::UnboundedReceiver<Internal>) {
        self.flush();
        self.drive();
        while !self.ended {
            let deadline = self.next_timer();
            tokio::select! {
                request = inbox.recv() => match request {
                    Some(request) => self.request(request).await,
                    None => break,
                },
                Some(internal) = own.recv() => self.internal(internal).await,
                incoming = incoming(&mut self.port) => self.incoming(incoming).await,
                () = tokio::time::sleep_until(deadline) => self.fire_timers(),
            }
            self.decide_start();
            if !self.launching {
                for request in std::mem::take(&mut self.ending) {
                    self.request(request).await;
                }
            }
            self.drive();
        }
    }

    async fn incoming(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Records(records) => {
                self.apply(&records);
                self.acknowledge(&records);
            }
            Incoming::DiskFull(full) => tracing::error!(full, "the disk of the session's journal is full"),
            Incoming::Fenced => {
                tracing::error!("another runner took this session over");
                self.ended = true;
            }
            Incoming::Closed => {
                self.start_is_over();
                recover::shim_gone(self).await;
            }
        }
    }

    /// Applies records and tells everyone what came of them.
    pub(super) fn apply(&mut self, records: &[Record]) {
        for record in records {
            if record.seq <= self.fold.record_seq() {
                continue;
            }
            let before = self.out.events.len();
            self.fold.apply(record, &mut self.out);
            let ended = self.out.events[before..]
                .iter()
                .find(|event| matches!(event.body, EventBody::TurnEnded { .. }));
            if let Some(turn) = ended.map(|event| event.turn_id) {
                if self.fold.is_at_boundary() {
                    self.save_snapshot();
                }
                if let Some(turn) = turn {
                    self.look_after(turn);
                }
            }
        }
        self.flush();
    }

    /// Events to the log and to whoever listens, answers to whoever waits.
    pub(super) fn flush(&mut self) {
        let mut out = std::mem::take(&mut self.out);
        if !out.events.is_empty() {
            let mut live = Vec::new();
            for event in &out.events {
                self.log.append(event, self.handle, &mut live);
            }
            let live = Bytes::from(live);
            self.joined
                .retain(|_, (outbox, channels)| !channels.is_empty() && outbox.send(live.clone()));
        }
        for warning in &out.warnings {
            tracing::warn!("{warning}");
        }
        for reply in out.replies.drain(..) {
            self.replied(reply);
        }
        out.clear();
        self.out = out;
        self.tell_hub();
    }

    fn replied(&mut self, reply: Reply) {
        let Reply {
            account,
            client_id,
            result,
        } = reply;
        if let Ok(text) = serde_json::to_string(&result_json(&result)) {
            self.shared.store.answer(&account, &client_id, text);
        }
        let key = (account, client_id);
        for waiter in self.waiters.remove(&key).unwrap_or_default() {
            waiter.send(result.clone());
        }
        if self.answered.len() >= KEPT_ANSWERS {
            self.answered.clear();
        }
        self.answered.insert(key, result);
    }

    /// The session's row, to the hub and the database, when it changed.
    pub(super) fn tell_hub(&mut self) {
        let info = self.fold.info();
        if self.told.as_ref() != Some(&info) {
            self.shared.store.update(&info);
            if self.told.as_ref().is_some_and(|told| told.title != info.title) && info.message_count > 0 {
                self.retitle(&info);
            }
            let _ = self.reports.send(Report::Changed(Box::new(info.clone())));
            self.told = Some(info);
        }
    }

    /// Another title, to history: the next turn would bring it too, but there may be none.
    fn retitle(&self, info: &SessionInfo) {
        let (history, mut info) = (self.shared.history.clone(), info.clone());
        info.updated_at = lodge_shim::journal::now_ms();
        tokio::spawn(async move {
            if let Err(error) = history.put_session(&info).await {
                tracing::warn!(session = %info.id, %error, "the title is not in history yet");
            }
        });
    }

    fn save_snapshot(&mut self) {
        let bytes = match self.fold.to_snapshot() {
            Ok(bytes) => bytes,
            Err(error) => return tracing::error!(%error, "a snapshot cannot be made"),
        };
        let snapshot = Snapshot {
            record_seq: self.fold.record_seq(),
            seq: self.fold.seq(),
            bytes,
        };
        self.boundaries.insert(snapshot.record_seq, snapshot.seq);
        let boundaries = self.boundaries.clone();
        let (store, internal, id) = (self.shared.store.clone(), self.internal.clone(), self.row.info.id);
        tokio::spawn(async move {
            match store.save_snapshot(id, snapshot).await {
                Ok(oldest) => {
                    let floor_seq = boundaries.get(&oldest).copied().unwrap_or_default();
                    let _ = internal.send(Internal::SnapshotSaved { oldest, floor_seq });
                }
                Err(error) => tracing::error!(%error, "a snapshot cannot be stored"),
            }
        });
    }

    pub(super) fn next_timer(&self) -> Instant {
        let far = Duration::from_hours(1);
        let timers = self.fold.wants().timers;
        let next = timers
            .iter()
            .filter(|(timer, at)| !self.fired.contains(&(**timer, **at)))
            .map(|(_, at)| *at)
            .min();
        let wait = next.map_or(far, |at| {
            Duration::from_millis(at.saturating_sub(lodge_shim::journal::now_ms()))
        });
        Instant::now() + wait.min(far)
    }
}

/// The next word of the shim; for ever pending where there is none.
async fn incoming(port: &mut Port) -> Incoming {
    match port {
        Port::Shim(link) => link.next().await,
        Port::Detached | Port::Local(_) => std::future::pending().await,
    }
}

/// An answer as it is kept for repetitions of its command.
pub(crate) fn result_json(result: &Result<serde_json::Value, ErrorBody>) -> lodge_proto::Outcome {
    match result {
        Ok(value) => lodge_proto::Outcome::Ok(value.clone()),
        Err(error) => lodge_proto::Outcome::Error(error.clone()),
    }
}
