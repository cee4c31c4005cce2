//! A session with an agent that the test plays.

use crate::fold::{Created, JournalCommand, Launch, Note, Output, Record, RecordBody, SessionFold};
use crate::harness::AnyAdapter;
use lodge_proto::command::CommandBody;
use lodge_proto::event::{EventBody, TurnOutcome};
use lodge_proto::invariants::Checker;
use lodge_proto::message::Sender;
use lodge_proto::part::Part;
use lodge_proto::session::{ModelInfo, SessionStatus, Tier};
use lodge_proto::{Event, SessionId};
use serde_json::{Value, json};

const SESSION: SessionId = SessionId(uuid::Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0003));

/// A session with an agent that the test plays.
pub(super) struct Agent {
    pub(super) fold: SessionFold,
    checker: Checker,
    pub(super) seq: u64,
    generation: u64,
    pub(super) events: Vec<Event>,
}

impl Agent {
    pub(super) fn created(model: Option<&str>) -> Self {
        let mut agent = Self {
            fold: SessionFold::new(SESSION, AnyAdapter::new("acp").unwrap()),
            checker: Checker::new(),
            seq: 0,
            generation: 0,
            events: Vec::new(),
        };
        agent.note(Note::Created(Box::new(Created {
            session: SESSION,
            harness: "acp".into(),
            workspace: "/w".into(),
            title: None,
            model: model.map(str::to_owned),
            thinking_level: None,
            tier: Tier::Process,
            profile: None,
            wish: crate::fold::Wish::default(),
            fork: None,
        })));
        agent.note(Note::Launch(Box::new(Launch {
            text_models: Vec::new(),
            harness_version: "1".into(),
            models: ["p/one", "p/two"].map(model_info).into(),
            resume: false,
            ask_permissions: false,
            tier: None,
            profile: None,
        })));
        agent
    }

    /// An agent with an open session.
    pub(super) fn open() -> Self {
        let mut agent = Self::created(None);
        agent.start(&json!({ "protocolVersion": 1, "agentCapabilities": { "loadSession": true } }));
        let new = agent.expect("session/new");
        agent.answer(&new, &json!({ "sessionId": "s" }));
        assert_eq!(agent.fold.status(), SessionStatus::Idle);
        agent
    }

    /// The process runs, and has said nothing yet.
    pub(super) fn begin(&mut self) {
        self.generation += 1;
        let generation = self.generation;
        self.apply(RecordBody::Generation { generation });
        self.apply(RecordBody::Started);
    }

    pub(super) fn start(&mut self, hello: &Value) {
        self.begin();
        let initialize = self.expect("initialize");
        assert_eq!(initialize["params"]["protocolVersion"], 2);
        assert_eq!(initialize["params"]["clientCapabilities"]["terminal"], false);
        self.answer(&initialize, hello);
    }

    pub(super) fn apply(&mut self, body: RecordBody) {
        self.seq += 1;
        let record = Record {
            seq: self.seq,
            time_ms: self.seq,
            body,
        };
        let mut out = Output::new();
        self.fold.apply(&record, &mut out);
        for event in &out.events {
            self.checker.event(event).unwrap();
        }
        self.events.extend(out.events);
        if self.fold.is_at_boundary() && self.fold.wants().timers.is_empty() {
            let stored = self.fold.to_snapshot().unwrap();
            let restored = SessionFold::from_snapshot(&stored).expect("a snapshot of this version");
            assert_eq!(restored, self.fold);
            self.fold = restored;
        }
        let persist = self.fold.wants().persist.map(|record| record.id);
        if let Some(turn) = persist {
            let message_version = self.fold.info().message_count;
            self.note(Note::HistoryAck {
                turn,
                message_version,
            });
        }
    }

    pub(super) fn note(&mut self, note: Note) {
        self.apply(RecordBody::Note(Box::new(note)));
    }

    pub(super) fn line(&mut self, line: &Value) {
        self.apply(RecordBody::Out(line.to_string().into_bytes()));
    }

    pub(super) fn answer(&mut self, request: &Value, result: &Value) {
        self.line(&json!({ "jsonrpc": "2.0", "id": request["id"], "result": result }));
    }

    pub(super) fn refuse(&mut self, request: &Value, error: &Value) {
        self.line(&json!({ "jsonrpc": "2.0", "id": request["id"], "error": error }));
    }

    pub(super) fn update(&mut self, update: &Value) {
        let params = json!({ "sessionId": "s", "update": update });
        self.line(&json!({ "jsonrpc": "2.0", "method": "session/update", "params": params }));
    }

    pub(super) fn text(&mut self, text: &str) {
        let content = json!({ "type": "text", "text": text });
        self.update(&json!({ "sessionUpdate": "agent_message_chunk", "content": content }));
    }

    pub(super) fn command(&mut self, body: CommandBody) {
        let sender = Sender {
            account: "a".into(),
            name: "A".into(),
        };
        let client_id = self.seq.to_string();
        self.apply(RecordBody::Cmd(Box::new(JournalCommand {
            sender,
            client_id,
            body,
        })));
    }

    pub(super) fn prompt(&mut self, text: &str) {
        let parts = vec![Part::text(text)];
        self.command(CommandBody::Prompt { parts });
    }

    /// The next line that the agent gets.
    pub(super) fn next(&mut self) -> Option<Value> {
        let input = self.fold.wants().inputs.first().cloned()?;
        self.apply(RecordBody::InBegin {
            id: input.id,
            bytes: input.bytes.clone(),
        });
        self.apply(RecordBody::InDone { id: input.id });
        Some(serde_json::from_slice(&input.bytes).unwrap())
    }

    pub(super) fn expect(&mut self, method: &str) -> Value {
        let line = self
            .next()
            .unwrap_or_else(|| panic!("nothing was sent, not even {method}"));
        assert_eq!(line["method"], method, "{line}");
        line
    }

    pub(super) fn outcome(&self) -> Option<TurnOutcome> {
        self.events.iter().rev().find_map(|event| match &event.body {
            EventBody::TurnEnded { outcome, .. } => Some(*outcome),
            _ => None,
        })
    }

    pub(super) fn question(&self) -> lodge_proto::input::InputRequest {
        self.fold.state().requests.first().cloned().expect("a question")
    }

    pub(super) fn tags(&self) -> Vec<&str> {
        self.events.iter().map(|event| event.body.tag()).collect()
    }
}

fn model_info(id: &str) -> ModelInfo {
    ModelInfo {
        id: id.into(),
        name: id.into(),
        provider: "p".into(),
        context_window: None,
        reasoning: false,
    }
}
