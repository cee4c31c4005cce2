//! Keys of people, budgets and the ledger, from outside.

use std::net::SocketAddr;

use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use lodge_proto::control::gateway_admin_client::GatewayAdminClient;
use lodge_proto::control::{
    Access, Budget, CreateKeyRequest, HealthRequest, LeaseNarrow, ListBudgetsRequest, ListKeysRequest,
    ListUsageRequest, RevokeKeyRequest, RotateKeyRequest, SetBudgetRequest, UsageRow, VirtualKey,
};
use tokio::net::TcpStream;
use tonic::Code;
use tonic::transport::Channel;

use crate::admin::admin;
use crate::common::guest::{self, Guest, post};
use crate::common::runner::Runner;
use crate::common::upstream::Upstream;
use crate::common::{Running, soon};

/// Two dollars a million in, ten out: 2000 and 10 000 nano-dollars a token.
pub(crate) fn settings(port: u16) -> String {
    let provider = |name: &str, kind: &str| {
        format!(
            "[[provider]]\nname = '{name}'\nkind = '{kind}'\nbase_url = 'http://127.0.0.1:{port}'\n\
             key_env = 'PROVIDER_KEY'\n\
             models = [{{ id = 'm', max_output = 1000, context_window = 5000, price = {{ input = 2, output = 10 }} }}]\n"
        )
    };
    [
        provider("anthropic", "anthropic"),
        provider("local", "openai_compatible"),
    ]
    .concat()
}

struct Scene {
    data: tempfile::TempDir,
    upstream: Upstream,
    admin: GatewayAdminClient<Channel>,
    address: SocketAddr,
    _gateway: Running,
}

impl Scene {
    async fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        let upstream = Upstream::start().await;
        let gateway = Running::start(data.path(), &settings(upstream.port)).await;
        let mut admin = admin(data.path()).await;
        let address = address(&mut admin).await;
        Self {
            data,
            upstream,
            admin,
            address,
            _gateway: gateway,
        }
    }

    async fn key(&mut self, key: VirtualKey, budget: Option<u64>) -> (VirtualKey, String) {
        let request = CreateKeyRequest {
            key: Some(key),
            budgets: budget
                .map(|limit| self::budget("", "month", limit))
                .into_iter()
                .collect(),
        };
        let made = self.admin.create_key(request).await.unwrap().into_inner();
        (made.key.unwrap(), made.secret)
    }

    /// Waits until nothing is reserved any more: settling goes on beside the answer.
    async fn settled(&mut self, scope: &str) -> Budget {
        settled(&mut self.admin, scope).await
    }
}

pub(crate) async fn settled(admin: &mut GatewayAdminClient<Channel>, scope: &str) -> Budget {
    let settled = async {
        loop {
            let request = ListBudgetsRequest { scope: scope.into() };
            let listed = admin.list_budgets(request).await.unwrap().into_inner().budgets;
            match listed.into_iter().next() {
                Some(budget) if budget.reserved == 0 => return budget,
                _ => tokio::task::yield_now().await,
            }
        }
    };
    soon("everything is settled", settled).await
}

pub(crate) async fn address(admin: &mut GatewayAdminClient<Channel>) -> SocketAddr {
    let health = admin.health(HealthRequest {}).await.unwrap().into_inner();
    health.address.parse().unwrap()
}

pub(crate) fn budget(scope: &str, window: &str, limit: u64) -> Budget {
    Budget {
        scope: scope.into(),
        window: window.into(),
        limit,
        ..Budget::default()
    }
}

pub(crate) fn of_user(user: &str) -> VirtualKey {
    VirtualKey {
        user: user.into(),
        ..VirtualKey::default()
    }
}

async fn usage(admin: &mut GatewayAdminClient<Channel>, by: &str) -> Vec<UsageRow> {
    let request = ListUsageRequest {
        by: by.into(),
        since: 0,
        users: Vec::new(),
    };
    admin.list_usage(request).await.unwrap().into_inner().rows
}

pub(crate) async fn send(
    address: SocketAddr,
    request: Request<Full<bytes::Bytes>>,
) -> Response<hyper::body::Incoming> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    soon("an answer of the gateway", sender.send_request(request))
        .await
        .unwrap()
}

