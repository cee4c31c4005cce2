use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::config::Limits;
use crate::provider::Kind;

type Form = BTreeMap<String, String>;

/// A login server of our own: one rule answers everything.
async fn server(rule: impl Fn(&str, &Form) -> (u16, String) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let rule = Arc::new(rule);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let rule = Arc::clone(&rule);
            tokio::spawn(async move {
                let mut bytes = Vec::new();
                loop {
                    if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                        return;
                    }
                    let text = String::from_utf8(bytes.clone()).unwrap();
                    let Some((head, body)) = text.split_once("\r\n\r\n") else {
                        continue;
                    };
                    let length = head
                        .lines()
                        .find_map(|line| line.strip_prefix("content-length: "));
                    if body.len() < length.map_or(0, |length| length.parse().unwrap()) {
                        continue;
                    }
                    let path = head.split(' ').nth(1).unwrap();
                    let (status, answer) = rule(path, &parsed(body));
                    let length = answer.len();
                    let answer = format!(
                        "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{answer}"
                    );
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    return;
                }
            });
        }
    });
    port
}

fn parsed(form: &str) -> Form {
    let decoded = |text: &str| {
        let mut bytes = Vec::new();
        let mut rest = text.as_bytes();
        while let Some((first, tail)) = rest.split_first() {
            rest = tail;
            if *first == b'%' {
                let hex = std::str::from_utf8(&tail[..2]).unwrap();
                bytes.push(u8::from_str_radix(hex, 16).unwrap());
                rest = &tail[2..];
            } else {
                bytes.push(*first);
            }
        }
        String::from_utf8(bytes).unwrap()
    };
    form.split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), decoded(value)))
        .collect()
}

fn spec(port: u16) -> Spec {
    Spec {
        client_id: "client/1".into(),
        authorize_url: Some("https://login.example/authorize?x=1".into()),
        redirect_uri: "http://localhost:1455/callback".into(),
        device_url: Some(format!("http://127.0.0.1:{port}/device")),
        token_url: format!("http://127.0.0.1:{port}/token"),
        scopes: vec!["a:b".into(), "c".into()],
        beta: None,
    }
}

struct Scene {
    directory: tempfile::TempDir,
    upstream: Upstream,
    base: BaseUrl,
    spec: Spec,
}

impl Scene {
    fn new(port: u16) -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            upstream: Upstream::new(Limits::default()).unwrap(),
            base: BaseUrl::parse(Kind::Anthropic, "https://api.example", false).unwrap(),
            spec: spec(port),
        }
    }

    fn open(&self) -> Oauth {
        let (state, loaded) = State::open(&self.directory.path().join("state.db")).unwrap();
        let seal = Seal::load(&self.directory.path().join("seal.key")).unwrap();
        Oauth::new(Arc::new(state), Arc::new(seal), loaded.tokens)
    }

    fn login(&self) -> Login<'_> {
        Login {
            provider: "p",
            account: "sub",
            base: &self.base,
            spec: &self.spec,
        }
    }

    async fn access(&self, oauth: &Oauth) -> Result<String, OauthError> {
        let secret = oauth.access(&self.upstream, self.login()).await?;
        Ok(secret.expose().to_owned())
    }
}

fn grant(access: &str, refresh: &str, seconds: u64) -> (u16, String) {
    let answer = serde_json::json!({"access_token": access, "refresh_token": refresh, "expires_in": seconds});
    (200, answer.to_string())
}

#[tokio::test]
async fn a_code_is_exchanged_with_the_verifier_of_its_challenge_and_only_once() {
    let port = server(|_, form| {
        if form["code"] != "good/code"
            || form["grant_type"] != "authorization_code"
            || form["client_id"] != "client/1"
        {
            return (400, "{\"error\":\"invalid_grant\"}".to_owned());
        }
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(form["code_verifier"].as_bytes()));
        grant(&format!("access-{challenge}"), "refresh-1", 3600)
    })
    .await;
    let scene = Scene::new(port);
    let oauth = scene.open();
    assert_eq!(scene.access(&oauth).await, Err(OauthError::LoggedOut));
    let url = oauth.begin_code(scene.login()).unwrap();
    let (address, query) = url.split_once("?x=1&").unwrap();
    let query = parsed(query);
    assert_eq!(address, "https://login.example/authorize");
    assert_eq!(
        (query["scope"].as_str(), query["code_challenge_method"].as_str()),
        ("a:b c", "S256")
    );
    let state = query["state"].clone();
    let finish = |state: String, code: &'static str| {
        let (oauth, scene) = (&oauth, &scene);
        async move {
            oauth
                .finish_code(&scene.upstream, scene.login(), &state, code)
                .await
        }
    };
    assert_eq!(
        finish("guessed".into(), "good/code").await,
        Err(OauthError::Unknown)
    );
    finish(state.clone(), "good/code").await.unwrap();
    assert_eq!(finish(state, "good/code").await, Err(OauthError::Unknown));
    let expected = format!("access-{}", query["code_challenge"]);
    assert_eq!(scene.access(&oauth).await.unwrap(), expected);
    drop(oauth);
    // Kept, and not to be read by anybody who has only the file.
    assert_eq!(scene.access(&scene.open()).await.unwrap(), expected);
    for entry in std::fs::read_dir(scene.directory.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(memchr::memmem::find(&bytes, b"refresh-1").is_none());
    }
    // Sealed for the address they are sent to: another one does not get them.
    let elsewhere = Scene {
        base: BaseUrl::parse(Kind::Anthropic, "https://evil.example", false).unwrap(),
        directory: scene.directory,
        ..Scene::new(port)
    };
    assert_eq!(
        elsewhere.access(&elsewhere.open()).await,
        Err(OauthError::LoggedOut)
    );
}

