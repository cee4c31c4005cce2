//! Which package registry the host's npm is set to use, and what npm needs to know of it inside a sandbox.

use super::InstallError;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Largest settings file, or certificate file, that is read.
const MAX_FILE: u64 = 1024 * 1024;
/// Where a certificate file of the host is inside.
const GUEST_CERTIFICATES: &str = "/home/guest/ca.pem";

/// The one place an installation may reach.
#[derive(Clone, PartialEq, Eq)]
pub struct Registry {
    /// A name in lower case, or an address without brackets.
    pub host: String,
    pub port: u16,
    /// With what stands before the host, which may be a password.
    url: String,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Registry({}:{})", self.host, self.port)
    }
}

impl Registry {
    /// The registry of a URL.
    pub fn parse(url: &str) -> Option<Self> {
        let url = url.trim();
        let (scheme, rest) = url.split_once("://")?;
        let default = match scheme.to_ascii_lowercase().as_str() {
            "https" => 443,
            "http" => 80,
            _ => return None,
        };
        let authority = rest.split(['/', '?', '#']).next()?;
        let host = authority.rsplit('@').next()?;
        let (host, port) = match host.strip_prefix('[') {
            Some(rest) => rest.split_once(']')?,
            None => host.find(':').map_or((host, ""), |colon| host.split_at(colon)),
        };
        let port = match port.strip_prefix(':') {
            Some(port) => port.parse().ok()?,
            None if port.is_empty() => default,
            None => return None,
        };
        let is_plain = url.chars().all(|c| c.is_ascii_graphic());
        (!host.is_empty() && port != 0 && is_plain).then(|| Self {
            host: host.to_ascii_lowercase(),
            port,
            url: url.to_owned(),
        })
    }

    /// The one that this npm would use.
    pub(super) fn of_host(program: &Path, path: &OsStr) -> Result<Self, InstallError> {
        let output = Command::new(program)
            .args(["config", "get", "registry"])
            .env("PATH", path)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            // No settings of a project that happens to lie here.
            .current_dir("/")
            .output()
            .map_err(|source| InstallError::NpmStart {
                program: program.to_owned(),
                source,
            })?;
        let said = String::from_utf8_lossy(&output.stdout);
        let url = said.lines().rev().find(|line| line.contains("://"));
        url.and_then(Self::parse).ok_or(InstallError::NoRegistry)
    }

    /// Settings for npm inside: the registry, its login and its certificates, and nothing else of the host's.
    pub(super) fn settings(&self) -> Settings {
        let host = std::env::var_os("NPM_CONFIG_USERCONFIG")
            .map(PathBuf::from)
            .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".npmrc")))
            .and_then(|file| read(&file))
            .unwrap_or_default();
        let extra = std::env::var_os("NODE_EXTRA_CA_CERTS").map(PathBuf::from);
        self.settings_from(&host, extra.as_deref(), |name| std::env::var(name).ok())
    }

    fn settings_from(
        &self,
        host: &str,
        extra: Option<&Path>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Settings {
        let mut settings = Settings {
            npmrc: format!("registry={}\n", self.url),
            certificates: extra.and_then(read),
        };
        for line in host.lines().map(str::trim) {
            let Some((key, value)) = line.split_once('=') else {
                continue;
            };
            let (key, value) = (key.trim(), expand(value.trim(), &variable));
            if key == "strict-ssl" || self.is_login(key) {
                let _infallible = writeln!(settings.npmrc, "{key}={value}");
            } else if key == "cafile" && settings.certificates.is_none() {
                settings.certificates = read(Path::new(value.trim_matches('"')));
            }
        }
        if settings.certificates.is_some() {
            let _infallible = writeln!(settings.npmrc, "cafile={GUEST_CERTIFICATES}");
        }
        settings
    }

    /// `//host:port/…:_authToken` and the like, for this host.
    fn is_login(&self, key: &str) -> bool {
        let authority = key.strip_prefix("//").and_then(|rest| rest.split('/').next());
        authority.is_some_and(|authority| {
            let of_port = format!("{}:{}", self.host, self.port);
            let authority = authority.to_ascii_lowercase();
            authority == self.host || authority == of_port
        })
    }
}

/// Files for npm's home.
pub(super) struct Settings {
    /// May hold a login: for a private file only.
    pub(super) npmrc: String,
    pub(super) certificates: Option<String>,
}

fn read(path: &Path) -> Option<String> {
    let is_small = std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() <= MAX_FILE);
    is_small.then(|| std::fs::read_to_string(path).ok()).flatten()
}

/// `${NAME}` as npm reads it in its settings.
fn expand(value: &str, variable: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, after)) = after.split_once('}') else {
            break;
        };
        out.push_str(before);
        out.push_str(&variable(name).unwrap_or_default());
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_give_host_and_port() {
        for (url, wanted) in [
            (
                "https://Packages.example.org/",
                Some(("packages.example.org", 443)),
            ),
            ("http://lab.example:4873/npm/", Some(("lab.example", 4873))),
            ("https://user:pw@lab.example", Some(("lab.example", 443))),
            ("http://127.0.0.1:4873", Some(("127.0.0.1", 4873))),
            ("http://[::1]:4873/", Some(("::1", 4873))),
            ("https://[::1]", Some(("::1", 443))),
            ("file:///srv", None),
            ("https://", None),
            ("https://lab.example:0", None),
            ("https://lab.example:x", None),
            ("undefined", None),
        ] {
            let found = Registry::parse(url);
            let found = found
                .as_ref()
                .map(|registry| (registry.host.as_str(), registry.port));
            assert_eq!(found, wanted, "{url}");
        }
        let secret = Registry::parse("https://user:pw@lab.example").unwrap();
        assert!(!format!("{secret:?}").contains("pw"));
    }

    #[test]
    fn only_what_is_the_registrys_goes_inside() {
        let registry = Registry::parse("https://lab.example:8443/npm/").unwrap();
        let host = "//lab.example:8443/npm/:_authToken = ${TOKEN}\n//other.example/:_authToken=other\n\
            email=a@b\nregistry=https://elsewhere.example\n; comment=1\nstrict-ssl=false\nproxy=http://p.example\n";
        let variable = |name: &str| (name == "TOKEN").then(|| "t0ken".to_owned());
        let settings = registry.settings_from(host, None, variable);
        assert_eq!(
            settings.npmrc,
            "registry=https://lab.example:8443/npm/\n//lab.example:8443/npm/:_authToken=t0ken\nstrict-ssl=false\n"
        );
        assert!(settings.certificates.is_none());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "PEM").unwrap();
        let settings = registry.settings_from("", Some(file.path()), variable);
        assert!(settings.npmrc.ends_with("cafile=/home/guest/ca.pem\n"));
        assert_eq!(settings.certificates.as_deref(), Some("PEM"));
    }
}
