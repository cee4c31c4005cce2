//! Accounts, chains, aliases and whose stored objects are: which bytes reach which provider with which key.

use hyper::body::Incoming;
use hyper::{Request, Response};
use lodge_gateway::Config;
use serde_json::json;

use crate::common::guest::{self, Guest, post};
use crate::common::runner::{Runner, Session};
use crate::common::upstream::{Received, Upstream};
use crate::common::{PROVIDER_KEY, Running, SECOND_KEY};

fn settings(port: u16) -> String {
    format!(
        "[[provider]]\nname = 'openai'\nkind = 'openai'\nbase_url = 'http://127.0.0.1:{port}/v1'\n\
         key_env = 'PROVIDER_KEY'\nprovider_tools = {{ code_interpreter = 0.03 }}\n\
         [[provider.account]]\nname = 'second'\nkey_env = 'SECOND_KEY'\n\
         [[provider]]\nname = 'one'\nkind = 'openai'\nbase_url = 'http://127.0.0.1:{port}/one/v1'\nkey_env = 'PROVIDER_KEY'\n\
         [[provider]]\nname = 'two'\nkind = 'openai'\nbase_url = 'http://127.0.0.1:{port}/two/v1'\nkey_env = 'SECOND_KEY'\n\
         models = [{{ id = 'large' }}, {{ id = 'secret-1' }}]\n\
         [[provider]]\nname = 'gemini'\nkind = 'gemini'\nbase_url = 'http://127.0.0.1:{port}'\nkey_env = 'PROVIDER_KEY'\n\
         [[alias]]\nprovider = 'one'\nname = 'best'\ntargets = ['one/big', 'two/large']\n\
         [[alias]]\nprovider = 'gemini'\nname = 'best'\ntargets = ['gemini/flash']\n\
         [[model_policy]]\nmodel = 'big'\nset = {{ service_tier = 'default', 'metadata.by' = 7 }}\n\
         [[provider]]\nname = 'shut'\nkind = 'openai'\nbase_url = 'http://127.0.0.1:{port}'\nkey_env = 'PROVIDER_KEY'\n\
         [[model_policy]]\nprovider = 'shut'\nmodel = '*'\ndeny = 'closed'\n\
         [[model_policy]]\nmodel = 'secret-*'\ndeny = 'it is not for us'\n"
    )
}

pub(crate) struct Scene {
    pub(crate) data: tempfile::TempDir,
    pub(crate) upstream: Upstream,
    pub(crate) session: Session,
    pub(crate) guest: Guest,
    gateway: Option<Running>,
    settings: fn(u16) -> String,
}

impl Scene {
    async fn new() -> Self {
        Self::with(settings).await
    }

    pub(crate) async fn with(settings: fn(u16) -> String) -> Self {
        let data = tempfile::tempdir().unwrap();
        let upstream = Upstream::start().await;
        let gateway = Running::start(data.path(), &settings(upstream.port)).await;
        let session = Runner::connect(data.path()).session(data.path(), "s1", 0).await;
        let guest = Guest::connect(&session.socket).await;
        Self {
            data,
            upstream,
            session,
            guest,
            gateway: Some(gateway),
            settings,
        }
    }

    /// Stops the gateway as on KILL or as on TERM, and starts it again.
    pub(crate) async fn restart(&mut self) {
        self.gateway.take().unwrap().stop().await;
        self.gateway = Some(Running::start(self.data.path(), &(self.settings)(self.upstream.port)).await);
        self.session = Runner::connect(self.data.path())
            .session(self.data.path(), "s1", 0)
            .await;
        self.guest = Guest::connect(&self.session.socket).await;
    }

    fn post(&self, path: &str, body: &str) -> Request<http_body_util::Full<bytes::Bytes>> {
        post(path, &self.session.lease.virtual_key, body.to_owned())
    }

