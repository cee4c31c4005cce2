//! pi in RPC mode: JSON lines on standard input and output.
//!
//! The dialect is that of 0.84.4 and later: deltas only, `agent_settled` ends a turn. Messages have no ids on the
//! wire; the fold mints them at `message_start`. pi's own follow-up queue is not used.

mod dialogs;
pub mod launch;
mod messages;
mod responses;
mod tools;
mod wire;

use super::shared::prompt_text;
use super::{Adapter, Answer, shared};
use crate::fold::{Cx, DeliveryId};
use lodge_proto::command::CommandBody;
use lodge_proto::event::{CompactReason, EventBody, NotifyLevel, TurnOutcome};
use lodge_proto::ids::MessageId;
use lodge_proto::input::{InputAnswer, InputRequest};
use lodge_proto::part::Part;
use lodge_proto::session::Phase;
use lodge_proto::{ErrorBody, ErrorCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use wire::Incoming;

/// State of the pi adapter.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pi {
    /// The assistant's message that streams.
    message: Option<MessageId>,
    /// The next user message on the wire is the prompt that was just given.
    expect_echo: bool,
    /// Text of that prompt, where it may be a command that begins no run.
    command_prompt: Option<String>,
    /// Names of commands that extensions handle without a run.
    extension_commands: Vec<String>,
    /// How the last assistant's message ended.
    last_stop: Option<String>,
    last_error: Option<String>,
    /// Path of pi's session file.
    session_file: Option<String>,
    /// A fork that is still to be made inside pi: user messages to keep.
    fork_keep: Option<u32>,
    /// It is being made: pi would lose a prompt over it.
    forking: bool,
    forked: bool,
    /// A prompt that came meanwhile.
    held: Option<Vec<Part>>,
    garbage: u32,
}

impl Pi {
    fn request(cx: &mut Cx<'_>, mut body: Value) -> String {
        let id = cx.new_id().to_string();
        body["id"] = Value::String(id.clone());
        cx.send(&body);
        id
    }

    fn deliver(cx: &mut Cx<'_>, parts: &[Part]) -> DeliveryId {
        let id = cx.new_id().to_string();
        let mut line = json!({ "id": id, "type": "prompt", "message": prompt_text(parts) });
        add_images(cx, parts, &mut line);
        cx.send(&line)
    }

    fn event(&mut self, cx: &mut Cx<'_>, incoming: Incoming) {
        match incoming {
            Incoming::Response(response) => self.response(cx, &response),
            Incoming::AgentStart {} => {
                self.command_prompt = None;
                cx.begin_turn();
                cx.phase(Phase::Initializing);
            }
            Incoming::AgentSettled {} => self.settled(cx),
            Incoming::MessageStart { message } => self.message_start(cx, &message),
            Incoming::MessageUpdate {
                assistant_message_event: delta,
            } => self.message_update(cx, &delta),
            Incoming::MessageEnd { message } => self.message_end(cx, message),
            Incoming::ToolExecutionStart {
                tool_call_id,
                tool_name,
                args,
            } => {
                cx.tool_start(&tool_call_id, &tool_name, &args);
            }
            Incoming::ToolExecutionUpdate {
                tool_call_id,
                partial_result,
            } => {
                cx.tool_output(&tool_call_id, &partial_result.text());
            }
            Incoming::ToolExecutionEnd {
                tool_call_id,
                tool_name,
                result,
                is_error,
                duration_ms,
            } => {
                tools::end(cx, &tool_call_id, &tool_name, &result, is_error, duration_ms);
            }
            recovery @ (Incoming::AutoRetryStart { .. }
            | Incoming::AutoRetryEnd { .. }
            | Incoming::CompactionStart { .. }
            | Incoming::CompactionEnd { .. }) => recover(cx, recovery),
            Incoming::ThinkingLevelChanged { level } => cx.thinking_level(level),
            Incoming::SessionInfoChanged { name } => {
                if let Some(name) = name {
                    cx.title(name);
                }
            }
            Incoming::ExtensionUiRequest(request) => dialogs::request(cx, &request),
            Incoming::ExtensionError { error } => {
                cx.notify(
                    NotifyLevel::Warning,
                    format!("an extension of pi failed: {error}"),
                );
            }
            Incoming::Quiet {} => {}
        }
    }

    /// The run is over, retries and compactions too.
    fn settled(&mut self, cx: &mut Cx<'_>) {
        self.message = None;
        self.expect_echo = false;
        self.command_prompt = None;
        let stop = self.last_stop.take();
        let error = self.last_error.take();
        let (outcome, error) = match stop.as_deref() {
            Some("error") => (
                TurnOutcome::Failed,
                Some(provider_error(
                    error.as_deref().unwrap_or("the model call failed"),
                )),
            ),
            Some("aborted") => (TurnOutcome::Aborted, None),
            // It was aborted before a last answer could say so.
            None | Some("toolUse") if cx.is_aborting() => (TurnOutcome::Aborted, None),
            _ => (TurnOutcome::Completed, None),
        };
        if cx.has_steering() {
            Self::request(cx, json!({ "type": "clear_queue" }));
        }
        cx.turn_done(outcome, error);
    }

