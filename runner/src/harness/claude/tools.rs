//! Tools: when they run, what they give, the plan that some of them keep.

use super::wire::{Block, ImageSource, KnownBlock, User};
use super::{Call, Claude, extension};
use crate::fold::{Cx, Final};
use lodge_proto::message::Role;
use lodge_proto::part::{Part, PlanEntry, PlanStatus};
use serde_json::{Value, json};
use std::fmt::Write as _;

impl Claude {
    /// A tool starts, as far as the wire tells: with the end of the message that calls it, or once it is `allowed`.
    pub(super) fn start_call(&mut self, cx: &mut Cx<'_>, native: &str, allowed: bool) {
        let Some(call) = self.calls.get_mut(native) else {
            return;
        };
        if call.started || call.ended || (call.asked && !allowed) {
            return;
        }
        call.started = true;
        cx.tool_start(native, &call.name, &call.input);
    }

    /// The results among the blocks of a user's message. Other blocks are given back.
    pub(super) fn tool_results(&mut self, cx: &mut Cx<'_>, line: &User) -> Vec<Block> {
        let mut others = Vec::new();
        for block in line.message.content.clone().blocks() {
            match block {
                Block::Known(KnownBlock::ToolResult {
                    tool_use_id,
                    content,
                    is_error,
                }) => {
                    let failed = is_error.unwrap_or_default();
                    let parts: Vec<Part> = content.blocks().into_iter().map(result_part).collect();
                    self.tool_result(cx, &tool_use_id, parts, failed, &line.tool_use_result);
                }
                other => others.push(other),
            }
        }
        others
    }

    fn tool_result(
        &mut self,
        cx: &mut Cx<'_>,
        native: &str,
        mut output: Vec<Part>,
        is_error: bool,
        details: &Value,
    ) {
        let call = match self.calls.get(native) {
            Some(call) if call.ended => return,
            Some(call) => call.clone(),
            None => Call::new("tool".to_owned(), Value::Null),
        };
        self.start_call(cx, native, true);
        if !is_error {
            output.extend(diff(details));
            self.plan(cx, &call, details);
        }
        if let Some(subagent) = self.subagents.remove(native) {
            output.push(subagent.part());
        }
        // The question is settled, whoever settled it.
        cx.withdraw(|asked| asked.get("tool_use_id").and_then(Value::as_str) == Some(native));
        cx.tool_end(native, &call.name, output.clone(), is_error, None);
        let tool_call_id = cx.tool_id(native);
        let part = Part::ToolResult {
            tool_call_id,
            name: call.name.clone(),
            output,
            is_error,
        };
        let end = Final {
            parts: vec![part],
            ..Final::default()
        };
        cx.whole_message(Role::Tool, end);
        let ended = Call { ended: true, ..call };
        self.calls.insert(native.to_owned(), ended);
    }

    /// The plan, where the tool keeps one: a whole list at once, or tasks one by one.
    fn plan(&mut self, cx: &mut Cx<'_>, call: &Call, details: &Value) {
        match call.name.as_str() {
            "TodoWrite" => {
                self.tasks = list(&call.input, "todos")
                    .iter()
                    .enumerate()
                    .filter_map(|(at, todo)| Some((at.to_string(), entry(todo, "content")?)))
                    .collect();
            }
            "TaskCreate" => {
                let Some(id) = details.pointer("/task/id").and_then(name_of) else {
                    return;
                };
                let Some(task) = entry(&call.input, "subject") else {
                    return;
                };
                self.tasks.retain(|(known, _)| *known != id);
                self.tasks.push((id, task));
            }
            "TaskUpdate" => self.task_update(&call.input),
            "TaskList" => {
                self.tasks = list(details, "tasks")
                    .iter()
                    .filter_map(|task| Some((task.get("id").and_then(name_of)?, entry(task, "subject")?)))
                    .collect();
            }
            _ => return,
        }
        cx.plan(self.tasks.iter().map(|(_, task)| task.clone()).collect());
    }

