//! Bodies that come compressed.

use std::io::Write;

use lodge_proto::control::CreateKeyRequest;

use super::{PATHS, Scene, typed};
use crate::admin::admin;
use crate::budget::{address, budget, of_user, send};
use crate::common::guest::{Guest, json, post};

const CODINGS: [&str; 4] = ["gzip", "deflate", "zstd", "br"];

pub(super) fn encode(coding: &str, plain: &[u8]) -> Vec<u8> {
    let level = flate2::Compression::default();
    match coding {
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        "deflate" => {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        "zstd" => zstd::encode_all(plain, 3).unwrap(),
        _ => {
            let mut coded = Vec::new();
            let parameters = brotli::enc::BrotliEncoderParams {
                quality: 5,
                ..Default::default()
            };
            brotli::BrotliCompress(&mut &*plain, &mut coded, &parameters).unwrap();
            coded
        }
    }
}

fn coded(
    path: &str,
    key: &str,
    coding: &str,
    body: Vec<u8>,
) -> hyper::Request<http_body_util::Full<bytes::Bytes>> {
    let mut request = post(path, key, body);
    request
        .headers_mut()
        .insert("content-encoding", coding.parse().unwrap());
    request
}

fn asking(model: &str) -> String {
    let words = "words and words ".repeat(400);
    format!(
        "{{ \"model\":\"{model}\",\"max_tokens\":50,\"n\":1e0,\"messages\":[{{\"role\":\"user\",\"content\":\"{words}\"}}] }}"
    )
}

#[tokio::test]
async fn what_need_not_be_changed_goes_on_as_it_came() {
    let mut scene = Scene::new().await;
    let plain = asking("m").replace("\"n\":1e0,", "");
    for path in PATHS {
        let plain = if path.contains("v1beta") {
            "{\"contents\":[ ]}"
        } else {
            &plain
        };
        for coding in CODINGS {
            let body = encode(coding, plain.as_bytes());
            let mut guest = Guest::connect(&scene.session.socket).await;
            let asking = guest.send(coded(path, scene.key(), coding, body.clone()));
            let (answer, received) = tokio::join!(asking, async {
                let mut exchange = scene.upstream.next().await;
                exchange.answer("200 OK", "", "{}").await;
                exchange.request
            });
            assert_eq!(answer.status(), 200, "{path} {coding}");
            assert_eq!(received.body, body, "{path} {coding}");
            assert_eq!(received.header("content-encoding"), Some(coding), "{path}");
        }
    }
}

#[tokio::test]
async fn what_is_changed_goes_on_plain() {
    let mut scene = Scene::new().await;
    let plain = asking("best");
    for (path, expected) in [
        // An alias: the name is replaced, every other byte stays.
        ("/anthropic/v1/messages", Some(asking("m"))),
        // Another dialect.
        ("/anthropic/v1/chat/completions", None),
    ] {
        for coding in CODINGS {
            let body = encode(coding, plain.as_bytes());
            let mut guest = Guest::connect(&scene.session.socket).await;
            let asking = guest.send(coded(path, scene.key(), coding, body));
            let (answer, received) = tokio::join!(asking, async {
                let mut exchange = scene.upstream.next().await;
                let answer = r#"{"type":"message","role":"assistant","content":[],"usage":{}}"#;
                exchange
                    .answer("200 OK", "content-type: application/json\r\n", answer)
                    .await;
                exchange.request
            });
            assert_eq!(answer.status(), 200, "{path} {coding}");
            assert_eq!(received.header("content-encoding"), None, "{path}");
            let text = String::from_utf8(received.body).unwrap();
            match &expected {
                Some(expected) => assert_eq!(&text, expected, "{coding}"),
                None => assert!(
                    text.contains("words and words") && text.contains("\"m\""),
                    "{text}"
                ),
            }
        }
    }
}

#[tokio::test]
async fn what_cannot_be_unpacked_is_refused_in_each_dialect() {
    let mut scene = Scene::new().await;
    let plain = asking("m");
    let bomb = vec![b' '; 40 << 20];
    for path in PATHS {
        for coding in CODINGS {
            let whole = encode(coding, plain.as_bytes());
            let cases = [
                (encode(coding, &bomb), 413, "larger than 1048576 bytes"),
                (whole[..whole.len() - 3].to_vec(), 400, "content-encoding says"),
                (plain.clone().into_bytes(), 400, "content-encoding says"),
                ([&whole[..], b"{}"].concat(), 400, "goes on after"),
                ([&whole[..], &whole[..]].concat(), 400, "goes on after"),
                (encode(coding, b"{\"model\":"), 400, ""),
            ];
            for (body, expected, text) in cases {
                let mut guest = Guest::connect(&scene.session.socket).await;
                let answer = guest.send(coded(path, scene.key(), coding, body)).await;
                let (status, value) = json(answer).await;
                assert_eq!(status, expected, "{path} {coding}: {value}");
                typed(path, expected, &value, text);
            }
        }
        for unknown in ["compress", "gzip, br", "exi"] {
            let mut guest = Guest::connect(&scene.session.socket).await;
            let answer = guest
                .send(coded(path, scene.key(), unknown, plain.clone().into_bytes()))
                .await;
            assert_eq!(answer.headers()["accept-encoding"], "gzip, br, zstd, deflate");
            let (status, value) = json(answer).await;
            assert_eq!(status, 415, "{path} {unknown}: {value}");
            typed(path, 415, &value, "gzip, br, zstd, deflate");
        }
    }
    assert!(scene.upstream.is_untouched());
}

#[tokio::test]
async fn what_is_reserved_is_by_what_comes_out() {
    let mut scene = Scene::new().await;
    let mut admin = admin(scene.data.path()).await;
    let address = address(&mut admin).await;
    let plain = asking("m");
    let body = encode("zstd", plain.as_bytes());
    assert!(body.len() * 10 < plain.len());
    // At the dearest: an hour's cache write costs twice the input.
    let reserved = (plain.len() as u64 + 4096) * 4000 + 50 * 10_000;
    for (limit, expected) in [(reserved - 1, 402), (reserved, 200)] {
        let request = CreateKeyRequest {
            key: Some(of_user("ann")),
            budgets: vec![budget("", "day", limit)],
        };
        let secret = admin.create_key(request).await.unwrap().into_inner().secret;
        let asking = send(address, coded(PATHS[2], &secret, "zstd", body.clone()));
        let answer = if expected == 200 {
            let (answer, ()) = tokio::join!(asking, async {
                scene.upstream.next().await.answer("200 OK", "", "{}").await;
            });
            answer
        } else {
            asking.await
        };
        assert_eq!(answer.status(), expected);
    }
    assert!(scene.upstream.is_untouched());
}
