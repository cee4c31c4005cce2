//! What init is told through its environment.

use std::env::{self, VarError};
use std::os::fd::RawFd;
use std::path::PathBuf;

use lodge_guest::mux;
use lodge_guest::walls::{self, Walls};

/// Port of the gateway on the guest's loopback when [`ENV_PORT`] is absent.
const DEFAULT_PORT: u16 = 8377;
const ENV_PORT: &str = "LODGE_GATEWAY_PORT";
const ENV_SOCKET: &str = "LODGE_GATEWAY_SOCK";

#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) mux: RawFd,
    pub(crate) walls: Walls,
    /// Port on 127.0.0.1 and the socket it leads to.
    pub(crate) gateway: Option<(u16, PathBuf)>,
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
    #[error("landlock and nesting exclude each other: landlock forbids every mount")]
    LandlockNesting,
}

impl Config {
    pub(crate) fn from_env() -> Result<Self, ConfigError> {
        let mux = number(mux::ENV_FD)?.ok_or(ConfigError::Number { name: mux::ENV_FD })?;
        let walls = match text(walls::ENV)? {
            None => Walls::default(),
            Some(json) => serde_json::from_str(&json).map_err(|source| ConfigError::Walls {
                name: walls::ENV,
                source,
            })?,
        };
        if walls.nesting && walls.landlock.is_some() {
            return Err(ConfigError::LandlockNesting);
        }
        let port = number(ENV_PORT)?.unwrap_or(DEFAULT_PORT);
        let gateway = env::var_os(ENV_SOCKET).map(|socket| (port, PathBuf::from(socket)));
        Ok(Self { mux, walls, gateway })
    }
}

fn number<T: std::str::FromStr>(name: &'static str) -> Result<Option<T>, ConfigError> {
    text(name)?
        .map(|text| text.parse().map_err(|_| ConfigError::Number { name }))
        .transpose()
}

fn text(name: &'static str) -> Result<Option<String>, ConfigError> {
    match env::var(name) {
        Ok(text) => Ok(Some(text)),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => Err(ConfigError::NotUnicode { name }),
    }
}
