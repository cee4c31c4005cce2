//! Sealing of provider keys at rest, and the pepper of virtual keys; both under one key.
//!
//! - here: sealing and opening; [`place`]: where the key is; [`change`]: everything goes over to another one

mod change;
mod place;

use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

pub(crate) use change::{ChangeError, change, pepper};
pub use place::{CREDENTIAL, SealPlaces};
pub(crate) use place::{find, prepare};

const KEY_LEN: usize = 32;
const NONCE_LEN: usize = 24;

/// A seal that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error("reading {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("writing {}", path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error(
        "{} has {found} bytes and a seal key has {KEY_LEN}; put the right one back, or make one: head -c {KEY_LEN} /dev/urandom > {}",
        path.display(), path.display()
    )]
    Length { path: PathBuf, found: u64 },
    #[error("{} can be read by others; run: chmod 600 {}", path.display(), path.display())]
    Exposed { path: PathBuf },
    #[error("{} is not a file", path.display())]
    NoFile { path: PathBuf },
    #[error(
        "{} and {} hold different seal keys, and what is sealed opens with one of them only; remove the one that is wrong. To \
         change the key, move the old one to {}: at the next start everything goes over to the other one",
        first.display(), second.display(), old.display()
    )]
    Differs {
        first: PathBuf,
        second: PathBuf,
        old: PathBuf,
    },
    #[error(
        "the seal key is kept in {}, where the gateway does not write: copy it to {} (mode 0600), put {KEY_LEN} new random \
         bytes in its place, and start Lodge again",
        path.display(), old.display()
    )]
    Outside { path: PathBuf, old: PathBuf },
    #[error("{} is there: a change of the key waits for the next start of Lodge", path.display())]
    Prepared { path: PathBuf },
    #[error("the system has no random numbers")]
    Random(#[source] getrandom::Error),
    #[error("sealing failed")]
    Seal,
    #[error("the sealed value was made under another key or for another purpose")]
    Open,
}

/// The sealing key. Wiped when dropped.
pub struct Seal {
    key: Zeroizing<[u8; KEY_LEN]>,
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal")
    }
}

impl Seal {
    /// Loads the key of a file, or makes one at the first start.
    pub fn load(path: &Path) -> Result<Self, SealError> {
        match Self::read(path, false) {
            Err(SealError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                Self::create(path)
            }
            read => read,
        }
    }

    fn read(path: &Path, is_credential: bool) -> Result<Self, SealError> {
        let read_error = |source| SealError::Read {
            path: path.to_owned(),
            source,
        };
        let owned = || path.to_owned();
        let mut file = std::fs::File::open(path).map_err(read_error)?;
        let metadata = file.metadata().map_err(read_error)?;
        if !metadata.is_file() {
            return Err(SealError::NoFile { path: owned() });
        }
        // systemd lets the service's user in by an access list, which shows as a right of the group to read.
        let others = if is_credential { 0o037 } else { 0o077 };
        if metadata.mode() & others != 0 {
            return Err(SealError::Exposed { path: owned() });
        }
        if metadata.len() != KEY_LEN as u64 {
            return Err(SealError::Length {
                path: owned(),
                found: metadata.len(),
            });
        }
        let mut key = Zeroizing::new([0; KEY_LEN]);
        file.read_exact(&mut *key).map_err(read_error)?;
        Ok(Self { key })
    }

    fn create(path: &Path) -> Result<Self, SealError> {
        let write_error = |source| SealError::Write {
            path: path.to_owned(),
            source,
        };
        let key = Zeroizing::new(random::<KEY_LEN>()?);
        // Under another name first: a key torn by a crash would lock every sealed secret away.
        let new = path.with_extension("made");
        let _stale = std::fs::remove_file(&new);
        let mut options = std::fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)
            .map_err(write_error)?;
        file.write_all(&*key)
            .and_then(|()| file.sync_all())
            .map_err(write_error)?;
        std::fs::rename(&new, path).map_err(write_error)?;
        if let Some(directory) = path.parent() {
            place::sync(directory).map_err(write_error)?;
        }
        Ok(Self { key })
    }

    /// Whether both are the same key.
    fn is(&self, other: &Self) -> bool {
        blake3::Hash::from(*self.key) == blake3::Hash::from(*other.key)
    }

    /// Seals a secret; it opens only for the same purpose.
    pub fn seal(&self, purpose: &str, secret: &[u8]) -> Result<Vec<u8>, SealError> {
        let nonce = random::<NONCE_LEN>()?;
        let payload = Payload {
            msg: secret,
            aad: purpose.as_bytes(),
        };
        let sealed = self
            .cipher()
            .encrypt(&XNonce::from(nonce), payload)
            .map_err(|_| SealError::Seal)?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// Opens what [`Seal::seal`] made.
    pub fn open(&self, purpose: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(SealError::Open)?;
        let payload = Payload {
            msg: sealed,
            aad: purpose.as_bytes(),
        };
        let secret = self
            .cipher()
            .decrypt(&XNonce::from(*nonce), payload)
            .map_err(|_| SealError::Open)?;
        Ok(Zeroizing::new(secret))
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&Key::from(*self.key))
    }

    /// The key under which virtual keys are hashed: a stolen database alone does not let anybody try keys.
    pub(crate) fn pepper(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(blake3::derive_key("lodge gateway virtual keys v1", &*self.key))
    }
}

/// Random bytes from the kernel.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], SealError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(SealError::Random)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn sealed_opens_for_its_purpose_and_key_only() {
        let directory = tempfile::tempdir().unwrap();
        let seal = Seal::load(&directory.path().join("seal.key")).unwrap();
        let again = Seal::load(&directory.path().join("seal.key")).unwrap();
        let other = Seal::load(&directory.path().join("other.key")).unwrap();
        let mut sealed = seal.seal("a", b"secret").unwrap();
        assert_eq!(**again.open("a", &sealed).unwrap(), *b"secret");
        assert!(matches!(seal.open("b", &sealed), Err(SealError::Open)));
        assert!(matches!(other.open("a", &sealed), Err(SealError::Open)));
        assert_ne!(sealed, seal.seal("a", b"secret").unwrap());
        sealed[30] ^= 1;
        assert!(matches!(seal.open("a", &sealed), Err(SealError::Open)));
        assert!(matches!(seal.open("a", &[1, 2]), Err(SealError::Open)));
    }

    #[test]
    fn the_key_file_is_private_or_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("seal.key");
        drop(Seal::load(&path).unwrap());
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Seal::load(&path), Err(SealError::Exposed { .. })));
    }
}
