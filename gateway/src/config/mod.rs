//! The gateway's part of `lodge.toml`: `[gateway]`, `[egress]` and `[[provider]]`.

mod again;
mod check;
mod check_provider;
mod check_users;
mod file;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use zeroize::Zeroizing;

pub use again::Stamp;
pub use check::ConfigError;
pub(crate) use check::{Wrong, alias, entered, entered_login, is_model, policy};
pub use file::{
    AccountEntry, AliasEntry, EgressSection, ModelEntry, ModelPolicyEntry, OauthEntry, ProviderEntry,
    SECTIONS, Section, TelemetrySection, UserEntry,
};

use crate::clock::Clock;
use crate::environment;
use crate::line::Patience;
use crate::provider::{Kind, ProviderSpec};
use crate::routes::Routes;
use crate::seal::SealPlaces;
use crate::secret::Secret;

/// Where a provider's key comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeySource {
    Environment,
    File,
    Sealed,
    None,
}

impl KeySource {
    /// The word the administrative service uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Environment => "environment",
            Self::File => "file",
            Self::Sealed => "sealed",
            Self::None => "none",
        }
    }
}

/// What [`Config::prepare`] needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// The data directory.
    pub data: PathBuf,
    /// The configuration file; a missing one is an empty one.
    pub file: PathBuf,
    /// One person on one machine (`lodge up`): without a provider, the demo model is there.
    pub embedded: bool,
}

impl Options {
    /// The usual places in a data directory, in embedded mode.
    pub fn embedded(data: &Path) -> Self {
        Self {
            data: data.to_owned(),
            file: data.join("config/lodge.toml"),
            embedded: true,
        }
    }
}

/// When the demo provider exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DemoWhen {
    Always,
    Never,
    /// While no other provider can be used.
    WithoutProvider,
}

/// Bounds of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request body.
    pub max_body: usize,
    /// Of people's clients, at a time.
    pub connections: usize,
    /// From the first byte of a request's headers to their end.
    pub head: Duration,
    /// Between two pieces of a request body.
    pub slow: Duration,
    /// For memory for a request body.
    pub room: Duration,
    /// Until the connection to the provider stands.
    pub connect: Duration,
    /// Until the provider's headers are there.
    pub headers: Duration,
    /// Between two chunks of the provider's stream, and between two pieces that a client takes.
    pub idle: Duration,
    /// For requests under way after the gateway was told to stop.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body: 32 << 20,
            connections: 4096,
            head: Duration::from_secs(30),
            slow: Duration::from_mins(1),
            room: Duration::from_secs(30),
            connect: Duration::from_secs(10),
            headers: Duration::from_mins(2),
            idle: Duration::from_mins(10),
            drain: Duration::from_secs(5),
        }
    }
}

impl Limits {
    /// With clients and their connections.
    pub(crate) fn patience(&self) -> Patience {
        Patience {
            head: self.head,
            stalled: self.idle,
        }
    }
}

/// Everything the gateway is started with. Holds keys: `Debug` does not show them.
#[derive(Clone, Debug)]
pub struct Config {
    pub data: PathBuf,
    pub demo: DemoWhen,
    pub limits: Limits,
    /// Bounds of what guests reach besides models, and the operator's exceptions.
    pub egress: crate::egress::Settings,
    pub providers: Vec<ProviderSpec>,
    /// Where keys of people are accepted; none: nowhere.
    pub listen: Option<std::net::SocketAddr>,
    /// Where counters are shown; none: nowhere but on the administrative socket.
    pub metrics: Option<std::net::SocketAddr>,
    /// What aliases stand for, and what is done to requests by model.
    pub routes: Routes,
    /// Whether the file is read again by itself when it changes.
    pub watch: bool,
    /// The people, with the teams and organisations they belong to.
    pub users: Vec<crate::people::UserSpec>,
    /// Where spans are sent; none: nowhere.
    pub telemetry: Option<crate::telemetry::Settings>,
    /// Where the key of what is sealed may be, besides the data directory.
    pub seal: SealPlaces,
    /// The uid whose processes may take leases and administer; the gateway's own in embedded mode.
    pub peer_uid: u32,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where it came from, to be read again.
    source: Arc<Source>,
    /// Which state of the file was read.
    stamp: Option<Stamp>,
}

/// What a configuration is read from. Holds keys.
#[derive(Clone)]
struct Source {
    options: Options,
    environment: BTreeMap<String, Zeroizing<String>>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Source")
    }
}

impl Config {
    /// Makes this process fit to hold keys, then reads the configuration and the keys it names.
    ///
    /// To be called first in the process, before any thread is started: no core dump (also not of what it starts) and no
    /// other process of this uid can read its memory afterwards, new files are private, and the variables that hold
    /// keys are removed from the environment.
    pub fn prepare(options: &Options) -> Result<Self, ConfigError> {
        rustix::process::umask(Mode::from_raw_mode(0o077));
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .map_err(|error| ConfigError::Harden { source: error.into() })?;
        // The hard limit too, so that nothing can raise it again.
        let no_core = Rlimit {
            current: Some(0),
            maximum: Some(0),
        };
        rustix::process::setrlimit(Resource::Core, no_core)
            .map_err(|error| ConfigError::Harden { source: error.into() })?;
        let (stamp, text) = again::read(&options.file)?;
        let document = file::parse(&options.file, &text)?;
        let names: Vec<String> = document
            .provider
            .iter()
            .flat_map(|entry| {
                let accounts = entry.account.iter().map(|account| account.key_env.clone());
                accounts.chain([entry.key_env.clone()])
            })
            .flatten()
            .chain(settings())
            .collect();
        let values = environment::take(&names).map_err(|source| ConfigError::Environment { source })?;
        let environment = names
            .into_iter()
            .zip(values)
            .filter_map(|(name, value)| Some((name, value?)))
            .collect();
        let config = check::config(options, document, &environment)?;
        Ok(config.with_source(options, environment, stamp))
    }

    fn with_source(
        mut self,
        options: &Options,
        environment: BTreeMap<String, Zeroizing<String>>,
        stamp: Option<Stamp>,
    ) -> Self {
        self.stamp = stamp;
        self.source = Arc::new(Source {
            options: options.clone(),
            environment,
        });
        self
    }

    /// The same from text, with these variables as the environment, and without touching the process.
    pub fn parse(
        options: &Options,
        text: &str,
        environment: &BTreeMap<String, Zeroizing<String>>,
    ) -> Result<Self, ConfigError> {
        let stamp = again::stamp(&options.file);
        let config = check::config(options, file::parse(&options.file, text)?, environment)?;
        Ok(config.with_source(options, environment.clone(), stamp))
    }
}

/// Variables that are there and say something of this process besides keys.
fn settings() -> impl Iterator<Item = String> {
    let names = crate::telemetry::VARIABLES
        .into_iter()
        .chain([check::CREDENTIALS]);
    names
        .filter(|name| std::env::var_os(name).is_some())
        .map(str::to_owned)
}

/// A key with where it came from.
pub(crate) type SourcedKey = (KeySource, Option<Secret>);

/// The kinds as the file spells them.
pub(crate) fn kind_names() -> String {
    Kind::ALL.map(Kind::as_str).join(", ")
}
