//! Keys on their way in: sealed in the browser for this process, so that what lies between, and its memory, has none.
//!
//! ECDH over P-256, HKDF-SHA-256 and AES-256-GCM: what every browser can do by itself. Each exchange is good for one key.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::SystemRandom;
use zeroize::Zeroizing;

use crate::seal::random;

/// A person pastes a key within this time, or the page begins another exchange.
const TTL: Duration = Duration::from_mins(5);
/// Open at a time; the oldest is forgotten.
const MAX_OPEN: usize = 32;
/// Of a sealed key, bytes.
const MAX_SEALED: usize = 16 << 10;
/// What the derived key is for.
const INFO: &[u8] = b"lodge provider key v1";

/// A key that cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeError {
    #[error("this exchange is not known, was used, or is older than {} min; begin another", TTL.as_secs() / 60)]
    Unknown,
    #[error("the key was sealed for something else, or is damaged")]
    Sealed,
    #[error("the system has no random numbers")]
    Random,
}

/// The exchanges that have begun.
#[derive(Default)]
pub(crate) struct Exchanges {
    open: Mutex<VecDeque<Open>>,
}

struct Open {
    id: String,
    private: EphemeralPrivateKey,
    since: Instant,
}

impl std::fmt::Debug for Exchanges {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Exchanges")
    }
}

impl Exchanges {
    /// Begins one: its id, and the public key as an uncompressed point.
    pub(crate) fn begin(&self) -> Result<(String, Vec<u8>), ExchangeError> {
        let private = EphemeralPrivateKey::generate(&ECDH_P256, &SystemRandom::new());
        let private = private.map_err(|_| ExchangeError::Random)?;
        let public = private.compute_public_key().map_err(|_| ExchangeError::Random)?;
        let mut id = String::new();
        for byte in random::<16>().map_err(|_| ExchangeError::Random)? {
            let _infallible = write!(id, "{byte:02x}");
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|open| open.since.elapsed() < TTL);
        if open.len() >= MAX_OPEN {
            open.pop_front();
        }
        open.push_back(Open {
            id: id.clone(),
            private,
            since: Instant::now(),
        });
        Ok((id, public.as_ref().to_vec()))
    }

    /// Opens what was sealed for one of them, which ends it. `context` is what it was sealed for.
    pub(crate) fn open(
        &self,
        id: &str,
        public: &[u8],
        sealed: Vec<u8>,
        context: &str,
    ) -> Result<Zeroizing<String>, ExchangeError> {
        let exchange = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.retain(|open| open.since.elapsed() < TTL);
            let at = open.iter().position(|open| open.id == id);
            at.and_then(|at| open.remove(at)).ok_or(ExchangeError::Unknown)?
        };
        if sealed.len() > MAX_SEALED {
            return Err(ExchangeError::Sealed);
        }
        let peer = UnparsedPublicKey::new(&ECDH_P256, public);
        let key = agree_ephemeral(exchange.private, &peer, |shared| {
            let okm = Salt::new(HKDF_SHA256, &[]).extract(shared);
            let okm = okm.expand(&[INFO], &AES_256_GCM).ok()?;
            Some(LessSafeKey::new(UnboundKey::from(okm)))
        });
        let key = key.ok().flatten().ok_or(ExchangeError::Sealed)?;
        let mut text = Zeroizing::new(sealed);
        // The key is good for one message only: so is its nonce.
        let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
        let opened = key.open_in_place(nonce, Aad::from(context.as_bytes()), &mut text);
        let opened = opened.map_err(|_| ExchangeError::Sealed)?;
        let text = std::str::from_utf8(opened).map_err(|_| ExchangeError::Sealed)?;
        Ok(Zeroizing::new(text.to_owned()))
    }
}

/// What a key is sealed for: it cannot be entered for another provider, kind or address on its way.
pub(crate) fn context(name: &str, kind: &str, base_url: &str) -> String {
    format!("{name}\n{kind}\n{base_url}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the browser does it.
    fn seal(public: &[u8], key: &str, context: &str) -> (Vec<u8>, Vec<u8>) {
        let own = EphemeralPrivateKey::generate(&ECDH_P256, &SystemRandom::new()).unwrap();
        let own_public = own.compute_public_key().unwrap().as_ref().to_vec();
        let peer = UnparsedPublicKey::new(&ECDH_P256, public);
        let derived = agree_ephemeral(own, &peer, |shared| {
            let okm = Salt::new(HKDF_SHA256, &[]).extract(shared);
            LessSafeKey::new(UnboundKey::from(okm.expand(&[INFO], &AES_256_GCM).unwrap()))
        })
        .unwrap();
        let mut text = key.as_bytes().to_vec();
        let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
        derived
            .seal_in_place_append_tag(nonce, Aad::from(context.as_bytes()), &mut text)
            .unwrap();
        (own_public, text)
    }

    #[test]
    fn a_key_is_opened_once_and_for_what_it_was_sealed_for() {
        let exchanges = Exchanges::default();
        let context = context("a", "openai", "");
        let (id, public) = exchanges.begin().unwrap();
        let (own, sealed) = seal(&public, "sk-1", &context);
        assert!(memchr::memmem::find(&sealed, b"sk-1").is_none());
        let opened = exchanges.open(&id, &own, sealed.clone(), &context).unwrap();
        assert_eq!(opened.as_str(), "sk-1");
        let again = exchanges.open(&id, &own, sealed, &context);
        assert_eq!(again.unwrap_err(), ExchangeError::Unknown);
        for (other, damage) in [("b\nopenai\n", false), (context.as_str(), true)] {
            let (id, public) = exchanges.begin().unwrap();
            let (own, mut sealed) = seal(&public, "sk-1", &context);
            sealed[0] ^= u8::from(damage);
            let opened = exchanges.open(&id, &own, sealed, other);
            assert_eq!(opened.unwrap_err(), ExchangeError::Sealed);
        }
        let (id, _) = exchanges.begin().unwrap();
        let opened = exchanges.open(&id, b"no point", vec![0; 32], &context);
        assert_eq!(opened.unwrap_err(), ExchangeError::Sealed);
    }

    #[test]
    fn those_that_are_never_finished_do_not_pile_up() {
        let exchanges = Exchanges::default();
        let (first, _) = exchanges.begin().unwrap();
        for _ in 0..MAX_OPEN {
            exchanges.begin().unwrap();
        }
        let opened = exchanges.open(&first, &[], Vec::new(), "");
        assert_eq!(opened.unwrap_err(), ExchangeError::Unknown);
    }
}
