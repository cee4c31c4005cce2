//! Requests of the real harnesses as each provider gets them, and answers as each harness does. The requests were recorded
//! by `record` in `cli/tests/gateway_translate.rs`: each is the second of a turn, which says what a tool returned.

use super::streams::{CHAT, GEMINI, MESSAGES, RESPONSES};
use super::*;

const RECORDED: [(&str, Dialect, &str); 5] = [
    ("pi", Dialect::Chat, include_str!("fixtures/pi.json")),
    ("codex", Dialect::Responses, include_str!("fixtures/codex.json")),
    ("claude", Dialect::Messages, include_str!("fixtures/claude.json")),
    (
        "opencode",
        Dialect::Messages,
        include_str!("fixtures/opencode.json"),
    ),
    ("gemini", Dialect::Gemini, include_str!("fixtures/gemini.json")),
];

fn model_of(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Chat => "qwen3",
        Dialect::Responses => "gpt-5.6-sol",
        Dialect::Messages => "claude-opus-5-5",
        Dialect::Gemini => "gemini-3.8-flash",
    }
}

fn others(than: Dialect) -> impl Iterator<Item = Dialect> {
    ALL.into_iter().filter(move |dialect| *dialect != than)
}

#[test]
fn requests_of_the_harnesses() {
    for (harness, caller, recorded) in RECORDED {
        let body: Value = serde_json::from_str(recorded).unwrap();
        for to in others(caller) {
            let mut spec = speaks(to);
            let known = Model {
                reasoning: true,
                ..Model::named(model_of(to))
            };
            spec.models.push(known);
            let (written, lost, _) = asked(caller, (to, &spec), model_of(to), &body);
            let both = json!({ "lost": lost, "request": written });
            insta::assert_json_snapshot!(format!("{harness}-to-{}", name(to)), both);
        }
    }
}

/// What differs from one time to the next.
fn stable(stream: &str) -> String {
    let line = |line: &str| {
        for mark in ["\"created\":", "\"created_at\":"] {
            if let Some((before, after)) = line.split_once(mark) {
                let rest = after.trim_start_matches(|char: char| char.is_ascii_digit());
                return format!("{before}{mark}0{rest}\n");
            }
        }
        format!("{line}\n")
    };
    stream.lines().map(line).collect()
}

#[tokio::test]
async fn answers_for_the_harnesses() {
    for (provider, script) in [
        (Dialect::Chat, CHAT),
        (Dialect::Responses, RESPONSES),
        (Dialect::Messages, MESSAGES),
        (Dialect::Gemini, GEMINI),
    ] {
        for caller in others(provider) {
            let (stream, complete) = translated(provider, caller, script, 10_000).await;
            assert!(complete);
            insta::assert_snapshot!(
                format!("stream-{}-to-{}", name(provider), name(caller)),
                stable(&stream)
            );
        }
    }
}
