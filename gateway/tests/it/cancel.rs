//! Requests under way that are ended by hand.

use std::net::SocketAddr;
use std::path::Path;

use hyper_util::rt::TokioIo;
use lodge_proto::control::gateway_ops_client::GatewayOpsClient;
use lodge_proto::control::{
    AuditEntry, CancelRequestRequest, CreateKeyRequest, ListAuditRequest, ListLiveRequest, LiveRequest,
};
use serde_json::Value;
use tonic::Code;
use tonic::transport::Channel;

use crate::admin::admin;
use crate::budget::{address, budget, of_user, send, settings, settled};
use crate::common::guest::{self, post};
use crate::common::upstream::Upstream;
use crate::common::{Running, soon};

struct Scene {
    data: tempfile::TempDir,
    upstream: Upstream,
    client: GatewayOpsClient<Channel>,
    address: SocketAddr,
    key: String,
    secret: String,
    _gateway: Running,
}

pub(crate) async fn ops(data: &Path) -> GatewayOpsClient<Channel> {
    let socket = data.join("run/gateway-admin.sock");
    let connect = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { tokio::net::UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let endpoint = tonic::transport::Endpoint::from_static("http://gateway");
    GatewayOpsClient::new(endpoint.connect_with_connector(connect).await.unwrap())
}

impl Scene {
    async fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        let upstream = Upstream::start().await;
        let gateway = Running::start(data.path(), &settings(upstream.port)).await;
        let mut admin = admin(data.path()).await;
        let request = CreateKeyRequest {
            key: Some(of_user("ann")),
            budgets: vec![budget("", "day", 1 << 50)],
        };
        let made = admin.create_key(request).await.unwrap().into_inner();
        Self {
            client: ops(data.path()).await,
            address: address(&mut admin).await,
            key: made.key.unwrap().id,
            secret: made.secret,
            data,
            upstream,
            _gateway: gateway,
        }
    }

    /// The one request that is under way.
    async fn live(&mut self) -> LiveRequest {
        let found = async {
            loop {
                let listed = self.client.list_live(ListLiveRequest {}).await.unwrap();
                if let [live] = &listed.into_inner().requests[..] {
                    return live.clone();
                }
                tokio::task::yield_now().await;
            }
        };
        soon("a request is under way", found).await
    }

    async fn cancel(&mut self, id: u64) -> Result<(), Code> {
        let mut request = tonic::Request::new(CancelRequestRequest { id });
        let actor = "eve".parse().unwrap();
        request.metadata_mut().insert("lodge-actor", actor);
        let cancelled = self.client.cancel_request(request).await;
        cancelled.map(|_| ()).map_err(|status| status.code())
    }

    async fn audit(&mut self, search: &str) -> Vec<AuditEntry> {
        let request = ListAuditRequest {
            search: search.into(),
            ..ListAuditRequest::default()
        };
        self.client
            .list_audit(request)
            .await
            .unwrap()
            .into_inner()
            .entries
    }
}

/// What each dialect's clients read.
const CASES: [(&str, &str, &str); 2] = [
    (
        "/anthropic/v1/messages",
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":10,\"output_tokens\":1}}}\n\n",
        "event: error\ndata: ",
    ),
    (
        "/local/v1/chat/completions",
        "data: {\"choices\":[{\"delta\":{\"content\":\"Hello\"}}]}\n\n",
        "data: ",
    ),
];

#[tokio::test]
async fn a_stream_ends_with_the_reason_and_settles_at_what_came_through() {
    for (path, first, event) in CASES {
        let mut scene = Scene::new().await;
        let body = r#"{"model":"m","stream":true,"max_tokens":5,"messages":[]}"#;
        let asking = send(scene.address, post(path, &scene.secret, body));
        let (response, mut exchange) = tokio::join!(asking, async {
            let mut exchange = scene.upstream.next().await;
            exchange.begin_stream().await;
            exchange.chunk(first).await;
            exchange
        });
        assert_eq!(response.status(), 200, "{path}");
        let mut body = response.into_body();
        let frame = soon("the first event", http_body_util::BodyExt::frame(&mut body)).await;
        assert_eq!(frame.unwrap().unwrap().into_data().unwrap(), first);
        let live = scene.live().await;
        // Another number is no request, and ends none.
        assert_eq!(scene.cancel(live.id + 1000).await, Err(Code::NotFound));
        scene.cancel(live.id).await.unwrap();
        let rest = soon("the end", http_body_util::BodyExt::collect(body))
            .await
            .unwrap();
        let rest = String::from_utf8(rest.to_bytes().to_vec()).unwrap();
        let data = rest.strip_prefix(event).unwrap().trim_end();
        let error: Value = serde_json::from_str(data).unwrap();
        let message = error["error"]["message"].as_str().unwrap();
        assert!(message.contains("ended by hand"), "{rest}");
        assert_eq!(error["error"]["type"], "invalid_request_error", "{rest}");
        exchange.chunk("data: late\n\n").await;
        exchange.cancelled().await;
        let settled = settled(&mut admin(scene.data.path()).await, &format!("key:{}", scene.key)).await;
        assert!(settled.spent > 0 && settled.spent <= live.reserved, "{settled:?}");
        assert_eq!(scene.cancel(live.id).await, Err(Code::NotFound));
        let entries = scene.audit(&format!("request:{}", live.id)).await;
        let shown: Vec<_> = entries
            .iter()
            .map(|entry| {
                (
                    entry.actor.as_str(),
                    entry.action.as_str(),
                    entry.outcome.as_str(),
                )
            })
            .collect();
        // Also the one that came too late, and the one of a number that begins alike.
        let cancelled = shown.iter().filter(|(_, _, outcome)| *outcome == "ok");
        assert_eq!(cancelled.collect::<Vec<_>>(), [&("eve", "request.cancel", "ok")]);
        let of_it = entries.iter().find(|entry| entry.outcome == "ok").unwrap();
        assert!(
            of_it.detail.contains(&scene.key) && of_it.detail.contains("ann"),
            "{of_it:?}"
        );
    }
}

