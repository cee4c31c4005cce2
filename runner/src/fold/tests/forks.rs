//! Copies of conversations: with what each harness is told to go on, and what a session says of its own copies.

use crate::fold::{
    Created, Fork, JournalCommand, Launch, Note, Output, Record, RecordBody, SessionFold, Source, Wish,
};
use crate::harness::AnyAdapter;
use lodge_proto::command::CommandBody;
use lodge_proto::event::EventBody;
use lodge_proto::message::{Message, Role, Sender};
use lodge_proto::part::Part;
use lodge_proto::session::{SessionStatus, Tier};
use lodge_proto::{ErrorCode, Event, SessionId};
use serde_json::{Value, json};

const SESSION: SessionId = SessionId(uuid::Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0004));

struct Play {
    fold: SessionFold,
    seq: u64,
    looked: usize,
    events: Vec<Event>,
}

impl Play {
    fn new(harness: &str, source: Option<Source>) -> Self {
        let mut play = Self {
            fold: SessionFold::new(SESSION, AnyAdapter::new(harness).unwrap()),
            seq: 0,
            looked: 0,
            events: Vec::new(),
        };
        let fork = source.map(|source| Fork {
            parent: Some(SessionId::default()),
            keep_user_messages: None,
            message_count: 4,
            messages: Vec::new(),
            source: Some(source),
        });
        let created = Created {
            session: SESSION,
            harness: harness.to_owned(),
            workspace: "/w".to_owned(),
            title: None,
            model: None,
            thinking_level: None,
            tier: Tier::Process,
            profile: None,
            wish: Wish::default(),
            fork,
        };
        play.note(Note::Created(Box::new(created)));
        play.note(Note::Launch(Box::new(Launch {
            harness_version: "1".to_owned(),
            models: Vec::new(),
            resume: false,
            ask_permissions: false,
            tier: None,
            profile: None,
            text_models: Vec::new(),
        })));
        play.apply(RecordBody::Generation { generation: 1 });
        play.apply(RecordBody::Started);
        play
    }

    fn copy(harness: &str, point: Option<&str>) -> Self {
        let source = Source {
            native: "parent".to_owned(),
            point: point.map(str::to_owned),
        };
        Self::new(harness, Some(source))
    }

    fn apply(&mut self, body: RecordBody) {
        self.seq += 1;
        let record = Record {
            seq: self.seq,
            time_ms: self.seq,
            body,
        };
        let mut out = Output::new();
        self.fold.apply(&record, &mut out);
        self.events.extend(out.events);
        if let Some(turn) = self.fold.wants().persist.map(|turn| turn.id) {
            let message_version = self.fold.info().message_count;
            self.note(Note::HistoryAck {
                turn,
                message_version,
            });
        }
    }

    fn note(&mut self, note: Note) {
        self.apply(RecordBody::Note(Box::new(note)));
    }

    fn line(&mut self, line: &Value) {
        self.apply(RecordBody::Out(line.to_string().into_bytes()));
    }

    fn prompt(&mut self, text: &str) {
        let sender = Sender {
            account: "a".to_owned(),
            name: "a".to_owned(),
        };
        let parts = vec![Part::text(text)];
        self.apply(RecordBody::Cmd(Box::new(JournalCommand {
            sender,
            client_id: self.seq.to_string(),
            body: CommandBody::Prompt { parts },
        })));
    }

    /// The next thing that was sent and has this at that place.
    fn sent(&mut self, pointer: &str, value: &str) -> Option<Value> {
        let lines = self.fold.wants().inputs.iter().enumerate().skip(self.looked);
        let found = lines
            .map(|(at, input)| (at, serde_json::from_slice::<Value>(&input.bytes).unwrap()))
            .find(|(_, line)| line.pointer(pointer).and_then(Value::as_str) == Some(value));
        let (at, line) = found?;
        self.looked = at + 1;
        Some(line)
    }

    fn expect(&mut self, pointer: &str, value: &str) -> Value {
        self.sent(pointer, value)
            .unwrap_or_else(|| panic!("nothing was sent with `{value}` at {pointer}"))
    }

