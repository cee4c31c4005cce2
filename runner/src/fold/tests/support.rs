//! A session under test, with a clock that the test turns.

use super::super::*;
use lodge_proto::command::CommandBody;
use lodge_proto::event::{EventBody, TurnOutcome};
use lodge_proto::invariants::Checker;
use lodge_proto::message::Sender;
use lodge_proto::part::Part;
use lodge_proto::session::Tier;
use lodge_proto::{Event, SessionId};
use serde_json::{Value, json};

/// Ids are made from it: with one id two runs give equal events.
const SESSION: SessionId = SessionId(uuid::Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0002));

/// A session under test, with a clock that the test turns.
pub(super) struct Session {
    pub(super) fold: SessionFold,
    pub(super) out: Output,
    pub(super) checker: Checker,
    pub(super) seq: u64,
    pub(super) now: u64,
    pub(super) client: u32,
    /// Inputs that were delivered, as JSON.
    pub(super) delivered: Vec<Value>,
}

impl Session {
    pub(super) fn created() -> Self {
        let session = SESSION;
        let fold = SessionFold::new(session, AnyAdapter::new("pi").unwrap());
        let (out, checker) = (Output::new(), Checker::new());
        let mut this = Self {
            fold,
            out,
            checker,
            seq: 0,
            now: 1_000,
            client: 0,
            delivered: Vec::new(),
        };
        let created = Created {
            session,
            harness: "pi".into(),
            workspace: "/w".into(),
            title: None,
            model: None,
            thinking_level: None,
            tier: Tier::Process,
            profile: None,
            wish: crate::fold::Wish::default(),
            fork: None,
        };
        this.apply(RecordBody::Note(Box::new(Note::Created(Box::new(created)))));
        this
    }

    pub(super) fn idle() -> Self {
        let mut this = Self::created();
        this.start(1);
        this
    }

    pub(super) fn start(&mut self, generation: u64) {
        self.apply(RecordBody::Generation { generation });
        self.apply(RecordBody::Started);
        self.deliver();
        self.line(&json!({ "type": "response", "command": "get_state", "success": true, "data": {} }));
    }

    pub(super) fn apply(&mut self, body: RecordBody) -> Vec<Event> {
        self.seq += 1;
        self.now += 1;
        self.fold.apply(
            &Record {
                seq: self.seq,
                time_ms: self.now,
                body,
            },
            &mut self.out,
        );
        let events = std::mem::take(&mut self.out.events);
        for event in &events {
            self.checker.event(event).unwrap();
        }
        events
    }

    pub(super) fn line(&mut self, line: &Value) -> Vec<Event> {
        self.apply(RecordBody::Out(line.to_string().into_bytes()))
    }

    pub(super) fn command(&mut self, body: CommandBody) -> Result<Value, lodge_proto::ErrorBody> {
        self.out.replies.clear();
        self.client += 1;
        let sender = Sender {
            account: "a".into(),
            name: "A".into(),
        };
        let command = JournalCommand {
            sender,
            client_id: self.client.to_string(),
            body,
        };
        self.apply(RecordBody::Cmd(Box::new(command)));
        let reply = self.out.replies.pop().expect("an answer at once");
        assert_eq!(reply.client_id, self.client.to_string());
        reply.result
    }

    pub(super) fn prompt(&mut self, text: &str) -> Value {
        self.command(CommandBody::Prompt {
            parts: vec![Part::text(text)],
        })
        .unwrap()
    }

    /// Delivers what waits, as the shim does.
    pub(super) fn deliver(&mut self) -> Vec<Value> {
        let mut lines = Vec::new();
        while let Some(input) = self.fold.wants().inputs.first().cloned() {
            self.apply(RecordBody::InBegin {
                id: input.id,
                bytes: input.bytes.clone(),
            });
            self.apply(RecordBody::InDone { id: input.id });
            lines.push(serde_json::from_slice(&input.bytes).unwrap());
        }
        self.delivered.extend(lines.clone());
        lines
    }

    /// The harness takes a prompt up and says something, without an end.
    pub(super) fn answer_begins(&mut self) {
        self.line(&json!({ "type": "agent_start" }));
        self.line(&json!({ "type": "message_start", "message": { "role": "user", "content": "echo" } }));
        self.line(&json!({ "type": "message_start", "message": { "role": "assistant", "content": [] } }));
        self.delta("hello");
    }

    pub(super) fn delta(&mut self, text: &str) -> Vec<Event> {
        let delta = json!({ "type": "text_delta", "contentIndex": 0, "delta": text });
        self.line(&json!({ "type": "message_update", "assistantMessageEvent": delta }))
    }

    pub(super) fn answer_ends(&mut self, text: &str, stop: &str) -> Vec<Event> {
        let message = json!({
            "role": "assistant", "content": [{ "type": "text", "text": text }], "stopReason": stop,
        });
        let mut events = self.line(&json!({ "type": "message_end", "message": message }));
        events.extend(self.line(&json!({ "type": "agent_settled" })));
        events
    }

    pub(super) fn acknowledge(&mut self) -> Vec<Event> {
        let turn = self.fold.wants().persist.expect("a turn to be stored").id;
        let message_version = self.fold.info().message_count;
        self.apply(RecordBody::Note(Box::new(Note::HistoryAck {
            turn,
            message_version,
        })))
    }
}

pub(super) fn tags(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.body.tag()).collect()
}

pub(super) fn outcome(events: &[Event]) -> TurnOutcome {
    let ended = events.iter().find_map(|event| match &event.body {
        EventBody::TurnEnded { outcome, .. } => Some(*outcome),
        _ => None,
    });
    ended.expect("turn.ended")
}
