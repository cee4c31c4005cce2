//! Whose data a peer may touch: decided by its uid, never by a field of a request.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The account that owns rows. 1 to 128 bytes, printable, without white space.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Owner(Arc<str>);

impl Owner {
    /// The owner of that name, or `None` when the name breaks the rules above.
    pub fn new(account: &str) -> Option<Self> {
        let good = |c: char| !c.is_control() && !c.is_whitespace();
        ((1..=128).contains(&account.len()) && account.chars().all(good)).then(|| Self(account.into()))
    }

    /// The account's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which account a uid belongs to. Asked once for every connection.
pub trait Owners: Send + Sync + 'static {
    /// The account of `uid`; `None` refuses the peer.
    fn owner(&self, uid: u32) -> Option<Owner>;
}

/// One person on one machine: the service's own uid is the account `local`, every other uid is refused.
#[derive(Debug, Clone)]
pub struct SingleUser {
    uid: u32,
    owner: Owner,
}

impl SingleUser {
    /// The account `local` for the uid of this process.
    pub fn of_this_process() -> Self {
        Self {
            uid: lodge_proto::sock::own_uid(),
            owner: Owner("local".into()),
        }
    }
}

impl Owners for SingleUser {
    fn owner(&self, uid: u32) -> Option<Owner> {
        (uid == self.uid).then(|| self.owner.clone())
    }
}

/// A map file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OwnerMapError {
    #[error("reading the owner map {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error(
        "{path}: must belong to root or to this service and be writable by nobody else (mode {mode:o}, uid {uid})"
    )]
    Untrusted { path: PathBuf, mode: u32, uid: u32 },
    #[error("{path}:{line}: expected `UID ACCOUNT`")]
    Line { path: PathBuf, line: usize },
    #[error("{path}:{line}: uid {uid} appears twice")]
    Twice { path: PathBuf, line: usize, uid: u32 },
}

/// A file of lines `UID ACCOUNT` (`#` starts a comment), read again for every connection, so that a new account
/// needs no restart.
#[derive(Debug, Clone)]
pub struct OwnerMap {
    path: PathBuf,
}

impl OwnerMap {
    /// Uses the map at `path`, which must be readable and well-formed now.
    pub fn open(path: &Path) -> Result<Self, OwnerMapError> {
        let map = Self {
            path: path.to_owned(),
        };
        map.read()?;
        Ok(map)
    }

    fn read(&self) -> Result<HashMap<u32, Owner>, OwnerMapError> {
        let read = |source| OwnerMapError::Read {
            path: self.path.clone(),
            source,
        };
        let mut file = std::fs::File::open(&self.path).map_err(read)?;
        let metadata = file.metadata().map_err(read)?;
        let trusted = [0, lodge_proto::sock::own_uid()].contains(&metadata.uid());
        if !trusted || metadata.mode() & 0o022 != 0 {
            let (mode, uid) = (metadata.mode() & 0o7777, metadata.uid());
            return Err(OwnerMapError::Untrusted {
                path: self.path.clone(),
                mode,
                uid,
            });
        }
        let mut text = String::new();
        std::io::Read::read_to_string(&mut file, &mut text).map_err(read)?;
        self.parse(&text)
    }

    fn parse(&self, text: &str) -> Result<HashMap<u32, Owner>, OwnerMapError> {
        let mut map = HashMap::new();
        for (index, line) in text.lines().enumerate() {
            let line_number = index + 1;
            let content = line.split('#').next().unwrap_or_default();
            let words: Vec<&str> = content.split_whitespace().collect();
            let entry = match words.as_slice() {
                [] => continue,
                [uid, account] => uid.parse().ok().zip(Owner::new(account)),
                _ => None,
            };
            let path = || self.path.clone();
            let (uid, owner) = entry.ok_or_else(|| OwnerMapError::Line {
                path: path(),
                line: line_number,
            })?;
            if map.insert(uid, owner).is_some() {
                return Err(OwnerMapError::Twice {
                    path: path(),
                    line: line_number,
                    uid,
                });
            }
        }
        Ok(map)
    }
}

impl Owners for OwnerMap {
    fn owner(&self, uid: u32) -> Option<Owner> {
        match self.read() {
            Ok(mut map) => map.remove(&uid),
            Err(error) => {
                tracing::error!(%error, "the owner map cannot be used: the peer is refused");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn map(text: &str) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("owners");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        (directory, path)
    }

    #[test]
    fn a_map_is_read_again_for_every_question() {
        let (_directory, path) = map("# who\n1000 ada\n1001 grace # admin\n");
        let owners = OwnerMap::open(&path).unwrap();
        assert_eq!(owners.owner(1001).unwrap().as_str(), "grace");
        assert_eq!(owners.owner(1002), None);
        std::fs::write(&path, "1002 edsger\n").unwrap();
        assert_eq!(owners.owner(1002).unwrap().as_str(), "edsger");
        assert_eq!(owners.owner(1001), None);
    }

    #[test]
    fn a_bad_map_is_refused_with_its_line() {
        for (text, line) in [
            ("1000 ada\nx y\n", 2),
            ("1000\n", 1),
            ("-1 a\n", 1),
            ("1 a b\n", 1),
        ] {
            let (_directory, path) = map(text);
            let error = OwnerMap::open(&path).unwrap_err();
            assert!(
                matches!(error, OwnerMapError::Line { line: found, .. } if found == line),
                "{error}"
            );
        }
        let (_directory, path) = map("7 a\n7 b\n");
        assert!(matches!(
            OwnerMap::open(&path),
            Err(OwnerMapError::Twice { uid: 7, line: 2, .. })
        ));
    }

    #[test]
    fn a_map_that_others_may_write_is_refused() {
        let (_directory, path) = map("1000 ada\n");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(matches!(
            OwnerMap::open(&path),
            Err(OwnerMapError::Untrusted { mode: 0o666, .. })
        ));
    }

    #[test]
    fn one_person_is_local_and_nobody_else_is() {
        let owners = SingleUser::of_this_process();
        let uid = lodge_proto::sock::own_uid();
        assert_eq!(owners.owner(uid).unwrap().as_str(), "local");
        assert_eq!(owners.owner(uid + 1), None);
    }
}
