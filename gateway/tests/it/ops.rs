//! For those who watch: the audit, what is under way, prices, counters; and keys that are changed over.

use std::path::Path;

use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::rt::TokioIo;
use lodge_proto::control::gateway_ops_client::GatewayOpsClient;
use lodge_proto::control::{
    Access, AuditEntry, CreateKeyRequest, EnableKeyRequest, ListAuditRequest, ListLiveRequest,
    ListPricesRequest, MetricsRequest, RemoveProviderKeyRequest, RevokeKeyRequest, RotateKeyRequest,
    SetBudgetRequest, SetProviderKeyRequest, VirtualKey,
};
use tonic::Code;
use tonic::transport::Channel;

use crate::admin::{admin, files};
use crate::budget::{ASK, address, budget, of_user, send, settings, settled};
use crate::common::guest::{self, Guest, post};
use crate::common::runner::Runner;
use crate::common::upstream::Upstream;
use crate::common::{PROVIDER_KEY, Running, soon};

const MESSAGES: &str = "/anthropic/v1/messages";
/// An answer of Messages with its figures.
const ANSWER: &str =
    r#"{"type":"message","model":"m","content":[],"usage":{"input_tokens":10,"output_tokens":3}}"#;

pub(crate) async fn ops(data: &Path) -> GatewayOpsClient<Channel> {
    let socket = data.join("run/gateway-admin.sock");
    let connect = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { tokio::net::UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let endpoint = tonic::transport::Endpoint::from_static("http://gateway");
    GatewayOpsClient::new(endpoint.connect_with_connector(connect).await.unwrap())
}

pub(crate) async fn entries(data: &Path) -> Vec<AuditEntry> {
    let request = ListAuditRequest::default();
    let listed = ops(data).await.list_audit(request).await;
    listed.unwrap().into_inner().entries
}

async fn counters(data: &Path) -> String {
    let shown = ops(data).await.metrics(MetricsRequest {}).await;
    shown.unwrap().into_inner().text
}

async fn made(data: &Path, key: VirtualKey) -> (String, String) {
    let request = CreateKeyRequest {
        key: Some(key),
        budgets: vec![budget("", "day", 1 << 50)],
    };
    let made = admin(data).await.create_key(request).await.unwrap().into_inner();
    (made.key.unwrap().id, made.secret)
}

#[tokio::test]
async fn every_change_is_in_the_audit_with_who_and_what_and_without_secrets() {
    let data = tempfile::tempdir().unwrap();
    let gateway = Running::start(data.path(), "").await;
    let mut client = admin(data.path()).await;
    let secret = "sk-entered-and-audited-0123456789";
    let set = |name: &str| SetProviderKeyRequest {
        name: name.into(),
        kind: "anthropic".into(),
        key: secret.into(),
        base_url: "http://127.0.0.1:9".into(),
        sealed: None,
    };
    let mut request = tonic::Request::new(set("mine"));
    request
        .metadata_mut()
        .insert("lodge-actor", "ann".parse().unwrap());
    client.set_provider_key(request).await.unwrap();
    // A key where its name belongs: refused, and not kept in clear.
    client.set_provider_key(set(secret)).await.unwrap_err();
    let (id, text) = made(data.path(), of_user("bob")).await;
    let rotate = RotateKeyRequest {
        id: id.clone(),
        overlap: 60,
    };
    let rotated = client.rotate_key(rotate).await.unwrap().into_inner().secret;
    let revoke = |id: &str| RevokeKeyRequest { id: id.into() };
    let lost = client.revoke_key(revoke(&rotated)).await.unwrap_err();
    assert_eq!(lost.code(), Code::NotFound);
    client.revoke_key(revoke(&id)).await.unwrap();
    let limit = SetBudgetRequest {
        budget: Some(budget("user:bob", "week", 5_000_000_000)),
        remove: false,
    };
    client.set_budget(limit).await.unwrap();
    let name = "mine".into();
    client
        .remove_provider_key(RemoveProviderKeyRequest { name })
        .await
        .unwrap();
    // Over a restart, everything is there.
    gateway.stop().await;
    let _gateway = Running::start(data.path(), "").await;
    let entries = entries(data.path()).await;
    let shown: Vec<_> = entries
        .iter()
        .rev()
        .map(|entry| {
            (
                entry.action.as_str(),
                entry.target.as_str(),
                entry.outcome.as_str(),
            )
        })
        .collect();
    let of_key = format!("key:{id}");
    assert_eq!(
        shown,
        [
            ("provider.key.set", "mine", "ok"),
            ("provider.key.set", "(not a name)", "InvalidArgument"),
            ("key.create", "user:bob", "ok"),
            ("key.rotate", of_key.as_str(), "ok"),
            ("key.revoke", "(not a name)", "NotFound"),
            ("key.revoke", of_key.as_str(), "ok"),
            ("budget.set", "user:bob", "ok"),
            ("provider.key.remove", "mine", "ok"),
        ]
    );
    let first = entries.last().unwrap();
    assert_eq!(
        (first.actor.as_str(), first.uid),
        ("ann", lodge_proto::sock::own_uid())
    );
    assert_eq!(first.pid.unsigned_abs(), std::process::id());
    assert!(entries[1].detail.contains("$5.00") && entries[1].detail.contains("week"));
    assert_eq!(entries[5].result, id);
    assert_not_noted(data.path(), &[secret, &text, &rotated]);
}

fn assert_not_noted(data: &Path, secrets: &[&str]) {
    let is_audit = |path: &Path| {
        let name = path.file_name().unwrap();
        name.to_string_lossy().starts_with("audit.db")
    };
    let audit = files(data).into_iter().filter(|path| is_audit(path));
    let audit: Vec<u8> = audit.flat_map(|path| std::fs::read(path).unwrap()).collect();
    assert!(!audit.is_empty());
    for secret in secrets {
        assert!(
            !audit
                .windows(secret.len())
                .any(|window| window == secret.as_bytes())
        );
    }
}

#[tokio::test]
async fn counters_are_for_the_operator_and_say_nothing_of_what_was_asked() {
    let data = tempfile::tempdir().unwrap();
    let mut upstream = Upstream::start().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let text = format!("[gateway]\nmetrics = '{free}'\n{}", settings(upstream.port));
    let _gateway = Running::start(data.path(), &text).await;
    let open = address(&mut admin(data.path()).await).await;
    let (id, secret) = made(data.path(), of_user("canary-user")).await;
    let asking = send(open, post(MESSAGES, &secret, ASK));
    let (response, ()) = tokio::join!(asking, async {
        let mut exchange = upstream.next().await;
        exchange
            .answer("200 OK", "content-type: application/json\r\n", ANSWER)
            .await;
    });
    assert_eq!(guest::text(response).await, ANSWER);
    settled(&mut admin(data.path()).await, &format!("key:{id}")).await;
    let canary = r#"{"model":"canary-model","max_tokens":5,"messages":[]}"#;
    assert_eq!(send(open, post(MESSAGES, &secret, canary)).await.status(), 402);
    assert_eq!(
        send(open, post("/canary-path/v1/x", &secret, "{}"))
            .await
            .status(),
        404
    );
    let get = |host: &str| {
        Request::get("/metrics")
            .header("host", host)
            .body(Full::new(bytes::Bytes::new()))
            .unwrap()
    };
    let scraped = guest::text(send(free, get("localhost")).await).await;
    for line in [
        "lodge_gateway_requests_total{provider=\"anthropic\",dialect=\"anthropic_messages\",status=\"2xx\"} 1",
        "lodge_gateway_refusals_total{reason=\"budget\"} 1",
        "lodge_gateway_refusals_total{reason=\"not_found\"} 1",
        "lodge_gateway_tokens_total{provider=\"anthropic\",kind=\"input\"} 10",
        "lodge_gateway_tokens_total{provider=\"anthropic\",kind=\"output\"} 3",
        "lodge_gateway_cost_nano_usd_total{provider=\"anthropic\"} 50000",
        "lodge_gateway_settled_total{provider=\"anthropic\",how=\"exact\"} 1",
        "lodge_gateway_upstream_latency_seconds_count{provider=\"anthropic\"} 1",
        "lodge_gateway_answers_without_usage_total{provider=\"anthropic\"} 0",
        "lodge_gateway_open_requests 0",
        "lodge_gateway_reserved_nano_usd 0",
        "lodge_gateway_account_state{provider=\"anthropic\",account=\"default\",state=\"well\"} 1",
        "lodge_gateway_account_state{provider=\"anthropic\",account=\"default\",state=\"failing\"} 0",
    ] {
        assert!(scraped.lines().any(|found| found == line), "{line}\n{scraped}");
    }
    let shown = counters(data.path()).await;
    for secret in ["canary", &secret, PROVIDER_KEY, &id] {
        assert!(!scraped.contains(secret) && !shown.contains(secret), "{secret}");
    }
    // A page in a browser whose name leads here learns nothing, and nobody on the sockets for requests does.
    assert_eq!(send(free, get("rebound.example")).await.status(), 421);
    let session = Runner::connect(data.path()).session(data.path(), "s", 0).await;
    let mut inside = Guest::connect(&session.socket).await;
    for path in [
        "/metrics",
        "/lodge.control.v1.GatewayOps/Metrics",
        "/anthropic/metrics",
    ] {
        let request = |key: &str| post(path, key, "");
        let inside = inside.send(request(&session.lease.virtual_key)).await;
        let (inside, outside) = (
            guest::json(inside).await,
            guest::json(send(open, request(&secret)).await).await,
        );
        assert_eq!((inside.0, outside.0), (404, 404), "{path}");
        assert!(!format!("{inside:?}{outside:?}").contains("lodge_gateway_"));
    }
}

/// A success that says nothing of what it cost is what an alarm waits for.
#[tokio::test]
async fn an_answer_without_figures_is_counted() {
    let data = tempfile::tempdir().unwrap();
    let mut upstream = Upstream::start().await;
    let _gateway = Running::start(data.path(), &settings(upstream.port)).await;
    let open = address(&mut admin(data.path()).await).await;
    let (id, secret) = made(data.path(), of_user("ann")).await;
    let silent = r#"{"type":"message","model":"m","content":[{"type":"text","text":"y"}]}"#;
    for (answer, without) in [(ANSWER, 0), (silent, 1)] {
        let asking = send(open, post(MESSAGES, &secret, ASK));
        let (response, ()) = tokio::join!(asking, async {
            let mut exchange = upstream.next().await;
            let head = "content-type: application/json\r\n";
            exchange.answer("200 OK", head, answer).await;
        });
        assert_eq!(guest::text(response).await, answer);
        settled(&mut admin(data.path()).await, &format!("key:{id}")).await;
        let shown = counters(data.path()).await;
        let line = format!("lodge_gateway_answers_without_usage_total{{provider=\"anthropic\"}} {without}");
        assert!(shown.lines().any(|found| found == line), "{shown}");
    }
}

#[tokio::test]
async fn what_is_under_way_is_listed_until_it_settles() {
    let data = tempfile::tempdir().unwrap();
    let mut upstream = Upstream::start().await;
    let _gateway = Running::start(data.path(), &settings(upstream.port)).await;
    let open = address(&mut admin(data.path()).await).await;
    let (id, secret) = made(data.path(), of_user("ann")).await;
    let mut client = ops(data.path()).await;
    let live = async |client: &mut GatewayOpsClient<Channel>| {
        client
            .list_live(ListLiveRequest {})
            .await
            .unwrap()
            .into_inner()
            .requests
    };
    let (response, mut exchange) = tokio::join!(send(open, post(MESSAGES, &secret, ASK)), async {
        let mut exchange = upstream.next().await;
        exchange.begin_stream().await;
        exchange
    });
    let listed = live(&mut client).await;
    assert_eq!(listed.len(), 1);
    let one = &listed[0];
    assert_eq!(
        (
            one.key.as_str(),
            one.user.as_str(),
            one.provider.as_str(),
            one.model.as_str()
        ),
        (id.as_str(), "ann", "anthropic", "m")
    );
    assert!(one.reserved > 0 && one.at > 0);
    exchange.write("0\r\n\r\n").await;
    soon("the end of the stream", response.into_body().collect())
        .await
        .unwrap();
    let ended = async {
        while !live(&mut client).await.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    soon("nothing is under way", ended).await;
}

#[tokio::test]
async fn prices_are_shown_with_where_they_come_from() {
    let data = tempfile::tempdir().unwrap();
    let _gateway = Running::start(data.path(), &settings(9)).await;
    let mut client = ops(data.path()).await;
    let request = |model: &str| ListPricesRequest { model: model.into() };
    let listed = client
        .list_prices(request("anthropic/m"))
        .await
        .unwrap()
        .into_inner()
        .prices;
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (listed[0].source.as_str(), listed[0].input, listed[0].output),
        ("configuration", 2_000_000_000, 10_000_000_000)
    );
    let both = client
        .list_prices(request("m"))
        .await
        .unwrap()
        .into_inner()
        .prices;
    assert_eq!(both.len(), 2);
    let unknown = client.list_prices(request("local/never-heard-of")).await.unwrap();
    assert_eq!(unknown.into_inner().prices[0].source, "");
    let nothing = client.list_prices(request("nobody/x")).await.unwrap_err();
    assert_eq!(nothing.code(), Code::NotFound);
}

/// Asks, has the provider answer, and returns the status.
async fn ask(open: std::net::SocketAddr, upstream: &mut Upstream, secret: &str) -> u16 {
    let asking = send(open, post(MESSAGES, secret, ASK));
    let answering = async {
        // A request that is refused does not come here.
        let mut exchange = upstream.next().await;
        exchange
            .answer("200 OK", "content-type: application/json\r\n", ANSWER)
            .await;
        std::future::pending::<()>().await;
    };
    let response = tokio::select! { response = asking => response, () = answering => unreachable!() };
    let status = response.status().as_u16();
    guest::text(response).await;
    status
}

#[tokio::test]
async fn a_key_is_disabled_for_a_while_and_changed_over_with_an_overlap() {
    let data = tempfile::tempdir().unwrap();
    let mut upstream = Upstream::start().await;
    let gateway = Running::start(data.path(), &settings(upstream.port)).await;
    let mut open = address(&mut admin(data.path()).await).await;
    let (id, secret) = made(data.path(), of_user("ann")).await;
    let child = VirtualKey {
        parent: id.clone(),
        ..VirtualKey::default()
    };
    let (_, child) = made(data.path(), child).await;
    let mut client = ops(data.path()).await;
    let enable = |enabled| EnableKeyRequest {
        id: id.clone(),
        enabled,
    };
    client.enable_key(enable(false)).await.unwrap();
    assert_eq!(ask(open, &mut upstream, &secret).await, 401);
    assert_eq!(ask(open, &mut upstream, &child).await, 401);
    client.enable_key(enable(true)).await.unwrap();
    assert_eq!(ask(open, &mut upstream, &secret).await, 200);
    // Its stream was cut with its parent's; it has a new one.
    assert_eq!(ask(open, &mut upstream, &child).await, 200);

    let rotate = |overlap| RotateKeyRequest {
        id: id.clone(),
        overlap,
    };
    let mut keys = admin(data.path()).await;
    let second = keys.rotate_key(rotate(3600)).await.unwrap().into_inner();
    assert!(second.key.unwrap().overlap_until > 0);
    let second = second.secret;
    assert_eq!(ask(open, &mut upstream, &secret).await, 200);
    assert_eq!(ask(open, &mut upstream, &second).await, 200);
    // Both texts outlive a restart.
    drop((client, keys));
    gateway.stop().await;
    let _gateway = Running::start(data.path(), &settings(upstream.port)).await;
    let mut keys = admin(data.path()).await;
    open = address(&mut keys).await;
    assert_eq!(ask(open, &mut upstream, &secret).await, 200);
    assert_eq!(ask(open, &mut upstream, &second).await, 200);
    // There are never three.
    let third = keys.rotate_key(rotate(3600)).await.unwrap().into_inner().secret;
    assert_eq!(ask(open, &mut upstream, &secret).await, 401);
    assert_eq!(ask(open, &mut upstream, &second).await, 200);
    // Without an overlap, only the last one works.
    let fourth = keys.rotate_key(rotate(0)).await.unwrap().into_inner().secret;
    for (text, status) in [(&second, 401), (&third, 401), (&fourth, 200)] {
        assert_eq!(ask(open, &mut upstream, text).await, status);
    }
    let forever = keys.rotate_key(rotate(u64::MAX)).await.unwrap_err();
    assert_eq!(forever.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_list_of_models_shows_what_the_key_may_use() {
    let data = tempfile::tempdir().unwrap();
    let mut upstream = Upstream::start().await;
    let _gateway = Running::start(data.path(), &settings(upstream.port)).await;
    let open = address(&mut admin(data.path()).await).await;
    let narrow = VirtualKey {
        access: Some(Access {
            models: vec!["claude-*".into()],
            ..Access::default()
        }),
        ..of_user("ann")
    };
    let (_, narrow) = made(data.path(), narrow).await;
    let (_, wide) = made(data.path(), of_user("ann")).await;
    let list = r#"{ "data": [{"id":"claude-b"},  {"id":"m"}], "has_more": false, "first_id": "claude-b", "last_id": "m" }"#;
    for (secret, expected) in [
        (
            &narrow,
            r#"{"data":[{"id":"claude-b"}],"first_id":"claude-b","has_more":false,"last_id":"claude-b"}"#,
        ),
        // Byte for byte.
        (&wide, list),
    ] {
        let request = Request::get("/anthropic/v1/models")
            .header("host", "x")
            .header("x-api-key", secret)
            .header("anthropic-version", "2023-06-01")
            .body(Full::new(bytes::Bytes::new()))
            .unwrap();
        let (response, ()) = tokio::join!(send(open, request), async {
            let mut exchange = upstream.next().await;
            exchange
                .answer("200 OK", "content-type: application/json\r\n", list)
                .await;
        });
        assert_eq!(guest::text(response).await, expected);
    }
}
