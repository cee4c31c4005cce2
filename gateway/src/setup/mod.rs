//! What administrators set up beside the configuration file: providers, accounts, aliases, policies and prices. It is kept in
//! `gateway.db`, each as the message it came in.
//!
//! The file holds: what it says is not changed from here, and where it comes to say something of the same name, what was
//! entered waits behind it. Each entry is checked by the code that checks the file.

mod change;
mod show;

use std::collections::BTreeMap;
use std::path::PathBuf;

use lodge_proto::control::{
    AccountSetup, AliasSetup, ModelSetup, OauthSetup, PolicySetup, PriceSetup, ProviderSetup,
};
use prost::Message;

pub(crate) use change::{
    enable_account, put_account, put_alias, put_policy, put_price, put_provider, remove_account,
    remove_alias, remove_policy, remove_price, remove_provider,
};
pub(crate) use show::show;

use crate::config::{self, ConfigError, ModelEntry, OauthEntry, ProviderEntry, Wrong};
use crate::oauth;
use crate::price::Stated;
use crate::provider::{Kind, ProviderError, ProviderSpec};
use crate::routes::{Alias, ModelPolicy};
use crate::store::{StoredEntry, StoredSetup};

/// A change that was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("{key}: {message}")]
    Value { key: String, message: String },
    #[error("{what} is set in {} ({table}); change it there, it is read again when it is saved", file.display())]
    InFile {
        what: String,
        file: PathBuf,
        table: String,
    },
    #[error("there is no {0}")]
    Unknown(String),
    #[error("there are {max} {what} already; remove some first")]
    TooMany { what: &'static str, max: usize },
    #[error(transparent)]
    Provider(#[from] ProviderError),
}

impl SetupError {
    fn value(key: &str, message: impl std::fmt::Display) -> Self {
        Self::Value {
            key: key.to_owned(),
            message: message.to_string(),
        }
    }
}

impl From<Wrong> for SetupError {
    fn from((key, message): Wrong) -> Self {
        Self::value(key, message)
    }
}

impl From<ConfigError> for SetupError {
    fn from(error: ConfigError) -> Self {
        match error {
            // There is no file to name.
            ConfigError::Value { key, message, .. } => Self::Value { key, message },
            error => Self::value("provider", error),
        }
    }
}

/// Two names that stand for one thing.
pub(crate) type Pair = (String, String);

/// Everything that was entered. What is sealed stays so.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entered {
    pub(crate) providers: BTreeMap<String, ProviderSetup>,
    /// By provider and name, each with its sealed key.
    pub(crate) accounts: BTreeMap<Pair, (AccountSetup, Option<Vec<u8>>)>,
    /// By provider and name.
    pub(crate) aliases: BTreeMap<Pair, AliasSetup>,
    /// By the patterns of providers and models.
    pub(crate) policies: BTreeMap<Pair, PolicySetup>,
    /// By provider and model.
    pub(crate) prices: BTreeMap<Pair, PriceSetup>,
}

impl Entered {
    /// What is stored. A row that cannot be read is left out, and logged.
    pub(crate) fn read(stored: &StoredSetup) -> Self {
        let mut entered = Self::default();
        for entry in &stored.entries {
            if let Err(error) = entered.take(entry) {
                tracing::error!(kind = entry.kind, name = entry.name, %error, "a stored entry cannot be read");
            }
        }
        entered
    }

    fn take(&mut self, entry: &StoredEntry) -> Result<(), prost::DecodeError> {
        let bytes = entry.value.as_slice();
        match entry.kind.as_str() {
            PROVIDER => {
                let setup = ProviderSetup::decode(bytes)?;
                self.providers.insert(setup.name.clone(), setup);
            }
            ACCOUNT => {
                let setup = AccountSetup::decode(bytes)?;
                let name = (setup.provider.clone(), setup.name.clone());
                self.accounts.insert(name, (setup, entry.sealed.clone()));
            }
            ALIAS => {
                let setup = AliasSetup::decode(bytes)?;
                let name = (setup.provider.clone(), setup.name.clone());
                self.aliases.insert(name, setup);
            }
            POLICY => {
                let setup = PolicySetup::decode(bytes)?;
                let name = (setup.provider.clone(), setup.model.clone());
                self.policies.insert(name, setup);
            }
            PRICE => {
                let setup = PriceSetup::decode(bytes)?;
                let name = (setup.provider.clone(), setup.model.clone());
                self.prices.insert(name, setup);
            }
            _ => tracing::warn!(
                kind = entry.kind,
                "an entry of a kind that this program does not know"
            ),
        }
        Ok(())
    }
}

