//! Tool calls.

use super::messages::{Kind, Step};
use super::wire::{Tool, text};
use super::{OpenCode, extension};
use crate::fold::Cx;
use lodge_proto::message::StopReason;
use lodge_proto::part::Part;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Stands for a tool whose call was wrong.
const INVALID: &str = "invalid";

/// A tool call of a message that is not complete.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Call {
    native: String,
    name: String,
    /// What came of it.
    result: Option<Outcome>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Outcome {
    output: Vec<Part>,
    is_error: bool,
}

impl OpenCode {
    pub(super) fn tool(&mut self, cx: &mut Cx<'_>, message: &str, part: &str, tool: &Tool) {
        if tool.call.is_empty() {
            return cx.warn("opencode reports a tool call without an id");
        }
        let step = self.run.steps.entry(message.to_owned()).or_default();
        let slot = step.slot(part, Kind::Tool);
        let name = if tool.name == INVALID {
            text(&tool.state.input, "tool")
        } else {
            tool.name.as_str()
        };
        let call = slot.tool.get_or_insert_with(|| Call {
            native: tool.call.clone(),
            name: name.to_owned(),
            result: None,
        });
        if call.result.is_some() {
            return;
        }
        let (native, name) = (call.native.clone(), call.name.clone());
        let Some((id, index)) = self.place(cx, message, part) else {
            return;
        };
        let state = &tool.state;
        match state.status.as_str() {
            "pending" => cx.tool_call_start(id, index, &native, &name),
            "running" => {
                cx.tool_call_end(id, index, &native, &name, &state.input);
                cx.tool_start(&native, &name, &state.input);
                self.subagent_of(cx, &native, &state.metadata);
                let output = text(&state.metadata, "output");
                if !output.is_empty() {
                    cx.tool_output(&native, output);
                }
            }
            "completed" | "error" => {
                cx.tool_call_end(id, index, &native, &name, &state.input);
                cx.tool_start(&native, &name, &state.input);
                self.subagent_of(cx, &native, &state.metadata);
                let mut outcome = outcome(cx.workspace(), tool);
                outcome.output.extend(self.subagent_ended(&native));
                let duration = state.time.start.zip(state.time.end);
                let duration = duration.and_then(|(start, end)| end.checked_sub(start));
                cx.tool_end(&native, &name, outcome.output.clone(), outcome.is_error, duration);
                let step = self.run.steps.get_mut(message);
                if let Some(call) = step.and_then(|step| step.slot(part, Kind::Tool).tool.as_mut()) {
                    call.result = Some(outcome);
                }
            }
            other => {
                let other: String = other.chars().take(40).collect();
                cx.warn(format!(
                    "opencode reports a tool call in the unknown state `{other}`"
                ));
            }
        }
    }

    /// Ends the calls of a message that is complete and gives their results. One that still runs then was stopped.
    pub(super) fn end_calls(
        &mut self,
        cx: &mut Cx<'_>,
        step: &mut Step,
        stop: Option<StopReason>,
    ) -> Vec<Part> {
        let why = match stop {
            Some(StopReason::Aborted) => "aborted",
            Some(StopReason::Interrupted) => "interrupted: the harness ended before the tool did",
            _ => "the message ended before the tool did",
        };
        let mut results = Vec::new();
        for call in step.slots.iter_mut().filter_map(|slot| slot.tool.as_mut()) {
            let outcome = call.result.take().unwrap_or_else(|| {
                let mut output: Vec<Part> = cx.tool_text(&call.native).map(Part::text).into_iter().collect();
                output.push(Part::text(why));
                output.extend(self.subagent_ended(&call.native));
                cx.tool_end(&call.native, &call.name, output.clone(), true, None);
                Outcome {
                    output,
                    is_error: true,
                }
            });
            results.push(Part::ToolResult {
                tool_call_id: cx.tool_id(&call.native),
                name: call.name.clone(),
                output: outcome.output,
                is_error: outcome.is_error,
            });
        }
        results
    }
}

fn outcome(workspace: &str, tool: &Tool) -> Outcome {
    let state = &tool.state;
    let failed = state.status == "error";
    let said = if failed { &state.error } else { &state.output };
    let mut output = vec![Part::text(said)];
    output.extend(diff(workspace, state));
    output.extend(state.attachments.iter().map(attachment));
    // A command that fails is a completed tool here.
    let exit = state.metadata.get("exit").and_then(Value::as_i64);
    Outcome {
        output,
        is_error: failed || tool.name == INVALID || exit.is_some_and(|exit| exit != 0),
    }
}

/// The change of a file that an edit reports.
fn diff(workspace: &str, state: &super::wire::ToolState) -> Option<Part> {
    let patch = text(&state.metadata, "diff");
    if patch.is_empty() {
        return None;
    }
    let named = [
        text(&state.input, "filePath"),
        text(&state.metadata, "filepath"),
        state
            .metadata
            .pointer("/filediff/file")
            .and_then(Value::as_str)
            .unwrap_or_default(),
    ];
    let path = named
        .into_iter()
        .find(|path| !path.is_empty())
        .unwrap_or_default();
    let below = path.strip_prefix(workspace).filter(|_| !workspace.is_empty());
    let path = below.and_then(|path| path.strip_prefix('/')).unwrap_or(path);
    Some(Part::Diff {
        path: path.to_owned(),
        patch: patch.to_owned(),
    })
}

/// Binary content is not carried inline.
fn attachment(value: &Value) -> Part {
    let fields = json!({
        "media_type": text(value, "mime"),
        "name": text(value, "filename"),
        "url_length": text(value, "url").len(),
    });
    extension("x-opencode-attachment", &fields)
}
