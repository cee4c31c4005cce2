//! Requests of clients and of the hub.

use super::actor::{Actor, Waiting};
use super::journal::Own;
use super::log::Found;
use super::port::Port;
use super::{Query, Request};
use crate::conns::{ConnId, Outbox, ReplyPort, push_json, push_relay_control};
use crate::fold::{JournalCommand, Note};
use bytes::Bytes;
use lodge_proto::Cursor;
use lodge_proto::command::CommandBody;
use lodge_proto::frame::{Header, Kind, flags};
use lodge_proto::relay::{ToClient, ToRelay, Verdict};
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::oneshot;

/// Time a harness has to end when it is asked to, before it is killed.
const STOP_GRACE: Duration = Duration::from_secs(2);
/// Time within which a stopped harness is gone, or the runner no longer waits for it.
const STOP_PATIENCE: Duration = Duration::from_secs(6);

impl Actor {
    pub(super) async fn request(&mut self, request: Request) {
        match request {
            // A harness that comes up after its session was ended would be nobody's.
            Request::Stop { .. } | Request::Shutdown { .. } | Request::Discard { .. }
                if self.launching && self.awaited.is_none() =>
            {
                self.ending.push(request);
            }
            Request::Subscribe {
                outbox,
                channel,
                cursor,
            } => self.subscribe(&outbox, channel, cursor),
            Request::Unsubscribe { conn, channel } => self.unsubscribe(conn, channel),
            Request::ConnGone { conn } => drop(self.joined.remove(&conn)),
            Request::Command { command, reply } => self.command(&command, reply),
            Request::Query { query, reply } => self.query(query, reply),
            Request::Sandbox { reply } => match &self.port {
                Port::Shim(link) if self.fold.is_running() => drop(reply.send(Ok(link.streams.clone()))),
                _ => {
                    self.waiting.push(Waiting::Sandbox(reply));
                    self.start_harness();
                }
            },
            Request::Origin { before, reply } => drop(reply.send(self.fold.origin(before))),
            Request::Opened { reply } => drop(reply.send(())),
            Request::Start { reply } => {
                self.waiting.extend(reply.map(Waiting::Start));
                self.start_harness();
            }
            Request::Stop { reason, done } => {
                self.stop(&reason).await;
                let _ = done.send(());
            }
            Request::ApprovalsChanged { done } => {
                self.load_approvals().await;
                if let Some(done) = done {
                    let _ = done.send(());
                }
            }
            Request::SharedWith { sessions } => {
                if self.fold.info().shares_workspace_with != sessions {
                    self.append(Own::note(&Note::WorkspaceShared { with: sessions }));
                }
            }
            Request::Shutdown { stop, done } => self.shutdown(stop, done).await,
            Request::Discard { done } => {
                self.stop("the session was deleted").await;
                self.port = Port::Detached;
                self.ended = true;
                let _ = done.send(());
            }
        }
    }

    /// What was missed, then everything from now on, without gap or repetition: both happen here, in one place.
    fn subscribe(&mut self, outbox: &Outbox, channel: u32, cursor: Option<Cursor>) {
        self.unsubscribe(outbox.id, channel);
        let head = Cursor {
            epoch: self.log.epoch(),
            seq: self.log.head(),
        };
        let state = || Box::new(self.fold.state());
        let (verdict, from) = match (self.log.find(cursor), cursor) {
            (Found::All, Some(cursor)) => (Verdict::Ok {}, cursor),
            (Found::Foreign(reason), _) => (
                Verdict::Gap {
                    reason: reason.to_owned(),
                    state: state(),
                },
                head,
            ),
            (Found::All | Found::TooOld, _) => (Verdict::Snapshot { state: state() }, head),
        };
        let mut out = Vec::new();
        let header = Header::new(Kind::Control)
            .channel(channel)
            .session(self.handle)
            .flags(flags::URGENT);
        let session_id = self.row.info.id;
        push_json(
            &mut out,
            header,
            &ToClient::Subscribed {
                session_id,
                cursor: from,
                verdict,
            },
        );
        self.log.replay(from.seq, self.handle, channel, &mut out);
        push_relay_control(&mut out, channel, self.handle, &ToRelay::Join { session_id });
        if outbox.send(Bytes::from(out)) {
            let entry = self
                .joined
                .entry(outbox.id)
                .or_insert_with(|| (outbox.clone(), BTreeSet::new()));
            entry.1.insert(channel);
        }
    }

