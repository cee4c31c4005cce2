//! Pass-through: what arrives is what was sent, when it was sent, and nothing goes where it should not.

use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use lodge_gateway::Config;
use lodge_proto::control::{Dialect, lease_reply::Reply};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::common::guest::{self, Guest, post};
use crate::common::runner::{Runner, Session};
use crate::common::upstream::{Exchange, Upstream};
use crate::common::{PROVIDER_KEY, Running, soon};

/// A provider of each kind, all at the same port.
fn settings(port: u16) -> String {
    let provider = |name: &str, kind: &str, path: &str| {
        format!(
            "[[provider]]\nname = '{name}'\nkind = '{kind}'\nbase_url = 'http://127.0.0.1:{port}{path}'\n\
             key_env = 'PROVIDER_KEY'\nmodels = [{{ id = 'm-{name}', context_window = 7, images = true }}]\n"
        )
    };
    [
        "[gateway]\nmax_body_mib = 1\n".to_owned(),
        provider("openai", "openai", "/v1"),
        provider("local", "openai_compatible", "/api/v4"),
        provider("anthropic", "anthropic", ""),
        provider("gemini", "gemini", "/v1beta"),
    ]
    .concat()
}

struct Scene {
    _data: tempfile::TempDir,
    upstream: Upstream,
    runner: Runner,
    session: Session,
    guest: Guest,
    _gateway: Running,
}

impl Scene {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let data = tempfile::tempdir().unwrap();
        let upstream = Upstream::start().await;
        let gateway = Running::start_with(data.path(), &settings(upstream.port), change).await;
        let mut runner = Runner::connect(data.path());
        let session = runner.session(data.path(), "s1", 0).await;
        let guest = Guest::connect(&session.socket).await;
        Self {
            _data: data,
            upstream,
            runner,
            session,
            guest,
            _gateway: gateway,
        }
    }

    fn key(&self) -> &str {
        &self.session.lease.virtual_key
    }

    /// Sends a request to which the provider has answered with headers and nothing else.
    async fn begin(&mut self, path: &str) -> (Response<Incoming>, Exchange) {
        let answer = self
            .guest
            .send(post(path, &self.session.lease.virtual_key, ODD_BODY));
        let begin = async {
            let mut exchange = self.upstream.next().await;
            exchange.begin_stream().await;
            exchange
        };
        tokio::join!(answer, begin)
    }
}

/// Legal, and nothing a parser would write again as it was.
const ODD_BODY: &str = "{ \"model\" :\"m\",\"zz\":1e2, \"n\": 12345678901234567890,\n\t\"text\":\"\\u00e9\\/ é 😀\", \
                        \"unknown\":{\"b\":1,\"a\":[ ]},\"stream\":true }";

/// Path of the guest, path at the provider, header of the provider's key.
const ROUTES: [[&str; 3]; 6] = [
    [
        "/openai/v1/chat/completions",
        "/v1/chat/completions",
        "authorization",
    ],
    ["/openai/v1/responses?a=1", "/v1/responses?a=1", "authorization"],
    [
        "/local/v1/chat/completions",
        "/api/v4/chat/completions",
        "authorization",
    ],
    [
        "/anthropic/v1/messages?beta=true&key=KEY",
        "/v1/messages?beta=true",
        "x-api-key",
    ],
    [
        "/anthropic/v1/messages/count_tokens",
        "/v1/messages/count_tokens",
        "x-api-key",
    ],
    [
        "/gemini/v1beta/models/g-1.5:streamGenerateContent?alt=sse&key=KEY",
        "/v1beta/models/g-1.5:streamGenerateContent?alt=sse",
        "x-goog-api-key",
    ],
];

const KEPT: [(&str, &str); 6] = [
    ("anthropic-beta", "a-1,b-2"),
    ("anthropic-version", "2023-06-01"),
    ("user-agent", "agent/1.0 (x)"),
    ("x-stainless-timeout", "600"),
    ("x-codex-turn-metadata", "{\"a\":1}"),
    ("accept", "text/event-stream"),
];

