use proptest::prelude::*;
use serde_json::json;

use super::stream::Events;
use super::*;

const ALL: [Dialect; 4] = [
    Dialect::Chat,
    Dialect::Responses,
    Dialect::Messages,
    Dialect::Gemini,
];

fn generate(dialect: Dialect, stream: bool) -> Operation {
    let is_gemini = dialect == Dialect::Gemini;
    Operation::Generate {
        model: is_gemini.then(|| "m".to_owned()),
        sse: (is_gemini && stream).then_some(true),
    }
}

/// One conversation in each dialect: a system prompt, an image, a call with its result, a tool.
fn conversation(dialect: Dialect) -> Value {
    match dialect {
        Dialect::Chat => json!({
            "model": "m", "max_tokens": 9, "temperature": 0.5, "stop": "x", "seed": 1,
            "tools": [{ "type": "function", "function": { "name": "ls", "description": "d", "parameters": { "type": "object" } } }],
            "tool_choice": "required",
            "messages": [
                { "role": "system", "content": "be brief" },
                { "role": "user", "content": [{ "type": "text", "text": "hi" }, { "type": "image_url", "image_url": { "url": "data:image/png;base64,AA" } }] },
                { "role": "assistant", "content": null, "tool_calls": [{ "id": "c1", "type": "function", "function": { "name": "ls", "arguments": "{\"a\":1}" } }] },
                { "role": "tool", "tool_call_id": "c1", "content": "file" },
            ],
        }),
        Dialect::Responses => json!({
            "model": "m", "max_output_tokens": 9, "temperature": 0.5, "instructions": "be brief", "truncation": "auto",
            "tools": [{ "type": "function", "name": "ls", "description": "d", "parameters": { "type": "object" } }, { "type": "local_shell" }],
            "tool_choice": "required",
            "input": [
                { "role": "user", "content": [{ "type": "input_text", "text": "hi" }, { "type": "input_image", "image_url": "data:image/png;base64,AA" }] },
                { "type": "reasoning", "encrypted_content": "x" },
                { "type": "function_call", "call_id": "c1", "name": "ls", "arguments": "{\"a\":1}" },
                { "type": "function_call_output", "call_id": "c1", "output": "file" },
            ],
        }),
        Dialect::Messages => json!({
            "model": "m", "max_tokens": 9, "temperature": 0.5, "stop_sequences": ["x"], "metadata": {},
            "system": [{ "type": "text", "text": "be brief", "cache_control": { "type": "ephemeral" } }],
            "tools": [{ "name": "ls", "description": "d", "input_schema": { "type": "object" } }], "tool_choice": { "type": "any" },
            "messages": [
                { "role": "user", "content": [{ "type": "text", "text": "hi" }, { "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": "AA" } }] },
                { "role": "assistant", "content": [{ "type": "tool_use", "id": "c1", "name": "ls", "input": { "a": 1 } }] },
                { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "c1", "content": [{ "type": "text", "text": "file" }] }] },
            ],
        }),
        Dialect::Gemini => json!({
            "systemInstruction": { "parts": [{ "text": "be brief" }] }, "cachedContent": null,
            "generationConfig": { "maxOutputTokens": 9, "temperature": 0.5, "stopSequences": ["x"], "thinkingConfig": {} },
            "tools": [{ "functionDeclarations": [{ "name": "ls", "description": "d", "parameters": { "type": "OBJECT" } }] }],
            "toolConfig": { "functionCallingConfig": { "mode": "ANY" } },
            "contents": [
                { "role": "user", "parts": [{ "text": "hi" }, { "inlineData": { "mimeType": "image/png", "data": "AA" } }] },
                { "role": "model", "parts": [{ "functionCall": { "name": "ls", "args": { "a": 1 } } }] },
                { "role": "user", "parts": [{ "functionResponse": { "name": "ls", "response": { "output": "file" } } }] },
            ],
        }),
    }
}

fn written(caller: Dialect, to: (Dialect, Kind)) -> (Value, String) {
    let body = conversation(caller).to_string();
    let (written, translation) =
        request((caller, &generate(caller, false)), to, body.as_bytes(), "n").unwrap();
    let lost: Vec<String> = translation.lost.0.into_iter().collect();
    (serde_json::from_slice(&written).unwrap(), lost.join(" "))
}

