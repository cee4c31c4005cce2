//! Host names as bytes: what a guest may name, in the one form in which it is matched, resolved and dialled.
//!
//! Matching one spelling and resolving another is how filters are passed. So a name has exactly one spelling here:
//! lower-case ASCII letters, digits, hyphens and dots, as it would stand in a query. Upper case is folded, because
//! DNS does not tell it apart; everything else that could be read in two ways is refused.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest name in bytes, as DNS has it.
const MAX_NAME: usize = 253;
/// Longest label in bytes.
const MAX_LABEL: usize = 63;

/// Why bytes are no host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("the host is empty")]
    Empty,
    #[error("the host is longer than {MAX_NAME} bytes")]
    TooLong,
    #[error("the host holds a NUL byte")]
    Nul,
    #[error("the host holds a percent sign")]
    Percent,
    #[error("the host holds user information")]
    UserInfo,
    #[error("the host holds bytes outside ASCII; write it in punycode")]
    NotAscii,
    #[error("the host ends with a dot")]
    TrailingDot,
    #[error(
        "the host has a label that is empty, longer than {MAX_LABEL} bytes, or begins or ends with a hyphen"
    )]
    Label,
    #[error("the host holds a character that no host name has")]
    Character,
    #[error("the host is a number or an address in an unusual notation")]
    Numeric,
    #[error("the host is no IPv6 address")]
    Ipv6,
    #[error("the port is missing")]
    NoPort,
    #[error("the port is not a number from 1 to 65535")]
    Port,
}

/// A host name in its one spelling.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostName(String);

impl HostName {
    /// The name; never an address.
    pub fn parse(bytes: &[u8]) -> Result<Self, NameError> {
        match Host::parse(bytes)? {
            Host::Name(name) => Ok(name),
            Host::Address(_) => Err(NameError::Numeric),
        }
    }

    /// As it is matched and resolved.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whom a guest wants to reach.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    Name(HostName),
    Address(IpAddr),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

impl Host {
    /// A name, a dotted IPv4 address or a bracketed IPv6 address.
    pub fn parse(bytes: &[u8]) -> Result<Self, NameError> {
        if let Some(rest) = bytes.strip_prefix(b"[") {
            let inner = rest.strip_suffix(b"]").ok_or(NameError::Ipv6)?;
            return ipv6(inner);
        }
        check_bytes(bytes)?;
        let text: String = bytes
            .iter()
            .map(|byte| char::from(byte.to_ascii_lowercase()))
            .collect();
        let labels: Vec<&str> = text.split('.').collect();
        if labels.iter().any(|label| !is_label(label)) {
            return Err(NameError::Label);
        }
        // What ends in a number is read as an address by resolvers, in notations that nobody expects.
        if labels.last().is_some_and(|last| is_number(last)) {
            return text
                .parse::<Ipv4Addr>()
                .map(|address| Self::Address(address.into()))
                .map_err(|_| NameError::Numeric);
        }
        Ok(Self::Name(HostName(text)))
    }

    /// Host and port, as `CONNECT` has them.
    pub fn parse_with_port(bytes: &[u8]) -> Result<(Self, u16), NameError> {
        let (host, port) = split_port(bytes)?;
        let port = port.ok_or(NameError::NoPort)?;
        Ok((Self::parse(host)?, parse_port(port)?))
    }