    fn users(&self) -> Vec<Message> {
        let ends = self.events.iter().filter_map(|event| match &event.body {
            EventBody::StreamMessageEnd { message } => Some(message.clone()),
            _ => None,
        });
        ends.filter(|message| message.role == Role::User).collect()
    }

    fn error_of_a_fork(&self, whole: bool) -> ErrorCode {
        let before = (!whole).then(|| self.users().last().unwrap().id);
        self.fold.origin(before).unwrap_err().code
    }
}

#[test]
fn codex_forks_the_thread_before_the_turn_and_gives_its_own_turns_for_that() {
    let mut play = Play::copy("codex", Some("turn-2"));
    let hello = play.expect("/method", "initialize");
    play.line(&json!({ "id": hello["id"], "result": {} }));
    let fork = play.expect("/method", "thread/fork");
    assert_eq!(fork["params"]["threadId"], "parent");
    assert_eq!(fork["params"]["beforeTurnId"], "turn-2");
    // Nothing was said in it yet: a copy of it goes on from where it would.
    let origin = play.fold.origin(None).unwrap().source.unwrap();
    assert_eq!(
        (origin.native.as_str(), origin.point.as_deref()),
        ("parent", Some("turn-2"))
    );
    let opened = json!({ "thread": { "id": "T" }, "modelProvider": "lodge-demo", "model": "m" });
    play.line(&json!({ "id": fork["id"], "result": opened }));
    assert_eq!(play.fold.status(), SessionStatus::Idle);
    play.prompt("on");
    let turn = json!({ "threadId": "T", "turn": { "id": "t-1" } });
    play.line(&json!({ "method": "turn/started", "params": turn }));
    // A turn that runs is not part of a copy.
    let origin = play.fold.origin(None).unwrap();
    assert!(origin.in_turn);
    let source = origin.source.unwrap();
    assert_eq!(
        (source.native.as_str(), source.point.as_deref()),
        ("T", Some("t-1"))
    );
    let before = play.users()[0].id;
    let source = play.fold.origin(Some(before)).unwrap().source.unwrap();
    assert_eq!(source.point.as_deref(), Some("t-1"));
    let unknown = play.fold.origin(Some(lodge_proto::ids::MessageId::default()));
    assert_eq!(unknown.unwrap_err().code, ErrorCode::InvalidArgument);
}

#[test]
fn a_copy_that_codex_cannot_make_takes_no_prompt() {
    let mut play = Play::copy("codex", None);
    let hello = play.expect("/method", "initialize");
    play.line(&json!({ "id": hello["id"], "result": {} }));
    let fork = play.expect("/method", "thread/fork");
    assert!(fork["params"].get("beforeTurnId").is_none());
    play.prompt("on");
    play.line(&json!({ "id": fork["id"], "error": { "code": -32600, "message": "no rollout found" } }));
    let failed = play.events.iter().any(|event| matches!(&event.body, EventBody::TurnEnded { error: Some(error), .. } if error.message.contains("copy")));
    assert!(failed, "{:?}", play.events);
    assert!(
        play.sent("/method", "thread/start").is_none(),
        "an empty one is no copy"
    );
}

#[test]
fn opencode_forks_the_session_and_is_deaf_to_what_was_copied() {
    let mut play = Play::copy("opencode", Some("msg_03"));
    let fork = play.expect("/path", "/session/parent/fork");
    assert_eq!(fork["body"]["messageID"], "msg_03");
    let respond =
        |id: &Value, body: Value| json!({ "type": "response", "id": id, "status": 200, "body": body });
    play.line(&respond(
        &fork["id"],
        json!({ "id": "ses_copy", "title": "x (fork #1)" }),
    ));
    let newest = play.expect("/path", "/session/ses_copy/message?limit=1");
    play.prompt("on");
    assert!(play.sent("/path", "/session/ses_copy/prompt_async").is_none());
    play.line(&respond(&newest["id"], json!([{ "info": { "id": "msg_12" } }])));
    play.expect("/path", "/session/ses_copy/prompt_async");
    // One of the copied messages is told late, as if it were the prompt that was just given.
    let mut tell = |id: &str, text: &str| {
        let info = json!({ "id": id, "sessionID": "ses_copy", "role": "user" });
        let part = json!({ "id": format!("prt_{id}"), "messageID": id, "sessionID": "ses_copy", "type": "text", "text": text });
        for (kind, properties) in [
            (
                "message.updated",
                json!({ "sessionID": "ses_copy", "info": info }),
            ),
            (
                "message.part.updated",
                json!({ "sessionID": "ses_copy", "part": part }),
            ),
        ] {
            play.line(&json!({ "type": "event", "event": { "type": kind, "properties": properties } }));
        }
    };
    tell("msg_11", "of the parent");
    tell("msg_13", "on");
    assert_eq!(play.users().len(), 1);
    let source = play
        .fold
        .origin(Some(play.users()[0].id))
        .unwrap()
        .source
        .unwrap();
    assert_eq!(
        (source.native.as_str(), source.point.as_deref()),
        ("ses_copy", Some("msg_13"))
    );
}