#[tokio::test]
async fn a_device_is_asked_for_until_the_person_has_answered() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let port = server(move |path, form| {
        if path == "/device" {
            return (200, "{\"device_code\":\"d\",\"user_code\":\"AB-CD\",\"verification_uri\":\"https://x\",\"interval\":1}".into());
        }
        assert_eq!(form["device_code"], "d");
        match count.fetch_add(1, Ordering::SeqCst) {
            0 => (400, "{\"error\":\"authorization_pending\"}".into()),
            1 => (400, "{\"error\":\"slow_down\"}".into()),
            2 => (502, "<html>".into()),
            _ => grant("device-access", "r", 3600),
        }
    })
    .await;
    let scene = Scene::new(port);
    let oauth = scene.open();
    let poll = || oauth.poll_device(&scene.upstream, scene.login());
    assert_eq!(poll().await, Err(OauthError::Unknown));
    let device = oauth.begin_device(&scene.upstream, scene.login()).await.unwrap();
    assert_eq!(
        (device.user_code.as_str(), device.verification_uri.as_str()),
        ("AB-CD", "https://x")
    );
    assert_eq!(poll().await, Ok(Polled::Pending { after: 1 }));
    assert_eq!(poll().await, Ok(Polled::Pending { after: 6 }));
    assert!(matches!(poll().await, Err(OauthError::Unreachable(_))));
    assert_eq!(poll().await, Ok(Polled::LoggedIn));
    assert_eq!(poll().await, Err(OauthError::Unknown));
    assert_eq!(scene.access(&oauth).await.unwrap(), "device-access");
}

#[tokio::test]
async fn many_who_come_at_once_share_one_refresh() {
    let refreshes = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&refreshes);
    let port = server(move |_, form| {
        if form["grant_type"] == "authorization_code" {
            return grant("old", "r1", 1);
        }
        assert_eq!(form["refresh_token"], "r1");
        count.fetch_add(1, Ordering::SeqCst);
        (200, "{\"access_token\":\"new\",\"expires_in\":3600}".into())
    })
    .await;
    let scene = Scene::new(port);
    let oauth = scene.open();
    let url = oauth.begin_code(scene.login()).unwrap();
    let state = parsed(&url)["state"].clone();
    oauth
        .finish_code(&scene.upstream, scene.login(), &state, "c")
        .await
        .unwrap();
    let all = futures_util::future::join_all((0..50).map(|_| scene.access(&oauth))).await;
    assert!(all.iter().all(|token| token.as_deref() == Ok("new")), "{all:?}");
    assert_eq!(refreshes.load(Ordering::SeqCst), 1);
    // Refused before its time: renewed once more, with the refresh token that is still the old one.
    let refused = oauth.access(&scene.upstream, scene.login()).await.unwrap();
    oauth.expire(scene.login(), &refused).await;
    assert_eq!(scene.access(&oauth).await.unwrap(), "new");
    assert_eq!(refreshes.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_refused_refresh_logs_out_and_a_server_that_is_down_does_not() {
    let port = server(|_, form| match form.get("refresh_token").map(String::as_str) {
        None => grant("old", &form["code"], 60),
        Some("down") => (503, String::new()),
        Some(_) => (400, "{\"error\":\"invalid_grant\"}".into()),
    })
    .await;
    for (refresh, expected) in [
        ("down", Ok("old".to_owned())),
        ("bad", Err(OauthError::Refused("invalid_grant".into()))),
    ] {
        let scene = Scene::new(port);
        let oauth = scene.open();
        let url = oauth.begin_code(scene.login()).unwrap();
        let state = parsed(&url)["state"].clone();
        oauth
            .finish_code(&scene.upstream, scene.login(), &state, refresh)
            .await
            .unwrap();
        assert_eq!(scene.access(&oauth).await, expected);
        if expected.is_err() {
            assert_eq!(scene.access(&oauth).await, Err(OauthError::LoggedOut));
        }
    }
}
