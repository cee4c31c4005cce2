//! A provider that lacks the caller's dialect, and the calls of administration about accounts.

use std::path::Path;

use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use lodge_proto::control::gateway_accounts_client::GatewayAccountsClient;
use lodge_proto::control::{
    BeginLoginRequest, FinishLoginRequest, QuotaRequest, ReloadRequest, TestProviderRequest,
};
use serde_json::{Value, json};
use tonic::Code;
use tonic::transport::Channel;

use crate::common::guest::{self, Guest, post};
use crate::common::runner::{Runner, Session};
use crate::common::upstream::Upstream;
use crate::common::{PROVIDER_KEY, Running, SECOND_KEY, soon};

fn settings(port: u16) -> String {
    format!(
        "[[provider]]\nname = 'local'\nkind = 'openai_compatible'\nbase_url = 'http://127.0.0.1:{port}/v1'\nkey_env = 'PROVIDER_KEY'\n\
         models = [{{ id = 'm' }}]\n\
         [[provider]]\nname = 'anthropic'\nkind = 'anthropic'\nbase_url = 'http://127.0.0.1:{port}'\nkey_env = 'PROVIDER_KEY'\n\
         [[provider.account]]\nname = 'second'\nkey_env = 'SECOND_KEY'\n\
         [[provider.account]]\nname = 'login'\n[provider.account.oauth]\nclient_id = 'c'\nbeta = 'oauth-1'\n\
         authorize_url = 'https://login.example/a'\ntoken_url = 'http://127.0.0.1:{port}/token'\n\
         [[provider]]\nname = 'google'\nkind = 'gemini'\nbase_url = 'http://127.0.0.1:{port}'\nkey_env = 'PROVIDER_KEY'\nmodels = [{{ id = 'gemini-3.8-flash' }}]\n\
         [[provider]]\nname = 'openai'\nkind = 'openai'\nbase_url = 'http://127.0.0.1:{port}/v1'\nkey_env = 'PROVIDER_KEY'\n\
         [[alias]]\nprovider = 'anthropic'\nname = 'best'\ntargets = ['anthropic/opus', 'local/qwen']\n"
    )
}

pub(crate) struct Scene {
    data: tempfile::TempDir,
    pub(crate) upstream: Upstream,
    session: Session,
    pub(crate) guest: Guest,
    _gateway: Running,
}

impl Scene {
    pub(crate) async fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        let upstream = Upstream::start().await;
        std::fs::create_dir(data.path().join("config")).unwrap();
        let text = settings(upstream.port);
        std::fs::write(data.path().join("config/lodge.toml"), &text).unwrap();
        let gateway = Running::start(data.path(), &text).await;
        let session = Runner::connect(data.path()).session(data.path(), "s", 0).await;
        let guest = Guest::connect(&session.socket).await;
        Self {
            data,
            upstream,
            session,
            guest,
            _gateway: gateway,
        }
    }

    pub(crate) fn key(&self) -> &str {
        &self.session.lease.virtual_key
    }
}

