//! `message_start`, `message_update`, `message_end`.

use super::wire::{Block, Delta, KnownBlock, Message, canonical_model};
use super::{Pi, tools};
use crate::fold::{Cx, Final};
use lodge_proto::ids::MessageId;
use lodge_proto::message::{Role, StopReason};
use lodge_proto::part::Part;
use serde_json::Value;

impl Pi {
    pub(super) fn message_start(&mut self, cx: &mut Cx<'_>, message: &Message) {
        match message.role.as_str() {
            "user" => self.user_message(cx, &message.content.text()),
            "assistant" => self.message = Some(cx.message_start(Role::Assistant, model_of(message))),
            // Tool results, system prompts and others come whole with their end.
            _ => {}
        }
    }

    /// The echo of a prompt, a steered prompt that was taken up, or one that the harness makes by itself.
    fn user_message(&mut self, cx: &mut Cx<'_>, text: &str) {
        if std::mem::take(&mut self.expect_echo) {
            return;
        }
        match cx.take_steered(text) {
            Some(queued) => cx.user_message(queued.entry.parts, Some(queued.sender)),
            None => cx.user_message(vec![Part::text(text)], None),
        }
    }

    /// The streaming message; one that was never seen to begin begins now.
    fn streaming(&mut self, cx: &mut Cx<'_>) -> MessageId {
        match self.message {
            Some(id) => id,
            None => *self.message.insert(cx.message_start(Role::Assistant, None)),
        }
    }

    pub(super) fn message_update(&mut self, cx: &mut Cx<'_>, delta: &Delta) {
        if matches!(delta, Delta::Quiet) {
            return;
        }
        let id = self.streaming(cx);
        match delta {
            Delta::Text { content_index, delta } => cx.text_delta(id, *content_index, delta),
            Delta::Thinking { content_index, delta } => cx.thinking_delta(id, *content_index, delta),
            Delta::ToolcallStart {
                content_index,
                id: native,
                tool_name,
            } => {
                cx.tool_call_start(id, *content_index, native, tool_name);
            }
            Delta::ToolcallArguments { content_index, delta } => {
                cx.tool_call_delta(id, *content_index, delta);
            }
            Delta::ToolcallEnd {
                content_index,
                tool_call,
            } => {
                if let KnownBlock::ToolCall {
                    id: native,
                    name,
                    arguments,
                } = tool_call
                {
                    cx.tool_call_end(id, *content_index, native, name, arguments);
                }
            }
            Delta::Quiet => {}
        }
    }

    pub(super) fn message_end(&mut self, cx: &mut Cx<'_>, message: Message) {
        match message.role.as_str() {
            "assistant" => self.assistant_end(cx, message),
            "toolResult" => tools::result_message(cx, message),
            "user" | "system" => {}
            role => {
                let fields = serde_json::Map::from_iter([
                    ("role".to_owned(), Value::from(role)),
                    ("text".to_owned(), Value::from(message.content.text())),
                ]);
                if let Some(part) = Part::extension("x-pi-message", fields) {
                    cx.whole_message(
                        Role::System,
                        Final {
                            parts: vec![part],
                            ..Final::default()
                        },
                    );
                }
            }
        }
    }

    fn assistant_end(&mut self, cx: &mut Cx<'_>, message: Message) {
        let id = self.streaming(cx);
        self.message = None;
        let usage = message.usage.as_ref().map(super::wire::Usage::canonical);
        let context = message
            .usage
            .as_ref()
            .map(|usage| usage.total_tokens)
            .filter(|tokens| *tokens > 0);
        let stop_reason = message.stop_reason.as_deref().and_then(stop_reason);
        let failed = stop_reason == Some(StopReason::Error);
        self.last_stop.clone_from(&message.stop_reason);
        self.last_error.clone_from(&message.error);
        let model = model_of(&message);
        let provider = message.provider.clone();
        let mut parts = Vec::new();
        for (index, block) in (0u32..).zip(message.content.blocks()) {
            parts.push(assistant_part(cx, id, index, block));
        }
        while parts.last().is_some_and(is_empty_text) {
            parts.pop();
        }
        let end = Final {
            parts,
            model,
            provider,
            stop_reason,
            usage,
            sender: None,
        };
        if failed {
            cx.message_failed(id, end);
        } else {
            cx.message_end(id, end);
        }
        if let Some(usage) = usage.filter(|usage| *usage != lodge_proto::message::Usage::default()) {
            cx.add_usage(usage, context);
        }
    }
}

fn is_empty_text(part: &Part) -> bool {
    matches!(part, Part::Text { text } if text.is_empty())
}

fn assistant_part(cx: &mut Cx<'_>, id: MessageId, index: u32, block: Block) -> Part {
    match block {
        Block::Known(KnownBlock::Text { text }) => Part::Text { text },
        Block::Known(KnownBlock::Thinking { thinking, redacted }) => Part::Thinking {
            text: thinking,
            redacted,
        },
        Block::Known(KnownBlock::ToolCall {
            id: native,
            name,
            arguments,
        }) => {
            cx.tool_call_end(id, index, &native, &name, &arguments);
            Part::ToolCall {
                tool_call_id: cx.tool_id(&native),
                name,
                input: arguments,
            }
        }
        Block::Known(KnownBlock::Image { mime_type, data }) => {
            // Binary content is not carried inline; images of the assistant have no blob yet.
            extension(
                "x-pi-image",
                &serde_json::json!({ "media_type": mime_type, "base64_length": data.len() }),
            )
        }
        Block::Other(value) => extension("x-pi-block", &serde_json::json!({ "block": value })),
    }
}

fn extension(name: &str, fields: &Value) -> Part {
    let fields = fields.as_object().cloned().unwrap_or_default();
    Part::extension(name, fields).unwrap_or_else(|| Part::text(""))
}

fn model_of(message: &Message) -> Option<String> {
    Some(canonical_model(
        message.provider.as_deref()?,
        message.model.as_deref()?,
    ))
}

fn stop_reason(native: &str) -> Option<StopReason> {
    Some(match native {
        "stop" => StopReason::EndTurn,
        "toolUse" => StopReason::ToolUse,
        "length" => StopReason::MaxTokens,
        "error" => StopReason::Error,
        "aborted" => StopReason::Aborted,
        _ => return None,
    })
}
