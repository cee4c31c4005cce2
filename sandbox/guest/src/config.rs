//! What init is told: through its environment, or by the host of a virtual machine.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use lodge_guest::mux;
use lodge_guest::walls::{self, Walls};

use crate::forwarder::Gateway;
use crate::sys;
use crate::vm::{self, VmError};

/// Port of the gateway on the guest's loopback when [`ENV_PORT`] is absent.
const DEFAULT_PORT: u16 = 8377;
const ENV_PORT: &str = "LODGE_GATEWAY_PORT";
const ENV_SOCKET: &str = "LODGE_GATEWAY_SOCK";
const ENV_EGRESS: &str = "LODGE_EGRESS_PORTS";
/// Set where the launcher leaves it to init to leave the host's network.
const ENV_NETWORK: &str = "LODGE_OWN_NETWORK";

#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) stream: OwnedFd,
    pub(crate) walls: Walls,
    /// Port on 127.0.0.1 and where it leads to.
    pub(crate) gateway: Option<(u16, Gateway)>,
    /// Ports at which connections by name are captured; `None`: there are no names.
    pub(crate) egress: Option<BTreeSet<u16>>,
    /// Whether init makes the network namespace: in a launcher's, which may belong to a user namespace in which init is
    /// nobody, the ports of names would be closed to it.
    pub(crate) own_network: bool,
    /// In a virtual machine: the user and group that init becomes when it needs no privilege any more.
    pub(crate) user: Option<(u32, u32)>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("environment variable {name} is missing or not a valid number")]
    Number { name: &'static str },
    #[error("environment variable {name} is not valid UTF-8")]
    NotUnicode { name: &'static str },
    #[error("environment variable {name} is malformed: {source}")]
    Walls {
        name: &'static str,
        source: serde_json::Error,
    },
    #[error("environment variable {ENV_EGRESS} is no list of ports: {text:?}")]
    Ports { text: String },
    #[error("{ENV_EGRESS} needs {ENV_SOCKET}: connections by name lead to the gateway")]
    NoGateway,
    #[error("landlock and nesting exclude each other: landlock forbids every mount")]
    LandlockNesting,
    #[error("cannot {step}: {source}")]
    Stream { step: &'static str, source: io::Error },
    #[error(transparent)]
    Vm(#[from] VmError),
}

/// Where the variables come from.
type Variables<'a> = &'a dyn Fn(&str) -> Option<OsString>;

impl Config {
    /// Finds the framed stream and reads the configuration; everything else that was inherited is closed.
    pub(crate) fn take() -> Result<Self, ConfigError> {
        let failed = |step| move |source| ConfigError::Stream { step, source };
        let close = |keep| sys::close_others(keep).map_err(failed("close inherited descriptors"));
        let environment = |name: &str| env::var_os(name);
        if let Some(device) = env::var_os(mux::ENV_DEVICE) {
            close(None)?;
            let machine = vm::enter(Path::new(&device))?;
            let variables = |name: &str| {
                let found = machine.env.iter().rev().find(|(known, _)| known == name);
                found.map(|(_, value)| value.into())
            };
            let mut config = Self::read(machine.stream, &variables)?;
            // The only way out of the machine is the stream.
            config.gateway = Some((port(&variables)?, Gateway::Stream));
            config.user = Some((machine.uid, machine.gid));
            return config.checked();
        }
        let stream = if let Some(path) = env::var_os(mux::ENV_SOCKET) {
            close(None)?;
            let stream = UnixStream::connect(path).map_err(failed("connect to the stream's socket"))?;
            OwnedFd::from(stream)
        } else {
            let number: RawFd =
                number(&environment, mux::ENV_FD)?.ok_or(ConfigError::Number { name: mux::ENV_FD })?;
            close(Some(number))?;
            sys::adopt(number).map_err(failed("use the stream"))?
        };
        Self::read(stream, &environment)?.checked()
    }

    fn read(stream: OwnedFd, variables: Variables<'_>) -> Result<Self, ConfigError> {
        let walls = match text(variables, walls::ENV)? {
            None => Walls::default(),
            Some(json) => serde_json::from_str(&json).map_err(|source| ConfigError::Walls {
                name: walls::ENV,
                source,
            })?,
        };
        let port = port(variables)?;
        let gateway = variables(ENV_SOCKET).map(|socket| (port, Gateway::Socket(PathBuf::from(socket))));
        let egress = text(variables, ENV_EGRESS)?
            .map(|list| ports(&list))
            .transpose()?;
        Ok(Self {
            stream,
            walls,
            gateway,
            egress,
            own_network: variables(ENV_NETWORK).is_some(),
            user: None,
        })
    }

    fn checked(self) -> Result<Self, ConfigError> {
        if self.walls.nesting && self.walls.landlock.is_some() {
            return Err(ConfigError::LandlockNesting);
        }
        if self.egress.is_some() && self.gateway.is_none() {
            return Err(ConfigError::NoGateway);
        }
        Ok(self)
    }
}

fn port(variables: Variables<'_>) -> Result<u16, ConfigError> {
    Ok(number(variables, ENV_PORT)?.unwrap_or(DEFAULT_PORT))
}

fn ports(list: &str) -> Result<BTreeSet<u16>, ConfigError> {
    let wrong = || ConfigError::Ports {
        text: list.to_owned(),
    };
    let words = list.split(',').filter(|word| !word.is_empty());
    let port = |word: &str| word.parse().ok().filter(|&port| port != 0).ok_or_else(wrong);
    words.map(port).collect()
}

fn number<T: std::str::FromStr>(
    variables: Variables<'_>,
    name: &'static str,
) -> Result<Option<T>, ConfigError> {
    text(variables, name)?
        .map(|text| text.parse().map_err(|_| ConfigError::Number { name }))
        .transpose()
}

fn text(variables: Variables<'_>, name: &'static str) -> Result<Option<String>, ConfigError> {
    variables(name)
        .map(|value| value.into_string().map_err(|_| ConfigError::NotUnicode { name }))
        .transpose()
}
