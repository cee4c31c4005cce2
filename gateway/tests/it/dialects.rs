//! Providers that are asked in their own dialect for callers of another: Gemini, and Responses.

use serde_json::{Value, json};

use crate::common::PROVIDER_KEY;
use crate::common::guest::{self, post};
use crate::translate::{CLOSE, Scene};

/// Sends a request, answers it, and returns what the provider got and the caller was told.
async fn ask(
    scene: &mut Scene,
    path: &str,
    body: Value,
    answer: (&str, &str, Value),
) -> (String, Value, u16, Value) {
    let request = post(path, scene.key(), body.to_string());
    let (status, headers, text) = answer;
    let respond = async {
        let mut exchange = scene.upstream.next().await;
        exchange
            .answer(status, &format!("{CLOSE}{headers}"), &text.to_string())
            .await;
        exchange.request
    };
    let (response, asked) = tokio::join!(scene.guest.send(request), respond);
    let sent = serde_json::from_slice(&asked.body).unwrap();
    let (status, told) = guest::json(response).await;
    (asked.line.clone(), sent, status, told)
}

#[tokio::test]
async fn what_gemini_signed_goes_back_to_it_with_the_next_request() {
    let mut scene = Scene::new().await;
    let path = "/google/v1/messages";
    let first = json!({ "model": "gemini-3.8-flash", "max_tokens": 50, "messages": [{ "role": "user", "content": "go" }] });
    let call = json!({ "responseId": "r", "candidates": [{ "finishReason": "STOP", "content": { "parts": [
        { "functionCall": { "name": "ls", "args": { "a": 1 } }, "thoughtSignature": "c2lnbmVk" },
    ] } }], "usageMetadata": { "promptTokenCount": 5, "candidatesTokenCount": 2, "thoughtsTokenCount": 3 } });
    let (line, sent, status, told) = ask(&mut scene, path, first, ("200 OK", "", call)).await;
    assert_eq!(
        line,
        "POST /v1beta/models/gemini-3.8-flash:generateContent HTTP/1.1"
    );
    assert_eq!(
        sent["contents"],
        json!([{ "role": "user", "parts": [{ "text": "go" }] }])
    );
    assert_eq!(
        (status, &told["stop_reason"], &told["usage"]["output_tokens"]),
        (200, &json!("tool_use"), &json!(5))
    );
    let call = &told["content"][0];
    let second = json!({ "model": "gemini-3.8-flash", "max_tokens": 50, "stream": true, "messages": [
        { "role": "user", "content": "go" },
        { "role": "assistant", "content": [call] },
        { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": call["id"], "content": "done" }] },
    ] });
    // As a limit of the provider, which says in its body how long.
    let limited = json!({ "error": { "code": 429, "message": "slow down", "status": "RESOURCE_EXHAUSTED",
        "details": [{ "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "2.5s" }] } });
    let request = post(path, scene.key(), second.to_string());
    let respond = async {
        let mut exchange = scene.upstream.next().await;
        exchange.answer("429 Slow", CLOSE, &limited.to_string()).await;
        exchange.request
    };
    let (response, asked) = tokio::join!(scene.guest.send(request), respond);
    assert_eq!(
        asked.line,
        "POST /v1beta/models/gemini-3.8-flash:streamGenerateContent?alt=sse HTTP/1.1"
    );
    assert_eq!(asked.header("x-goog-api-key"), Some(PROVIDER_KEY));
    let sent: Value = serde_json::from_slice(&asked.body).unwrap();
    let parts = [&sent["contents"][1]["parts"][0], &sent["contents"][2]["parts"][0]];
    assert_eq!(parts[0]["thoughtSignature"], "c2lnbmVk");
    assert_eq!(parts[1]["functionResponse"]["name"], "ls");
    assert_eq!(response.headers()["retry-after"], "3");
    let (status, told) = guest::json(response).await;
    assert_eq!(
        (status, &told["error"]["type"], &told["error"]["message"]),
        (429, &json!("rate_limit_error"), &json!("slow down"))
    );
}

#[tokio::test]
async fn a_provider_of_responses_serves_callers_of_messages_and_what_it_alone_could_do_is_refused() {
    let mut scene = Scene::new().await;
    let body = json!({ "model": "gpt-5.6-sol", "max_tokens": 50, "messages": [{ "role": "user", "content": "hi" }] });
    let whole = json!({ "id": "resp_1", "model": "gpt-5.6-sol", "status": "completed", "error": null,
        "output": [{ "type": "message", "content": [{ "type": "output_text", "text": "yes" }] }],
        "usage": { "input_tokens": 3, "output_tokens": 1 } });
    let (line, sent, status, told) =
        ask(&mut scene, "/openai/v1/messages", body, ("200 OK", "", whole)).await;
    assert_eq!(line, "POST /v1/responses HTTP/1.1");
    assert_eq!(
        (&sent["store"], &sent["input"][0]["content"][0]["text"]),
        (&json!(false), &json!("hi"))
    );
    assert_eq!((status, &told["content"][0]["text"]), (200, &json!("yes")));
    // A failure is told as one, with the provider's words.
    let body = json!({ "model": "gpt-5.6-sol", "max_tokens": 50, "messages": [{ "role": "user", "content": "hi" }] });
    let failed = json!({ "id": "resp_2", "status": "failed", "error": { "code": "server_error", "message": "broken" } });
    let (_, _, status, told) = ask(&mut scene, "/openai/v1/messages", body, ("200 OK", "", failed)).await;
    assert_eq!((status, &told["error"]["message"]), (502, &json!("broken")));
    // Nothing of this is sent on.
    for (path, body, status) in [
        (
            "/google/v1/messages",
            json!({ "model": "../files", "max_tokens": 5, "messages": [{ "role": "user", "content": "hi" }] }),
            404,
        ),
        (
            "/google/v1/responses",
            json!({ "model": "gemini-3.8-flash", "input": [{ "type": "item_reference", "id": "msg_1" }] }),
            404,
        ),
        (
            "/google/v1/messages/count_tokens",
            json!({ "model": "m", "messages": [] }),
            404,
        ),
        (
            "/google/v1/messages",
            json!({ "model": "gemini-3.8-flash", "max_tokens": 5, "messages": [] }),
            400,
        ),
    ] {
        let (found, told) =
            guest::json(scene.guest.send(post(path, scene.key(), body.to_string())).await).await;
        assert_eq!(found, status, "{path} {told}");
    }
}
