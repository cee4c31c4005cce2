//! Whatever costs money is reserved before it is sent and settled after: by which way it comes, and wherever it goes.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use lodge_proto::control::gateway_admin_client::GatewayAdminClient;
use lodge_proto::control::{Access, CreateKeyRequest, ListUsageRequest, VirtualKey};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Message, http};
use tonic::transport::Channel;

use crate::admin::admin;
use crate::budget::{address, budget, of_user, send, settled};
use crate::common::guest::{json as read_json, post, text};
use crate::common::upstream::Upstream;
use crate::common::{Running, soon};

/// A cheap model and a dear one, a chain over both, tools with a price, and a provider of another dialect.
fn settings(port: u16) -> String {
    let models = "models = [{ id = 'm', max_output = 100, context_window = 5000, price = { input = 2, output = 10 } }, \
                  { id = 'dear', max_output = 100, context_window = 5000, price = { input = 200, output = 1000 } }, \
                  { id = 'large', max_output = 64000, context_window = 100000, price = { input = 2, output = 10 } }]\n";
    format!(
        "[[provider]]\nname = 'openai'\nkind = 'openai'\nbase_url = 'http://127.0.0.1:{port}/v1'\nkey_env = 'PROVIDER_KEY'\n\
         provider_tools = {{ container = 0.03, web_search = 0.01 }}\n{models}\
         [[provider]]\nname = 'local'\nkind = 'openai_compatible'\nbase_url = 'http://127.0.0.1:{port}'\nkey_env = 'PROVIDER_KEY'\n\
         add_usage = true\n{models}\
         [[provider]]\nname = 'gemini'\nkind = 'gemini'\nbase_url = 'http://127.0.0.1:{port}'\nkey_env = 'PROVIDER_KEY'\n\
         provider_tools = {{ cached_content = 1.0 }}\n{models}\
         [[provider]]\nname = 'anthropic'\nkind = 'anthropic'\nbase_url = 'http://127.0.0.1:{port}'\n\
         key_env = 'PROVIDER_KEY'\nprovider_tools = {{ web_search = 0.01 }}\n{models}\
         [[alias]]\nprovider = 'anthropic'\nname = 'best'\ntargets = ['anthropic/m', 'anthropic/dear']\n"
    )
}

pub(crate) struct Scene {
    _data: tempfile::TempDir,
    admin: GatewayAdminClient<Channel>,
    address: SocketAddr,
    key: VirtualKey,
    secret: String,
    _gateway: Running,
}

impl Scene {
    /// A key with a budget, in nano-dollars.
    pub(crate) async fn new(port: u16, key: VirtualKey, limit: u64) -> Self {
        let data = tempfile::tempdir().unwrap();
        let gateway = Running::start(data.path(), &settings(port)).await;
        let mut admin = admin(data.path()).await;
        let address = address(&mut admin).await;
        let request = CreateKeyRequest {
            key: Some(key),
            budgets: vec![budget("", "month", limit)],
        };
        let made = admin.create_key(request).await.unwrap().into_inner();
        Self {
            _data: data,
            admin,
            address,
            key: made.key.unwrap(),
            secret: made.secret,
            _gateway: gateway,
        }
    }

    pub(crate) async fn spent(&mut self) -> u64 {
        let scope = format!("key:{}", self.key.id);
        settled(&mut self.admin, &scope).await.spent
    }

    /// Sends a request that the provider answers like this, one answer an attempt.
    pub(crate) async fn ask(
        &self,
        upstream: &mut Upstream,
        path: &str,
        body: &str,
        answers: &[(&str, &str)],
    ) -> (u16, String) {
        let (status, text, _) = self.seen(upstream, path, body, answers).await;
        (status, text)
    }

    /// The same, with the last body that the provider got.
    pub(crate) async fn seen(
        &self,
        upstream: &mut Upstream,
        path: &str,
        body: &str,
        answers: &[(&str, &str)],
    ) -> (u16, String, String) {
        let sending = send(self.address, post(path, &self.secret, body.to_owned()));
        let (answer, got) = tokio::join!(sending, async {
            let mut got = Vec::new();
            for (status, body) in answers {
                let mut exchange = upstream.next().await;
                got.clone_from(&exchange.request.body);
                if status.is_empty() {
                    // The connection is closed after the request was read.
                    continue;
                }
                let headers = "content-type: application/json\r\nconnection: close\r\n";
                exchange.answer(status, headers, body).await;
            }
            got
        });
        let status = answer.status().as_u16();
        (status, text(answer).await, String::from_utf8(got).unwrap())
    }

    async fn socket(&self) -> WebSocketStream<TcpStream> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let request = http::Request::get(format!("ws://{}/openai/v1/responses", self.address))
            .header("host", "x")
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("authorization", format!("Bearer {}", self.secret))
            .body(())
            .unwrap();
        let connect = tokio_tungstenite::client_async(request, stream);
        soon("the socket opens", connect).await.unwrap().0
    }
}

