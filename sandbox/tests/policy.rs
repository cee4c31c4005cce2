//! Policy files: what is refused, with file and key, and that merging can only narrow.

use std::path::Path;

use lodge_sandbox::policy::{Layer, Net, Policy, PolicyError, Profile, Strength, Tier};
use lodge_sandbox::size::Bytes;
use proptest::prelude::*;

fn layer(text: &str) -> Layer {
    Layer::parse(Path::new("test.toml"), text).unwrap_or_else(|error| panic!("{text}\n{error}"))
}

fn refused(text: &str) -> String {
    Layer::parse(Path::new("dir/test.toml"), text)
        .expect_err(text)
        .to_string()
}

#[test]
fn unknown_keys_wrong_types_and_impossible_values_name_file_and_key() {
    for (text, key) in [
        ("", "version"),
        ("version = 2", "version"),
        ("version = 1\nprofil = 'strict'", "profil"),
        ("version = 1\nprofile = 'lax'", "profile"),
        ("version = 1\n[fs]\nreads = []", "fs.reads"),
        ("version = 1\n[fs]\ntmp_size = '1X'", "fs.tmp_size"),
        ("version = 1\n[fs]\ntmp_size = -1", "fs.tmp_size"),
        ("version = 1\n[fs]\nread = ['relative']", "fs.read"),
        ("version = 1\n[fs]\ndeny = ['/a/../b']", "fs.deny"),
        ("version = 1\n[fs]\nprotect = ['../x']", "fs.protect"),
        ("version = 1\n[fs]\nprotect = ['/x']", "fs.protect"),
        ("version = 1\n[net]\nmode = 'host'", "net.mode"),
        ("version = 1\n[net]\nallow = ['example.org']", "net.allow"),
        (
            "version = 1\n[net]\nmode = 'broker'\nports = [70000]",
            "net.ports",
        ),
        ("version = 1\n[net]\nunlisted = 'ask'", "net.unlisted"),
        (
            "version = 1\n[net]\nmode = 'broker'\nunlisted = 'allow'",
            "net.unlisted",
        ),
        ("version = 1\n[net]\nmode = 'broker'\nallow = ['*']", "net.allow"),
        (
            "version = 1\n[net]\nmode = 'broker'\nallow = ['*.com']",
            "net.allow",
        ),
        (
            "version = 1\n[net]\nmode = 'broker'\nallow = ['PyPI.org']",
            "net.allow",
        ),
        ("version = 1\n[net]\nmode = 'broker'\ndeny = ['a b']", "net.deny"),
        ("version = 1\n[net]\nmode = 'broker'\nports = [53]", "net.ports"),
        ("version = 1\n[net]\nmode = 'broker'\nports = [8377]", "net.ports"),
        ("version = 1\n[fs]\nhome = 'yes'", "fs.home"),
        ("version = 1\n[limits]\nrequire = 'soft'", "limits.require"),
        ("version = 1\n[limits]\nmemory = 0", "limits.memory"),
        ("version = 1\n[limits]\nidle_seconds = 0", "limits.idle_seconds"),
        ("version = 1\n[fs]\ntmp_size = 0", "fs.tmp_size"),
        ("version = 1\n[env]\npass = ['A=B']", "env"),
        ("version = 1\n[limits]\nprocesses = 'many'", "limits.processes"),
        ("version = 1\ntier = 'none'", "tier"),
        ("version = 1\n\u{0}", ""),
    ] {
        let error = refused(text);
        assert!(
            error.starts_with(&format!("dir/test.toml: {key}")),
            "{text:?}: {error}"
        );
    }
}

