//! Where the seal's key is: with systemd, in a file the configuration names, or in the data directory; and what becomes
//! of the one before when it is changed.
//!
//! Every place that has a key must have the same one: two different keys mean that somebody has not finished what they
//! began, and whatever is sealed opens with one of them only.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{Seal, SealError};

/// Name of the credential, below `$CREDENTIALS_DIRECTORY`.
pub const CREDENTIAL: &str = "lodge-seal-key";
const OWN: &str = "seal.key";
/// Made by [`prepare`], taken into use by the next start.
const NEXT: &str = "seal.next";
/// What is sealed under this one goes over to the key in use.
const OLD: &str = "seal.old";

/// Places outside of the data directory that may have the key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SealPlaces {
    /// As systemd passes it; there need not be one.
    pub credential: Option<PathBuf>,
    /// As the configuration says; there must be one.
    pub file: Option<PathBuf>,
}

impl SealPlaces {
    /// The one that has the key, if it is not in the data directory.
    pub(crate) fn outside(&self) -> Option<&Path> {
        let credential = self.credential.as_deref().filter(|path| path.exists());
        credential.or(self.file.as_deref())
    }
}

/// The key in use, and the one before where not everything has gone over.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) seal: Seal,
    pub(crate) before: Option<Seal>,
}

/// Loads the key, or makes one in the gateway's directory where there is none anywhere.
pub(crate) fn find(places: &SealPlaces, directory: &Path) -> Result<Found, SealError> {
    let own = directory.join(OWN);
    let is_outside = places.outside().is_some();
    if !is_outside {
        take_next(directory)?;
    }
    let mut found: Option<(&Path, Seal)> = None;
    let credential = places.credential.as_deref().map(|path| (path, true));
    let file = places.file.as_deref().map(|path| (path, false));
    let all = [credential, file, Some((own.as_path(), false))];
    for (path, is_credential) in all.into_iter().flatten() {
        let seal = match Seal::read(path, is_credential) {
            Ok(seal) => seal,
            Err(SealError::Read { source, .. })
                if source.kind() == ErrorKind::NotFound && Some(path) != places.file.as_deref() =>
            {
                continue;
            }
            Err(error) => return Err(error),
        };
        match &found {
            None => found = Some((path, seal)),
            Some((first, known)) if known.is(&seal) => {
                tracing::warn!(
                    first = %first.display(),
                    second = %path.display(),
                    "the seal key is in two places; where the first one stays, the second can be removed"
                );
            }
            Some((first, _)) => {
                return Err(SealError::Differs {
                    first: first.to_path_buf(),
                    second: path.to_owned(),
                    old: directory.join(OLD),
                });
            }
        }
    }
    let seal = match found {
        Some((_, seal)) => seal,
        None => Seal::create(&own)?,
    };
    let before = match Seal::read(&directory.join(OLD), false) {
        Ok(before) => Some(before),
        Err(SealError::Read { source, .. }) if source.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    Ok(Found { seal, before })
}

/// Makes the key that the next start takes into use. Only for a key that is in the data directory.
pub(crate) fn prepare(places: &SealPlaces, directory: &Path) -> Result<(), SealError> {
    if let Some(path) = places.outside() {
        return Err(SealError::Outside {
            path: path.to_owned(),
            old: directory.join(OLD),
        });
    }
    for name in [NEXT, OLD] {
        let path = directory.join(name);
        if path.exists() {
            return Err(SealError::Prepared { path });
        }
    }
    Seal::create(&directory.join(NEXT)).map(drop)
}

/// Nothing is sealed under the key before any more.
pub(crate) fn forget_before(directory: &Path) -> Result<(), SealError> {
    let path = directory.join(OLD);
    let write_error = |source| SealError::Write {
        path: path.clone(),
        source,
    };
    std::fs::remove_file(&path).map_err(write_error)?;
    sync(directory).map_err(write_error)
}

/// A prepared key takes the place of the one in use, which is kept until everything has gone over. May be cut anywhere.
fn take_next(directory: &Path) -> Result<(), SealError> {
    let [own, next, old] = [OWN, NEXT, OLD].map(|name| directory.join(name));
    if !next.exists() {
        return Ok(());
    }
    let rename = |from: &Path, to: &Path| {
        let renamed = std::fs::rename(from, to).and_then(|()| sync(directory));
        renamed.map_err(|source| SealError::Write {
            path: to.to_owned(),
            source,
        })
    };
    if own.exists() && !old.exists() {
        rename(&own, &old)?;
    }
    rename(&next, &own)
}

pub(super) fn sync(directory: &Path) -> std::io::Result<()> {
    std::fs::File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn put(&self, name: &str, bytes: &[u8], mode: u32) -> PathBuf {
            let path = self.path(name);
            std::fs::write(&path, bytes).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            path
        }

        fn find(&self, credential: Option<PathBuf>, file: Option<PathBuf>) -> Result<Found, SealError> {
            find(&SealPlaces { credential, file }, self.0.path())
        }
    }

    #[test]
    fn the_key_is_found_wherever_it_is() {
        let place = Place::new();
        let none = Some(place.path("absent"));
        let made = place.find(none.clone(), None).unwrap();
        assert!(made.before.is_none());
        let sealed = made.seal.seal("p", b"x").unwrap();
        assert!(place.find(none, None).unwrap().seal.open("p", &sealed).is_ok());

        let key = [7; 32];
        let other = Place::new();
        // As systemd has it: readable by a group that is none but a list of access.
        let credential = other.put("credential", &key, 0o440);
        let file = other.put("file", &key, 0o600);
        let found = other.find(Some(credential), Some(file.clone())).unwrap();
        let sealed = found.seal.seal("p", b"x").unwrap();
        assert!(
            other
                .find(None, Some(file))
                .unwrap()
                .seal
                .open("p", &sealed)
                .is_ok()
        );
        assert!(!other.path(OWN).exists());
    }

    #[test]
    fn what_is_wrong_is_said_with_what_to_do() {
        let place = Place::new();
        let says = |result: Result<Found, SealError>| result.unwrap_err().to_string();
        for (bytes, mode, credential, part) in [
            (vec![1; 31], 0o600, false, "has 31 bytes"),
            (vec![1; 33], 0o600, true, "has 33 bytes"),
            (vec![1; 32], 0o640, false, "chmod 600"),
            (vec![1; 32], 0o444, true, "read by others"),
        ] {
            let path = place.put("key", &bytes, mode);
            let result = if credential {
                place.find(Some(path.clone()), None)
            } else {
                place.find(None, Some(path.clone()))
            };
            let text = says(result);
            assert!(
                text.contains(part) && text.contains(path.to_str().unwrap()),
                "{text}"
            );
        }
        let absent = place.find(None, Some(place.path("absent")));
        assert!(matches!(absent, Err(SealError::Read { .. })));
        assert!(
            !place.path(OWN).exists(),
            "nothing is made where something is wrong"
        );

        let one = place.put("one", &[1; 32], 0o600);
        let two = place.put("two", &[2; 32], 0o600);
        let text = says(place.find(Some(one), Some(two)));
        assert!(text.contains("different") && text.contains("seal.old"), "{text}");
    }

    #[test]
    fn a_prepared_key_is_taken_into_use_wherever_the_change_was_cut() {
        for cut in 0..3 {
            let place = Place::new();
            let first = place.find(None, None).unwrap().seal;
            prepare(&SealPlaces::default(), place.0.path()).unwrap();
            let again = prepare(&SealPlaces::default(), place.0.path());
            assert!(matches!(again, Err(SealError::Prepared { .. })));
            if cut > 0 {
                std::fs::rename(place.path(OWN), place.path(OLD)).unwrap();
            }
            if cut > 1 {
                std::fs::rename(place.path(NEXT), place.path(OWN)).unwrap();
            }
            let found = place.find(None, None).unwrap();
            assert!(
                found.before.unwrap().is(&first) && !found.seal.is(&first),
                "{cut}"
            );
            forget_before(place.0.path()).unwrap();
            assert!(place.find(None, None).unwrap().before.is_none());
        }
    }

    #[test]
    fn a_key_from_outside_is_changed_outside() {
        let place = Place::new();
        let file = place.put("file", &[1; 32], 0o600);
        let places = SealPlaces {
            credential: None,
            file: Some(file),
        };
        let refused = prepare(&places, place.0.path()).unwrap_err().to_string();
        assert!(refused.contains("seal.old"), "{refused}");
    }
}
