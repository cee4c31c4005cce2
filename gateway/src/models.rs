//! Providers and models as the control protocol shows them: never a key.

use lodge_proto::control::{Dialect as ProtoDialect, Model as ProtoModel, Provider as ProtoProvider};

use crate::provider::{Kind, Model, ProviderSpec, Registry};

/// The models a request can be sent to.
pub(crate) fn usable(registry: &Registry) -> Vec<ProtoModel> {
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
        .collect()
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
        has_key: provider.key.is_some(),
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