    fn garbage(&mut self, cx: &mut Cx<'_>, line: &[u8], why: &str) {
        shared::garbage(cx, &mut self.garbage, "pi", line, why);
    }
}

impl Adapter for Pi {
    fn started(&mut self, cx: &mut Cx<'_>) {
        if !self.forked
            && let Some(keep) = cx.fork_keeps()
        {
            self.fork_keep = Some(keep);
            self.forking = true;
            Self::request(cx, json!({ "type": "get_fork_messages" }));
        }
        for probe in [
            "get_state",
            "get_available_models",
            "get_available_thinking_levels",
            "get_commands",
        ] {
            Self::request(cx, json!({ "type": probe }));
        }
        cx.capabilities(|can| {
            can.steer = true;
            can.follow_up = true;
            can.queue = true;
            can.abort = true;
            can.abort_retry = true;
            can.fork = true;
            can.fork_at_message = true;
            can.compact = true;
            can.resume = true;
            can.set_title = true;
            can.images = true;
        });
    }

    fn line(&mut self, cx: &mut Cx<'_>, line: &[u8]) {
        if line.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        let Ok(text) = std::str::from_utf8(line) else {
            return self.garbage(cx, line, "not UTF-8");
        };
        match wire::parse(text) {
            Ok(incoming) => self.event(cx, incoming),
            Err(wire::Malformed::Unknown(kind)) => {
                cx.warn(format!("pi sent an event of the unknown type `{kind}`"));
            }
            Err(wire::Malformed::NotJson) => self.garbage(cx, line, "not JSON"),
            Err(wire::Malformed::Shape(why)) => self.garbage(cx, line, &why),
        }
    }

    fn gone(&mut self, _cx: &mut Cx<'_>) {
        *self = Self {
            session_file: self.session_file.take(),
            forked: self.forked,
            extension_commands: std::mem::take(&mut self.extension_commands),
            ..Self::default()
        };
    }

    fn prompt(&mut self, cx: &mut Cx<'_>, parts: &[Part]) -> Option<DeliveryId> {
        let text = prompt_text(parts);
        self.expect_echo = true;
        self.last_stop = None;
        self.last_error = None;
        self.command_prompt = text.starts_with('/').then(|| text.clone());
        if self.forking {
            self.held = Some(parts.to_vec());
            return None;
        }
        Some(Self::deliver(cx, parts))
    }

    fn steer(&mut self, cx: &mut Cx<'_>, parts: &[Part]) {
        let mut line = json!({ "type": "steer", "message": prompt_text(parts) });
        add_images(cx, parts, &mut line);
        Self::request(cx, line);
    }

    fn clear_steering(&mut self, cx: &mut Cx<'_>) {
        Self::request(cx, json!({ "type": "clear_queue" }));
    }

    fn abort(&mut self, cx: &mut Cx<'_>) {
        if self.held.take().is_some() {
            self.expect_echo = false;
            return cx.turn_done(TurnOutcome::Aborted, None);
        }
        // pi's queue survives its abort and would ride on the next prompt.
        if cx.has_steering() {
            Self::request(cx, json!({ "type": "clear_queue" }));
        }
        Self::request(cx, json!({ "type": "abort" }));
    }

    fn answer(&mut self, cx: &mut Cx<'_>, native: &Value, _request: &InputRequest, answer: &InputAnswer) {
        dialogs::answer(cx, native, answer);
    }

    fn set_model(&mut self, cx: &mut Cx<'_>, model: &str) -> Result<Answer, ErrorBody> {
        let (provider, model_id) = wire::native_model(model).ok_or_else(|| {
            ErrorBody::new(
                ErrorCode::InvalidArgument,
                format!("`{model}` is not of the form provider/model"),
            )
        })?;
        let body = json!({ "type": "set_model", "provider": provider, "modelId": model_id });
        Ok(Answer::Later(Self::request(cx, body)))
    }

    fn set_thinking_level(&mut self, cx: &mut Cx<'_>, level: &str) -> Result<Answer, ErrorBody> {
        Ok(Answer::Later(Self::request(
            cx,
            json!({ "type": "set_thinking_level", "level": level }),
        )))
    }

    fn compact(&mut self, cx: &mut Cx<'_>, instructions: Option<&str>) -> Result<Answer, ErrorBody> {
        let mut body = json!({ "type": "compact" });
        if let Some(instructions) = instructions {
            body["customInstructions"] = instructions.into();
        }
        Ok(Answer::Later(Self::request(cx, body)))
    }

    fn abort_retry(&mut self, cx: &mut Cx<'_>) -> Result<Answer, ErrorBody> {
        Ok(Answer::Later(Self::request(cx, json!({ "type": "abort_retry" }))))
    }

