//! Asking providers which models they have, where neither the configuration nor this program knows; again and again,
//! because they get new ones. A provider that does not answer keeps the models it listed last.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use super::{Model, ProviderSpec};
use crate::accounts;
use crate::guest::Gateway;

/// How often it is looked who has to be asked.
const LOOK: Duration = Duration::from_mins(1);
/// Until a provider is asked again that has answered, and up to a tenth more, so that many gateways do not ask at once.
const FRESH: Duration = Duration::from_hours(1);
/// Until one is asked again that has answered before, and not this time.
const AGAIN: Duration = Duration::from_mins(10);
/// Models of one provider that are offered.
const MAX_MODELS: usize = 500;
const MAX_ID: usize = 200;

#[derive(Deserialize)]
struct Listed {
    data: Vec<Entry>,
}

/// The fields that servers of this dialect add, each in its own spelling.
#[derive(Deserialize)]
struct Entry {
    id: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default, alias = "context_window", alias = "max_model_len")]
    context_length: Option<u64>,
    /// `OpenRouter`: what else it is known to take.
    #[serde(default)]
    supported_parameters: Option<Vec<String>>,
    #[serde(default)]
    architecture: Option<Architecture>,
    #[serde(default)]
    top_provider: Option<Top>,
    /// llama.cpp.
    #[serde(default)]
    meta: Option<Meta>,
}

#[derive(Deserialize)]
struct Architecture {
    #[serde(default)]
    input_modalities: Vec<String>,
}

#[derive(Deserialize)]
struct Top {
    #[serde(default)]
    max_completion_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(default)]
    n_ctx: Option<u64>,
    #[serde(default)]
    n_ctx_train: Option<u64>,
}

/// A provider that was asked for its models and did not list them, and why not.
pub(crate) type Failure = (String, String);

/// When each provider is to be asked.
#[derive(Debug, Default)]
struct Timetable(BTreeMap<String, Instant>);

impl Timetable {
    fn is_due(&self, provider: &ProviderSpec, now: Instant) -> bool {
        self.0.get(&provider.name).is_none_or(|due| now >= *due)
    }

    /// After it was asked. `jitter`: 0 to 1.
    fn note(&mut self, provider: &ProviderSpec, now: Instant, answered: bool, jitter: f64) {
        let wait = match (answered, provider.listed_at > 0) {
            (true, _) => FRESH + FRESH.mul_f64(jitter / 10.0),
            (false, true) => AGAIN,
            // Nothing can be done with it until it answers.
            (false, false) => Duration::ZERO,
        };
        self.0.insert(provider.name.clone(), now + wait);
    }
}

/// Asks each provider that lists its models when it is due, and all when providers were changed; until dropped.
pub(crate) async fn discover(gateway: &Gateway) {
    let mut ticks = tokio::time::interval(LOOK);
    let mut timetable = Timetable::default();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = gateway.providers_changed.notified() => timetable = Timetable::default(),
        }
        let now = Instant::now();
        let asked: Vec<Arc<ProviderSpec>> = listing(gateway)
            .into_iter()
            .filter(|provider| timetable.is_due(provider, now))
            .collect();
        let failures = ask(gateway, &asked).await;
        for provider in &asked {
            let answered = !failures.iter().any(|(name, _)| *name == provider.name);
            timetable.note(provider, Instant::now(), answered, chance());
        }
    }
}

/// Asks all of them now; those that did not answer keep what they listed before.
pub(crate) async fn refresh(gateway: &Gateway) -> Vec<Failure> {
    ask(gateway, &listing(gateway)).await
}

fn listing(gateway: &Gateway) -> Vec<Arc<ProviderSpec>> {
    let registry = gateway.providers.current();
    let listing = registry.iter().filter(|provider| provider.lists_its_models());
    listing
        .filter_map(|provider| registry.get(&provider.name).cloned())
        .collect()
}

async fn ask(gateway: &Gateway, providers: &[Arc<ProviderSpec>]) -> Vec<Failure> {
    let _asking = gateway.providers.asking.lock().await;
    let each = providers.iter().map(async |provider| {
        let why = one(gateway, provider).await.err()?;
        tracing::warn!(provider = provider.name, error = why, "listing models");
        Some((provider.name.clone(), why))
    });
    futures_util::future::join_all(each)
        .await
        .into_iter()
        .flatten()
        .collect()
}

