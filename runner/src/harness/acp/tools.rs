//! Tool calls, from whichever line names one first to its result.

use super::messages::{content_part, extension, last_index};
use super::wire::{ToolFields, block_text, list, text};
use super::{Acp, diff, plans};
use crate::fold::{Cx, Final};
use lodge_proto::ids::MessageId;
use lodge_proto::message::{Role, StopReason};
use lodge_proto::part::Part;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A tool call of the turn.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Tool {
    pub(super) native: String,
    pub(super) name: String,
    title: String,
    kind: String,
    /// What the agent says the call does, before it runs.
    description: String,
    locations: Vec<String>,
    pub(super) input: Option<Value>,
    content: Vec<Value>,
    raw_output: Option<Value>,
    /// The terminal that shows its output.
    pub(super) terminal: Option<String>,
    /// Where its call stands, until the call is complete.
    call: Option<(MessageId, u32)>,
    pub(super) started: bool,
    pub(super) ended: bool,
    /// It is known from a question only: nothing else will tell that it runs.
    pub(super) questioned: bool,
    /// The user refused it. Some agents do not speak of it again.
    denied: bool,
}

impl Tool {
    /// With what it is called. Some agents show a title and no arguments.
    pub(super) fn arguments(&self) -> Value {
        if let Some(input) = &self.input {
            return input.clone();
        }
        let mut arguments = json!({ "title": self.title });
        if !self.description.is_empty() {
            arguments["description"] = self.description.clone().into();
        }
        if !self.locations.is_empty() {
            arguments["locations"] = self.locations.clone().into();
        }
        arguments
    }

    fn patch(&mut self, fields: &ToolFields) {
        if let Some(title) = &fields.title {
            self.title.clone_from(title);
        }
        if let Some(kind) = &fields.kind {
            self.kind.clone_from(kind);
        }
        if let Some(input) = fields.raw_input.as_ref().filter(|input| !input.is_null()) {
            self.input = Some(input.clone());
        }
        if let Some(output) = fields.raw_output.as_ref().filter(|output| !output.is_null()) {
            self.raw_output = Some(output.clone());
        }
        if let Some(locations) = &fields.locations {
            let paths = locations
                .iter()
                .filter_map(|at| text(at, "path").map(str::to_owned));
            self.locations = paths.collect();
        }
    }
}

impl Acp {
    pub(super) fn tool(&self, native: &str) -> Option<&Tool> {
        self.tools.iter().find(|tool| tool.native == native)
    }

    pub(super) fn tool_mut(&mut self, native: &str) -> Option<&mut Tool> {
        self.tools.iter_mut().find(|tool| tool.native == native)
    }

    /// A tool call begins, or something about it changed. `create`: it is one that begins, whatever its id was
    /// used for before.
    pub(super) fn tool_update(&mut self, cx: &mut Cx<'_>, fields: &ToolFields, create: bool) {
        if self.replaying {
            return;
        }
        self.agent_starts(cx);
        if !cx.in_turn() {
            return cx.warn("the agent tells of a tool call outside of a turn");
        }
        self.turn.silent = false;
        self.told_end(cx);
        let native = fields.tool_call_id.as_str();
        let known = self.tool(native).map(|tool| tool.ended);
        if known == Some(true) {
            if !create {
                return cx.warn("the agent goes on about a tool call that is over");
            }
            self.tools.retain(|tool| tool.native != native);
        }
        let fresh = known != Some(false);
        if fresh {
            self.tool_begin(cx, fields);
        }
        let ended = fields.ended();
        let Some(tool) = self.tool_mut(native) else { return };
        tool.patch(fields);
        if let Some(content) = &fields.content {
            // What stands beside a call that has yet to run tells what it does, not what came of it.
            if fresh && ended.is_none() {
                tool.description = content
                    .iter()
                    .filter_map(item_text)
                    .collect::<Vec<_>>()
                    .join("\n");
                let others = content.iter().filter(|item| item_text(item).is_none());
                tool.content = others.cloned().collect();
            } else {
                tool.content.clone_from(content);
            }
            tool.terminal = content.iter().find_map(terminal_of).or(tool.terminal.take());
        }
        self.tool_meta(cx, fields);
        match (fields.status.as_deref(), ended) {
            (_, Some(failed)) => self.tool_end(cx, native, failed),
            (Some("in_progress"), None) => self.tool_run(cx, native),
            _ => {}
        }
        self.tool_progress(cx, native);
    }

    /// Version 2 appends to a call's content one item at a time.
    pub(super) fn tool_content(&mut self, cx: &mut Cx<'_>, native: &str, item: Value) {
        let Some(tool) = self.tool_mut(native).filter(|tool| !tool.ended) else {
            return cx.warn("content of a tool call that does not run");
        };
        tool.terminal = terminal_of(&item).or(tool.terminal.take());
        tool.content.push(item);
        self.turn.silent = false;
        self.tool_progress(cx, native);
    }