const DROPPED: [(&str, &str); 8] = [
    ("cookie", "a=b"),
    ("x-forwarded-for", "1.2.3.4"),
    ("forwarded", "for=x"),
    ("openai-organization", "org"),
    ("x-http-method-override", "DELETE"),
    ("te", "trailers"),
    ("connection", "keep-alive, x-hop"),
    ("x-hop", "1"),
];

#[tokio::test]
async fn a_request_arrives_as_sent_but_for_the_key() {
    let mut scene = Scene::new().await;
    for [path, expected, key_header] in ROUTES {
        let path = path.replace("KEY", scene.key());
        let mut request = post(&path, scene.key(), ODD_BODY);
        for (name, value) in KEPT
            .into_iter()
            .chain(DROPPED)
            .chain([("accept-encoding", "gzip, br")])
        {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let respond = async {
            let mut exchange = scene.upstream.next().await;
            exchange
                .answer(
                    "200 OK",
                    "x-request-id: r\r\nset-cookie: a=b\r\n",
                    "{ \"k\":1.0 }",
                )
                .await;
            exchange.request
        };
        let (response, received) = tokio::join!(scene.guest.send(request), respond);
        assert_eq!(received.line, format!("POST {expected} HTTP/1.1"));
        assert_eq!(received.body, ODD_BODY.as_bytes(), "{path}");
        for (name, value) in KEPT {
            assert_eq!(received.header(name), Some(value), "{path}");
        }
        for (name, _) in DROPPED {
            assert_eq!(received.header(name), None, "{path}: {name}");
        }
        assert_eq!(received.header("accept-encoding"), Some("identity"));
        assert!(received.header(key_header).unwrap().ends_with(PROVIDER_KEY));
        assert!(
            !format!("{received:?}").contains(&scene.session.lease.virtual_key),
            "{received:?}"
        );
        assert_eq!(response.headers().get("x-request-id").unwrap(), "r");
        assert!(response.headers().get("set-cookie").is_none());
        assert_eq!(guest::text(response).await, "{ \"k\":1.0 }");
    }
}

#[tokio::test]
async fn each_chunk_arrives_before_the_next_is_sent() {
    let mut scene = Scene::new().await;
    let (response, mut exchange) = scene.begin("/anthropic/v1/messages").await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body();
    // Cut in the middle of a line and of what would be an event: nothing may wait for the rest.
    for data in [
        "event: ping\nda",
        "ta: {}\n",
        "\n",
        "\u{1f600}",
        "data: x\n\ndata: y\n\n",
    ] {
        exchange.chunk(data).await;
        let frame = soon("the chunk arrives", body.frame()).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), data.as_bytes());
    }
    exchange.write("0\r\n\r\n").await;
    assert!(soon("the end arrives", body.frame()).await.is_none());
}

#[tokio::test]
async fn a_client_that_leaves_cancels_the_request() {
    let mut scene = Scene::new().await;
    // In the middle of the stream.
    let (response, mut exchange) = scene.begin("/openai/v1/responses").await;
    exchange.chunk("data: 1\n\n").await;
    scene.guest.vanish();
    drop(response);
    exchange.cancelled().await;
    // Before the headers.
    let mut guest = Guest::connect(&scene.session.socket).await;
    let request = post("/openai/v1/responses", &scene.session.lease.virtual_key, ODD_BODY);
    let sent = tokio::spawn(async move { guest.try_send(request).await.is_err() });
    let exchange = scene.upstream.next().await;
    sent.abort();
    exchange.cancelled().await;
}