pub(crate) const ASK: &str = r#"{"model":"m","max_tokens":100,"messages":[]}"#;
/// Of `ASK`: an hour's cache write costs twice the input.
pub(crate) const RESERVED: u64 = (ASK.len() as u64 + 4096) * 4000 + 100 * 10_000;

const ANSWER: &str = r#"{"type":"message","usage":{"input_tokens":30,"output_tokens":20}}"#;
const COST: u64 = 30 * 2000 + 20 * 10_000;

#[tokio::test]
async fn a_key_is_shown_once_and_works_where_it_should() {
    let mut scene = Scene::new().await;
    let (key, secret) = scene.key(of_user("ann"), Some(RESERVED * 3)).await;
    assert!(key.id.starts_with("key-") && secret.starts_with("lodge-sk-"));
    let ask = |header: &str, value: String| {
        Request::post("/anthropic/v1/messages")
            .header("host", "x")
            .header(header, value)
            .body(Full::new(ASK.into()))
            .unwrap()
    };
    for (header, value) in [
        ("authorization", format!("Bearer {secret}")),
        ("x-api-key", secret.clone()),
        ("x-goog-api-key", secret.clone()),
        ("api-key", secret.clone()),
    ] {
        let answer = tokio::join!(send(scene.address, ask(header, value)), async {
            let mut exchange = scene.upstream.next().await;
            exchange
                .answer("200 OK", "content-type: application/json\r\n", ANSWER)
                .await;
        });
        assert_eq!(guest::text(answer.0).await, ANSWER, "{header}");
    }
    let scope = format!("key:{}", key.id);
    assert_eq!(scene.settled(&scope).await.spent, 4 * COST);
    let rows = usage(&mut scene.admin, "key").await;
    assert_eq!(
        (rows[0].name.as_str(), rows[0].requests, rows[0].inexact),
        (key.id.as_str(), 4, 0)
    );
    assert_eq!((rows[0].input, rows[0].output, rows[0].cost), (120, 80, 4 * COST));

    // Its text is nowhere on the disk.
    for file in crate::admin::files(scene.data.path()) {
        let bytes = std::fs::read(&file).unwrap_or_default();
        assert!(
            memchr::memmem::find(&bytes, secret.as_bytes()).is_none(),
            "{}",
            file.display()
        );
    }
    // Not on a session's socket, and a session's key not here.
    let session = Runner::connect(scene.data.path())
        .session(scene.data.path(), "s", 0)
        .await;
    let mut inside = Guest::connect(&session.socket).await;
    let path = "/anthropic/v1/messages";
    assert_eq!(inside.send(post(path, &secret, ASK)).await.status(), 401);
    assert_eq!(
        send(scene.address, post(path, &session.lease.virtual_key, ASK))
            .await
            .status(),
        401
    );
}

#[tokio::test]
async fn a_key_that_is_rotated_or_revoked_works_no_more() {
    let mut scene = Scene::new().await;
    let (key, secret) = scene.key(of_user("ann"), Some(RESERVED * 3)).await;
    let (scope, path) = (format!("key:{}", key.id), "/anthropic/v1/messages");
    let rotate = RotateKeyRequest {
        id: key.id.clone(),
        overlap: 0,
    };
    let new = scene.admin.rotate_key(rotate).await.unwrap().into_inner().secret;
    assert_eq!(send(scene.address, post(path, &secret, ASK)).await.status(), 401);
    // A stream of the key is cut when it is revoked.
    let streaming = send(scene.address, post(path, &new, ASK));
    let (response, exchange) = tokio::join!(streaming, async {
        let mut exchange = scene.upstream.next().await;
        exchange.begin_stream().await;
        exchange
    });
    let revoke = RevokeKeyRequest { id: key.id.clone() };
    scene.admin.revoke_key(revoke).await.unwrap();
    assert!(
        soon("the stream is cut", response.into_body().collect())
            .await
            .is_err()
    );
    exchange.cancelled().await;
    assert_eq!(send(scene.address, post(path, &new, ASK)).await.status(), 401);
    // Nothing had come through: the provider may have thought of all of it.
    assert_eq!(scene.settled(&scope).await.spent, RESERVED);
    let keys = scene
        .admin
        .list_keys(ListKeysRequest {})
        .await
        .unwrap()
        .into_inner()
        .keys;
    assert!(keys.len() == 1 && keys[0].revoked);
}

