//! What a provider signed goes back to it with the next request, though its caller's dialect has no place for it.

use super::*;

/// An answer with a call, as the provider streams it: with something that it wants back.
fn call(provider: Dialect) -> (String, Value) {
    let events: Vec<Value> = match provider {
        Dialect::Gemini => vec![
            json!({ "candidates": [{ "finishReason": "STOP", "content": { "parts": [
            { "functionCall": { "name": "ls", "args": {} }, "thoughtSignature": "signed" },
        ] } }] }),
        ],
        Dialect::Messages => vec![
            json!({ "type": "message_start", "message": { "id": "msg_1", "model": "n" } }),
            json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "thinking", "thinking": "" } }),
            json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "thinking_delta", "thinking": "hm" } }),
            json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "signature_delta", "signature": "signed" } }),
            json!({ "type": "content_block_stop", "index": 0 }),
            json!({ "type": "content_block_start", "index": 1, "content_block": { "type": "tool_use", "id": "toolu_1", "name": "ls", "input": {} } }),
            json!({ "type": "message_delta", "delta": { "stop_reason": "tool_use" } }),
            json!({ "type": "message_stop" }),
        ],
        Dialect::Responses => vec![
            json!({ "type": "response.created", "response": { "id": "resp_1", "model": "n" } }),
            json!({ "type": "response.output_item.done", "output_index": 0, "item": { "type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "signed", "status": "completed" } }),
            json!({ "type": "response.output_item.added", "output_index": 1, "item": { "type": "function_call", "call_id": "call_1", "name": "ls" } }),
            json!({ "type": "response.output_item.done", "output_index": 1, "item": { "type": "function_call", "call_id": "call_1", "name": "ls", "arguments": "{}" } }),
            json!({ "type": "response.completed", "response": { "status": "completed", "usage": null } }),
        ],
        Dialect::Chat => vec![
            json!({ "choices": [{ "delta": { "reasoning_content": "h" } }] }),
            json!({ "choices": [{ "delta": { "reasoning_content": "m" } }] }),
            json!({ "choices": [{ "delta": { "tool_calls": [{ "index": 0, "id": "call_1", "function": { "name": "ls", "arguments": "{}" } }] }, "finish_reason": "tool_calls" }] }),
        ],
    };
    let expected = match provider {
        Dialect::Gemini => json!("signed"),
        Dialect::Messages => json!({ "type": "thinking", "thinking": "hm", "signature": "signed" }),
        Dialect::Responses => {
            json!({ "type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "signed" })
        }
        Dialect::Chat => json!("hm"),
    };
    let stream: Vec<String> = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    (stream.concat(), expected)
}

/// The next request of a caller that was given that call.
fn next(caller: Dialect, id: &str) -> Value {
    match caller {
        Dialect::Chat => json!({ "model": "m", "reasoning_effort": "low", "messages": [
            { "role": "user", "content": "go" },
            { "role": "assistant", "content": null, "tool_calls": [{ "id": id, "type": "function", "function": { "name": "ls", "arguments": "{}" } }] },
            { "role": "tool", "tool_call_id": id, "content": "a" },
        ] }),
        Dialect::Responses => json!({ "model": "m", "reasoning": { "effort": "low" }, "input": [
            { "role": "user", "content": "go" },
            { "type": "function_call", "call_id": id, "name": "ls", "arguments": "{}" },
            { "type": "function_call_output", "call_id": id, "output": "a" },
        ] }),
        Dialect::Messages => {
            json!({ "model": "m", "max_tokens": 9000, "thinking": { "type": "adaptive" }, "messages": [
            { "role": "user", "content": "go" },
            { "role": "assistant", "content": [{ "type": "tool_use", "id": id, "name": "ls", "input": {} }] },
            { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": id, "content": "a" }] },
        ] })
        }
        Dialect::Gemini => {
            json!({ "generationConfig": { "thinkingConfig": { "thinkingLevel": "low" } }, "contents": [
            { "role": "user", "parts": [{ "text": "go" }] },
            { "role": "model", "parts": [{ "functionCall": { "id": id, "name": "ls", "args": {} } }] },
            { "role": "user", "parts": [{ "functionResponse": { "id": id, "name": "ls", "response": { "output": "a" } } }] },
        ] })
        }
    }
}

/// Where it is in the request to the provider.
fn place(provider: Dialect) -> &'static str {
    match provider {
        Dialect::Gemini => "/contents/1/parts/0/thoughtSignature",
        Dialect::Messages => "/messages/1/content/0",
        Dialect::Responses => "/input/1",
        Dialect::Chat => "/messages/1/reasoning_content",
    }
}

fn model_of(provider: Dialect) -> &'static str {
    match provider {
        Dialect::Gemini => "gemini-3.8-flash",
        Dialect::Messages => "claude-sonnet-4-5",
        Dialect::Responses => "gpt-5.6-sol",
        Dialect::Chat => "deep",
    }
}

fn written(keeper: &Keeper, caller: Dialect, provider: Dialect, id: &str) -> Value {
    let (spec, body) = (speaks(provider), next(caller, id).to_string());
    let operation = generate(caller, false);
    let (written, _) = request(
        (caller, &operation),
        (provider, &spec),
        body.as_bytes(),
        model_of(provider),
        keeper.clone(),
    )
    .unwrap();
    serde_json::from_slice(&written).unwrap()
}

#[tokio::test]
async fn what_was_signed_comes_back_through_every_dialect() {
    for provider in ALL {
        for caller in ALL.into_iter().filter(|caller| *caller != provider) {
            let kept = Arc::default();
            let keeper = Keeper::new(&kept, "s", "p", model_of(provider));
            let mut translation = translation(provider, caller);
            translation.back.keeper = keeper.clone();
            let (stream, expected) = call(provider);
            let (answer, complete) = played(&translation, vec![stream.into_bytes()]).await;
            assert!(complete, "{provider:?} {caller:?}");
            let id = ["\"call_id\":\"", "\"id\":\""]
                .into_iter()
                .flat_map(|mark| answer.split(mark).skip(1))
                .filter_map(|rest| rest.split('"').next())
                .find(|id| id.starts_with("call_") || id.starts_with("toolu_"))
                .unwrap_or_else(|| panic!("{provider:?} {caller:?}: {answer}"))
                .to_owned();
            let sent = written(&keeper, caller, provider, &id);
            assert_eq!(
                sent.pointer(place(provider)),
                Some(&expected),
                "{provider:?} {caller:?}: {sent}"
            );
            // Not in another session, and never shown to the caller.
            let other = Keeper::new(&kept, "t", "p", model_of(provider));
            let sent = written(&other, caller, provider, &id);
            assert_ne!(sent.pointer(place(provider)), Some(&expected));
            assert!(!answer.contains("signed"), "{provider:?} {caller:?}: {answer}");
        }
    }
}

#[test]
fn without_what_was_signed_the_conversation_goes_on() {
    let keeper = keeper();
    let gemini = written(&keeper, Dialect::Chat, Dialect::Gemini, "call_x");
    assert_eq!(
        gemini.pointer(place(Dialect::Gemini)),
        Some(&json!("skip_thought_signature_validator"))
    );
    // A budget for thinking is refused where the turn did not begin with it.
    let messages = written(&keeper, Dialect::Chat, Dialect::Messages, "call_x");
    assert_eq!(messages.get("thinking"), None);
    assert_eq!(messages["messages"][1]["content"][0]["type"], "tool_use");
}
