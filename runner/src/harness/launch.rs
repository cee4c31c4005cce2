//! What a harness needs to be started: arguments, environment, files of its private home.

use super::agents::Agent;
use super::install::InstalledHarness;
use crate::fold::Source;
use lodge_proto::SessionId;
use lodge_proto::control::{Dialect, Model};
use lodge_proto::session::ModelInfo;
use std::path::PathBuf;

/// Port on which guest init forwards to the gateway, inside the guest.
pub const GATEWAY_PORT: u16 = 8377;
/// Name of the environment variable that holds the session's virtual key.
pub const KEY_VARIABLE: &str = "LODGE_API_KEY";
/// An environment variable of a harness with this value holds the virtual key, under the harness's own name for it.
pub const KEY_VALUE: &str = "$LODGE_API_KEY";
/// The private home as the guest sees it.
pub const GUEST_HOME: &str = "/home/guest";

/// With what a harness is started.
#[derive(Debug, Clone)]
pub struct LaunchContext {
    pub session: SessionId,
    pub installed: InstalledHarness,
    /// Its row in the configuration file, where it is not one of Lodge's own.
    pub agent: Option<Agent>,
    /// Where it works: a real path, the same in the guest.
    pub workspace: PathBuf,
    /// The harness's own name for the conversation to resume.
    pub native_session: Option<String>,
    /// Models that the gateway allows this session.
    pub models: Vec<Model>,
    pub model: Option<String>,
    pub thinking_level: Option<String>,
    /// Ask before each tool runs.
    pub ask_permissions: bool,
    /// What of the workspace its user trusts, as names in it: the sandbox shows a copy of just that. Empty: nothing of what
    /// the workspace brings for this harness may run.
    pub trusted: Vec<String>,
    /// A copied conversation to go on from, where this session has none of its own yet.
    pub forked_from: Option<Source>,
}

impl LaunchContext {
    /// Whether what the workspace brings for this harness is on.
    pub const fn trusts(&self) -> bool {
        !self.trusted.is_empty()
    }
}

/// A file of the private home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HomeFile {
    /// Path below the home.
    pub path: PathBuf,
    pub contents: String,
}

/// How to start a harness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HarnessLaunch {
    pub argv: Vec<String>,
    /// Environment besides what every guest has; a value of [`KEY_VALUE`] stands for the key.
    pub env: Vec<(String, String)>,
    /// Written anew at each start.
    pub files: Vec<HomeFile>,
}

/// Names of a workspace that the guest of this harness is not shown: it runs what they bring, and has no switch that
/// keeps it from that. opencode's switch is not asked by all of its parts; of an agent of the configuration file
/// nothing is known.
pub fn hidden(harness: &str, agent: Option<&Agent>) -> Vec<String> {
    let names: &[&str] = match (harness, agent) {
        (_, Some(agent)) => return agent.hidden(),
        ("opencode" | "opencode-acp", None) => &[".opencode", "opencode.json", "opencode.jsonc"],
        _ => &[],
    };
    names.iter().map(|&name| name.to_owned()).collect()
}

/// Whether a harness speaks one of the dialects of a model. `agent` is its row where it is one of the configuration file.
pub fn can_use(harness: &str, agent: Option<&Agent>, model: &Model) -> bool {
    let speaks = |dialect: Dialect| match (agent, harness) {
        (Some(agent), _) => agent.dialects().contains(&dialect),
        (None, "codex") => dialect == Dialect::OpenaiResponses,
        (None, "claude") => dialect == Dialect::AnthropicMessages,
        (None, "gemini") => dialect == Dialect::Gemini,
        (None, "opencode" | "opencode-acp") => super::opencode::launch::speaks(dialect),
        (None, _) => dialect != Dialect::Unspecified,
    };
    dialects(model).into_iter().any(speaks)
}