#[test]
fn each_loosening_is_refused_by_its_key() {
    let base = "version = 1\nminimum_tier = 'process'\n[fs]\nread = ['/opt/a']\nwrite = []\n\
                [net]\nmode = 'broker'\nallow = ['*.example.org']\nports = [443]\n[env]\npass = ['LANG']";
    let policy = Policy::base(&layer(base)).unwrap();
    let hard = Policy::base(&layer("version = 1\n[limits]\nrequire = 'hard'")).unwrap();
    let softer = hard.tighten(&layer("version = 1\n[limits]\nrequire = 'sampled'"));
    assert_eq!(softer.unwrap_err().key, "limits.require");
    for (text, key) in [
        ("profile = 'minimal'", "profile"),
        ("nesting = 'one_level'", "nesting"),
        ("[fs]\nread = ['/opt']", "fs.read"),
        ("[fs]\nread = ['/opt/ab']", "fs.read"),
        ("[fs]\nwrite = ['/srv']", "fs.write"),
        ("[fs]\ntmp_size = '4G'", "fs.tmp_size"),
        ("[fs]\nhome = true", "fs.home"),
        ("[net]\nmode = 'broker'\nunlisted = 'ask'", "net.unlisted"),
        ("[net]\nmode = 'broker'\nallow = ['*.example.com']", "net.allow"),
        ("[net]\nmode = 'broker'\nallow = ['1.1.1.1']", "net.allow"),
        ("[net]\nmode = 'broker'\nallow = ['example.org']", "net.allow"),
        ("[net]\nmode = 'broker'\nports = [22]", "net.ports"),
        ("[env]\npass = ['SECRET']", "env.pass"),
        ("[env.set]\nLD_PRELOAD = '/x'", "env.set"),
        ("[limits]\nprocesses = 100000", "limits.processes"),
        ("[limits]\nopen_files = 100000", "limits.open_files"),
    ] {
        let error = policy
            .tighten(&layer(&format!("version = 1\n{text}")))
            .expect_err(text);
        assert_eq!(error.key, key, "{text}");
    }
    let strict = Policy::of(Profile::Strict);
    assert_eq!(
        strict
            .tighten(&layer("version = 1\ntier = 'container'"))
            .unwrap_err()
            .key,
        "tier"
    );
    assert_eq!(
        strict
            .tighten(&layer("version = 1\nminimum_tier = 'process'"))
            .unwrap_err()
            .key,
        "minimum_tier"
    );
    assert_eq!(
        strict
            .tighten(&layer("version = 1\n[net]\nmode = 'broker'"))
            .unwrap_err()
            .key,
        "net.mode"
    );
    let above = policy.tighten(&layer("version = 1\nminimum_tier = 'container'"));
    assert_eq!(above.unwrap_err().key, "tier");
}

#[test]
fn a_tightening_is_applied() {
    let policy = Policy::of(Profile::Development);
    let text =
        "version = 1\n[fs]\nprotect = ['Makefile']\ntmp_size = '64M'\n[limits]\nmemory = '1G'\nprocesses = 5";
    let tighter = policy.tighten(&layer(text)).unwrap();
    assert_eq!(tighter.fs.tmp_size, Bytes::mib(64));
    assert_eq!(tighter.limits.memory, Some(Bytes::mib(1024)));
    assert_eq!(tighter.limits.processes, Some(5));
    assert!(tighter.fs.protect.contains("Makefile") && tighter.fs.protect.contains(".git/hooks"));
    let own = "version = 1\n[net]\nmode = 'broker'\nallow = ['pypi.org']\nunlisted = 'deny'\nports = [443]\n\
               [limits]\nrequire = 'hard'";
    let own = policy.tighten(&layer(own)).unwrap();
    assert!(
        matches!(&own.net, Net::Broker { allow, ports, .. } if allow.len() == 1 && *ports == [443].into()),
        "{:?}",
        own.net
    );
    assert_eq!(own.limits.require, Strength::Hard);
    let minimal = Policy::of(Profile::Minimal);
    let narrowed = minimal
        .tighten(&layer("version = 1\nprofile = 'development'"))
        .unwrap();
    assert_eq!(narrowed.net, policy.net);
    assert!(minimal.fs.home && !narrowed.fs.home);
    let strict = policy.tighten(&layer("version = 1\nprofile = 'strict'")).unwrap();
    assert_eq!(
        (strict.profile, strict.tier, strict.net),
        (Profile::Strict, Tier::Microvm, Net::None)
    );
}

#[test]
fn an_empty_allow_list_allows_nothing() {
    let policy = Policy::base(&layer("version = 1\n[net]\nmode = 'broker'")).unwrap();
    assert!(matches!(&policy.net, Net::Broker { allow, ports, .. } if allow.is_empty() && ports.is_empty()));
}

#[test]
fn layers_are_read_in_order_and_a_loosening_one_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let system = file("system.toml", "version = 1\n[limits]\nprocesses = 100");
    let user = file("user.toml", "version = 1\n[limits]\nprocesses = 50");
    let workspace = file("workspace.toml", "version = 1\n[limits]\nprocesses = 60");
    let missing = dir.path().join("missing.toml");
    let policy = Policy::load(Some(&system), Some(&user), Some(&missing)).unwrap();
    assert_eq!(policy.limits.processes, Some(50));
    let error = Policy::load(Some(&system), Some(&user), Some(&workspace)).unwrap_err();
    assert!(
        matches!(&error, PolicyError::Loosens { file, key: "limits.processes", .. } if *file == workspace)
    );
    let broken = file("broken.toml", "version = 1\n[[[");
    assert!(matches!(
        Policy::load(None, None, Some(&broken)),
        Err(PolicyError::Invalid { .. })
    ));
}

