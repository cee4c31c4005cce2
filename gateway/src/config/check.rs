//! From what is written to what is meant; whatever cannot be meant is refused by file and key.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use super::file::{Document, EgressSection, ProviderEntry, Section};
use super::{Config, DemoWhen, KeySource, Limits, Options, SourcedKey};
use crate::egress::Settings;
use crate::egress::name::Host;
use crate::environment::EnvironmentError;
use crate::provider::{BaseUrl, Kind, Model, ProviderSpec, check_name};
use crate::secret::Secret;

/// Largest body limit that may be configured, MiB.
const MAX_BODY_MIB: usize = 256;
/// Longest timeout that may be configured, seconds.
const MAX_TIMEOUT: u64 = 3600;
/// Most connections of a session to other hosts: the rest of what it may have is kept for models.
const MAX_EGRESS_CONNECTIONS: u64 = 112;
const MAX_KEY_FILE: u64 = 64 << 10;

/// A configuration that cannot be meant, or a process that cannot be made safe.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("making the gateway's memory unreadable for other processes")]
    Harden { source: std::io::Error },
    #[error("taking keys from the environment")]
    Environment { source: EnvironmentError },
    #[error("reading {}", file.display())]
    Read { file: PathBuf, source: std::io::Error },
    #[error("{}, line {line}: {message}", file.display())]
    Syntax {
        file: PathBuf,
        line: usize,
        message: String,
    },
    #[error("{}: {key}: {message}", file.display())]
    Value {
        file: PathBuf,
        key: String,
        message: String,
    },
}

/// Where in the file we are.
struct At<'a> {
    file: &'a Path,
    provider: Option<(usize, &'a str)>,
}

impl At<'_> {
    fn error(&self, key: &str, message: impl std::fmt::Display) -> ConfigError {
        let key = match self.provider {
            None => format!("gateway.{key}"),
            Some((index, name)) => format!("provider[{index}] `{name}`: {key}"),
        };
        ConfigError::Value {
            file: self.file.to_owned(),
            key,
            message: message.to_string(),
        }
    }
}

pub(super) fn config(
    options: &Options,
    document: Document,
    environment: &BTreeMap<String, Zeroizing<String>>,
) -> Result<Config, ConfigError> {
    let at = At {
        file: &options.file,
        provider: None,
    };
    let limits = limits(&at, &document.gateway)?;
    let egress = egress(&options.file, &document.egress)?;
    let listen = listen(&at, document.gateway.listen.as_deref(), options.embedded)?;
    let mut providers: Vec<ProviderSpec> = Vec::new();
    let mut demo = document.gateway.demo;
    for (index, entry) in document.provider.into_iter().enumerate() {
        let name = entry.name.clone();
        let at = At {
            file: &options.file,
            provider: Some((index, &name)),
        };
        if providers.iter().any(|other| other.name == name) {
            return Err(at.error("name", "another provider has this name"));
        }
        if entry.kind == Kind::Demo {
            check_demo(&at, &entry, demo)?;
            demo = Some(true);
            continue;
        }
        providers.push(provider(&at, entry, environment)?);
    }
    let demo = match demo {
        Some(true) => DemoWhen::Always,
        None if options.embedded => DemoWhen::WithoutProvider,
        _ => DemoWhen::Never,
    };
    Ok(Config {
        data: options.data.clone(),
        demo,
        limits,
        egress,
        providers,
        listen,
        peer_uid: lodge_proto::sock::own_uid(),
    })
}

fn listen(at: &At<'_>, written: Option<&str>, embedded: bool) -> Result<Option<SocketAddr>, ConfigError> {
    let address: SocketAddr = match written {
        None if embedded => return Ok(Some(([127, 0, 0, 1], 0).into())),
        None | Some("off") => return Ok(None),
        Some(text) => text.parse().map_err(|_| {
            at.error(
                "listen",
                "must be an address and a port, such as `127.0.0.1:8790`, or `off`",
            )
        })?,
    };
    if address.ip().is_loopback() {
        Ok(Some(address))
    } else {
        // Keys would cross the network in clear.
        Err(at.error(
            "listen",
            "must be a loopback address; put a server with TLS in front of it",
        ))
    }
}

