//! Tool calls: commands, changes of files, MCP and other tools.

use super::wire::{Change, KnownItem};
use super::{Codex, OpenTool};
use crate::fold::Cx;
use lodge_proto::event::NotifyLevel;
use lodge_proto::part::Part;
use serde_json::{Map, Value, json};

/// Commands remembered that outlived their turns.
const BACKGROUND: usize = 64;
/// Name of the tool that runs commands.
const SHELL: &str = "shell";

/// An item that is a tool call, as its start or its end shows it.
#[derive(Debug)]
pub(super) struct Tool {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) input: Value,
    output: Vec<Part>,
    is_error: bool,
    duration_ms: Option<u64>,
}

impl Tool {
    fn new(id: String, name: impl Into<String>, input: Value) -> Self {
        Self {
            id,
            name: name.into(),
            input,
            output: Vec::new(),
            is_error: false,
            duration_ms: None,
        }
    }

    /// A command of which no more is known than its request for permission tells.
    pub(super) fn command(id: &str, command: &str, cwd: Option<&str>) -> Self {
        let mut input = json!({ "command": command });
        if let Some(cwd) = cwd {
            input["cwd"] = cwd.into();
        }
        Self::new(id.to_owned(), SHELL, input)
    }

    /// Changes of files.
    pub(super) fn patch(id: &str, changes: &[Change]) -> Self {
        Self::new(id.to_owned(), "apply_patch", patch_input(changes))
    }

    /// The tool call that an item is, if it is one.
    pub(super) fn read(workspace: &str, item: KnownItem) -> Option<Self> {
        match item {
            item @ KnownItem::CommandExecution { .. } => command(item),
            KnownItem::FileChange { id, changes, status } => {
                let mut tool = Self::patch(&id, &changes);
                tool.output = changes.iter().map(|change| diff(workspace, change)).collect();
                tool.refused(status.as_deref());
                Some(tool)
            }
            item => other(item),
        }
    }

    /// Reads the status of a call: a word, where there is no result, so that the model's view is known.
    fn refused(&mut self, status: Option<&str>) {
        match status {
            Some("declined") => {
                self.is_error = true;
                self.output = vec![Part::text("Not permitted: it was not run.")];
            }
            Some("failed") => self.is_error = true,
            _ => {}
        }
    }
}

fn command(item: KnownItem) -> Option<Tool> {
    let KnownItem::CommandExecution {
        id,
        command,
        cwd,
        aggregated_output,
        exit_code,
        duration_ms,
        status,
    } = item
    else {
        return None;
    };
    let mut tool = Tool::command(&id, &command, cwd.as_deref());
    tool.duration_ms = duration_ms;
    if let Some(output) = aggregated_output.filter(|output| !output.is_empty()) {
        tool.output.push(Part::text(output));
    }
    if let Some(code) = exit_code.filter(|code| *code != 0) {
        tool.is_error = true;
        tool.output.push(Part::text(format!("Exit status {code}.")));
    }
    tool.refused(status.as_deref());
    Some(tool)
}