/// The models of the gateway that one process of a harness can use, of those it is allowed: first those whose provider
/// speaks with it without translation.
pub fn usable(harness: &str, agent: Option<&Agent>, models: &[Model], wanted: Option<&str>) -> Vec<Model> {
    if harness == "claude" && agent.is_none() {
        // It knows a single address.
        return super::claude::launch::usable(models, wanted);
    }
    let speaks = |model: &&Model| can_use(harness, agent, model);
    let mut usable: Vec<Model> = models.iter().filter(speaks).cloned().collect();
    usable.sort_by_key(|model| {
        let native = Model {
            translated: Vec::new(),
            ..model.clone()
        };
        !can_use(harness, agent, &native)
    });
    usable
}

/// As `set_model` takes it.
pub fn model_id(model: &Model) -> String {
    format!("{}/{}", model.provider, model.id)
}

/// Models of the gateway as a session offers them.
pub fn model_infos(models: &[Model]) -> Vec<ModelInfo> {
    models
        .iter()
        .map(|model| ModelInfo {
            id: model_id(model),
            name: model.name.clone(),
            provider: model.provider.clone(),
            context_window: (model.context_window > 0).then_some(model.context_window),
            reasoning: model.reasoning,
        })
        .collect()
}

/// Ids of the models that take no images.
pub fn text_models(models: &[Model]) -> Vec<String> {
    models
        .iter()
        .filter(|model| !model.images)
        .map(model_id)
        .collect()
}

/// The dialects of a model, best first: its provider's own, and those that the gateway translates; unknown ones left out.
pub fn dialects(model: &Model) -> Vec<Dialect> {
    let all = model.dialects.iter().chain(&model.translated);
    all.filter_map(|dialect| Dialect::try_from(*dialect).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_harness_can_use_the_models_whose_dialects_it_speaks() {
        let every = [
            Dialect::OpenaiChat,
            Dialect::OpenaiResponses,
            Dialect::AnthropicMessages,
            Dialect::Gemini,
        ];
        for (harness, wanted) in [
            ("pi", [true, true, true, true]),
            ("codex", [false, true, false, false]),
            ("claude", [false, false, true, false]),
            ("gemini", [false, false, false, true]),
            ("opencode", [true, true, true, false]),
            ("opencode-acp", [true, true, true, false]),
        ] {
            let found = every.map(|dialect| {
                let model = Model {
                    dialects: vec![dialect.into()],
                    ..Model::default()
                };
                can_use(harness, None, &model)
            });
            assert_eq!(found, wanted, "{harness}");
        }
        let two = Model {
            dialects: vec![Dialect::Gemini.into(), Dialect::OpenaiResponses.into()],
            ..Model::default()
        };
        assert!(can_use("codex", None, &two) && !can_use("codex", None, &Model::default()));
    }

    #[test]
    fn a_model_that_is_spoken_to_by_translation_comes_after_those_that_are_not() {
        let model = |id: &str, dialect: Dialect, translated: &[Dialect]| Model {
            id: id.to_owned(),
            provider: id.to_owned(),
            dialects: vec![dialect.into()],
            translated: translated.iter().map(|dialect| (*dialect).into()).collect(),
            ..Model::default()
        };
        let others = [
            Dialect::OpenaiChat,
            Dialect::OpenaiResponses,
            Dialect::AnthropicMessages,
        ];
        let models = [
            model("gemini", Dialect::Gemini, &others),
            model("chat", Dialect::OpenaiChat, &[]),
            model("anthropic", Dialect::AnthropicMessages, &others[..2]),
            model("openai", Dialect::OpenaiResponses, &[Dialect::AnthropicMessages]),
        ];
        let ids = |harness: &str, wanted: Option<&str>| -> Vec<String> {
            let usable = usable(harness, None, &models, wanted);
            usable.into_iter().map(|model| model.id).collect()
        };
        assert_eq!(ids("codex", None), ["openai", "gemini", "anthropic"]);
        assert_eq!(ids("gemini", None), ["gemini"]);
        assert_eq!(ids("opencode", None), ["chat", "anthropic", "openai", "gemini"]);
        // It knows one provider at a time.
        assert_eq!(ids("claude", None), ["anthropic"]);
        assert_eq!(ids("claude", Some("gemini/gemini")), ["gemini"]);
        let natively = dialects(&models[0]);
        assert_eq!((natively[0], natively.len()), (Dialect::Gemini, 4));
    }
}
