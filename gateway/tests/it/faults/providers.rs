//! Providers that break off, say too much, or speak no HTTP.

use http_body_util::BodyExt;
use serde_json::json;

use super::{PATHS, Scene, typed};
use crate::admin::admin;
use crate::budget::{address, budget, of_user, send, settled};
use crate::common::guest::{self, Guest, post};
use crate::common::soon;

const ASK: &str = r#"{"model":"m","max_tokens":50,"stream":true,"messages":[{"role":"user","content":"x"}]}"#;
const BEGIN: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":5,\
    \"output_tokens\":1}}}\n\n";
const END: &str = "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\
    \"usage\":{\"output_tokens\":7}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

fn text(text: &str) -> String {
    format!(
        "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":\
         {{\"type\":\"text_delta\",\"text\":\"{text}\"}}}}\n\n"
    )
}

#[tokio::test]
async fn what_is_no_http_is_a_bad_gateway_in_each_dialect() {
    for broken in [
        "garbage\r\n\r\n",
        "HTTP/1.1 2x0 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-ty",
        "HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nabcde",
        "",
    ] {
        let mut scene = Scene::new().await;
        for path in PATHS {
            let mut guest = Guest::connect(&scene.session.socket).await;
            let key = scene.key().to_owned();
            let (answer, ()) = tokio::join!(guest.send(post(path, &key, ASK)), async {
                let mut exchange = scene.upstream.next().await;
                exchange.write(broken).await;
            });
            let (status, value) = guest::json(answer).await;
            assert_eq!(status, 502, "{broken:?} {value}");
            typed(path, 502, &value, "provider `");
        }
    }
}

#[tokio::test]
async fn a_stream_that_is_cut_anywhere_ends_as_cut() {
    let mut scene = Scene::new().await;
    let event = text("é😀");
    // In a character, in a line, between two lines, between two events.
    let cuts = [
        event.find('😀').unwrap() + 2,
        event.find('é').unwrap() + 1,
        event.find("data").unwrap() + 3,
        event.find("data").unwrap(),
        event.len(),
    ];
    for path in [PATHS[2], "/anthropic/v1/chat/completions"] {
        for cut in cuts {
            let mut guest = Guest::connect(&scene.session.socket).await;
            let key = scene.key().to_owned();
            let (answer, ()) = tokio::join!(guest.send(post(path, &key, ASK)), async {
                let mut exchange = scene.upstream.next().await;
                exchange.begin_stream().await;
                exchange.chunk(BEGIN).await;
                exchange.chunk(&text("whole")).await;
                exchange.chunk_of(&event.as_bytes()[..cut]).await;
            });
            assert_eq!(answer.status(), 200);
            let mut body = answer.into_body();
            let mut seen = Vec::new();
            let ended = loop {
                match soon("the end of the stream", body.frame()).await {
                    Some(Ok(frame)) => seen.extend_from_slice(frame.data_ref().unwrap()),
                    Some(Err(_)) => break false,
                    None => break true,
                }
            };
            assert!(!ended, "{path} {cut}: a cut stream looks whole");
            if path == PATHS[2] {
                let sent = [
                    BEGIN.as_bytes(),
                    text("whole").as_bytes(),
                    &event.as_bytes()[..cut],
                ]
                .concat();
                assert_eq!(seen, sent, "{cut}");
            } else {
                let seen = String::from_utf8(seen).expect("what is translated is text");
                assert!(seen.contains("whole") && !seen.contains("[DONE]"), "{seen}");
            }
        }
    }
}

#[tokio::test]
async fn what_comes_after_the_end_passes_and_is_not_billed_twice() {
    let mut scene = Scene::new().await;
    let mut admin = admin(scene.data.path()).await;
    let address = address(&mut admin).await;
    let request = lodge_proto::control::CreateKeyRequest {
        key: Some(of_user("ann")),
        budgets: vec![budget("", "day", 1 << 50)],
    };
    let made = admin.create_key(request).await.unwrap().into_inner();
    let scope = format!("key:{}", made.key.unwrap().id);
    let cost = 5 * 2000 + 7 * 10_000;
    let after = text("after the end") + "data: [DONE]\n\n";
    for turn in 1..=2 {
        let asking = send(address, post(PATHS[2], &made.secret, ASK));
        let (answer, ()) = tokio::join!(asking, async {
            let mut exchange = scene.upstream.next().await;
            exchange.begin_stream().await;
            exchange.chunk(&(BEGIN.to_owned() + &text("y") + END)).await;
            exchange.chunk(&after).await;
            // Behind the end of the message, too: nobody has asked for this answer.
            exchange
                .write("0\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")
                .await;
        });
        let seen = guest::text(answer).await;
        assert!(seen.ends_with(&after), "{seen}");
        assert_eq!(settled(&mut admin, &scope).await.spent, turn * cost);
    }
    // The next request gets its own answer.
    let asking = send(address, post(PATHS[2], &made.secret, ASK));
    let (answer, ()) = tokio::join!(asking, async {
        scene
            .upstream
            .next()
            .await
            .answer("200 OK", "", "{\"own\":1}")
            .await;
    });
    assert_eq!(guest::json(answer).await, (200, json!({ "own": 1 })));
}