fn other(item: KnownItem) -> Option<Tool> {
    Some(match item {
        KnownItem::McpToolCall {
            id,
            server,
            tool,
            arguments,
            result,
            error,
            duration_ms,
        } => {
            let mut call = Tool::new(id, format!("{server}.{tool}"), arguments);
            call.duration_ms = duration_ms;
            call.output = contents(result.get("content"));
            if let Some(message) = error.get("message").and_then(Value::as_str) {
                call.is_error = true;
                call.output.push(Part::text(message));
            }
            call
        }
        KnownItem::DynamicToolCall {
            id,
            tool,
            arguments,
            content_items,
            success,
            duration_ms,
        } => {
            let mut call = Tool::new(id, tool, arguments);
            call.duration_ms = duration_ms;
            call.output = contents(Some(&content_items));
            call.is_error = success == Some(false);
            call
        }
        KnownItem::WebSearch { id, query, action } => {
            Tool::new(id, "web_search", json!({ "query": query, "action": action }))
        }
        KnownItem::ImageView { id, path } => Tool::new(id, "view_image", json!({ "path": path })),
        KnownItem::ImageGeneration {
            id,
            revised_prompt,
            saved_path,
            status,
        } => {
            let mut call = Tool::new(id, "image_generation", json!({ "prompt": revised_prompt }));
            call.output = saved_path
                .into_iter()
                .map(|path| Part::FileRef { path, lines: None })
                .collect();
            call.refused(status.as_deref());
            call
        }
        KnownItem::CollabAgentToolCall {
            id,
            tool,
            prompt,
            receiver_thread_ids,
            agents_states,
            status,
        } => {
            let input = json!({ "prompt": prompt, "agents": receiver_thread_ids });
            let mut call = Tool::new(id, tool, input);
            let fields = Map::from_iter([("agents".to_owned(), agents_states)]);
            call.output.extend(Part::extension("x-codex-agents", fields));
            call.refused(status.as_deref());
            call
        }
        _ => return None,
    })
}

/// Content of an MCP or a client's tool: texts as they are, all else as it came.
fn contents(list: Option<&Value>) -> Vec<Part> {
    let list = list
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let part = |block: &Value| match block.get("text").and_then(Value::as_str) {
        Some(text) => Some(Part::text(text)),
        None if block.get("data").is_some() || block.get("imageUrl").is_some() => {
            // Binary content is not carried inline, and has no blob yet.
            let kind = block.get("mimeType").and_then(Value::as_str).unwrap_or("image");
            Some(Part::text(format!("[{kind}, not shown]")))
        }
        None => Part::extension(
            "x-codex-content",
            Map::from_iter([("content".to_owned(), block.clone())]),
        ),
    };
    list.iter().filter_map(part).collect()
}

fn patch_input(changes: &[Change]) -> Value {
    let changes: Vec<Value> = changes
        .iter()
        .map(|change| json!({ "path": change.path, "kind": kind(change), "diff": change.diff }))
        .collect();
    json!({ "changes": changes })
}

fn kind(change: &Change) -> &str {
    let named = change.kind.get("type").unwrap_or(&change.kind);
    named.as_str().unwrap_or("update")
}

/// A change as a unified diff: codex gives new and deleted files as their content.
fn diff(workspace: &str, change: &Change) -> Part {
    let path = change
        .path
        .strip_prefix(workspace)
        .and_then(|path| path.strip_prefix('/'))
        .unwrap_or(&change.path);
    let moved = change.kind.get("move_path").and_then(Value::as_str);
    let patch = match kind(change) {
        "add" => whole(&change.diff, '+', "/dev/null", &format!("b/{path}")),
        "delete" => whole(&change.diff, '-', &format!("a/{path}"), "/dev/null"),
        _ if change.diff.starts_with("---") || change.diff.starts_with("diff ") => change.diff.clone(),
        _ => format!("--- a/{path}\n+++ b/{}\n{}", moved.unwrap_or(path), change.diff),
    };
    Part::Diff {
        path: path.to_owned(),
        patch,
    }
}

/// The diff that adds or takes away every line of `content`.
fn whole(content: &str, sign: char, from: &str, to: &str) -> String {
    use std::fmt::Write as _;
    if content.starts_with("@@") {
        return format!("--- {from}\n+++ {to}\n{content}");
    }
    let lines = content.lines().count();
    let range = if sign == '+' {
        format!("-0,0 +1,{lines}")
    } else {
        format!("-1,{lines} +0,0")
    };
    let mut patch = format!("--- {from}\n+++ {to}\n@@ {range} @@\n");
    for line in content.lines() {
        // Writing to a string cannot fail.
        let _ = writeln!(patch, "{sign}{line}");
    }
    if !content.is_empty() && !content.ends_with('\n') {
        patch.push_str("\\ No newline at end of file\n");
    }
    patch
}

