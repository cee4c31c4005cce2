//! Answers to our own requests.

use super::wire::{Response, canonical_model};
use super::{Pi, provider_error};
use crate::fold::Cx;
use lodge_proto::event::TurnOutcome;
use lodge_proto::session::{CommandInfo, ModelInfo};
use lodge_proto::{ErrorBody, ErrorCode};
use serde_json::{Value, json};

impl Pi {
    pub(super) fn response(&mut self, cx: &mut Cx<'_>, response: &Response) {
        if let Some(id) = response.id.as_str() {
            let result = if response.success {
                Ok(json!({}))
            } else {
                let message = response
                    .error
                    .clone()
                    .unwrap_or_else(|| format!("pi refused `{}`", response.command));
                Err(ErrorBody::new(ErrorCode::InvalidArgument, message))
            };
            cx.resolve(id, result);
        }
        if !response.success {
            return self.refused(cx, response);
        }
        match response.command.as_str() {
            "get_state" => self.state(cx, &response.data),
            "get_available_models" => models(cx, &response.data),
            "get_available_thinking_levels" => thinking_levels(cx, &response.data),
            "get_commands" => self.commands(cx, &response.data),
            "get_fork_messages" => self.fork_messages(cx, &response.data),
            "fork" => {
                self.forking = false;
                Self::request(cx, json!({ "type": "get_state" }));
            }
            "set_model" => {
                if let Some(model) = model_id(&response.data) {
                    cx.model(model);
                    Self::request(cx, json!({ "type": "get_available_thinking_levels" }));
                }
            }
            "clear_queue" => cx.unsteer(),
            "prompt" => self.prompt_accepted(cx),
            _ => {}
        }
    }

    fn refused(&mut self, cx: &mut Cx<'_>, response: &Response) {
        let message = response.error.as_deref().unwrap_or("no reason given");
        match response.command.as_str() {
            // Only a prompt that was to begin the turn ends it: one during a run is refused without harm.
            "prompt" if self.expect_echo => {
                self.expect_echo = false;
                cx.turn_done(
                    TurnOutcome::Failed,
                    Some(provider_error(&format!("pi refused the prompt: {message}"))),
                );
            }
            // It would go on from more than was asked for: it gets no prompt, and the deadline of the start ends it.
            "fork" | "get_fork_messages" => {
                let message = format!("pi could not fork its session: {message}");
                cx.agent_error(ErrorCode::HarnessCrashed, message.clone(), false);
                if self.held.take().is_some() {
                    let error = ErrorBody::new(ErrorCode::HarnessCrashed, message);
                    cx.turn_done(TurnOutcome::Failed, Some(error));
                }
            }
            _ => {}
        }
    }

    fn state(&mut self, cx: &mut Cx<'_>, data: &Value) {
        if let Some(file) = data.get("sessionFile").and_then(Value::as_str) {
            self.session_file = Some(file.to_owned());
        }
        let current = data.get("model").and_then(model_id);
        let wanted = cx.wanted_model().map(str::to_owned);
        match (wanted, current) {
            (Some(wanted), current) if current.as_ref() != Some(&wanted) && cx.offers(&wanted) => {
                if let Some((provider, id)) = super::wire::native_model(&wanted) {
                    Self::request(
                        cx,
                        json!({ "type": "set_model", "provider": provider, "modelId": id }),
                    );
                }
            }
            (_, Some(current)) => cx.model(current),
            (_, None) => {}
        }
        let level = data.get("thinkingLevel").and_then(Value::as_str);
        match (cx.wanted_thinking_level().map(str::to_owned), level) {
            (Some(wanted), Some(level)) if wanted != level => {
                Self::request(cx, json!({ "type": "set_thinking_level", "level": wanted }));
            }
            (None, Some(level)) => cx.thinking_level(level),
            _ => {}
        }
        if self.forking {
            return;
        }
        // Only now it is known in which file the conversation goes on.
        self.forked = true;
        cx.ready();
        if let Some(parts) = self.held.take() {
            Self::deliver(cx, &parts);
        }
    }

    fn commands(&mut self, cx: &mut Cx<'_>, data: &Value) {
        let list = data
            .get("commands")
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let text = |value: &Value, field: &str| value.get(field).and_then(Value::as_str).map(str::to_owned);
        self.extension_commands = list
            .iter()
            .filter(|command| text(command, "source").as_deref() == Some("extension"))
            .filter_map(|command| text(command, "name"))
            .collect();
        let commands = list
            .iter()
            .filter_map(|command| {
                Some(CommandInfo {
                    name: text(command, "name")?,
                    description: text(command, "description"),
                })
            })
            .collect();
        cx.commands(commands);
    }

    /// A command of an extension begins no run: its acceptance is all there is.
    fn prompt_accepted(&mut self, cx: &mut Cx<'_>) {
        let Some(text) = self.command_prompt.take() else {
            return;
        };
        let name = text
            .trim_start_matches('/')
            .split_whitespace()
            .next()
            .unwrap_or_default();
        if self.extension_commands.iter().any(|known| known == name) {
            self.expect_echo = false;
            cx.turn_done(TurnOutcome::Completed, None);
        }
    }

    /// The copied conversation goes on from before the first user message that is not kept.
    fn fork_messages(&mut self, cx: &mut Cx<'_>, data: &Value) {
        let Some(keep) = self.fork_keep.take() else { return };
        let entry = data
            .get("messages")
            .and_then(Value::as_array)
            .and_then(|messages| messages.get(keep as usize))
            .and_then(|message| message.get("entryId"))
            .and_then(Value::as_str);
        match entry {
            Some(entry) => {
                Self::request(cx, json!({ "type": "fork", "entryId": entry }));
            }
            None => self.forking = false,
        }
    }
}

fn models(cx: &mut Cx<'_>, data: &Value) {
    let list = data
        .get("models")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let models: Vec<ModelInfo> = list
        .iter()
        .filter_map(|model| {
            let provider = model.get("provider")?.as_str()?;
            let id = canonical_model(provider, model.get("id")?.as_str()?);
            let provider = id.split('/').next().unwrap_or_default().to_owned();
            Some(ModelInfo {
                name: model
                    .get("name")
                    .and_then(Value::as_str)
                    .unwrap_or(&id)
                    .to_owned(),
                provider,
                context_window: model.get("contextWindow").and_then(Value::as_u64),
                reasoning: model
                    .get("reasoning")
                    .and_then(Value::as_bool)
                    .unwrap_or_default(),
                id,
            })
        })
        .collect();
    cx.capabilities(|can| can.models = models);
}

fn thinking_levels(cx: &mut Cx<'_>, data: &Value) {
    let list = data
        .get("levels")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let levels: Vec<String> = list
        .iter()
        .filter_map(|level| level.as_str().map(str::to_owned))
        .collect();
    cx.capabilities(|can| can.thinking_levels = levels);
}

fn model_id(model: &Value) -> Option<String> {
    let provider = model.get("provider")?.as_str()?;
    let id = model.get("id")?.as_str()?;
    (provider != "unknown").then(|| canonical_model(provider, id))
}