    /// Adapters that keep to version 1 put the output of a shell beside the update.
    fn tool_meta(&mut self, cx: &mut Cx<'_>, fields: &ToolFields) {
        let Some(meta) = &fields.meta else { return };
        let output = meta
            .get("terminal_output")
            .or_else(|| meta.get("terminal_output_delta"));
        let data = output.and_then(|output| text(output, "data"));
        let native = fields.tool_call_id.as_str();
        if let Some(data) = data {
            let id = output
                .and_then(|output| text(output, "terminal_id"))
                .unwrap_or(native);
            if let Some(tool) = self.tool_mut(native) {
                tool.terminal = Some(id.to_owned());
            }
            self.terminal_bytes(cx, id, data.as_bytes());
        }
    }

    fn tool_begin(&mut self, cx: &mut Cx<'_>, fields: &ToolFields) {
        let native = fields.tool_call_id.clone();
        let name = tool_name(fields);
        let id = self.streaming(cx).id;
        let part = Part::ToolCall {
            tool_call_id: lodge_proto::ids::ToolCallId::default(),
            name: name.clone(),
            input: Value::Null,
        };
        self.append_part(cx, part);
        let index = self.message.as_ref().map_or(0, |open| last_index(&open.parts));
        cx.tool_call_start(id, index, &native, &name);
        self.tools.push(Tool {
            native,
            name,
            call: Some((id, index)),
            ..Tool::default()
        });
    }

    /// The call is complete: its arguments are known.
    fn seal(&mut self, cx: &mut Cx<'_>, native: &str) {
        let Some(tool) = self.tools.iter_mut().find(|tool| tool.native == native) else {
            return;
        };
        let input = tool.arguments();
        let (Some((id, index)), Some(open)) = (tool.call.take(), &mut self.message) else {
            return;
        };
        if !open.is(id) {
            return;
        }
        cx.tool_call_end(id, index, native, &tool.name, &input);
        if let Some(part) = open.parts.get_mut(index as usize) {
            *part = Part::ToolCall {
                tool_call_id: cx.tool_id(native),
                name: tool.name.clone(),
                input,
            };
        }
    }

    /// Completes the calls of the message that streams, before it ends.
    pub(super) fn seal_calls(&mut self, cx: &mut Cx<'_>) {
        let open: Vec<String> = self
            .tools
            .iter()
            .filter(|tool| tool.call.is_some())
            .map(|tool| tool.native.clone())
            .collect();
        for native in open {
            self.seal(cx, &native);
        }
    }

    /// The tool runs.
    fn tool_run(&mut self, cx: &mut Cx<'_>, native: &str) {
        self.seal(cx, native);
        let Some(tool) = self.tool_mut(native).filter(|tool| !tool.started) else {
            return;
        };
        tool.started = true;
        let (name, input) = (tool.name.clone(), tool.arguments());
        cx.tool_start(native, &name, &input);
        let todos = list(&input, "todos");
        if !todos.is_empty() {
            cx.plan(plans::entries(todos));
        }
        self.terminal_catch_up(cx, native);
    }

    fn tool_progress(&mut self, cx: &mut Cx<'_>, native: &str) {
        let Some(tool) = self.tool(native).filter(|tool| tool.started && !tool.ended) else {
            return;
        };
        if tool.terminal.is_some() {
            return;
        }
        let texts: Vec<&str> = tool.content.iter().filter_map(item_text).collect();
        if !texts.is_empty() {
            cx.tool_output(native, &texts.join("\n"));
        }
    }

    /// The tool is over.
    pub(super) fn tool_end(&mut self, cx: &mut Cx<'_>, native: &str, failed: bool) {
        self.tool_run(cx, native);
        self.close_message(cx, StopReason::ToolUse);
        let shown = self
            .tool(native)
            .and_then(|tool| tool.terminal.as_ref())
            .map(|id| self.terminal_parts(id))
            .unwrap_or_default();
        let workspace = cx.workspace().to_owned();
        let Some(tool) = self.tool_mut(native) else { return };
        tool.ended = true;
        let mut output = shown;
        output.extend(tool.content.iter().flat_map(|item| item_parts(&workspace, item)));
        // A change that failed was not made.
        output.retain(|part| !(failed && matches!(part, Part::Diff { .. })));
        if output.iter().all(|part| matches!(part, Part::Diff { .. })) {
            let raw = tool.raw_output.as_ref().and_then(raw_part);
            output.splice(0..0, raw);
        }
        if output.is_empty() && tool.denied {
            output.push(Part::text("the user refused this call"));
        }
        let name = tool.name.clone();
        // What it showed and what it was called with is told; the rest is only its name.
        tool.content = Vec::new();
        tool.raw_output = None;
        cx.tool_end(native, &name, output.clone(), failed, None);
        let part = Part::ToolResult {
            tool_call_id: cx.tool_id(native),
            name,
            output,
            is_error: failed,
        };
        let end = Final {
            parts: vec![part],
            ..Final::default()
        };
        cx.whole_message(Role::Tool, end);
    }

