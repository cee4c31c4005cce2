//! The real harnesses cannot tell the gateway from their vendor: what they send and get is, byte for byte, what the
//! provider gets and sends, but for the key and the headers that the gateway says it keeps.

#![allow(clippy::unwrap_used)]

mod common;

use common::http::{Exchange, Message};
use common::tap::Tap;
use common::vendor::Vendor;
use common::{Lodge, eventually, repository, signal, stderr, stdout};
use rustix::process::Signal;
use std::os::unix::fs::PermissionsExt;

const KEY: &str = "sk-provider-0123456789abcdef";
/// A tool call with an effect, then text that is cut inside its characters.
const PROMPT: &str = "use bash: echo 'größe ✓' > effect.txt; cat effect.txt\nunicode";
/// Between two hops, and what each hop sets for itself.
const HOP: [&str; 8] = [
    "host",
    "connection",
    "keep-alive",
    "te",
    "expect",
    "transfer-encoding",
    "content-length",
    "accept-encoding",
];
const KEYS: [&str; 3] = ["authorization", "x-api-key", "x-goog-api-key"];
/// Of answers: the provider's for the gateway, and nobody else's.
const PROVIDERS_OWN: [&str; 3] = ["set-cookie", "alt-svc", "strict-transport-security"];

/// What both sides must agree on.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    request: Message,
    response: Option<Message>,
}

impl Seen {
    fn new(exchange: &Exchange, prefix: &str) -> Self {
        let mut request = without(&exchange.request, &[&HOP[..], &KEYS[..]].concat());
        request.line = request.line.replacen(prefix, " /", 1);
        let dropped = [&HOP[..], &PROVIDERS_OWN[..]].concat();
        let response = exchange.response.as_ref();
        Self {
            request,
            response: response.map(|response| without(response, &dropped)),
        }
    }

    fn is_streamed(&self) -> bool {
        let kind = |response: &Message| response.header("content-type").map(str::to_owned);
        let kind = self.response.as_ref().and_then(kind);
        kind.is_some_and(|kind| kind.contains("event-stream"))
    }
}

fn without(message: &Message, names: &[&str]) -> Message {
    let mut left = message.clone();
    left.headers.retain(|(name, _)| !names.contains(&name.as_str()));
    // Lines of different names have no order; those of one name keep theirs.
    left.headers.sort_by(|one, other| one.0.cmp(&other.0));
    left
}

/// One turn with a tool call of the real harness, through a provider of the configuration.
fn turn(harness: &str, provider: &str) -> (Vec<Exchange>, Vec<Exchange>) {
    let lodge = Lodge::new();
    let cache = repository().join("target/test-data/harness-cache");
    let shared = lodge_runner::harness::install::testing::share(&cache, &lodge.data(), harness);
    shared.unwrap_or_else(|error| {
        panic!(
            "{harness} is not installed ({error}): lodge harness install {harness} --data {}",
            cache.display()
        )
    });
    let vendor = Vendor::start();
    let key = lodge.root().join("key");
    std::fs::write(&key, KEY).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::create_dir_all(lodge.data().join("config")).unwrap();
    let configuration = lodge.data().join("config/lodge.toml");
    std::fs::write(configuration, vendor.configuration(&key)).unwrap();

    let workspace = lodge.folder("work");
    let folder = workspace.to_str().unwrap();
    let mut up = lodge.up(&["--workspace", folder]);
    let tap = insert_tap(&lodge);
    let model = format!("{provider}/demo");
    let chat = lodge.run(&[
        "chat",
        "--harness",
        harness,
        "--model",
        &model,
        "--workspace",
        folder,
        PROMPT,
    ]);
    assert!(chat.status.success(), "{}\n{}", stdout(&chat), stderr(&chat));
    let effect = std::fs::read_to_string(workspace.join("effect.txt")).unwrap();
    assert_eq!(effect, "größe ✓\n");
    assert!(lodge.run(&["down"]).status.success());
    up.wait();
    eventually("the last bytes are recorded", || tap.is_still().then_some(()));
    assert!(tap.runners() > 0, "the session's lease went past the recorder");
    (tap.exchanges(), vendor.exchanges())
}

/// The runner connects to the gateway for as long as it lives: the next one finds the recorder in its place.
fn insert_tap(lodge: &Lodge) -> Tap {
    let runner = || lodge.status()["roles"]["runner"].clone();
    let before = runner();
    let tap = Tap::insert(&lodge.data(), lodge.folder("tap"));
    signal(before["pid"].as_u64().unwrap(), Signal::KILL);
    eventually("another runner serves", || {
        let now = runner();
        (now["health"] == "ready" && now["pid"].is_u64() && now["pid"] != before["pid"]).then_some(())
    });
    tap
}