async fn one(gateway: &Gateway, provider: &ProviderSpec) -> Result<(), String> {
    let bytes = gateway
        .upstream
        .models(provider)
        .await
        .map_err(|error| error.message)?;
    let models = parse(&bytes).filter(|models| !models.is_empty());
    let models = models.ok_or_else(|| {
        format!(
            "the provider `{}` listed no models that can be read",
            provider.name
        )
    })?;
    let count = models.len();
    if gateway.providers.learn(provider, models, accounts::now()) {
        tracing::info!(
            provider = provider.name,
            count,
            "the provider's models are others than before"
        );
    }
    Ok(())
}

/// Between 0 and 1.
fn chance() -> f64 {
    crate::seal::random::<1>().map_or(0.5, |[byte]| f64::from(byte) / 255.0)
}

fn parse(bytes: &[u8]) -> Option<Vec<Model>> {
    let listed: Listed = serde_json::from_slice(bytes).ok()?;
    let is_good =
        |entry: &Entry| (1..=MAX_ID).contains(&entry.id.len()) && !entry.id.contains(char::is_control);
    let good = listed.data.iter().filter(|&entry| is_good(entry));
    Some(good.take(MAX_MODELS).map(model).collect())
}

fn model(entry: &Entry) -> Model {
    let takes = |parameter: &str| {
        let all = entry.supported_parameters.as_deref();
        all.map(|all| all.iter().any(|known| known == parameter))
    };
    let sees = |architecture: &Architecture| architecture.input_modalities.iter().any(|kind| kind == "image");
    let window = entry
        .meta
        .as_ref()
        .and_then(|meta| meta.n_ctx.or(meta.n_ctx_train));
    let name = entry
        .name
        .as_ref()
        .filter(|name| name.len() <= MAX_ID && !name.contains(char::is_control));
    Model {
        name: name.unwrap_or(&entry.id).clone(),
        context_window: entry.context_length.or(window).unwrap_or(0),
        max_output: entry
            .top_provider
            .as_ref()
            .and_then(|top| top.max_completion_tokens)
            .unwrap_or(0),
        reasoning: takes("reasoning").unwrap_or(false),
        images: entry.architecture.as_ref().is_some_and(sees),
        tools: takes("tools").unwrap_or(true),
        ..Model::named(&entry.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Kind;

    #[test]
    fn listings_of_several_servers() {
        let models = parse(
            br#"{"object":"list","data":[{"id":"a/b","context_length":8,"x":1},{"id":"c","name":"C","max_model_len":9},
                {"id":"l","meta":{"n_ctx_train":7,"n_params":1}},{"id":""},{"id":"bad\n"}]}"#,
        )
        .unwrap();
        let shown: Vec<_> = models
            .iter()
            .map(|m| (m.id.as_str(), m.name.as_str(), m.context_window, m.tools))
            .collect();
        assert_eq!(
            shown,
            [("a/b", "a/b", 8, true), ("c", "C", 9, true), ("l", "l", 7, true)]
        );
        assert_eq!(parse(b"<html>"), None);
    }

    #[test]
    fn what_a_listing_says_of_a_model() {
        let models = parse(
            br#"{"data":[{"id":"v","architecture":{"input_modalities":["text","image"]},"top_provider":
                {"max_completion_tokens":64,"x":null},"supported_parameters":["reasoning","temperature"]},
                {"id":"t","architecture":{"input_modalities":["text"]},"supported_parameters":["tools"],"top_provider":
                {"max_completion_tokens":null}}]}"#,
        )
        .unwrap();
        let shown: Vec<_> = models
            .iter()
            .map(|m| (m.id.as_str(), m.images, m.reasoning, m.tools, m.max_output))
            .collect();
        assert_eq!(
            shown,
            [("v", true, true, false, 64), ("t", false, false, true, 0)]
        );
    }

    #[test]
    fn a_provider_is_asked_hourly_and_sooner_where_it_did_not_answer() {
        let mut provider = crate::price::tests::provider(Kind::OpenaiCompatible, "http://127.0.0.1:1/v1");
        let (mut timetable, now) = (Timetable::default(), Instant::now());
        assert!(timetable.is_due(&provider, now));
        timetable.note(&provider, now, false, 0.0);
        assert!(timetable.is_due(&provider, now), "it has never answered");
        timetable.note(&provider, now, true, 1.0);
        provider.listed_at = 1;
        assert!(!timetable.is_due(&provider, now + FRESH + FRESH / 20));
        assert!(timetable.is_due(&provider, now + FRESH + FRESH / 10));
        timetable.note(&provider, now, false, 1.0);
        assert!(!timetable.is_due(&provider, now + AGAIN / 2) && timetable.is_due(&provider, now + AGAIN));
    }
}
