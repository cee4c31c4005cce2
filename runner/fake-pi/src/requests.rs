//! Requests of the client.

use crate::fake::{Fake, Result};
use crate::wire::{event, response};
use serde_json::{Value, json};
use std::path::Path;

const LEVELS: [&str; 4] = ["off", "low", "medium", "high"];

impl Fake {
    pub(crate) fn request(&mut self, line: &[u8]) -> Result<()> {
        let request = match serde_json::from_slice::<Value>(line) {
            Ok(Value::Null) => {
                // The trap of the real one: it dies of it.
                self.exit = Some(1);
                return Ok(());
            }
            Ok(request) => request,
            Err(error) => {
                let refused = json!({
                    "type": "response", "command": "parse", "success": false, "error": error.to_string(),
                });
                return self.wire.send(&refused);
            }
        };
        let answer = match text(&request, "type") {
            "prompt" => self.prompt(&request)?,
            "steer" | "follow_up" => self.queue(&request)?,
            "clear_queue" => self.clear_queue()?,
            "abort" => return self.abort(request),
            "extension_ui_response" => {
                self.answers.push(request);
                return Ok(());
            }
            "fork" => match self.conversation.fork(text(&request, "entryId"))? {
                Some(text) => Ok(json!({ "text": text, "cancelled": false })),
                None => Err("no such entry".to_owned()),
            },
            "set_thinking_level" => self.set_level(&request)?,
            "compact" => self.compact()?,
            "set_session_name" => self.rename(text(&request, "name"))?,
            _ => self.plain(&request),
        };
        self.wire.send(&response(&request, answer))
    }

    /// Requests that only look or set.
    fn plain(&mut self, request: &Value) -> std::result::Result<Value, String> {
        Ok(match text(request, "type") {
            "get_state" => self.state(),
            "get_available_models" => json!({ "models": models(&self.agent_dir) }),
            "get_available_thinking_levels" => json!({ "levels": LEVELS }),
            "get_commands" => json!({ "commands": [] }),
            "get_fork_messages" => self.conversation.fork_messages(),
            "get_messages" => json!({ "messages": [] }),
            "set_model" => {
                self.model = (
                    text(request, "provider").to_owned(),
                    text(request, "modelId").to_owned(),
                );
                json!({ "provider": self.model.0, "id": self.model.1, "name": self.model.1 })
            }
            "abort_retry"
            | "set_auto_compaction"
            | "set_auto_retry"
            | "set_steering_mode"
            | "set_follow_up_mode" => Value::Null,
            unknown => return Err(format!("Unknown command: {unknown}")),
        })
    }

    fn prompt(&mut self, request: &Value) -> Result<std::result::Result<Value, String>> {
        let message = text(request, "message").to_owned();
        if self.running || self.next.is_some() {
            return match text(request, "streamingBehavior") {
                "" => Ok(Err(
                    "Agent is already processing. Specify streamingBehavior.".to_owned()
                )),
                _ => self.queue(request),
            };
        }
        self.truth.note("prompt", &message)?;
        self.next = Some(message);
        Ok(Ok(Value::Null))
    }

    /// Steering joins the running turn; when idle it only waits and rides on the next prompt, as with the real one.
    fn queue(&mut self, request: &Value) -> Result<std::result::Result<Value, String>> {
        let message = text(request, "message").to_owned();
        let follows =
            text(request, "type") == "follow_up" || text(request, "streamingBehavior") == "followUp";
        self.truth
            .note(if follows { "follow_up" } else { "steer" }, &message)?;
        if follows {
            self.follow_up.push_back(message);
        } else {
            self.steering.push_back(message);
        }
        self.queue_update()?;
        Ok(Ok(Value::Null))
    }

    fn queue_update(&mut self) -> Result<()> {
        let mut update = event("queue_update");
        update["steering"] = json!(self.steering);
        update["followUp"] = json!(self.follow_up);
        self.wire.send(&update)
    }

    fn clear_queue(&mut self) -> Result<std::result::Result<Value, String>> {
        let cleared = json!({ "steering": self.steering, "followUp": self.follow_up });
        self.steering.clear();
        self.follow_up.clear();
        self.queue_update()?;
        Ok(Ok(cleared))
    }

    /// Answered when the agent is idle.
    fn abort(&mut self, request: Value) -> Result<()> {
        if !self.running {
            return self.wire.send(&response(&request, Ok(Value::Null)));
        }
        self.aborted = true;
        self.answer_when_idle.push(request);
        Ok(())
    }

    fn set_level(&mut self, request: &Value) -> Result<std::result::Result<Value, String>> {
        let level = text(request, "level");
        let known = LEVELS.contains(&level);
        self.level = if known { level.to_owned() } else { "off".to_owned() };
        self.wire
            .send(&json!({ "type": "thinking_level_changed", "level": self.level }))?;
        Ok(Ok(Value::Null))
    }

    fn compact(&mut self) -> Result<std::result::Result<Value, String>> {
        if self.conversation.len() == 0 {
            return Ok(Err("Nothing to compact".to_owned()));
        }
        let result =
            json!({ "summary": format!("{} messages", self.conversation.len()), "tokensBefore": 100 });
        self.wire
            .send(&json!({ "type": "compaction_start", "reason": "manual" }))?;
        self.wire.send(&json!({
            "type": "compaction_end", "reason": "manual", "result": result, "aborted": false, "willRetry": false,
        }))?;
        Ok(Ok(result))
    }

    fn rename(&mut self, name: &str) -> Result<std::result::Result<Value, String>> {
        self.conversation.name = Some(name.to_owned());
        self.wire
            .send(&json!({ "type": "session_info_changed", "name": name }))?;
        Ok(Ok(Value::Null))
    }

    fn state(&self) -> Value {
        json!({
            "model": { "provider": self.model.0, "id": self.model.1, "name": self.model.1 },
            "thinkingLevel": self.level,
            "isStreaming": self.running,
            "isCompacting": false,
            "sessionFile": self.conversation.file,
            "sessionId": self.conversation.id,
            "sessionName": self.conversation.name,
            "messageCount": self.conversation.len(),
            "pendingMessageCount": self.steering.len() + self.follow_up.len(),
        })
    }
}

fn text<'a>(request: &'a Value, field: &str) -> &'a str {
    request.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn read_json(path: &Path) -> Value {
    std::fs::read(path)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default()
}

/// The models of `models.json`.
fn models(agent_dir: &Path) -> Vec<Value> {
    let file = read_json(&agent_dir.join("models.json"));
    let Some(providers) = file["providers"].as_object() else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (name, provider) in providers {
        for model in provider["models"].as_array().into_iter().flatten() {
            let mut model = model.clone();
            model["provider"] = name.as_str().into();
            found.push(model);
        }
    }
    found
}

/// Provider and model of `settings.json`; `unknown` without, as with the real one.
pub(crate) fn default_model(agent_dir: &Path) -> (String, String) {
    let settings = read_json(&agent_dir.join("settings.json"));
    let setting = |name: &str| settings[name].as_str().unwrap_or("unknown").to_owned();
    (setting("defaultProvider"), setting("defaultModel"))
}