pub(crate) async fn accounts(data: &Path) -> GatewayAccountsClient<Channel> {
    let socket = data.join("run/gateway-admin.sock");
    let connect = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { tokio::net::UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let endpoint = tonic::transport::Endpoint::from_static("http://gateway");
    GatewayAccountsClient::new(endpoint.connect_with_connector(connect).await.unwrap())
}

pub(crate) const CLOSE: &str = "connection: close\r\n";

#[tokio::test]
async fn a_caller_of_another_dialect_is_understood_and_told_what_was_lost() {
    let mut scene = Scene::new().await;
    let body = json!({
        "model": "m", "max_tokens": 5, "stream": true, "metadata": { "user_id": "u" },
        "messages": [{ "role": "user", "content": "hi" }],
    });
    let mut request = post("/local/v1/messages?beta=true", scene.key(), body.to_string());
    request
        .headers_mut()
        .insert("anthropic-beta", "x".parse().unwrap());
    let answer = scene.guest.send(request);
    let begin = async {
        let mut exchange = scene.upstream.next().await;
        exchange.begin_stream().await;
        exchange
    };
    let (response, mut exchange) = tokio::join!(answer, begin);
    assert_eq!(exchange.request.line, "POST /v1/chat/completions HTTP/1.1");
    assert_eq!(
        exchange.request.header("authorization"),
        Some(format!("Bearer {PROVIDER_KEY}").as_str())
    );
    assert_eq!(exchange.request.header("anthropic-beta"), None);
    let sent: Value = serde_json::from_slice(&exchange.request.body).unwrap();
    assert_eq!(
        (&sent["messages"], &sent["max_tokens"]),
        (&json!([{ "role": "user", "content": "hi" }]), &json!(5))
    );
    assert_eq!(
        response.headers()["x-lodge-translated"],
        "openai_chat->anthropic_messages"
    );
    assert_eq!(response.headers()["x-lodge-lost"], "metadata");
    // As it comes, and not before a sequence of UTF-8 is whole.
    let mut stream = response.into_body();
    exchange
        .chunk("data: {\"id\":\"1\",\"model\":\"m\",\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n")
        .await;
    let mut seen = String::new();
    while !seen.contains("\"text\":\"a\"") {
        let frame = soon("the text arrives", stream.frame()).await.unwrap().unwrap();
        seen.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
    }
    let smile =
        "data: {\"choices\":[{\"delta\":{\"content\":\"😀\"},\"finish_reason\":\"stop\"}]}\n\n".as_bytes();
    for half in [&smile[..42], &smile[42..]] {
        exchange.write(format!("{:x}\r\n", half.len())).await;
        exchange.write(half).await;
        exchange.write("\r\n").await;
    }
    exchange
        .chunk("data: [DONE]\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"late\"}}]}\n\n")
        .await;
    let rest = soon("the end", stream.collect()).await.unwrap().to_bytes();
    let rest = std::str::from_utf8(&rest).unwrap();
    assert!(
        rest.contains("😀") && rest.contains("message_stop") && !rest.contains("late"),
        "{rest}"
    );
}

#[tokio::test]
async fn a_caller_that_leaves_a_translated_stream_cancels_it() {
    let mut scene = Scene::new().await;
    let body = json!({ "model": "m", "stream": true, "input": "hi" }).to_string();
    let answer = scene.guest.send(post("/local/v1/responses", scene.key(), body));
    let begin = async {
        let mut exchange = scene.upstream.next().await;
        exchange.begin_stream().await;
        exchange
    };
    let (response, mut exchange) = tokio::join!(answer, begin);
    exchange
        .chunk("data: {\"id\":\"1\",\"model\":\"m\",\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n")
        .await;
    scene.guest.vanish();
    drop(response);
    exchange.cancelled().await;
}

#[tokio::test]
async fn errors_and_whole_answers_are_translated_and_a_chain_may_change_the_dialect() {
    let mut scene = Scene::new().await;
    let contents = json!({ "contents": [{ "role": "user", "parts": [{ "text": "hi" }] }] }).to_string();
    let gemini = "/local/v1beta/models/m:generateContent";
    let whole = json!({ "id": "1", "model": "m", "choices": [{ "message": { "content": "yes" }, "finish_reason": "stop" }] });
    let answers = [
        ("400 Bad", "{\"error\":{\"message\":\"too long\"}}".to_owned()),
        ("200 OK", whole.to_string()),
        ("200 OK", "<html>".to_owned()),
    ];
    for (status, answer) in answers {
        let request = post(gemini, scene.key(), contents.clone());
        let respond = async {
            scene.upstream.next().await.answer(status, CLOSE, &answer).await;
        };
        let (response, ()) = tokio::join!(scene.guest.send(request), respond);
        let (found, body) = guest::json(response).await;
        match status {
            "400 Bad" => assert_eq!((found, &body["error"]["message"]), (400, &json!("too long"))),
            _ if answer.starts_with('<') => {
                assert_eq!((found, &body["error"]["status"]), (502, &json!("UNAVAILABLE")));
            }
            _ => assert_eq!(
                (found, &body["candidates"][0]["content"]["parts"][0]["text"]),
                (200, &json!("yes"))
            ),
        }
    }
    // Compressed although it was asked not to be: untouched where nothing is translated, an error where it has to be.
    for (path, status) in [("/local/v1/chat/completions", 200), ("/local/v1/messages", 502)] {
        let body = json!({ "model": "m", "messages": [{ "role": "user", "content": "hi" }] });
        let request = post(path, scene.key(), body.to_string());
        let respond = async {
            let headers = format!("{CLOSE}content-encoding: gzip\r\n");
            scene
                .upstream
                .next()
                .await
                .answer("200 OK", &headers, "squeezed")
                .await;
        };
        let (response, ()) = tokio::join!(scene.guest.send(request), respond);
        assert_eq!(response.status().as_u16(), status);
        let is_native = guest::text(response).await == "squeezed";
        assert_eq!(is_native, status == 200);
    }
    // Anthropic is limited with both of its keys, and nobody is logged into the third account: the chain goes on.
    let body = json!({ "model": "best", "max_tokens": 5, "messages": [{ "role": "user", "content": "hi" }] });
    let request = post("/anthropic/v1/messages", scene.key(), body.to_string());
    let respond = async {
        let mut lines = Vec::new();
        for _ in 0..3 {
            let mut exchange = scene.upstream.next().await;
            let is_chat = exchange.request.line.contains("chat/completions");
            let (status, answer) = if is_chat {
                ("200 OK", whole.to_string())
            } else {
                ("429 Slow", String::new())
            };
            exchange.answer(status, CLOSE, &answer).await;
            lines.push((exchange.request.line.clone(), exchange.request.body.clone()));
        }
        lines
    };
    let (response, lines) = tokio::join!(scene.guest.send(request), respond);
    let (status, answer) = guest::json(response).await;
    assert_eq!((status, &answer["content"][0]["text"]), (200, &json!("yes")));
    assert_eq!(lines[2].0, "POST /v1/chat/completions HTTP/1.1");
    let sent: Value = serde_json::from_slice(&lines[2].1).unwrap();
    assert_eq!(sent["model"], "qwen");
}

#[tokio::test]
async fn quotas_are_shown_and_each_account_is_tested() {
    let mut scene = Scene::new().await;
    let mut client = accounts(scene.data.path()).await;
    let request = post("/local/v1/chat/completions", scene.key(), "{\"model\":\"m\"}");
    let respond = async {
        let headers =
            format!("{CLOSE}x-ratelimit-limit-requests: 60\r\nx-ratelimit-remaining-requests: 59\r\n");
        scene.upstream.next().await.answer("200 OK", &headers, "{}").await;
    };
    let (response, ()) = tokio::join!(scene.guest.send(request), respond);
    assert_eq!(response.headers()["x-ratelimit-limit-requests"], "60");
    drop(response);
    let told = async {
        loop {
            let states = client.quota(QuotaRequest {}).await.unwrap().into_inner().accounts;
            let local = states
                .into_iter()
                .find(|state| state.provider == "local")
                .unwrap();
            if let Some(window) = local.windows.first() {
                return (local.state.clone(), window.name.clone(), window.remaining);
            }
            tokio::task::yield_now().await;
        }
    };
    let told = soon("the quota is known", told).await;
    assert_eq!(told, ("well".to_owned(), "requests".to_owned(), Some(59)));

    let test = client.test_provider(TestProviderRequest {
        name: "anthropic".into(),
    });
    let respond = async {
        for status in ["200 OK", "401 No"] {
            let mut exchange = scene.upstream.next().await;
            assert_eq!(exchange.request.line, "GET /v1/models HTTP/1.1");
            assert!(exchange.request.header("anthropic-version").is_some());
            exchange.answer(status, CLOSE, SECOND_KEY).await;
        }
    };
    let (tested, ()) = tokio::join!(test, respond);
    let tested = tested.unwrap().into_inner().accounts;
    let shown: Vec<_> = tested
        .iter()
        .map(|test| (test.account.as_str(), test.ok, test.status))
        .collect();
    assert_eq!(
        shown,
        [
            ("default", true, 200),
            ("second", false, 401),
            ("login", false, 0)
        ]
    );
    assert!(!format!("{tested:?}").contains(SECOND_KEY));
}

#[tokio::test]
async fn the_configuration_is_read_again_and_checked_before_anything_changes() {
    let mut scene = Scene::new().await;
    let mut client = accounts(scene.data.path()).await;
    // Not valid: nothing changes. Valid: the next request already goes by it.
    let file = scene.data.path().join("config/lodge.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, "[[provider]]\nname = 'x'").unwrap();
    let error = client.reload(ReloadRequest {}).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().contains("lodge.toml"), "{}", error.message());
    let before = client
        .quota(QuotaRequest {})
        .await
        .unwrap()
        .into_inner()
        .accounts
        .len();
    assert_eq!(before, 6);
    let changed =
        format!("{text}[[model_policy]]\nmodel = 'm'\ndeny = 'since today'\n[egress]\nmax_gib = 7\n");
    std::fs::write(&file, changed).unwrap();
    let reloaded = client.reload(ReloadRequest {}).await.unwrap().into_inner();
    assert_eq!(reloaded.needs_restart, ["egress"]);
    let request = post("/local/v1/chat/completions", scene.key(), "{\"model\":\"m\"}");
    let (status, body) = guest::json(scene.guest.send(request).await).await;
    assert!(
        status == 403 && body.to_string().contains("since today"),
        "{body}"
    );
    std::fs::remove_file(&file).unwrap();
    client.reload(ReloadRequest {}).await.unwrap();
    assert_eq!(
        client
            .quota(QuotaRequest {})
            .await
            .unwrap()
            .into_inner()
            .accounts
            .len(),
        0
    );
}

fn login(provider: &str, account: &str) -> BeginLoginRequest {
    BeginLoginRequest {
        provider: provider.into(),
        account: account.into(),
        device: false,
    }
}

#[tokio::test]
async fn only_accounts_without_a_key_are_logged_into() {
    let scene = Scene::new().await;
    let mut client = accounts(scene.data.path()).await;
    for (provider, account, code) in [
        ("nobody", "login", Code::NotFound),
        ("anthropic", "nobody", Code::NotFound),
        ("anthropic", "second", Code::FailedPrecondition),
    ] {
        let error = client.begin_login(login(provider, account)).await.unwrap_err();
        assert_eq!(error.code(), code);
    }
}

#[tokio::test]
async fn an_account_is_logged_into_over_administration_and_used() {
    let mut scene = Scene::new().await;
    let mut client = accounts(scene.data.path()).await;
    let begun = client
        .begin_login(login("anthropic", "login"))
        .await
        .unwrap()
        .into_inner();
    let state = begun
        .url
        .split("state=")
        .nth(1)
        .unwrap()
        .split('&')
        .next()
        .unwrap()
        .to_owned();
    let finish = client.finish_login(FinishLoginRequest {
        provider: "anthropic".into(),
        account: "login".into(),
        state,
        code: "code".into(),
    });
    let respond = async {
        let mut exchange = scene.upstream.next().await;
        exchange
            .answer(
                "200 OK",
                CLOSE,
                "{\"access_token\":\"access-1\",\"refresh_token\":\"r\",\"expires_in\":3600}",
            )
            .await;
        exchange.request
    };
    let (finished, asked) = tokio::join!(finish, respond);
    assert!(finished.unwrap().into_inner().logged_in);
    assert_eq!(asked.line, "POST /token HTTP/1.1");
    // The two with a key refuse; the one that is logged into renews its token once when that is refused, and answers.
    let request = post("/anthropic/v1/messages", scene.key(), "{\"model\":\"opus\"}");
    let respond = async {
        let mut tokens = Vec::new();
        loop {
            let mut exchange = scene.upstream.next().await;
            let token = exchange.request.header("authorization").map(str::to_owned);
            let (status, answer) = match token.as_deref() {
                _ if exchange.request.line.contains("/token") => {
                    ("200 OK", "{\"access_token\":\"access-2\",\"expires_in\":3600}")
                }
                Some("Bearer access-2") => ("200 OK", "{}"),
                _ => ("401 No", ""),
            };
            exchange.answer(status, CLOSE, answer).await;
            if token.is_some() {
                assert_eq!(exchange.request.header("anthropic-beta"), Some("oauth-1"));
                assert_eq!(exchange.request.header("x-api-key"), None);
            }
            tokens.extend(token);
            if tokens.len() == 2 {
                return tokens;
            }
        }
    };
    let (response, tokens) = tokio::join!(scene.guest.send(request), respond);
    assert_eq!(
        (response.status().as_u16(), tokens),
        (
            200,
            vec!["Bearer access-1".to_owned(), "Bearer access-2".to_owned()]
        )
    );
}