#[tokio::test]
async fn one_that_has_no_answer_yet_gets_an_error_of_its_dialect() {
    let mut scene = Scene::new().await;
    let asking = send(
        scene.address,
        post(
            "/anthropic/v1/messages",
            &scene.secret,
            r#"{"model":"m","max_tokens":5,"messages":[]}"#,
        ),
    );
    let answer = tokio::spawn(asking);
    let exchange = scene.upstream.next().await;
    let live = scene.live().await;
    scene.cancel(live.id).await.unwrap();
    let (status, error) = guest::json(soon("an answer", answer).await.unwrap()).await;
    // No client tries again after this one.
    assert_eq!((status, error["type"].as_str()), (400, Some("error")), "{error}");
    exchange.cancelled().await;
    // The provider may have been at it: all that was reserved counts.
    let settled = settled(&mut admin(scene.data.path()).await, &format!("key:{}", scene.key)).await;
    assert_eq!(settled.spent, live.reserved);
    // The key works on.
    let asking = send(
        scene.address,
        post(
            "/anthropic/v1/messages",
            &scene.secret,
            r#"{"model":"m","max_tokens":5,"messages":[]}"#,
        ),
    );
    let (response, ()) = tokio::join!(asking, async {
        let answer = r#"{"type":"message","usage":{"input_tokens":10,"output_tokens":3}}"#;
        let json = "content-type: application/json\r\n";
        scene.upstream.next().await.answer("200 OK", json, answer).await;
    });
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn in_the_middle_of_an_event_the_connection_is_cut() {
    let mut scene = Scene::new().await;
    let body = r#"{"model":"m","stream":true,"max_tokens":5,"messages":[]}"#;
    let asking = send(scene.address, post("/anthropic/v1/messages", &scene.secret, body));
    let (response, _exchange) = tokio::join!(asking, async {
        let mut exchange = scene.upstream.next().await;
        exchange.begin_stream().await;
        exchange.chunk("event: message_start\ndata: {\"ty").await;
        exchange
    });
    let mut body = response.into_body();
    let frame = soon("the first bytes", http_body_util::BodyExt::frame(&mut body)).await;
    assert!(frame.unwrap().is_ok());
    let live = scene.live().await;
    scene.cancel(live.id).await.unwrap();
    // Nothing that a client could take for an end.
    let rest = soon("the end", http_body_util::BodyExt::collect(body)).await;
    assert!(rest.is_err(), "{rest:?}");
}

#[tokio::test]
async fn a_translated_stream_ends_with_the_reason_in_the_callers_dialect() {
    let mut scene = Scene::new().await;
    let body = r#"{"model":"m","stream":true,"max_tokens":5,"messages":[{"role":"user","content":"hi"}]}"#;
    let path = "/anthropic/v1/chat/completions";
    let asking = send(scene.address, post(path, &scene.secret, body));
    let (response, exchange) = tokio::join!(asking, async {
        let mut exchange = scene.upstream.next().await;
        exchange.begin_stream().await;
        exchange
            .chunk("event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"1\",\"model\":\"m\",\"usage\":{\"input_tokens\":10}}}\n\n")
            .await;
        exchange
    });
    assert_eq!(response.status(), 200);
    let live = scene.live().await;
    scene.cancel(live.id).await.unwrap();
    let rest = guest::text(response).await;
    let last = rest.trim_end().rsplit("data: ").next().unwrap();
    let error: Value = serde_json::from_str(last).unwrap();
    let message = error["error"]["message"].as_str().unwrap();
    assert!(message.contains("ended by hand"), "{rest}");
    exchange.cancelled().await;
}

#[tokio::test]
async fn the_audit_is_searched_whatever_the_case() {
    let mut scene = Scene::new().await;
    assert_eq!(scene.audit("KEY.create").await.len(), 1);
    assert_eq!(scene.audit("User:Ann").await.len(), 1);
    assert_eq!(scene.audit("nobody%").await.len(), 0);
    assert_eq!(scene.audit("").await.len(), 1);
}
