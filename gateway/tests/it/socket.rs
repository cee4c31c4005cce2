//! Responses over a WebSocket: the messages are the caller's and the provider's own, the checks are the gateway's.

use futures_util::{SinkExt, StreamExt};
use lodge_proto::control::{CancelRequestRequest, EgressPolicy, ListLiveRequest, lease_reply::Reply};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::http;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::common::runner::{Runner, Session};
use crate::common::{PROVIDER_KEY, Running, soon};

type Provider = WebSocketStream<TcpStream>;
type Client = WebSocketStream<UnixStream>;

struct Scene {
    data: tempfile::TempDir,
    accepted: mpsc::Receiver<(http::HeaderMap, Provider)>,
    runner: Runner,
    session: Session,
    _gateway: Running,
}

impl Scene {
    async fn new() -> Self {
        Self::with_ttl(0).await
    }

    /// With a lease that has to be renewed that often.
    async fn with_ttl(seconds: u32) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, accepted) = mpsc::channel(8);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mut headers = http::HeaderMap::new();
                #[allow(clippy::result_large_err)] // the library's own type
                let note = |request: &Request, response: Response| {
                    headers = request.headers().clone();
                    Ok(response)
                };
                if let Ok(socket) = tokio_tungstenite::accept_hdr_async(stream, note).await {
                    let _test_is_over = sender.send((headers, socket)).await;
                }
            }
        });
        let settings = format!(
            "[gateway]\nmax_body_mib = 1\n[[provider]]\nname = 'openai'\nkind = 'openai'\nbase_url = 'http://127.0.0.1:{port}/v1'\n\
             key_env = 'PROVIDER_KEY'\n[[alias]]\nprovider = 'openai'\nname = 'best'\ntargets = ['openai/big']\n"
        );
        let data = tempfile::tempdir().unwrap();
        let gateway = Running::start(data.path(), &settings).await;
        let mut runner = Runner::connect(data.path());
        let nothing: Option<EgressPolicy> = None;
        let session = runner.session_with(data.path(), "s1", seconds, nothing).await;
        Self {
            data,
            accepted,
            runner,
            session,
            _gateway: gateway,
        }
    }

    async fn try_connect(&self, key: &str) -> Result<Client, Error> {
        let stream = UnixStream::connect(&self.session.socket).await.unwrap();
        let request = http::Request::get("ws://127.0.0.1:8377/openai/v1/responses")
            .header("host", "127.0.0.1:8377")
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("authorization", format!("Bearer {key}"))
            .header("x-codex-window-id", "w")
            .header("cookie", "a=b")
            .body(())
            .unwrap();
        let connect = tokio_tungstenite::client_async(request, stream);
        soon("the gateway answers", connect)
            .await
            .map(|(client, _)| client)
    }

    async fn connect(&mut self) -> (Client, http::HeaderMap, Provider) {
        let client = self.try_connect(&self.session.lease.virtual_key).await.unwrap();
        let (headers, provider) = soon("the provider is reached", self.accepted.recv())
            .await
            .unwrap();
        (client, headers, provider)
    }
}

async fn text(socket: &mut (impl StreamExt<Item = Result<Message, Error>> + Unpin)) -> String {
    let message = soon("a message", socket.next()).await.unwrap().unwrap();
    message.into_text().unwrap().to_string()
}

const ODD: &str =
    "{ \"type\":\"response.create\", \"model\" : \"m\",\"n\": 12345678901234567890,\"input\":\"\\u00e9 é\" }";

/// The head of a message of that many bytes, and all but its last.
fn begun(bytes: usize) -> Vec<u8> {
    let length = u64::try_from(bytes).unwrap().to_be_bytes();
    // A mask of nothing.
    [&[0x81, 0xff][..], &length, &[0; 4], &vec![b' '; bytes - 1]].concat()
}

