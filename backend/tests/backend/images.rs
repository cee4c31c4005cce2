//! Images: raw bytes over HTTP, binary frames to the runner, each on a connection of its own.

use crate::fake_runner::{Connection, FakeRunner};
use crate::support::{Answer, Backend, within};
use http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, HOST, ORIGIN,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderName, Method, StatusCode};
use lodge_proto::blob::{MAX_BLOB, PIECE};
use lodge_proto::frame::{self, Header, Kind};
use serde_json::{Value, json};

const HASH: &str = "6ef0b2c4b8b31e2b1ac4e1b46a4c2e5ad6f9aa8a5f4e0f4c6b6a6f8d9c2b1a00";

async fn upload(backend: &Backend, cookie: &str, body: &[u8]) -> Answer {
    let origin = backend.origin();
    upload_as(backend, &[(COOKIE, cookie), (ORIGIN, &origin)], body).await
}

async fn upload_as(backend: &Backend, headers: &[(HeaderName, &str)], body: &[u8]) -> Answer {
    let host = backend.host();
    let mut all = vec![(HOST, host.as_str())];
    all.extend_from_slice(headers);
    backend.raw(Method::POST, "/api/v1/blobs", &all, body).await
}

/// The connection of one transfer, after its greeting and its request.
async fn transfer(runner: &FakeRunner, request: &str) -> (Connection, Value) {
    let mut connection = within(runner.accept_silent()).await;
    assert!(within(connection.recv()).await.is("hello"));
    let hello = json!({"type": "hello", "version": 1, "runner_epoch": 9});
    connection.relay_control(0, 0, &hello).await;
    let request = within(connection.recv_control(request)).await;
    assert_eq!(request.header.channel, 1);
    assert_eq!(
        request.json["actor"]["account"], "local",
        "who it is says the login"
    );
    (connection, request.json)
}

/// Every byte of an upload.
async fn received(connection: &mut Connection) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let piece = within(connection.recv()).await;
        assert_eq!((piece.header.kind, piece.header.session), (Kind::Blob, 0));
        assert!(piece.bytes.len() <= PIECE);
        if piece.bytes.is_empty() {
            return bytes;
        }
        bytes.extend_from_slice(&piece.bytes);
    }
}

#[tokio::test]
async fn an_image_is_streamed_to_the_runner() {
    let (backend, runner, _main) = Backend::with_runner().await;
    let cookie = backend.login().await;
    let image: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let blob = json!({"hash": HASH, "media_type": "image/png", "size": image.len()});
    let (answer, ()) = tokio::join!(upload(&backend, &cookie, &image), async {
        let (mut connection, _) = transfer(&runner, "blob_put").await;
        assert!(received(&mut connection).await == image, "other bytes arrive");
        connection.reply(1, &json!({"id": "blob", "ok": blob})).await;
    });
    assert_eq!((answer.status, answer.json()), (StatusCode::OK, blob));
    backend.stop().await;
}

#[tokio::test]
async fn what_the_runner_refuses_is_refused_by_its_status() {
    let (backend, runner, _main) = Backend::with_runner().await;
    let cookie = backend.login().await;
    let cases = [
        ("invalid_argument", json!({"reason": "media_type"}), 415),
        ("invalid_argument", json!({"reason": "too_large"}), 413),
        ("limit_exceeded", json!({"reason": "quota"}), 507),
    ];
    for (code, details, status) in cases {
        let error = json!({"code": code, "message": "no", "details": details});
        let (answer, ()) = tokio::join!(upload(&backend, &cookie, b"x"), async {
            let (mut connection, _) = transfer(&runner, "blob_put").await;
            // Before it has all.
            connection.reply(1, &json!({"id": "blob", "error": error})).await;
            while within(connection.try_recv()).await.is_some() {}
        });
        assert_eq!((answer.status.as_u16(), answer.code()), (status, code.to_owned()));
    }
    backend.stop().await;
}

#[tokio::test]
async fn nothing_reaches_the_runner_of_what_is_refused_at_once() {
    let (backend, runner, _main) = Backend::with_runner().await;
    let cookie = backend.login().await;
    let large = upload(&backend, &cookie, &vec![0; MAX_BLOB + 1]).await;
    assert_eq!(large.status, StatusCode::PAYLOAD_TOO_LARGE);
    let origin = backend.origin();
    let nobody = upload_as(&backend, &[(ORIGIN, &origin)], b"x").await;
    assert_eq!(nobody.status, StatusCode::UNAUTHORIZED);
    let foreign = [(COOKIE, cookie.as_str()), (ORIGIN, "http://evil.example")];
    let foreign = upload_as(&backend, &foreign, b"x").await;
    assert_eq!(foreign.status, StatusCode::FORBIDDEN);
    let upper = HASH.to_uppercase();
    for odd in ["x", "..%2F..%2Frunner.db", &upper] {
        let answer = backend.get(&format!("/api/v1/blobs/{odd}"), &cookie).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{odd}");
    }
    let nobody = backend.get(&format!("/api/v1/blobs/{HASH}"), "").await;
    assert_eq!(nobody.status, StatusCode::UNAUTHORIZED);
    // The next connection is the one of a request that is allowed.
    let path = format!("/api/v1/blobs/{HASH}");
    let (_, (_, request)) = tokio::join!(backend.get(&path, &cookie), async {
        let (mut connection, request) = transfer(&runner, "blob_get").await;
        let error = json!({"code": "not_found", "message": "no"});
        connection.reply(1, &json!({"id": "blob", "error": error})).await;
        (connection, request)
    });
    assert_eq!(request["hash"], HASH);
    backend.stop().await;
}

#[tokio::test]
async fn an_image_comes_back_as_nothing_that_runs() {
    let (backend, runner, _main) = Backend::with_runner().await;
    let cookie = backend.login().await;
    let image = vec![7; 200_000];
    // What the runner says of it is not believed beyond the four kinds.
    for (said, told) in [
        ("image/webp", "image/webp"),
        ("text/html", "application/octet-stream"),
    ] {
        let path = format!("/api/v1/blobs/{HASH}");
        let (answer, ()) = tokio::join!(backend.get(&path, &cookie), async {
            let (mut connection, _) = transfer(&runner, "blob_get").await;
            let blob = json!({"hash": HASH, "media_type": said, "size": image.len()});
            connection.reply(1, &json!({"id": "blob", "ok": blob})).await;
            for piece in image.chunks(PIECE).chain([&[][..]]) {
                let mut bytes = Vec::new();
                let header = Header::new(Kind::Blob).channel(1);
                frame::encode(&header, piece, &mut bytes).unwrap();
                connection.send_bytes(&bytes).await;
            }
        });
        assert_eq!(answer.status, StatusCode::OK);
        assert!(answer.body == image, "other bytes arrive");
        let header = |name: HeaderName| answer.headers[name].to_str().unwrap().to_owned();
        assert_eq!(header(CONTENT_TYPE), told);
        assert_eq!(header(X_CONTENT_TYPE_OPTIONS), "nosniff");
        assert_eq!(header(CONTENT_SECURITY_POLICY), "default-src 'none'; sandbox");
        assert!(header(CONTENT_DISPOSITION).starts_with("attachment;"));
        assert!(header(CACHE_CONTROL).starts_with("private"));
    }
    backend.stop().await;
}
