//! Answers to our own requests.

use super::messages::native_model;
use super::wire::{Initialized, ListedModel, Response, plain_model};
use super::{Claude, Pending};
use crate::fold::Cx;
use lodge_proto::session::{CommandInfo, ModelInfo};
use lodge_proto::{ErrorBody, ErrorCode};
use serde_json::{Value, json};

/// The provider of models that only the harness lists.
const OWN_PROVIDER: &str = "anthropic";

impl Claude {
    /// Sends a control request, and keeps what its answer is for.
    pub(super) fn request(&mut self, cx: &mut Cx<'_>, request: &Value, pending: Pending) -> String {
        let id = cx.new_id().to_string();
        cx.send(&json!({ "type": "control_request", "request_id": id, "request": request }));
        self.pending.insert(id.clone(), pending);
        id
    }

    pub(super) fn response(&mut self, cx: &mut Cx<'_>, response: Response) {
        // With replay on, the harness repeats our own answers: they wait for nothing.
        let Some(pending) = self.pending.remove(&response.request_id) else {
            return;
        };
        if response.subtype == "success" {
            self.succeeded(cx, pending, response.body);
            return cx.resolve(&response.request_id, Ok(json!({})));
        }
        let message = response.error.unwrap_or_else(|| "no reason given".to_owned());
        if pending == Pending::Initialize {
            cx.agent_error(
                ErrorCode::HarnessCrashed,
                format!("Claude Code refused to begin: {message}"),
                true,
            );
        }
        let error = ErrorBody::new(
            ErrorCode::InvalidArgument,
            format!("Claude Code refused: {message}"),
        );
        cx.resolve(&response.request_id, Err(error));
    }

    fn succeeded(&mut self, cx: &mut Cx<'_>, pending: Pending, body: Value) {
        match pending {
            Pending::Initialize => match serde_json::from_value(body) {
                Ok(initialized) => self.initialized(cx, initialized),
                Err(error) => {
                    cx.warn(format!("the answer to `initialize` was not understood: {error}"));
                    cx.ready();
                }
            },
            Pending::Model(model) => {
                self.levels(cx, &model);
                cx.model(model);
            }
            Pending::Effort(level) => cx.thinking_level(level),
            Pending::Mode(mode) => cx.mode(mode),
            Pending::Other => {}
        }
    }

    fn initialized(&mut self, cx: &mut Cx<'_>, initialized: Initialized) {
        let commands = initialized.commands.into_iter().map(|command| CommandInfo {
            name: command.name,
            description: command.description.filter(|text| !text.is_empty()),
        });
        let commands: Vec<CommandInfo> = commands.collect();
        self.commands = commands.iter().map(|command| command.name.clone()).collect();
        cx.commands(commands);
        self.efforts = initialized
            .models
            .iter()
            .map(|model| (resolved(model).to_owned(), model.supported_effort_levels.clone()))
            .collect();
        let offered = cx
            .launch()
            .map(|launch| launch.models.clone())
            .unwrap_or_default();
        let models = if offered.is_empty() {
            listed(&initialized.models)
        } else {
            offered
        };
        // The one it was started with: the wanted one, or the same first one that the launch takes.
        let first = initialized
            .models
            .first()
            .map(|model| canonical_model(cx, resolved(model)));
        let current = match cx.wanted_model() {
            Some(wanted) if cx.launch().is_none() || cx.offers(wanted) => Some(wanted.to_owned()),
            _ if cx.launch().is_some() => models.first().map(|model| model.id.clone()),
            _ => first,
        };
        cx.capabilities(|can| can.models = models);
        if let Some(current) = current {
            self.levels(cx, &current);
            cx.model(current);
        }
        cx.ready();
    }

    /// The thinking levels of a model, as the harness listed them.
    pub(super) fn levels(&self, cx: &mut Cx<'_>, model: &str) {
        let levels = self.efforts.get(native_model(model)).cloned();
        cx.capabilities(|can| can.thinking_levels = levels.unwrap_or_default());
    }
}

fn resolved(model: &ListedModel) -> &str {
    plain_model(model.resolved_model.as_deref().unwrap_or(&model.value))
}

/// The harness's own list, for where the gateway's is not known.
fn listed(models: &[ListedModel]) -> Vec<ModelInfo> {
    let mut list: Vec<ModelInfo> = Vec::new();
    for model in models.iter().filter(|model| model.value != "default") {
        let id = format!("{OWN_PROVIDER}/{}", resolved(model));
        if list.iter().all(|known| known.id != id) {
            list.push(ModelInfo {
                id,
                name: model.display_name.clone(),
                provider: OWN_PROVIDER.to_owned(),
                context_window: None,
                reasoning: !model.supported_effort_levels.is_empty(),
            });
        }
    }
    list
}

/// `provider/model` of what the harness names: it knows models by their names alone.
pub(super) fn canonical_model(cx: &Cx<'_>, native: &str) -> String {
    let native = plain_model(native);
    let offered = cx
        .launch()
        .map(|launch| launch.models.as_slice())
        .unwrap_or_default();
    let known = offered
        .iter()
        .find(|model| model.id.split_once('/').is_some_and(|(_, name)| name == native));
    if let Some(model) = known {
        return model.id.clone();
    }
    let provider = offered
        .first()
        .map_or(OWN_PROVIDER, |model| model.provider.as_str());
    format!("{provider}/{native}")
}
