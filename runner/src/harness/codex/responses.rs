//! Answers to our own requests.

use super::wire::{RpcError, ThreadSettings, canonical_model};
use super::{Call, Codex};
use crate::fold::Cx;
use lodge_proto::event::{NotifyLevel, TurnOutcome};
use lodge_proto::session::{CommandInfo, ModeInfo, ModelInfo};
use lodge_proto::{ErrorBody, ErrorCode};
use serde_json::{Value, json};

/// Levels of a model that reasons and that codex's own catalog does not have.
const USUAL_LEVELS: &[&str] = &["low", "medium", "high"];

impl Codex {
    pub(super) fn response(&mut self, cx: &mut Cx<'_>, id: &Value, result: Result<Value, RpcError>) {
        let Some(call) = self.calls.remove(&id.to_string()) else {
            return;
        };
        if let Some(id) = id.as_str() {
            let answer = match &result {
                Ok(_) => Ok(json!({})),
                Err(error) => Err(ErrorBody::new(ErrorCode::InvalidArgument, error.message.clone())),
            };
            cx.resolve(id, answer);
        }
        match result {
            Ok(result) => self.accepted(cx, call, &result),
            Err(error) => self.refused(cx, call, &error.message),
        }
    }

    fn accepted(&mut self, cx: &mut Cx<'_>, call: Call, result: &Value) {
        match call {
            Call::Initialize => self.initialized(cx),
            Call::Open { .. } | Call::Fork => self.opened(cx, result),
            Call::TurnStart => {
                if let Some(turn) = result.pointer("/turn/id").and_then(Value::as_str) {
                    self.adopt(cx, turn);
                }
            }
            Call::Models => self.models(cx, result),
            Call::Modes => modes(cx, result),
            Call::Skills => self.skills(cx, result),
            Call::Steer | Call::Interrupt | Call::Compact | Call::Other => {}
        }
    }

    fn refused(&mut self, cx: &mut Cx<'_>, call: Call, message: &str) {
        let error = |what: &str| {
            let message: String = message.chars().take(400).collect();
            ErrorBody::new(ErrorCode::HarnessCrashed, format!("codex {what}: {message}"))
        };
        match call {
            Call::Open { resume: true } => {
                if self.used {
                    let lost = error("cannot resume its conversation and begins a new one");
                    cx.notify(NotifyLevel::Warning, lost.message);
                }
                self.thread = None;
                self.open_thread(cx);
            }
            Call::Initialize | Call::Open { resume: false } | Call::Fork => {
                let error = error(match call {
                    Call::Fork => "cannot copy the conversation",
                    _ => "cannot begin a conversation",
                });
                cx.agent_error(error.code, error.message.clone(), false);
                self.held_prompt = None;
                cx.turn_done(TurnOutcome::Failed, Some(error));
            }
            Call::TurnStart if self.run.turn.is_none() => {
                self.expect_echo = false;
                let error = error("refused the prompt");
                self.end_turn(cx, TurnOutcome::Failed, None, Some(error));
            }
            // The turn ended before: what was steered waits for a turn of its own.
            Call::Steer => cx.unsteer(),
            // Nothing runs that could be interrupted.
            Call::Interrupt if cx.is_aborting() => {
                self.end_turn(cx, TurnOutcome::Aborted, None, None);
            }
            Call::Compact => self.compact_asked = false,
            // An older codex lacks some of what is asked at start.
            call => cx.warn(format!("codex refused {call:?}")),
        }
    }

    fn initialized(&mut self, cx: &mut Cx<'_>) {
        cx.send(&json!({ "method": "initialized" }));
        self.open_thread(cx);
        self.call(cx, "model/list", json!({}), Call::Models);
        self.call(cx, "collaborationMode/list", json!({}), Call::Modes);
        let workspace = cx.workspace().to_owned();
        self.call(cx, "skills/list", json!({ "cwds": [workspace] }), Call::Skills);
    }

