//! Notifications of the agent.

use super::messages::{Voice, extension};
use super::wire::{self, Said, Strange, block_text, text};
use super::{Acp, StopReason};
use crate::fold::Cx;
use lodge_proto::event::{CompactReason, NotifyLevel};
use lodge_proto::{ErrorBody, ErrorCode};
use serde_json::Value;

impl Acp {
    pub(super) fn notified(&mut self, cx: &mut Cx<'_>, method: &str, mut params: Value) {
        match method {
            "session/update" => {}
            "$/cancel_request" => return Self::withdrawn(cx, &params),
            _ => {
                let shown: String = method.chars().take(60).collect();
                return cx.warn(format!("the agent sent the unknown notification `{shown}`"));
            }
        }
        let session = text(&params, "sessionId").map(str::to_owned);
        match (&self.session, session) {
            (Some(ours), Some(theirs)) if *ours != theirs => {
                return cx.warn("the agent tells of another session");
            }
            (None, Some(theirs)) => self.session = Some(theirs),
            _ => {}
        }
        let update = params.get_mut("update").map(Value::take).unwrap_or_default();
        match wire::update(update) {
            Ok(update) => self.update(cx, update),
            Err(Strange::Unknown(kind, value)) => {
                self.turn.silent = false;
                cx.warn(format!("the agent sent an update of the unknown type `{kind}`"));
                self.strange(cx, extension("x-acp-update", "update", value));
            }
            Err(Strange::Shape(why)) => cx.warn(format!("the agent sent a malformed update: {why}")),
        }
    }

    fn update(&mut self, cx: &mut Cx<'_>, update: Said) {
        if !matches!(update, Said::AgentMessageChunk(_)) {
            self.stray_end(cx);
        }
        match update {
            Said::AgentMessageChunk(chunk) => self.chunk(cx, Voice::Text, &chunk),
            Said::AgentThoughtChunk(chunk) => self.chunk(cx, Voice::Thought, &chunk),
            Said::AgentMessage(whole) => self.whole(cx, Voice::Text, whole),
            Said::AgentThought(whole) => self.whole(cx, Voice::Thought, whole),
            Said::UserMessageChunk(chunk) => self.told(cx, chunk.message_id, &chunk.content),
            Said::UserMessage(mut whole) => {
                for block in whole.replacement().unwrap_or_default() {
                    self.told(cx, Some(whole.message_id.clone()), &block);
                }
            }
            Said::ToolCall(fields) => {
                let begins = fields.ended().is_none();
                self.tool_update(cx, &fields, begins);
            }
            Said::ToolCallUpdate(fields) => self.tool_update(cx, &fields, false),
            Said::ToolCallContentChunk {
                tool_call_id,
                content,
            } => {
                self.tool_content(cx, &tool_call_id, content);
            }
            Said::TerminalUpdate(fields) => self.terminal(cx, fields),
            Said::TerminalOutputChunk { terminal_id, data } => self.terminal_chunk(cx, &terminal_id, &data),
            Said::Plan { entries } => self.plan(cx, "", &entries),
            Said::PlanUpdate { plan } => self.plan_update(cx, &plan),
            Said::PlanRemoved { id } => self.plan_removed(cx, &id),
            Said::StateUpdate(state) => self.state(cx, &state),
            compaction @ (Said::CompactionUpdate { .. } | Said::CompactionSummaryChunk { .. }) => {
                self.compaction(cx, compaction);
            }
            other => self.about_the_session(cx, other),
        }
    }

    fn about_the_session(&mut self, cx: &mut Cx<'_>, update: Said) {
        match update {
            Said::AvailableCommandsUpdate { available_commands } => self.commands(cx, &available_commands),
            Said::CurrentModeUpdate { current_mode_id } => self.mode_now(cx, &current_mode_id),
            Said::ConfigOptionUpdate { config_options } => self.config_options(cx, &config_options),
            Said::SessionInfoUpdate { title: Some(title) } if !title.trim().is_empty() => {
                cx.title(title.trim());
            }
            Said::UsageUpdate { used, cost } => {
                self.context(cx, used, cost.and_then(|cost| cost.nanodollars()));
            }
            Said::Notice {
                severity,
                title,
                description,
            } => {
                let level = match severity.as_str() {
                    "error" => NotifyLevel::Error,
                    "warning" => NotifyLevel::Warning,
                    _ => NotifyLevel::Info,
                };
                let lines: Vec<String> = [Some(title), description].into_iter().flatten().collect();
                cx.notify(level, lines.join("\n"));
            }
            _ => {}
        }
    }

    fn compaction(&mut self, cx: &mut Cx<'_>, update: Said) {
        if self.replaying {
            return;
        }
        match update {
            Said::CompactionSummaryChunk { content } => {
                if let Some(compaction) = &mut self.compaction {
                    compaction
                        .summary
                        .push_str(block_text(&content).unwrap_or_default());
                }
            }
            Said::CompactionUpdate {
                status,
                summary,
                error,
            } => {
                self.close_message(cx, StopReason::EndTurn);
                self.compacting(cx, CompactReason::Threshold);
                let summary = summary.map(|blocks| blocks.iter().filter_map(block_text).collect::<String>());
                let failed = |words: &str| {
                    let words = error.clone().unwrap_or_else(|| words.to_owned());
                    ErrorBody::new(ErrorCode::ProviderError, words)
                };
                match status.as_str() {
                    "completed" => self.compacted(cx, true, summary, None),
                    "failed" => self.compacted(cx, false, None, Some(&failed("compaction failed"))),
                    "cancelled" => self.compacted(cx, false, None, Some(&failed("compaction was aborted"))),
                    _ => {}
                }
            }
            _ => {}
        }
    }
}