#[test]
fn every_dialect_says_the_same_to_each_provider() {
    for (caller, lost) in [
        (Dialect::Chat, "seed"),
        (Dialect::Responses, "reasoning tools.local_shell truncation"),
        (Dialect::Messages, "cache_control metadata"),
        (Dialect::Gemini, "thinkingConfig"),
    ] {
        let id = if caller == Dialect::Gemini { "call_1" } else { "c1" };
        let (mut chat, found) = written(caller, (Dialect::Chat, Kind::OpenaiCompatible));
        assert_eq!(found, lost, "{caller:?}");
        let stop = chat.as_object_mut().unwrap().remove("stop");
        assert_eq!(stop.is_none(), caller == Dialect::Responses);
        assert_eq!(
            chat,
            json!({
                "model": "n", "stream": false, "max_tokens": 9, "temperature": 0.5, "tool_choice": "required",
                "tools": [{ "type": "function", "function": { "name": "ls", "description": "d", "parameters": { "type": "object" } } }],
                "messages": [
                    { "role": "system", "content": "be brief" },
                    { "role": "user", "content": [{ "type": "text", "text": "hi" }, { "type": "image_url", "image_url": { "url": "data:image/png;base64,AA" } }] },
                    { "role": "assistant", "content": null, "tool_calls": [{ "id": id, "type": "function", "function": { "name": "ls", "arguments": "{\"a\":1}" } }] },
                    { "role": "tool", "tool_call_id": id, "content": "file" },
                ],
            }),
            "{caller:?}"
        );
        let (mut messages, _) = written(caller, (Dialect::Messages, Kind::Anthropic));
        messages.as_object_mut().unwrap().remove("stop_sequences");
        assert_eq!(
            messages,
            json!({
                "model": "n", "stream": false, "max_tokens": 9, "temperature": 0.5, "system": "be brief",
                "tools": [{ "name": "ls", "description": "d", "input_schema": { "type": "object" } }], "tool_choice": { "type": "any" },
                "messages": [
                    { "role": "user", "content": [{ "type": "text", "text": "hi" }, { "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": "AA" } }] },
                    { "role": "assistant", "content": [{ "type": "tool_use", "id": id, "name": "ls", "input": { "a": 1 } }] },
                    { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": id, "content": "file", "is_error": false }] },
                ],
            }),
            "{caller:?}"
        );
    }
}

/// Thinking, text, two calls whose arguments are interleaved, usage after the end of the choice.
const CHAT: &str = "data: {\"id\":\"chatcmpl-7\",\"model\":\"big\",\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n\
    data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"hm\"}}]}\r\n\r\n: keep-alive\n\n\
    data: {\"choices\":[{\"delta\":{\"content\":\"h\u{e9}\"}}]}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\" 😀\"}}]}\n\n\
    data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"ls\",\"arguments\":\"{\\\"x\\\"\"}}]}}]}\n\n\
    data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":1,\"id\":\"b\",\"function\":{\"name\":\"cat\",\"arguments\":\"{}\"}}]}}]}\n\n\
    data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\":1}\"}}]}}]}\n\n\
    data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\n\
    data: {\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":4,\"prompt_tokens_details\":{\"cached_tokens\":6}}}\n\ndata: [DONE]\n\n";

const MESSAGES: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_7\",\"model\":\"big\",\"usage\":{\"input_tokens\":4,\"cache_read_input_tokens\":6,\"output_tokens\":1}}}\n\n\
    data: {\"type\":\"ping\"}\n\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"thinking\",\"thinking\":\"\"}}\n\n\
    data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"hm\"}}\n\n\
    data: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n\
    data: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"text_delta\",\"text\":\"h\u{e9}\"}}\n\n\
    data: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"text_delta\",\"text\":\" 😀\"}}\n\n\
    data: {\"type\":\"content_block_start\",\"index\":2,\"content_block\":{\"type\":\"tool_use\",\"id\":\"a\",\"name\":\"ls\",\"input\":{}}}\n\n\
    data: {\"type\":\"content_block_delta\",\"index\":2,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"x\\\":1}\"}}\n\n\
    data: {\"type\":\"content_block_start\",\"index\":3,\"content_block\":{\"type\":\"tool_use\",\"id\":\"b\",\"name\":\"cat\",\"input\":{}}}\n\n\
    data: {\"type\":\"content_block_delta\",\"index\":3,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{}\"}}\n\n\
    data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\"},\"usage\":{\"output_tokens\":4}}\n\ndata: {\"type\":\"message_stop\"}\n\n";

