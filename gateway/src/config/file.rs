//! The file as it is written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::ConfigError;
use crate::price::Rates;
use crate::provider::Kind;

/// The top-level keys of `lodge.toml` that belong to the gateway.
pub const SECTIONS: [&str; 7] = [
    "gateway",
    "egress",
    "provider",
    "alias",
    "model_policy",
    "user",
    "telemetry",
];

/// The whole file, of which other parts read the rest.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Document {
    pub(super) gateway: Section,
    pub(super) egress: EgressSection,
    pub(super) provider: Vec<ProviderEntry>,
    pub(super) alias: Vec<AliasEntry>,
    pub(super) model_policy: Vec<ModelPolicyEntry>,
    pub(super) user: Vec<UserEntry>,
    pub(super) telemetry: TelemetrySection,
}

/// `[gateway]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Section {
    /// `true`: the demo model is always there; `false`: never. Default: in embedded mode without a provider.
    pub demo: Option<bool>,
    /// Where keys of people are accepted: a loopback address and port, or `off`. Default: in embedded mode any free
    /// port of 127.0.0.1 (`lodgectl gateway address` tells which), else off.
    pub listen: Option<String>,
    /// Where Prometheus gets its counters: a loopback address and port. Default: nowhere (`lodgectl metrics`).
    pub metrics: Option<String>,
    /// Until the provider's headers are there, seconds. Default 120.
    pub header_timeout_seconds: Option<u64>,
    /// Between two chunks of the provider's stream, seconds. Default 600.
    pub idle_timeout_seconds: Option<u64>,
    /// How long requests under way may go on after the gateway was told to stop, seconds. Default 5.
    pub drain_seconds: Option<u64>,
    /// Whether this file is read again by itself when it changes. Default: true.
    pub watch: Option<bool>,
    /// File that holds the key under which keys and tokens are sealed: an absolute path, 32 bytes, mode 0600. Default:
    /// the systemd credential `lodge-seal-key` where there is one, else `gateway/seal.key` of the data directory.
    pub seal_key_file: Option<PathBuf>,
    /// Of a request body, MiB. Default 32.
    pub max_body_mib: Option<usize>,
    /// Connections of people's clients at a time. Default 4096.
    pub max_connections: Option<usize>,
}

/// `[telemetry]`: spans for a collector of `OpenTelemetry`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetrySection {
    /// Where a collector takes OTLP over HTTP, without `/v1/traces`; or `off`. Default: what the variable
    /// `OTEL_EXPORTER_OTLP_ENDPOINT` says, else nothing is sent.
    pub otlp_endpoint: Option<String>,
    /// Headers for the collector. Keys belong into `OTEL_EXPORTER_OTLP_HEADERS`.
    pub otlp_headers: BTreeMap<String, String>,
    /// `true` lets a collector that is not on this machine be plain HTTP.
    pub insecure_http: bool,
    /// Default: what `OTEL_SERVICE_NAME` says, else `lodge-gateway`.
    pub service_name: Option<String>,
}

/// `[egress]`: bounds for every session, and what no session's policy can say by itself.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EgressSection {
    /// Services on this machine or in its private network, as `host:port`, that sessions may reach where their policy
    /// allows host and port too: a registry in the lab, for example. Default: none.
    pub allow_private: Vec<String>,
    /// Connections of one session at a time. Default 96.
    pub max_connections: Option<usize>,
    /// Of one session, both directions together, MiB a second. Default 64.
    pub max_mib_per_second: Option<u64>,
    /// Of one session in all, both directions together, GiB. Default 64.
    pub max_gib: Option<u64>,
    /// A connection on which nothing moves is closed after so many seconds. Default 600.
    pub idle_timeout_seconds: Option<u64>,
}

/// `[[provider]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderEntry {
    /// The first part of the guest's path: lower-case letters, digits and `-`.
    pub name: String,
    pub kind: Kind,
    /// Where the provider is, if not at the kind's usual address.
    pub base_url: Option<String>,
    /// Name of the environment variable that holds the key.
    pub key_env: Option<String>,
    /// File that holds the key; readable by its owner only.
    pub key_file: Option<PathBuf>,
    /// `true` lets a base URL that is not on this machine be plain HTTP.
    #[serde(default)]
    pub insecure_http: bool,
    /// Tools that run at the provider (web search, code containers, remote MCP) and that guests may use, each with the
    /// price of a call in dollars; `fetch_url` stands for images and files that a request names by URL. Default: none.
    #[serde(default)]
    pub provider_tools: BTreeMap<String, f64>,
    /// Further accounts, used beside the key above.
    #[serde(default)]
    pub account: Vec<AccountEntry>,
    /// For `openai_compatible`: whether it serves Responses besides Chat Completions.
    #[serde(default)]
    pub responses: bool,
    /// `true`: requests cost nothing. Default: only where no key is set.
    #[serde(default)]
    pub free: bool,
    /// `true`: a stream of Chat Completions that does not ask for its usage is made to, so that it can be settled exactly; the
    /// client then gets one chunk more, without choices. Default: `false`, its bytes stay as they are.
    #[serde(default)]
    pub add_usage: bool,
    /// What the picker offers; default: a short list for the kind.
    pub models: Option<Vec<ModelEntry>>,
}

