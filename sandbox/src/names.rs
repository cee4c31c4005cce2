//! Which patterns may stand for hosts: names, wildcards over the names below one, and exact addresses.

use std::net::IpAddr;

/// Longest name and label of the domain name system, in bytes.
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// Second labels under which registries of countries sell names (`co.uk`).
const SECOND_LEVEL: &[&str] = &[
    "ac", "co", "com", "edu", "go", "gob", "gouv", "gov", "gv", "id", "ltd", "mil", "ne", "net", "nom", "or",
    "org", "sch",
];

/// Below these anybody can have a name, so a wildcard over one is a wildcard over the world.
const SHARED: &[&str] = &[
    "amazonaws.com",
    "appspot.com",
    "azureedge.net",
    "azurewebsites.net",
    "cloudapp.net",
    "cloudfront.net",
    "duckdns.org",
    "firebaseapp.com",
    "fly.dev",
    "github.io",
    "gitlab.io",
    "herokuapp.com",
    "netlify.app",
    "ngrok.app",
    "ngrok.io",
    "nip.io",
    "onrender.com",
    "pages.dev",
    "readthedocs.io",
    "run.app",
    "sslip.io",
    "trycloudflare.com",
    "vercel.app",
    "web.app",
    "windows.net",
    "workers.dev",
];

/// Says why `pattern` can stand for no host.
pub(crate) fn check(pattern: &str) -> Result<(), &'static str> {
    if let Ok(address) = pattern.parse::<IpAddr>() {
        let plain = address.to_string() == pattern;
        return if plain {
            Ok(())
        } else {
            Err("is no address in its shortest form")
        };
    }
    let (name, wildcard) = match pattern.strip_prefix("*.") {
        Some(name) => (name, true),
        None => (pattern, false),
    };
    if name.contains('*') {
        return Err("has a `*` that is not the whole first label");
    }
    let labels: Vec<&str> = name.split('.').collect();
    if name.len() > MAX_NAME || !labels.iter().all(|label| is_label(label)) {
        return Err(
            "is no name of a host: lower-case letters, digits and hyphens, other scripts as punycode",
        );
    }
    let (last, others) = labels.split_last().ok_or("is empty")?;
    if last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x") {
        return Err("is neither a name nor an address in its usual form");
    }
    if others.is_empty() {
        return Err("is a single label, which no public name is");
    }
    if wildcard && is_public(name, &labels) {
        return Err("is a wildcard over names that anybody can register");
    }
    Ok(())
}

fn is_label(label: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=MAX_LABEL).contains(&label.len())
        && label.bytes().all(plain)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

fn is_public(name: &str, labels: &[&str]) -> bool {
    let of_country = labels.len() == 2 && labels[1].len() == 2 && SECOND_LEVEL.contains(&labels[0]);
    let below = |shared: &str| name.strip_suffix(shared).is_some_and(|rest| rest.ends_with('.'));
    of_country || SHARED.iter().any(|&shared| name == shared || below(shared))
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn names_wildcards_and_exact_addresses_are_patterns() {
        for good in [
            "pypi.org",
            "*.pypi.org",
            "a.b.c.d.example",
            "xn--bcher-kva.example",
            "1.1.1.1",
            "2606:4700::1111",
            "3com.com",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn everything_else_is_none() {
        for bad in [
            "",
            "*",
            "*.",
            "*.*",
            "*.com",
            "*.co.uk",
            "*.gouv.fr",
            "*.id.au",
            "*.github.io",
            "*.x.github.io",
            "a.*.org",
            "*a.org",
            "**.a.org",
            "PyPI.org",
            "pypi.org.",
            ".pypi.org",
            "pypi..org",
            "pypi_.org",
            "pypi.org:443",
            "http://pypi.org",
            "bücher.example",
            "localhost",
            "2130706433",
            "127.1",
            "0x7f.1",
            "010.0.0.1",
            "1.1.1.1.",
            "[::1]",
            "0:0:0:0:0:0:0:1",
            "a\0.org",
            "a b.org",
            "-a.org",
            "a-.org",
            "*.1.1.1.1",
            "a%00.org",
        ] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
        assert!(check(&format!("{}.org", "a".repeat(64))).is_err());
        assert!(check(&format!("{}org", "a.".repeat(126))).is_err());
    }
}
