//! From what is written to what is meant; whatever cannot be meant is refused by file and key.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::check_provider::{check_demo, oauth as login, provider};
use super::file::{
    AliasEntry, Document, EgressSection, ModelPolicyEntry, OauthEntry, ProviderEntry, Section,
    TelemetrySection,
};
use super::{Config, DemoWhen, Limits, Options, Source};
use crate::clock::SystemClock;
use crate::egress::Settings;
use crate::egress::name::Host;
use crate::environment::EnvironmentError;
use crate::oauth;
use crate::provider::{Kind, ProviderSpec};
use crate::routes::{Alias, ModelPolicy, Routes, Target};
use crate::seal::{CREDENTIAL, SealPlaces};
use crate::telemetry;

/// Largest body limit that may be configured, MiB.
const MAX_BODY_MIB: usize = 256;
/// Each has a descriptor, and one more to a provider.
const MAX_CONNECTIONS: usize = 30_000;
/// Longest timeout that may be configured, seconds.
const MAX_TIMEOUT: u64 = 3600;
/// Most connections of a session to other hosts: the rest of what it may have is kept for models.
const MAX_EGRESS_CONNECTIONS: u64 = 112;

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

/// The variable in which systemd says where the credentials of a service are.
pub(super) const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// Where in the file we are.
pub(super) struct At<'a> {
    pub(super) file: &'a Path,
    pub(super) place: Place<'a>,
}

/// What the keys are of.
pub(super) enum Place<'a> {
    Gateway,
    Provider(usize, &'a str),
    /// Not of the file: what an administrator sets up.
    Entered,
}

