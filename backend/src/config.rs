//! Configuration of the backend. What cannot be held to is refused.

use crate::auth::hosts::is_host;
use crate::error::Error;
use lodge_proto::sock;
use serde::Deserialize;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// Port of the embedded default.
pub const DEFAULT_PORT: u16 = 8080;

/// Section `[backend]` of `config/lodge.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where the browser's listener is; a loopback address. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// `Host` values that are served besides the listener's own, as `name` or `name:port`.
    pub allowed_hosts: Vec<String>,
    /// Reserved: refused when set.
    pub trusted_proxy: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT));
        Self {
            listen,
            allowed_hosts: Vec::new(),
            trusted_proxy: None,
        }
    }
}

/// The uids that must be behind the sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peers {
    pub runner: u32,
    pub gateway: u32,
    pub history: u32,
    /// Who may use the control socket.
    pub control: u32,
}

impl Peers {
    /// All parts run as the user of this process.
    pub fn own() -> Self {
        let uid = sock::own_uid();
        Self {
            runner: uid,
            gateway: uid,
            history: uid,
            control: uid,
        }
    }
}

/// All that [`serve`](crate::serve) needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// The data directory.
    pub data: PathBuf,
    pub settings: Settings,
    pub peers: Peers,
}

impl Config {
    /// The embedded default: every part runs as this user.
    pub fn embedded(data: impl Into<PathBuf>, settings: Settings) -> Self {
        Self {
            data: data.into(),
            settings,
            peers: Peers::own(),
        }
    }

    /// Refuses what cannot be held to.
    pub fn check(&self) -> Result<(), Error> {
        let settings = &self.settings;
        if let Some(value) = &settings.trusted_proxy {
            return Err(Error::TrustedProxy { value: value.clone() });
        }
        if !settings.listen.ip().is_loopback() {
            return Err(Error::NotLoopback {
                listen: settings.listen,
            });
        }
        match settings.allowed_hosts.iter().find(|host| !is_host(host)) {
            Some(host) => Err(Error::AllowedHost { value: host.clone() }),
            None => Ok(()),
        }
    }

    fn run(&self, name: &str) -> PathBuf {
        self.data.join("run").join(name)
    }

    pub(crate) fn runner_socket(&self) -> PathBuf {
        self.run("runner.sock")
    }

    pub(crate) fn history_socket(&self) -> PathBuf {
        self.run("history.sock")
    }

    pub(crate) fn gateway_socket(&self) -> PathBuf {
        self.run("gateway-admin.sock")
    }

    /// The control socket: `POST /login-link` in HTTP over Unix.
    pub fn control_socket(&self) -> PathBuf {
        control_socket(&self.data)
    }

    pub(crate) fn accounts_file(&self) -> PathBuf {
        self.data.join("backend").join("accounts.db")
    }
}

/// The control socket of the backend that runs on `data`.
pub fn control_socket(data: &Path) -> PathBuf {
    data.join("run").join("backend-control.sock")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl FnOnce(&mut Settings)) -> Result<(), Error> {
        let mut settings = Settings::default();
        change(&mut settings);
        Config::embedded("data", settings).check()
    }

    #[test]
    fn only_the_loopback_is_listened_on_without_tls() {
        check(|_| {}).unwrap();
        check(|settings| settings.listen = "[::1]:0".parse().unwrap()).unwrap();
        for listen in ["0.0.0.0:8380", "[::]:8380", "192.168.1.2:8380"] {
            let error = check(|settings| settings.listen = listen.parse().unwrap()).unwrap_err();
            assert!(matches!(error, Error::NotLoopback { .. }));
            assert!(error.to_string().contains("ssh -L"), "says what to do: {error}");
        }
    }

    #[test]
    fn what_is_not_held_to_is_refused() {
        let error = check(|settings| settings.trusted_proxy = Some("10.0.0.1".into())).unwrap_err();
        assert!(error.to_string().contains("trusted_proxy"), "{error}");
        let error = check(|settings| settings.allowed_hosts = vec!["*".into()]).unwrap_err();
        assert!(error.to_string().contains("allowed_hosts"), "{error}");
        serde_json::from_str::<Settings>(r#"{"lisen":"127.0.0.1:1"}"#).unwrap_err();
    }
}