#[tokio::test]
async fn messages_that_do_not_end_take_no_more_than_their_share() {
    let mut scene = Scene::new().await;
    let mut clients = Vec::new();
    let mut providers = Vec::new();
    for _ in 0..6 {
        let (client, _, provider) = scene.connect().await;
        clients.push(client);
        providers.push(provider);
    }
    // Four of the largest are a session's share; who comes after that is cut, and his request to the provider with him.
    for client in &mut clients {
        let _cut = client.get_mut().write_all(&begun(1 << 20)).await;
    }
    let ends = providers.iter_mut().map(|provider| Box::pin(provider.next()));
    let (_, cut, _) = soon("one is cut", futures_util::future::select_all(ends)).await;
    providers.remove(cut);
    clients.remove(cut);
    // Room is there again for whoever begins anew.
    drop(clients);
    for mut provider in providers {
        while let Some(Ok(_)) = soon("the others end", provider.next()).await {}
    }
    let (mut client, _, mut provider) = scene.connect().await;
    let large = ODD.replace("é", &"é".repeat(250_000));
    client.send(Message::text(large.clone())).await.unwrap();
    assert_eq!(text(&mut provider).await, large);
}

#[tokio::test]
async fn messages_pass_as_they_are_and_only_the_key_is_swapped() {
    let mut scene = Scene::new().await;
    let (mut client, headers, mut provider) = scene.connect().await;
    assert_eq!(headers["authorization"], format!("Bearer {PROVIDER_KEY}"));
    assert_eq!(headers["x-codex-window-id"], "w");
    assert!(headers.get("cookie").is_none());
    assert!(!format!("{headers:?}").contains(&scene.session.lease.virtual_key));
    client.send(Message::text(ODD)).await.unwrap();
    assert_eq!(text(&mut provider).await, ODD);
    for answer in [
        "{ \"type\":\"response.output_text.delta\",\"delta\":\"😀\" }",
        "not even json",
    ] {
        provider.send(Message::text(answer)).await.unwrap();
        assert_eq!(text(&mut client).await, answer);
    }
    // One at a time: what the answer is to would be anybody's guess.
    client.send(Message::text(ODD)).await.unwrap();
    assert!(text(&mut client).await.contains("one response at a time"));
    let done = "{\"type\":\"response.completed\",\"response\":{}}";
    provider.send(Message::text(done)).await.unwrap();
    assert_eq!(text(&mut client).await, done);
    client
        .send(Message::text(ODD.replace("\"m\"", "\"best\"")))
        .await
        .unwrap();
    assert_eq!(text(&mut provider).await, ODD.replace("\"m\"", "\"big\""));
    // The provider's end is the client's.
    provider.close(None).await.unwrap();
    let end = soon("the end", client.next()).await;
    assert!(
        matches!(end, None | Some(Ok(Message::Close(_)) | Err(_))),
        "{end:?}"
    );
}

#[tokio::test]
async fn each_message_is_checked_and_a_refusal_leaves_the_socket_open() {
    let mut scene = Scene::new().await;
    let (mut client, _, mut provider) = scene.connect().await;
    let previous = json!({"type": "response.create", "previous_response_id": "resp_1"}).to_string();
    for (message, status) in [
        ("{".to_owned(), 400),
        ("[]".to_owned(), 400),
        (json!({"type": "session.update"}).to_string(), 403),
        ("{\"type\":\"response.create\",\"type\":\"x\"}".to_owned(), 403),
        (
            json!({"type": "response.create", "response": {"tools": [{"type": "web_search"}]}}).to_string(),
            403,
        ),
        (
            json!({"type": "response.create", "tools": [{"type": "web_search"}]}).to_string(),
            403,
        ),
        (
            json!({"type": "response.create", "background": true}).to_string(),
            403,
        ),
        (previous.clone(), 404),
    ] {
        client.send(Message::text(message.clone())).await.unwrap();
        let error: Value = serde_json::from_str(&text(&mut client).await).unwrap();
        assert_eq!(
            (&error["type"], &error["status"]),
            (&json!("error"), &json!(status)),
            "{message}: {error}"
        );
        assert!(error["error"]["message"].is_string());
    }
    client.send(Message::binary(vec![1])).await.unwrap();
    assert!(text(&mut client).await.contains("binary"));
    // What was issued over the socket is known from then on.
    let created = "{\"type\":\"response.created\",\"response\":{\"object\":\"response\",\"id\":\"resp_1\"}}";
    provider.send(Message::text(created)).await.unwrap();
    assert_eq!(text(&mut client).await, created);
    client.send(Message::text(previous.clone())).await.unwrap();
    // Nothing that was refused had reached the provider.
    assert_eq!(text(&mut provider).await, previous);
}