impl At<'_> {
    pub(super) fn error(&self, key: &str, message: impl std::fmt::Display) -> ConfigError {
        let key = match self.place {
            Place::Gateway => format!("gateway.{key}"),
            Place::Provider(index, name) => format!("provider[{index}] `{name}`: {key}"),
            Place::Entered => key.to_owned(),
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
        place: Place::Gateway,
    };
    let limits = limits(&at, &document.gateway)?;
    let egress = egress(&options.file, &document.egress)?;
    let listen = listen(&at, document.gateway.listen.as_deref(), options.embedded)?;
    let metrics = metrics(&at, document.gateway.metrics.as_deref())?;
    let seal = seal(&at, document.gateway.seal_key_file, environment)?;
    let telemetry = telemetry(&options.file, &document.telemetry, environment)?;
    let routes = routes(&options.file, document.alias, document.model_policy)?;
    let users = super::check_users::users(&options.file, document.user)?;
    let mut providers: Vec<ProviderSpec> = Vec::new();
    let mut demo = document.gateway.demo;
    for (index, entry) in document.provider.into_iter().enumerate() {
        let name = entry.name.clone();
        let at = At {
            file: &options.file,
            place: Place::Provider(index, &name),
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
        metrics,
        routes,
        users,
        watch: document.gateway.watch.unwrap_or(true),
        telemetry,
        seal,
        peer_uid: lodge_proto::sock::own_uid(),
        clock: Arc::new(SystemClock),
        source: std::sync::Arc::new(Source {
            options: options.clone(),
            environment: BTreeMap::new(),
        }),
        stamp: None,
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

fn metrics(at: &At<'_>, written: Option<&str>) -> Result<Option<SocketAddr>, ConfigError> {
    let Some(text) = written.filter(|text| *text != "off") else {
        return Ok(None);
    };
    let address = text.parse().ok();
    let address = address.filter(|address: &SocketAddr| address.ip().is_loopback());
    let error = || {
        at.error(
            "metrics",
            "must be a loopback address and a port, such as `127.0.0.1:9464`, or `off`",
        )
    };
    address.map(Some).ok_or_else(error)
}

fn telemetry(
    file: &Path,
    section: &TelemetrySection,
    environment: &BTreeMap<String, Zeroizing<String>>,
) -> Result<Option<telemetry::Settings>, ConfigError> {
    telemetry::Settings::read(section, environment).map_err(|(key, message)| {
        let is_variable = key.starts_with("OTEL");
        ConfigError::Value {
            file: file.to_owned(),
            key: if is_variable {
                format!("the variable {key}")
            } else {
                format!("telemetry.{key}")
            },
            message,
        }
    })
}

fn seal(
    at: &At<'_>,
    file: Option<PathBuf>,
    environment: &BTreeMap<String, Zeroizing<String>>,
) -> Result<SealPlaces, ConfigError> {
    if file.as_ref().is_some_and(|path| !path.is_absolute()) {
        return Err(at.error("seal_key_file", "must be an absolute path"));
    }
    let credentials = environment.get(CREDENTIALS);
    Ok(SealPlaces {
        credential: credentials.map(|directory| Path::new(directory.as_str()).join(CREDENTIAL)),
        file,
    })
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
    limits.drain = seconds("drain_seconds", section.drain_seconds, limits.drain)?;
    match section.max_body_mib {
        None => {}
        Some(mib @ 1..=MAX_BODY_MIB) => limits.max_body = mib << 20,
        Some(_) => return Err(at.error("max_body_mib", format!("must be between 1 and {MAX_BODY_MIB}"))),
    }
    match section.max_connections {
        None => {}
        Some(count @ 1..=MAX_CONNECTIONS) => limits.connections = count,
        Some(_) => {
            let between = format!("must be between 1 and {MAX_CONNECTIONS}");
            return Err(at.error("max_connections", between));
        }
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

fn routes(
    file: &Path,
    aliases: Vec<AliasEntry>,
    policies: Vec<ModelPolicyEntry>,
) -> Result<Routes, ConfigError> {
    let value = |key: String, message: String| ConfigError::Value {
        file: file.to_owned(),
        key,
        message,
    };
    let mut routes = Routes::default();
    for (index, entry) in aliases.into_iter().enumerate() {
        let name = entry.name.clone();
        let error = |(key, message): Wrong| value(format!("alias[{index}] `{name}`: {key}"), message);
        let alias = alias(entry).map_err(error)?;
        let is_taken = |other: &Alias| other.provider == alias.provider && other.name == alias.name;
        if routes.aliases.iter().any(is_taken) {
            let taken = "another alias of this provider has this name";
            return Err(error(("name", taken.to_owned())));
        }
        routes.aliases.push(alias);
    }
    for (index, entry) in policies.into_iter().enumerate() {
        let error = |(key, message): Wrong| value(format!("model_policy[{index}]: {key}"), message);
        routes.policies.push(policy(entry).map_err(error)?);
    }
    Ok(routes)
}

/// A key and what is wrong with its value.
pub(crate) type Wrong = (&'static str, String);

/// What an alias means.
pub(crate) fn alias(entry: AliasEntry) -> Result<Alias, Wrong> {
    if !is_model(&entry.name) {
        return Err(("name", NOT_A_MODEL.to_owned()));
    }
    if !(1..=8).contains(&entry.targets.len()) {
        return Err((
            "targets",
            "must be 1 to 8 of the form `provider/model`".to_owned(),
        ));
    }
    let targets = entry.targets.iter().map(|text| Target::parse(text));
    let targets = targets.collect::<Option<_>>();
    Ok(Alias {
        provider: entry.provider,
        name: entry.name,
        targets: targets
            .ok_or_else(|| ("targets", "each must be of the form `provider/model`".to_owned()))?,
    })
}

/// What a policy means.
pub(crate) fn policy(entry: ModelPolicyEntry) -> Result<ModelPolicy, Wrong> {
    if entry.deny.is_none() && entry.rewrite.is_none() && entry.set.is_empty() {
        let nothing = "the policy does nothing: give `deny`, `rewrite` or `set`";
        return Err(("model", nothing.to_owned()));
    }
    let mut set = Vec::new();
    for (path, value) in entry.set {
        let path: Vec<String> = path.split('.').map(str::to_owned).collect();
        if path.iter().any(String::is_empty) || path.first().is_some_and(|name| name == "model") {
            let path = "each key is a dotted path, and not `model`: use `rewrite`";
            return Err(("set", path.to_owned()));
        }
        set.push((path, value.to_string()));
    }
    Ok(ModelPolicy {
        provider: entry.provider.unwrap_or_else(|| "*".to_owned()),
        model: entry.model,
        deny: entry.deny,
        rewrite: entry.rewrite,
        set,
    })
}

const NOT_A_MODEL: &str = "must be 1 to 200 bytes long, without control characters";

/// Whether a text can be a model's name.
pub(crate) fn is_model(name: &str) -> bool {
    (1..=200).contains(&name.len()) && !name.contains(char::is_control)
}

/// The block of a provider that is not in the file, checked as one that is.
pub(crate) fn entered(entry: ProviderEntry) -> Result<ProviderSpec, ConfigError> {
    let at = At {
        file: Path::new(""),
        place: Place::Entered,
    };
    provider(&at, entry, &BTreeMap::new())
}

/// The login of an account that is not in the file.
pub(crate) fn entered_login(entry: &OauthEntry) -> Result<oauth::Spec, ConfigError> {
    let at = At {
        file: Path::new(""),
        place: Place::Entered,
    };
    login(&at, entry)
}