#[tokio::test]
async fn closing_the_lease_cuts_the_stream_and_the_key_is_dead() {
    let mut scene = Scene::new().await;
    let (response, exchange) = scene.begin("/gemini/v1beta/models/m:streamGenerateContent").await;
    scene.runner.close(&scene.session).await;
    exchange.cancelled().await;
    let end = soon("the stream is cut", response.into_body().collect()).await;
    assert!(end.is_err(), "a cut stream must not look complete");
    let Reply::Error(error) = scene.runner.resume(&scene.session).await else {
        panic!("resumed after close")
    };
    assert_eq!(error.code, "not_found");
}

#[tokio::test]
async fn bodies_that_could_carry_the_key_are_replaced() {
    let mut scene = Scene::new().await;
    let secret = format!("Incorrect API key provided: {PROVIDER_KEY}");
    for (upstream, status, kept) in [
        ("401 Unauthorized", 401, false),
        ("403 Forbidden", 403, false),
        ("500 Oops", 502, false),
        ("302 Found", 502, false),
        ("429 Slow down", 429, true),
    ] {
        let body = if kept {
            "{\"error\":{\"message\":\"slow\"}}".to_owned()
        } else {
            secret.clone()
        };
        let answer = scene.guest.send(post(
            "/openai/v1/chat/completions",
            &scene.session.lease.virtual_key,
            ODD_BODY,
        ));
        let respond = async {
            // With a time to wait the account would be left alone, and the next case with it.
            let wait = if kept { "retry-after: 3\r\n" } else { "" };
            let headers = format!("{wait}location: http://127.0.0.1:1/steal\r\n");
            scene
                .upstream
                .next()
                .await
                .answer(upstream, &headers, &body)
                .await;
        };
        let (response, ()) = tokio::join!(answer, respond);
        let retry_after = response.headers().get("retry-after").cloned();
        let (found, value) = guest::json(response).await;
        assert_eq!(found, status, "{upstream}");
        assert!(!value.to_string().contains(PROVIDER_KEY), "{upstream}");
        assert!(value["error"]["message"].is_string());
        if kept {
            assert_eq!(value["error"]["message"], "slow");
            assert_eq!(retry_after.unwrap(), "3");
        } else {
            let text = value["error"]["message"].as_str().unwrap();
            assert!(text.contains("provider `openai`"), "{text}");
        }
    }
}

#[tokio::test]
async fn a_provider_that_hangs_is_given_up() {
    let mut scene = Scene::with(|config| {
        config.limits.headers = Duration::from_secs(1);
        config.limits.idle = Duration::from_secs(1);
    })
    .await;
    let answer = scene.guest.send(post(
        "/anthropic/v1/messages",
        &scene.session.lease.virtual_key,
        ODD_BODY,
    ));
    let (response, exchange) = tokio::join!(answer, scene.upstream.next());
    let (status, body) = guest::json(response).await;
    assert_eq!((status, &body["error"]["type"]), (504, &json!("timeout_error")));
    exchange.cancelled().await;
    // After the headers: the stream ends with an error, not as if complete.
    let (response, exchange) = scene.begin("/anthropic/v1/messages").await;
    assert!(
        soon("the silent stream ends", response.into_body().collect())
            .await
            .is_err()
    );
    exchange.cancelled().await;
}