/// Lines of a policy file, from a small vocabulary so that layers often meet.
fn text() -> impl Strategy<Value = String> {
    let one = |key: &'static str, values: &'static [&'static str]| {
        proptest::option::weighted(0.3, proptest::sample::select(values)).prop_map(move |value| {
            value
                .map(|value| format!("{key} = {value}\n"))
                .unwrap_or_default()
        })
    };
    let paths: &[&str] = &["[]", "['/opt']", "['/opt/a']", "['/opt/a', '/srv']", "['/srv']"];
    let sizes: &[&str] = &["'1M'", "'64M'", "'1G'", "'9G'"];
    let counts: &[&str] = &["1", "100", "5000"];
    let tiers: &[&str] = &["'process'", "'container'", "'microvm'"];
    let top = (
        one("profile", &["'strict'", "'development'", "'minimal'"]),
        one("tier", tiers),
        one("minimum_tier", tiers),
        one("nesting", &["'deny'", "'one_level'"]),
    );
    let fs = (
        one("home", &["true", "false"]),
        one("read", paths),
        one("write", paths),
        one("deny", paths),
        one("protect", &["[]", "['a']", "['a', 'b/c']"]),
        one("tmp_size", sizes),
    );
    let net = (
        proptest::bool::weighted(0.5),
        one(
            "allow",
            &[
                "[]",
                "['*.a.org']",
                "['x.a.org']",
                "['*.x.a.org', 'b.com', 'github.com']",
            ],
        ),
        one("deny", &["[]", "['b.com']"]),
        one("ports", &["[]", "[80]", "[80, 443]"]),
        one("unlisted", &["'deny'", "'ask'"]),
    );
    let env = (
        one("pass", &["[]", "['A']", "['A', 'B']"]),
        one("set", &["{}", "{ C = '1' }", "{ C = '2' }"]),
    );
    let limits = (
        one("processes", counts),
        one("memory", sizes),
        one("file_size", sizes),
        one("open_files", counts),
        one("cpu_seconds", counts),
        one("disk", sizes),
        one("output", sizes),
        one("wall_seconds", counts),
        (
            one("idle_seconds", counts),
            one("require", &["'sampled'", "'hard'"]),
        ),
    );
    (top, fs, net, env, limits).prop_map(|(t, f, n, e, l)| {
        let net = if n.0 {
            format!("mode = 'broker'\n{}{}{}{}", n.1, n.2, n.3, n.4)
        } else {
            String::new()
        };
        let fs = format!("{}{}{}{}{}{}", f.0, f.1, f.2, f.3, f.4, f.5);
        let limits = format!(
            "{}{}{}{}{}{}{}{}{}{}",
            l.0, l.1, l.2, l.3, l.4, l.5, l.6, l.7, l.8.0, l.8.1
        );
        let top = format!("{}{}{}{}", t.0, t.1, t.2, t.3);
        format!(
            "version = 1\n{top}[fs]\n{fs}[net]\n{net}[env]\n{}{}[limits]\n{limits}",
            e.0, e.1
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn tightening_only_narrows(base in text(), above in text(), below in text()) {
        let Ok(policy) = Policy::base(&layer(&base)) else { return Ok(()) };
        prop_assert!(policy.is_within(&policy));
        let mut narrowed = policy.clone();
        for text in [above, below] {
            if let Ok(next) = narrowed.tighten(&layer(&text)) {
                prop_assert!(next.is_within(&narrowed), "{next:?}\nis not within\n{narrowed:?}");
                prop_assert!(next.is_within(&policy));
                narrowed = next;
            }
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in ".{0,200}") {
        let _ = Layer::parse(Path::new("x"), &text);
    }
}

#[test]
fn the_order_tells_policies_apart() {
    let development = Policy::of(Profile::Development);
    for profile in [Profile::Strict, Profile::Minimal] {
        let other = Policy::of(profile);
        assert_eq!(other.is_within(&development), profile == Profile::Strict);
        assert_eq!(development.is_within(&other), profile == Profile::Minimal);
    }
}

#[test]
fn lists_longer_than_the_broker_takes_are_refused_where_they_stand() {
    let hosts = |count: usize| {
        (0..count)
            .map(|at| format!("'h{at}.example.org'"))
            .collect::<Vec<_>>()
            .join(",")
    };
    let ports = |count: usize| {
        (1000..1000 + count)
            .map(|at| at.to_string())
            .collect::<Vec<_>>()
            .join(",")
    };
    let file = |key: &str, list: String| format!("version = 1\n[net]\nmode = 'broker'\n{key} = [{list}]");
    for key in ["allow", "deny"] {
        layer(&file(key, hosts(2048)));
        let error = refused(&file(key, hosts(2049)));
        assert!(error.starts_with(&format!("dir/test.toml: net.{key}")), "{error}");
    }
    layer(&file("ports", ports(256)));
    let error = refused(&file("ports", ports(257)));
    assert!(error.starts_with("dir/test.toml: net.ports"), "{error}");
}
