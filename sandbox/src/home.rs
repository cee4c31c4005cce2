//! The part of a home that holds no secrets, for policies that let it be read.
//!
//! An allow-list: what is not dotted, and the toolchains among what is. Credentials, shell histories and start files,
//! keyrings, browser profiles and the settings of every program stay out because nothing that is dotted gets in
//! unless it is named here.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::plan::SessionSpec;
use crate::view::{Kind, ViewError, look};

/// More entries than this are no home but a store; each becomes a mount.
const MAX_ENTRIES: usize = 1024;

/// Programs and libraries below the home that hold no settings.
const TOOLCHAINS: &[&str] = &[
    ".bun/bin",
    ".cargo/bin",
    ".cargo/registry",
    ".deno/bin",
    ".local/bin",
    ".local/lib",
    ".local/share/mise/installs",
    ".local/share/pnpm",
    ".local/share/uv/python",
    ".local/share/uv/tools",
    ".nvm/versions",
    ".pyenv/versions",
    ".rbenv/versions",
    ".rustup/toolchains",
    ".sdkman/candidates",
    ".volta/tools",
];

/// Entries without a dot that hold secrets or mail.
const SECRET_NAMES: &[&str] = &[
    "Library",
    "Mail",
    "Maildir",
    "mail",
    "mbox",
    "snap",
    "id_rsa",
    "id_ed25519",
    "id_ecdsa",
];
const SECRET_ENDINGS: &[&str] = &[
    ".gpg",
    ".jks",
    ".kdbx",
    ".key",
    ".keystore",
    ".p12",
    ".pem",
    ".pfx",
    ".ppk",
];

/// What can be seen of a home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HomeView {
    pub path: PathBuf,
    /// Absolute paths, in order.
    pub shown: Vec<(PathBuf, Kind)>,
}

/// Looks at the home of this process's user.
pub(crate) fn probe(spec: &SessionSpec, place: &str) -> Result<HomeView, ViewError> {
    let unusable = |reason: String| ViewError::Home {
        place: place.to_owned(),
        reason,
    };
    let home = std::env::home_dir().filter(|home| home.is_absolute());
    let home = home.ok_or_else(|| unusable("HOME names no directory".to_owned()))?;
    let home = home
        .canonicalize()
        .map_err(|error| unusable(format!("{}: {error}", home.display())))?;
    of(&home, spec).map_err(|error| unusable(format!("{}: {error}", home.display())))
}

/// The view of `home`.
pub(crate) fn of(home: &Path, spec: &SessionSpec) -> io::Result<HomeView> {
    let data = std::env::var_os("LODGE_DATA").map(PathBuf::from);
    let own: Vec<&Path> = [&spec.private_home, &spec.gateway_socket]
        .map(PathBuf::as_path)
        .into_iter()
        .chain(data.as_deref())
        .collect();
    let mut shown = Vec::new();
    for (count, entry) in fs::read_dir(home)?.enumerate() {
        if count >= MAX_ENTRIES {
            return Err(io::Error::other(format!(
                "it has more than {MAX_ENTRIES} entries"
            )));
        }
        let path = entry?.path();
        if is_private(&path) || own.iter().any(|own| own.starts_with(&path)) {
            continue;
        }
        shown.extend(plain(&path)?.map(|kind| (path, kind)));
    }
    for path in TOOLCHAINS.iter().map(|name| home.join(name)) {
        // A link on the way could lead to anything that is not shown.
        let real = path.canonicalize().is_ok_and(|real| real == path);
        if real && !own.iter().any(|own| own.starts_with(&path)) {
            shown.extend(plain(&path)?.map(|kind| (path, kind)));
        }
    }
    shown.sort();
    Ok(HomeView {
        path: home.to_owned(),
        shown,
    })
}

/// Directories, links and regular files; nothing that could be talked to.
fn plain(path: &Path) -> io::Result<Option<Kind>> {
    let meta = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        meta => meta?,
    };
    if meta.is_dir() || meta.is_symlink() || meta.is_file() {
        return look(path).map_err(io::Error::other);
    }
    Ok(None)
}

fn is_private(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    let bytes = name.as_bytes();
    bytes.starts_with(b".")
        || SECRET_NAMES.iter().any(|secret| name == *secret)
        || SECRET_ENDINGS
            .iter()
            .any(|ending| bytes.ends_with(ending.as_bytes()))
        // Another data directory of Lodge.
        || ["lodge.lock", "lodge.json"].iter().any(|mark| path.join(mark).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_and_lodges_own_data_are_not_shown() {
        let temp = tempfile::tempdir().expect("temporary directory");
        let home = temp.path().canonicalize().expect("real path");
        for dir in [
            ".ssh",
            ".aws",
            ".config/gh",
            ".cargo/bin",
            ".local/share/keyrings",
            ".local/bin",
            "projects/a",
            "snap",
            "state/runner/sessions/s/home",
            "other",
        ] {
            fs::create_dir_all(home.join(dir)).expect("directory");
        }
        for file in [
            ".netrc",
            ".bash_history",
            ".bashrc",
            ".cargo/credentials.toml",
            "notes.txt",
            "vault.kdbx",
            "id_rsa",
            "other/lodge.json",
        ] {
            fs::write(home.join(file), "x").expect("file");
        }
        std::os::unix::fs::symlink(".ssh", home.join("link")).expect("link");
        let _socket = std::os::unix::net::UnixListener::bind(home.join("agent")).expect("socket");
        let spec = SessionSpec {
            workspace: home.join("projects/a"),
            private_home: home.join("state/runner/sessions/s/home"),
            gateway_socket: home.join("state/gw"),
            harness_roots: Vec::new(),
            init_binary: home.join("state/init"),
            uid: 1,
            gid: 1,
            session_id: String::new(),
        };
        let view = of(&home, &spec).expect("view");
        let shown: Vec<_> = view
            .shown
            .iter()
            .map(|(path, _)| path.strip_prefix(&home).expect("below"))
            .collect();
        assert_eq!(
            shown,
            [".cargo/bin", ".local/bin", "link", "notes.txt", "projects"].map(Path::new)
        );
    }
}