#[test]
fn an_agent_over_acp_forks_as_a_whole_where_it_offers_that_and_its_files_are_known() {
    let abilities = |fork: bool| {
        let can = if fork { json!({ "fork": {} }) } else { json!({}) };
        json!({ "protocolVersion": 1, "agentCapabilities": { "loadSession": true, "sessionCapabilities": can } })
    };
    let hello = |play: &mut Play, can: Value| {
        let hello = play.expect("/method", "initialize");
        play.line(&json!({ "jsonrpc": "2.0", "id": hello["id"], "result": can }));
    };
    let mut play = Play::copy("opencode-acp", None);
    hello(&mut play, abilities(true));
    let fork = play.expect("/method", "session/fork");
    assert_eq!(fork["params"]["sessionId"], "parent");
    play.line(&json!({ "jsonrpc": "2.0", "id": fork["id"], "result": { "sessionId": "s" } }));
    let sync = play.expect("/method", "_lodge/sync");
    // What it tells again history has already.
    let update = json!({ "sessionUpdate": "user_message_chunk", "content": { "type": "text", "text": "of the parent" } });
    play.line(&json!({ "jsonrpc": "2.0", "method": "session/update", "params": { "sessionId": "s", "update": update } }));
    play.line(
        &json!({ "jsonrpc": "2.0", "id": sync["id"], "error": { "code": -32601, "message": "unknown" } }),
    );
    assert_eq!(play.fold.status(), SessionStatus::Idle);
    let can = play.fold.state().capabilities;
    assert!(can.fork && !can.fork_at_message);
    play.prompt("on");
    assert_eq!(play.users().len(), 1);
    assert_eq!(play.error_of_a_fork(false), ErrorCode::UnsupportedByHarness);
    // Its conversation has no place to be cut at: not while a turn runs.
    assert_eq!(play.error_of_a_fork(true), ErrorCode::Conflict);

    for (harness, offers) in [("opencode-acp", false), ("gemini", true)] {
        let mut play = Play::new(harness, None);
        hello(&mut play, abilities(offers));
        assert!(!play.fold.state().capabilities.fork, "{harness}");
        let refused = play.fold.origin(None).unwrap_err();
        assert_eq!(refused.code, ErrorCode::UnsupportedByHarness, "{harness}");
    }
}

