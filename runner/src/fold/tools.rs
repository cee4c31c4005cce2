//! Tool calls while they run.

use super::cx::Cx;
use lodge_proto::event::EventBody;
use lodge_proto::ids::ToolCallId;
use lodge_proto::part::Part;
use lodge_proto::session::Phase;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Output of a running tool that is kept for snapshots, in bytes.
const KEPT_TOOL_OUTPUT: usize = 64 * 1024;

/// A tool that runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct OpenTool {
    pub(super) id: ToolCallId,
    pub(super) native: String,
    pub(super) name: String,
    pub(super) input: Value,
    /// Output so far, as text; the tail of it where there is much.
    pub(super) output: String,
    /// Bytes of output so far, with those that were cut off.
    pub(super) total: usize,
    pub(super) started_at: u64,
}

/// What is known of a harness's tool call id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KnownTool {
    pub(super) id: ToolCallId,
    pub(super) ended: bool,
}

impl Cx<'_> {
    /// The canonical id of the harness's tool call.
    pub fn tool_id(&mut self, native: &str) -> ToolCallId {
        if let Some(known) = self.core.tool_ids.get(native) {
            return known.id;
        }
        let id = ToolCallId(self.new_id());
        self.core
            .tool_ids
            .insert(native.to_owned(), KnownTool { id, ended: false });
        id
    }

    /// The id of a call that begins: some harnesses use the id of an ended call again.
    pub(super) fn beginning_tool_id(&mut self, native: &str) -> ToolCallId {
        if self.core.tool_ids.get(native).is_some_and(|known| known.ended) {
            self.core.tool_ids.remove(native);
        }
        self.tool_id(native)
    }

    /// With what the running tool was called.
    pub fn tool_input(&self, native: &str) -> Option<&Value> {
        self.core
            .tools
            .iter()
            .find(|tool| tool.native == native)
            .map(|tool| &tool.input)
    }

    /// A tool starts to run.
    pub fn tool_start(&mut self, native: &str, name: &str, input: &Value) {
        if self.core.tools.iter().any(|tool| tool.native == native) {
            return;
        }
        if !self.may_stream() {
            return;
        }
        let id = self.beginning_tool_id(native);
        self.core.tools.push(OpenTool {
            id,
            native: native.to_owned(),
            name: name.to_owned(),
            input: input.clone(),
            output: String::new(),
            total: 0,
            started_at: self.now(),
        });
        self.phase(Phase::ToolRunning);
        self.emit(EventBody::ToolStart {
            tool_call_id: id,
            name: name.to_owned(),
            input: input.clone(),
        });
    }

    /// The whole text output of a running tool so far.
    pub fn tool_output(&mut self, native: &str, whole: &str) {
        let Some(tool) = self.core.tools.iter_mut().find(|tool| tool.native == native) else {
            return;
        };
        let known = whole
            .get(..tool.total)
            .is_some_and(|known| known.ends_with(tool.output.as_str()));
        let added = known.then(|| whole[tool.total..].to_owned());
        if added.as_deref() == Some("") {
            return;
        }
        tool.total = whole.len();
        tool.output.clear();
        tool.output.push_str(tail_of(whole, KEPT_TOOL_OUTPUT));
        let (tool_call_id, name) = (tool.id, tool.name.clone());
        let output = added
            .is_none()
            .then(|| vec![Part::text(tail_of(whole, KEPT_TOOL_OUTPUT))]);
        self.emit(EventBody::ToolProgress {
            tool_call_id,
            name,
            delta: added,
            output,
        });
    }

    /// More text output of a running tool.
    pub fn tool_output_delta(&mut self, native: &str, delta: &str) {
        let Some(tool) = self.core.tools.iter_mut().find(|tool| tool.native == native) else {
            return;
        };
        if delta.is_empty() {
            return;
        }
        tool.output.push_str(delta);
        tool.total += delta.len();
        // Cut only now and then: each cut copies what is kept.
        if tool.output.len() > 2 * KEPT_TOOL_OUTPUT {
            tool.output = tail_of(&tool.output, KEPT_TOOL_OUTPUT).to_owned();
        }
        let (tool_call_id, name) = (tool.id, tool.name.clone());
        self.emit(EventBody::ToolProgress {
            tool_call_id,
            name,
            delta: Some(delta.to_owned()),
            output: None,
        });
    }

    /// The output of a running tool so far; the tail of it where there is much.
    pub fn tool_text(&self, native: &str) -> Option<&str> {
        let tool = self.core.tools.iter().find(|tool| tool.native == native)?;
        Some(tool.output.as_str()).filter(|output| !output.is_empty())
    }

    /// A tool ended. One that was never seen to start has started now.
    pub fn tool_end(
        &mut self,
        native: &str,
        name: &str,
        output: Vec<Part>,
        is_error: bool,
        duration_ms: Option<u64>,
    ) {
        self.tool_start(native, name, &Value::Null);
        let Some(at) = self.core.tools.iter().position(|tool| tool.native == native) else {
            return;
        };
        let tool = self.core.tools.remove(at);
        if let Some(known) = self.core.tool_ids.get_mut(native) {
            known.ended = true;
        }
        let duration_ms = duration_ms.or_else(|| self.now().checked_sub(tool.started_at));
        self.emit(EventBody::ToolEnd {
            tool_call_id: tool.id,
            name: tool.name,
            output,
            is_error,
            duration_ms,
        });
    }
}

/// The last `limit` bytes of `text`, at a character boundary.
fn tail_of(text: &str, limit: usize) -> &str {
    let mut from = text.len().saturating_sub(limit);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}
