//! Providers and models as others see them: never a key.
//!
//! - here: in the messages of the control protocol
//! - [`catalog`]: with prices, and what each key may use; [`document`]: the same as JSON, for harnesses

mod catalog;
mod document;
mod price;

use lodge_proto::control::{Dialect as ProtoDialect, Model as ProtoModel, Provider as ProtoProvider};

pub(crate) use catalog::Catalog;
pub(crate) use document::answer;
pub(crate) use price::price;

use crate::provider::{Account, DEFAULT_ACCOUNT, Kind, Model, ProviderSpec, Registry};
use crate::routes::{Alias, Target};
use crate::translate;

/// The models a request can be sent to, and the aliases that stand for some of them.
pub(crate) fn usable(registry: &Registry) -> Vec<ProtoModel> {
    let routes = registry.routes();
    let models = |provider: &ProviderSpec| {
        provider
            .models
            .iter()
            .map(|model| self::model(provider, model))
            .collect::<Vec<_>>()
    };
    registry
        .iter()
        .filter(|provider| provider.is_usable())
        .flat_map(models)
        .chain(
            routes
                .aliases
                .iter()
                .filter_map(|alias| self::alias(registry, alias)),
        )
        // What policy denies is not offered.
        .filter(|model| routes.steps(&model.provider, &model.id).is_ok())
        .collect()
}

/// An alias as a model of the provider under whose path it is asked for. It is what its first target is, as far as every
/// target can do that, too.
fn alias(registry: &Registry, alias: &Alias) -> Option<ProtoModel> {
    let provider = registry
        .get(&alias.provider)
        .filter(|provider| provider.is_usable())?;
    let first = alias.targets.first()?;
    registry.get(&first.provider)?;
    let model = |target: &Target| {
        let models = &registry.get(&target.provider)?.models;
        models.iter().find(|model| model.id == target.model).cloned()
    };
    let mut named = model(first).unwrap_or_else(|| Model::named(""));
    named.id.clone_from(&alias.name);
    named.name.clone_from(&alias.name);
    for other in alias.targets.iter().skip(1).filter_map(model) {
        named.context_window = least(named.context_window, other.context_window);
        named.max_output = least(named.max_output, other.max_output);
        named.images &= other.images;
        named.tools &= other.tools;
        named.efforts.retain(|effort| other.efforts.contains(effort));
    }
    let targets = alias
        .targets
        .iter()
        .map(|target| format!("{}/{}", target.provider, target.model));
    Some(ProtoModel {
        targets: targets.collect(),
        listed_at: 0,
        ..self::model(provider, &named)
    })
}

/// Of two numbers of which 0 means unknown.
fn least(one: u64, other: u64) -> u64 {
    match (one, other) {
        (0, known) | (known, 0) => known,
        _ => one.min(other),
    }
}

/// The provider's own key, out of use for now.
fn is_own_key(account: &Account) -> bool {
    account.name == DEFAULT_ACCOUNT && account.key.is_some()
}

/// A provider with all its models.
pub(crate) fn provider(provider: &ProviderSpec) -> ProtoProvider {
    ProtoProvider {
        name: provider.name.clone(),
        kind: provider.kind.as_str().to_owned(),
        base_url: if provider.kind == Kind::Demo {
            String::new()
        } else {
            provider.base.to_string()
        },
        has_key: provider.key.is_some() || provider.disabled.iter().any(is_own_key),
        key_source: provider.source.as_str().to_owned(),
        models: provider
            .models
            .iter()
            .map(|model| self::model(provider, model))
            .collect(),
    }
}

fn model(provider: &ProviderSpec, model: &Model) -> ProtoModel {
    let codes = |dialects: &[crate::dialect::Dialect]| {
        dialects
            .iter()
            .map(|dialect| ProtoDialect::from(*dialect).into())
            .collect()
    };
    ProtoModel {
        id: model.id.clone(),
        name: model.name.clone(),
        provider: provider.name.clone(),
        dialects: codes(provider.dialects()),
        context_window: model.context_window,
        max_output: model.max_output,
        reasoning: model.reasoning,
        images: model.images,
        tools: model.tools,
        efforts: model.efforts.clone(),
        translated: codes(&translate::callers(provider)),
        targets: Vec::new(),
        price: None,
        listed_at: provider.listed_at,
    }
}