    /// Resumes the session's conversation, or begins it. Sandbox and model are in the configuration; the policy that
    /// asks before every command is refused there.
    pub(super) fn open_thread(&mut self, cx: &mut Cx<'_>) {
        let asks = cx.launch().is_some_and(|launch| launch.ask_permissions);
        let policy = if asks { "untrusted" } else { "never" };
        let mut params = json!({ "cwd": cx.workspace(), "approvalPolicy": policy });
        if self.thread.is_some() {
            params["excludeTurns"] = true.into();
            self.thread_call(cx, "thread/resume", params, Call::Open { resume: true });
        } else if let Some(copy) = cx.forked_from().filter(|_| !self.used).cloned() {
            params["excludeTurns"] = true.into();
            params["threadId"] = copy.native.into();
            if let Some(turn) = copy.point {
                params["beforeTurnId"] = turn.into();
            }
            self.call(cx, "thread/fork", params, Call::Fork);
        } else {
            self.call(cx, "thread/start", params, Call::Open { resume: false });
        }
    }

    fn opened(&mut self, cx: &mut Cx<'_>, result: &Value) {
        let text = |path: &str| result.pointer(path).and_then(Value::as_str).map(str::to_owned);
        let Some(thread) = text("/thread/id") else {
            return cx.warn("codex opened a conversation without an id");
        };
        self.thread = Some(thread);
        self.open = true;
        let asks = result
            .get("approvalPolicy")
            .is_some_and(|policy| policy != "never");
        cx.capabilities(|can| can.permissions = asks);
        self.want_what_was_asked_for(cx, &text);
        self.settings_are(
            cx,
            ThreadSettings {
                model: text("/model"),
                model_provider: text("/modelProvider"),
                effort: text("/reasoningEffort"),
                collaboration_mode: None,
            },
        );
        self.offer_models(cx);
        self.offer_levels(cx);
        cx.ready();
        if let Some(title) = self.held_title.take() {
            self.thread_call(cx, "thread/name/set", json!({ "name": title }), Call::Other);
        }
        if let Some(parts) = self.held_prompt.take() {
            self.start_turn(cx, &parts);
        }
    }

    /// The session's model and level go with the next prompt where the conversation has others.
    fn want_what_was_asked_for(&mut self, cx: &Cx<'_>, text: &impl Fn(&str) -> Option<String>) {
        let (provider, model) = (text("/modelProvider"), text("/model"));
        let current = provider
            .zip(model)
            .map(|(provider, id)| canonical_model(&provider, &id));
        if let (Some(wanted), Some(current)) = (cx.wanted_model(), &current)
            && wanted != current
            && cx.offers(wanted)
            && let (Some((of, id)), Some((provider, _))) = (wanted.split_once('/'), current.split_once('/'))
            && of == provider
        {
            self.wanted.model = Some(id.to_owned());
        }
        let level = cx.wanted_thinking_level();
        if level.is_some() && level != text("/reasoningEffort").as_deref() {
            self.wanted.effort = level.map(str::to_owned);
        }
    }

    /// What the conversation now uses. What is still to be changed with the next prompt counts as changed.
    pub(super) fn settings_are(&mut self, cx: &mut Cx<'_>, settings: ThreadSettings) {
        if settings.model_provider.is_some() {
            self.provider = settings.model_provider;
        }
        if self.wanted.model == settings.model {
            self.wanted.model = None;
        }
        if self.wanted.effort == settings.effort {
            self.wanted.effort = None;
        }
        let mode = settings.collaboration_mode.map(|mode| mode.mode);
        if self.wanted.mode == mode {
            self.wanted.mode = None;
        }
        self.settings.model = settings.model.or(self.settings.model.take());
        self.settings.effort = settings.effort.or(self.settings.effort.take());
        self.settings.mode = mode.or(self.settings.mode.take());
        if let (None, Some(provider), Some(model)) =
            (&self.wanted.model, &self.provider, &self.settings.model)
        {
            cx.model(canonical_model(provider, model));
        }
        if let (None, Some(effort)) = (&self.wanted.effort, &self.settings.effort) {
            cx.thinking_level(effort.clone());
        }
        if let (None, Some(mode)) = (&self.wanted.mode, &self.settings.mode) {
            cx.mode(mode.clone());
        }
    }

