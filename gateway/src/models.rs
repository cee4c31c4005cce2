//! Providers and models as the control protocol shows them: never a key.

use lodge_proto::control::{Dialect as ProtoDialect, Model as ProtoModel, Provider as ProtoProvider};

use crate::provider::{Account, DEFAULT_ACCOUNT, Kind, Model, ProviderSpec, Registry};
use crate::routes::Alias;

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

/// An alias as a model of the provider under whose path it is asked for, with what is known of its first target.
fn alias(registry: &Registry, alias: &Alias) -> Option<ProtoModel> {
    let provider = registry
        .get(&alias.provider)
        .filter(|provider| provider.is_usable())?;
    let first = alias.targets.first()?;
    let target = registry.get(&first.provider)?;
    let known = target.models.iter().find(|model| model.id == first.model);
    let model = known.cloned().unwrap_or_else(|| Model {
        id: String::new(),
        name: String::new(),
        context_window: 0,
        max_output: 0,
        reasoning: false,
        images: false,
        price: None,
    });
    let named = Model {
        id: alias.name.clone(),
        name: alias.name.clone(),
        ..model
    };
    Some(self::model(provider, &named))
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
    ProtoModel {
        id: model.id.clone(),
        name: model.name.clone(),
        provider: provider.name.clone(),
        dialects: provider
            .dialects()
            .iter()
            .map(|dialect| ProtoDialect::from(*dialect).into())
            .collect(),
        context_window: model.context_window,
        max_output: model.max_output,
        reasoning: model.reasoning,
        images: model.images,
    }
}
