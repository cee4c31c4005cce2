//! Providers: where models live, and what they cost in trust.

mod base;
mod catalog;
mod discover;
mod overlay;
mod registry;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

pub use base::{BadBaseUrl, BaseUrl};
pub(crate) use discover::{discover, refresh};
pub(crate) use overlay::{account_purpose, key_purpose, providers, seal_account, seal_key};
pub(crate) use registry::{Configured, View};
pub use registry::{ProviderError, Providers, Registry};

use crate::asked::ProviderTools;
use crate::config::{KeySource, ModelEntry};
use crate::dialect::Dialect;
use crate::price::Rates;
use crate::secret::Secret;

/// What a provider is, which decides its dialects and how it takes its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Anthropic,
    Openai,
    OpenaiCompatible,
    Gemini,
    Demo,
}

impl Kind {
    /// In the order in which people look for them.
    pub const ALL: [Self; 5] = [
        Self::Anthropic,
        Self::Openai,
        Self::OpenaiCompatible,
        Self::Gemini,
        Self::Demo,
    ];

    /// As configuration and protocol spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::Openai => "openai",
            Self::OpenaiCompatible => "openai_compatible",
            Self::Gemini => "gemini",
            Self::Demo => "demo",
        }
    }

    /// The kind of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// The provider's own address.
    pub fn default_base(self) -> Option<&'static str> {
        match self {
            Self::Anthropic => Some("https://api.anthropic.com"),
            Self::Openai => Some("https://api.openai.com/v1"),
            Self::Gemini => Some("https://generativelanguage.googleapis.com"),
            Self::OpenaiCompatible | Self::Demo => None,
        }
    }

    /// What the picker offers without configuration.
    pub fn default_models(self) -> Vec<Model> {
        catalog::models(self)
    }
}

/// A model as people and harnesses see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    pub id: String,
    pub name: String,
    /// Tokens; 0: unknown.
    pub context_window: u64,
    /// Tokens; 0: unknown.
    pub max_output: u64,
    pub reasoning: bool,
    pub images: bool,
    /// Takes definitions of tools.
    pub tools: bool,
    /// Efforts of reasoning, as the model names them, least first; empty: unknown.
    pub efforts: Vec<String>,
    /// What an administrator says it costs, in place of the price table.
    pub price: Option<Rates>,
}

impl Model {
    /// A model of which nothing but its name is known: it is taken to use tools, as models of agents do.
    pub fn named(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            name: id.to_owned(),
            context_window: 0,
            max_output: 0,
            reasoning: false,
            images: false,
            tools: true,
            efforts: Vec::new(),
            price: None,
        }
    }
}

impl From<ModelEntry> for Model {
    fn from(entry: ModelEntry) -> Self {
        let ModelEntry {
            id,
            name,
            context_window,
            max_output,
            reasoning,
            images,
            tools,
            efforts,
            price,
        } = entry;
        Self {
            name: name.unwrap_or_else(|| id.clone()),
            id,
            context_window,
            max_output,
            reasoning: reasoning || !efforts.is_empty(),
            images,
            tools: tools.unwrap_or(true),
            efforts,
            price,
        }
    }
}

/// The account of a provider's own key, or of a server that needs none.
pub const DEFAULT_ACCOUNT: &str = "default";

/// One of the accounts that requests to a provider can go through.
#[derive(Clone, Debug)]
pub struct Account {
    pub name: String,
    /// For one that is logged into: the token of the moment, once it was asked for.
    pub key: Option<Secret>,
    /// How it is logged into, where it has no key.
    pub oauth: Option<Arc<crate::oauth::Spec>>,
}

/// A provider as configured or stored.
#[derive(Clone, Debug)]
pub struct ProviderSpec {
    pub name: String,
    pub kind: Kind,
    pub base: BaseUrl,
    pub source: KeySource,
    pub key: Option<Secret>,
    pub models: Vec<Model>,
    /// When the provider listed them, milliseconds of Unix time; 0: it did not.
    pub listed_at: u64,
    /// The tools that run at the provider which guests may use, priced.
    pub provider_tools: ProviderTools,
    /// Accounts besides the one of `key`.
    pub accounts: Vec<Account>,
    /// Accounts that an administrator took out of use for now; the one of `key` may be among them.
    pub disabled: Vec<Account>,
    /// Prices that administrators set by model, where the configuration says none.
    pub prices: BTreeMap<String, Rates>,
    /// Whether an `openai_compatible` one serves Responses.
    pub responses: bool,
    /// An administrator says that its requests cost nothing.
    pub free: bool,
    /// Whether streams of Chat Completions are asked for their usage where the caller does not.
    pub add_usage: bool,
}

impl ProviderSpec {
    /// What it speaks, best first.
    pub fn dialects(&self) -> &'static [Dialect] {
        match self.kind {
            Kind::Anthropic => &[Dialect::Messages],
            Kind::Openai => &[Dialect::Responses, Dialect::Chat],
            Kind::OpenaiCompatible if self.responses => &[Dialect::Chat, Dialect::Responses],
            Kind::OpenaiCompatible => &[Dialect::Chat],
            Kind::Gemini => &[Dialect::Gemini],
            Kind::Demo => &[
                Dialect::Chat,
                Dialect::Responses,
                Dialect::Messages,
                Dialect::Gemini,
            ],
        }
    }

    /// Whether its models are what it lists itself, and unknown until it is asked.
    pub fn lists_its_models(&self) -> bool {
        self.kind == Kind::OpenaiCompatible && (self.models.is_empty() || self.listed_at > 0)
    }

    /// Whether its requests cost nothing: where no key is shown and no account logged in, nobody can be billed.
    pub fn is_free(&self) -> bool {
        self.free || self.kind == Kind::Demo || !self.has_accounts()
    }

    /// Whether a key is known or a login, in use or not.
    fn has_accounts(&self) -> bool {
        self.key.is_some() || !self.accounts.is_empty() || !self.disabled.is_empty()
    }

    /// Whether a request can be sent: only servers of one's own may go without a key.
    pub fn is_usable(&self) -> bool {
        let goes_without = matches!(self.kind, Kind::OpenaiCompatible | Kind::Demo);
        self.key.is_some() || !self.accounts.is_empty() || goes_without && !self.has_accounts()
    }

    /// Every account that a request can go through, its own key's first.
    pub fn all_accounts(&self) -> Vec<Account> {
        let own = Account {
            name: DEFAULT_ACCOUNT.to_owned(),
            key: self.key.clone(),
            oauth: None,
        };
        let has_own = self.key.is_some() || !self.has_accounts();
        has_own
            .then_some(own)
            .into_iter()
            .chain(self.accounts.iter().cloned())
            .collect()
    }
}

/// The first part of the paths that the gateway answers itself.
pub const OWN: &str = "lodge";

/// A name that cannot be the first part of a path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    #[error("must be 1 to 32 lower-case letters, digits and `-`, beginning with a letter or digit")]
    Characters,
    #[error("`demo` is the name of the demo model")]
    Reserved,
    #[error("`lodge` is where the gateway itself answers")]
    Own,
}

/// Checks the name of a provider other than the demo model.
pub fn check_name(name: &str) -> Result<(), BadName> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.len() > 32 || name.starts_with('-') || !name.bytes().all(plain) {
        return Err(BadName::Characters);
    }
    match name {
        _ if name == Kind::Demo.as_str() => Err(BadName::Reserved),
        OWN => Err(BadName::Own),
        _ => Ok(()),
    }
}