    /// Models of the gateway at the provider of this conversation: codex cannot change that within one.
    fn offer_models(&self, cx: &mut Cx<'_>) {
        let Some(provider) = self.provider.as_deref().map(super::wire::canonical_provider) else {
            return;
        };
        let known = cx
            .launch()
            .map(|launch| launch.models.clone())
            .unwrap_or_default();
        let mut models: Vec<ModelInfo> = known
            .into_iter()
            .filter(|model| model.provider == provider)
            .collect();
        if let (true, Some(id)) = (models.is_empty(), &self.settings.model) {
            models.push(ModelInfo {
                id: format!("{provider}/{id}"),
                name: id.clone(),
                provider: provider.to_owned(),
                context_window: None,
                reasoning: false,
            });
        }
        cx.capabilities(|can| can.models = models);
    }

    /// Thinking levels of the model that the next prompt uses.
    pub(super) fn offer_levels(&self, cx: &mut Cx<'_>) {
        let Some(model) = self.wanted.model.as_ref().or(self.settings.model.as_ref()) else {
            return;
        };
        let reasons = cx.launch().is_some_and(|launch| {
            let mut models = launch.models.iter();
            models.any(|known| known.reasoning && known.id.split_once('/').is_some_and(|(_, id)| id == model))
        });
        let levels = match self.levels.get(model) {
            Some(levels) => levels.clone(),
            None if reasons => USUAL_LEVELS.iter().map(|level| (*level).to_owned()).collect(),
            None => Vec::new(),
        };
        cx.capabilities(|can| can.thinking_levels = levels);
    }

    /// Codex's own catalog: what is known of the levels of models. Which models there are the gateway says.
    fn models(&mut self, cx: &mut Cx<'_>, result: &Value) {
        for model in list(result.get("data")) {
            let Some(id) = model.get("model").and_then(Value::as_str) else {
                continue;
            };
            let levels = list(model.get("supportedReasoningEfforts"))
                .iter()
                .filter_map(|level| level.get("reasoningEffort")?.as_str())
                .map(str::to_owned)
                .collect();
            self.levels.insert(id.to_owned(), levels);
        }
        self.offer_levels(cx);
    }

    /// Skills are what codex has for slash commands.
    fn skills(&mut self, cx: &mut Cx<'_>, result: &Value) {
        let mut commands = Vec::new();
        self.skills.clear();
        for skill in list(result.get("data"))
            .iter()
            .flat_map(|place| list(place.get("skills")))
        {
            let text = |field: &str| skill.get(field).and_then(Value::as_str).map(str::to_owned);
            let (Some(name), Some(path)) = (text("name"), text("path")) else {
                continue;
            };
            if skill.get("enabled") == Some(&Value::Bool(false)) || self.skills.contains_key(&name) {
                continue;
            }
            let short = skill
                .pointer("/interface/shortDescription")
                .and_then(Value::as_str);
            commands.push(CommandInfo {
                name: name.clone(),
                description: short.map(str::to_owned).or_else(|| text("description")),
            });
            self.skills.insert(name, path);
        }
        cx.commands(commands);
    }
}

fn modes(cx: &mut Cx<'_>, result: &Value) {
    let modes: Vec<ModeInfo> = list(result.get("data"))
        .iter()
        .filter_map(|mode| {
            let id = mode.get("mode")?.as_str()?;
            Some(ModeInfo {
                id: id.to_owned(),
                name: mode.get("name").and_then(Value::as_str).unwrap_or(id).to_owned(),
                description: None,
            })
        })
        .collect();
    cx.capabilities(|can| can.modes = modes);
}

fn list(value: Option<&Value>) -> &[Value] {
    value
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}