    /// Host and port, as a URL or a `Host` header has them.
    pub fn parse_with_default(bytes: &[u8], default: u16) -> Result<(Self, u16), NameError> {
        let (host, port) = split_port(bytes)?;
        let port = port.map_or(Ok(default), parse_port)?;
        Ok((Self::parse(host)?, port))
    }
}

fn check_bytes(bytes: &[u8]) -> Result<(), NameError> {
    if bytes.is_empty() {
        return Err(NameError::Empty);
    }
    if bytes.contains(&b'@') {
        return Err(NameError::UserInfo);
    }
    for byte in bytes {
        match byte {
            0 => return Err(NameError::Nul),
            b'%' => return Err(NameError::Percent),
            0x80.. => return Err(NameError::NotAscii),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' => {}
            _ => return Err(NameError::Character),
        }
    }
    if bytes.len() > MAX_NAME {
        return Err(NameError::TooLong);
    }
    if bytes.ends_with(b".") {
        return Err(NameError::TrailingDot);
    }
    Ok(())
}

fn is_label(label: &str) -> bool {
    !label.is_empty() && label.len() <= MAX_LABEL && !label.starts_with('-') && !label.ends_with('-')
}

/// Decimal, octal or hexadecimal: what the resolver's address parser would take.
fn is_number(label: &str) -> bool {
    let hexadecimal = label
        .strip_prefix("0x")
        .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    hexadecimal || label.bytes().all(|byte| byte.is_ascii_digit())
}

fn ipv6(inner: &[u8]) -> Result<Host, NameError> {
    if inner.contains(&b'%') {
        return Err(NameError::Percent);
    }
    let text = std::str::from_utf8(inner).map_err(|_| NameError::Ipv6)?;
    text.parse::<Ipv6Addr>()
        .map(|address| Host::Address(address.into()))
        .map_err(|_| NameError::Ipv6)
}

/// What stands before the port, and the port.
type HostAndPort<'a> = (&'a [u8], Option<&'a [u8]>);

fn split_port(bytes: &[u8]) -> Result<HostAndPort<'_>, NameError> {
    if bytes.contains(&b'@') {
        return Err(NameError::UserInfo);
    }
    if bytes.starts_with(b"[") {
        let end = bytes
            .iter()
            .position(|byte| *byte == b']')
            .ok_or(NameError::Ipv6)?;
        let (host, rest) = bytes.split_at(end + 1);
        return match rest {
            [] => Ok((host, None)),
            [b':', port @ ..] => Ok((host, Some(port))),
            _ => Err(NameError::Ipv6),
        };
    }
    let mut parts = bytes.splitn(2, |byte| *byte == b':');
    Ok((parts.next().unwrap_or_default(), parts.next()))
}

