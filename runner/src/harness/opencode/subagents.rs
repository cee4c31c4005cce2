//! Sub-agents: conversations below the session's, run by its `task` tool.
//!
//! What they do is shown live as output of that call, and kept with its result as an `x-opencode-subagent` part.

use super::wire::{Content, Message, Part as NativePart, text};
use super::{OpenCode, extension};
use crate::fold::Cx;
use lodge_proto::message::Usage;
use lodge_proto::part::Part;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Bytes kept of one sub-agent's doings; what it reports in the end is the tool's result and always whole.
const KEPT: usize = 64 * 1024;
/// Characters shown of a tool's arguments or output.
const SHOWN: usize = 400;

/// What a sub-agent did so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Subagent {
    /// The call that runs it.
    call: Option<String>,
    log: String,
    entries: Vec<Value>,
    bytes: usize,
    truncated: bool,
    /// Parts and messages that were counted.
    seen: BTreeSet<String>,
}

impl Subagent {
    fn add(&mut self, line: &str, entry: Value) {
        let bytes = entry.to_string().len();
        if self.truncated || self.bytes + bytes > KEPT || self.log.len() + line.len() > KEPT {
            self.truncated = true;
            return;
        }
        self.bytes += bytes;
        self.entries.push(entry);
        self.log.push_str(line);
        self.log.push('\n');
    }
}

impl OpenCode {
    /// Whether a conversation is the session's or one of its sub-agents'.
    pub(super) fn is_ours(&self, session: &str) -> bool {
        self.is_main(session) || self.subagents.contains_key(session)
    }

    /// A running call names the conversation of its sub-agent.
    pub(super) fn subagent_of(&mut self, cx: &mut Cx<'_>, call: &str, metadata: &Value) {
        let session = text(metadata, "sessionId");
        if session.is_empty() || self.is_main(session) {
            return;
        }
        let subagent = self.subagents.entry(session.to_owned()).or_default();
        if subagent.call.is_none() {
            subagent.call = Some(call.to_owned());
            cx.tool_output(call, &subagent.log);
        }
    }

    pub(super) fn subagent_part(&mut self, cx: &mut Cx<'_>, part: &NativePart) {
        let Some(subagent) = self.subagents.get_mut(&part.session) else {
            return;
        };
        let (line, entry) = match &part.content {
            Content::Text(said) if said.time.end.is_some() => {
                (said.whole.clone(), json!({ "type": "text", "text": said.whole }))
            }
            Content::Reasoning(said) if said.time.end.is_some() => (
                said.whole.clone(),
                json!({ "type": "thinking", "text": said.whole }),
            ),
            Content::Tool(tool) if matches!(tool.state.status.as_str(), "completed" | "error") => {
                let output = format!("{}{}", tool.state.output, tool.state.error);
                let called = shown(&format!("> {} {}", tool.name, tool.state.input));
                (
                    format!("{called}\n{}", shown(&output)),
                    json!({
                        "type": "tool_call",
                        "name": tool.name,
                        "input": tool.state.input,
                        "output": shown(&output),
                        "is_error": tool.state.status == "error",
                    }),
                )
            }
            _ => return,
        };
        if !subagent.seen.insert(part.id.clone()) {
            return;
        }
        subagent.add(&line, entry);
        if let Some(call) = &subagent.call {
            cx.tool_output(call, &subagent.log);
        }
    }

    /// What a sub-agent uses counts for the session, but not for its context.
    pub(super) fn subagent_message(&mut self, cx: &mut Cx<'_>, message: &Message) {
        let Some(subagent) = self.subagents.get_mut(&message.session) else {
            return;
        };
        let usage = message.usage();
        if message.role == "assistant"
            && message.is_over()
            && usage != Usage::default()
            && subagent.seen.insert(message.id.clone())
        {
            cx.add_usage(usage, None);
        }
    }

    /// All that the sub-agent of a call did, as one part.
    pub(super) fn subagent_ended(&mut self, call: &str) -> Option<Part> {
        let ended = |subagent: &&mut Subagent| subagent.call.as_deref() == Some(call);
        let subagent = self.subagents.values_mut().find(ended)?;
        let fields = json!({
            "entries": std::mem::take(&mut subagent.entries),
            "truncated": subagent.truncated,
        });
        // Its conversation may be taken up again by a later call.
        subagent.call = None;
        subagent.log.clear();
        subagent.bytes = 0;
        Some(extension("x-opencode-subagent", &fields))
    }
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}
