//! What a session may reach: names and ports, matched in the one spelling that [`Host`] gives them.

use std::collections::BTreeSet;
use std::fmt;

use super::name::{Host, HostName, NameError};

/// Patterns of one list.
const MAX_PATTERNS: usize = 2048;
/// Ports of one policy.
const MAX_PORTS: usize = 256;
/// Second-level labels below which registries of countries give out names.
const PUBLIC_SECOND_LEVEL: &[&str] = &[
    "ac", "co", "com", "edu", "go", "gob", "gouv", "gov", "gv", "id", "mil", "ne", "net", "nom", "or", "org",
    "sch",
];

/// A policy that cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    #[error("{list}: `{pattern}`: {source}")]
    Pattern {
        list: &'static str,
        pattern: String,
        source: PatternError,
    },
    #[error("{0}: more than {MAX_PATTERNS} patterns")]
    TooManyPatterns(&'static str),
    #[error("ports: {0} is not a port")]
    Port(u32),
    #[error("ports: more than {MAX_PORTS}")]
    TooManyPorts,
}

/// A pattern that cannot be meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error(transparent)]
    Host(#[from] NameError),
    #[error("a `*` stands for all labels below a name and nowhere else: `*.example.org`")]
    Wildcard,
    #[error("a wildcard over a public suffix would allow everybody's names")]
    PublicSuffix,
}

/// `pypi.org`, `*.pypi.org` (what is below, not the name itself) or an exact address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Pattern {
    Exact(Host),
    Below(HostName),
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, PatternError> {
        if let Some(parent) = text.strip_prefix("*.") {
            if parent.contains('*') {
                return Err(PatternError::Wildcard);
            }
            return Ok(Self::Below(HostName::parse(parent.as_bytes())?));
        }
        if text.contains('*') {
            return Err(PatternError::Wildcard);
        }
        // Addresses are written without brackets where nothing follows them.
        let bracketed = if text.contains(':') && !text.starts_with('[') {
            format!("[{text}]")
        } else {
            text.to_owned()
        };
        Ok(Self::Exact(Host::parse(bracketed.as_bytes())?))
    }

    /// The same, refusing what allows too much.
    fn parse_allowing(text: &str) -> Result<Self, PatternError> {
        let pattern = Self::parse(text)?;
        if let Self::Below(parent) = &pattern
            && is_public_suffix(parent.as_str())
        {
            return Err(PatternError::PublicSuffix);
        }
        Ok(pattern)
    }

    fn matches(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Exact(exact), host) => exact == host,
            (Self::Below(parent), Host::Name(name)) => name
                .as_str()
                .strip_suffix(parent.as_str())
                .is_some_and(|below| below.len() > 1 && below.ends_with('.')),
            (Self::Below(_), Host::Address(_)) => false,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => host.fmt(f),
            Self::Below(parent) => write!(f, "*.{parent}"),
        }
    }
}

/// Top-level names, and what countries' registries have below theirs.
fn is_public_suffix(name: &str) -> bool {
    match name.rsplit_once('.') {
        None => true,
        Some((second, country)) => {
            country.len() == 2 && !second.contains('.') && PUBLIC_SECOND_LEVEL.contains(&second)
        }
    }
}

/// What happens to names on no list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unlisted {
    #[default]
    Deny,
    /// The user is asked.
    Ask,
}

/// What a session may reach. The default is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EgressPolicy {
    allow: Vec<Pattern>,
    deny: Vec<Pattern>,
    ports: BTreeSet<u16>,
    unlisted: Unlisted,
}

/// What is to become of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allow,
    Deny,
    Ask,
}

/// A verdict and what it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub verdict: Verdict,
    /// The pattern, or the key of the policy, that decided.
    pub rule: String,
}

impl EgressPolicy {
    /// A policy from what is written.
    pub fn new(
        allow: &[impl AsRef<str>],
        deny: &[impl AsRef<str>],
        ports: &[u32],
        unlisted: Unlisted,
    ) -> Result<Self, PolicyError> {
        if ports.len() > MAX_PORTS {
            return Err(PolicyError::TooManyPorts);
        }
        let ports = ports.iter().map(|port| match u16::try_from(*port) {
            Ok(port) if port != 0 => Ok(port),
            _ => Err(PolicyError::Port(*port)),
        });
        Ok(Self {
            allow: patterns("allow", allow, Pattern::parse_allowing)?,
            deny: patterns("deny", deny, Pattern::parse)?,
            ports: ports.collect::<Result<_, _>>()?,
            unlisted,
        })
    }

    /// A denial wins; an empty list allows nothing; addresses are never asked for.
    pub fn decide(&self, host: &Host, port: u16) -> Decision {
        let decision = |verdict, rule: String| Decision { verdict, rule };
        if let Some(pattern) = self.deny.iter().find(|pattern| pattern.matches(host)) {
            return decision(Verdict::Deny, format!("deny {pattern}"));
        }
        if !self.ports.contains(&port) {
            return decision(Verdict::Deny, "ports".to_owned());
        }
        if let Some(pattern) = self.allow.iter().find(|pattern| pattern.matches(host)) {
            return decision(Verdict::Allow, format!("allow {pattern}"));
        }
        match (host, self.unlisted) {
            (Host::Address(_), _) => decision(Verdict::Deny, "address".to_owned()),
            (Host::Name(_), Unlisted::Deny) => decision(Verdict::Deny, "unlisted".to_owned()),
            (Host::Name(_), Unlisted::Ask) => decision(Verdict::Ask, "unlisted".to_owned()),
        }
    }
}

