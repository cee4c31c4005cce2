//! Tools that only some dialects have.

use super::*;

/// How the second of two tools is known that would have the same name.
const MARKED: &str = "agents__read_all_e8166f2ff1fc";

/// Tools of codex: one that takes text, one of a group, two of names that others do not take, and the shell.
pub(super) fn odd_tools() -> Value {
    let function = |name: &str| json!({ "type": "function", "name": name, "parameters": { "type": "object", "properties": {} } });
    json!({
        "model": "m",
        "tools": [
            { "type": "custom", "name": "apply_patch", "description": "Edits files.", "format": { "type": "grammar", "syntax": "lark", "definition": "start: x" } },
            { "type": "namespace", "name": "mcp__files__", "tools": [function("read")] },
            { "type": "namespace", "name": "agents", "tools": [function("read.all")] },
            function("agents__read_all"),
            { "type": "local_shell" },
        ],
        "input": [
            { "role": "user", "content": "go" },
            { "type": "custom_tool_call", "call_id": "1", "name": "apply_patch", "input": "*** \"x\"\n" },
            { "type": "custom_tool_call_output", "call_id": "1", "output": "done" },
            { "type": "function_call", "call_id": "2", "namespace": "mcp__files__", "name": "read", "arguments": "{}" },
            { "type": "function_call_output", "call_id": "2", "output": [{ "type": "input_text", "text": "seen" }, { "type": "input_image", "image_url": "data:image/png;base64,AA" }] },
            { "type": "local_shell_call", "call_id": "3", "action": { "type": "exec", "command": ["ls"], "timeout_ms": null, "env": {} } },
            { "type": "local_shell_call_output", "call_id": "3", "output": "a" },
        ],
    })
}

#[test]
fn tools_that_only_responses_has_are_functions_elsewhere() {
    let (chat, lost, _) = asked(
        Dialect::Responses,
        (Dialect::Chat, &speaks(Dialect::Chat)),
        "n",
        &odd_tools(),
    );
    assert_eq!(lost, "");
    let names: Vec<&str> = model::list(&chat["tools"])
        .map(|tool| tool["function"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "apply_patch",
            "mcp__files__read",
            "agents__read_all",
            MARKED,
            "local_shell"
        ]
    );
    let patch = &chat["tools"][0]["function"];
    assert_eq!(patch["parameters"]["required"], json!(["input"]));
    assert!(
        patch["description"].as_str().unwrap().contains("start: x"),
        "{patch}"
    );
    let calls: Vec<(&str, &str)> = model::list(&chat["messages"])
        .flat_map(|message| model::list(&message["tool_calls"]))
        .map(|call| {
            let function = &call["function"];
            (
                function["name"].as_str().unwrap(),
                function["arguments"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        calls,
        [
            ("apply_patch", "{\"input\":\"*** \\\"x\\\"\\n\"}"),
            ("mcp__files__read", "{}"),
            ("local_shell", "{\"command\":[\"ls\"],\"env\":{}}"),
        ]
    );
    assert_eq!(
        chat["messages"][5],
        json!({ "role": "user", "content": [
            { "type": "text", "text": "Images that the tools returned:" },
            { "type": "image_url", "image_url": { "url": "data:image/png;base64,AA" } },
        ] })
    );
}

/// Kind, group, name, and what it was called with, in which field.
type Item = (&'static str, Value, Value, &'static str, Value);

fn odd_calls() -> [Item; 5] {
    [
        (
            "custom_tool_call",
            Value::Null,
            json!("apply_patch"),
            "input",
            json!("*** \"y\""),
        ),
        (
            "function_call",
            json!("mcp__files__"),
            json!("read"),
            "arguments",
            json!("{\"a\":1}"),
        ),
        (
            "function_call",
            Value::Null,
            json!("agents__read_all"),
            "arguments",
            json!("{}"),
        ),
        (
            "local_shell_call",
            Value::Null,
            Value::Null,
            "action",
            json!({ "type": "exec", "command": ["bash", "-lc", "ls -l"], "env": {} }),
        ),
        (
            "function_call",
            json!("agents"),
            json!("read.all"),
            "arguments",
            json!("{}"),
        ),
    ]
}

#[tokio::test]
async fn their_calls_come_back_as_the_caller_knows_them() {
    let (_, _, translation) = asked(
        Dialect::Responses,
        (Dialect::Chat, &speaks(Dialect::Chat)),
        "n",
        &odd_tools(),
    );
    let called = |name: &str, arguments: &str| json!({ "id": name, "function": { "name": name, "arguments": arguments } });
    let calls = json!([
        called("apply_patch", "{\"input\":\"*** \\\"y\\\"\"}"),
        called("mcp__files__read", "{\"a\":1}"),
        called(MARKED, "{}"),
        called("local_shell", "{\"command\":\"ls -l\"}"),
        called("agents__read_all", "{}"),
    ]);
    let expected = odd_calls();
    let whole = json!({ "id": "1", "choices": [{ "message": { "tool_calls": calls }, "finish_reason": "tool_calls" }] });
    let response = crate::translate::whole(&translation, &whole).unwrap();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let whole: Value = serde_json::from_slice(&bytes).unwrap();
    let chunk = json!({ "id": "1", "choices": [{ "delta": { "tool_calls": calls }, "finish_reason": "tool_calls" }] });
    let streaming = Translation {
        stream: true,
        ..translation
    };
    let (stream, _) = played(
        &streaming,
        vec![format!("data: {chunk}\n\ndata: [DONE]\n\n").into_bytes()],
    )
    .await;
    assert!(
        stream.contains("response.custom_tool_call_input.done"),
        "{stream}"
    );
    let last: Value = serde_json::from_str(
        stream
            .lines()
            .rfind(|line| line.starts_with("data: "))
            .unwrap()
            .trim_start_matches("data: "),
    )
    .unwrap();
    for output in [&whole["output"], &last["response"]["output"]] {
        let found: Vec<_> = model::list(output)
            .zip(&expected)
            .map(|(item, (.., field, _))| {
                (
                    item["type"].as_str().unwrap(),
                    item["namespace"].clone(),
                    item["name"].clone(),
                    *field,
                    item[*field].clone(),
                )
            })
            .collect();
        assert_eq!(found, expected);
    }
}
