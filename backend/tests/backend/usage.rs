//! Usage, keys and budgets: everybody sees their own, and only administrators more.

use crate::fake_gateway::{self, Fake};
use crate::support::{Answer, Backend, within};
use http::header::SET_COOKIE;
use http::{HeaderName, Method, StatusCode};
use lodge_backend::auth::{Account, Accounts, SqliteAccounts};
use lodge_backend::control;
use lodge_proto::control::{Budget, VirtualKey};
use lodge_proto::relay::Rights;
use lodge_proto::sock;
use serde_json::{Value, json};

const KEY_ROUTES: [(Method, &str); 12] = [
    (Method::GET, "/api/v1/admin/usage?by=day"),
    (Method::GET, "/api/v1/admin/keys"),
    (Method::POST, "/api/v1/admin/keys"),
    (Method::DELETE, "/api/v1/admin/keys/k1"),
    (Method::POST, "/api/v1/admin/keys/k1/rotate"),
    (Method::PUT, "/api/v1/admin/keys/k1/enabled"),
    (Method::GET, "/api/v1/admin/budgets"),
    (Method::DELETE, "/api/v1/admin/budgets/user:ann/day"),
    (Method::GET, "/api/v1/admin/quota"),
    (Method::GET, "/api/v1/admin/users"),
    (Method::DELETE, "/api/v1/admin/users/ann"),
    (Method::PATCH, "/api/v1/admin/users/ann"),
];

pub(crate) struct Scene {
    pub(crate) backend: Backend,
    pub(crate) gateway: Fake,
    /// Cookie of the machine's owner.
    pub(crate) owner: String,
    /// Cookie of somebody who may only look.
    pub(crate) ann: String,
}

async fn login_as(backend: &Backend, account: &str) -> String {
    let socket = backend.data.join("run/backend-control.sock");
    let link = within(control::login_link(&socket, Some(account))).await.unwrap();
    let token = link.url.split_once("#token=").unwrap().1;
    let answer = backend.post("/api/v1/login", "", json!({ "token": token })).await;
    let cookie = answer.headers[SET_COOKIE].to_str().unwrap();
    cookie.split(';').next().unwrap().to_owned()
}

pub(crate) async fn scene() -> Scene {
    let backend = Backend::start().await;
    let store = SqliteAccounts::open(&backend.data.join("backend/accounts.db")).unwrap();
    let account = Account {
        id: "ann".into(),
        name: "Ann".into(),
        rights: Rights::View,
    };
    store.ensure_account(&account).unwrap();
    let gateway = fake_gateway::start(&backend.data);
    let owner = backend.login().await;
    let ann = login_as(&backend, "ann").await;
    let key = |id: &str, user: &str| VirtualKey {
        id: id.into(),
        user: user.into(),
        ..VirtualKey::default()
    };
    let uid = sock::own_uid();
    let budget = |scope: String| Budget {
        scope,
        window: "day".into(),
        limit: 10,
        spent: 3,
        reserved: 4,
        resets_at: 0,
    };
    {
        let mut state = gateway.state();
        state.keys = vec![key("k1", "ann"), key("k2", "local"), key("k3", "bob")];
        let scopes = ["user:ann", "key:k1", "user:local", "key:k2", "key:k3", "team:ann"].map(str::to_owned);
        state.budgets = scopes.into_iter().map(budget).collect();
        state
            .budgets
            .extend([budget(format!("user:{uid}")), budget(format!("session:{uid}/s"))]);
    }
    Scene {
        backend,
        gateway,
        owner,
        ann,
    }
}

