use super::*;

/// Thinking, text, two calls whose arguments are interleaved, usage after the end of the choice.
pub(super) const CHAT: &str = "data: {\"id\":\"chatcmpl-7\",\"model\":\"big\",\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n\
    data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"hm\"}}]}\r\n\r\n: keep-alive\n\n\
    data: {\"choices\":[{\"delta\":{\"content\":\"h\u{e9}\"}}]}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\" 😀\"}}]}\n\n\
    data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"ls\",\"arguments\":\"{\\\"x\\\"\"}}]}}]}\n\n\
    data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":1,\"id\":\"b\",\"function\":{\"name\":\"cat\",\"arguments\":\"{}\"}}]}}]}\n\n\
    data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\":1}\"}}]}}]}\n\n\
    data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\n\
    data: {\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":4,\"prompt_tokens_details\":{\"cached_tokens\":6}}}\n\ndata: [DONE]\n\n";

pub(super) const MESSAGES: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_7\",\"model\":\"big\",\"usage\":{\"input_tokens\":4,\"cache_read_input_tokens\":6,\"output_tokens\":1}}}\n\n\
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

/// The same from Responses: the arguments of one call in pieces, those of the other only at the end.
pub(super) const RESPONSES: &str = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_7\",\"model\":\"big\",\"error\":null}}\n\n\
    data: {\"type\":\"response.output_item.added\",\"output_index\":0,\"item\":{\"type\":\"reasoning\",\"id\":\"rs_1\",\"summary\":[]}}\n\n\
    data: {\"type\":\"response.reasoning_summary_text.delta\",\"output_index\":0,\"delta\":\"hm\"}\n\n\
    data: {\"type\":\"response.reasoning_summary_text.done\",\"output_index\":0,\"text\":\"hm\"}\n\n\
    data: {\"type\":\"response.output_item.done\",\"output_index\":0,\"item\":{\"type\":\"reasoning\",\"id\":\"rs_1\",\"summary\":[],\"encrypted_content\":\"e\"}}\n\n\
    data: {\"type\":\"response.output_text.delta\",\"output_index\":1,\"delta\":\"h\u{e9}\"}\n\ndata: {\"type\":\"response.output_text.delta\",\"output_index\":1,\"delta\":\" 😀\"}\n\n\
    data: {\"type\":\"response.output_item.added\",\"output_index\":2,\"item\":{\"type\":\"function_call\",\"call_id\":\"a\",\"name\":\"ls\",\"arguments\":\"\"}}\n\n\
    data: {\"type\":\"response.function_call_arguments.delta\",\"output_index\":2,\"delta\":\"{\\\"x\\\"\"}\n\n\
    data: {\"type\":\"response.function_call_arguments.delta\",\"output_index\":2,\"delta\":\":1}\"}\n\n\
    data: {\"type\":\"response.output_item.done\",\"output_index\":2,\"item\":{\"type\":\"function_call\",\"call_id\":\"a\",\"name\":\"ls\",\"arguments\":\"{\\\"x\\\":1}\"}}\n\n\
    data: {\"type\":\"response.output_item.added\",\"output_index\":3,\"item\":{\"type\":\"function_call\",\"call_id\":\"b\",\"name\":\"cat\",\"arguments\":\"\"}}\n\n\
    data: {\"type\":\"response.output_item.done\",\"output_index\":3,\"item\":{\"type\":\"function_call\",\"call_id\":\"b\",\"name\":\"cat\",\"arguments\":\"{}\"}}\n\n\
    data: {\"type\":\"response.completed\",\"response\":{\"id\":\"resp_7\",\"status\":\"completed\",\"usage\":{\"input_tokens\":10,\"output_tokens\":4,\"input_tokens_details\":{\"cached_tokens\":6}}}}\n\n";

/// The same from Gemini, where calls are whole and nothing marks the end.
pub(super) const GEMINI: &str = "data: {\"responseId\":\"7\",\"modelVersion\":\"big\",\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"hm\",\"thought\":true}]}}]}\r\n\r\n\
    data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"h\u{e9}\"}]}}]}\r\n\r\ndata: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\" 😀\"}]}}]}\r\n\r\n\
    data: {\"candidates\":[{\"content\":{\"parts\":[{\"functionCall\":{\"id\":\"a\",\"name\":\"ls\",\"args\":{\"x\":1}},\"thoughtSignature\":\"s\"},{\"functionCall\":{\"id\":\"b\",\"name\":\"cat\"}}]}}]}\r\n\r\n\
    data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"\"}]},\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":10,\"cachedContentTokenCount\":6,\"candidatesTokenCount\":4}}\r\n\r\n";

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
    for (provider, script) in [
        (Dialect::Chat, CHAT),
        (Dialect::Messages, MESSAGES),
        (Dialect::Responses, RESPONSES),
        (Dialect::Gemini, GEMINI),
    ] {
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
async fn every_line_of_a_stream_is_one_also_for_geminis_client() {
    let chunk =
        json!({ "choices": [{ "delta": { "content": "a\u{2028}b\u{2029}c" }, "finish_reason": "stop" }] });
    let script = format!("data: {chunk}\n\ndata: [DONE]\n\n");
    let (stream, _) = translated(Dialect::Chat, Dialect::Gemini, &script, 7).await;
    assert!(!stream.contains(['\u{2028}', '\u{2029}']), "{stream}");
    let first = stream.lines().next().unwrap().strip_prefix("data: ").unwrap();
    let first: Value = serde_json::from_str(first).unwrap();
    assert_eq!(
        first["candidates"][0]["content"]["parts"][0]["text"],
        "a\u{2028}b\u{2029}c"
    );
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