#[tokio::test]
async fn refusals_are_typed_and_reach_no_provider() {
    let mut scene = Scene::new().await;
    let large = vec![b'x'; (1 << 20) + 1];
    let search = br#"{"tools":[{"type":"web_search"}]}"#.to_vec();
    let cases: [(&str, Vec<u8>, u16, &str); 9] = [
        ("/anthropic/v1/messages", large.clone(), 413, "request_too_large"),
        ("/openai/v1/responses", large, 413, "request_too_large"),
        ("/openai/v1/responses", search, 403, "permission_error"),
        (
            "/openai/v1/chat/completions",
            b"{\"model\":".to_vec(),
            400,
            "invalid_request_error",
        ),
        (
            "/anthropic/v1/messages",
            b"[]".to_vec(),
            400,
            "invalid_request_error",
        ),
        (
            "/anthropic/v1/messages/batches",
            b"{}".to_vec(),
            404,
            "not_found_error",
        ),
        ("/anthropic/v1/embeddings", b"{}".to_vec(), 404, "not_found_error"),
        ("/nobody/v1/messages", b"{}".to_vec(), 404, "not_found_error"),
        ("/demo/v1/messages", b"{}".to_vec(), 404, "not_found_error"),
    ];
    for (path, body, status, kind) in cases {
        // The gateway may close a connection on which it refused a body.
        let mut guest = Guest::connect(&scene.session.socket).await;
        let (found, value) = guest::json(guest.send(post(path, scene.key(), body)).await).await;
        assert_eq!((found, &value["error"]["type"]), (status, &json!(kind)), "{path}");
        assert_eq!(
            value["type"] == "error",
            path.contains("/messages") || path.starts_with("/anthropic"),
            "{path}: {value}"
        );
    }
    assert!(scene.upstream.is_untouched());
}

#[tokio::test]
async fn a_body_of_unknown_length_has_the_same_limit() {
    let mut scene = Scene::new().await;
    let mut stream = tokio::net::UnixStream::connect(&scene.session.socket)
        .await
        .unwrap();
    let head = format!(
        "POST /anthropic/v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: {}\r\ntransfer-encoding: chunked\r\n\r\n",
        scene.key()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("{:x}\r\n{}\r\n", 1 << 16, "x".repeat(1 << 16));
    for _ in 0..20 {
        stream.write_all(chunk.as_bytes()).await.unwrap();
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    soon("an answer", stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    assert!(scene.upstream.is_untouched());
}

#[tokio::test]
async fn lists_of_models_and_probes() {
    let mut scene = Scene::new().await;
    let models: Vec<_> = scene
        .session
        .lease
        .models
        .iter()
        .map(|model| (model.provider.as_str(), model.id.as_str()))
        .collect();
    assert_eq!(
        models,
        [
            ("anthropic", "m-anthropic"),
            ("gemini", "m-gemini"),
            ("local", "m-local"),
            ("openai", "m-openai")
        ]
    );
    let openai = &scene.session.lease.models[3];
    assert_eq!(
        openai.dialects,
        [
            i32::from(Dialect::OpenaiResponses),
            i32::from(Dialect::OpenaiChat)
        ]
    );
    assert!(openai.context_window == 7 && openai.images);

    let list = Request::get("/gemini/v1beta/models?pageSize=5").header("x-goog-api-key", scene.key());
    let answer = scene.guest.send(list.body(Full::default()).unwrap());
    let respond = async {
        let mut exchange = scene.upstream.next().await;
        exchange.answer("200 OK", "", "{}").await;
        exchange.request
    };
    let (response, received) = tokio::join!(answer, respond);
    assert_eq!(received.line, "GET /v1beta/models?pageSize=5 HTTP/1.1");
    assert_eq!(received.header("content-length"), None);
    assert_eq!(guest::text(response).await, "{}");

    let probe = scene
        .guest
        .send(Request::head("/anthropic/").body(Full::default()).unwrap())
        .await;
    assert_eq!(probe.status(), 200);
    assert!(scene.upstream.is_untouched());
}

#[tokio::test]
async fn a_provider_that_is_down_is_said_to_be_so() {
    let data = tempfile::tempdir().unwrap();
    // Bound and not listening: nobody else gets the port meanwhile.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let _gateway = Running::start(data.path(), &settings(socket.local_addr().unwrap().port())).await;
    let session = Runner::connect(data.path()).session(data.path(), "s", 0).await;
    let mut guest = Guest::connect(&session.socket).await;
    let response = guest
        .send(post("/anthropic/v1/messages", &session.lease.virtual_key, "{}"))
        .await;
    let (status, body) = guest::json(response).await;
    assert_eq!(
        (status, &body["error"]["message"]),
        (502, &json!("the provider `anthropic` cannot be reached"))
    );
}