    /// Sends a request that the provider answers like this, one answer an attempt; the attempts and what came back.
    async fn ask(
        &mut self,
        path: &str,
        body: &str,
        answers: &[(&str, &str, &str)],
    ) -> (Vec<Received>, u16, String) {
        let request = self.post(path, body);
        let (attempts, response) = self.send(request, answers).await;
        let status = response.status().as_u16();
        (attempts, status, guest::text(response).await)
    }

    /// The same with any request, and with the head of what came back.
    pub(crate) async fn send(
        &mut self,
        request: Request<http_body_util::Full<bytes::Bytes>>,
        answers: &[(&str, &str, &str)],
    ) -> (Vec<Received>, Response<Incoming>) {
        let answer = self.guest.send(request);
        let respond = async {
            let mut attempts = Vec::new();
            for (status, headers, body) in answers {
                let mut exchange = self.upstream.next().await;
                // One request a connection: the next attempt must not find a pooled one that nobody reads.
                let headers = format!("{headers}connection: close\r\n");
                exchange.answer(status, &headers, body).await;
                attempts.push(exchange.request);
            }
            attempts
        };
        let (response, attempts) = tokio::join!(answer, respond);
        (attempts, response)
    }
}

const OK: (&str, &str, &str) = ("200 OK", "", "{\"ok\":1}");
const CHAT: &str = "{ \"model\":\"m\", \"n\":1e2 }";

pub(crate) fn key(request: &Received) -> &str {
    request.header("authorization").unwrap()
}

fn other(key: &str) -> String {
    let [one, two] = [PROVIDER_KEY, SECOND_KEY].map(|key| format!("Bearer {key}"));
    if key == one { two } else { one }
}

