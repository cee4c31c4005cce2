//! A client with what it saw: asks, waits, and checks the log's rules on the way.

use crate::support::client::{Client, Heard};
use crate::support::rig::Rig;
use lodge_proto::command::CommandBody;
use lodge_proto::event::{EventBody, TurnOutcome};
use lodge_proto::ids::{QueueId, TurnId};
use lodge_proto::invariants::Checker;
use lodge_proto::message::Role;
use lodge_proto::part::plain_text;
use lodge_proto::relay::{Rights, ToClient, Verdict};
use lodge_proto::session::{SessionState, SessionStatus};
use lodge_proto::{Cursor, ErrorBody, Event, Outcome, Part, SessionId};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Time after which something that was to come never will.
const PATIENCE: Duration = Duration::from_secs(20);

/// What was heard of one session.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) cursor: Option<Cursor>,
    /// None after a snapshot in the middle of a turn, until that has ended: its beginning was not heard.
    checker: Option<Checker>,
    pub(crate) events: Vec<Event>,
    pub(crate) verdicts: Vec<Verdict>,
    status: Option<SessionStatus>,
}

impl Seen {
    fn subscribed(&mut self, cursor: Cursor, verdict: Verdict) {
        match &verdict {
            Verdict::Ok {} => assert_eq!(self.cursor, Some(cursor), "`ok` begins where the client stood"),
            Verdict::Snapshot { state } | Verdict::Gap { state, .. } => {
                let between_turns = state.turn_id.is_none();
                self.checker = between_turns.then(|| Checker::after(cursor.seq));
                self.cursor = Some(cursor);
                self.status = Some(state.session.status);
            }
        }
        self.verdicts.push(verdict);
    }

    fn event(&mut self, event: Event) {
        let cursor = self.cursor.as_mut().expect("events follow a verdict");
        assert_eq!(event.seq, cursor.seq + 1, "lost or doubled: {event:?}");
        cursor.seq = event.seq;
        match &mut self.checker {
            Some(checker) => checker.event(&event).unwrap(),
            None if matches!(event.body, EventBody::TurnEnded { .. }) => {
                self.checker = Some(Checker::after(event.seq));
            }
            None => {}
        }
        if let EventBody::Status { status, .. } = &event.body {
            self.status = Some(*status);
        }
        self.events.push(event);
    }

    /// Messages of users that are complete, each with its turn.
    pub(crate) fn prompts(&self) -> Vec<(TurnId, String)> {
        let ended = self.events.iter().filter_map(|event| match &event.body {
            EventBody::StreamMessageEnd { message } if message.role == Role::User => Some(message),
            _ => None,
        });
        ended
            .map(|message| (message.turn_id, plain_text(&message.parts)))
            .collect()
    }

    /// What the assistant said, joined.
    pub(crate) fn answers(&self) -> String {
        let ended = self.events.iter().filter_map(|event| match &event.body {
            EventBody::StreamMessageEnd { message } if message.role == Role::Assistant => Some(message),
            _ => None,
        });
        ended
            .map(|message| plain_text(&message.parts))
            .collect::<Vec<_>>()
            .join("\n")
    }
}

#[derive(Debug)]
pub(crate) struct Peer {
    client: Client,
    rig: Arc<Rig>,
    seen: BTreeMap<SessionId, Seen>,
    answers: BTreeMap<String, Outcome>,
    patience: Duration,
    pub(crate) controls: Vec<ToClient>,
    /// What each terminal showed since it was attached last.
    pub(crate) shown: BTreeMap<u32, Vec<u8>>,
}

impl Peer {
    pub(crate) fn new(rig: Arc<Rig>, rights: Rights) -> Self {
        let mut client = Client::new(rig.data().join("run/runner.sock"));
        client.rights = rights;
        Self {
            client,
            rig,
            seen: BTreeMap::new(),
            answers: BTreeMap::new(),
            patience: PATIENCE,
            controls: Vec::new(),
            shown: BTreeMap::new(),
        }
    }

    /// Waits for so long in place of the usual time.
    pub(crate) fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    pub(crate) fn seen(&self, id: SessionId) -> &Seen {
        &self.seen[&id]
    }

    pub(crate) fn cursor(&self, id: SessionId) -> Cursor {
        self.seen(id).cursor.unwrap()
    }

    /// Number of the last event heard: where a search for later ones begins.
    pub(crate) fn head(&self, id: SessionId) -> u64 {
        self.cursor(id).seq
    }