    /// The turn is over: calls of which nothing was heard again have no result. `aborted`: those that ran are
    /// closed with the turn.
    pub(super) fn tools_end(&mut self, cx: &mut Cx<'_>, aborted: bool) {
        let left: Vec<(String, bool)> = self
            .tools
            .iter()
            .filter(|tool| !tool.ended && (tool.denied || !aborted))
            .map(|tool| (tool.native.clone(), tool.denied))
            .collect();
        for (native, denied) in left {
            if !denied && let Some(tool) = self.tool_mut(&native) {
                tool.content.push(json!({
                    "type": "content",
                    "content": { "type": "text", "text": "the agent did not tell what came of this call" },
                }));
            }
            self.tool_end(cx, &native, true);
        }
        self.tools.clear();
        self.terminals.clear();
    }

    /// The user allowed or refused a call.
    pub(super) fn decided(&mut self, cx: &mut Cx<'_>, native: &str, refused: bool) {
        let Some(tool) = self.tool_mut(native) else { return };
        tool.denied = refused;
        if tool.questioned && !refused && cx.in_turn() {
            self.tool_run(cx, native);
        }
    }

    /// The agent goes on: refused calls of which it does not speak are over.
    pub(super) fn refused_end(&mut self, cx: &mut Cx<'_>) {
        let refused = |tool: &&Tool| tool.denied && !tool.ended;
        while let Some(tool) = self.tools.iter().find(refused) {
            let native = tool.native.clone();
            self.tool_end(cx, &native, true);
        }
    }
}

/// Name of a tool. Version 1 has none on the wire, so the best that the agent shows is taken.
fn tool_name(fields: &ToolFields) -> String {
    let meta = fields.meta.as_ref().and_then(|meta| {
        meta.as_object()?
            .values()
            .find_map(|agent| text(agent, "toolName"))
    });
    let identifier = |word: &&str| {
        let letters = word
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
        letters && word.starts_with(|c: char| c.is_ascii_alphabetic())
    };
    let in_id = || fields.tool_call_id.split_once("__").map(|(name, _)| name);
    let is_command = |title: &str| {
        let command = fields.raw_input.as_ref().and_then(|input| input.get("command"));
        let last = command.and_then(|command| command.as_array()?.last());
        last.or(command).and_then(Value::as_str) == Some(title)
    };
    let title = || fields.title.as_deref().filter(|title| !is_command(title));
    let name = fields
        .name
        .as_deref()
        .or(meta)
        .or_else(|| in_id().filter(identifier))
        .or_else(|| title().filter(identifier))
        .or(fields.kind.as_deref())
        .unwrap_or("tool");
    name.chars().take(80).collect()
}

/// Text of a content item that holds text.
fn item_text(item: &Value) -> Option<&str> {
    block_text(item.get("content")?)
}

fn terminal_of(item: &Value) -> Option<String> {
    if text(item, "type") == Some("terminal") {
        text(item, "terminalId").map(str::to_owned)
    } else {
        None
    }
}

/// The parts of one content item.
fn item_parts(workspace: &str, item: &Value) -> Vec<Part> {
    match text(item, "type") {
        Some("content") => {
            let Some(content) = item.get("content") else {
                return Vec::new();
            };
            match block_text(content) {
                Some(text) => vec![Part::text(unfenced(text))],
                None => vec![content_part(workspace, content)],
            }
        }
        Some("diff") => diff::parts(item),
        // Its output is told by the terminal itself.
        Some("terminal") => Vec::new(),
        _ => vec![extension("x-acp-content", "content", item.clone())],
    }
}

/// Output that an agent wrapped as one block of code for its own display.
fn unfenced(text: &str) -> &str {
    let inner = text
        .trim_end()
        .strip_prefix("```")
        .and_then(|rest| rest.split_once('\n'))
        .and_then(|(_, rest)| rest.strip_suffix("```"));
    match inner {
        Some(inner) if !inner.contains("```") => inner,
        _ => text,
    }
}

/// The output as the agent's tool gave it, where the agent shows none.
fn raw_part(raw: &Value) -> Option<Part> {
    let fields = [
        "formatted_output",
        "aggregated_output",
        "output",
        "stdout",
        "error",
        "message",
    ];
    let known: Option<&str> = raw
        .as_str()
        .or_else(|| fields.iter().find_map(|field| text(raw, field)));
    match known {
        Some("") => None,
        Some(text) => Some(Part::text(text)),
        None => Some(extension("x-acp-output", "output", raw.clone())),
    }
}
