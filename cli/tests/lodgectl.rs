//! `lodgectl` as an administrator uses it, on a Lodge with the demo model.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Lodge, stderr, stdout};
use serde_json::Value;

fn ctl(lodge: &Lodge, args: &[&str]) -> String {
    let output = lodge.ctl(args, "");
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    stdout(&output)
}

fn json(lodge: &Lodge, args: &[&str]) -> Value {
    serde_json::from_str(&ctl(lodge, args)).unwrap()
}

#[test]
fn keys_are_changed_over_and_everything_is_in_the_audit() {
    let lodge = Lodge::new();
    let _up = lodge.up(&[]);
    let made = json(&lodge, &["key", "create", "--user", "ann", "--json"]);
    let id = made["id"].as_str().unwrap();
    ctl(&lodge, &["key", "disable", id]);
    assert!(ctl(&lodge, &["key", "list"]).contains("disabled"));
    assert_eq!(json(&lodge, &["key", "show", id, "--json"])["disabled"], true);
    ctl(&lodge, &["key", "enable", id]);
    let rotated = json(&lodge, &["key", "rotate", id, "--overlap", "24h", "--json"]);
    assert_ne!(rotated["key"], made["key"]);
    assert!(rotated["overlap_until"].as_u64().unwrap() > 0);
    for (overlap, why) in [("40d", "at most 30 days"), ("2030-01-01", "is no time")] {
        let refused = lodge.ctl(&["key", "rotate", id, "--overlap", overlap], "");
        assert!(stderr(&refused).contains(why), "{}", stderr(&refused));
    }

    let audit = json(&lodge, &["audit", "--json"]);
    let shown: Vec<_> = audit
        .as_array()
        .unwrap()
        .iter()
        .rev()
        .map(|entry| {
            (
                entry["action"].as_str().unwrap(),
                entry["outcome"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            ("key.create", "ok"),
            ("key.disable", "ok"),
            ("key.enable", "ok"),
            ("key.rotate", "ok"),
            ("key.rotate", "InvalidArgument"),
        ]
    );
    let last = json(&lodge, &["audit", "--limit", "1", "--json"]);
    assert_eq!(last[0]["serial"], audit[0]["serial"]);
    let table = ctl(&lodge, &["audit"]);
    for text in [&made["key"], &rotated["key"]] {
        assert!(!format!("{audit}{table}").contains(text.as_str().unwrap()));
    }
}

#[test]
fn prices_requests_and_counters_are_shown() {
    let lodge = Lodge::new();
    let _up = lodge.up(&[]);
    let prices = json(&lodge, &["price", "--json"]);
    assert_eq!(
        (&prices[0]["model"], &prices[0]["source"]),
        (&"demo".into(), &"free".into())
    );
    let unknown = lodge.ctl(&["price", "no-such-model"], "");
    assert!(
        stderr(&unknown).contains("PROVIDER/MODEL"),
        "{}",
        stderr(&unknown)
    );
    assert_eq!(json(&lodge, &["requests", "--json"]), serde_json::json!([]));
    let counters = ctl(&lodge, &["metrics"]);
    assert!(counters.contains("lodge_gateway_open_requests 0"), "{counters}");
    assert!(counters.ends_with("# EOF\n"), "{counters}");
}

#[test]
fn models_and_the_seal_key() {
    let lodge = Lodge::new();
    let up = lodge.up(&[]);
    let models = json(&lodge, &["models", "--refresh", "--json"]);
    let model = &models[0];
    assert_eq!(
        (&model["id"], &model["provider"]),
        (&"demo".into(), &"demo".into())
    );
    assert_eq!(
        (&model["tools"], &model["nano_usd_per_million_tokens"]["source"]),
        (&true.into(), &"free".into())
    );
    assert_eq!(
        model["harnesses"],
        serde_json::json!(["pi", "codex", "claude", "opencode"])
    );
    assert!(ctl(&lodge, &["models"]).contains("demo/demo"));
    let made = json(
        &lodge,
        &["key", "create", "--user", "ann", "--model", "other-*", "--json"],
    );
    let id = made["id"].as_str().unwrap();
    assert_eq!(
        json(&lodge, &["models", "--key", id, "--json"]),
        serde_json::json!([])
    );
    let unknown = lodge.ctl(&["models", "--key", "key-none"], "");
    assert!(stderr(&unknown).contains("key-none"), "{}", stderr(&unknown));
    assert!(ctl(&lodge, &["price", "--diff"]).contains("no price"));

    let key = lodge.data().join("gateway/seal.key");
    let before = std::fs::read(&key).unwrap();
    assert!(ctl(&lodge, &["gateway", "reseal"]).contains("next start"));
    let again = lodge.ctl(&["gateway", "reseal"], "");
    assert!(stderr(&again).contains("seal.next"), "{}", stderr(&again));
    assert_eq!(std::fs::read(&key).unwrap(), before);
    assert!(lodge.run(&["down"]).status.success());
    drop(up);
    let _up = lodge.up(&[]);
    assert_ne!(std::fs::read(&key).unwrap(), before);
    assert!(!lodge.data().join("gateway/seal.old").exists());
    let keys = json(&lodge, &["key", "list", "--json"]);
    assert_eq!(keys[0]["id"], made["id"]);
}
