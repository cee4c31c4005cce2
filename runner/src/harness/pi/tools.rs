//! Tool results.

use super::wire::{Block, KnownBlock, Message, ToolResult};
use crate::fold::{Cx, Final};
use lodge_proto::message::Role;
use lodge_proto::part::Part;
use serde_json::Value;

/// A tool ended.
pub(super) fn end(
    cx: &mut Cx<'_>,
    native: &str,
    name: &str,
    result: &ToolResult,
    is_error: bool,
    duration_ms: Option<u64>,
) {
    let path = cx
        .tool_input(native)
        .and_then(|input| input.get("path"))
        .and_then(Value::as_str)
        .unwrap_or_default();
    let diff = diff(path, result.details.as_ref());
    let mut output = vec![Part::text(result.text())];
    output.extend(diff);
    cx.tool_end(native, name, output, is_error, duration_ms);
}

/// The durable message that carries a tool's result.
pub(super) fn result_message(cx: &mut Cx<'_>, message: Message) {
    let native = message.tool_call_id.unwrap_or_default();
    let name = message.tool_name.unwrap_or_default();
    let tool_call_id = cx.tool_id(&native);
    let mut output: Vec<Part> = message.content.blocks().into_iter().map(result_part).collect();
    output.extend(diff("", message.details.as_ref()));
    let part = Part::ToolResult {
        tool_call_id,
        name,
        output,
        is_error: message.is_error,
    };
    cx.whole_message(
        Role::Tool,
        Final {
            parts: vec![part],
            ..Final::default()
        },
    );
}

fn result_part(block: Block) -> Part {
    match block {
        Block::Known(KnownBlock::Text { text }) => Part::text(text),
        Block::Known(KnownBlock::Image { mime_type, data }) => {
            Part::text(format!("[image, {mime_type}, {} bytes of base64]", data.len()))
        }
        other => Part::text(format!("{other:?}")),
    }
}

/// The change of a file that an edit reports.
fn diff(path: &str, details: Option<&Value>) -> Option<Part> {
    let patch = details?.get("patch")?.as_str()?;
    let named = patch
        .lines()
        .find_map(|line| line.strip_prefix("+++ "))
        .unwrap_or_default();
    let path = if path.is_empty() { named } else { path };
    Some(Part::Diff {
        path: path.to_owned(),
        patch: patch.to_owned(),
    })
}
