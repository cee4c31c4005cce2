//! SOCKS5 (RFC 1928) as far as it is spoken here: no authentication, CONNECT by name or exact address.
//!
//! The channel itself says who asks: it is the session's own socket. UDP ASSOCIATE and BIND are refused.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::name::{Host, NameError};

/// The first byte of a SOCKS5 connection.
pub const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const CONNECT: u8 = 1;

/// Why a client is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SocksError {
    #[error("this is not SOCKS version 5")]
    Version,
    #[error("the client insists on authentication")]
    Authentication,
    #[error("the SOCKS request is malformed")]
    Malformed,
    #[error("only the command CONNECT is served")]
    Command,
    #[error("an address of an unknown type")]
    AddressType,
    #[error("the destination: {0}")]
    Host(NameError),
}

/// What is answered to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    Succeeded = 0,
    Failure = 1,
    NotAllowed = 2,
    HostUnreachable = 4,
    Refused = 5,
    CommandNotSupported = 7,
    AddressTypeNotSupported = 8,
}

impl Reply {
    /// The answer's bytes: what address the broker dials from is nobody's business.
    pub fn bytes(self) -> [u8; 10] {
        [VERSION, self as u8, 0, 1, 0, 0, 0, 0, 0, 0]
    }
}

impl SocksError {
    /// What the client is told, where it is past the greeting.
    pub fn reply(self) -> Reply {
        match self {
            Self::Command => Reply::CommandNotSupported,
            Self::AddressType => Reply::AddressTypeNotSupported,
            Self::Host(_) => Reply::NotAllowed,
            Self::Version | Self::Authentication | Self::Malformed => Reply::Failure,
        }
    }
}

/// The answer to a greeting that is met.
pub const WELCOME: [u8; 2] = [VERSION, NO_AUTHENTICATION];
/// The answer where no method is acceptable.
pub const NO_METHOD: [u8; 2] = [VERSION, 0xff];

/// Reads the greeting; returns its length, `None` while it is incomplete.
pub fn greeting(bytes: &[u8]) -> Result<Option<usize>, SocksError> {
    match bytes {
        [] | [VERSION] => Ok(None),
        [VERSION, count, rest @ ..] => {
            let count = usize::from(*count);
            let Some(methods) = rest.get(..count) else {
                return Ok(None);
            };
            if methods.contains(&NO_AUTHENTICATION) {
                Ok(Some(2 + count))
            } else {
                Err(SocksError::Authentication)
            }
        }
        _ => Err(SocksError::Version),
    }
}

/// Where a client wants to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub host: Host,
    pub port: u16,
    /// Bytes of the request.
    pub length: usize,
}

/// Reads the request; `None` while it is incomplete.
pub fn request(bytes: &[u8]) -> Result<Option<Request>, SocksError> {
    match bytes {
        [version, ..] if *version != VERSION => return Err(SocksError::Version),
        [_, command, ..] if *command != CONNECT => return Err(SocksError::Command),
        [_, _, reserved, ..] if *reserved != 0 => return Err(SocksError::Malformed),
        _ => {}
    }
    let [_, _, _, kind, rest @ ..] = bytes else {
        return Ok(None);
    };
    let (host_length, prefix) = match (kind, rest.first()) {
        (1, _) => (4, 0),
        (4, _) => (16, 0),
        (3, None) => return Ok(None),
        (3, Some(0)) => return Err(SocksError::Host(NameError::Empty)),
        (3, Some(length)) => (usize::from(*length), 1),
        _ => return Err(SocksError::AddressType),
    };
    let Some(host) = rest.get(prefix..prefix + host_length) else {
        return Ok(None);
    };
    let Some(&[high, low]) = rest.get(prefix + host_length..prefix + host_length + 2) else {
        return Ok(None);
    };
    let port = u16::from_be_bytes([high, low]);
    if port == 0 {
        return Err(SocksError::Host(NameError::Port));
    }
    Ok(Some(Request {
        host: destination(host, *kind)?,
        port,
        length: 4 + prefix + host_length + 2,
    }))
}

