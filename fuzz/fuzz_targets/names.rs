//! Names and patterns: a name has one spelling, a wildcard means what is below it and nothing else, and a denial wins.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lodge_egress::name::{Host, HostName};
use lodge_egress::policy::{EgressPolicy, Unlisted, Verdict};
use std::net::IpAddr;

fn one_spelling(bytes: &[u8]) -> Option<Host> {
    let host = Host::parse(bytes).ok()?;
    let spelling = match &host {
        Host::Address(IpAddr::V6(address)) => format!("[{address}]"),
        host => host.to_string(),
    };
    assert_eq!(Host::parse(spelling.as_bytes()), Ok(host.clone()));
    if let Host::Name(name) = &host {
        assert_eq!(name.as_str().as_bytes(), bytes.to_ascii_lowercase());
        assert!(name.as_str().parse::<IpAddr>().is_err(), "an address is no name");
        assert_eq!(HostName::parse(bytes).as_ref(), Ok(name));
    }
    let text = format!("{spelling}:443");
    assert_eq!(Host::parse_with_port(text.as_bytes()), Ok((host.clone(), 443)));
    Some(host)
}

fn verdict(allow: &[&str], deny: &[&str], host: &Host) -> Option<Verdict> {
    let policy = EgressPolicy::new(allow, deny, &[443], Unlisted::Deny).ok()?;
    assert_eq!(policy.decide(host, 22).verdict, Verdict::Deny, "another port");
    Some(policy.decide(host, 443).verdict)
}

fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(2, |byte| *byte == b'\n');
    let (pattern, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let host = one_spelling(name);
    let of_pattern = one_spelling(pattern);
    let (Ok(pattern), Some(host)) = (std::str::from_utf8(pattern), host) else {
        return;
    };
    if verdict(&[pattern], &[], &host) == Some(Verdict::Allow) {
        match pattern.strip_prefix("*.") {
            Some(parent) => {
                let (below, parent) = (host.to_string(), parent.to_ascii_lowercase());
                assert!(
                    below.ends_with(&format!(".{parent}")),
                    "{below} is not below {parent}"
                );
                assert!(matches!(host, Host::Name(_)));
                assert!(parent.contains('.'), "a whole registry");
            }
            // A literal of IPv6 may stand without brackets.
            None => assert!(
                of_pattern.as_ref() == Some(&host)
                    || pattern
                        .parse::<IpAddr>()
                        .is_ok_and(|it| Host::Address(it) == host)
            ),
        }
        assert_eq!(
            verdict(&[pattern], &[pattern], &host),
            Some(Verdict::Deny),
            "a denial wins"
        );
    }
});
