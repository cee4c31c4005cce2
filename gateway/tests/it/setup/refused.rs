//! What is refused, by whom it is said where, and what is written down of it.

use lodge_proto::control::{ProviderSetup, PutProviderRequest};
use tonic::Code;

use super::{FILE, OTHER_KEY, OWN_KEY, Scene, account, alias, enable, policy, price, provider, shown};
use crate::ops::entries;

#[tokio::test]
async fn what_the_file_says_is_not_changed_from_here_and_the_error_names_the_place() {
    let mut scene = Scene::new(FILE).await;
    let client = &mut scene.client;
    let refusals = [
        (
            client.put_provider(provider("filed", 9, OWN_KEY)).await,
            "[[provider]] number 1",
        ),
        (
            client.put_account(account("filed", "second", OWN_KEY)).await,
            "[[provider.account]]",
        ),
        (
            client.enable_account(enable("filed", "second", false)).await,
            "[[provider.account]]",
        ),
        (
            client.enable_account(enable("filed", "default", false)).await,
            "[[provider]] number 1",
        ),
        (
            client.put_alias(alias("best", &["filed/x"])).await,
            "[[alias]] number 1",
        ),
        (
            client
                .put_policy(policy("m", |policy| policy.rewrite = "x".into()))
                .await,
            "[[model_policy]] number 1",
        ),
        (
            client.put_price(price("filed", "m", 1)).await,
            "[[provider]] number 1, models",
        ),
    ];
    for (result, place) in refusals {
        let error = result.unwrap_err();
        assert_eq!(error.code(), Code::FailedPrecondition, "{}", error.message());
        let message = error.message();
        assert!(
            message.contains("config/lodge.toml") && message.contains(place),
            "{message}"
        );
    }
    // What it does not say may be added, also to its own providers.
    client
        .put_account(account("filed", "third", OTHER_KEY))
        .await
        .unwrap();
    client.put_price(price("filed", "other", 1)).await.unwrap();
    client.put_alias(alias("other", &["filed/m"])).await.unwrap();
    let listed = shown(client).await;
    let origins: Vec<_> = listed
        .aliases
        .iter()
        .map(|alias| (alias.name.as_str(), alias.origin.as_str()))
        .collect();
    assert_eq!(origins, [("best", "file"), ("other", "api")]);
    assert_eq!(listed.accounts.len(), 3);
    let (key, body) = scene.arrives("/filed/v1/messages", r#"{"model":"other"}"#).await;
    assert!(!key.is_empty());
    assert_eq!(body, r#"{"model":"m","tier":1}"#);
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_by_its_field_and_changes_nothing() {
    let mut scene = Scene::new(FILE).await;
    let before = shown(&mut scene.client).await;
    let client = &mut scene.client;
    let with = |change: &dyn Fn(&mut ProviderSetup)| {
        let mut request = provider("mine", 9, OWN_KEY);
        change(request.provider.as_mut().unwrap());
        request
    };
    let long = "x".repeat(300);
    let mut results = Vec::new();
    for (request, field) in [
        (with(&|p| p.name = "No Name".into()), "name"),
        (with(&|p| p.kind = "bard".into()), "kind"),
        (with(&|p| p.kind = "demo".into()), "kind"),
        (with(&|p| p.base_url = "http://example.com".into()), "base_url"),
        (with(&|p| p.responses = true), "responses"),
        (with(&|p| p.models[0].id = long.clone()), "models.id"),
        (
            with(&|p| _ = p.provider_tools.insert("web_search".into(), -1.0)),
            "provider_tools",
        ),
        (
            PutProviderRequest {
                key: "two words".into(),
                ..provider("mine", 9, "")
            },
            "key",
        ),
        (PutProviderRequest::default(), "provider"),
    ] {
        results.push((client.put_provider(request).await, field));
    }
    for (request, field) in [
        (account("filed", "x", ""), "key"),
        (account("filed", "default", OWN_KEY), "[[provider]]"),
        (account("filed", "Bad Name", OWN_KEY), "account"),
        (account("nobody", "x", OWN_KEY), "nobody"),
        (account("demo", "x", OWN_KEY), "demo"),
    ] {
        results.push((client.put_account(request).await, field));
    }
    for (request, field) in [
        (alias("", &["filed/m"]), "name"),
        (alias("x", &[]), "targets"),
        (alias("x", &["filed"]), "targets"),
        (alias("x", &["nobody/m"]), "nobody"),
        (alias("x", &["filed/m"; 9]), "targets"),
    ] {
        results.push((client.put_alias(request).await, field));
    }
    let set = |path: &str, json: &str| {
        let (path, json) = (path.to_owned(), json.to_owned());
        policy("x", move |policy| _ = policy.set.insert(path, json))
    };
    for (request, field) in [
        (policy("x", |_| {}), "does nothing"),
        (policy("", |policy| policy.rewrite = "y".into()), "model"),
        (set("a", "{"), "set"),
        (set("model", "1"), "set"),
        (set("a..b", "1"), "set"),
        (set("a", &format!("\"{}\"", "x".repeat(20_000))), "set"),
    ] {
        results.push((client.put_policy(request).await, field));
    }
    for (request, field) in [
        (price("filed", "", 1), "model"),
        (price("filed", "x", u64::MAX), "price"),
        (price("nobody", "x", 1), "nobody"),
    ] {
        results.push((client.put_price(request).await, field));
    }
    for (result, field) in results {
        let message = result.unwrap_err().message().to_owned();
        assert!(message.contains(field), "{field}: {message}");
        assert!(!message.contains(OWN_KEY));
    }
    assert_eq!(shown(&mut scene.client).await, before);
}

#[tokio::test]
async fn every_change_is_in_the_audit_and_none_of_the_keys() {
    let mut scene = Scene::new("").await;
    let port = scene.upstream.port;
    scene
        .client
        .put_provider(provider("mine", port, OWN_KEY))
        .await
        .unwrap();
    scene
        .client
        .put_account(account("mine", "team", OTHER_KEY))
        .await
        .unwrap();
    // A key where a name belongs.
    scene
        .client
        .put_account(account("mine", OTHER_KEY, OTHER_KEY))
        .await
        .unwrap_err();
    scene.client.put_alias(alias("fast", &["mine/m"])).await.unwrap();
    let entries = entries(scene.data.path()).await;
    let shown: Vec<_> = entries
        .iter()
        .rev()
        .map(|entry| {
            (
                entry.action.as_str(),
                entry.target.as_str(),
                entry.outcome.as_str(),
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            ("provider.set", "mine", "ok"),
            ("account.set", "mine/team", "ok"),
            ("account.set", "mine/(not a name)", "InvalidArgument"),
            ("alias.set", "fast", "ok"),
        ]
    );
    assert!(!format!("{entries:?}").contains("sk-set-up"));
}
