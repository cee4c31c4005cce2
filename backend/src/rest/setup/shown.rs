//! Everything that is set up, in JSON.

use super::providers::{SetupLogin, SetupModel};
use lodge_proto::control;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Everything that is set up. `origin` is `file` or `api`; `shadowed`: the file has one of the same name, which holds.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Setup {
    /// The configuration file.
    file: String,
    providers: Vec<SetupProvider>,
    accounts: Vec<SetupAccount>,
    /// In the order in which they are looked at.
    aliases: Vec<SetupAlias>,
    /// The same: the first rewrite holds.
    policies: Vec<SetupPolicy>,
    prices: Vec<SetupPrice>,
}

/// A provider as it is set up.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SetupProvider {
    name: String,
    kind: String,
    base_url: String,
    responses: bool,
    free: bool,
    add_usage: bool,
    models: Vec<SetupModel>,
    /// Dollars a call.
    provider_tools: BTreeMap<String, f64>,
    origin: String,
    shadowed: bool,
}

/// An account as it is set up.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SetupAccount {
    provider: String,
    /// `default`: the provider's own key.
    account: String,
    disabled: bool,
    /// `environment`, `file`, `sealed` or `none`.
    key_source: String,
    /// How it is logged into; absent: it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    login: Option<SetupLogin>,
    origin: String,
    shadowed: bool,
}

/// An alias as it is set up.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SetupAlias {
    provider: String,
    name: String,
    targets: Vec<String>,
    origin: String,
    shadowed: bool,
}

/// A policy as it is set up.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SetupPolicy {
    provider: String,
    model: String,
    /// The reason; absent: it refuses nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    deny: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rewrite: Option<String>,
    set: BTreeMap<String, Value>,
    origin: String,
    shadowed: bool,
}

/// A price as it is set up: nano-dollars per million tokens, as texts of digits.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SetupPrice {
    provider: String,
    model: String,
    input: String,
    output: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_read: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_write: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_write_1h: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<String>,
    origin: String,
    shadowed: bool,
}

impl From<control::ShowSetupResponse> for Setup {
    fn from(shown: control::ShowSetupResponse) -> Self {
        Self {
            file: shown.file,
            providers: shown.providers.into_iter().map(SetupProvider::from).collect(),
            accounts: shown.accounts.into_iter().map(SetupAccount::from).collect(),
            aliases: shown.aliases.into_iter().map(SetupAlias::from).collect(),
            policies: shown.policies.into_iter().map(SetupPolicy::from).collect(),
            prices: shown.prices.into_iter().map(SetupPrice::from).collect(),
        }
    }
}

impl From<control::ProviderSetup> for SetupProvider {
    fn from(provider: control::ProviderSetup) -> Self {
        let model = |model: control::ModelSetup| SetupModel {
            id: model.id,
            name: model.name,
            context_window: model.context_window,
            max_output: model.max_output,
            reasoning: model.reasoning,
            images: model.images,
            tools: model.tools,
            efforts: model.efforts,
        };
        Self {
            name: provider.name,
            kind: provider.kind,
            base_url: provider.base_url,
            responses: provider.responses,
            free: provider.free,
            add_usage: provider.add_usage,
            models: provider.models.into_iter().map(model).collect(),
            provider_tools: provider.provider_tools.into_iter().collect(),
            origin: provider.origin,
            shadowed: provider.shadowed,
        }
    }
}

impl From<control::AccountSetup> for SetupAccount {
    fn from(account: control::AccountSetup) -> Self {
        let login = |login: control::OauthSetup| SetupLogin {
            client_id: login.client_id,
            token_url: login.token_url,
            authorize_url: login.authorize_url,
            redirect_uri: login.redirect_uri,
            device_url: login.device_url,
            scopes: login.scopes,
            beta: login.beta,
        };
        Self {
            provider: account.provider,
            account: account.name,
            disabled: account.disabled,
            key_source: account.key_source,
            login: account.oauth.map(login),
            origin: account.origin,
            shadowed: account.shadowed,
        }
    }
}

impl From<control::AliasSetup> for SetupAlias {
    fn from(alias: control::AliasSetup) -> Self {
        Self {
            provider: alias.provider,
            name: alias.name,
            targets: alias.targets,
            origin: alias.origin,
            shadowed: alias.shadowed,
        }
    }
}

impl From<control::PolicySetup> for SetupPolicy {
    fn from(policy: control::PolicySetup) -> Self {
        let value = |json: String| serde_json::from_str(&json).unwrap_or(Value::String(json));
        let set = policy.set.into_iter();
        Self {
            provider: policy.provider,
            model: policy.model,
            deny: policy.deny,
            rewrite: Some(policy.rewrite).filter(|rewrite| !rewrite.is_empty()),
            set: set.map(|(path, json)| (path, value(json))).collect(),
            origin: policy.origin,
            shadowed: policy.shadowed,
        }
    }
}

impl From<control::PriceSetup> for SetupPrice {
    fn from(price: control::PriceSetup) -> Self {
        let shown = |rate: Option<u64>| rate.map(|rate| rate.to_string());
        Self {
            provider: price.provider,
            model: price.model,
            input: price.input.to_string(),
            output: price.output.to_string(),
            cache_read: shown(price.cache_read),
            cache_write: shown(price.cache_write),
            cache_write_1h: shown(price.cache_write_1h),
            reasoning: shown(price.reasoning),
            origin: price.origin,
            shadowed: price.shadowed,
        }
    }
}