fn translation(provider: Dialect, caller: Dialect) -> Translation {
    Translation {
        caller,
        provider,
        stream: true,
        wanted: Wanted {
            usage: true,
            array: false,
        },
        lost: Lost::default(),
    }
}

/// Everything a body says, and whether it ended as if complete.
async fn played(translation: &Translation, pieces: Vec<Vec<u8>>) -> (String, bool) {
    let frames = pieces.into_iter().map(|piece| {
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(hyper::body::Frame::data(piece.into()))
    });
    let incoming = http_body_util::StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
    let mut body = stream::body(translation, incoming);
    let mut text = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => text.extend_from_slice(&frame.into_data().unwrap()),
            Err(_) => return (String::from_utf8(text).unwrap(), false),
        }
    }
    (String::from_utf8(text).unwrap(), true)
}

async fn translated(provider: Dialect, caller: Dialect, script: &str, cut: usize) -> (String, bool) {
    let pieces = script.as_bytes().chunks(cut).map(<[u8]>::to_vec).collect();
    played(&translation(provider, caller), pieces).await
}

/// What a client of the dialect makes of a stream.
#[derive(Debug, PartialEq)]
struct Understood {
    thinking: String,
    text: String,
    /// Id, name, arguments.
    calls: Vec<(String, String, Value)>,
    /// In, of them cached, out.
    tokens: [u64; 3],
}

fn understood(dialect: Dialect, stream: &str) -> Understood {
    let mut data = Vec::new();
    let mut events = Events::default();
    events
        .feed(stream.as_bytes(), |event| {
            data.extend(serde_json::from_slice::<Value>(event).ok());
        })
        .unwrap();
    match dialect {
        Dialect::Chat | Dialect::Messages => understood_by_reader(dialect, &data),
        Dialect::Responses => understood_responses(&data),
        Dialect::Gemini => understood_gemini(&data),
    }
}

/// The last number at this place.
fn last_number(data: &[Value], path: &str) -> u64 {
    let mut numbers = data.iter().filter_map(|event| event.pointer(path)?.as_u64());
    numbers.next_back().unwrap_or(0)
}

fn understood_by_reader(dialect: Dialect, data: &[Value]) -> Understood {
    let mut answer = Answer::default();
    let mut reader = Reader::new(dialect);
    for event in data {
        for event in reader.data(event.to_string().as_bytes()) {
            answer.take(event);
        }
    }
    assert_eq!(answer.reason, Some(model::Reason::Tools));
    let usage = answer.usage;
    let call = |(_, call): (u64, model::Call)| (call.id, call.name, model::object(&call.arguments));
    Understood {
        thinking: answer.thinking,
        text: answer.text,
        calls: answer.calls.into_iter().map(call).collect(),
        tokens: [usage.input, usage.cache_read, usage.output],
    }
}

fn understood_responses(data: &[Value]) -> Understood {
    let last = data.last().unwrap();
    assert_eq!(last["type"], "response.completed");
    let deltas = |kind: &str| -> String {
        let fits = data.iter().filter(|event| event["type"] == kind);
        fits.filter_map(|event| event["delta"].as_str()).collect()
    };
    let call = |item: &Value| {
        let arguments = model::object(&model::text(&item["arguments"]));
        (
            model::text(&item["call_id"]),
            model::text(&item["name"]),
            arguments,
        )
    };
    let items = model::list(&last["response"]["output"]);
    Understood {
        thinking: deltas("response.reasoning_summary_text.delta"),
        text: deltas("response.output_text.delta"),
        calls: items
            .filter(|item| item["type"] == "function_call")
            .map(call)
            .collect(),
        tokens: [
            last_number(data, "/response/usage/input_tokens"),
            last_number(data, "/response/usage/input_tokens_details/cached_tokens"),
            last_number(data, "/response/usage/output_tokens"),
        ],
    }
}

