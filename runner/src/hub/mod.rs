//! The runner's one task that knows all sessions and all relays.
//!
//! It owns the list, routes requests to sessions, and makes and deletes them. What a session does is its own
//! business: the hub only keeps the row of each for the list.

mod approvals;
mod choices;
mod commands;
mod create;
mod images;
mod inside;
mod installs;
pub mod router;
mod trust;
mod usable;

use crate::conns::{ConnId, Outbox};
use crate::session::{self, Report, Request, SessionHandle};
use crate::shared::Shared;
use crate::store::SessionRow;
use bytes::Bytes;
use installs::Installs;
use lodge_proto::frame::{Header, Kind};
use lodge_proto::relay::{Actor, ToClient, ToRunner};
use lodge_proto::session::{SessionInfo, SessionStatus};
use lodge_proto::{ErrorBody, ErrorCode, SessionId};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

pub use router::FromRelay;

/// Frames of relays that may wait for the hub.
const QUEUE: usize = 4096;

/// What reaches the hub.
#[derive(Debug)]
pub enum HubMessage {
    /// A relay connected.
    Connected(Outbox),
    /// A frame of a relay.
    Frame {
        conn: ConnId,
        channel: u32,
        frame: FromRelay,
    },
    /// A relay's connection ended.
    Gone(ConnId),
    /// A new session is ready to be opened, or an error ends its making.
    Created(Box<create::Created>),
    /// A session was deleted everywhere, or (`false`) could not be and is still there.
    Deleted(SessionId, bool),
}

/// The sending side for connections.
pub type HubSender = mpsc::Sender<HubMessage>;

#[derive(Debug)]
struct Entry {
    row: SessionRow,
    /// Its task, where one runs.
    handle: Option<SessionHandle>,
}

#[derive(Debug)]
struct Conn {
    outbox: Outbox,
    clients: HashMap<u32, Actor>,
}

#[derive(Debug)]
pub struct Hub {
    shared: Arc<Shared>,
    sessions: BTreeMap<SessionId, Entry>,
    conns: BTreeMap<ConnId, Conn>,
    reports: mpsc::UnboundedSender<Report>,
    sender: HubSender,
    next_handle: u64,
    deleting: HashSet<SessionId>,
    installs: Installs,
}