pub(crate) fn texts(answer: &Answer, list: &str, field: &str) -> Vec<String> {
    let json = answer.json();
    let rows = json[list].as_array().unwrap_or_else(|| panic!("{json}"));
    rows.iter()
        .map(|row| row[field].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn everybody_sees_their_own_and_nothing_else() {
    let Scene {
        backend, owner, ann, ..
    } = scene().await;
    let uid = sock::own_uid();
    for (cookie, users, keys, budgets) in [
        (
            &ann,
            "ann".to_owned(),
            vec!["k1"],
            vec!["user:ann".to_owned(), "key:k1".to_owned()],
        ),
        (
            &owner,
            format!("local+{uid}"),
            vec!["k2"],
            ["user:local".to_owned(), "key:k2".to_owned()]
                .into_iter()
                .chain([format!("user:{uid}"), format!("session:{uid}/s")])
                .collect(),
        ),
    ] {
        let usage = backend.get("/api/v1/usage?by=model&since=9", cookie).await;
        assert_eq!(
            texts(&usage, "rows", "name"),
            [format!("model since 9 of {users}")]
        );
        assert_eq!(
            texts(&backend.get("/api/v1/keys", cookie).await, "keys", "id"),
            keys
        );
        let shown = backend.get("/api/v1/budgets", cookie).await;
        assert_eq!(texts(&shown, "budgets", "scope"), budgets);
        let first = &shown.json()["budgets"][0];
        assert_eq!((&first["left"], &first["limit"]), (&json!("3"), &json!("10")));
        assert!(first.get("resets_at").is_none());
    }
    assert_eq!(backend.get("/api/v1/keys/k1", &ann).await.status, StatusCode::OK);
    // Another's key and none look the same.
    let others = backend.get("/api/v1/keys/k3", &ann).await;
    assert_eq!(others.code(), "not_found");
    assert_eq!(others.body, backend.get("/api/v1/keys/none", &ann).await.body);
    assert_eq!(
        backend.get("/api/v1/keys/k3", &owner).await.status,
        StatusCode::OK
    );
    // No field of a request widens it.
    for query in ["by=day&user=bob", "by=day&users=bob", "by=all", ""] {
        let answer = backend.get(&format!("/api/v1/usage?{query}"), &ann).await;
        assert_eq!(answer.code(), "invalid_argument", "{query}");
    }
}

#[tokio::test]
async fn only_administrators_see_all_and_change_anything() {
    let Scene {
        backend,
        gateway,
        owner,
        ann,
    } = scene().await;
    for (method, path) in KEY_ROUTES {
        let body = (method == Method::POST).then(|| json!({"user": "ann"}));
        let refused = backend.call(method.clone(), path, &ann, body.clone()).await;
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (StatusCode::FORBIDDEN, "forbidden"),
            "{path}"
        );
        let nobody = backend.call(method, path, "", body).await;
        assert_eq!(nobody.code(), "unauthenticated", "{path}");
    }
    let limit = json!({"limit": "5"});
    let path = "/api/v1/admin/budgets/user:ann/day";
    assert_eq!(
        backend.call(Method::PUT, path, &ann, Some(limit)).await.code(),
        "forbidden"
    );
    assert_eq!(gateway.state().keys.len(), 3);
    assert_eq!(gateway.state().budgets.len(), 8);
    assert!(!gateway.state().keys.iter().any(|key| key.revoked));

    let usage = backend.get("/api/v1/admin/usage?by=user", &owner).await;
    assert_eq!(usage.json()["rows"][0]["cost"], "9223372036854775807");
    assert_eq!(texts(&usage, "rows", "name"), ["user since 0 of "]);
    assert_eq!(
        texts(&backend.get("/api/v1/admin/keys", &owner).await, "keys", "id"),
        ["k1", "k2", "k3"]
    );
    let budgets = backend.get("/api/v1/admin/budgets", &owner).await;
    assert_eq!(texts(&budgets, "budgets", "scope").len(), 8);
    let quota = backend.get("/api/v1/admin/quota", &owner).await.json();
    assert_eq!(quota["accounts"][0]["windows"][0]["remaining"], 5);
    let prices = backend.get("/api/v1/prices?model=m", &ann).await.json();
    assert_eq!(prices["prices"][0]["model"], "m");
    assert_eq!(prices["prices"][0]["output"], "9223372036854775807");
    for (cookie, administers) in [(&owner, true), (&ann, false)] {
        assert_eq!(
            backend.get("/api/v1/me", cookie).await.json()["administrator"],
            administers
        );
    }
}

async fn create(scene: &Scene, idempotency_key: &str, body: Value) -> Answer {
    let header = HeaderName::from_static("idempotency-key");
    let headers = [(header, idempotency_key)];
    let (backend, owner) = (&scene.backend, &scene.owner);
    backend
        .call_with(Method::POST, "/api/v1/admin/keys", owner, Some(body), &headers)
        .await
}

#[tokio::test]
async fn a_key_is_made_once_and_its_text_shown_once() {
    let scene = scene().await;
    let new = json!({"user": "eve", "name": "laptop", "models": ["claude-*"], "rpm": 5,
        "budgets": [{"window": "month", "limit": "5000000000"}]});
    let made = create(&scene, "one", new.clone()).await;
    assert_eq!(made.json()["secret"], "text of k4");
    assert_eq!(made.headers["cache-control"], "no-store");
    assert_eq!(made.json()["key"]["models"], json!(["claude-*"]));
    {
        let state = scene.gateway.state();
        assert_eq!(state.actors, ["local"]);
        let own = state.budgets.iter().find(|budget| budget.scope == "key:k4");
        assert_eq!(own.unwrap().limit, 5_000_000_000);
    }
    let again = create(&scene, "one", new).await;
    assert_eq!(
        (again.status, again.code().as_str()),
        (StatusCode::CONFLICT, "conflict")
    );
    assert_eq!(again.json()["error"]["details"]["key"], "k4");
    assert!(
        !String::from_utf8_lossy(&again.body).contains("text of"),
        "the text is gone"
    );
    assert_eq!(scene.gateway.state().keys.len(), 4);

    // What was refused may be mended under the same idempotency key.
    let nobody = create(&scene, "two", json!({})).await;
    assert_eq!(nobody.code(), "invalid_argument");
    assert_eq!(
        create(&scene, "two", json!({"user": "eve"})).await.status,
        StatusCode::OK
    );
    for bad in [
        json!({"user": "x", "budgets": [{"window": "day", "limit": 5}]}),
        json!({"user": "x", "budgets": [{"window": "day", "limit": "-5"}]}),
        json!({"user": "x", "budgets": [{"window": "day", "limit": "5usd"}]}),
        json!({"user": "x", "budgets": [{"window": "day", "limit": "18446744073709551616"}]}),
        json!({"user": "x", "rpm": -1}),
        json!({"user": "x", "secret": "mine"}),
    ] {
        assert_eq!(
            create(&scene, "three", bad.clone()).await.code(),
            "invalid_argument",
            "{bad}"
        );
    }
    assert_eq!(scene.gateway.state().keys.len(), 5);
}

#[tokio::test]
async fn keys_end_and_change_their_text() {
    let Scene { backend, owner, .. } = scene().await;
    let rotated = backend
        .post("/api/v1/admin/keys/k1/rotate", &owner, json!({}))
        .await;
    assert_eq!(rotated.json()["secret"], "new text of k1");
    let body = json!({"overlap": 9});
    let rotated = backend.post("/api/v1/admin/keys/k1/rotate", &owner, body).await;
    assert_eq!(rotated.json()["key"]["overlap_until"], 9);
    for enabled in [false, false, true, true] {
        let body = Some(json!({ "enabled": enabled }));
        let path = "/api/v1/admin/keys/k1/enabled";
        let done = backend.call(Method::PUT, path, &owner, body).await;
        assert_eq!(done.status, StatusCode::NO_CONTENT, "{:?}", done.body);
        let key = backend.get("/api/v1/keys/k1", &owner).await.json();
        assert_eq!(key["disabled"], !enabled);
    }
    // Ending a key twice is no failure.
    for _ in 0..2 {
        let path = "/api/v1/admin/keys/k1";
        let ended = backend.call(Method::DELETE, path, &owner, None).await;
        assert_eq!(ended.status, StatusCode::NO_CONTENT);
    }
    assert_eq!(
        backend.get("/api/v1/keys/k1", &owner).await.json()["revoked"],
        true
    );
    let rotated = backend
        .post("/api/v1/admin/keys/k1/rotate", &owner, json!({}))
        .await;
    assert_eq!(
        (rotated.status, rotated.code().as_str()),
        (StatusCode::CONFLICT, "conflict")
    );
    for (method, path) in [
        (Method::DELETE, "/api/v1/admin/keys/none"),
        (Method::POST, "/api/v1/admin/keys/none/rotate"),
    ] {
        assert_eq!(backend.call(method, path, &owner, None).await.code(), "not_found");
    }
}

#[tokio::test]
async fn budgets_are_set_and_taken_away() {
    let Scene {
        backend,
        gateway,
        owner,
        ..
    } = scene().await;
    // More than a number of JavaScript holds, and a slash in the name.
    let path = "/api/v1/admin/budgets/account:demo%2Fmain/month";
    let find = || {
        let state = gateway.state();
        let mut found = state
            .budgets
            .iter()
            .filter(|budget| budget.scope == "account:demo/main");
        let first = found.next().map(|budget| budget.limit);
        assert!(found.next().is_none());
        first
    };
    for _ in 0..2 {
        let body = json!({"limit": "9007199254740993"});
        let set = backend.call(Method::PUT, path, &owner, Some(body)).await;
        assert_eq!(set.status, StatusCode::NO_CONTENT, "{:?}", set.body);
        assert_eq!(find(), Some(9_007_199_254_740_993));
    }
    for _ in 0..2 {
        let removed = backend.call(Method::DELETE, path, &owner, None).await;
        assert_eq!((removed.status, find()), (StatusCode::NO_CONTENT, None));
    }
    let body = Some(json!({"limit": "1"}));
    let odd = backend
        .call(Method::PUT, "/api/v1/admin/budgets/user:ann/year", &owner, body)
        .await;
    assert_eq!(odd.code(), "invalid_argument");
    let none = backend
        .call(Method::PUT, "/api/v1/admin/budgets/user:ann/day", &owner, None)
        .await;
    assert_eq!(none.code(), "invalid_argument");
}

#[tokio::test]
async fn a_gateway_that_tells_of_everybody_is_not_believed() {
    let Scene {
        backend,
        gateway,
        ann,
        ..
    } = scene().await;
    gateway.state().is_old = true;
    let answer = backend.get("/api/v1/usage?by=day", &ann).await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
    );
}

#[tokio::test]
async fn without_the_gateway_it_says_so() {
    let backend = Backend::start().await;
    let cookie = backend.login().await;
    for path in [
        "usage?by=day",
        "keys",
        "budgets",
        "admin/usage?by=day",
        "admin/keys",
        "admin/quota",
    ] {
        let answer = backend.get(&format!("/api/v1/{path}"), &cookie).await;
        assert_eq!(answer.code(), "unavailable", "{path}");
    }
}
