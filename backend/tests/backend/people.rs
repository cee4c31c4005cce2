//! The people whom the gateway knows by name: who may say who there is, and whose is what.

use crate::usage::{Scene, scene, texts};
use http::{Method, StatusCode};
use lodge_proto::control::{Budget, User};
use lodge_proto::sock;
use serde_json::json;

#[tokio::test]
async fn administrators_say_who_there_is() {
    let Scene {
        backend,
        gateway,
        owner,
        ann,
    } = scene().await;
    let path = "/api/v1/admin/users/eve";
    let eve = json!({"uid": 1001, "team": "compilers"});
    for method in [Method::PUT, Method::PATCH] {
        let refused = backend.call(method.clone(), path, &ann, Some(eve.clone())).await;
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (StatusCode::FORBIDDEN, "forbidden")
        );
        for bad in [json!({"uid": "x"}), json!({"user": "x"}), json!({"rpm": -1})] {
            let refused = backend
                .call(method.clone(), path, &owner, Some(bad.clone()))
                .await;
            assert_eq!(refused.code(), "invalid_argument", "{bad}");
        }
    }
    assert!(gateway.state().users.is_empty());
    let added = backend.call(Method::PUT, path, &owner, Some(eve)).await.json();
    assert_eq!(
        (&added["name"], &added["uid"], &added["team"]),
        (&json!("eve"), &json!(1001), &json!("compilers"))
    );
    assert_eq!(gateway.state().actors, ["local"]);
    let listed = backend.get("/api/v1/admin/users", &owner).await;
    assert_eq!(texts(&listed, "users", "name"), ["eve"]);
    // What is in the configuration is changed there: asking again would not help.
    let filed = backend
        .call(Method::PATCH, path, &owner, Some(json!({"team": "filed"})))
        .await;
    assert_eq!(
        (filed.status, filed.code().as_str()),
        (StatusCode::CONFLICT, "conflict")
    );
    let removed = backend.call(Method::DELETE, path, &owner, None).await;
    assert_eq!(removed.status, StatusCode::NO_CONTENT);
    let again = backend.call(Method::DELETE, path, &owner, None).await;
    assert_eq!(again.code(), "not_found");
}

#[tokio::test]
async fn an_account_sees_what_is_counted_under_its_name() {
    let Scene {
        backend,
        gateway,
        owner,
        ann,
    } = scene().await;
    let uid = sock::own_uid();
    {
        let mut state = gateway.state();
        state.users = vec![User {
            name: "mia".into(),
            uid: Some(uid),
            ..User::default()
        }];
        state.budgets = vec![Budget {
            scope: "user:mia".into(),
            window: "day".into(),
            limit: 1,
            ..Budget::default()
        }];
    }
    let usage = backend.get("/api/v1/usage?by=day", &owner).await;
    assert_eq!(
        texts(&usage, "rows", "name"),
        [format!("day since 0 of local+{uid}+mia")]
    );
    let budgets = backend.get("/api/v1/budgets", &owner).await;
    assert_eq!(texts(&budgets, "budgets", "scope"), ["user:mia"]);
    let usage = backend.get("/api/v1/usage?by=day", &ann).await;
    assert_eq!(texts(&usage, "rows", "name"), ["day since 0 of ann"]);
    assert!(texts(&backend.get("/api/v1/budgets", &ann).await, "budgets", "scope").is_empty());
}
