//! Recorded transcripts: HTTP as the bridge would have put it, and what another client asked for.

use super::{Asked, OpenCode, UNTITLED, wire};
use crate::fold::Cx;
use lodge_proto::command::CommandBody;
use lodge_proto::part::Part;
use serde_json::{Value, json};

/// `METHOD path body` as the line that the bridge would have been given.
pub fn request(text: &str) -> String {
    let (method, path, body) = words(text);
    // Requests of a recording have no ids: what a response repeats has to do.
    json!({ "id": format!("{method} {path}"), "method": method, "path": path, "body": body }).to_string()
}

/// `status METHOD path body` as the line that the bridge would have printed; `None` where it is what the server
/// itself printed.
pub fn response(text: &str) -> Option<String> {
    let (status, rest) = text.split_once(' ')?;
    let (method, path, body) = words(rest);
    if !["GET", "POST", "PUT", "PATCH", "DELETE"].contains(&method) {
        return None;
    }
    let id = format!("{method} {path}");
    let line = match status.parse::<u16>() {
        Ok(status) => json!({ "type": "response", "id": id, "status": status, "body": body }),
        // The client gave up.
        Err(_) if status == "EXC" => json!({ "type": "response", "id": id, "status": 0, "error": body }),
        Err(_) => return None,
    };
    Some(line.to_string())
}

/// A line of the event stream as the line that the bridge would have printed; `None` where it carries no data.
pub fn event(text: &str) -> Option<String> {
    let data = text.strip_prefix("data:")?.trim_start();
    Some(json!({ "type": "event", "event": json_or_text(data) }).to_string())
}

fn words(text: &str) -> (&str, &str, Value) {
    let (method, rest) = text.split_once(' ').unwrap_or((text, ""));
    let (path, body) = rest.split_once(' ').unwrap_or((rest, ""));
    (method, path, json_or_text(body))
}

fn json_or_text(text: &str) -> Value {
    if text.is_empty() {
        return Value::Null;
    }
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

impl OpenCode {
    pub(super) fn foreign(&mut self, cx: &mut Cx<'_>, line: &[u8]) -> Option<CommandBody> {
        let input: Value = serde_json::from_slice(line).ok()?;
        let (id, method) = (wire::text(&input, "id"), wire::text(&input, "method"));
        let path = wire::text(&input, "path");
        let path = path.split('?').next().unwrap_or_default();
        let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let body = input.get("body").cloned().unwrap_or_default();
        let asked = match (method, segments.as_slice()) {
            ("POST", ["session"]) => Asked::Create,
            ("GET", ["agent"]) => Asked::Agents,
            ("GET", ["command"]) => Asked::Commands,
            ("POST", ["session", _, "prompt_async" | "message" | "command"]) => Asked::Prompt,
            ("POST", ["session", session, "abort"]) if self.is_main(session) => Asked::Abort,
            _ => Asked::Other,
        };
        self.pending.insert(id.to_owned(), asked.clone());
        match (asked, segments.as_slice()) {
            (Asked::Create, _) => {
                let title = wire::text(&body, "title");
                if !title.is_empty() && title != UNTITLED && !self.open {
                    cx.title(title);
                }
                None
            }
            (Asked::Prompt, ["session", session, _]) => self.foreign_prompt(cx, session, &body),
            (Asked::Abort, _) => cx.turn().map(|_| CommandBody::Abort {}),
            (Asked::Other, ["session", session, "summarize"])
                if self.is_main(session) && cx.turn().is_none() =>
            {
                Some(CommandBody::Compact { instructions: None })
            }
            _ => None,
        }
    }

    fn foreign_prompt(&mut self, cx: &mut Cx<'_>, session: &str, body: &Value) -> Option<CommandBody> {
        let parts = vec![Part::text(foreign_text(body)?)];
        if self.is_main(session) {
            return Some(if cx.turn().is_some() {
                CommandBody::Steer { parts }
            } else {
                CommandBody::Prompt { parts }
            });
        }
        // The recorded client turned to another conversation; what was open of the one before stays so.
        let left = cx.in_turn();
        if left {
            self.leave(cx);
        }
        self.session = Some(session.to_owned());
        self.open = true;
        cx.ready();
        Some(if left {
            CommandBody::FollowUp { parts }
        } else {
            CommandBody::Prompt { parts }
        })
    }
}

fn foreign_text(body: &Value) -> Option<String> {
    if let Some(command) = body.get("command").and_then(Value::as_str) {
        return Some(format!("/{command} {}", wire::text(body, "arguments")));
    }
    let parts = body.get("parts")?.as_array()?;
    let texts: Vec<&str> = parts
        .iter()
        .filter_map(|part| part.get("text")?.as_str())
        .collect();
    Some(texts.join("\n"))
}
