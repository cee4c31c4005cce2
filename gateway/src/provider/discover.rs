//! Asking a provider which models it has, where neither the configuration nor this program knows.

use std::time::Duration;

use serde::Deserialize;

use super::Model;
use crate::guest::Gateway;

/// How often those that have not answered are asked again.
const AGAIN: Duration = Duration::from_mins(1);
/// Models of one provider that are offered.
const MAX_MODELS: usize = 500;
const MAX_ID: usize = 200;

#[derive(Deserialize)]
struct Listing {
    data: Vec<Listed>,
}

/// The fields that servers of this dialect add, each in its own spelling.
#[derive(Deserialize)]
struct Listed {
    id: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default, alias = "context_window", alias = "max_model_len")]
    context_length: Option<u64>,
}

/// Asks until every provider that lists its models has answered, then looks for new ones; until dropped.
pub(crate) async fn discover(gateway: &Gateway) {
    let mut ticks = tokio::time::interval(AGAIN);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = gateway.providers_changed.notified() => {}
        }
        let registry = gateway.providers.current();
        for provider in registry.iter().filter(|provider| provider.lists_its_models()) {
            match gateway.upstream.models(provider).await.map(|bytes| parse(&bytes)) {
                Ok(Some(models)) if !models.is_empty() => gateway.providers.learn(&provider.name, models),
                Ok(_) => tracing::warn!(
                    provider = provider.name,
                    "the provider's list of models cannot be read"
                ),
                Err(error) => {
                    tracing::warn!(provider = provider.name, error = error.message, "listing models");
                }
            }
        }
    }
}

fn parse(bytes: &[u8]) -> Option<Vec<Model>> {
    let listing: Listing = serde_json::from_slice(bytes).ok()?;
    let is_good =
        |model: &Listed| (1..=MAX_ID).contains(&model.id.len()) && !model.id.contains(char::is_control);
    let models = listing
        .data
        .into_iter()
        .filter(is_good)
        .take(MAX_MODELS)
        .map(|listed| Model {
            name: listed
                .name
                .filter(|name| name.len() <= MAX_ID)
                .unwrap_or_else(|| listed.id.clone()),
            id: listed.id,
            context_window: listed.context_length.unwrap_or(0),
            max_output: 0,
            reasoning: false,
            images: false,
            price: None,
        });
    Some(models.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings_of_several_servers() {
        let models = parse(
            br#"{"object":"list","data":[{"id":"a/b","context_length":8,"x":1},{"id":"c","name":"C","max_model_len":9},
                {"id":""},{"id":"bad\n"}]}"#,
        )
        .unwrap();
        let shown: Vec<_> = models
            .iter()
            .map(|m| (m.id.as_str(), m.name.as_str(), m.context_window))
            .collect();
        assert_eq!(shown, [("a/b", "a/b", 8), ("c", "C", 9)]);
        assert_eq!(parse(b"<html>"), None);
    }
}
