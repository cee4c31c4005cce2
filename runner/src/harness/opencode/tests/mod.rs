//! What has no recording: a session of our own, refusals, retries, questions, a stream that was lost.

mod dialogs;
mod recovery;
mod turns;

use super::wire;
use crate::fold::{Created, JournalCommand, Note, Output, Record, RecordBody, SessionFold, Wish};
use crate::harness::AnyAdapter;
use lodge_proto::command::CommandBody;
use lodge_proto::event::{EventBody, TurnOutcome};
use lodge_proto::input::InputRequest;
use lodge_proto::invariants::Checker;
use lodge_proto::message::{Role, Sender};
use lodge_proto::part::Part;
use lodge_proto::session::Tier;
use lodge_proto::{ErrorCode, Event, SessionId};
use serde_json::{Value, json};

const MAIN: &str = "ses_main";

/// A session with a server that a test plays.
struct Play {
    fold: SessionFold,
    out: Output,
    seq: u64,
    time: u64,
    events: Vec<Event>,
    checker: Checker,
    sent: usize,
}

impl Play {
    fn new() -> Self {
        let session = SessionId(uuid::Uuid::from_u128(7));
        let adapter = AnyAdapter::new("opencode").unwrap();
        let mut play = Self {
            fold: SessionFold::new(session, adapter),
            out: Output::new(),
            seq: 0,
            time: 1_000,
            events: Vec::new(),
            checker: Checker::new(),
            sent: 0,
        };
        let created = Created {
            session,
            harness: "opencode".to_owned(),
            workspace: "/workspace".to_owned(),
            title: None,
            model: Some("demo/demo".to_owned()),
            thinking_level: None,
            tier: Tier::Process,
            profile: None,
            wish: Wish::default(),
            fork: None,
        };
        play.apply(RecordBody::Note(Box::new(Note::Created(Box::new(created)))));
        play.start();
        play
    }

    fn start(&mut self) {
        let generation = self.seq;
        self.sent = 0;
        self.apply(RecordBody::Generation { generation });
        self.apply(RecordBody::Started);
    }

    /// A session that is ready for prompts.
    fn ready() -> Self {
        let mut play = Self::new();
        let create = play.request("POST", "/session");
        play.respond(&create, 200, &json!({ "id": MAIN }));
        play
    }

    /// One whose first prompt is at work, in its first message.
    fn working() -> Self {
        let mut play = Self::ready();
        play.prompt("hello");
        let prompt = play.request("POST", "/session/ses_main/prompt_async");
        play.respond(&prompt, 204, &Value::Null);
        play.user("msg_1", "hello");
        play.busy();
        play.assistant("msg_2", "msg_1", json!({}));
        play
    }

    fn apply(&mut self, body: RecordBody) {
        self.seq += 1;
        self.time += 10;
        let record = Record {
            seq: self.seq,
            time_ms: self.time,
            body,
        };
        self.fold.apply(&record, &mut self.out);
        for event in std::mem::take(&mut self.out.events) {
            self.checker.event(&event).unwrap();
            self.events.push(event);
        }
        if let Some(turn) = self.fold.wants().persist.map(|record| record.id) {
            self.apply(RecordBody::Note(Box::new(Note::HistoryAck {
                turn,
                message_version: 1,
            })));
        }
    }

    fn line(&mut self, line: &Value) {
        self.apply(RecordBody::Out(line.to_string().into_bytes()));
    }

    fn event(&mut self, kind: &str, mut properties: Value) {
        if properties.get("sessionID").is_none() {
            properties["sessionID"] = MAIN.into();
        }
        self.line(&json!({ "type": "event", "event": { "type": kind, "properties": properties } }));
    }

    fn respond(&mut self, id: &str, status: u16, body: &Value) {
        self.line(&json!({ "type": "response", "id": id, "status": status, "body": body }));
    }

    fn command(&mut self, body: CommandBody) {
        let sender = Sender {
            account: "a".to_owned(),
            name: "a".to_owned(),
        };
        let client_id = self.seq.to_string();
        self.apply(RecordBody::Cmd(Box::new(JournalCommand {
            sender,
            client_id,
            body,
        })));
    }

    fn prompt(&mut self, text: &str) {
        let parts = vec![Part::text(text)];
        self.command(CommandBody::Prompt { parts });
    }

    /// Requests so far that no test has looked at; the next of this kind.
    fn request(&mut self, method: &str, path: &str) -> String {
        let found = self.find(method, path);
        let (at, line) = found.unwrap_or_else(|| panic!("no {method} {path} was sent"));
        self.sent = at + 1;
        wire::text(&line, "id").to_owned()
    }

    fn body(&self, method: &str, path: &str) -> Value {
        let (_, line) = self
            .find(method, path)
            .unwrap_or_else(|| panic!("no {method} {path} was sent"));
        line["body"].clone()
    }

    fn find(&self, method: &str, path: &str) -> Option<(usize, Value)> {
        let lines = self.fold.wants().inputs.iter().enumerate().skip(self.sent);
        lines
            .map(|(at, input)| (at, serde_json::from_slice::<Value>(&input.bytes).unwrap()))
            .find(|(_, line)| line["method"] == method && line["path"] == path)
    }

    fn user(&mut self, id: &str, text: &str) {
        self.event(
            "message.updated",
            json!({ "info": { "id": id, "sessionID": MAIN, "role": "user" } }),
        );
        self.part(
            id,
            json!({ "id": format!("prt_{id}"), "type": "text", "text": text }),
        );
    }

    fn assistant(&mut self, id: &str, parent: &str, more: Value) {
        let mut info = json!({
            "id": id, "sessionID": MAIN, "role": "assistant", "parentID": parent,
            "providerID": "lodge-demo", "modelID": "demo", "time": { "created": 1 },
        });
        if let (Some(info), Value::Object(more)) = (info.as_object_mut(), more) {
            info.extend(more);
        }
        self.event("message.updated", json!({ "info": info }));
    }

    fn part(&mut self, message: &str, mut part: Value) {
        part["sessionID"] = MAIN.into();
        part["messageID"] = message.into();
        self.event("message.part.updated", json!({ "part": part }));
    }

    fn delta(&mut self, message: &str, part: &str, delta: &str) {
        self.event(
            "message.part.delta",
            json!({ "messageID": message, "partID": part, "field": "text", "delta": delta }),
        );
    }

    fn busy(&mut self) {
        self.event("session.status", json!({ "status": { "type": "busy" } }));
    }

    fn idle(&mut self) {
        self.event("session.status", json!({ "status": { "type": "idle" } }));
    }

    fn outcomes(&self) -> Vec<(TurnOutcome, Option<ErrorCode>)> {
        let ends = self.events.iter().filter_map(|event| match &event.body {
            EventBody::TurnEnded { outcome, error, .. } => {
                Some((*outcome, error.as_ref().map(|error| error.code)))
            }
            _ => None,
        });
        ends.collect()
    }

    fn questions(&self) -> Vec<InputRequest> {
        let asked = self.events.iter().filter_map(|event| match &event.body {
            EventBody::AgentInputNeeded { request } => Some(request.clone()),
            _ => None,
        });
        asked.collect()
    }

    fn texts(&self, of: Role) -> Vec<String> {
        let ends = self.events.iter().filter_map(|event| match &event.body {
            EventBody::StreamMessageEnd { message } if message.role == of => {
                Some(lodge_proto::part::plain_text(&message.parts))
            }
            _ => None,
        });
        ends.collect()
    }
}
