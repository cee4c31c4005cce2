//! What the fold wants of the world, compared with what is under way.

use super::actor::{Actor, Internal, Waiting};
use super::journal::Own;
use super::port::Port;
use crate::fold::{DeliveryId, Note, PendingInput, RecordBody};
use lodge_proto::session::SessionStatus;
use lodge_proto::{ErrorBody, ErrorCode};
use std::time::Duration;

/// Bytes of records after which the shim is told how far they were applied: well below what holds its harness up.
const ACK_BYTES: usize = 1024 * 1024;

impl Actor {
    /// Does what the state asks for and is not yet under way. Called after every change.
    pub(super) fn drive(&mut self) {
        self.write_own();
        self.deliver_inputs();
        self.persist();
        self.kill();
        self.answer_network();
        self.keep_approvals();
        self.release_waiting();
        if !self.fold.is_running() && !self.launching && self.lease.is_some() {
            // The key dies with the harness.
            self.lease = None;
        }
    }

    /// Lets go of the shim. What it may not have journalled is written again: ids make that harmless. A command that
    /// is for a harness waits for one, and fails when none runs any more.
    pub(super) fn detach(&mut self) {
        let Port::Shim(mut link) = std::mem::replace(&mut self.port, Port::Detached) else {
            return;
        };
        let mut unwritten = Vec::new();
        for own in link.take_unconfirmed() {
            match own.command_for_harness() {
                Some(key) => self.waiting.push(Waiting::Command(own, key)),
                None => unwritten.push(own),
            }
        }
        unwritten.append(&mut self.unwritten);
        self.unwritten = unwritten;
    }

    /// Appends a record of the runner's own, as soon as the journal can be reached.
    pub(super) fn append(&mut self, own: Own) {
        self.unwritten.push(own);
        self.write_own();
    }

    fn write_own(&mut self) {
        while !self.unwritten.is_empty() {
            match &mut self.port {
                Port::Detached => return,
                Port::Shim(link) => {
                    for own in self.unwritten.drain(..) {
                        link.append(own);
                    }
                }
                Port::Local(local) => {
                    let own = self.unwritten.remove(0);
                    match local.append(&own) {
                        Ok(Some(record)) => self.apply(&[record]),
                        Ok(None) => {}
                        Err(error) => {
                            tracing::error!(%error, "appending to the journal");
                            self.unwritten.insert(0, own);
                            return self.fail_waiters(&ErrorBody::new(
                                ErrorCode::Unavailable,
                                format!("the session's journal cannot be written: {error}"),
                            ));
                        }
                    }
                }
            }
        }
    }

    /// Commands that were not written are taken back; what the session itself has to say is kept.
    fn fail_waiters(&mut self, error: &ErrorBody) {
        self.unwritten
            .retain(|own| own.kind != lodge_shim::journal::Kind::Cmd);
        for ((account, client_id), waiters) in self.waiters.drain() {
            self.shared.store.unclaim(&account, &client_id);
            for waiter in waiters {
                waiter.send(Err(error.clone()));
            }
        }
    }

    fn deliver_inputs(&mut self) {
        let Port::Shim(link) = &self.port else { return };
        let wants = self.fold.wants();
        if wants.inputs.is_empty() {
            return self.sent.clear();
        }
        for input in wants.inputs {
            if self.sent.contains(&input.id) {
                continue;
            }
            if !input.blobs.is_empty() {
                return self.fill(&input.clone());
            }
            self.sent.insert(input.id);
            link.input(input.id, &input.bytes);
        }
    }

    /// Reads the blobs of an input, away from this task. Inputs stay in order: those after it wait.
    fn fill(&mut self, input: &PendingInput) {
        if self.filling.replace(input.id) == Some(input.id) {
            return;
        }
        let (blobs, internal) = (self.shared.blobs.clone(), self.internal.clone());
        let (session, input) = (self.row.info.id, input.clone());
        tokio::spawn(async move {
            let bytes = super::fill::filled(&blobs, session, &input).await;
            let _ = internal.send(Internal::Filled(input.id, bytes));
        });
    }

    /// An input is whole, or never will be.
    fn filled(&mut self, id: DeliveryId, result: Result<Vec<u8>, ErrorBody>) {
        self.filling = None;
        if !self.fold.wants().inputs.iter().any(|input| input.id == id) {
            return;
        }
        match (result, &self.port) {
            (Ok(bytes), Port::Shim(link)) => {
                if self.sent.insert(id) {
                    link.input(id, &bytes);
                }
            }
            // Another shim will be given it.
            (Ok(_), _) => {}
            (Err(error), _) => self.append(Own::note_once(
                &Note::InputLost { input: id, error },
                &format!("lost {id:02x?}"),
            )),
        }
    }

    /// Gives the turn that ended to history; tried until it is there.
    fn persist(&mut self) {
        let Some(record) = self.fold.wants().persist else {
            return;
        };
        if self.persisting == Some(record.id) {
            return;
        }
        self.persisting = Some(record.id);
        let (history, internal) = (self.shared.history.clone(), self.internal.clone());
        let (info, record) = (self.fold.info(), record.clone());
        tokio::spawn(async move {
            let message_version = history.append_turn(&info, &record).await;
            let _ = internal.send(Internal::Persisted {
                turn: record.id,
                message_version,
            });
        });
    }