    /// Hears until something is found, within bounds.
    pub(crate) async fn until<T>(&mut self, what: &str, mut found: impl FnMut(&Self) -> Option<T>) -> T {
        let patience = self.patience;
        let deadline = Instant::now() + patience;
        loop {
            if let Some(found) = found(self) {
                return found;
            }
            let cursors = self.seen.iter().map(|(id, seen)| (*id, seen.cursor)).collect();
            let heard = tokio::time::timeout_at(deadline, self.client.hear(&cursors)).await;
            let Ok(heard) = heard else {
                panic!(
                    "no {what} in {patience:?}\n{}\n{}",
                    self.describe(),
                    self.rig.log_tail()
                );
            };
            for heard in heard {
                self.take(heard);
            }
        }
    }

    fn take(&mut self, heard: Heard) {
        match heard {
            Heard::Answer(id, outcome) => drop(self.answers.insert(id, outcome)),
            Heard::Control(control) => self.controls.push(*control),
            Heard::Shown(terminal, bytes, first) => {
                let shown = self.shown.entry(terminal).or_default();
                if first {
                    shown.clear();
                }
                shown.extend(bytes);
            }
            Heard::Subscribed(id, cursor, verdict) => {
                self.seen.entry(id).or_default().subscribed(cursor, *verdict);
            }
            Heard::Event(event) => self.seen.entry(event.session_id).or_default().event(*event),
        }
    }

    fn describe(&self) -> String {
        let last = |seen: &Seen| {
            let last = seen.events.iter().rev().take(12).rev();
            last.map(|event| format!("  {:.240}", format!("{:?}", event.body)))
                .collect::<Vec<_>>()
                .join("\n")
        };
        let sessions = self
            .seen
            .iter()
            .map(|(id, seen)| format!("{id} {:?}\n{}", seen.cursor, last(seen)));
        sessions.collect::<Vec<_>>().join("\n")
    }

    /// Sends a command and does not wait for its answer.
    pub(crate) async fn send(
        &mut self,
        client_id: Option<&str>,
        id: Option<SessionId>,
        body: CommandBody,
    ) -> String {
        if let Some(client_id) = client_id {
            self.client.command_as(Some(client_id.to_owned()), id, body).await
        } else {
            self.client.command(id, body).await
        }
    }

    pub(crate) async fn answer(&mut self, command: &str) -> Outcome {
        self.until("answer", |peer| peer.answers.get(command).cloned())
            .await
    }

    pub(crate) async fn ask_as(
        &mut self,
        client_id: &str,
        id: Option<SessionId>,
        body: CommandBody,
    ) -> Outcome {
        let command = self.send(Some(client_id), id, body).await;
        self.answer(&command).await
    }

    /// A command without a client id.
    pub(crate) async fn ask_anonymously(&mut self, id: Option<SessionId>, body: CommandBody) -> Outcome {
        let command = self.client.command_as(None, id, body).await;
        self.answer(&command).await
    }

    pub(crate) async fn ok(&mut self, id: impl Into<Option<SessionId>>, body: CommandBody) -> Value {
        let command = self.send(None, id.into(), body).await;
        match self.answer(&command).await {
            Outcome::Ok(value) => value,
            Outcome::Error(error) => panic!("refused: {error:?}\n{}", self.rig.log_tail()),
        }
    }

    pub(crate) async fn refused(&mut self, id: impl Into<Option<SessionId>>, body: CommandBody) -> ErrorBody {
        let command = self.send(None, id.into(), body).await;
        match self.answer(&command).await {
            Outcome::Ok(value) => panic!("was done: {value}"),
            Outcome::Error(error) => error,
        }
    }

    /// Subscribes and waits for the verdict.
    pub(crate) async fn subscribe(&mut self, id: SessionId, cursor: Option<Cursor>) -> Verdict {
        // What the last verdict left counts no more.
        let seen = self.seen.entry(id).or_default();
        if seen.cursor != cursor {
            seen.checker = Some(Checker::after(cursor.map_or(0, |cursor| cursor.seq)));
            seen.cursor = cursor;
        }
        let known = seen.verdicts.len();
        self.client.subscribe(id, cursor).await;
        self.until("verdict", |peer| peer.seen(id).verdicts.get(known).cloned())
            .await
    }

    /// Subscribes without waiting for what comes of it.
    pub(crate) async fn send_subscribe(&mut self, id: SessionId) {
        self.until("connection", |peer| peer.client.is_connected().then_some(()))
            .await;
        self.client.subscribe(id, None).await;
    }

    pub(crate) async fn state(&mut self, id: SessionId) -> SessionState {
        serde_json::from_value(self.ok(id, CommandBody::GetState {}).await).unwrap()
    }

