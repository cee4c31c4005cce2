//! How much of all bodies is in memory at a time.

use std::time::Duration;

use super::{PATHS, Raw, Scene, head, typed};
use crate::common::guest::{Guest, json, post};
use crate::common::runner::Session;
use crate::common::soon;
use tokio::net::UnixStream;

/// A request that has begun to send a body as large as may be, and goes no further.
async fn hold(session: &Session) -> Raw<UnixStream> {
    let mut raw = Raw::new(UnixStream::connect(&session.socket).await.unwrap());
    let path = "/demo/v1/chat/completions";
    raw.say(head(
        path,
        &session.lease.virtual_key,
        "content-length: 1048576\r\n",
    ))
    .await;
    raw.say(vec![b' '; 1000]).await;
    raw
}

/// Asks until this is the answer, whatever comes before.
async fn until(session: &Session, wanted: u16) -> serde_json::Value {
    let ask = async {
        loop {
            let say = r#"{"model":"demo","messages":[{"role":"user","content":"say hi"}]}"#;
            let mut guest = Guest::connect(&session.socket).await;
            let path = "/demo/v1/chat/completions";
            let answer = guest.send(post(path, &session.lease.virtual_key, say)).await;
            let wait = answer.headers().get("retry-after").cloned();
            let (status, value) = json(answer).await;
            if status == wanted {
                assert!(status == 200 || wait.is_some(), "{value}");
                return value;
            }
        }
    };
    soon("the answer that is waited for", ask).await
}

#[tokio::test]
async fn bodies_that_are_held_back_take_no_more_than_their_share() {
    let mut scene = Scene::with(|config| {
        config.limits.room = Duration::from_millis(500);
        config.limits.slow = Duration::from_mins(10);
    })
    .await;
    // Four bodies of the largest size are one session's share; some more, since one may find it full for a moment.
    let mut held = Vec::new();
    for _ in 0..6 {
        held.push(hold(&scene.session).await);
    }
    let refused = until(&scene.session, 429).await;
    typed(PATHS[0], 429, &refused, "request bodies");
    // Another session has its own, until those of all are full.
    let data = scene.data.path().to_owned();
    let mut others = Vec::new();
    for number in 0..10 {
        let session = scene.runner.session(&data, &format!("o{number}"), 0).await;
        until(&session, 200).await;
        others.push(session);
    }
    for session in &others[..9] {
        for _ in 0..4 {
            held.push(hold(session).await);
        }
    }
    let refused = until(&others[9], 503).await;
    typed(PATHS[0], 503, &refused, "no memory left");
    // Those that vanish leave their room to others.
    drop(held);
    until(&others[9], 200).await;
    until(&scene.session, 200).await;
}
