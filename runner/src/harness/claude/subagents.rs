//! Sub-agents: their lines name the tool call that runs them.
//!
//! What they do is shown live as output of that call, and kept with its result as an `x-claude-subagent` part.

use super::wire::{Block, Content, KnownBlock};
use super::{Claude, extension};
use crate::fold::Cx;
use lodge_proto::part::Part;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Bytes kept of one sub-agent's doings; what it reports in the end is the tool's result and always whole.
const KEPT: usize = 64 * 1024;
/// Bytes shown of one line.
const SHOWN: usize = 400;

/// What a sub-agent did so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Subagent {
    log: String,
    entries: Vec<Value>,
    bytes: usize,
    truncated: bool,
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

    /// All of it as one part.
    pub(super) fn part(self) -> Part {
        extension(
            "x-claude-subagent",
            json!({ "entries": self.entries, "truncated": self.truncated }),
        )
    }
}

impl Claude {
    /// A line of a sub-agent that the tool call `parent` runs.
    pub(super) fn subagent(&mut self, cx: &mut Cx<'_>, parent: &str, role: &str, content: &Content) {
        if !cx.in_turn() || self.calls.get(parent).is_none_or(|call| call.ended) {
            return cx.warn("a sub-agent spoke whose tool call does not run");
        }
        self.start_call(cx, parent, true);
        let subagent = self.subagents.entry(parent.to_owned()).or_default();
        for block in content.clone().blocks() {
            let (line, entry) = describe(role, &block);
            subagent.add(&line, entry);
        }
        cx.tool_output(parent, &subagent.log);
    }
}

fn describe(role: &str, block: &Block) -> (String, Value) {
    match block {
        Block::Known(KnownBlock::Text { text }) => (
            text.clone(),
            json!({ "type": "text", "role": role, "text": text }),
        ),
        Block::Known(KnownBlock::Thinking { thinking }) => {
            (thinking.clone(), json!({ "type": "thinking", "text": thinking }))
        }
        Block::Known(KnownBlock::ToolUse { id, name, input }) => (
            shown(&format!("> {name} {input}")),
            json!({ "type": "tool_call", "id": id, "name": name, "input": input }),
        ),
        Block::Known(KnownBlock::ToolResult {
            tool_use_id,
            content,
            is_error,
        }) => (
            shown(&content.text()),
            json!({
                "type": "tool_result",
                "id": tool_use_id,
                "output": content.text(),
                "is_error": is_error.unwrap_or_default(),
            }),
        ),
        Block::Known(KnownBlock::RedactedThinking {} | KnownBlock::Image { .. }) => {
            (String::new(), json!({ "type": "other" }))
        }
        Block::Other(value) => (String::new(), json!({ "type": "other", "block": value })),
    }
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}