fn parse_port(bytes: &[u8]) -> Result<u16, NameError> {
    // One spelling here too.
    let plain = bytes.len() <= 5 && bytes.iter().all(u8::is_ascii_digit) && bytes.first() != Some(&b'0');
    let text = std::str::from_utf8(bytes).map_err(|_| NameError::Port)?;
    match text.parse() {
        Ok(port) if plain => Ok(port),
        _ => Err(NameError::Port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_spelling_and_no_tricks() {
        for (text, wanted) in [
            ("pypi.org", Ok("pypi.org")),
            ("PyPI.Org", Ok("pypi.org")),
            ("xn--bcher-kva.example", Ok("xn--bcher-kva.example")),
            ("r3---sn-x.example.com", Ok("r3---sn-x.example.com")),
            ("localhost", Ok("localhost")),
            ("93.184.216.34", Ok("93.184.216.34")),
            ("[2606:4700::1111]", Ok("2606:4700::1111")),
            ("[::ffff:127.0.0.1]", Ok("::ffff:127.0.0.1")),
            ("", Err(NameError::Empty)),
            ("pypi.org\0.evil.com", Err(NameError::Nul)),
            ("pypi.org%00.evil.com", Err(NameError::Percent)),
            ("pypi.org.", Err(NameError::TrailingDot)),
            (".", Err(NameError::TrailingDot)),
            (".pypi.org", Err(NameError::Label)),
            ("pypi..org", Err(NameError::Label)),
            ("-pypi.org", Err(NameError::Label)),
            ("user@pypi.org", Err(NameError::UserInfo)),
            ("user:pw@pypi.org", Err(NameError::UserInfo)),
            ("bücher.example", Err(NameError::NotAscii)),
            ("pypi\u{3002}org", Err(NameError::NotAscii)),
            ("py pi.org", Err(NameError::Character)),
            ("pypi.org/evil", Err(NameError::Character)),
            ("pypi.org#.evil.com", Err(NameError::Character)),
            ("pypi.org\\evil", Err(NameError::Character)),
            ("pypi.org\r\nX: y", Err(NameError::Character)),
            ("under_score.example", Err(NameError::Character)),
            ("2130706433", Err(NameError::Numeric)),
            ("0x7f000001", Err(NameError::Numeric)),
            ("0x7f.0.0.0x1", Err(NameError::Numeric)),
            ("0x", Err(NameError::Numeric)),
            ("0177.0.0.1", Err(NameError::Numeric)),
            ("127.1", Err(NameError::Numeric)),
            ("127.0.0.01", Err(NameError::Numeric)),
            ("1.2.3.4.5", Err(NameError::Numeric)),
            ("pypi.org.0x7f", Err(NameError::Numeric)),
            ("::1", Err(NameError::Character)),
            ("[::1", Err(NameError::Ipv6)),
            ("[::1]x", Err(NameError::Ipv6)),
            ("[fe80::1%eth0]", Err(NameError::Percent)),
            ("[127.0.0.1]", Err(NameError::Ipv6)),
        ] {
            let found = Host::parse(text.as_bytes()).map(|host| host.to_string());
            assert_eq!(found, wanted.map(str::to_owned), "{text:?}");
        }
        let long = [
            vec![b'a'; 60],
            vec![b'a'; 60],
            vec![b'a'; 60],
            vec![b'a'; 60],
            vec![b'a'; 60],
        ]
        .join(&b'.');
        assert_eq!(Host::parse(&long), Err(NameError::TooLong));
        assert_eq!(Host::parse(&[b'a'; 64]), Err(NameError::Label));
    }

    #[test]
    fn ports_have_one_spelling_too() {
        for (text, wanted) in [
            ("a.example:443", Ok(443)),
            ("[::1]:443", Ok(443)),
            ("a.example", Err(NameError::NoPort)),
            ("a.example:", Err(NameError::Port)),
            ("a.example:0", Err(NameError::Port)),
            ("a.example:0443", Err(NameError::Port)),
            ("a.example:65536", Err(NameError::Port)),
            ("a.example:99999999999", Err(NameError::Port)),
            ("a.example:+443", Err(NameError::Port)),
            ("a.example: 443", Err(NameError::Port)),
            ("a.example:443:80", Err(NameError::Port)),
            ("a.example:443@b.example:80", Err(NameError::UserInfo)),
            ("[::1]443", Err(NameError::Ipv6)),
            ("::1:443", Err(NameError::Empty)),
            ("a::1:443", Err(NameError::Port)),
            (":443", Err(NameError::Empty)),
        ] {
            let found = Host::parse_with_port(text.as_bytes()).map(|(_, port)| port);
            assert_eq!(found, wanted, "{text:?}");
        }
        assert_eq!(Host::parse_with_default(b"a.example", 80).unwrap().1, 80);
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_what_is_taken_is_plain(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Host::parse_with_port(&bytes);
            if let Ok(Host::Name(name)) = Host::parse(&bytes) {
                prop_assert!(name.as_str().bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte)));
                prop_assert!(name.as_str().parse::<IpAddr>().is_err());
                prop_assert_eq!(Host::parse(name.as_str().as_bytes()), Ok(Host::Name(name.clone())));
            }
        }

        #[test]
        fn addresses_come_back(address in any::<Ipv4Addr>(), six in any::<Ipv6Addr>()) {
            prop_assert_eq!(Host::parse(address.to_string().as_bytes()), Ok(Host::Address(address.into())));
            prop_assert_eq!(Host::parse(format!("[{six}]").as_bytes()), Ok(Host::Address(six.into())));
        }
    }
}
