//! Spans reach a collector, with what they should say and nothing else; one that is away disturbs nobody.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use crate::common::guest::{Guest, post, text};
use crate::common::runner::Runner;
use crate::common::upstream::{Exchange, Upstream};
use crate::common::{PROVIDER_KEY, Running, soon};

const ASKED: &str = "canary-of-the-prompt";
const ANSWERED: &str = "canary-of-the-answer";
const TOKEN: &str = "token-of-the-collector";

fn settings(port: u16, collector: &str) -> String {
    format!(
        "[telemetry]\notlp_endpoint = '{collector}'\notlp_headers = {{ x-token = '{TOKEN}' }}\n\
         [[provider]]\nname = 'mine'\nkind = 'anthropic'\nbase_url = 'http://127.0.0.1:{port}'\nkey_env = 'PROVIDER_KEY'\n\
         models = [{{ id = 'm', max_output = 1000, context_window = 5000, price = {{ input = 2, output = 10 }} }}]\n"
    )
}

fn body() -> String {
    format!(
        "{{\"model\":\"m\",\"max_tokens\":50,\"messages\":[{{\"role\":\"user\",\"content\":\"{ASKED}\"}}]}}"
    )
}

async fn answer(exchange: &mut Exchange) {
    let body = format!(
        "{{\"type\":\"message\",\"model\":\"m-2\",\"stop_reason\":\"end_turn\",\"content\":[{{\"type\":\"text\",\
         \"text\":\"{ANSWERED}\"}}],\"usage\":{{\"input_tokens\":10,\"output_tokens\":3}}}}"
    );
    let headers = "content-type: application/json\r\nconnection: close\r\n";
    exchange.answer("200 OK", headers, &body).await;
}

/// Texts and numbers alike, as texts.
fn attributes(span: &Span) -> BTreeMap<String, String> {
    let shown = |value: Value| match value {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    };
    let pairs = span.attributes.iter().cloned();
    pairs
        .map(|pair| (pair.key, shown(pair.value.unwrap().value.unwrap())))
        .collect()
}

/// Every span that reaches a collector until there are so many, with the messages' bytes.
async fn collected(collector: &mut Upstream, count: usize) -> (Vec<Span>, Vec<u8>) {
    let (mut spans, mut raw) = (Vec::new(), Vec::new());
    while spans.len() < count {
        let mut exchange = collector.next().await;
        assert_eq!(exchange.request.line, "POST /v1/traces HTTP/1.1");
        assert_eq!(
            exchange.request.header("content-type"),
            Some("application/x-protobuf")
        );
        assert_eq!(exchange.request.header("x-token"), Some(TOKEN));
        let export = ExportTraceServiceRequest::decode(&exchange.request.body[..]).unwrap();
        raw.extend_from_slice(&exchange.request.body);
        for of in export.resource_spans {
            let resource = of.resource.unwrap();
            assert!(resource.attributes.iter().any(|pair| pair.key == "service.name"));
            spans.extend(of.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
        exchange.answer("200 OK", "connection: close\r\n", "").await;
    }
    (spans, raw)
}

#[tokio::test]
async fn a_request_is_a_span_at_the_collector_without_a_word_of_it() {
    let data = tempfile::tempdir().unwrap();
    let (mut upstream, mut collector) = (Upstream::start().await, Upstream::start().await);
    let to = format!("http://127.0.0.1:{}", collector.port);
    let gateway = Running::start(data.path(), &settings(upstream.port, &to)).await;
    let session = Runner::connect(data.path()).session(data.path(), "s", 0).await;
    let key = session.lease.virtual_key.clone();
    for refused in [false, true] {
        let mut guest = Guest::connect(&session.socket).await;
        let sending = guest.send(post("/mine/v1/messages", &key, body()));
        let (response, ()) = tokio::join!(sending, async {
            let mut exchange = upstream.next().await;
            if refused {
                exchange
                    .answer("400 Bad Request", "connection: close\r\n", "{\"error\":{}}")
                    .await;
            } else {
                answer(&mut exchange).await;
            }
        });
        assert_eq!(text(response).await.contains(ANSWERED), !refused);
    }
    let (spans, raw) = collected(&mut collector, 2).await;
    gateway.stop().await;
    let (good, bad) = (attributes(&spans[0]), attributes(&spans[1]));
    let port = upstream.port.to_string();
    // 10 × 2 + 3 × 10 dollars a million.
    let expected = [
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "anthropic"),
        ("gen_ai.request.model", "m"),
        ("gen_ai.response.model", "m-2"),
        ("gen_ai.usage.input_tokens", "10"),
        ("gen_ai.usage.output_tokens", "3"),
        ("gen_ai.usage.cache_read.input_tokens", "0"),
        ("gen_ai.usage.cache_creation.input_tokens", "0"),
        ("server.address", "127.0.0.1"),
        ("server.port", port.as_str()),
        ("lodge.provider", "mine"),
        ("lodge.cost_nano_usd", "50000"),
        ("lodge.settled", "exact"),
    ];
    let expected: BTreeMap<_, _> = expected
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    assert_eq!(good, expected, "nothing less and nothing more");
    assert_eq!(bad.get("error.type").map(String::as_str), Some("400"));
    assert_eq!(spans[1].status.as_ref().unwrap().code, 2);
    for span in &spans {
        assert_eq!(
            (
                span.name.as_str(),
                span.kind,
                span.trace_id.len(),
                span.span_id.len()
            ),
            ("chat m", 3, 16, 8)
        );
        assert!(0 < span.start_time_unix_nano && span.start_time_unix_nano <= span.end_time_unix_nano);
    }
    assert_ne!(spans[0].trace_id, spans[1].trace_id);
    for secret in [ASKED, ANSWERED, PROVIDER_KEY, &key, "Bearer"] {
        let found = raw
            .windows(secret.len())
            .any(|window| window == secret.as_bytes());
        assert!(!found, "{secret} left the gateway");
    }
}

#[tokio::test]
async fn a_collector_that_is_away_or_silent_disturbs_nobody() {
    let silent = Upstream::start().await;
    // A port where nobody listens any more.
    let away = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    for port in [away, silent.port] {
        let data = tempfile::tempdir().unwrap();
        let mut upstream = Upstream::start().await;
        let to = format!("http://127.0.0.1:{port}");
        let gateway = Running::start(data.path(), &settings(upstream.port, &to)).await;
        let session = Runner::connect(data.path()).session(data.path(), "s", 0).await;
        let mut guest = Guest::connect(&session.socket).await;
        for _ in 0..20 {
            let sending = guest.send(post("/mine/v1/messages", &session.lease.virtual_key, body()));
            let (response, ()) = tokio::join!(sending, async { answer(&mut upstream.next().await).await });
            assert!(text(response).await.contains(ANSWERED));
        }
        soon("the gateway stops all the same", gateway.stop()).await;
    }
}