fn patterns(
    list: &'static str,
    texts: &[impl AsRef<str>],
    parse: impl Fn(&str) -> Result<Pattern, PatternError>,
) -> Result<Vec<Pattern>, PolicyError> {
    if texts.len() > MAX_PATTERNS {
        return Err(PolicyError::TooManyPatterns(list));
    }
    let parsed = texts.iter().map(|text| {
        let text = text.as_ref();
        parse(text).map_err(|source| PolicyError::Pattern {
            list,
            // It may be anything: what is shown of it is bounded and printable.
            pattern: text.chars().filter(char::is_ascii_graphic).take(80).collect(),
            source,
        })
    });
    parsed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn policy(allow: &[&str], deny: &[&str], ports: &[u32], unlisted: Unlisted) -> EgressPolicy {
        EgressPolicy::new(allow, deny, ports, unlisted).unwrap()
    }

    fn verdict(policy: &EgressPolicy, host: &str, port: u16) -> Verdict {
        policy
            .decide(&Host::parse(host.as_bytes()).unwrap(), port)
            .verdict
    }

    #[test]
    fn names_ports_and_the_order_of_rules() {
        use Verdict::{Allow, Ask, Deny};
        let listed = policy(
            &["pypi.org", "*.pythonhosted.org", "192.0.2.7", "2001:db8::7"],
            &["evil.pythonhosted.org", "*.bad.example"],
            &[443],
            Unlisted::Deny,
        );
        let asking = policy(&["pypi.org"], &["*.bad.example"], &[443], Unlisted::Ask);
        for (policy, host, port, wanted) in [
            (&listed, "pypi.org", 443, Allow),
            (&listed, "PYPI.ORG", 443, Allow),
            (&listed, "pypi.org", 80, Deny),
            (&listed, "x.pypi.org", 443, Deny),
            (&listed, "notpypi.org", 443, Deny),
            (&listed, "pypi.org.evil.com", 443, Deny),
            (&listed, "files.pythonhosted.org", 443, Allow),
            (&listed, "a.b.pythonhosted.org", 443, Allow),
            (&listed, "pythonhosted.org", 443, Deny),
            (&listed, "evilpythonhosted.org", 443, Deny),
            (&listed, "evil.pythonhosted.org", 443, Deny),
            (&listed, "192.0.2.7", 443, Allow),
            (&listed, "192.0.2.8", 443, Deny),
            (&listed, "[2001:db8::7]", 443, Allow),
            (&asking, "pypi.org", 443, Allow),
            (&asking, "other.example", 443, Ask),
            (&asking, "other.example", 22, Deny),
            (&asking, "x.bad.example", 443, Deny),
            (&asking, "192.0.2.7", 443, Deny),
        ] {
            assert_eq!(verdict(policy, host, port), wanted, "{host}:{port}");
        }
        assert_eq!(
            listed
                .decide(&Host::parse(b"evil.pythonhosted.org").unwrap(), 443)
                .rule,
            "deny evil.pythonhosted.org"
        );
    }

    #[test]
    fn empty_lists_allow_nothing() {
        for policy in [
            EgressPolicy::default(),
            policy(&[], &[], &[443], Unlisted::Deny),
            policy(&["pypi.org"], &[], &[], Unlisted::Ask),
        ] {
            assert_eq!(verdict(&policy, "pypi.org", 443), Verdict::Deny);
        }
    }

    #[test]
    fn patterns_that_allow_too_much_are_refused() {
        for (text, wanted) in [
            ("*", PatternError::Wildcard),
            ("*.*", PatternError::Wildcard),
            ("a*.example.org", PatternError::Wildcard),
            ("*.org", PatternError::PublicSuffix),
            ("*.co.uk", PatternError::PublicSuffix),
            ("", PatternError::Host(NameError::Empty)),
            ("*.", PatternError::Host(NameError::Empty)),
            ("pypi.org.", PatternError::Host(NameError::TrailingDot)),
            ("https://pypi.org", PatternError::Host(NameError::Ipv6)),
            ("pypi.org/", PatternError::Host(NameError::Character)),
            ("0x7f.1", PatternError::Host(NameError::Numeric)),
            ("*.1.2.3.4", PatternError::Host(NameError::Numeric)),
        ] {
            let found = EgressPolicy::new(&[text], &[] as &[&str], &[443], Unlisted::Deny);
            let Err(PolicyError::Pattern { list, source, .. }) = found else {
                panic!("{text}: {found:?}")
            };
            assert_eq!((list, source), ("allow", wanted), "{text}");
        }
        // What only denies may be as wide as it likes.
        assert!(EgressPolicy::new(&[] as &[&str], &["*.org"], &[443], Unlisted::Ask).is_ok());
        let none: &[&str] = &[];
        assert_eq!(
            EgressPolicy::new(none, none, &[70_000], Unlisted::Deny),
            Err(PolicyError::Port(70_000))
        );
        assert_eq!(
            EgressPolicy::new(none, none, &[0], Unlisted::Deny),
            Err(PolicyError::Port(0))
        );
    }

    proptest! {
        #[test]
        fn a_denial_wins_whatever_is_allowed(name in "[a-z]{1,8}(\\.[a-z]{2,8}){1,3}", port in 1u16..) {
            let policy = policy(&[&name], &[&name], &[port.into()], Unlisted::Ask);
            prop_assert_eq!(verdict(&policy, &name, port), Verdict::Deny);
        }

        #[test]
        fn patterns_never_panic(text in ".{0,80}") {
            let _ = Pattern::parse_allowing(&text);
        }
    }
}
