//! A provider's block: its address, its keys, its accounts.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::check::{At, ConfigError};
use super::file::{AccountEntry, OauthEntry, ProviderEntry};
use super::{KeySource, SourcedKey};
use crate::asked::ProviderTools;
use crate::oauth;
use crate::provider::{Account, BaseUrl, DEFAULT_ACCOUNT, Kind, Model, ProviderSpec, check_name};
use crate::secret::Secret;

/// Where a code comes back if the configuration does not say: nobody listens there, the person copies it.
const REDIRECT: &str = "http://localhost:1455/callback";
const MAX_KEY_FILE: u64 = 64 << 10;
/// Of one call of a tool, in dollars.
const MAX_PRICE: f64 = 100.0;

pub(super) fn check_demo(at: &At<'_>, entry: &ProviderEntry, demo: Option<bool>) -> Result<(), ConfigError> {
    if entry.name != Kind::Demo.as_str() {
        return Err(at.error("name", "a provider of kind `demo` is named `demo`"));
    }
    if demo == Some(false) {
        return Err(at.error("kind", "contradicts `gateway.demo = false`"));
    }
    let ProviderEntry {
        base_url,
        key_env,
        key_file,
        insecure_http,
        provider_tools,
        account,
        responses,
        add_usage,
        models,
        ..
    } = entry;
    for (key, is_set) in [
        ("base_url", base_url.is_some()),
        ("key_env", key_env.is_some()),
        ("key_file", key_file.is_some()),
        ("insecure_http", *insecure_http),
        ("provider_tools", !provider_tools.is_empty()),
        ("account", !account.is_empty()),
        ("responses", *responses),
        ("add_usage", *add_usage),
        ("models", models.is_some()),
    ] {
        if is_set {
            return Err(at.error(key, "has no meaning for kind `demo`"));
        }
    }
    Ok(())
}

pub(super) fn provider(
    at: &At<'_>,
    entry: ProviderEntry,
    environment: &BTreeMap<String, Zeroizing<String>>,
) -> Result<ProviderSpec, ConfigError> {
    let kind = entry.kind;
    check_name(&entry.name).map_err(|error| at.error("name", error))?;
    let base = match entry.base_url.as_deref().or(kind.default_base()) {
        Some(url) => {
            BaseUrl::parse(kind, url, entry.insecure_http).map_err(|error| at.error("base_url", error))?
        }
        None => return Err(at.error("base_url", format!("is needed for kind `{}`", kind.as_str()))),
    };
    if entry.responses && kind != Kind::OpenaiCompatible {
        return Err(at.error("responses", "is a setting of kind `openai_compatible`"));
    }
    let speaks_chat = matches!(kind, Kind::Openai | Kind::OpenaiCompatible);
    if entry.add_usage && !speaks_chat {
        return Err(at.error("add_usage", "is a setting of kinds that speak Chat Completions"));
    }
    let (source, key) = key(
        at,
        (entry.key_env.as_deref(), entry.key_file.as_deref()),
        environment,
    )?;
    let accounts = accounts(at, &entry.account, environment)?;
    let provider_tools = provider_tools(at, &entry.provider_tools)?;
    let models = match entry.models {
        None => kind.default_models(),
        Some(models) => models.into_iter().map(Model::from).collect(),
    };
    if let Some(model) = models
        .iter()
        .find(|model| model.id.is_empty() || model.id.len() > 200)
    {
        return Err(at.error(
            "models.id",
            format!("`{}` is not between 1 and 200 bytes long", model.id),
        ));
    }
    let is_effort =
        |text: &String| (1..=20).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if let Some(model) = models
        .iter()
        .find(|model| model.efforts.len() > 10 || !model.efforts.iter().all(is_effort))
    {
        return Err(at.error(
            "models.efforts",
            format!(
                "those of `{}` must be at most 10 words of at most 20 letters",
                model.id
            ),
        ));
    }
    Ok(ProviderSpec {
        name: entry.name,
        kind,
        base,
        source,
        key,
        models,
        listed_at: 0,
        provider_tools,
        accounts,
        disabled: Vec::new(),
        prices: BTreeMap::new(),
        responses: entry.responses,
        free: entry.free,
        add_usage: entry.add_usage,
    })
}