    fn set_title(&mut self, cx: &mut Cx<'_>, title: &str) {
        if !title.is_empty() {
            Self::request(cx, json!({ "type": "set_session_name", "name": title }));
        }
    }

    fn foreign_input(&mut self, cx: &mut Cx<'_>, line: &[u8]) -> Option<CommandBody> {
        let input: Value = serde_json::from_slice(line).ok()?;
        let parts = || Some(vec![Part::text(input.get("message")?.as_str()?)]);
        let behavior = input.get("streamingBehavior").and_then(Value::as_str);
        match (input.get("type")?.as_str()?, cx.turn().is_some()) {
            ("prompt", false) => Some(CommandBody::Prompt { parts: parts()? }),
            // When idle it is only queued and rides on the next prompt: its echo tells.
            ("steer", true) => Some(CommandBody::Steer { parts: parts()? }),
            ("prompt", true) if behavior == Some("steer") => Some(CommandBody::Steer { parts: parts()? }),
            ("abort", true) => Some(CommandBody::Abort {}),
            ("extension_ui_response", _) => {
                let id = input.get("id").cloned().unwrap_or_default();
                cx.answered(
                    |native| native.get("id") == Some(&id),
                    dialogs::read_answer(&input),
                );
                None
            }
            _ => None,
        }
    }

    fn native_session(&self) -> Option<String> {
        self.session_file.clone()
    }
}

/// Retries and compactions.
fn recover(cx: &mut Cx<'_>, incoming: Incoming) {
    match incoming {
        Incoming::AutoRetryStart {
            attempt,
            max_attempts,
            delay_ms,
            error_message,
        } if cx.in_turn() => {
            cx.discard_failed();
            cx.phase(Phase::Retrying);
            let error = provider_error(&error_message);
            cx.emit(EventBody::RetryStart {
                attempt,
                max_attempts,
                delay_ms,
                error,
            });
        }
        Incoming::AutoRetryEnd { success, attempt } if cx.in_turn() => {
            cx.emit(EventBody::RetryEnd { success, attempt });
        }
        Incoming::AutoRetryStart { .. } | Incoming::AutoRetryEnd { .. } => {
            cx.warn("pi tries again outside of a turn");
        }
        Incoming::CompactionStart { reason } => compaction_start(cx, &reason),
        Incoming::CompactionEnd {
            result,
            error_message,
            aborted,
        } => {
            let error = error_message.or_else(|| aborted.then(|| "compaction was aborted".to_owned()));
            cx.emit(EventBody::CompactEnd {
                success: error.is_none(),
                summary: result.and_then(|result| result.summary),
                error: error.map(|message| ErrorBody::new(ErrorCode::ProviderError, message)),
            });
        }
        _ => {}
    }
}

fn compaction_start(cx: &mut Cx<'_>, reason: &str) {
    let reason = match reason {
        "threshold" => CompactReason::Threshold,
        "overflow" => CompactReason::Overflow,
        _ => CompactReason::Manual,
    };
    if reason == CompactReason::Overflow {
        // The attempt that did not fit is made again after the compaction.
        cx.discard_failed();
    }
    cx.phase(Phase::Compacting);
    cx.emit(EventBody::CompactStart { reason });
}

/// The images of a prompt.
fn add_images(cx: &mut Cx<'_>, parts: &[Part], line: &mut Value) {
    let images: Vec<Value> = parts
        .iter()
        .filter_map(|part| match part {
            Part::Image { blob, .. } => {
                let data = cx.blob(blob);
                Some(json!({ "type": "image", "data": data, "mimeType": blob.media_type }))
            }
            _ => None,
        })
        .collect();
    if !images.is_empty() {
        line["images"] = images.into();
    }
}

/// The provider's error in words, with the code that its status means.
///
/// pi reports a status and the provider's body, often JSON, in the words of whichever client it used: a person wants
/// the body's `message`.
fn provider_error(report: &str) -> ErrorBody {
    let (head, body) = report.split_at(report.find('{').unwrap_or(report.len()));
    let digits = |word: &&str| word.len() == 3 && matches!(word.as_bytes()[0], b'4' | b'5');
    let status = head.split(|c: char| !c.is_ascii_digit()).find(digits);
    let code = match status {
        Some("402") => ErrorCode::BudgetExceeded,
        Some("429") if report.contains("insufficient_quota") => ErrorCode::BudgetExceeded,
        Some("429") => ErrorCode::RateLimited,
        _ => ErrorCode::ProviderError,
    };
    let json: Value = serde_json::from_str(body).unwrap_or_default();
    let said = json
        .pointer("/error/message")
        .or_else(|| json.get("message"))
        .and_then(Value::as_str);
    let message = match (status, said) {
        (Some(status), Some(said)) => format!("the model provider answered {status}: {said}"),
        (None, Some(said)) => said.to_owned(),
        (_, None) if report == "terminated" => {
            "the model's answer broke off (the connection ended)".to_owned()
        }
        (_, None) => report.to_owned(),
    };
    ErrorBody::new(code, message)
}