    fn task_update(&mut self, input: &Value) {
        let Some(id) = input.get("taskId").and_then(name_of) else {
            return;
        };
        let text = |field: &str| input.get(field).and_then(Value::as_str);
        if text("status") == Some("deleted") {
            return self.tasks.retain(|(known, _)| *known != id);
        }
        let Some((_, task)) = self.tasks.iter_mut().find(|(known, _)| *known == id) else {
            return;
        };
        if let Some(status) = text("status") {
            task.status = plan_status(status);
        }
        if let Some(subject) = text("subject") {
            subject.clone_into(&mut task.content);
        }
    }
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value
        .get(field)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

/// An id, which some versions write as a number.
fn name_of(id: &Value) -> Option<String> {
    match id {
        Value::String(id) => Some(id.clone()),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    }
}

fn entry(task: &Value, content: &str) -> Option<PlanEntry> {
    let status = task.get("status").and_then(Value::as_str).unwrap_or_default();
    Some(PlanEntry {
        content: task.get(content)?.as_str()?.to_owned(),
        status: plan_status(status),
        priority: None,
    })
}

fn plan_status(native: &str) -> PlanStatus {
    match native {
        "in_progress" => PlanStatus::InProgress,
        "completed" => PlanStatus::Completed,
        _ => PlanStatus::Pending,
    }
}

fn result_part(block: Block) -> Part {
    match block {
        Block::Known(KnownBlock::Text { text }) => Part::text(text),
        Block::Known(KnownBlock::Image { source }) => image(&source),
        Block::Known(other) => Part::text(format!("{other:?}")),
        Block::Other(value) => extension("x-claude-block", json!({ "block": value })),
    }
}

/// An image. Binary content is not carried inline, and there is no blob for it yet.
pub(super) fn image(source: &ImageSource) -> Part {
    extension(
        "x-claude-image",
        json!({ "media_type": source.media_type, "base64_length": source.data.len() }),
    )
}

/// The change of a file that a tool reports.
fn diff(details: &Value) -> Option<Part> {
    let path = details.get("filePath")?.as_str()?;
    let hunks = details.get("structuredPatch")?.as_array()?;
    let created = details.get("type").and_then(Value::as_str) == Some("create");
    let before = if created { "/dev/null" } else { path };
    let mut patch = format!("--- {before}\n+++ {path}\n");
    if hunks.is_empty() {
        let content = details
            .get("content")
            .and_then(Value::as_str)
            .filter(|_| created)?;
        let _ = writeln!(patch, "@@ -0,0 +1,{} @@", content.lines().count());
        for line in content.lines() {
            let _ = writeln!(patch, "+{line}");
        }
    }
    for hunk in hunks {
        let number = |field: &str| hunk.get(field).and_then(Value::as_u64).unwrap_or_default();
        let _ = writeln!(
            patch,
            "@@ -{},{} +{},{} @@",
            number("oldStart"),
            number("oldLines"),
            number("newStart"),
            number("newLines")
        );
        for line in list(hunk, "lines").iter().filter_map(Value::as_str) {
            let _ = writeln!(patch, "{line}");
        }
    }
    Some(Part::Diff {
        path: path.to_owned(),
        patch,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_structured_patch_is_a_unified_diff() {
        let details = json!({
            "type": "update",
            "filePath": "src/a.rs",
            "structuredPatch": [
                { "oldStart": 3, "oldLines": 2, "newStart": 3, "newLines": 1, "lines": [" a", "-b"] }
            ],
        });
        let patch = "--- src/a.rs\n+++ src/a.rs\n@@ -3,2 +3,1 @@\n a\n-b\n".to_owned();
        let path = "src/a.rs".to_owned();
        assert_eq!(diff(&details), Some(Part::Diff { path, patch }));
    }

    #[test]
    fn a_new_file_is_a_diff_of_added_lines() {
        let details = json!({
            "type": "create", "filePath": "new", "content": "one\ntwo\n", "structuredPatch": [],
        });
        let patch = "--- /dev/null\n+++ new\n@@ -0,0 +1,2 @@\n+one\n+two\n".to_owned();
        let path = "new".to_owned();
        assert_eq!(diff(&details), Some(Part::Diff { path, patch }));
    }

    #[test]
    fn a_result_without_a_patch_has_no_diff() {
        assert_eq!(diff(&json!({ "stdout": "hi" })), None);
        assert_eq!(diff(&json!("Error: no")), None);
    }
}