/// At the dearest: an hour's cache write costs twice the input.
fn bound(body: &str, input: u64, output: u64) -> u64 {
    (body.len() as u64 + 4096) * 2 * input + 100 * output
}

pub(crate) const ASK: &str = r#"{"model":"m","max_tokens":100,"messages":[]}"#;
const CREATE: &str = r#"{"type":"response.create","model":"m","max_output_tokens":100,"input":"x"}"#;

async fn event(socket: &mut WebSocketStream<TcpStream>) -> Value {
    let message = soon("a message", socket.next()).await.unwrap().unwrap();
    serde_json::from_str(&message.into_text().unwrap()).unwrap()
}

#[tokio::test]
async fn each_message_of_a_socket_is_reserved_for_and_settled() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let reserved = bound(CREATE, 2000, 10_000);
    let completed = json!({"type": "response.completed", "response": {"usage": {"input_tokens": 30, "output_tokens": 20}}});
    let cost = 30 * 2000 + 20 * 10_000;
    let mut scene = Scene::new(port, of_user("ann"), reserved + 2 * cost).await;
    let accept = async {
        let (stream, _) = listener.accept().await.unwrap();
        tokio_tungstenite::accept_async(stream).await.unwrap()
    };
    let (mut client, mut provider) = tokio::join!(scene.socket(), accept);
    for round in 1..=2 {
        client.send(Message::text(CREATE)).await.unwrap();
        assert_eq!(event(&mut provider).await["model"], "m");
        // A second one before the first has ended would be paid from nothing.
        client.send(Message::text(CREATE)).await.unwrap();
        assert_eq!(event(&mut client).await["status"], 429);
        provider.send(Message::text(completed.to_string())).await.unwrap();
        assert_eq!(event(&mut client).await, completed);
        assert_eq!(scene.spent().await, round * cost);
    }
    // An error before anything was begun costs nothing.
    client.send(Message::text(CREATE)).await.unwrap();
    event(&mut provider).await;
    let error = json!({"type": "error", "status": 400});
    provider.send(Message::text(error.to_string())).await.unwrap();
    assert_eq!(event(&mut client).await, error);
    assert_eq!(scene.spent().await, 2 * cost);
    // What breaks off counts in full, and nothing is left for another one.
    client.send(Message::text(CREATE)).await.unwrap();
    event(&mut provider).await;
    drop(client);
    assert_eq!(scene.spent().await, reserved + 2 * cost);
    let accept = async {
        let (stream, _) = listener.accept().await.unwrap();
        tokio_tungstenite::accept_async(stream).await.unwrap()
    };
    let (mut client, mut provider) = tokio::join!(scene.socket(), accept);
    client.send(Message::text(CREATE)).await.unwrap();
    let refused = event(&mut client).await;
    assert_eq!(
        (&refused["status"], &refused["error"]["code"]),
        (&json!(402), &json!("insufficient_quota"))
    );
    client.close(None).await.unwrap();
    let end = soon("the provider's end", provider.next()).await;
    assert!(
        matches!(end, None | Some(Err(_) | Ok(Message::Close(_)))),
        "a request that nothing is left for was sent: {end:?}"
    );
}

#[tokio::test]
async fn embeddings_are_paid_for() {
    let mut upstream = Upstream::start().await;
    let body = r#"{"model":"m","input":["a","b"]}"#;
    let reserved = (body.len() as u64 + 4096) * 4000;
    let mut scene = Scene::new(upstream.port, of_user("ann"), reserved).await;
    let answer = r#"{"data":[],"usage":{"prompt_tokens":7,"total_tokens":7}}"#;
    let path = "/openai/v1/embeddings";
    let (status, _) = scene.ask(&mut upstream, path, body, &[("200 OK", answer)]).await;
    assert_eq!((status, scene.spent().await), (200, 7 * 2000));
    let (status, text) = scene.ask(&mut upstream, path, body, &[]).await;
    assert!(status == 402 && text.contains("insufficient_quota"), "{text}");
    assert!(upstream.is_untouched());
}

