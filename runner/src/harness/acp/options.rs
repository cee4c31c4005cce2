//! Models, thinking levels, modes and slash commands: what a session offers and what it uses.
//!
//! Version 2 has them all as configuration options, version 1 partly as `modes` and, no longer in its schema, `models`.

use super::wire::{list, text};
use super::{Acp, Asked};
use crate::fold::Cx;
use lodge_proto::session::{CommandInfo, ModelInfo};
use lodge_proto::{ErrorBody, ErrorCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub(super) use crate::harness::shared::PROVIDER_PREFIX;

/// What Gemini's client calls itself.
pub(super) const GEMINI: &str = "gemini-cli";

/// What of the session can be set, and how.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Options {
    /// Ids of the configuration options that exist.
    model: Option<String>,
    level: Option<String>,
    pub(super) mode: Option<String>,
    /// The agent's names of the models, by ours.
    native: BTreeMap<String, String>,
    levels: Vec<String>,
    /// What the agent uses now, by its names.
    model_now: Option<String>,
    level_now: Option<String>,
    pub(super) modes: Vec<String>,
    /// The slash command that summarises the context.
    pub(super) compact: Option<String>,
}

/// Something that can be chosen.
pub(super) struct Choice<'a> {
    pub(super) id: &'a str,
    pub(super) name: &'a str,
    pub(super) description: Option<&'a str>,
}

impl Acp {
    /// What the answer to the opening of a session offers.
    pub(super) fn offered(&mut self, cx: &mut Cx<'_>, result: &Value) {
        if let Some(models) = result.get("models") {
            let choices = choices(list(models, "availableModels"), "modelId");
            self.models(cx, &choices);
            if let Some(current) = text(models, "currentModelId") {
                self.model_now(cx, current);
            }
        }
        if let Some(modes) = result.get("modes") {
            let choices = choices(list(modes, "availableModes"), "id");
            self.modes(cx, &choices);
            if let Some(current) = text(modes, "currentModeId") {
                self.mode_now(cx, current);
            }
        }
        self.config_options(cx, list(result, "configOptions"));
        if result.get("availableCommands").is_some_and(Value::is_array) {
            self.commands(cx, list(result, "availableCommands"));
        }
    }

    pub(super) fn config_options(&mut self, cx: &mut Cx<'_>, options: &[Value]) {
        for option in options {
            let Some(id) = text(option, "configId").or_else(|| text(option, "id")) else {
                continue;
            };
            let members: Vec<Value> = flat(list(option, "options"));
            let choices = choices(&members, "value");
            let current = text(option, "currentValue");
            match text(option, "category").unwrap_or(id) {
                "model" => {
                    self.options.model = Some(id.to_owned());
                    self.models(cx, &choices);
                    if let Some(current) = current {
                        self.model_now(cx, current);
                    }
                }
                "thought_level" => {
                    self.options.level = Some(id.to_owned());
                    self.options.levels = choices.iter().map(|choice| choice.id.to_owned()).collect();
                    let levels = self.options.levels.clone();
                    cx.capabilities(|can| can.thinking_levels = levels);
                    if let Some(current) = current {
                        self.level_now(cx, current);
                    }
                }
                "mode" => {
                    self.options.mode = Some(id.to_owned());
                    self.modes(cx, &choices);
                    if let Some(current) = current {
                        self.mode_now(cx, current);
                    }
                }
                other => cx.warn(format!(
                    "the agent has an option `{other}` that Lodge does not show"
                )),
            }
        }
    }

