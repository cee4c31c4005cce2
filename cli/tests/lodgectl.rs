//! `lodgectl` as an administrator uses it, on a Lodge with the demo model.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Lodge, eventually, stderr, stdout};
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
    let late = lodge.ctl(&["requests", "cancel", "99"], "");
    assert!(!late.status.success());
    assert!(
        stderr(&late).contains("no request 99 is under way"),
        "{}",
        stderr(&late)
    );
    let noted = json(&lodge, &["audit", "--search", "REQUEST:99", "--json"]);
    assert_eq!(noted[0]["outcome"], "NotFound");
    assert_eq!(noted.as_array().unwrap().len(), 1);
    let counters = ctl(&lodge, &["metrics"]);
    assert!(counters.contains("lodge_gateway_open_requests 0"), "{counters}");
    assert!(counters.ends_with("# EOF\n"), "{counters}");
}

const OWN_KEY: &str = "sk-of-lodgectl-OWN-0123456789";

#[test]
fn providers_accounts_aliases_policies_and_prices_are_set_up_and_outlive_a_restart() {
    let lodge = Lodge::new();
    let up = lodge.up(&[]);
    let add = [
        "provider",
        "add",
        "mine",
        "--kind",
        "anthropic",
        "--base-url",
        "http://127.0.0.1:9",
    ];
    let added = lodge.ctl(
        &[&add[..], &["--model", "m:1000:20", "--model", "n"]].concat(),
        OWN_KEY,
    );
    assert!(added.status.success(), "{}", stderr(&added));
    let key = lodge.folder("keys").join("key");
    std::fs::write(&key, "sk-of-lodgectl-TEAM-0123456789\n").unwrap();
    ctl(
        &lodge,
        &[
            "account",
            "add",
            "mine",
            "team",
            "--key-file",
            key.to_str().unwrap(),
        ],
    );
    ctl(&lodge, &["account", "disable", "mine", "team"]);
    let login = [
        "account",
        "add",
        "mine",
        "login",
        "--client-id",
        "c",
        "--token-url",
        "https://login.example/token",
    ];
    ctl(
        &lodge,
        &[&login[..], &["--device-url", "https://login.example/device"]].concat(),
    );
    ctl(&lodge, &["alias", "set", "fast", "mine/m", "mine/n"]);
    ctl(
        &lodge,
        &[
            "policy",
            "set",
            "gpt-*",
            "--deny=not for us",
            "--set-field",
            "metadata.team=\"blue\"",
        ],
    );
    ctl(
        &lodge,
        &["price", "set", "mine/m", "--input", "2", "--output", "10usd"],
    );
    drop(up);
    let _up = lodge.up(&[]);

    listed(&lodge);
    taken_back(&lodge);
    let audit = ctl(&lodge, &["audit", "--json"]);
    assert!(
        audit.contains("account.disable") && !audit.contains("sk-of-lodgectl"),
        "{audit}"
    );
}

/// Everything that was set up is shown, and where it comes from.
fn listed(lodge: &Lodge) {
    let accounts = json(lodge, &["account", "list", "mine", "--json"]);
    let shown = accounts.as_array().unwrap().iter().map(|account| {
        (
            account["account"].as_str().unwrap(),
            account["key"].as_str().unwrap(),
            account["disabled"].as_bool().unwrap(),
        )
    });
    let shown: Vec<_> = shown.collect();
    assert_eq!(
        shown,
        [
            ("default", "sealed", false),
            ("login", "login", false),
            ("team", "sealed", true)
        ]
    );
    let aliases = json(lodge, &["alias", "list", "--json"]);
    assert_eq!(
        (
            &aliases[0]["provider"],
            &aliases[0]["targets"],
            &aliases[0]["origin"]
        ),
        (
            &"mine".into(),
            &serde_json::json!(["mine/m", "mine/n"]),
            &"api".into()
        )
    );
    let policies = json(lodge, &["policy", "list", "--json"]);
    assert_eq!(
        (&policies[0]["deny"], &policies[0]["set"]["metadata.team"]),
        (&"not for us".into(), &"blue".into())
    );
    let prices = json(lodge, &["price", "mine/m", "--json"]);
    assert_eq!(
        (
            &prices[0]["source"],
            &prices[0]["nano_usd_per_million_tokens"]["input"]
        ),
        (&"administrator".into(), &2_000_000_000_u64.into())
    );
    for args in [
        ["account", "list"],
        ["alias", "list"],
        ["policy", "list"],
        ["provider", "list"],
    ] {
        assert!(
            ctl(lodge, &args).contains("mine") || args[0] == "policy",
            "{args:?}"
        );
    }
}