fn destination(host: &[u8], kind: u8) -> Result<Host, SocksError> {
    if kind == 3 {
        // A bracket is not part of a name on this wire.
        return match host.first() {
            Some(b'[') => Err(SocksError::Host(NameError::Character)),
            _ => Host::parse(host).map_err(SocksError::Host),
        };
    }
    if let Ok(four) = <[u8; 4]>::try_from(host) {
        return Ok(Host::Address(Ipv4Addr::from(four).into()));
    }
    <[u8; 16]>::try_from(host)
        .map(|six| Host::Address(Ipv6Addr::from(six).into()))
        .map_err(|_| SocksError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn named(name: &[u8]) -> Vec<u8> {
        let length = u8::try_from(name.len()).unwrap();
        [&[5, 1, 0, 3, length], name, &[1, 187]].concat()
    }

    #[test]
    fn greetings() {
        assert_eq!(greeting(&[5, 1, 0]), Ok(Some(3)));
        assert_eq!(greeting(&[5, 2, 2, 0, 9]), Ok(Some(4)));
        assert_eq!(greeting(&[5, 2, 0]), Ok(None));
        assert_eq!(greeting(&[5]), Ok(None));
        assert_eq!(greeting(&[5, 1, 2]), Err(SocksError::Authentication));
        assert_eq!(greeting(&[5, 0]), Err(SocksError::Authentication));
        assert_eq!(greeting(&[4, 1, 0]), Err(SocksError::Version));
    }

    #[test]
    fn requests_by_name_and_address() {
        let to = |bytes: &[u8]| {
            request(bytes).map(|request| {
                let request = request.unwrap();
                assert_eq!(request.length, bytes.len());
                format!("{} {}", request.host, request.port)
            })
        };
        assert_eq!(to(&named(b"PyPI.org")).unwrap(), "pypi.org 443");
        assert_eq!(to(&[5, 1, 0, 1, 1, 2, 3, 4, 0, 22]).unwrap(), "1.2.3.4 22");
        let six = [&[5, 1, 0, 4][..], &[0; 15], &[1], &[0, 80]].concat();
        assert_eq!(to(&six).unwrap(), "::1 80");
        for (name, wanted) in [
            (b"pypi.org\0.evil.com".as_slice(), NameError::Nul),
            (b"pypi.org%00", NameError::Percent),
            (b"pypi.org.", NameError::TrailingDot),
            (b"0x7f.1", NameError::Numeric),
            (b"u@pypi.org", NameError::UserInfo),
            (b"", NameError::Empty),
            (b"[::1]", NameError::Character),
            (b"::1", NameError::Character),
            ("bücher".as_bytes(), NameError::NotAscii),
        ] {
            assert_eq!(request(&named(name)), Err(SocksError::Host(wanted)), "{name:?}");
        }
    }

    #[test]
    fn other_commands_and_forms_are_refused() {
        for (bytes, wanted) in [
            (&[5, 2, 0, 1, 1, 2, 3, 4, 0, 22][..], SocksError::Command),
            (&[5, 3, 0, 1, 0, 0, 0, 0, 0, 0], SocksError::Command),
            (&[5, 1, 1, 1, 1, 2, 3, 4, 0, 22], SocksError::Malformed),
            (&[5, 1, 0, 2, 1], SocksError::AddressType),
            (&[4, 1, 0, 80], SocksError::Version),
            (&[5, 1, 0, 1, 1, 2, 3, 4, 0, 0], SocksError::Host(NameError::Port)),
        ] {
            assert_eq!(request(bytes), Err(wanted), "{bytes:?}");
        }
        let whole = named(b"pypi.org");
        for cut in 0..whole.len() {
            assert_eq!(request(&whole[..cut]), Ok(None), "{cut}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = greeting(&bytes);
            if let Ok(Some(request)) = request(&bytes) {
                prop_assert!(request.length <= bytes.len());
            }
        }
    }
}