fn understood_gemini(data: &[Value]) -> Understood {
    let parts: Vec<&Value> = data
        .iter()
        .flat_map(|event| model::list(&event["candidates"][0]["content"]["parts"]))
        .collect();
    let said = |thought: bool| -> String {
        let fits = parts.iter().filter(|part| (part["thought"] == true) == thought);
        fits.filter_map(|part| part["text"].as_str()).collect()
    };
    let call = |call: &Value| {
        (
            model::text(&call["id"]),
            model::text(&call["name"]),
            call["args"].clone(),
        )
    };
    assert_eq!(data.last().unwrap()["candidates"][0]["finishReason"], "STOP");
    Understood {
        thinking: said(true),
        text: said(false),
        calls: parts
            .iter()
            .filter_map(|part| part.get("functionCall"))
            .map(call)
            .collect(),
        tokens: [
            last_number(data, "/usageMetadata/promptTokenCount"),
            last_number(data, "/usageMetadata/cachedContentTokenCount"),
            last_number(data, "/usageMetadata/candidatesTokenCount"),
        ],
    }
}

#[tokio::test]
async fn a_stream_says_the_same_in_every_dialect_wherever_it_is_cut() {
    let expected = Understood {
        thinking: "hm".to_owned(),
        text: "h\u{e9} 😀".to_owned(),
        calls: vec![
            ("a".to_owned(), "ls".to_owned(), json!({ "x": 1 })),
            ("b".to_owned(), "cat".to_owned(), json!({})),
        ],
        tokens: [10, 6, 4],
    };
    for (provider, script) in [(Dialect::Chat, CHAT), (Dialect::Messages, MESSAGES)] {
        for caller in ALL.into_iter().filter(|caller| *caller != provider) {
            for cut in [1, 2, 3, 7, 50, 10_000] {
                let (stream, complete) = translated(provider, caller, script, cut).await;
                assert!(complete, "{provider:?} {caller:?} {cut}");
                assert_eq!(
                    understood(caller, &stream),
                    expected,
                    "{provider:?} {caller:?} {cut}\n{stream}"
                );
            }
        }
    }
}

#[tokio::test]
async fn blocks_of_messages_are_well_formed() {
    let (stream, _) = translated(Dialect::Chat, Dialect::Messages, CHAT, 10_000).await;
    let kinds: Vec<String> = stream
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok())
        .map(|event| {
            format!(
                "{}{}",
                model::text(&event["type"]),
                event["index"]
                    .as_u64()
                    .map_or(String::new(), |index| index.to_string())
            )
        })
        .collect();
    let block = |index: usize, deltas: usize| {
        let mut kinds = vec![format!("content_block_start{index}")];
        kinds.extend((0..deltas).map(|_| format!("content_block_delta{index}")));
        kinds.push(format!("content_block_stop{index}"));
        kinds
    };
    let expected = [
        vec!["message_start".to_owned()],
        block(0, 1),
        block(1, 2),
        block(2, 2),
        block(3, 1),
        vec!["message_delta".to_owned(), "message_stop".to_owned()],
    ];
    assert_eq!(kinds, expected.concat());
}

#[tokio::test]
async fn a_cut_stream_an_error_in_it_and_what_comes_after_the_end() {
    for caller in [Dialect::Responses, Dialect::Messages, Dialect::Gemini] {
        let cut = CHAT.find("data: {\"choices\":[{\"delta\":{},").unwrap();
        let (_, complete) = translated(Dialect::Chat, caller, &CHAT[..cut], 50).await;
        assert!(!complete, "{caller:?}: a cut stream must not look complete");
        let failing = format!(
            "{}data: {{\"error\":{{\"message\":\"too busy\"}}}}\n\ndata: {{\"choices\":[]}}\n\n",
            &CHAT[..cut]
        );
        let (stream, complete) = translated(Dialect::Chat, caller, &failing, 50).await;
        assert!(complete && stream.contains("too busy"), "{caller:?}: {stream}");
        let (whole, _) = translated(Dialect::Chat, caller, CHAT, 50).await;
        let (longer, _) = translated(
            Dialect::Chat,
            caller,
            &format!("{CHAT}data: {{\"choices\":[{{\"delta\":{{\"content\":\"more\"}}}}]}}\n\n"),
            50,
        )
        .await;
        let stable = |text: &str| text.replace(char::is_numeric, "");
        assert_eq!(stable(&whole), stable(&longer));
        let (stream, _) = translated(Dialect::Chat, caller, "data: <html>\n\n", 50).await;
        assert!(stream.contains("not JSON"), "{stream}");
    }
}