/// Everything that was set up, in the order in which it can be.
fn taken_back(lodge: &Lodge) {
    // What is in the way of a removal is named, with the command that clears it.
    let refused = lodge.ctl(&["provider", "remove", "mine"], "");
    assert!(
        stderr(&refused).contains("lodgectl alias remove fast"),
        "{}",
        stderr(&refused)
    );
    ctl(lodge, &["alias", "remove", "fast"]);
    ctl(lodge, &["policy", "remove", "gpt-*"]);
    ctl(lodge, &["price", "remove", "mine/m"]);
    ctl(lodge, &["account", "remove", "mine", "team", "--json"]);
    ctl(lodge, &["provider", "remove", "mine"]);
}

#[test]
fn what_cannot_be_set_up_is_refused_with_what_to_do() {
    let lodge = Lodge::new();
    let _up = lodge.up(&[]);
    for (args, why) in [
        (vec!["account", "disable", "mine", "team"], "there is no account"),
        (
            vec!["alias", "set", "x", "nobody/m"],
            "there is no provider `nobody`",
        ),
        (vec!["alias", "set", "x", "m"], "provider/model"),
        (vec!["policy", "set", "x"], "--deny"),
        (
            vec!["policy", "set", "x", "--set-field", "a=blue"],
            "needs quotes",
        ),
        (
            vec!["price", "set", "m", "--input", "1", "--output", "1"],
            "PROVIDER/MODEL",
        ),
    ] {
        let refused = lodge.ctl(&args, "");
        assert!(
            !refused.status.success() && stderr(&refused).contains(why),
            "{args:?}: {}",
            stderr(&refused)
        );
    }
}

#[test]
fn a_configuration_is_checked_with_and_without_a_gateway_and_read_again_when_it_changes() {
    let lodge = Lodge::new();
    let file = lodge.data().join("config/lodge.toml");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let bad = lodge.folder("other").join("bad.toml");
    std::fs::write(
        &bad,
        "workspaces = []\n[[provider]]\nname = 'x'\nkind = 'openai'\nkey_env = 'NOT_SET_HERE'\n",
    )
    .unwrap();
    let misspelt = bad.with_file_name("misspelt.toml");
    std::fs::write(&misspelt, "[gatway]\ndemo = true\n").unwrap();
    std::fs::write(&file, "").unwrap();
    let without = ctl(&lodge, &["gateway", "check"]);
    assert!(
        without.contains("is valid") && without.contains("no gateway runs"),
        "{without}"
    );
    let check = || {
        for (path, why) in [(&bad, "NOT_SET_HERE"), (&misspelt, "line 1")] {
            let refused = lodge.ctl(&["gateway", "check", path.to_str().unwrap()], "");
            let text = stderr(&refused);
            assert!(!refused.status.success() && text.contains(why), "{text}");
            assert!(text.contains(path.to_str().unwrap()), "{text}");
        }
    };
    check();
    let _up = lodge.up(&[]);
    check();
    assert_eq!(
        json(&lodge, &["gateway", "check", "--json"])["gateway_runs"],
        true
    );
    std::fs::write(&file, "[[provider]]\nname = 'x'\n").unwrap();
    eventually("the error is told", || {
        ctl(&lodge, &["gateway", "health"])
            .contains("lodge.toml, line")
            .then_some(())
    });
    let status = stdout(&lodge.run(&["status"]));
    assert!(
        status.contains("is not what is in force") && status.contains("lodge.toml, line"),
        "{status}"
    );
    std::fs::write(
        &file,
        "[[provider]]\nname = 'ours'\nkind = 'openai_compatible'\nbase_url = 'http://127.0.0.1:9/v1'\n",
    )
    .unwrap();
    eventually("the file is read", || {
        ctl(&lodge, &["provider", "list"]).contains("ours").then_some(())
    });
    assert_eq!(json(&lodge, &["gateway", "health", "--json"])["config_error"], "");
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