impl Codex {
    pub(super) fn tool_started(&mut self, cx: &mut Cx<'_>, tool: &Tool) {
        if self.run.tools.contains_key(&tool.id) || self.run.done.contains(&tool.id) {
            return;
        }
        self.tool_call(cx, &tool.id, &tool.name, &tool.input);
        cx.tool_start(&tool.id, &tool.name, &tool.input);
        let open = OpenTool {
            name: tool.name.clone(),
            command: (tool.name == SHELL)
                .then(|| tool.input.get("command").and_then(Value::as_str))
                .flatten()
                .map(str::to_owned),
        };
        self.run.tools.insert(tool.id.clone(), open);
    }

    /// A change of files grew while the model still writes it.
    pub(super) fn patch_updated(&mut self, cx: &mut Cx<'_>, id: &str, changes: &[Change]) {
        let tool = Tool::patch(id, changes);
        if !self.run.tools.contains_key(id) {
            self.tool_started(cx, &tool);
        } else if self.calls(id) {
            self.tool_call(cx, id, &tool.name, &tool.input);
        }
    }

    pub(super) fn tool_completed(&mut self, cx: &mut Cx<'_>, tool: Tool) {
        if self.run.done.contains(&tool.id) {
            return;
        }
        self.tool_started(cx, &tool);
        let output = if tool.output.is_empty() && tool.is_error {
            vec![Part::text("It failed.")]
        } else {
            tool.output
        };
        self.end_tool(cx, &tool.id, output, tool.is_error, tool.duration_ms);
        if self.run.message.is_none() {
            self.tell_results(cx);
        }
    }

    fn end_tool(
        &mut self,
        cx: &mut Cx<'_>,
        id: &str,
        output: Vec<Part>,
        is_error: bool,
        duration: Option<u64>,
    ) {
        let Some(open) = self.run.tools.remove(id) else {
            return;
        };
        self.run.done.insert(id.to_owned());
        let tool_call_id = cx.tool_id(id);
        cx.tool_end(id, &open.name, output.clone(), is_error, duration);
        self.run.results.push(Part::ToolResult {
            tool_call_id,
            name: open.name,
            output,
            is_error,
        });
    }

    /// Ends the tools that the turn leaves open. Of a turn that went well those are commands that the agent left
    /// running on purpose. Returns whether there were any.
    pub(super) fn end_tools(&mut self, cx: &mut Cx<'_>, completed: bool, why: &str) -> bool {
        let open: Vec<String> = self.run.tools.keys().cloned().collect();
        for id in &open {
            let command = self.run.tools.get(id).and_then(|tool| tool.command.clone());
            let left_running = completed && command.is_some();
            if let Some(command) = command.filter(|_| left_running) {
                if self.background.len() >= BACKGROUND {
                    self.background.pop_first();
                }
                self.background.insert(id.clone(), command);
            }
            let mut output: Vec<Part> = cx.tool_text(id).map(Part::text).into_iter().collect();
            let why = if left_running {
                "It goes on in the background."
            } else {
                why
            };
            output.push(Part::text(why));
            self.end_tool(cx, id, output, !left_running, None);
        }
        !open.is_empty()
    }

    /// An item of a turn that is over ended: a command in the background, whose output stays in the journal.
    pub(super) fn late(&mut self, cx: &mut Cx<'_>, item: &Value) {
        let id = item.get("id").and_then(Value::as_str).unwrap_or_default();
        let Some(command) = self.background.remove(id) else {
            return;
        };
        let how = match item.get("exitCode").and_then(Value::as_i64) {
            Some(0) => "ended".to_owned(),
            Some(code) if code > 0 => format!("ended with status {code}"),
            _ => "was stopped".to_owned(),
        };
        let shown: String = command.chars().take(120).collect();
        cx.notify(
            NotifyLevel::Info,
            format!("a command in the background {how}: {shown}"),
        );
    }
}
