//! Bodies that are no requests, or too large for one.

use super::{PATHS, Scene, head, typed};
use crate::common::guest::{Guest, json, post};

/// As deep as fits into a body.
fn nested(field: &str) -> Vec<u8> {
    let levels = 400_000;
    let (open, close) = ("[".repeat(levels), "]".repeat(levels));
    format!("{{\"model\":\"best\",\"max_tokens\":5,\"{field}\":{open}{close}}}").into_bytes()
}

#[tokio::test]
async fn however_deep_a_body_is_it_is_refused_or_passes() {
    let mut scene = Scene::new().await;
    for (path, field, passes) in [
        // Where the gateway has to look, and where it has not.
        (PATHS[2], "messages", false),
        (PATHS[2], "metadata", true),
        ("/anthropic/v1/chat/completions", "messages", false),
        (PATHS[3], "contents", false),
    ] {
        let mut guest = Guest::connect(&scene.session.socket).await;
        let asking = guest.send(post(path, scene.key(), nested(field)));
        if passes {
            let (answer, received) = tokio::join!(asking, async {
                let mut exchange = scene.upstream.next().await;
                exchange.answer("200 OK", "", "{}").await;
                exchange.request
            });
            assert_eq!(answer.status(), 200, "{path}");
            assert!(received.body.starts_with(b"{\"model\":\"m\""), "{path}");
        } else {
            let (status, value) = json(asking.await).await;
            assert_eq!(status, 400, "{path}: {value}");
            typed(path, 400, &value, "");
        }
    }
}

#[tokio::test]
async fn what_is_no_request_is_refused_in_each_dialect() {
    let mut scene = Scene::new().await;
    let bodies: [&[u8]; 9] = [
        b"",
        b"{\"model\":",
        b"nul",
        b"[]",
        b"\"text\"",
        b"{\"model\":\"m\"} x",
        b"{\"model\":\"m\",}",
        b"{\"model\":\"\xff\xfe\"}",
        b"{\"tools\":[],\"tools\":[{\"type\":\"web_search\"}]}",
    ];
    for path in PATHS {
        for body in bodies {
            let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
            let mut guest = Guest::connect(&scene.session.socket).await;
            let answer = tokio::select! {
                answer = guest.send(post(path, scene.key(), body.to_vec())) => answer,
                exchange = scene.upstream.next() => panic!("{shown} was sent: {}", exchange.request.line),
            };
            let (status, value) = json(answer).await;
            assert_eq!(status, 400, "{path} {shown}: {value}");
            typed(path, 400, &value, "");
        }
    }
    assert!(scene.upstream.is_untouched());
}

#[tokio::test]
async fn what_says_that_it_is_no_json_is_refused() {
    let mut scene = Scene::new().await;
    for path in PATHS {
        for kind in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/json; charset=utf-16",
        ] {
            let mut request = post(path, scene.key(), "{\"model\":\"m\"}");
            request
                .headers_mut()
                .insert("content-type", kind.parse().unwrap());
            let mut guest = Guest::connect(&scene.session.socket).await;
            let (status, value) = json(guest.send(request).await).await;
            assert_eq!(status, 415, "{path}: {value}");
            typed(path, 415, &value, kind);
        }
    }
    assert!(scene.upstream.is_untouched());
    // One that says nothing is taken for what the path is for.
    let mut request = post(PATHS[0], scene.key(), "{\"model\":\"m\"}");
    request.headers_mut().remove("content-type");
    let mut guest = Guest::connect(&scene.session.socket).await;
    let (answer, ()) = tokio::join!(guest.send(request), async {
        scene.upstream.next().await.answer("200 OK", "", "{}").await;
    });
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn a_body_of_100_mib_is_refused_before_it_is_sent() {
    let mut scene = Scene::new().await;
    for path in PATHS {
        let mut raw = scene.raw().await;
        raw.say(head(path, scene.key(), "content-length: 104857600\r\n"))
            .await;
        // Not a byte of it has been sent.
        let (status, _, value) = raw.answer().await;
        assert_eq!(status, 413, "{value}");
        typed(path, 413, &value, "1048576 bytes");
        // One that waits to be asked is not asked.
        let mut raw = scene.raw().await;
        raw.say(head(
            path,
            scene.key(),
            "content-length: 104857600\r\nexpect: 100-continue\r\n",
        ))
        .await;
        assert_eq!(raw.head().await.0, 413);
    }
    assert!(scene.upstream.is_untouched());
}

#[tokio::test]
async fn a_client_that_sends_on_reads_why_it_was_refused() {
    let mut scene = Scene::new().await;
    // More than any socket holds: it is read, or the client never gets to the answer.
    let rest = vec![b'x'; 3 << 20];
    for (path, header, status) in [
        (PATHS[2], "", 413),
        (PATHS[1], "content-encoding: compress\r\n", 415),
        ("/nobody/v1/messages", "", 404),
    ] {
        let mut raw = scene.raw().await;
        let length = format!("content-length: {}\r\n{header}", rest.len());
        raw.say(head(path, scene.key(), &length)).await;
        raw.say(&rest).await;
        assert_eq!(raw.answer().await.0, status, "{path}");
        // The connection is as good as before.
        raw.say(head("/nobody/v1/x", scene.key(), "content-length: 2\r\n") + "{}")
            .await;
        assert_eq!(raw.answer().await.0, 404, "{path}");
    }
    // Without a length, it shows at the limit.
    for path in PATHS {
        let mut raw = scene.raw().await;
        raw.say(head(path, scene.key(), "transfer-encoding: chunked\r\n"))
            .await;
        let chunk = format!("{:x}\r\n{}\r\n", 1 << 16, "x".repeat(1 << 16));
        for _ in 0..24 {
            raw.say(&chunk).await;
        }
        let (status, _, value) = raw.answer().await;
        assert_eq!(status, 413, "{value}");
        typed(path, 413, &value, "larger than");
    }
    assert!(scene.upstream.is_untouched());
}
