//! Wires of lines on standard input and output.

use super::{Wire, era, misbehave, odd};
use crate::Line;
use crate::script::Directive;
use serde_json::{Value, json};
use std::io::{self, BufWriter, Stdout, Write};
use std::sync::mpsc::Receiver;

/// The conversation's name on every wire.
const CONVERSATION: &str = "standin";

#[derive(Debug)]
struct StandIn {
    wire: Wire,
    out: BufWriter<Stdout>,
    era: u128,
    turns: u64,
}

pub(super) fn serve(wire: Wire, inbox: &Receiver<Line>) -> io::Result<i32> {
    let mut standin = StandIn {
        wire,
        out: BufWriter::new(io::stdout()),
        era: era(),
        turns: 0,
    };
    while let Ok(Some(line)) = inbox.recv() {
        let Ok(line) = serde_json::from_slice::<Value>(&line) else {
            continue;
        };
        let ended = match wire {
            Wire::Claude => standin.claude(&line)?,
            _ => standin.request(&line)?,
        };
        standin.out.flush()?;
        if let Some(code) = ended {
            return Ok(code);
        }
    }
    Ok(0)
}

impl StandIn {
    fn send(&mut self, line: &Value) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, line)?;
        self.out.write_all(b"\n")
    }

    /// A line of Claude Code's input.
    fn claude(&mut self, line: &Value) -> io::Result<Option<i32>> {
        if line["type"] == "user" {
            return self.turn(&text(&line["message"]["content"]), &Value::Null);
        }
        if line["type"] == "control_request" {
            let response = json!({
                "subtype": "success", "request_id": line["request_id"],
                "response": { "commands": [], "models": [] },
            });
            self.send(&json!({ "type": "control_response", "response": response }))?;
        }
        Ok(None)
    }

    /// A request of codex's wire, or of ACP.
    fn request(&mut self, line: &Value) -> io::Result<Option<i32>> {
        let (Some(method), Some(_)) = (line["method"].as_str(), line.get("id")) else {
            return Ok(None);
        };
        let result = match method {
            "initialize" if self.wire == Wire::Acp => json!({
                "protocolVersion": 1, "agentCapabilities": { "loadSession": true },
            }),
            "initialize" => json!({ "userAgent": "codex" }),
            "thread/start" | "thread/resume" => json!({
                "thread": { "id": CONVERSATION }, "model": "demo", "modelProvider": "lodge-demo",
                "approvalPolicy": "never",
            }),
            "session/new" => json!({ "sessionId": CONVERSATION }),
            "session/load" => json!({}),
            "turn/start" => return self.turn(&text(&line["params"]["input"]), &line["id"]),
            "session/prompt" => return self.turn(&text(&line["params"]["prompt"]), &line["id"]),
            _ => {
                let error = json!({ "code": -32601, "message": "not known" });
                self.answer(&line["id"], "error", &error)?;
                return Ok(None);
            }
        };
        self.answer(&line["id"], "result", &result)?;
        Ok(None)
    }

    fn answer(&mut self, id: &Value, what: &str, body: &Value) -> io::Result<()> {
        self.send(&json!({ "jsonrpc": "2.0", "id": id, what: body }))
    }

    /// One turn; the exit status where the process is to end in it.
    fn turn(&mut self, prompt: &str, id: &Value) -> io::Result<Option<i32>> {
        self.turns += 1;
        self.begin(prompt, id)?;
        for (index, line) in prompt.lines().enumerate() {
            let directive = Directive::parse(line);
            for odd in odd(&directive) {
                if let Some(code) = misbehave(&mut self.out, &odd)? {
                    self.out.flush()?;
                    return Ok(Some(code));
                }
            }
            if let Directive::Say { text } = directive {
                self.say(&text, index)?;
            }
        }
        self.end(id)?;
        Ok(None)
    }

    fn note(&mut self, method: &str, mut params: Value) -> io::Result<()> {
        params["threadId"] = CONVERSATION.into();
        params["turnId"] = self.native_turn().into();
        self.send(&json!({ "method": method, "params": params }))
    }

    fn native_turn(&self) -> String {
        format!("turn-{}-{}", self.era, self.turns)
    }

    fn begin(&mut self, prompt: &str, id: &Value) -> io::Result<()> {
        if self.wire != Wire::Codex {
            return Ok(());
        }
        let turn = json!({ "id": self.native_turn() });
        self.answer(id, "result", &json!({ "turn": turn }))?;
        self.note("turn/started", json!({ "turn": turn }))?;
        let content = json!([{ "type": "text", "text": prompt }]);
        let item = json!({ "type": "userMessage", "id": self.item("user", 0), "content": content });
        self.note("item/started", json!({ "item": item }))?;
        self.note("item/completed", json!({ "item": item }))
    }

    fn item(&self, kind: &str, index: usize) -> String {
        format!("{}-{kind}-{index}", self.native_turn())
    }

    fn say(&mut self, text: &str, index: usize) -> io::Result<()> {
        match self.wire {
            Wire::Codex => {
                let id = self.item("said", index);
                let item = |text: &str| json!({ "item": { "type": "agentMessage", "id": id, "text": text } });
                self.note("item/started", item(""))?;
                self.note("item/agentMessage/delta", json!({ "itemId": id, "delta": text }))?;
                self.note("item/completed", item(text))
            }
            Wire::Claude => {
                let content = json!([{ "type": "text", "text": text }]);
                let message = json!({ "id": self.item("said", index), "model": "demo", "content": content });
                self.send(&json!({ "type": "assistant", "message": message }))
            }
            _ => {
                let content = json!({ "type": "text", "text": text });
                let update = json!({ "sessionUpdate": "agent_message_chunk", "content": content });
                let params = json!({ "sessionId": CONVERSATION, "update": update });
                self.send(&json!({ "jsonrpc": "2.0", "method": "session/update", "params": params }))
            }
        }
    }

    fn end(&mut self, id: &Value) -> io::Result<()> {
        match self.wire {
            Wire::Codex => {
                let turn = json!({ "id": self.native_turn(), "status": "completed" });
                self.note("turn/completed", json!({ "turn": turn }))
            }
            Wire::Claude => self.send(&json!({
                "type": "result", "subtype": "success", "is_error": false, "terminal_reason": "completed",
                "session_id": CONVERSATION,
            })),
            _ => self.answer(id, "result", &json!({ "stopReason": "end_turn" })),
        }
    }
}

/// The text of a prompt, in one piece or in blocks.
pub(super) fn text(content: &Value) -> String {
    if let Some(text) = content.as_str() {
        return text.to_owned();
    }
    let blocks = content.as_array().into_iter().flatten();
    blocks.filter_map(|block| block["text"].as_str()).collect()
}