#[test]
fn pi_gets_its_first_prompt_when_the_copy_is_cut() {
    let source = Source {
        native: "/home/guest/.pi/agent/sessions/w/a.jsonl".to_owned(),
        point: None,
    };
    let mut play = Play::new("pi", Some(source));
    // The whole conversation is cut nowhere.
    assert!(play.sent("/type", "get_fork_messages").is_none());
    let mut created = play.fold.created().unwrap().clone();
    created.fork.as_mut().unwrap().keep_user_messages = Some(1);
    play.fold = SessionFold::new(SESSION, AnyAdapter::new("pi").unwrap());
    play.looked = 0;
    play.note(Note::Created(Box::new(created)));
    play.apply(RecordBody::Generation { generation: 1 });
    play.apply(RecordBody::Started);
    let asked = play.expect("/type", "get_fork_messages");
    let state = play.expect("/type", "get_state");
    let answer = |asked: &Value, data: Value| json!({ "type": "response", "id": asked["id"], "command": asked["type"], "success": true, "data": data });
    let messages =
        json!({ "messages": [{ "entryId": "e0", "text": "a" }, { "entryId": "e1", "text": "b" }] });
    play.line(&answer(&asked, messages));
    let fork = play.expect("/type", "fork");
    assert_eq!(fork["entryId"], "e1");
    play.line(&answer(
        &state,
        json!({ "sessionFile": "/home/guest/.pi/agent/sessions/w/a.jsonl" }),
    ));
    assert_eq!(play.fold.status(), SessionStatus::Starting);
    play.prompt("on");
    assert!(play.sent("/type", "prompt").is_none());
    play.line(&answer(&fork, json!({ "text": "b", "cancelled": false })));
    let state = play.expect("/type", "get_state");
    play.line(&answer(
        &state,
        json!({ "sessionFile": "/home/guest/.pi/agent/sessions/w/b.jsonl" }),
    ));
    assert_eq!(play.expect("/type", "prompt")["message"], "on");
    let source = play.fold.origin(None).unwrap().source.unwrap();
    assert_eq!(source.native, "/home/guest/.pi/agent/sessions/w/b.jsonl");
}

#[test]
fn gemini_that_asks_nothing_says_so() {
    let mut play = Play::new("gemini", None);
    let hello = play.expect("/method", "initialize");
    let name = json!({ "name": "gemini-cli", "version": "1" });
    let can = json!({ "protocolVersion": 1, "agentInfo": name, "agentCapabilities": {} });
    play.line(&json!({ "jsonrpc": "2.0", "id": hello["id"], "result": can }));
    let new = play.expect("/method", "session/new");
    let mode = |id: &str| json!({ "id": id, "name": id });
    let modes = ["default", "autoEdit", "yolo", "plan"].map(mode);
    let modes = json!({ "availableModes": modes, "currentModeId": "default" });
    play.line(&json!({ "jsonrpc": "2.0", "id": new["id"], "result": { "sessionId": "s", "modes": modes } }));
    let state = play.fold.state();
    assert_eq!(state.mode.as_deref(), Some("yolo"));
    let offered: Vec<String> = state.capabilities.modes.into_iter().map(|mode| mode.id).collect();
    assert_eq!(offered, ["yolo", "plan"]);
    // Gemini takes that mode only where it trusts a workspace: what it is told is the one that the policy opens.
    for (wanted, native) in [("plan", "plan"), ("yolo", "default")] {
        let sender = Sender {
            account: "a".to_owned(),
            name: "a".to_owned(),
        };
        play.apply(RecordBody::Cmd(Box::new(JournalCommand {
            sender,
            client_id: wanted.to_owned(),
            body: CommandBody::SetMode {
                mode: wanted.to_owned(),
            },
        })));
        let set = play.expect("/method", "session/set_mode");
        assert_eq!(set["params"]["modeId"], native);
        play.line(&json!({ "jsonrpc": "2.0", "id": set["id"], "result": {} }));
        assert_eq!(play.fold.state().mode.as_deref(), Some(wanted));
    }
}

#[test]
fn what_codex_says_of_its_configuration_and_catalog_is_no_notice() {
    let mut play = Play::new("codex", None);
    let hello = play.expect("/method", "initialize");
    let warning = |method: &str, field: &str| json!({ "method": method, "params": { "threadId": "T", field: "words" } });
    play.line(&warning("configWarning", "summary"));
    play.line(&json!({ "id": hello["id"], "result": {} }));
    let start = play.expect("/method", "thread/start");
    let opened = json!({ "thread": { "id": "T" }, "modelProvider": "lodge-demo", "model": "m" });
    play.line(&json!({ "id": start["id"], "result": opened }));
    play.prompt("on");
    play.line(&warning("warning", "message"));
    let told = |play: &Play| {
        play.events
            .iter()
            .filter(|event| matches!(event.body, EventBody::Notify { .. }))
            .count()
    };
    assert_eq!(told(&play), 0);
    // What it says in the middle of a turn is about the turn.
    let turn = json!({ "threadId": "T", "turn": { "id": "t-1" } });
    play.line(&json!({ "method": "turn/started", "params": turn }));
    play.line(&warning("warning", "message"));
    assert_eq!(told(&play), 1);
}
