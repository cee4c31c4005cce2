//! Lock files of npm (version 3): which packages a tree consists of, and their hashes.

use super::InstallError;
use base64::Engine as _;
use serde::Deserialize;
use std::collections::BTreeMap;

/// A `package-lock.json` with the `package.json` it belongs to.
#[derive(Debug, Clone)]
pub(super) struct LockFile {
    pub(super) package_json: String,
    pub(super) text: String,
    packages: Vec<LockedPackage>,
}

/// One package of a lock file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LockedPackage {
    /// Where it goes, `node_modules/a/node_modules/b` for example.
    pub(super) path: String,
    pub(super) version: String,
    pub(super) sha512: [u8; 64],
    optional: bool,
    os: Vec<String>,
    cpu: Vec<String>,
    libc: Vec<String>,
}

#[derive(Deserialize)]
struct Document {
    #[serde(rename = "lockfileVersion")]
    version: u32,
    packages: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    version: Option<String>,
    integrity: Option<String>,
    resolved: Option<String>,
    #[serde(default)]
    optional: bool,
    #[serde(default)]
    link: bool,
    #[serde(default)]
    in_bundle: bool,
    #[serde(default)]
    os: Names,
    #[serde(default)]
    cpu: Names,
    #[serde(default)]
    libc: Names,
}

/// npm writes a list of one as a plain string.
#[derive(Deserialize)]
#[serde(untagged)]
enum Names {
    One(String),
    Many(Vec<String>),
}

impl Default for Names {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Names {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(name) => vec![name],
            Self::Many(names) => names,
        }
    }
}

impl LockFile {
    pub(super) fn parse(name: &str, package_json: &str, text: &str) -> Result<Self, InstallError> {
        let wrong = |reason: String| InstallError::LockFile {
            name: name.to_owned(),
            reason,
        };
        let document: Document = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
        if document.version != 3 {
            return Err(wrong(format!("version {} is not 3", document.version)));
        }
        let mut packages = Vec::new();
        for (path, entry) in document.packages {
            // The empty path is the project itself; a bundled package comes inside of its parent's archive.
            if path.is_empty() || entry.in_bundle {
                continue;
            }
            packages.push(entry.into_package(path).map_err(wrong)?);
        }
        Ok(Self {
            package_json: package_json.to_owned(),
            text: text.to_owned(),
            packages,
        })
    }

    /// The packages that belong on this machine, parents before what is nested in them.
    pub(super) fn packages_here(&self) -> Vec<&LockedPackage> {
        self.packages
            .iter()
            .filter(|package| !package.optional || package.fits_here())
            .collect()
    }
}

impl Entry {
    fn into_package(self, path: String) -> Result<LockedPackage, String> {
        if !is_safe_path(&path) {
            return Err(format!("`{path}` is no path below node_modules"));
        }
        if self.link {
            return Err(format!("{path}: links are not supported"));
        }
        if self.resolved.is_some() {
            return Err(format!(
                "{path}: names a registry; write it with omit-lockfile-registry-resolved"
            ));
        }
        let integrity = self.integrity.ok_or_else(|| format!("{path}: has no hash"))?;
        Ok(LockedPackage {
            version: self.version.ok_or_else(|| format!("{path}: has no version"))?,
            sha512: sha512_of(&integrity).ok_or_else(|| format!("{path}: has no SHA-512 hash"))?,
            optional: self.optional,
            os: self.os.into_vec(),
            cpu: self.cpu.into_vec(),
            libc: self.libc.into_vec(),
            path,
        })
    }
}

impl LockedPackage {
    /// Name of the package, with its scope.
    pub(super) fn name(&self) -> &str {
        self.path
            .rsplit_once("node_modules/")
            .map_or(self.path.as_str(), |(_, name)| name)
    }

    fn fits_here(&self) -> bool {
        let cpu = match std::env::consts::ARCH {
            "x86_64" => "x64",
            "aarch64" => "arm64",
            other => other,
        };
        allows(&self.os, std::env::consts::OS) && allows(&self.cpu, cpu) && allows(&self.libc, "glibc")
    }
}

/// npm's rule: `!name` forbids, and where any name stands without `!`, ours must be among them.
fn allows(names: &[String], ours: &str) -> bool {
    let forbidden = names.iter().any(|name| name.strip_prefix('!') == Some(ours));
    let mut positive = names.iter().filter(|name| !name.starts_with('!')).peekable();
    !forbidden && (positive.peek().is_none() || positive.any(|name| name == ours))
}

fn is_safe_path(path: &str) -> bool {
    path.starts_with("node_modules/")
        && path
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..")
}

fn sha512_of(integrity: &str) -> Option<[u8; 64]> {
    let encoded = integrity
        .split_whitespace()
        .find_map(|hash| hash.strip_prefix("sha512-"))?;
    base64::engine::general_purpose::STANDARD
        .decode(encoded)
        .ok()?
        .try_into()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(entry: &str) -> Result<LockFile, InstallError> {
        let text = format!(r#"{{"lockfileVersion":3,"packages":{{"":{{}},{entry}}}}}"#);
        LockFile::parse("x", "{}", &text)
    }

    fn hash() -> String {
        format!(
            "sha512-{}",
            base64::engine::general_purpose::STANDARD.encode([7u8; 64])
        )
    }

    #[test]
    fn a_package_is_read_and_other_platforms_are_left_out() {
        let h = hash();
        let lock = parse(&format!(
            r#""node_modules/@s/a/node_modules/b":{{"version":"1.0.0","integrity":"{h}"}},
               "node_modules/win":{{"version":"1.0.0","integrity":"{h}","optional":true,"os":["win32"]}},
               "node_modules/not":{{"version":"1.0.0","integrity":"{h}","optional":true,"os":"!linux"}},
               "node_modules/musl":{{"version":"1.0.0","integrity":"{h}","optional":true,"libc":"musl"}},
               "node_modules/other":{{"version":"1.0.0","integrity":"{h}","optional":true,"os":"!win32"}}"#
        ))
        .unwrap();
        let here: Vec<&str> = lock.packages_here().iter().map(|p| p.name()).collect();
        assert_eq!(here, ["b", "other"]);
        assert_eq!(lock.packages_here()[0].sha512, [7u8; 64]);
    }

    #[test]
    fn what_cannot_be_verified_is_refused() {
        let h = hash();
        for (entry, part) in [
            (r#""node_modules/a":{"version":"1.0.0"}"#.to_owned(), "no hash"),
            (
                r#""node_modules/a":{"version":"1.0.0","integrity":"sha1-x"}"#.to_owned(),
                "SHA-512",
            ),
            (
                format!(r#""node_modules/../a":{{"version":"1.0.0","integrity":"{h}"}}"#),
                "no path below",
            ),
            (
                format!(r#""node_modules/a":{{"version":"1","integrity":"{h}","resolved":"r"}}"#),
                "names a registry",
            ),
            (
                format!(r#""node_modules/a":{{"version":"1","integrity":"{h}","link":true}}"#),
                "links",
            ),
        ] {
            let error = parse(&entry).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