    /// The agent's models under our names. Where the gateway's models are known, only they can be used.
    fn models(&mut self, cx: &mut Cx<'_>, choices: &[Choice<'_>]) {
        let known: Vec<ModelInfo> = cx
            .launch()
            .map(|launch| launch.models.clone())
            .unwrap_or_default();
        let mut models = Vec::new();
        self.options.native.clear();
        for choice in choices {
            if let Some(model) = known.iter().find(|model| names(model, choice.id)) {
                self.options.native.insert(model.id.clone(), choice.id.to_owned());
                models.push(model.clone());
            }
        }
        if models.is_empty() && self.agent == GEMINI {
            models = self.gateways_models(cx, &known);
        }
        if models.is_empty() {
            for choice in choices {
                let model = self.own_model(choice);
                self.options.native.insert(model.id.clone(), choice.id.to_owned());
                models.push(model);
            }
        }
        cx.capabilities(|can| can.models = models);
    }

    /// Gemini lists its vendor's models whatever it was started with, and takes the name of any other. All requests go to
    /// one provider: that of the model it was started with.
    fn gateways_models(&mut self, cx: &mut Cx<'_>, known: &[ModelInfo]) -> Vec<ModelInfo> {
        let wanted = cx.wanted_model().map(str::to_owned);
        let now = known
            .iter()
            .find(|model| Some(&model.id) == wanted.as_ref())
            .or_else(|| known.first());
        let Some(now) = now else { return Vec::new() };
        let mut models = Vec::new();
        for model in known.iter().filter(|model| model.provider == now.provider) {
            if let Some((_, native)) = model.id.split_once('/') {
                self.options.native.insert(model.id.clone(), native.to_owned());
                models.push(model.clone());
            }
        }
        if wanted.is_none() {
            cx.model(now.id.clone());
        }
        models
    }

    /// A model of the agent that the gateway does not name.
    fn own_model(&self, choice: &Choice<'_>) -> ModelInfo {
        let native = choice.id.strip_prefix(PROVIDER_PREFIX).unwrap_or(choice.id);
        let id = match native.split_once('/') {
            Some((provider, model)) if !provider.is_empty() && !model.is_empty() => native.to_owned(),
            _ => format!("{}/{native}", self.agent),
        };
        ModelInfo {
            provider: id.split('/').next().unwrap_or_default().to_owned(),
            name: choice.name.to_owned(),
            context_window: None,
            reasoning: false,
            id,
        }
    }

    /// The model that the agent says it uses. While another one is still to be set, that one stays.
    fn model_now(&mut self, cx: &mut Cx<'_>, native: &str) {
        self.options.model_now = Some(native.to_owned());
        let Some(ours) = self.our_name(native) else { return };
        if !self.is_open()
            && let Some(wanted) = cx.wanted_model()
        {
            if self.options.native.contains_key(wanted) {
                self.prefer_model = wanted != ours;
                return;
            }
            // It was configured at the start, and the agent has a name of its own for it.
            if cx.offers(wanted) {
                return;
            }
        }
        cx.model(ours);
    }

    fn our_name(&self, native: &str) -> Option<String> {
        let mut known = self.options.native.iter();
        known
            .find(|(_, known)| *known == native)
            .map(|(ours, _)| ours.clone())
    }

    /// A model was set as we asked.
    pub(super) fn model_set(&mut self, cx: &mut Cx<'_>, native: &str) {
        self.options.model_now = Some(native.to_owned());
        if let Some(ours) = self.our_name(native) {
            cx.model(ours);
        }
    }

    /// What was wanted was refused: what the agent uses is what there is.
    pub(super) fn keep_current(&mut self, cx: &mut Cx<'_>) {
        let current = self
            .options
            .model_now
            .as_deref()
            .and_then(|native| self.our_name(native));
        if let Some(model) = current {
            cx.model(model);
        }
        if let Some(level) = self.options.level_now.clone() {
            cx.thinking_level(level);
        }
    }

    fn level_now(&mut self, cx: &mut Cx<'_>, current: &str) {
        self.options.level_now = Some(current.to_owned());
        let wanted = cx.wanted_thinking_level().map(str::to_owned);
        let wanted = wanted.filter(|wanted| self.options.levels.contains(wanted));
        match wanted {
            Some(wanted) if !self.is_open() && wanted != current => self.prefer_level = true,
            _ => cx.thinking_level(current),
        }
    }

    pub(super) fn commands(&mut self, cx: &mut Cx<'_>, commands: &[Value]) {
        let commands: Vec<CommandInfo> = commands
            .iter()
            .filter_map(|command| {
                Some(CommandInfo {
                    name: text(command, "name")?.to_owned(),
                    description: text(command, "description").map(str::to_owned),
                })
            })
            .collect();
        let named = |name: &str| commands.iter().any(|command| command.name == name);
        let compact = ["compact", "compress"].into_iter().find(|name| named(name));
        self.options.compact = compact.map(str::to_owned);
        let can_compact = compact.is_some();
        cx.commands(commands);
        cx.capabilities(|can| can.compact = can_compact);
    }

    /// Asks for what the user chose before the session was opened. Whether there was anything to ask for.
    pub(super) fn prefer(&mut self, cx: &mut Cx<'_>) -> bool {
        let model = std::mem::take(&mut self.prefer_model).then(|| cx.wanted_model().map(str::to_owned));
        let level =
            std::mem::take(&mut self.prefer_level).then(|| cx.wanted_thinking_level().map(str::to_owned));
        let mut asked = false;
        if let Some(model) = model
            .flatten()
            .and_then(|model| self.options.native.get(&model).cloned())
        {
            asked |= self.ask_model(cx, &model).is_some();
        }
        if let Some(level) = level.flatten() {
            asked |= self.ask_level(cx, &level).is_some();
        }
        asked
    }

    fn ask_model(&mut self, cx: &mut Cx<'_>, native: &str) -> Option<String> {
        let asked = Asked::Model(native.to_owned());
        let session = self.session.clone()?;
        if let Some(option) = self.options.model.clone() {
            return Some(self.set_option(cx, &session, &option, native, asked));
        }
        let params = json!({ "sessionId": session, "modelId": native });
        Some(self.request(cx, "session/set_model", &params, asked))
    }

    fn ask_level(&mut self, cx: &mut Cx<'_>, level: &str) -> Option<String> {
        let asked = Asked::Level(level.to_owned());
        let (session, option) = (self.session.clone()?, self.options.level.clone()?);
        Some(self.set_option(cx, &session, &option, level, asked))
    }

    pub(super) fn set_option(
        &mut self,
        cx: &mut Cx<'_>,
        session: &str,
        option: &str,
        value: &str,
        asked: Asked,
    ) -> String {
        let mut params = json!({ "sessionId": session, "configId": option, "value": value });
        if self.version >= 2 {
            params["type"] = "id".into();
        }
        self.request(cx, "session/set_config_option", &params, asked)
    }

    /// What somebody else sets.
    pub(super) fn recorded_option(&self, option: &str, value: String) -> Asked {
        let is = |known: &Option<String>| known.as_deref() == Some(option);
        match &self.options {
            options if is(&options.model) => Asked::Model(value),
            options if is(&options.level) => Asked::Level(value),
            options if is(&options.mode) => Asked::Mode(value),
            _ => Asked::Other,
        }
    }

    pub(super) fn use_model(&mut self, cx: &mut Cx<'_>, model: &str) -> Result<String, ErrorBody> {
        let native = self.options.native.get(model).cloned().ok_or_else(|| {
            ErrorBody::new(ErrorCode::NotFound, format!("the agent has no model `{model}`"))
        })?;
        self.ask_model(cx, &native).ok_or_else(super::not_open)
    }

    pub(super) fn use_level(&mut self, cx: &mut Cx<'_>, level: &str) -> Result<String, ErrorBody> {
        self.ask_level(cx, level).ok_or_else(super::not_open)
    }
}

/// Whether an agent's name of a model means one of the gateway's.
fn names(model: &ModelInfo, native: &str) -> bool {
    let plain = native.strip_prefix(PROVIDER_PREFIX).unwrap_or(native);
    model.id == plain || model.id.split_once('/').is_some_and(|(_, id)| id == plain)
}

/// Options may stand in groups.
fn flat(options: &[Value]) -> Vec<Value> {
    options
        .iter()
        .flat_map(|option| match option.get("options").and_then(Value::as_array) {
            Some(group) => group.clone(),
            None => vec![option.clone()],
        })
        .collect()
}

fn choices<'a>(list: &'a [Value], id: &str) -> Vec<Choice<'a>> {
    list.iter()
        .filter_map(|choice| {
            let id = text(choice, id)?;
            Some(Choice {
                id,
                name: text(choice, "name").unwrap_or(id),
                description: text(choice, "description"),
            })
        })
        .collect()
}