impl Hub {
    /// Runs until `shutdown`, then ends all sessions' tasks.
    pub async fn run(
        shared: Arc<Shared>,
        rows: Vec<SessionRow>,
        hub: (HubSender, mpsc::Receiver<HubMessage>),
        shutdown: impl Future<Output = ()>,
    ) {
        let (sender, mut inbox) = hub;
        let (reports, mut reported) = mpsc::unbounded_channel();
        let sessions = rows
            .into_iter()
            .map(|row| (row.info.id, Entry { row, handle: None }))
            .collect();
        let mut hub = Self {
            shared,
            sessions,
            conns: BTreeMap::new(),
            reports,
            sender,
            next_handle: 1,
            deleting: HashSet::new(),
            installs: Installs::default(),
        };
        hub.adopt();
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                Some(message) = inbox.recv() => hub.message(message).await,
                Some(report) = reported.recv() => hub.report(report).await,
                () = &mut shutdown => break,
            }
        }
        hub.end().await;
    }

    /// A channel for [`Hub::run`].
    pub fn channel() -> (HubSender, mpsc::Receiver<HubMessage>) {
        mpsc::channel(QUEUE)
    }

    /// Opens every session that may have something under way.
    fn adopt(&mut self) {
        let open: Vec<SessionId> = self
            .sessions
            .iter()
            .filter(|(id, entry)| {
                !matches!(
                    entry.row.info.status,
                    SessionStatus::Stopped | SessionStatus::Failed
                ) || self.shared.session_dir(**id).join("shim.sock").exists()
            })
            .map(|(id, _)| *id)
            .collect();
        for id in open {
            self.handle(id);
        }
    }

    /// The task of a session; it is started where none runs.
    fn handle(&mut self, id: SessionId) -> Option<SessionHandle> {
        let entry = self.sessions.get_mut(&id)?;
        if entry.handle.is_none() {
            let number = self.next_handle;
            self.next_handle += 1;
            let (shared, reports) = (Arc::clone(&self.shared), self.reports.clone());
            entry.handle = Some(session::open(shared, entry.row.clone(), number, reports));
        }
        entry.handle.clone()
    }

    async fn ask(&mut self, id: SessionId, request: Request) -> Result<(), ErrorBody> {
        let not_found = || ErrorBody::new(ErrorCode::NotFound, format!("no session {id}"));
        if self.deleting.contains(&id) {
            return Err(not_found());
        }
        let handle = self.handle(id).ok_or_else(not_found)?;
        if handle.send(request).await {
            return Ok(());
        }
        // Its task has just ended: the next request starts it anew.
        if let Some(entry) = self.sessions.get_mut(&id) {
            entry.handle = None;
        }
        Err(ErrorBody::new(
            ErrorCode::Unavailable,
            "the session is being reopened; try again",
        ))
    }

    async fn report(&mut self, report: Report) {
        match report {
            Report::Changed(info) => self.changed(*info).await,
            Report::ApprovalsChanged(by) => self.approvals_changed(by).await,
            Report::Ended(id) => {
                if let Some(entry) = self.sessions.get_mut(&id) {
                    entry.handle = None;
                }
            }
        }
    }

    async fn changed(&mut self, info: SessionInfo) {
        let Some(entry) = self.sessions.get_mut(&info.id) else {
            return;
        };
        let opened = is_open(&entry.row.info) != is_open(&info);
        let workspace = info.workspace.clone();
        entry.row.info = info.clone();
        self.broadcast(&ToClient::SessionChanged {
            session: Box::new(info),
        });
        if opened {
            self.tell_neighbours(&workspace).await;
        }
    }

    /// Tells the open sessions of a workspace of each other: both may change its files.
    async fn tell_neighbours(&mut self, workspace: &str) {
        let open: Vec<SessionId> = self
            .sessions
            .values()
            .filter(|entry| entry.row.info.workspace == workspace && is_open(&entry.row.info))
            .map(|entry| entry.row.info.id)
            .collect();
        for id in &open {
            let sessions = open.iter().copied().filter(|other| other != id).collect();
            let handle = self.sessions.get(id).and_then(|entry| entry.handle.clone());
            if let Some(handle) = handle {
                handle.send(Request::SharedWith { sessions }).await;
            }
        }
    }

    fn broadcast(&self, control: &ToClient) {
        let mut out = Vec::new();
        crate::conns::push_json(&mut out, Header::new(Kind::Control), control);
        let frames = Bytes::from(out);
        for conn in self.conns.values() {
            conn.outbox.send(frames.clone());
        }
    }

    async fn message(&mut self, message: HubMessage) {
        match message {
            HubMessage::Connected(outbox) => {
                self.conns.insert(
                    outbox.id,
                    Conn {
                        outbox,
                        clients: HashMap::new(),
                    },
                );
            }
            HubMessage::Gone(conn) => self.conn_gone(conn).await,
            HubMessage::Frame { conn, channel, frame } => match frame {
                FromRelay::Control(control) => self.control(conn, channel, control).await,
                FromRelay::Command(envelope) => self.command(conn, channel, &envelope).await,
                FromRelay::Typed { terminal, bytes } => self.typed(conn, channel, terminal, &bytes),
            },
            HubMessage::Created(created) => self.created(*created).await,
            HubMessage::Deleted(id, gone) => {
                self.deleting.remove(&id);
                if !gone {
                    return;
                }
                if let Some(entry) = self.sessions.remove(&id) {
                    self.broadcast(&ToClient::SessionRemoved { session_id: id });
                    self.tell_neighbours(&entry.row.info.workspace).await;
                }
            }
        }
    }

    async fn conn_gone(&mut self, conn: ConnId) {
        self.conns.remove(&conn);
        self.shared.terminals.unwatch_all(conn);
        let handles: Vec<SessionHandle> = self
            .sessions
            .values()
            .filter_map(|entry| entry.handle.clone())
            .collect();
        for handle in handles {
            handle.send(Request::ConnGone { conn }).await;
        }
    }

    async fn control(&mut self, conn: ConnId, channel: u32, control: ToRunner) {
        match control {
            // Transfers are their connection's own.
            ToRunner::Hello { .. } | ToRunner::BlobPut { .. } | ToRunner::BlobGet { .. } => {}
            ToRunner::Attach { actor } => {
                if let Some(conn) = self.conns.get_mut(&conn) {
                    conn.clients.insert(channel, actor);
                }
            }
            ToRunner::Detach {} => {
                if let Some(conn) = self.conns.get_mut(&conn) {
                    conn.clients.remove(&channel);
                }
                self.shared.terminals.unwatch(conn, channel, None);
                let handles: Vec<SessionHandle> = self
                    .sessions
                    .values()
                    .filter_map(|entry| entry.handle.clone())
                    .collect();
                for handle in handles {
                    handle.send(Request::Unsubscribe { conn, channel }).await;
                }
            }
            ToRunner::Subscribe { cursors } => {
                for (id, cursor) in cursors {
                    self.subscribe(conn, channel, id, cursor).await;
                }
            }
            ToRunner::Resync { session_id } => self.subscribe(conn, channel, session_id, None).await,
            ToRunner::TerminalDetach { terminal_id } => {
                self.shared.terminals.unwatch(conn, channel, Some(terminal_id));
            }
        }
    }

    async fn subscribe(
        &mut self,
        conn: ConnId,
        channel: u32,
        session_id: SessionId,
        cursor: Option<lodge_proto::Cursor>,
    ) {
        let Some(outbox) = self.conns.get(&conn).map(|conn| conn.outbox.clone()) else {
            return;
        };
        let request = Request::Subscribe {
            outbox: outbox.clone(),
            channel,
            cursor,
        };
        if let Err(error) = self.ask(session_id, request).await {
            outbox.control(channel, 0, &ToClient::SubscribeFailed { session_id, error });
        }
    }

    /// Ends all tasks, all at once, each within its own bounds.
    async fn end(&mut self) {
        let stop = self.shared.config.stop_sessions_on_exit;
        let mut waiting = Vec::new();
        for entry in self.sessions.values_mut() {
            if let Some(handle) = entry.handle.take() {
                let (done, ended) = oneshot::channel();
                if handle.send(Request::Shutdown { stop, done }).await {
                    waiting.push(ended);
                }
            }
        }
        for ended in waiting {
            let _ = ended.await;
        }
    }
}

/// Whether a session's harness may change files now.
fn is_open(info: &SessionInfo) -> bool {
    !matches!(info.status, SessionStatus::Stopped | SessionStatus::Failed)
}
