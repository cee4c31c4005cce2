//! A turn as text: what the agent says as it comes, one line a tool call.

use super::{one_line, safe};
use lodge_proto::event::NotifyLevel;
use lodge_proto::ids::{MessageId, ToolCallId};
use lodge_proto::part::plain_text;
use lodge_proto::{Event, EventBody, Role};
use std::collections::{HashMap, HashSet};
use std::fmt::Write;

/// Findings of a turn that are shown.
const FINDINGS: usize = 10;
/// Width of a tool line, in characters.
const LINE: usize = 100;

/// Turns events into text for a terminal. Everything it returns is safe to print.
#[derive(Debug, Default)]
pub struct Renderer {
    /// Assistant messages that stream.
    open: HashSet<MessageId>,
    inputs: HashMap<ToolCallId, String>,
    thinking: bool,
    column: usize,
}

impl Renderer {
    /// The text that this event adds.
    pub fn render(&mut self, event: &Event) -> String {
        let mut out = String::new();
        match &event.body {
            EventBody::StreamMessageStart {
                message_id,
                role: Role::Assistant,
            } => {
                self.open.insert(*message_id);
            }
            EventBody::StreamTextDelta {
                message_id, delta, ..
            } if self.open.contains(message_id) => {
                if self.thinking {
                    self.thinking = false;
                    self.fresh_line(&mut out);
                }
                self.text(&mut out, delta);
            }
            EventBody::StreamThinkingDelta { .. } if !self.thinking => {
                self.thinking = true;
                self.line(&mut out, "… thinking");
            }
            EventBody::StreamMessageEnd { message } if message.role == Role::Assistant => {
                self.open.remove(&message.id);
                self.fresh_line(&mut out);
            }
            EventBody::StreamMessageDiscarded { message_id } if self.open.remove(message_id) => {
                self.line(&mut out, "(that answer was discarded)");
            }
            EventBody::ToolStart {
                tool_call_id, input, ..
            } => {
                self.inputs.insert(*tool_call_id, argument(input));
            }
            EventBody::ToolEnd {
                tool_call_id,
                name,
                output,
                is_error,
                duration_ms,
            } => {
                let input = self.inputs.remove(tool_call_id).unwrap_or_default();
                let result = if *is_error {
                    format!("failed: {}", plain_text(output))
                } else {
                    "ok".to_owned()
                };
                let took = duration_ms.map(|ms| format!(", {ms} ms")).unwrap_or_default();
                let call = one_line(&format!("{name} {input}"), LINE);
                self.line(&mut out, &format!("● {call} → {}{took}", one_line(&result, LINE)));
            }
            body => self.notice(&mut out, body),
        }
        out
    }

    fn notice(&mut self, out: &mut String, body: &EventBody) {
        match body {
            EventBody::AgentError { code, message, .. } => {
                self.line(out, &format!("! {code}: {}", one_line(message, LINE * 3)));
            }
            EventBody::RetryStart {
                attempt,
                delay_ms,
                error,
                ..
            } => {
                let why = one_line(&error.message, LINE);
                self.line(
                    out,
                    &format!("… attempt {attempt} failed ({why}), again in {delay_ms} ms"),
                );
            }
            EventBody::CompactStart { .. } => self.line(out, "… compacting the conversation"),
            EventBody::Notify {
                level: NotifyLevel::Warning | NotifyLevel::Error,
                message,
            } => {
                self.line(out, &format!("! {}", one_line(message, LINE * 3)));
            }
            EventBody::WorkspaceFindings { items, .. } => {
                for finding in items.iter().take(FINDINGS) {
                    let what = format!("! {}: {}", finding.path, finding.detail);
                    self.line(out, &one_line(&what, LINE * 3));
                }
                if items.len() > FINDINGS {
                    self.line(out, &format!("! … and {} more", items.len() - FINDINGS));
                }
            }
            _ => {}
        }
    }

    fn text(&mut self, out: &mut String, delta: &str) {
        let shown = safe(delta);
        self.column = match shown.rfind('\n') {
            Some(at) => shown.len() - at - 1,
            None => self.column + shown.len(),
        };
        out.push_str(&shown);
    }

    fn line(&mut self, out: &mut String, line: &str) {
        self.fresh_line(out);
        let _ = writeln!(out, "{}", safe(line));
    }

    fn fresh_line(&mut self, out: &mut String) {
        if self.column > 0 {
            out.push('\n');
            self.column = 0;
        }
    }
}

/// The one argument that says most, else all of them.
fn argument(input: &serde_json::Value) -> String {
    for key in ["command", "cmd", "path", "file_path", "pattern", "query", "url"] {
        if let Some(text) = input.get(key).and_then(serde_json::Value::as_str) {
            return text.to_owned();
        }
    }
    if input.as_object().is_some_and(serde_json::Map::is_empty) {
        String::new()
    } else {
        input.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lodge_proto::{Part, SessionId};
    use serde_json::json;

    fn event(body: EventBody) -> Event {
        Event {
            session_id: SessionId::new(),
            seq: 1,
            ts: 0,
            turn_id: None,
            body,
        }
    }

    #[test]
    fn text_streams_and_a_tool_call_is_one_line() {
        let mut renderer = Renderer::default();
        let (message_id, tool_call_id) = (MessageId::new(), ToolCallId::new());
        let bodies = [
            EventBody::StreamMessageStart {
                message_id,
                role: Role::Assistant,
            },
            EventBody::StreamTextDelta {
                message_id,
                part_index: 0,
                delta: "hel".into(),
            },
            EventBody::StreamTextDelta {
                message_id,
                part_index: 0,
                delta: "lo\u{1b}[31m".into(),
            },
            EventBody::ToolStart {
                tool_call_id,
                name: "bash".into(),
                input: json!({"command": "ls\n-l"}),
            },
            EventBody::ToolEnd {
                tool_call_id,
                name: "bash".into(),
                output: vec![Part::text("x")],
                is_error: false,
                duration_ms: Some(7),
            },
        ];
        let shown: String = bodies
            .into_iter()
            .map(|body| renderer.render(&event(body)))
            .collect();
        assert_eq!(shown, "hello␛[31m\n● bash ls -l → ok, 7 ms\n");
    }

    #[test]
    fn a_users_own_message_is_not_repeated() {
        let mut renderer = Renderer::default();
        let message_id = MessageId::new();
        let start = renderer.render(&event(EventBody::StreamMessageStart {
            message_id,
            role: Role::User,
        }));
        let delta = EventBody::StreamTextDelta {
            message_id,
            part_index: 0,
            delta: "x".into(),
        };
        assert_eq!(start + &renderer.render(&event(delta)), "");
    }
}