fn accounts(
    at: &At<'_>,
    entries: &[AccountEntry],
    environment: &BTreeMap<String, Zeroizing<String>>,
) -> Result<Vec<Account>, ConfigError> {
    let mut accounts: Vec<Account> = Vec::new();
    for entry in entries {
        check_name(&entry.name).map_err(|error| at.error("account.name", error))?;
        let is_taken = accounts.iter().any(|account| account.name == entry.name);
        if is_taken || entry.name == DEFAULT_ACCOUNT {
            return Err(at.error(
                "account.name",
                format!("`{}` is the name of another account", entry.name),
            ));
        }
        let places = (entry.key_env.as_deref(), entry.key_file.as_deref());
        let (_, key) = key(at, places, environment)?;
        let oauth = entry.oauth.as_ref().map(|entry| oauth(at, entry)).transpose()?;
        if key.is_some() == oauth.is_some() {
            return Err(at.error(
                "account",
                "each account needs one of `key_env`, `key_file` and `oauth`",
            ));
        }
        accounts.push(Account {
            name: entry.name.clone(),
            key,
            oauth: oauth.map(Arc::new),
        });
    }
    Ok(accounts)
}

pub(super) fn oauth(at: &At<'_>, entry: &OauthEntry) -> Result<oauth::Spec, ConfigError> {
    if entry.authorize_url.is_none() && entry.device_url.is_none() {
        return Err(at.error("account.oauth", "needs `authorize_url` or `device_url`"));
    }
    let urls = [&entry.authorize_url, &entry.device_url];
    for url in urls.into_iter().flatten().chain([&entry.token_url]) {
        // Tokens go there: the same rule as for a provider's own address.
        let checked = BaseUrl::parse(Kind::Anthropic, url.split('?').next().unwrap_or_default(), false);
        checked.map_err(|error| at.error("account.oauth", format!("a URL {error}")))?;
    }
    Ok(oauth::Spec {
        client_id: entry.client_id.clone(),
        authorize_url: entry.authorize_url.clone(),
        redirect_uri: entry.redirect_uri.clone().unwrap_or_else(|| REDIRECT.to_owned()),
        device_url: entry.device_url.clone(),
        token_url: entry.token_url.clone(),
        scopes: entry.scopes.clone(),
        beta: entry.beta.clone(),
    })
}

fn provider_tools(at: &At<'_>, prices: &BTreeMap<String, f64>) -> Result<ProviderTools, ConfigError> {
    let mut tools = ProviderTools::default();
    for (name, dollars) in prices {
        if name.is_empty() || !(0.0..=MAX_PRICE).contains(dollars) {
            let message = format!("`{name}` needs a price between 0 and {MAX_PRICE} dollars a call");
            return Err(at.error("provider_tools", message));
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // checked above
        tools.0.insert(name.clone(), (dollars * 1e9).round() as u64);
    }
    Ok(tools)
}

fn key(
    at: &At<'_>,
    places: (Option<&str>, Option<&Path>),
    environment: &BTreeMap<String, Zeroizing<String>>,
) -> Result<SourcedKey, ConfigError> {
    match places {
        (None, None) => Ok((KeySource::None, None)),
        (Some(_), Some(_)) => Err(at.error("key_file", "only one of `key_env` and `key_file` can be set")),
        (Some(name), None) => {
            let missing = || at.error("key_env", format!("the environment variable {name} is not set"));
            let value = environment.get(name).ok_or_else(missing)?;
            let key =
                Secret::parse(value).map_err(|error| at.error("key_env", format!("{name}: {error}")))?;
            Ok((KeySource::Environment, Some(key)))
        }
        (None, Some(path)) => {
            let text = read_key_file(path).map_err(|message| at.error("key_file", message))?;
            let key = Secret::parse(&text)
                .map_err(|error| at.error("key_file", format!("{}: {error}", path.display())))?;
            Ok((KeySource::File, Some(key)))
        }
    }
}

fn read_key_file(path: &Path) -> Result<Zeroizing<String>, String> {
    let shown = path.display();
    if !path.is_absolute() {
        return Err(format!("{shown} is not an absolute path"));
    }
    let metadata = std::fs::metadata(path).map_err(|error| format!("{shown}: {error}"))?;
    if !metadata.is_file() || metadata.len() > MAX_KEY_FILE {
        return Err(format!("{shown} is not a file of at most {MAX_KEY_FILE} bytes"));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(format!("{shown} can be read by others; run: chmod 600 {shown}"));
    }
    std::fs::read_to_string(path)
        .map(Zeroizing::new)
        .map_err(|error| format!("{shown}: {error}"))
}