#[test]
fn whole_answers() {
    let chat = json!({ "id": "x", "model": "big", "choices": [{ "finish_reason": "stop", "message": { "content": "hi",
        "tool_calls": [{ "id": "a", "function": { "name": "ls", "arguments": "{\"x\":1}" } }] } }],
        "usage": { "prompt_tokens": 3, "completion_tokens": 2 } });
    let mut answer = Answer::default();
    Reader::new(Dialect::Chat)
        .whole(&chat)
        .into_iter()
        .for_each(|event| answer.take(event));
    let messages = wire::whole(Dialect::Messages, &answer);
    assert_eq!(
        messages["content"],
        json!([{ "type": "text", "text": "hi" }, { "type": "tool_use", "id": "a", "name": "ls", "input": { "x": 1 } }])
    );
    assert_eq!(
        (&messages["stop_reason"], &messages["usage"]["input_tokens"]),
        (&json!("tool_use"), &json!(3))
    );
    let responses = wire::whole(Dialect::Responses, &answer);
    assert_eq!(
        (&responses["status"], &responses["output"][1]["arguments"]),
        (&json!("completed"), &json!("{\"x\":1}"))
    );
    let gemini = wire::whole(Dialect::Gemini, &answer);
    assert_eq!(
        gemini["candidates"][0]["content"]["parts"][1]["functionCall"]["args"],
        json!({ "x": 1 })
    );
    // And back.
    let mut back = Answer::default();
    Reader::new(Dialect::Messages)
        .whole(&messages)
        .into_iter()
        .for_each(|event| back.take(event));
    assert_eq!(
        wire::whole(Dialect::Chat, &back)["choices"][0]["finish_reason"],
        "tool_calls"
    );
}

#[test]
fn odd_calls_of_some_providers() {
    let calls = |chunks: &[Value]| {
        let mut reader = Reader::new(Dialect::Chat);
        let mut answer = Answer::default();
        for calls in chunks {
            let chunk = json!({ "choices": [{ "delta": { "tool_calls": calls } }] });
            reader
                .data(chunk.to_string().as_bytes())
                .into_iter()
                .for_each(|event| answer.take(event));
        }
        answer
            .calls
            .into_iter()
            .map(|(_, call)| (call.id, call.arguments))
            .collect::<Vec<_>>()
    };
    let begin = |index: Value, id: &str| json!([{ "index": index, "id": id, "function": { "name": "f", "arguments": "1" } }]);
    let expected = [
        ("a".to_owned(), "1".to_owned()),
        ("b".to_owned(), "12".to_owned()),
    ];
    let more = json!([{ "function": { "arguments": "2" } }]);
    // No index at all, and every call the same one.
    assert_eq!(
        calls(&[begin(Value::Null, "a"), begin(Value::Null, "b"), more.clone()]),
        expected
    );
    assert_eq!(
        calls(&[begin(json!(0), "a"), begin(json!(0), "b"), more]),
        expected
    );
}

proptest! {
    #[test]
    fn arbitrary_bodies_and_streams_never_panic(text in ".{0,80}", bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for caller in ALL {
            for (to, kind) in [(Dialect::Chat, Kind::Openai), (Dialect::Messages, Kind::Anthropic)] {
                let body = json!({ "messages": [{ "role": text, "content": [{ "type": text, "text": text }] }], "input": text,
                    "contents": [{ "parts": [{ "text": text }, { "functionCall": {} }] }], "tools": [{ "type": text }] }).to_string();
                let _any = request((caller, &generate(caller, true)), (to, kind), body.as_bytes(), &text);
                let _any = request((caller, &generate(caller, true)), (to, kind), &bytes, &text);
                let _any = runtime.block_on(played(&translation(to, caller), vec![b"data: ".to_vec(), bytes.clone(), b"\n\n".to_vec()]));
                let event = format!("data: {{\"type\":\"content_block_delta\",\"choices\":[{{\"delta\":{{\"content\":{}}}}}]}}\n\n", crate::json::quoted(&text));
                let _any = runtime.block_on(played(&translation(to, caller), vec![event.into_bytes()]));
            }
        }
    }
}