fn limits(at: &At<'_>, section: &Section) -> Result<Limits, ConfigError> {
    let mut limits = Limits::default();
    let seconds = |key, value: Option<u64>, default| match value {
        None => Ok(default),
        Some(seconds @ 1..=MAX_TIMEOUT) => Ok(Duration::from_secs(seconds)),
        Some(_) => Err(at.error(key, format!("must be between 1 and {MAX_TIMEOUT}"))),
    };
    limits.headers = seconds(
        "header_timeout_seconds",
        section.header_timeout_seconds,
        limits.headers,
    )?;
    limits.idle = seconds("idle_timeout_seconds", section.idle_timeout_seconds, limits.idle)?;
    match section.max_body_mib {
        None => {}
        Some(mib @ 1..=MAX_BODY_MIB) => limits.max_body = mib << 20,
        Some(_) => return Err(at.error("max_body_mib", format!("must be between 1 and {MAX_BODY_MIB}"))),
    }
    Ok(limits)
}

fn egress(file: &Path, section: &EgressSection) -> Result<Settings, ConfigError> {
    let error = |key: &str, message: String| ConfigError::Value {
        file: file.to_owned(),
        key: format!("egress.{key}"),
        message,
    };
    let between = |key, value: Option<u64>, default: u64, max: u64| match value {
        None => Ok(default),
        Some(value) if (1..=max).contains(&value) => Ok(value),
        Some(_) => Err(error(key, format!("must be between 1 and {max}"))),
    };
    let mut settings = Settings::default();
    for text in &section.allow_private {
        let place = Host::parse_with_port(text.as_bytes())
            .map_err(|reason| error("allow_private", format!("`{text}`: {reason}; write `host:port`")))?;
        settings.allow_private.push(place);
    }
    let connections = section.max_connections.map(|count| count as u64);
    let default = settings.connections as u64;
    let connections = between("max_connections", connections, default, MAX_EGRESS_CONNECTIONS)?;
    settings.connections = usize::try_from(connections).unwrap_or(settings.connections);
    let rate = between(
        "max_mib_per_second",
        section.max_mib_per_second,
        settings.rate >> 20,
        1 << 20,
    )?;
    settings.rate = rate << 20;
    settings.bytes = between("max_gib", section.max_gib, settings.bytes >> 30, 1 << 20)? << 30;
    let idle = section.idle_timeout_seconds;
    let idle = between("idle_timeout_seconds", idle, settings.idle.as_secs(), MAX_TIMEOUT)?;
    settings.idle = Duration::from_secs(idle);
    Ok(settings)
}

fn check_demo(at: &At<'_>, entry: &ProviderEntry, demo: Option<bool>) -> Result<(), ConfigError> {
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
        responses,
        models,
        ..
    } = entry;
    for (key, is_set) in [
        ("base_url", base_url.is_some()),
        ("key_env", key_env.is_some()),
        ("key_file", key_file.is_some()),
        ("insecure_http", *insecure_http),
        ("provider_tools", *provider_tools),
        ("responses", *responses),
        ("models", models.is_some()),
    ] {
        if is_set {
            return Err(at.error(key, "has no meaning for kind `demo`"));
        }
    }
    Ok(())
}

fn provider(
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
    let (source, key) = key(at, &entry, environment)?;
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
    Ok(ProviderSpec {
        name: entry.name,
        kind,
        base,
        source,
        key,
        models,
        provider_tools: entry.provider_tools,
        responses: entry.responses,
        free: entry.free,
    })
}

fn key(
    at: &At<'_>,
    entry: &ProviderEntry,
    environment: &BTreeMap<String, Zeroizing<String>>,
) -> Result<SourcedKey, ConfigError> {
    match (&entry.key_env, &entry.key_file) {
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
