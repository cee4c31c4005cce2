//! What each dialect's clients get, whole, as snapshots.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::*;
use crate::demo::ids::IdSeed;
use crate::demo::plan;
use crate::demo::playback::{Playback, Step};

/// JSON with its keys in order, whatever order the map type has in this build.
fn sorted(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let mut keys: Vec<_> = fields.keys().collect();
            keys.sort();
            let fields: Vec<String> = keys
                .into_iter()
                .map(|key| format!("{}:{}", json!(key), sorted(&fields[key])))
                .collect();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(sorted).collect::<Vec<_>>().join(",")),
        scalar => scalar.to_string(),
    }
}

fn generate(dialect: Dialect) -> Operation {
    match dialect {
        Dialect::Gemini => Operation::Generate {
            model: Some("demo".into()),
            sse: Some(true),
        },
        _ => Operation::Generate {
            model: None,
            sse: None,
        },
    }
}

/// A request with one message of the user and a shell tool.
fn request(dialect: Dialect, script: &str, stream: bool) -> Vec<u8> {
    let schema = json!({ "properties": { "command": { "type": "string" } } });
    let body = match dialect {
        Dialect::Chat => json!({
            "model": "demo", "stream": stream, "messages": [{ "role": "user", "content": script }],
            "tools": [{ "type": "function", "function": { "name": "bash", "parameters": schema } }],
        }),
        Dialect::Responses => json!({
            "model": "demo", "stream": stream, "input": script,
            "tools": [{ "type": "function", "name": "bash", "parameters": schema }],
        }),
        Dialect::Messages => json!({
            "model": "demo", "stream": stream, "messages": [{ "role": "user", "content": script }],
            "tools": [{ "name": "bash", "input_schema": schema }],
        }),
        Dialect::Gemini => json!({
            "contents": [{ "role": "user", "parts": [{ "text": script }] }],
            "tools": [{ "functionDeclarations": [{ "name": "bash", "parameters": schema }] }],
        }),
    };
    // The ids follow from the bytes, so these must not depend on the map type either.
    sorted(&body).into_bytes()
}

fn streamed(dialect: Dialect, script: &str) -> String {
    played(dialect, script, readable)
}

/// The stream of an answer, each piece as `show` has it.
fn played(dialect: Dialect, script: &str, show: impl Fn(&str) -> String) -> String {
    let body = request(dialect, script, true);
    let operation = generate(dialect);
    let request = neutral(dialect, &operation, &body).unwrap();
    assert!(request.stream);
    let seed = IdSeed::of(dialect, &body);
    let plan = plan::plan(dialect, &request, seed);
    let wire = wire(dialect, &request, seed, &plan, &operation);
    let mut playback = Playback::new(plan, wire);
    let mut out = String::new();
    loop {
        match playback.step() {
            Step::Send { bytes, .. } => out.push_str(&show(&bytes)),
            Step::Cut => return out + "<cut>\n",
            Step::End => return out,
        }
    }
}

fn readable(bytes: &str) -> String {
    let mut out = String::new();
    for line in bytes.lines().filter(|line| !line.is_empty()) {
        match line
            .strip_prefix("data: ")
            .map(|data| (data, serde_json::from_str::<Value>(data)))
        {
            Some((_, Ok(value))) => writeln!(out, "data: {}", sorted(&value)).unwrap(),
            _ => writeln!(out, "{line}").unwrap(),
        }
    }
    out
}

fn whole(dialect: Dialect, script: &str) -> String {
    let body = request(dialect, script, false);
    let operation = generate(dialect);
    let request = neutral(dialect, &operation, &body).unwrap();
    let seed = IdSeed::of(dialect, &body);
    sorted(&full(
        dialect,
        &request,
        seed,
        &plan::plan(dialect, &request, seed),
    ))
}

/// One line of script per feature a dialect writes in its own way.
const SCRIPTS: [&str; 8] = [
    "think+bash: ls",
    "par bash: a || b",
    "unicode",
    "miderr",
    "drop 2",
    "length",
    "refuse",
    "usage 100 20 40",
];

fn transcript(dialect: Dialect) -> String {
    let mut out = String::new();
    for script in SCRIPTS {
        writeln!(out, "=== {script}\n{}", streamed(dialect, script)).unwrap();
    }
    for script in ["think+bash: ls", "badargs bash", "empty"] {
        writeln!(out, "=== whole: {script}\n{}\n", whole(dialect, script)).unwrap();
    }
    out
}

#[test]
fn chat() {
    insta::assert_snapshot!(transcript(Dialect::Chat));
}

#[test]
fn responses() {
    insta::assert_snapshot!(transcript(Dialect::Responses));
}

#[test]
fn messages() {
    insta::assert_snapshot!(transcript(Dialect::Messages));
}

#[test]
fn gemini() {
    insta::assert_snapshot!(transcript(Dialect::Gemini));
}

