//! What is set up beside the gateway's configuration file, over REST.

use crate::usage::{Scene, scene};
use http::{Method, StatusCode};
use serde_json::{Value, json};

const ACCOUNT: &str = "/api/v1/admin/providers/main/accounts/team";

/// Every change, in an order in which each of them can be made.
fn changes() -> Vec<(Method, &'static str, Option<Value>)> {
    vec![
        (
            Method::PUT,
            "/api/v1/admin/providers/main",
            Some(
                json!({ "kind": "anthropic", "models": [{ "id": "m", "context_window": 8 }], "key": "sk-x" }),
            ),
        ),
        (Method::PUT, ACCOUNT, Some(json!({ "key": "sk-y" }))),
        (
            Method::PUT,
            "/api/v1/admin/providers/main/accounts/team/enabled",
            Some(json!({ "enabled": false })),
        ),
        (
            Method::PUT,
            "/api/v1/admin/aliases/main/fast",
            Some(json!({ "targets": ["main/m", "other/a/b"] })),
        ),
        (
            Method::PUT,
            "/api/v1/admin/policies/*/org%2Fsecret-*",
            Some(json!({ "deny": "", "set": { "metadata.by": { "a": 1 } } })),
        ),
        (
            Method::PUT,
            "/api/v1/admin/prices/main/m",
            Some(json!({ "input": "2000000000", "output": "10000000000" })),
        ),
        (Method::DELETE, ACCOUNT, None),
        (Method::DELETE, "/api/v1/admin/aliases/main/fast", None),
        (Method::DELETE, "/api/v1/admin/policies/*/org%2Fsecret-*", None),
        (Method::DELETE, "/api/v1/admin/prices/main/m", None),
    ]
}

#[tokio::test]
async fn only_administrators_see_and_change_what_is_set_up() {
    let Scene {
        backend,
        gateway,
        ann,
        ..
    } = scene().await;
    let looks = [
        (Method::GET, "/api/v1/admin/setup", None),
        (Method::POST, "/api/v1/admin/gateway/check", Some(json!({}))),
    ];
    for (method, path, body) in changes().into_iter().chain(looks) {
        let refused = backend.call(method.clone(), path, &ann, body.clone()).await;
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (StatusCode::FORBIDDEN, "forbidden"),
            "{path}"
        );
        let nobody = backend.call(method, path, "", body).await;
        assert_eq!(nobody.code(), "unauthenticated", "{path}");
    }
    assert!(gateway.state().actors.is_empty());
}

#[tokio::test]
async fn everything_is_set_up_shown_and_taken_back() {
    let Scene {
        backend,
        gateway,
        owner,
        ..
    } = scene().await;
    let (puts, removals): (Vec<_>, Vec<_>) = changes()
        .into_iter()
        .partition(|(method, ..)| *method == Method::PUT);
    for (method, path, body) in puts {
        let made = backend.call(method, path, &owner, body).await;
        assert_eq!(made.status, StatusCode::NO_CONTENT, "{path}");
    }
    let shown = backend.get("/api/v1/admin/setup", &owner).await.json();
    assert_eq!(shown["providers"][0]["models"][0]["context_window"], 8);
    assert_eq!(
        (
            &shown["accounts"][0]["account"],
            &shown["accounts"][0]["disabled"]
        ),
        (&json!("team"), &json!(true))
    );
    assert_eq!(shown["aliases"][0]["targets"], json!(["main/m", "other/a/b"]));
    let policy = &shown["policies"][0];
    assert_eq!(
        (
            &policy["provider"],
            &policy["model"],
            &policy["deny"],
            &policy["set"]
        ),
        (
            &json!("*"),
            &json!("org/secret-*"),
            &json!(""),
            &json!({ "metadata.by": { "a": 1 } })
        )
    );
    assert_eq!(shown["prices"][0]["input"], "2000000000");
    assert!(!shown.to_string().contains("sk-"), "{shown}");
    for (method, path, body) in removals {
        let removed = backend.call(method, path, &owner, body).await;
        assert_eq!(removed.status, StatusCode::NO_CONTENT, "{path}");
    }
    let shown = backend.get("/api/v1/admin/setup", &owner).await.json();
    for list in ["accounts", "aliases", "policies", "prices"] {
        assert_eq!(shown[list], json!([]), "{list}");
    }
    // The gateway knows for whom each change was made.
    let actors = gateway.state().actors.clone();
    assert_eq!(actors.len(), changes().len());
    assert!(actors.iter().all(|actor| !actor.is_empty()), "{actors:?}");
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_with_the_reason() {
    let Scene { backend, owner, .. } = scene().await;
    let put = async |path: &str, body: Value| backend.call(Method::PUT, path, &owner, Some(body)).await;
    let filed = put("/api/v1/admin/providers/filed", json!({ "kind": "anthropic" })).await;
    assert!(filed.status.is_client_error() && filed.json().to_string().contains("[[provider]] number 1"));
    for (path, body, field) in [
        ("/api/v1/admin/providers/x", json!({}), "kind"),
        (
            "/api/v1/admin/providers/x",
            json!({ "kind": "openai", "kye": 1 }),
            "kye",
        ),
        (ACCOUNT, json!({}), "key"),
        ("/api/v1/admin/aliases/main/x", json!({}), "targets"),
        (
            "/api/v1/admin/prices/main/m",
            json!({ "input": "2.5", "output": "1" }),
            "input",
        ),
        (
            "/api/v1/admin/prices/main/m",
            json!({ "input": "1", "output": "1", "reasoning": "x" }),
            "reasoning",
        ),
    ] {
        let refused = put(path, body).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{path}");
        assert!(refused.json().to_string().contains(field), "{}", refused.json());
    }
    let check = async |body: Value| {
        let path = "/api/v1/admin/gateway/check";
        backend.call(Method::POST, path, &owner, Some(body)).await.json()
    };
    assert_eq!(check(json!({})).await, json!({ "needs_restart": ["egress"] }));
    let error = check(json!({ "text": "x" })).await["error"].clone();
    assert!(error.to_string().contains("line 4"), "{error}");
}