const PROVIDER: &str = "provider";
const ACCOUNT: &str = "account";
const ALIAS: &str = "alias";
const POLICY: &str = "policy";
const PRICE: &str = "price";

/// What is meant by an entered provider, without its keys.
pub(crate) fn provider(setup: &ProviderSetup) -> Result<ProviderSpec, SetupError> {
    let kind = Kind::parse(&setup.kind).ok_or_else(|| ProviderError::Kind(shortened(&setup.kind)))?;
    if kind == Kind::Demo {
        return Err(SetupError::value(
            "kind",
            "the demo model is set up in the configuration file",
        ));
    }
    let models: Vec<ModelEntry> = setup.models.iter().map(model).collect();
    let entry = ProviderEntry {
        name: setup.name.clone(),
        kind,
        base_url: some(&setup.base_url),
        key_env: None,
        key_file: None,
        insecure_http: setup.insecure_http,
        provider_tools: setup.provider_tools.clone().into_iter().collect(),
        account: Vec::new(),
        responses: setup.responses,
        free: setup.free,
        add_usage: setup.add_usage,
        models: (!models.is_empty()).then_some(models),
    };
    Ok(config::entered(entry)?)
}

fn model(setup: &ModelSetup) -> ModelEntry {
    ModelEntry {
        id: setup.id.clone(),
        name: some(&setup.name),
        context_window: setup.context_window,
        max_output: setup.max_output,
        reasoning: setup.reasoning,
        images: setup.images,
        tools: setup.tools,
        efforts: setup.efforts.clone(),
        price: None,
    }
}

/// What is meant by the login of an entered account.
pub(crate) fn oauth(setup: &OauthSetup) -> Result<oauth::Spec, SetupError> {
    if setup.client_id.is_empty() || setup.token_url.is_empty() {
        return Err(SetupError::value("oauth", "needs `client_id` and `token_url`"));
    }
    let entry = OauthEntry {
        client_id: setup.client_id.clone(),
        authorize_url: some(&setup.authorize_url),
        redirect_uri: some(&setup.redirect_uri),
        device_url: some(&setup.device_url),
        token_url: setup.token_url.clone(),
        scopes: setup.scopes.clone(),
        beta: some(&setup.beta),
    };
    Ok(config::entered_login(&entry)?)
}

/// What is meant by an entered alias.
pub(crate) fn alias(setup: &AliasSetup) -> Result<Alias, SetupError> {
    let entry = config::AliasEntry {
        provider: setup.provider.clone(),
        name: setup.name.clone(),
        targets: setup.targets.clone(),
    };
    Ok(config::alias(entry)?)
}

/// What is meant by an entered policy.
pub(crate) fn policy(setup: &PolicySetup) -> Result<ModelPolicy, SetupError> {
    let mut set = BTreeMap::new();
    for (path, json) in &setup.set {
        let value = serde_json::from_str(json).map_err(|error| {
            SetupError::value("set", format!("`{}` is not JSON: {error}", shortened(path)))
        })?;
        set.insert(path.clone(), value);
    }
    let entry = config::ModelPolicyEntry {
        provider: some(&setup.provider),
        model: setup.model.clone(),
        deny: setup.deny.clone(),
        rewrite: some(&setup.rewrite),
        set,
    };
    Ok(config::policy(entry)?)
}

/// A policy that refuses what one that cannot be read was about.
pub(crate) fn denial(setup: &PolicySetup) -> ModelPolicy {
    ModelPolicy {
        provider: some(&setup.provider).unwrap_or_else(|| "*".to_owned()),
        model: setup.model.clone(),
        deny: Some("its policy cannot be read".to_owned()),
        rewrite: None,
        set: Vec::new(),
    }
}

/// The prices of an entry.
pub(crate) fn stated(setup: &PriceSetup) -> Stated {
    Stated {
        input: setup.input,
        output: setup.output,
        cache_read: setup.cache_read,
        cache_write: setup.cache_write,
        cache_write_1h: setup.cache_write_1h,
        reasoning: setup.reasoning,
    }
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// A text from outside, as it may stand in an error.
fn shortened(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(100).collect()
}