#[tokio::test]
async fn a_spent_budget_stops_every_dialect_with_its_own_words() {
    let mut scene = Scene::new().await;
    let (_, secret) = scene.key(of_user("ann"), None).await;
    let set = |scope: &str, limit| SetBudgetRequest {
        budget: Some(budget(scope, "day", limit)),
        remove: false,
    };
    scene
        .admin
        .set_budget(set("user:ann", RESERVED - 1))
        .await
        .unwrap();
    let answer = send(scene.address, post("/anthropic/v1/messages", &secret, ASK)).await;
    let (status, body) = guest::json(answer).await;
    assert_eq!(
        (status, body["error"]["type"].as_str()),
        (402, Some("billing_error"))
    );
    let message = body["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("daily budget of the user `ann`") && message.contains("begins anew"),
        "{message}"
    );
    let answer = send(scene.address, post("/local/v1/chat/completions", &secret, ASK)).await;
    let (status, body) = guest::json(answer).await;
    assert_eq!(
        (status, body["error"]["code"].as_str()),
        (402, Some("insufficient_quota"))
    );
    // A model whose price nobody knows cannot be held to a budget.
    let answer = send(
        scene.address,
        post("/anthropic/v1/messages", &secret, ASK.replace("\"m\"", "\"n\"")),
    )
    .await;
    let (status, body) = guest::json(answer).await;
    assert!(
        status == 402 && body["error"]["message"].as_str().unwrap().contains("price"),
        "{body}"
    );
    assert!(scene.upstream.is_untouched());
    for (scope, code) in [
        ("user", Code::InvalidArgument),
        ("planet:x", Code::InvalidArgument),
        ("key:none", Code::NotFound),
        ("account:none", Code::NotFound),
        ("account:anthropic/none", Code::NotFound),
    ] {
        let refused = scene.admin.set_budget(set(scope, 1)).await.unwrap_err();
        assert_eq!(refused.code(), code, "{scope}");
    }
    for scope in ["account:anthropic", "account:anthropic/default"] {
        scene.admin.set_budget(set(scope, 1)).await.unwrap();
    }
    let missing = VirtualKey::default();
    let request = CreateKeyRequest {
        key: Some(missing),
        budgets: Vec::new(),
    };
    assert_eq!(
        scene.admin.create_key(request).await.unwrap_err().code(),
        Code::InvalidArgument
    );
}

#[tokio::test]
async fn a_child_and_a_session_are_only_narrower() {
    let mut scene = Scene::new().await;
    let (parent, _) = scene.key(of_user("ann"), Some(RESERVED - 1)).await;
    let child = VirtualKey {
        parent: parent.id.clone(),
        concurrency: 1,
        ..VirtualKey::default()
    };
    let (child, secret) = scene.key(child, Some(RESERVED * 10)).await;
    assert_eq!(child.user, "ann");
    let path = "/anthropic/v1/messages";
    let (status, body) = guest::json(send(scene.address, post(path, &secret, ASK)).await).await;
    assert!(status == 402 && body.to_string().contains(&parent.id), "{body}");
    let stranger = VirtualKey {
        parent: parent.id.clone(),
        ..of_user("bob")
    };
    let request = CreateKeyRequest {
        key: Some(stranger),
        budgets: Vec::new(),
    };
    assert_eq!(
        scene.admin.create_key(request).await.unwrap_err().code(),
        Code::InvalidArgument
    );
    scene
        .admin
        .revoke_key(RevokeKeyRequest { id: parent.id })
        .await
        .unwrap();
    assert_eq!(send(scene.address, post(path, &secret, ASK)).await.status(), 401);

    let narrow = LeaseNarrow {
        access: Some(Access {
            deny_providers: vec!["local".into()],
            ..Access::default()
        }),
        budget: RESERVED - 1,
        ..LeaseNarrow::default()
    };
    let mut runner = Runner::connect(scene.data.path());
    let session = runner
        .session_narrowed(scene.data.path(), "s", 0, (None, Some(narrow)))
        .await;
    runner.resume(&session).await;
    let mut inside = Guest::connect(&session.socket).await;
    let key = &session.lease.virtual_key;
    let refused = inside.send(post("/local/v1/chat/completions", key, ASK)).await;
    assert_eq!(refused.status(), 403);
    let (status, body) = guest::json(inside.send(post(path, key, ASK)).await).await;
    assert!(
        status == 402 && body.to_string().contains("this session"),
        "{body}"
    );
    assert!(scene.upstream.is_untouched());
}

