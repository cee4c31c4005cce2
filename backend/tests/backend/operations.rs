//! Running the gateway over REST: requests under way, the audit, health, accounts.

use crate::usage::{Scene, scene, texts};
use http::{Method, StatusCode};
use lodge_proto::control::LiveRequest;
use lodge_proto::sock;
use serde_json::json;

const ROUTES: [(Method, &str); 8] = [
    (Method::GET, "/api/v1/admin/requests"),
    (Method::DELETE, "/api/v1/admin/requests/2"),
    (Method::GET, "/api/v1/admin/audit"),
    (Method::GET, "/api/v1/admin/gateway/health"),
    (Method::POST, "/api/v1/admin/gateway/reload"),
    (Method::POST, "/api/v1/admin/providers/main/test"),
    (Method::POST, "/api/v1/admin/providers/main/accounts/a/login"),
    (
        Method::POST,
        "/api/v1/admin/providers/main/accounts/a/login/finish",
    ),
];

async fn working() -> Scene {
    let scene = scene().await;
    let live = |id: u64, user: &str| LiveRequest {
        id,
        user: user.into(),
        reserved: u64::MAX >> 1,
        ..LiveRequest::default()
    };
    let uid = sock::own_uid().to_string();
    scene.gateway.state().live = vec![live(1, "ann"), live(2, "local"), live(3, &uid), live(12, "bob")];
    scene
}

#[tokio::test]
async fn only_administrators_run_the_gateway() {
    let Scene {
        backend,
        gateway,
        ann,
        ..
    } = working().await;
    for (method, path) in ROUTES {
        let body = (method == Method::POST).then(|| json!({}));
        let refused = backend.call(method.clone(), path, &ann, body.clone()).await;
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (StatusCode::FORBIDDEN, "forbidden"),
            "{path}"
        );
        let nobody = backend.call(method, path, "", body).await;
        assert_eq!(nobody.code(), "unauthenticated", "{path}");
    }
    assert_eq!(gateway.state().live.len(), 4);
}

#[tokio::test]
async fn requests_are_seen_and_ended_by_those_whose_they_are() {
    let Scene {
        backend,
        gateway,
        owner,
        ann,
    } = working().await;
    let list = async |path: &str, cookie: &str| texts(&backend.get(path, cookie).await, "requests", "id");
    assert_eq!(list("/api/v1/requests", &ann).await, ["1"]);
    assert_eq!(list("/api/v1/requests", &owner).await, ["2", "3"]);
    assert_eq!(
        list("/api/v1/admin/requests", &owner).await,
        ["1", "2", "3", "12"]
    );
    let listed = backend.get("/api/v1/requests", &ann).await.json();
    assert_eq!(listed["requests"][0]["reserved"], "9223372036854775807");

    // Another's request looks like none, also to an administrator who asks for their own.
    for (path, cookie) in [
        ("/api/v1/requests/2", &ann),
        ("/api/v1/requests/12", &owner),
        ("/api/v1/requests/99", &owner),
        ("/api/v1/requests/x", &ann),
        ("/api/v1/admin/requests/99", &owner),
        ("/api/v1/admin/requests/-1", &owner),
    ] {
        let refused = backend.call(Method::DELETE, path, cookie, None).await;
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (StatusCode::NOT_FOUND, "not_found"),
            "{path}"
        );
    }
    assert_eq!(gateway.state().live.len(), 4);
    for (path, cookie) in [
        ("/api/v1/requests/1", &ann),
        ("/api/v1/requests/2", &owner),
        ("/api/v1/admin/requests/12", &owner),
    ] {
        let ended = backend.call(Method::DELETE, path, cookie, None).await;
        assert_eq!(ended.status, StatusCode::NO_CONTENT, "{path}");
    }
    assert_eq!(gateway.state().actors, ["ann", "local", "local"]);
    assert_eq!(list("/api/v1/admin/requests", &owner).await, ["3"]);
}

#[tokio::test]
async fn the_audit_has_pages() {
    let Scene {
        backend,
        gateway,
        owner,
        ..
    } = scene().await;
    gateway.state().audit = (1..=5).collect();
    let mut seen = Vec::new();
    let mut path = "/api/v1/admin/audit?limit=2&search=eve".to_owned();
    loop {
        let page = backend.get(&path, &owner).await.json();
        let entries = page["entries"].as_array().unwrap();
        assert!(entries.iter().all(|entry| entry["actor"] == "eve"));
        seen.extend(entries.iter().map(|entry| entry["serial"].as_u64().unwrap()));
        let Some(next) = page["next"].as_u64() else { break };
        path = format!("/api/v1/admin/audit?limit=2&search=eve&before={next}");
    }
    assert_eq!(seen, [5, 4, 3, 2, 1]);
    let all = backend.get("/api/v1/admin/audit", &owner).await.json();
    assert_eq!(all["entries"][0]["detail"]["window"], "day");
    assert!(all["next"].is_null());
    for bad in ["limit=-1", "before=x", "serch=x"] {
        let refused = backend.get(&format!("/api/v1/admin/audit?{bad}"), &owner).await;
        assert_eq!(refused.code(), "invalid_argument", "{bad}");
    }
}

#[tokio::test]
async fn the_gateway_tells_what_is_wrong() {
    let Scene { backend, owner, .. } = scene().await;
    let health = backend.get("/api/v1/admin/gateway/health", &owner).await.json();
    assert_eq!(health["config_error"], "lodge.toml:3: `knid`");
    assert_eq!(health["paused"].as_array().unwrap().len(), 1);
    assert_eq!(health["paused"][0]["provider"], "main");
    assert_eq!(health["paused"][0]["reason"], "the provider limits it");
    let post = async |path: &str, body| backend.post(&format!("/api/v1/admin/{path}"), &owner, body).await;
    let reload = post("gateway/reload", json!({})).await;
    assert_eq!(
        (reload.status, reload.code().as_str()),
        (StatusCode::BAD_REQUEST, "invalid_argument")
    );
    assert!(
        reload.json()["error"]["message"]
            .as_str()
            .unwrap()
            .contains("knid")
    );
    let test = post("providers/main/test", json!({})).await.json();
    assert_eq!(
        test["accounts"][0]["message"],
        "the provider does not know this key"
    );
    // Waiting mends neither.
    assert_eq!(post("providers/demo/test", json!({})).await.code(), "conflict");
    let keyed = post("providers/main/accounts/default/login", json!({})).await;
    assert_eq!(keyed.code(), "conflict");
    let begun = post("providers/main/accounts/work/login", json!({"device": true})).await;
    assert_eq!(begun.json()["url"], "https://main.example/true");
    let finish = "providers/main/accounts/work/login/finish";
    assert_eq!(post(finish, json!({})).await.json()["after"], 5);
    let done = post(finish, json!({"state": "s", "code": "c"})).await;
    assert_eq!(done.json()["logged_in"], true);
    assert_eq!(
        post(finish, json!({"secret": 1})).await.code(),
        "invalid_argument"
    );
}