/// `[[provider.account]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountEntry {
    /// Lower-case letters, digits and `-`; `default` is the provider's own key.
    pub name: String,
    /// Name of the environment variable that holds the key.
    pub key_env: Option<String>,
    /// File that holds the key; readable by its owner only.
    pub key_file: Option<PathBuf>,
    /// How it is logged into, instead of a key.
    pub oauth: Option<OauthEntry>,
}

/// `[provider.account.oauth]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OauthEntry {
    pub client_id: String,
    /// Where the person logs in (authorisation code with PKCE).
    pub authorize_url: Option<String>,
    /// Where the code comes back.
    pub redirect_uri: Option<String>,
    /// Where a device asks for a code (device flow).
    pub device_url: Option<String>,
    pub token_url: String,
    #[serde(default)]
    pub scopes: Vec<String>,
    /// A word for `anthropic-beta` that goes with these tokens.
    pub beta: Option<String>,
}

/// `[[alias]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AliasEntry {
    /// The provider under whose path the alias is asked for.
    pub provider: String,
    /// The model a client names.
    pub name: String,
    /// What it stands for, as `provider/model`, in the order in which it is tried.
    pub targets: Vec<String>,
}

/// `[[model_policy]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelPolicyEntry {
    /// Which providers, `*` for any text. Default: all.
    pub provider: Option<String>,
    /// Which models, `*` for any text.
    pub model: String,
    /// Refuses the model, with this reason.
    pub deny: Option<String>,
    /// Sends requests to another model of the same provider.
    pub rewrite: Option<String>,
    /// Fields of the request body, as dotted paths, and the values they are set to.
    #[serde(default)]
    pub set: BTreeMap<String, serde_json::Value>,
}

/// `[[user]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserEntry {
    /// For good: budgets and usage go by it. Letters, digits, `-`, `_`, `.` and `@`, not digits alone.
    pub name: String,
    /// For people.
    #[serde(default)]
    pub title: String,
    /// Whose sessions are this user's. Default: none; then the user has keys only.
    pub uid: Option<u32>,
    #[serde(default)]
    pub team: String,
    /// The organisation.
    #[serde(default)]
    pub org: String,
    /// Requests a minute of all the user's sessions and keys together; 0 or absent: any number.
    #[serde(default)]
    pub rpm: u32,
    /// Tokens a minute; 0 or absent: any number.
    #[serde(default)]
    pub tpm: u32,
    /// Requests at a time; 0 or absent: any number.
    #[serde(default)]
    pub concurrency: u32,
}

/// `[[provider.models]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelEntry {
    /// As the provider names it.
    pub id: String,
    /// For people; default: the id.
    pub name: Option<String>,
    /// Tokens; 0 or absent: unknown.
    #[serde(default)]
    pub context_window: u64,
    /// Tokens; 0 or absent: unknown.
    #[serde(default)]
    pub max_output: u64,
    #[serde(default)]
    pub reasoning: bool,
    #[serde(default)]
    pub images: bool,
    /// `false`: it takes no definitions of tools.
    pub tools: Option<bool>,
    /// Efforts of reasoning, as the model names them, least first.
    #[serde(default)]
    pub efforts: Vec<String>,
    /// Dollars per million tokens; default: the price table's.
    pub price: Option<Rates>,
}

pub(super) fn parse(file: &Path, text: &str) -> Result<Document, ConfigError> {
    toml::from_str(text).map_err(|error| {
        // Not the error's own display: it quotes the line, and the line may hold a key.
        let before = error.span().and_then(|span| text.get(..span.start));
        let line = before.map_or(0, |before| before.matches('\n').count() + 1);
        ConfigError::Syntax {
            file: file.to_owned(),
            line,
            message: without_values(error.message()),
        }
    })
}

/// Some messages quote the value they did not expect.
fn without_values(message: &str) -> String {
    match (message.find('"'), message.rfind('"')) {
        (Some(start), Some(end)) if end > start => {
            format!("{}\"…\"{}", &message[..start], &message[end + 1..])
        }
        _ => message.to_owned(),
    }
}