#[tokio::test]
async fn a_session_keeps_its_account_and_leaves_it_while_it_is_limited() {
    let mut scene = Scene::new().await;
    let path = "/openai/v1/chat/completions";
    let (first, ..) = scene.ask(path, CHAT, &[OK]).await;
    let own = key(&first[0]).to_owned();
    let (again, ..) = scene.ask(path, CHAT, &[OK]).await;
    assert_eq!(key(&again[0]), own);
    // Limited: the same bytes go to the other account, and the caller sees nothing of it.
    let limited = ("429 Slow", "retry-after: 3000\r\n", "{}");
    let (both, status, text) = scene.ask(path, CHAT, &[limited, OK]).await;
    assert_eq!((status, text.as_str()), (200, "{\"ok\":1}"));
    assert_eq!(
        (key(&both[0]), key(&both[1])),
        (own.as_str(), other(&own).as_str())
    );
    assert_eq!(both[0].body, both[1].body);
    // It is left alone now, by other sessions and over a restart too.
    let (after, ..) = scene.ask(path, CHAT, &[OK]).await;
    assert_eq!(key(&after[0]), other(&own));
    scene.restart().await;
    let (after, ..) = scene.ask(path, CHAT, &[OK]).await;
    assert_eq!(key(&after[0]), other(&own));
    // When both are limited the last answer is the caller's; after that nobody is asked at all.
    let (last, status, _) = scene.ask(path, CHAT, &[limited]).await;
    assert_eq!((key(&last[0]), status), (other(&own).as_str(), 429));
    let request = scene.post(path, CHAT);
    let response = scene.guest.send(request).await;
    let wait: u64 = response.headers()["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=3000).contains(&wait));
    let (status, body) = guest::json(response).await;
    assert_eq!(
        (status, &body["error"]["type"]),
        (429, &json!("rate_limit_error"))
    );
    assert!(scene.upstream.is_untouched());
}

#[tokio::test]
async fn a_limit_is_for_one_model_and_two_limited_models_are_the_account() {
    let mut scene = Scene::new().await;
    let path = "/two/v1/chat/completions";
    let chat = |model: &str| CHAT.replace("\"m\"", &format!("\"{model}\""));
    let limited = ("429 Slow", "retry-after: 3000\r\n", "{}");
    let (_, status, _) = scene.ask(path, &chat("a"), &[limited]).await;
    assert_eq!(status, 429);
    for restart in [false, true] {
        if restart {
            scene.restart().await;
        }
        let (_, status, text) = scene.ask(path, &chat("a"), &[]).await;
        assert!(status == 429 && text.contains("left alone"), "{text}");
        let (_, status, _) = scene.ask(path, &chat("b"), &[OK]).await;
        assert_eq!(status, 200);
    }
    let (_, status, _) = scene.ask(path, &chat("b"), &[limited]).await;
    assert_eq!(status, 429);
    for restart in [false, true] {
        if restart {
            scene.restart().await;
        }
        let (_, status, text) = scene.ask(path, &chat("c"), &[]).await;
        assert!(status == 429 && text.contains("left alone"), "{text}");
    }
    assert!(scene.upstream.is_untouched());
}

#[tokio::test]
async fn one_request_finds_out_whether_a_paused_account_works_again() {
    let mut scene = Scene::new().await;
    let path = "/two/v1/chat/completions";
    // Without a time: the provider may be asked again, by one.
    let (_, status, _) = scene.ask(path, CHAT, &[("429 Slow", "", "{}")]).await;
    assert_eq!(status, 429);
    let mut probing = Guest::connect(&scene.session.socket).await;
    let request = scene.post(path, CHAT);
    let probe = tokio::spawn(async move {
        let _cut = probing.try_send(request).await;
    });
    let held = scene.upstream.next().await;
    let request = scene.post(path, CHAT);
    let waiting = scene.guest.send(request).await;
    assert_eq!(waiting.headers()["retry-after"], "1");
    let (status, body) = guest::json(waiting).await;
    assert!(
        status == 429
            && body["error"]["message"]
                .as_str()
                .unwrap()
                .contains("another request"),
        "{body}"
    );
    assert!(scene.upstream.is_untouched());
    // Its client goes away: the next one finds out, and then everybody is let in.
    probe.abort();
    held.cancelled().await;
    let (_, status, _) = scene.ask(path, CHAT, &[OK]).await;
    assert_eq!(status, 200);
    let mut other = Guest::connect(&scene.session.socket).await;
    let (one, two) = (scene.post(path, CHAT), scene.post(path, CHAT));
    let both = async { tokio::join!(scene.guest.send(one), other.send(two)) };
    let respond = async {
        let (mut first, mut second) = (scene.upstream.next().await, scene.upstream.next().await);
        first.answer("200 OK", "", "{}").await;
        second.answer("200 OK", "", "{}").await;
    };
    let ((one, two), ()) = tokio::join!(both, respond);
    assert_eq!((one.status().as_u16(), two.status().as_u16()), (200, 200));
}

#[tokio::test]
async fn failures_and_refused_keys_go_on_to_the_next_and_errors_of_the_request_do_not() {
    let mut scene = Scene::new().await;
    let path = "/openai/v1/chat/completions";
    for status in ["500 Oops", "529 Full", "401 No", "403 Never"] {
        let (attempts, found, _) = scene.ask(path, CHAT, &[(status, "", "x"), OK]).await;
        assert_eq!((attempts.len(), found), (2, 200), "{status}");
        assert_ne!(key(&attempts[0]), key(&attempts[1]), "{status}");
        let (_, _, _) = scene.ask(path, CHAT, &[OK]).await;
    }
    let (_, found, text) = scene.ask(path, CHAT, &[("400 Bad", "", "{\"error\":1}")]).await;
    assert_eq!((found, text.as_str()), (400, "{\"error\":1}"));
    // Both fail: the last answer, in the gateway's words where it is not one of the dialect.
    let (attempts, found, _) = scene
        .ask(path, CHAT, &[("500 A", "", ""), ("401 B", "", PROVIDER_KEY)])
        .await;
    assert_eq!((attempts.len(), found), (2, 401));
}

#[tokio::test]
async fn an_alias_is_a_chain_and_only_the_named_bytes_change() {
    let mut scene = Scene::new().await;
    let body = "{ \"mod\\u0065l\" : \"best\",\"n\": 12345678901234567890, \"text\":\"\\u00e9\\/ é\" ,\"metadata\":{\"a\":1.0} }";
    let (attempts, status, _) = scene
        .ask("/one/v1/chat/completions?a=1", body, &[("503 Down", "", "x"), OK])
        .await;
    assert_eq!(status, 200);
    assert_eq!(attempts[0].line, "POST /one/v1/chat/completions?a=1 HTTP/1.1");
    assert_eq!(
        std::str::from_utf8(&attempts[0].body).unwrap(),
        "{ \"mod\\u0065l\" : \"big\",\"n\": 12345678901234567890, \"text\":\"\\u00e9\\/ é\" ,\"metadata\":{\"a\":1.0,\"by\":7},\"service_tier\":\"default\" }"
    );
    assert_eq!(attempts[1].line, "POST /two/v1/chat/completions?a=1 HTTP/1.1");
    assert_eq!(
        std::str::from_utf8(&attempts[1].body).unwrap(),
        body.replace("\"best\"", "\"large\"")
    );
    assert_eq!(key(&attempts[1]), format!("Bearer {SECOND_KEY}"));
    // Gemini names the model in the path.
    let path = "/gemini/v1beta/models/best:streamGenerateContent?alt=sse";
    let (attempts, ..) = scene.ask(path, "{\"a\": 1}", &[OK]).await;
    assert_eq!(
        attempts[0].line,
        "POST /v1beta/models/flash:streamGenerateContent?alt=sse HTTP/1.1"
    );
    assert_eq!(attempts[0].body, b"{\"a\": 1}");
    // What is signed by one provider does not go to another.
    let signed = "{\"model\":\"best\",\"input\":[{\"type\":\"reasoning\",\"encrypted_content\":\"x\"}]}";
    let (attempts, status, _) = scene
        .ask("/one/v1/responses", signed, &[("503 Down", "", "x")])
        .await;
    assert_eq!((attempts.len(), status), (1, 503));
    let request = scene.post("/two/v1/responses", "{\"model\":\"secret-9\"}");
    let (status, body) = guest::json(scene.guest.send(request).await).await;
    assert_eq!(status, 403);
    assert!(
        body["error"]["message"].as_str().unwrap().contains("not for us"),
        "{body}"
    );
    // Policy for every model is for a request that names none, too.
    let request = scene.post("/shut/v1/chat/completions", "{}");
    assert_eq!(scene.guest.send(request).await.status(), 403);
    assert!(scene.upstream.is_untouched());
}

#[tokio::test]
async fn aliases_are_offered_and_what_policy_denies_is_not() {
    let scene = Scene::new().await;
    let models = &scene.session.lease.models;
    let offers = |provider: &str, id: &str| {
        models
            .iter()
            .any(|model| model.provider == provider && model.id == id)
    };
    assert!(offers("one", "best") && offers("gemini", "best") && offers("two", "large"));
    assert!(!offers("two", "secret-1") && !offers("two", "best"));
}

#[tokio::test]
async fn stored_objects_are_for_those_they_were_issued_to() {
    let mut scene = Scene::new().await;
    let path = "/openai/v1/responses";
    let next = "{\"model\":\"m\",\"previous_response_id\":\"resp_1\"}";
    let request = scene.post(path, next);
    let (status, body) = guest::json(scene.guest.send(request).await).await;
    assert_eq!(status, 404);
    assert!(
        body["error"]["message"]
            .as_str()
            .unwrap()
            .contains("not issued to you"),
        "{body}"
    );
    assert!(scene.upstream.is_untouched());

    let stream =
        "data: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\",\"object\":\"response\"}}\n\n";
    let sse = "content-type: text/event-stream\r\n";
    let (issued, _, text) = scene
        .ask(path, "{\"model\":\"m\"}", &[("200 OK", sse, stream)])
        .await;
    assert_eq!(text, stream);
    let account = key(&issued[0]).to_owned();
    for restart in [false, true] {
        if restart {
            scene.restart().await;
        }
        // Goes to the account that has it, and to no other even when that one fails.
        let (attempts, status, _) = scene.ask(path, next, &[("500 Oops", "", "x")]).await;
        assert_eq!((key(&attempts[0]), status), (account.as_str(), 500));
        let (attempts, status, _) = scene.ask(path, next, &[OK]).await;
        assert_eq!((key(&attempts[0]), status), (account.as_str(), 200));
    }
    let read = |id: &str, key: &str| {
        Request::get(format!("/openai/v1/responses/{id}"))
            .header("authorization", format!("Bearer {key}"))
            .body(http_body_util::Full::default())
            .unwrap()
    };
    let virtual_key = scene.session.lease.virtual_key.clone();
    let answer = scene.guest.send(read("resp_1", &virtual_key));
    let respond = async {
        let mut exchange = scene.upstream.next().await;
        exchange.answer("200 OK", "connection: close\r\n", "{}").await;
        exchange.request
    };
    let (response, request) = tokio::join!(answer, respond);
    assert_eq!(
        (response.status().as_u16(), key(&request)),
        (200, account.as_str())
    );
    drop(response);
    let mut guest = Guest::connect(&scene.session.socket).await;
    assert_eq!(guest.send(read("resp_2", &virtual_key)).await.status(), 404);
    // Another session under the same uid may be another person's.
    let stranger = Runner::connect(scene.data.path())
        .session(scene.data.path(), "s2", 0)
        .await;
    let mut guest = Guest::connect(&stranger.socket).await;
    let request = post(path, &stranger.lease.virtual_key, next.to_owned());
    assert_eq!(guest.send(request).await.status(), 404);
    let request = read("resp_1", &stranger.lease.virtual_key);
    assert_eq!(guest.send(request).await.status(), 404);
    // An answer that is not kept issues nothing.
    let unkept = stream.replace("resp_1", "resp_3");
    scene
        .ask(path, "{\"store\":false}", &[("200 OK", sse, &unkept)])
        .await;
    let request = scene.post(path, &next.replace("resp_1", "resp_3"));
    assert_eq!(scene.guest.send(request).await.status(), 404);
}

#[tokio::test]
async fn a_single_account_is_still_asked_where_nobody_told_it_to_rest() {
    let mut scene = Scene::new().await;
    for _ in 0..5 {
        let (_, status, _) = scene
            .ask("/two/v1/chat/completions", CHAT, &[("500 Oops", "", "x")])
            .await;
        assert_eq!(status, 500);
    }
    let (_, status, _) = scene.ask("/two/v1/chat/completions", CHAT, &[OK]).await;
    assert_eq!(status, 200);
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let options = lodge_gateway::Options::embedded(std::path::Path::new("/data"));
    let error = |text: &str| {
        Config::parse(&options, text, &std::collections::BTreeMap::new())
            .unwrap_err()
            .to_string()
    };
    let provider = "[[provider]]\nname = 'a'\nkind = 'openai'\n";
    for (text, words) in [
        (
            format!("{provider}provider_tools = {{ x = -1.0 }}"),
            "provider_tools: `x` needs a price",
        ),
        (
            format!("{provider}[[provider.account]]\nname = 'default'\nkey_env = 'X'"),
            "name of another account",
        ),
        (
            format!("{provider}[[provider.account]]\nname = 'b'"),
            "each account needs",
        ),
        (
            "[[alias]]\nprovider = 'a'\nname = 'x'\ntargets = ['y']".to_owned(),
            "`provider/model`",
        ),
        (
            "[[alias]]\nprovider = 'a'\nname = 'x'\ntargets = []".to_owned(),
            "1 to 8",
        ),
        ("[[model_policy]]\nmodel = 'x'".to_owned(), "does nothing"),
        (
            "[[model_policy]]\nmodel = 'x'\nset = { model = 'y' }".to_owned(),
            "use `rewrite`",
        ),
    ] {
        let found = error(&text);
        assert!(found.contains(words), "{text}: {found}");
    }
}