    fn unsubscribe(&mut self, conn: ConnId, channel: u32) {
        if let Some((outbox, channels)) = self.joined.get_mut(&conn)
            && channels.remove(&channel)
        {
            let mut out = Vec::new();
            push_relay_control(&mut out, channel, self.handle, &ToRelay::Leave {});
            outbox.send(Bytes::from(out));
        }
    }

    fn command(&mut self, command: &JournalCommand, reply: ReplyPort) {
        let key = (command.sender.account.clone(), command.client_id.clone());
        if let Some(result) = self.answered.get(&key) {
            return reply.send(result.clone());
        }
        let repeated = self.waiters.contains_key(&key);
        self.waiters.entry(key.clone()).or_default().push(reply);
        if repeated {
            return;
        }
        let own = Own::command(command);
        if needs_harness(&command.body) && !self.fold.is_running() {
            self.waiting.push(Waiting::Command(own, key));
            self.start_harness();
        } else {
            self.append(own);
        }
    }

    fn query(&mut self, query: Query, reply: ReplyPort) {
        match query {
            Query::State => reply.send(Ok(json!(self.fold.state()))),
            Query::Commands => reply.send(Ok(json!({ "commands": self.fold.state().commands }))),
            Query::Approvals => reply.send(Ok(json!({ "approvals": self.fold.approvals() }))),
            Query::Stats => {
                let state = self.fold.state();
                reply.send(Ok(json!({
                    "usage": state.usage,
                    "context_tokens": state.context_tokens,
                    "message_count": state.session.message_count,
                    "last_seq": self.log.head(),
                })));
            }
            Query::Messages { cursor, limit } => {
                let (history, id) = (self.shared.history.clone(), self.row.info.id);
                tokio::spawn(async move { reply.send(history.page(id, cursor, limit).await) });
            }
        }
    }

    /// Stops the harness and waits until it is gone and its turn is stored, within bounds.
    async fn stop(&mut self, reason: &str) {
        self.fail_waiting(&lodge_proto::ErrorBody::new(
            lodge_proto::ErrorCode::Conflict,
            "the session is being stopped",
        ));
        if !self.is_up() {
            return;
        }
        self.append(Own::note(&Note::Stopping {
            reason: reason.to_owned(),
        }));
        if let Port::Shim(link) = &self.port {
            link.stop(STOP_GRACE);
        }
        let patience = tokio::time::sleep(STOP_PATIENCE);
        tokio::pin!(patience);
        while self.is_up() {
            let Port::Shim(link) = &mut self.port else { break };
            tokio::select! {
                incoming = link.next() => match incoming {
                    super::link::Incoming::Records(records) => {
                        self.apply(&records);
                        self.acknowledge(&records);
                        self.decide_start();
                    }
                    super::link::Incoming::Closed => break,
                    _ => {}
                },
                () = &mut patience => {
                    tracing::warn!("the harness is still there after it was stopped");
                    break;
                }
            }
        }
    }

    /// A harness runs, or its sandbox is coming up.
    fn is_up(&self) -> bool {
        self.fold.is_running() || self.awaited.is_some()
    }

    async fn shutdown(&mut self, stop: bool, done: oneshot::Sender<()>) {
        if stop {
            self.stop("Lodge was stopped").await;
        }
        // A shim that stays goes on by itself; the next runner finds it.
        self.port = Port::Detached;
        self.ended = true;
        let _ = done.send(());
    }
}

/// Whether a command makes sense only with a harness: it is started for it.
pub(super) fn needs_harness(body: &CommandBody) -> bool {
    matches!(
        body,
        CommandBody::Prompt { .. }
            | CommandBody::Steer { .. }
            | CommandBody::FollowUp { .. }
            | CommandBody::QueueResend { .. }
            | CommandBody::SetModel { .. }
            | CommandBody::SetThinkingLevel { .. }
            | CommandBody::SetMode { .. }
            | CommandBody::Compact { .. }
    )
}