fn assert_identical(harness: &str, provider: &str) {
    let (guest, vendor) = turn(harness, provider);
    let mut upstream: Vec<Seen> = vendor.iter().map(|exchange| Seen::new(exchange, " /")).collect();
    let prefix = format!(" /{provider}/");
    let mut streamed = 0;
    for exchange in &guest {
        let seen = Seen::new(exchange, &prefix);
        let found = match &seen.response {
            Some(_) => upstream.iter().position(|other| *other == seen),
            // It was cut with the session.
            None => upstream.iter().position(|other| other.request == seen.request),
        };
        match found {
            Some(index) => {
                streamed += usize::from(upstream.remove(index).is_streamed());
            }
            // The session ended before it went on.
            None if seen.response.is_none() => {}
            None => assert_is_the_gateways_own(&seen, &upstream),
        }
    }
    assert!(upstream.is_empty(), "nobody asked for {upstream:#?}");
    assert!(streamed >= 2, "{streamed} streams: the call and what follows it");
    assert_keys(&guest, &vendor);
    let cookies = guest.iter().filter_map(|exchange| exchange.response.as_ref());
    for response in cookies {
        for name in PROVIDERS_OWN {
            assert_eq!(response.header(name), None);
        }
    }
}

/// Two things never reach a provider: the question whether anybody is there, and what is on no list.
fn assert_is_the_gateways_own(seen: &Seen, upstream: &[Seen]) {
    let (method, target) = seen.request.request();
    let status = seen.response.as_ref().map_or("none", |response| &response.line);
    let is_own = method == "HEAD" && target == "/" || status.contains(" 404 ");
    let same = upstream
        .iter()
        .find(|other| other.request.line == seen.request.line);
    if let Some(other) = same.filter(|_| !is_own) {
        panic!("{}: {}", seen.request.line, difference(seen, other));
    }
    assert!(
        is_own,
        "{}: the provider never got it, and the guest got {status}",
        seen.request.line
    );
}

fn difference(guest: &Seen, vendor: &Seen) -> String {
    let body = |message: &Message| String::from_utf8_lossy(&message.body).into_owned();
    if guest.request.headers != vendor.request.headers {
        return format!(
            "sent\n{:#?}\narrived\n{:#?}",
            guest.request.headers, vendor.request.headers
        );
    }
    if guest.request.body != vendor.request.body {
        return format!(
            "sent\n{}\narrived\n{}",
            body(&guest.request),
            body(&vendor.request)
        );
    }
    let (Some(got), Some(sent)) = (&guest.response, &vendor.response) else {
        return "no answer".to_owned();
    };
    if (&got.line, &got.headers) != (&sent.line, &sent.headers) {
        return format!(
            "answered\n{} {:#?}\narrived\n{} {:#?}",
            sent.line, sent.headers, got.line, got.headers
        );
    }
    format!("answered\n{}\narrived\n{}", body(sent), body(got))
}

/// The provider gets its own key, once, and never the guest's; the guest never sees the provider's.
fn assert_keys(guest: &[Exchange], vendor: &[Exchange]) {
    let texts = |exchange: &Exchange| {
        let text = |message: &Message| {
            format!(
                "{:?} {}",
                (&message.line, &message.headers),
                String::from_utf8_lossy(&message.body)
            )
        };
        let response = exchange.response.as_ref().map(text).unwrap_or_default();
        text(&exchange.request) + &response
    };
    let keys = |exchange: &Exchange| -> Vec<String> {
        let headers = exchange.request.headers.iter();
        let keys = headers.filter(|(name, _)| KEYS.contains(&name.as_str()));
        keys.map(|(_, value)| value.trim_start_matches("Bearer ").to_owned())
            .collect()
    };
    let virtual_key = guest
        .iter()
        .flat_map(keys)
        .next()
        .expect("a guest that shows its key");
    assert_ne!(virtual_key, KEY);
    for exchange in vendor {
        assert_eq!(keys(exchange), [KEY]);
        assert_eq!(exchange.request.header("accept-encoding"), Some("identity"));
        assert!(
            !texts(exchange).contains(&virtual_key),
            "the guest's key went to the provider"
        );
    }
    for exchange in guest {
        assert!(
            !texts(exchange).contains(KEY),
            "the provider's key came to the guest"
        );
    }
}

#[test]
fn pi_and_chat_completions() {
    assert_identical("pi", "chat");
}

#[test]
fn codex_and_responses() {
    assert_identical("codex", "openai");
}

#[test]
fn claude_and_messages() {
    assert_identical("claude", "anthropic");
}

#[test]
fn opencode_and_messages() {
    assert_identical("opencode", "anthropic");
}

#[test]
fn gemini_and_generate_content() {
    assert_identical("gemini", "gemini");
}