#[tokio::test]
async fn who_vanishes_takes_the_other_end_along() {
    let mut scene = Scene::new().await;
    let (client, _, mut provider) = scene.connect().await;
    drop(client);
    let end = soon("the provider's socket is closed", provider.next()).await;
    assert!(
        matches!(end, None | Some(Err(_) | Ok(Message::Close(_)))),
        "{end:?}"
    );
    let (mut client, _, mut provider) = scene.connect().await;
    scene.runner.close(&scene.session).await;
    let end = soon("the lease's end cuts the client", client.next()).await;
    assert!(matches!(end, None | Some(Err(_))), "{end:?}");
    let end = soon("and the provider", provider.next()).await;
    assert!(matches!(end, None | Some(Err(_))), "{end:?}");
}

#[tokio::test]
async fn a_lease_that_is_not_renewed_cuts_its_sockets() {
    let mut scene = Scene::with_ttl(6).await;
    let (mut client, _, mut provider) = scene.connect().await;
    let key = scene.session.lease.virtual_key.clone();
    // Nobody renews it.
    let end = soon("the client is cut", client.next()).await;
    assert!(matches!(end, None | Some(Err(_))), "{end:?}");
    let end = soon("and the provider", provider.next()).await;
    assert!(matches!(end, None | Some(Err(_))), "{end:?}");
    let id = scene.session.lease.lease_id.as_str();
    assert_eq!(scene.runner.renew(&[id]).await, [id]);
    // The same key works again once its runner has come back.
    assert!(matches!(
        scene.runner.resume(&scene.session).await,
        Reply::Granted(_)
    ));
    scene.try_connect(&key).await.unwrap();
}

#[tokio::test]
async fn a_request_that_is_ended_by_hand_says_so_and_closes_the_socket() {
    let mut scene = Scene::new().await;
    let (mut client, _, mut provider) = scene.connect().await;
    let asked = r#"{"type":"response.create","model":"m","max_output_tokens":5,"input":[]}"#;
    client.send(Message::text(asked)).await.unwrap();
    assert_eq!(text(&mut provider).await, asked);
    let mut ops = crate::cancel::ops(scene.data.path()).await;
    let live = ops.list_live(ListLiveRequest {}).await.unwrap().into_inner();
    let id = live.requests[0].id;
    let cancelled = ops.cancel_request(CancelRequestRequest { id }).await;
    cancelled.unwrap();
    let error: Value = serde_json::from_str(&text(&mut client).await).unwrap();
    assert_eq!(error["error"]["code"], "request_cancelled", "{error}");
    let end = soon("the client's socket is closed", client.next()).await;
    assert!(matches!(end, Some(Ok(Message::Close(_)))), "{end:?}");
    let end = soon("and the provider's", provider.next()).await;
    assert!(
        matches!(end, None | Some(Err(_) | Ok(Message::Close(_)))),
        "{end:?}"
    );
}

#[tokio::test]
async fn strangers_and_too_many_are_refused() {
    let mut scene = Scene::new().await;
    let Err(Error::Http(answer)) = scene.try_connect("sk-nobody").await else {
        panic!("a stranger came in");
    };
    assert_eq!(answer.status(), 401);
    let mut open = Vec::new();
    for _ in 0..16 {
        open.push(scene.connect().await);
    }
    let Err(Error::Http(answer)) = scene.try_connect(&scene.session.lease.virtual_key).await else {
        panic!("one too many came in");
    };
    assert_eq!(answer.status(), 429);
}
