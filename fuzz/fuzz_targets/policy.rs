//! Policy files. The operator's comes first, a workspace's after a NUL: whatever that one says, it is refused or it
//! only tightens. And what is accepted here for the way out, the broker accepts too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lodge_egress::name::Host;
use lodge_egress::policy::{EgressPolicy, Unlisted as Broker, Verdict};
use lodge_sandbox::policy::{Layer, Net, Policy, Profile, Unlisted};
use std::path::Path;

fn parse(file: &str, text: &str) -> Option<Layer> {
    match Layer::parse(Path::new(file), text) {
        Ok(layer) => Some(layer),
        Err(error) => {
            assert!(
                error.to_string().starts_with(&format!("{file}: ")),
                "{error} names no file"
            );
            None
        }
    }
}

/// The broker takes the policy, and lets nobody through whom no list names.
fn reaches_the_broker(policy: &Policy) {
    let Net::Broker {
        allow,
        deny,
        ports,
        unlisted,
    } = &policy.net
    else {
        return;
    };
    let list = |names: &std::collections::BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>();
    let numbers: Vec<u32> = ports.iter().map(|port| u32::from(*port)).collect();
    let other = match unlisted {
        Unlisted::Deny => Broker::Deny,
        Unlisted::Ask => Broker::Ask,
    };
    let broker = EgressPolicy::new(&list(allow), &list(deny), &numbers, other)
        .unwrap_or_else(|error| panic!("the broker refuses what the policy allows: {error}"));
    let strange = Host::parse(b"lodge-fuzz.invalid").expect("a name");
    let named =
        |names: &std::collections::BTreeSet<String>| names.iter().any(|name| name.ends_with(".invalid"));
    if !named(allow) {
        let verdict = broker.decide(&strange, 443).verdict;
        assert_ne!(verdict, Verdict::Allow, "nobody named it");
        assert!(verdict != Verdict::Ask || *unlisted == Unlisted::Ask);
    }
}

fn only_tightens(above: &Policy, layer: &Layer) {
    assert!(above.is_within(above));
    if let Ok(below) = above.tighten(layer) {
        assert!(below.is_within(above), "{below:?} is looser than {above:?}");
        let again = below
            .tighten(layer)
            .expect("a file never loosens what it made itself");
        assert_eq!(again, below);
        reaches_the_broker(&below);
    }
}

fuzz_target!(|text: &str| {
    let (first, second) = text.split_once('\0').unwrap_or((text, text));
    let base = parse("system.toml", first).and_then(|layer| Policy::base(&layer).ok());
    if let Some(base) = &base {
        reaches_the_broker(base);
    }
    let Some(layer) = parse("workspace.toml", second) else {
        return;
    };
    for profile in [Profile::Minimal, Profile::Development, Profile::Strict] {
        only_tightens(&Policy::of(profile), &layer);
    }
    if let Some(base) = &base {
        only_tightens(base, &layer);
    }
});
