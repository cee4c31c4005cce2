//! Inputs of recorded transcripts: what somebody else asked of the agent.

use super::wire::{key, list, text};
use super::{Acp, Asked, Opening};
use crate::fold::Cx;
use lodge_proto::command::CommandBody;
use lodge_proto::event::TurnOutcome;
use lodge_proto::message::StopReason;
use lodge_proto::part::Part;
use lodge_proto::{ErrorBody, ErrorCode};
use serde_json::Value;

impl Acp {
    pub(super) fn recorded_input(&mut self, cx: &mut Cx<'_>, line: &[u8]) -> Option<CommandBody> {
        let input: Value = serde_json::from_slice(line).ok()?;
        let id = input.get("id").filter(|id| !id.is_null());
        let params = input.get("params").cloned().unwrap_or_default();
        let Some(method) = text(&input, "method") else {
            let result = input.get("result").cloned().unwrap_or_default();
            self.recorded_answer(cx, id?, &result);
            return None;
        };
        let session = text(&params, "sessionId").map(str::to_owned);
        if method == "session/cancel" {
            return cx.turn().map(|_| CommandBody::Abort {});
        }
        let id = key(id?);
        let named = |field: &str| text(&params, field).unwrap_or_default().to_owned();
        let asked = match method {
            "initialize" => Asked::Initialize,
            "session/new" => opened(Opening::New, None),
            "session/resume" => opened(Opening::Resume, session),
            "session/load" => {
                self.replaying = true;
                opened(Opening::Load, session)
            }
            "session/set_mode" => Asked::Mode(named("modeId")),
            "session/set_model" => Asked::Model(named("modelId")),
            "session/set_config_option" => self.recorded_option(&named("configId"), named("value")),
            "session/prompt" if session == self.session || self.session.is_none() => {
                return Some(self.recorded_prompt(cx, id, &params));
            }
            _ => Asked::Other,
        };
        self.pending.insert(id, asked);
        None
    }

    fn recorded_prompt(&mut self, cx: &mut Cx<'_>, id: String, params: &Value) -> CommandBody {
        if cx.in_turn() && self.turn.silent && self.turn.prompt.is_some() {
            // Whoever was recorded waited for the running prompt in vain, and gave it up.
            let error = ErrorBody::new(
                ErrorCode::DeadlineExceeded,
                "the agent did not answer this prompt",
            );
            self.finish(
                cx,
                TurnOutcome::Interrupted,
                Some(StopReason::Interrupted),
                Some(error),
            );
        }
        self.pending.insert(id.clone(), Asked::Prompt);
        self.recorded.push_back(id);
        let parts: Vec<Part> = list(params, "prompt")
            .iter()
            .map(|block| part(cx.workspace(), block))
            .collect();
        // During a turn it waits, as our own prompts do.
        CommandBody::FollowUp { parts }
    }
}

fn opened(opening: Opening, session: Option<String>) -> Asked {
    Asked::Open { opening, session }
}

fn part(workspace: &str, block: &Value) -> Part {
    match super::wire::block_text(block) {
        Some(text) => Part::text(text),
        None => super::messages::content_part(workspace, block),
    }
}