#[tokio::test]
async fn clamped_a_request_asks_for_what_is_left() {
    let mut scene = Scene::new().await;
    let key = VirtualKey {
        on_limit: "clamp".into(),
        ..of_user("ann")
    };
    let long = r#"{ "model":"m", "max_tokens":64000 ,"messages":[]}"#;
    let room = (long.len() as u64 + 4096) * 4000 + 700 * 10_000;
    let (_, secret) = scene.key(key, Some(room)).await;
    let sending = send(scene.address, post("/anthropic/v1/messages", &secret, long));
    let (answer, body) = tokio::join!(sending, async {
        let mut exchange = scene.upstream.next().await;
        exchange
            .answer("200 OK", "content-type: application/json\r\n", ANSWER)
            .await;
        String::from_utf8(exchange.request.body).unwrap()
    });
    assert_eq!(answer.status(), 200);
    assert_eq!(body, long.replace("64000", "700"));
}

#[tokio::test]
async fn an_answer_is_settled_at_what_it_was_or_at_what_it_may_have_been() {
    let mut scene = Scene::new().await;
    let (key, secret) = scene.key(of_user("ann"), Some(RESERVED * 100)).await;
    let scope = format!("key:{}", key.id);
    let path = "/anthropic/v1/messages";
    let start = r#"{"type":"message_start","message":{"usage":{"input_tokens":30,"output_tokens":1}}}"#;
    let delta = r#"{"type":"content_block_delta","delta":{"text":"12345678"}}"#;
    let mut spent = 0;
    // An error of the provider costs nothing.
    let sending = send(scene.address, post(path, &secret, ASK));
    tokio::join!(sending, async {
        let mut exchange = scene.upstream.next().await;
        exchange.answer("529 Overloaded", "", "{}").await;
    });
    assert_eq!(scene.settled(&scope).await.spent, spent);
    // Broken off in the middle: the input as stated, and at least a token for every byte that came through.
    let sending = send(scene.address, post(path, &secret, ASK));
    let (answer, ()) = tokio::join!(sending, async {
        let mut exchange = scene.upstream.next().await;
        exchange.begin_stream().await;
        exchange
            .chunk(&format!("data: {start}\n\ndata: {delta}\n\n"))
            .await;
    });
    assert!(
        soon("the stream breaks", answer.into_body().collect())
            .await
            .is_err()
    );
    spent += 30 * 2000 + 9 * 10_000;
    assert_eq!(scene.settled(&scope).await.spent, spent);
    // The same where the model may think unseen: all of the reservation.
    let thinking = ASK.replace(
        "\"messages\"",
        "\"thinking\":{\"type\":\"adaptive\"},\"messages\"",
    );
    let more = (thinking.len() - ASK.len()) as u64 * 4000;
    let sending = send(scene.address, post(path, &secret, thinking));
    let (answer, ()) = tokio::join!(sending, async {
        let mut exchange = scene.upstream.next().await;
        exchange.begin_stream().await;
        exchange
            .chunk(&format!("data: {start}\n\ndata: {delta}\n\n"))
            .await;
    });
    drop(answer);
    spent += RESERVED + more;
    assert_eq!(scene.settled(&scope).await.spent, spent);
    let rows = usage(&mut scene.admin, "model").await;
    assert_eq!(
        (rows[0].name.as_str(), rows[0].requests, rows[0].inexact),
        ("anthropic/m", 2, 2)
    );
}