#[test]
fn gemini_without_events_streams_a_json_array() {
    let body = request(Dialect::Gemini, "hang 1", true);
    let operation = Operation::Generate {
        model: Some("demo".into()),
        sse: Some(false),
    };
    let request = neutral(Dialect::Gemini, &operation, &body).unwrap();
    let seed = IdSeed::of(Dialect::Gemini, &body);
    let plan = plan::plan(Dialect::Gemini, &request, seed);
    let wire = wire(Dialect::Gemini, &request, seed, &plan, &operation);
    let mut playback = Playback::new(plan, wire);
    let mut out = String::new();
    while let Step::Send { bytes, .. } = playback.step() {
        out.push_str(&bytes);
    }
    assert_eq!(serde_json::from_str::<Vec<Value>>(&out).unwrap().len(), 2);
}

#[test]
fn each_dialect_tells_turns_apart() {
    use crate::demo::neutral::Role::{Assistant, Tool, User};
    let cases = [
        (
            Dialect::Chat,
            json!({ "messages": [
                { "role": "system", "content": "S" }, { "role": "user", "content": [{ "type": "text", "text": "u" }] },
                { "role": "assistant", "content": null }, { "role": "tool", "content": "out" },
            ] }),
        ),
        (
            Dialect::Responses,
            json!({ "instructions": "S", "input": [
                { "role": "user", "content": [{ "type": "input_text", "text": "u" }] },
                { "type": "function_call", "name": "x" }, { "type": "function_call_output", "output": "out" },
            ] }),
        ),
        (
            Dialect::Messages,
            json!({ "system": [{ "type": "text", "text": "S" }], "messages": [
                { "role": "user", "content": "u" }, { "role": "assistant", "content": [{ "type": "tool_use" }] },
                { "role": "user", "content": [{ "type": "tool_result", "content": [{ "type": "text", "text": "out" }] }] },
            ] }),
        ),
        (
            Dialect::Gemini,
            json!({ "systemInstruction": { "parts": [{ "text": "S" }] }, "contents": [
                { "role": "user", "parts": [{ "text": "u" }] },
                { "role": "model", "parts": [{ "functionCall": { "name": "x" } }] },
                { "role": "user", "parts": [{ "functionResponse": { "response": { "output": "out" } } }] },
            ] }),
        ),
    ];
    for (dialect, body) in cases {
        let request = neutral(dialect, &generate(dialect), body.to_string().as_bytes()).unwrap();
        let turns: Vec<_> = request
            .turns
            .iter()
            .map(|turn| (turn.role, turn.text.as_str()))
            .collect();
        assert_eq!(
            turns,
            [(User, "u"), (Assistant, ""), (Tool, "out")],
            "{dialect:?}"
        );
        assert_eq!(request.system.trim(), "S", "{dialect:?}");
    }
}

#[test]
fn bodies_that_are_no_requests_are_refused_and_odd_ones_do_not_panic() {
    for dialect in [
        Dialect::Chat,
        Dialect::Responses,
        Dialect::Messages,
        Dialect::Gemini,
    ] {
        for body in ["", "{", "[]", "\"x\"", "nul"] {
            assert_eq!(
                neutral(dialect, &generate(dialect), body.as_bytes())
                    .unwrap_err()
                    .status,
                400,
                "{body}"
            );
        }
        for body in [
            r#"{"messages":7,"input":{},"contents":"x","tools":{}}"#,
            r#"{"messages":[1,{"role":3,"content":[null,5]}],"input":[[],{"type":9}],"contents":[{"parts":{}}],"tools":[1]}"#,
        ] {
            neutral(dialect, &generate(dialect), body.as_bytes()).unwrap();
        }
    }
}

#[test]
fn gemini_gets_no_separator_that_its_client_takes_for_the_end_of_a_line() {
    let stream = played(Dialect::Gemini, "unicode", str::to_owned);
    assert!(!stream.contains(['\u{2028}', '\u{2029}']), "{stream}");
    assert!(
        stream.contains("\\u2028line") && stream.contains("\\u2029para"),
        "{stream}"
    );
}

#[test]
fn what_claude_passes_on_in_mid_turn_is_the_users() {
    let text = "The user sent a new message while you were working:\nsay two\n\nAddress it.";
    let body = json!({
        "model": "demo",
        "messages": [
            { "role": "user", "content": "use bash: a\nsay one" },
            { "role": "assistant", "content": [{ "type": "tool_use", "id": "t", "name": "bash", "input": {} }] },
            { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "t", "content": "" }] },
            { "role": "system", "content": [{ "type": "text", "text": text }] },
        ],
    });
    let body = body.to_string().into_bytes();
    let request = neutral(Dialect::Messages, &generate(Dialect::Messages), &body).unwrap();
    let plan = plan::plan(Dialect::Messages, &request, IdSeed::of(Dialect::Messages, &body));
    assert_eq!(plan.items[0].full(), "two");
}