    fn kill(&mut self) {
        let wanted = self.fold.wants().kill;
        if wanted
            && !self.killed
            && let Port::Shim(link) = &self.port
        {
            link.stop(Duration::ZERO);
        }
        self.killed = wanted;
    }

    /// Commands that waited for the harness go on when it runs, and fail when it does not come.
    fn release_waiting(&mut self) {
        if self.waiting.is_empty() || self.launching {
            return;
        }
        if self.fold.is_running() {
            for waiting in std::mem::take(&mut self.waiting) {
                match waiting {
                    Waiting::Command(own, _) => self.append(own),
                    Waiting::Start(answering) => self.answer_start(answering, Ok(())),
                    Waiting::Sandbox(reply) => {
                        let streams = match &self.port {
                            Port::Shim(link) => Ok(link.streams.clone()),
                            _ => Err(ErrorBody::new(
                                ErrorCode::Unavailable,
                                "the session's sandbox has just ended; try again",
                            )),
                        };
                        let _ = reply.send(streams);
                    }
                }
            }
        } else if matches!(self.fold.status(), SessionStatus::Failed | SessionStatus::Stopped) {
            let error = self.fold.state().last_error.unwrap_or_else(|| {
                ErrorBody::new(
                    ErrorCode::HarnessCrashed,
                    "the harness ended before it could take the command",
                )
            });
            self.fail_waiting(&error);
        }
    }

    /// Whatever waited for the harness gets this error; nothing was written, so the same id may try again.
    pub(super) fn fail_waiting(&mut self, error: &ErrorBody) {
        for waiting in std::mem::take(&mut self.waiting) {
            match waiting {
                Waiting::Command(_, key) => {
                    // Without waiters it was answered: the journal had it after all.
                    let Some(waiters) = self.waiters.remove(&key) else {
                        continue;
                    };
                    self.shared.store.unclaim(&key.0, &key.1);
                    for waiter in waiters {
                        waiter.send(Err(error.clone()));
                    }
                }
                Waiting::Start(answering) => self.answer_start(answering, Err(error.clone())),
                Waiting::Sandbox(reply) => drop(reply.send(Err(error.clone()))),
            }
        }
    }

    fn answer_start(&self, answering: super::Answering, result: Result<(), ErrorBody>) {
        let result = result.map(|()| serde_json::json!(self.fold.info()));
        match &result {
            Ok(_) => {
                if let Ok(text) = serde_json::to_string(&super::actor::result_json(&result)) {
                    self.shared
                        .store
                        .answer(&answering.account, &answering.client_id, text);
                }
            }
            Err(_) => self
                .shared
                .store
                .unclaim(&answering.account, &answering.client_id),
        }
        answering.reply.send(result);
    }

    pub(super) fn fire_timers(&mut self) {
        let now = lodge_shim::journal::now_ms();
        let due: Vec<_> = self
            .fold
            .wants()
            .timers
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(timer, at)| (*timer, *at))
            .collect();
        self.fired.retain(|fired| due.contains(fired));
        for (timer, at) in due {
            if self.fired.insert((timer, at)) {
                self.append(Own::timer(timer, at));
            }
        }
    }

    pub(super) async fn internal(&mut self, internal: Internal) {
        match internal {
            Internal::Persisted {
                turn,
                message_version,
            } => {
                self.persisting = None;
                let note = Note::HistoryAck {
                    turn,
                    message_version,
                };
                self.append(Own::note_once(&note, &format!("history {turn}")));
                // Until the record is applied the turn still wants to be stored: it is not written twice.
                self.persisting = Some(turn);
            }
            Internal::SnapshotSaved { oldest, floor_seq } => {
                self.boundaries.retain(|record, _| *record >= oldest);
                self.log.forget(floor_seq);
                match &mut self.port {
                    Port::Shim(link) => link.ack(self.fold.record_seq(), oldest + 1),
                    Port::Local(local) => local.prune(oldest + 1),
                    Port::Detached => {}
                }
            }
            Internal::Leased(lease) => self.lease = Some(lease),
            Internal::Network(notice) => self.network(notice),
            Internal::NetworkTold(question) => self.network_closed(question),
            Internal::ApprovalKept(approval) => self.approval_kept(approval).await,
            Internal::Prepared(prepared) => self.prepared(*prepared).await,
            Internal::Filled(input, bytes) => self.filled(input, bytes),
            Internal::Spawned(result) => self.spawned(result).await,
            Internal::Looked(looked) => self.looked(*looked),
        }
    }

    /// After records were applied: what the shim need not keep back, and when its harness is gone, that it may end.
    pub(super) fn acknowledge(&mut self, records: &[crate::fold::Record]) {
        let gone = records
            .iter()
            .any(|record| matches!(record.body, RecordBody::Exit(_) | RecordBody::StartFailed { .. }));
        self.unacknowledged += records.iter().map(|record| weight(&record.body)).sum::<usize>();
        if (gone || self.unacknowledged > ACK_BYTES)
            && let Port::Shim(link) = &self.port
        {
            link.ack(self.fold.record_seq(), 0);
            self.unacknowledged = 0;
        }
    }
}

/// Bytes of a record in the journal, about.
fn weight(body: &RecordBody) -> usize {
    const HEADER: usize = 32;
    HEADER
        + match body {
            RecordBody::Out(bytes) | RecordBody::Err(bytes) | RecordBody::InBegin { bytes, .. } => {
                bytes.len()
            }
            _ => 0,
        }
}