    /// The first event after number `after` that is searched for.
    pub(crate) async fn event<T>(
        &mut self,
        id: SessionId,
        after: u64,
        what: &str,
        mut found: impl FnMut(&EventBody) -> Option<T>,
    ) -> T {
        self.until(what, |peer| {
            let mut events = peer.seen.get(&id)?.events.iter();
            events.find_map(|event| (event.seq > after).then(|| found(&event.body)).flatten())
        })
        .await
    }

    pub(crate) async fn status(&mut self, id: SessionId, wanted: SessionStatus) {
        let what = format!("status {wanted:?}");
        self.until(&what, |peer| {
            (peer.seen.get(&id)?.status == Some(wanted)).then_some(())
        })
        .await;
    }

    /// Types into a terminal.
    pub(crate) async fn type_in(&mut self, terminal: u32, text: &str) {
        self.client.type_in(terminal, text).await;
    }

    /// Waits until a terminal has shown a text.
    pub(crate) async fn shows(&mut self, terminal: u32, text: &str) {
        self.until(text, |peer| {
            let shown = String::from_utf8_lossy(peer.shown.get(&terminal)?).into_owned();
            shown.contains(text).then_some(())
        })
        .await;
    }

    /// Waits until a terminal has shown a text behind another.
    pub(crate) async fn shows_after(&mut self, terminal: u32, first: &str, text: &str) {
        self.until(text, |peer| {
            let shown = String::from_utf8_lossy(peer.shown.get(&terminal)?).into_owned();
            let (_, behind) = shown.split_once(first)?;
            behind.contains(text).then_some(())
        })
        .await;
    }

    /// A prompt that begins a turn.
    pub(crate) async fn prompt(&mut self, id: SessionId, text: &str) -> TurnId {
        let answer = self.ok(id, prompt(text)).await;
        assert_eq!(answer["disposition"], "started", "{answer}");
        serde_json::from_value(answer["turn_id"].clone()).unwrap()
    }

    /// A prompt that waits.
    pub(crate) async fn queue(&mut self, id: SessionId, body: CommandBody, disposition: &str) -> QueueId {
        let answer = self.ok(id, body).await;
        assert_eq!(answer["disposition"], disposition, "{answer}");
        serde_json::from_value(answer["entry_id"].clone()).unwrap()
    }

    pub(crate) async fn ended(&mut self, id: SessionId, turn: TurnId) -> (TurnOutcome, Option<ErrorBody>) {
        self.until("end of the turn", |peer| {
            peer.seen(id).events.iter().find_map(|event| match &event.body {
                EventBody::TurnEnded { outcome, error, .. } if event.turn_id == Some(turn) => {
                    Some((*outcome, error.clone()))
                }
                _ => None,
            })
        })
        .await
    }

    /// A whole turn that completes.
    pub(crate) async fn run(&mut self, id: SessionId, text: &str) -> TurnId {
        let turn = self.prompt(id, text).await;
        assert_eq!(self.ended(id, turn).await, (TurnOutcome::Completed, None));
        turn
    }

    /// Waits for text of the assistant: the turn is under way.
    pub(crate) async fn streaming(&mut self, id: SessionId, turn: TurnId) {
        self.until("text", |peer| {
            let mut events = peer.seen(id).events.iter();
            events.find(|event| {
                event.turn_id == Some(turn)
                    && matches!(
                        event.body,
                        EventBody::AgentWorking {
                            phase: lodge_proto::session::Phase::Generating
                        }
                    )
            })?;
            Some(())
        })
        .await;
    }

    /// Nothing is left open in any log.
    pub(crate) fn finish(&self) {
        for (id, seen) in &self.seen {
            let checker = seen.checker.as_ref().expect("the turn has ended");
            if let Err(violation) = checker.finish() {
                panic!("{id}: {violation}");
            }
        }
    }
}

pub(crate) fn prompt(text: &str) -> CommandBody {
    CommandBody::Prompt {
        parts: vec![Part::text(text)],
    }
}

pub(crate) fn steer(text: &str) -> CommandBody {
    CommandBody::Steer {
        parts: vec![Part::text(text)],
    }
}

pub(crate) fn follow_up(text: &str) -> CommandBody {
    CommandBody::FollowUp {
        parts: vec![Part::text(text)],
    }
}

/// The error of an answer.
pub(crate) fn error(outcome: Outcome) -> ErrorBody {
    match outcome {
        Outcome::Error(error) => error,
        Outcome::Ok(value) => panic!("was done: {value}"),
    }
}