#[tokio::test]
async fn a_chain_is_reserved_at_its_dearest_model_and_each_attempt_apart() {
    let mut upstream = Upstream::start().await;
    let ask = ASK.replace("\"m\"", "\"best\"");
    let cheap = bound(ASK, 2000, 10_000);
    let dear = bound(&ASK.replace("\"m\"", "\"dear\""), 200_000, 1_000_000);
    let path = "/anthropic/v1/messages";
    // Enough for the first model and not for the second: nothing is sent.
    let short = Scene::new(upstream.port, of_user("ann"), dear - 1).await;
    let (status, text) = short.ask(&mut upstream, path, &ask, &[]).await;
    assert!(status == 402 && text.contains("billing_error"), "{text}");
    assert!(upstream.is_untouched());

    let mut scene = Scene::new(upstream.port, of_user("ann"), dear + cheap * 10).await;
    // The first one states an error and costs nothing; the second is what runs.
    let usage = r#"{"type":"message","usage":{"input_tokens":30,"output_tokens":20}}"#;
    let (status, _) = scene
        .ask(
            &mut upstream,
            path,
            &ask,
            &[("529 Full", "{}"), ("200 OK", usage)],
        )
        .await;
    let second = 30 * 200_000 + 20 * 1_000_000;
    assert_eq!((status, scene.spent().await), (200, second));
    let request = ListUsageRequest {
        by: "model".into(),
        since: 0,
        users: Vec::new(),
    };
    let rows = scene.admin.list_usage(request).await.unwrap().into_inner().rows;
    assert_eq!(rows[0].name, "anthropic/dear");

    // One that may have begun to answer counts in full before the next is reserved for, which has no room any more.
    let mut scene = Scene::new(upstream.port, of_user("bob"), dear + cheap - 1).await;
    let (status, text) = scene.ask(&mut upstream, path, &ask, &[("", "")]).await;
    assert!(status == 402, "{text}");
    assert!(upstream.is_untouched());
    assert_eq!(scene.spent().await, cheap);
}

#[tokio::test]
async fn a_key_holds_for_whatever_runs() {
    let mut upstream = Upstream::start().await;
    let key = VirtualKey {
        access: Some(Access {
            models: vec!["m".into(), "best".into()],
            ..Access::default()
        }),
        ..of_user("ann")
    };
    let scene = Scene::new(upstream.port, key, u64::MAX / 8).await;
    for (path, body) in [
        ("/anthropic/v1/messages", ASK.replace("\"m\"", "\"best\"")),
        (
            "/anthropic/v1/messages/count_tokens",
            ASK.replace("\"m\"", "\"best\""),
        ),
        ("/anthropic/v1/messages", ASK.replace("\"m\"", "\"dear\"")),
        (
            "/anthropic/v1/chat/completions",
            r#"{"model":"dear","messages":[{"role":"user","content":"x"}]}"#.to_owned(),
        ),
        (
            "/openai/v1/embeddings",
            r#"{"model":"dear","input":"x"}"#.to_owned(),
        ),
    ] {
        let (status, text) = scene.ask(&mut upstream, path, &body, &[]).await;
        assert!(status == 403 && text.contains("`dear`"), "{path} {body}: {text}");
    }
    assert!(upstream.is_untouched());
}

#[tokio::test]
async fn a_translated_answer_is_read_as_its_provider_says_it() {
    let mut upstream = Upstream::start().await;
    let mut scene = Scene::new(upstream.port, of_user("ann"), u64::MAX / 8).await;
    let ask = r#"{"model":"m","max_tokens":100,"messages":[{"role":"user","content":"x"}]}"#;
    // What was read from the cache is beside the input in this dialect, and within it in the caller's.
    let answer = r#"{"type":"message","role":"assistant","content":[{"type":"text","text":"y"}],"stop_reason":"end_turn",
        "usage":{"input_tokens":30,"cache_creation_input_tokens":5,"output_tokens":20}}"#;
    let (status, text) = scene
        .ask(
            &mut upstream,
            "/anthropic/v1/chat/completions",
            ask,
            &[("200 OK", answer)],
        )
        .await;
    assert_eq!(status, 200, "{text}");
    assert!(text.contains("chat.completion"), "{text}");
    // A cache write costs a quarter more than the input.
    assert_eq!(scene.spent().await, 30 * 2000 + 5 * 2500 + 20 * 10_000);
}

#[tokio::test]
async fn tools_at_the_provider_are_reserved_and_charged_by_the_call() {
    let mut upstream = Upstream::start().await;
    let path = "/anthropic/v1/messages";
    let tool = |uses: &str| {
        format!(
            r#"{{"model":"m","max_tokens":100,"messages":[],"tools":[{{"type":"web_search_20250305","name":"web_search"{uses}}}]}}"#
        )
    };
    let call = 10_000_000;
    // What is found goes in as input: at the most the window, before the first call and after each.
    let of_tokens = 6 * 5000 * 4000 + 100 * 10_000;
    let mut scene = Scene::new(upstream.port, of_user("ann"), of_tokens + 5 * call).await;
    let answer = r#"{"type":"message","usage":{"input_tokens":30,"output_tokens":20,
        "server_tool_use":{"web_search_requests":2}}}"#;
    let (status, text) = scene.ask(&mut upstream, path, &tool(""), &[]).await;
    assert_eq!(status, 402, "twenty calls do not fit: {text}");
    assert!(upstream.is_untouched());
    let limited = tool(r#","max_uses":5"#);
    let (status, _) = scene
        .ask(&mut upstream, path, &limited, &[("200 OK", answer)])
        .await;
    assert_eq!(status, 200);
    assert_eq!(scene.spent().await, 30 * 2000 + 20 * 10_000 + 2 * call);
    let refused = send(
        scene.address,
        post(path, &scene.secret, limited.replace("web_search", "web_fetch")),
    )
    .await;
    assert_eq!(read_json(refused).await.0, 403);
}
