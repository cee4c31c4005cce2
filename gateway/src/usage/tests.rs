//! Transcripts of four dialects, and the same in pieces of any size.

use proptest::prelude::*;

use super::{Seen, Stated, Tap, Usage, fold, sse};
use crate::dialect::Dialect;

fn read(mut tap: Tap, pieces: &[&[u8]]) -> Seen {
    for piece in pieces {
        tap.push(piece);
    }
    tap.finish();
    tap.seen().clone()
}

fn events(dialect: Dialect, text: &str) -> Seen {
    read(Tap::events(dialect), &[text.as_bytes()])
}

fn whole(dialect: Dialect, text: &str) -> Seen {
    read(Tap::whole(dialect), &[text.as_bytes()])
}

const CHAT: &str = concat!(
    ": keep-alive\n\n",
    "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"héllo 😀\"},\"finish_reason\":null}],\"usage\":null}\n\n",
    "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{}\"}}]},\"finish_reason\":\"stop\"}]}\n\n",
    "data: {\"choices\":[],\"service_tier\":\"default\",\"usage\":{\"prompt_tokens\":100,\"completion_tokens\":20,",
    "\"prompt_tokens_details\":{\"cached_tokens\":60},\"completion_tokens_details\":{\"reasoning_tokens\":5},\"total_tokens\":120}}\n\n",
    "data: [DONE]\n\n",
);

const RESPONSES: &str = concat!(
    "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"usage\":null}}\n\n",
    "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"ok\"}\n\n",
    "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"service_tier\":\"flex\",\"usage\":",
    "{\"input_tokens\":10,\"input_tokens_details\":{\"cached_tokens\":4,\"cache_write_tokens\":3},\"output_tokens\":7,",
    "\"output_tokens_details\":{\"reasoning_tokens\":6},\"total_tokens\":17}}}\n\n",
);

const MESSAGES: &str = concat!(
    "event: message_start\r\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":11,",
    "\"cache_creation_input_tokens\":50,\"cache_read_input_tokens\":12,",
    "\"cache_creation\":{\"ephemeral_5m_input_tokens\":20,\"ephemeral_1h_input_tokens\":30},\"output_tokens\":1}}}\r\n\r\n",
    "event: ping\r\ndata: {\"type\":\"ping\"}\r\n\r\n",
    "event: content_block_delta\r\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"Grüße 🦀\"}}\r\n\r\n",
    "event: message_delta\r\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},",
    "\"usage\":{\"output_tokens\":9,\"server_tool_use\":{\"web_search_requests\":2}}}\r\n\r\n",
    "event: message_stop\r\ndata: {\"type\":\"message_stop\"}\r\n\r\n",
);

const GEMINI: &str = concat!(
    "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\"}]}}],\"usageMetadata\":{\"promptTokenCount\":8}}\r\n\r\n",
    "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"b\"}]},\"finishReason\":\"STOP\"}],\"usageMetadata\":",
    "{\"promptTokenCount\":8,\"toolUsePromptTokenCount\":2,\"cachedContentTokenCount\":5,\"candidatesTokenCount\":3,",
    "\"thoughtsTokenCount\":4,\"totalTokenCount\":17}}\r\n\r\n",
);

fn transcripts() -> [(Dialect, &'static str, Usage); 4] {
    [
        (
            Dialect::Chat,
            CHAT,
            Usage {
                input: 40,
                cache_read: 60,
                output: 20,
                reasoning: 5,
                ..Usage::default()
            },
        ),
        (
            Dialect::Responses,
            RESPONSES,
            Usage {
                input: 3,
                cache_read: 4,
                cache_write: 3,
                output: 7,
                reasoning: 6,
                ..Usage::default()
            },
        ),
        (
            Dialect::Messages,
            MESSAGES,
            Usage {
                input: 11,
                cache_read: 12,
                cache_write: 50,
                cache_write_1h: 30,
                output: 9,
                web_searches: 2,
                ..Usage::default()
            },
        ),
        (
            Dialect::Gemini,
            GEMINI,
            Usage {
                input: 5,
                cache_read: 5,
                output: 7,
                reasoning: 4,
                ..Usage::default()
            },
        ),
    ]
}

#[test]
fn streams_of_four_dialects() {
    for (dialect, text, usage) in transcripts() {
        let seen = events(dialect, text);
        assert_eq!(
            (seen.usage, seen.stated, seen.lost),
            (usage, Stated::Finally, false),
            "{dialect:?}"
        );
    }
    assert_eq!(events(Dialect::Chat, CHAT).tier.as_deref(), Some("default"));
    assert_eq!(
        events(Dialect::Responses, RESPONSES).tier.as_deref(),
        Some("flex")
    );
}

#[test]
fn a_stream_that_breaks_off_is_never_taken_for_whole() {
    for (dialect, text, usage) in transcripts() {
        // Up to the event that ends it, at every byte: the last statement counts only when all of it is there.
        let last = text.rfind("usage").unwrap();
        for end in text.char_indices().map(|(at, _)| at).filter(|at| *at < last) {
            let seen = events(dialect, &text[..end]);
            assert!(seen.stated < Stated::Finally, "{dialect:?} {end}");
            assert!(seen.usage.output <= usage.output);
        }
    }
}

#[test]
fn bodies_of_four_dialects() {
    let chat = r#"{"choices":[{"finish_reason":"stop","message":{"content":"x"}}],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#;
    let responses = r#"{"status":"completed","usage":{"input_tokens":3,"output_tokens":2}}"#;
    let messages = r#"{"type":"message","usage":{"input_tokens":3,"output_tokens":2}}"#;
    let gemini = r#"{"candidates":[],"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":2}}"#;
    let array = r#"[{"usageMetadata":{"promptTokenCount":3}},{"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":2}}]"#;
    for (dialect, body) in [
        (Dialect::Chat, chat),
        (Dialect::Responses, responses),
        (Dialect::Messages, messages),
        (Dialect::Gemini, gemini),
        (Dialect::Gemini, array),
    ] {
        let seen = whole(dialect, body);
        let usage = Usage {
            input: 3,
            output: 2,
            ..Usage::default()
        };
        assert_eq!((seen.usage, seen.stated), (usage, Stated::Finally), "{body}");
        let torn = whole(dialect, &body[..body.len() - 1]);
        assert!(torn.stated == Stated::Nothing && torn.lost, "{body}");
        assert_eq!(torn.visible, body.len() as u64 - 1);
    }
}

#[test]
fn without_usage_what_came_through_bounds_it() {
    let without = "data: {\"choices\":[{\"delta\":{\"content\":\"12345678\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    let seen = events(Dialect::Chat, without);
    assert_eq!((seen.stated, seen.visible), (Stated::Nothing, 9));
    let broken = events(Dialect::Chat, "data: {\"choices\":[{\"delta\"\n\n");
    assert!(broken.lost && broken.visible > 0);
}

#[test]
fn reasoning_that_only_the_total_shows_is_counted() {
    let body = r#"{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":40,
        "completion_tokens_details":{"reasoning_tokens":25}}}"#;
    let usage = whole(Dialect::Chat, body).usage;
    assert_eq!((usage.output, usage.reasoning), (30, 25));
}

#[test]
fn nonsense_is_bounded() {
    let body = r#"{"usage":{"prompt_tokens":18446744073709551615,"completion_tokens":-4,
        "prompt_tokens_details":{"cached_tokens":"many"}}}"#;
    let usage = whole(Dialect::Chat, body).usage;
    assert_eq!((usage.input, usage.output), (super::MAX_TOKENS, 0));
    let mut tap = Tap::events(Dialect::Messages);
    let piece = vec![b'x'; 1 << 20];
    (0..20).for_each(|_| tap.push(&piece));
    tap.push(b"\n\n");
    assert!(tap.seen().lost);
    tap.push(MESSAGES.as_bytes());
    assert_eq!(tap.seen().usage.output, 9, "what comes after is read again");
}

proptest! {
    #[test]
    fn pieces_make_no_difference(which in 0_usize..4, cuts in prop::collection::vec(0_usize..2000, 0..40)) {
        let (dialect, text, _) = transcripts()[which];
        let text = text.as_bytes();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % (text.len() + 1)).collect();
        cuts.push(0);
        cuts.push(text.len());
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
        prop_assert_eq!(read(Tap::events(dialect), &pieces), read(Tap::events(dialect), &[text]));
        prop_assert_eq!(read(Tap::whole(dialect), &pieces), read(Tap::whole(dialect), &[text]));
    }

    #[test]
    fn garbage_is_read_without_harm(
        which in 0_usize..4,
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..10),
    ) {
        let (dialect, ..) = transcripts()[which];
        let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        let joined = pieces.concat();
        prop_assert_eq!(read(Tap::events(dialect), &pieces), read(Tap::events(dialect), &[&joined]));
    }
}

/// What is seen where every event is parsed whole.
fn parsed(dialect: Dialect, text: &[u8]) -> Seen {
    let mut seen = Seen::default();
    let mut each = |data: Option<&[u8]>| match data.map(<[u8]>::trim_ascii) {
        Some(event) if event.is_empty() || event == b"[DONE]" => fold::event(dialect, &mut seen, event),
        Some(event) => fold::parsed(dialect, &mut seen, event),
        None => seen.lost = true,
    };
    let mut events = sse::Events::default();
    events.push(text, &mut each);
    events.finish(&mut each);
    seen
}

/// Text as a provider may send it: some escape what others do not.
fn json_text() -> impl Strategy<Value = String> {
    let quoted = |text: String| serde_json::to_string(&text).unwrap();
    let escaped = |text: String| {
        let units = text.encode_utf16();
        let units: Vec<String> = units.map(|unit| format!("\\u{unit:04x}")).collect();
        format!("\"{}\"", units.concat())
    };
    prop_oneof![
        4 => ".{0,40}".prop_map(quoted),
        1 => ".{0,8}".prop_map(escaped),
        1 => Just("\"\"".to_owned()),
        1 => Just("\"\\\"usage\\\":{\\\"prompt_tokens\\\":7}\"".to_owned()),
        1 => Just("null".to_owned()),
    ]
}

/// An event of that dialect; most say nothing but text.
fn event_of(dialect: Dialect) -> impl Strategy<Value = String> {
    let forms: &[&str] = match dialect {
        Dialect::Chat => &[
            r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":$},"finish_reason":null}],"usage":null}"#,
            r#"{"choices":[{"delta":{"content":$,"reasoning":$}},{"delta":{"content":$}}],"service_tier":"flex"}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":$}}],"n":[1,2.5,true]}}]}"#,
            r#"{"choices":[{"delta":{"content":$},"finish_reason":"stop"}],"service_tier":$}"#,
            r#"{"choices":[{"delta":{}}],"us\u0061ge":{"prompt_tokens":5,"completion_tokens":2}}"#,
            r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3}}"#,
            r#"{"choices":[{"text":$}],"x":$}"#,
            r#"{"choices":null}"#,
            r#"{"choices":[{"delta":{"content":$}"#,
        ],
        Dialect::Messages => &[
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":$}}"#,
            r#"{"delta":{"type":"input_json_delta","partial_json":$},"type":"content_block_delta"}"#,
            r#"{"type":"content_block_start","content_block":{"type":"text","text":$}}"#,
            r#"{"type":"message_start","message":{"usage":{"input_tokens":5,"output_tokens":1}}}"#,
            r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":3}}"#,
            r#"{"type":$,"delta":$}"#,
            r#"{"type":"ping"}"#,
        ],
        _ => &[
            r#"{"type":"response.output_text.delta","delta":$}"#,
            r#"{"type":"response.reasoning_text.delta","delta":{"text":$}}"#,
            r#"{"type":"response.x.delta","delta":$,"response":{"usage":{"input_tokens":4,"output_tokens":1}}}"#,
            r#"{"type":"response.output_item.done","item":{"encrypted_content":$}}"#,
            r#"{"type":"response.completed","response":{"usage":{"input_tokens":4,"output_tokens":2}}}"#,
            r#"{"delta":$}"#,
        ],
    };
    let texts = prop::collection::vec(json_text(), 3);
    (prop::sample::select(forms), texts).prop_map(|(form, texts)| {
        let mut texts = texts.into_iter();
        let parts: Vec<&str> = form.split('$').collect();
        let mut event = parts[0].to_owned();
        for part in &parts[1..] {
            event += &texts.next().unwrap_or_else(|| "1".to_owned());
            event += part;
        }
        event
    })
}

fn stream() -> impl Strategy<Value = (Dialect, Vec<u8>)> {
    let dialects = vec![Dialect::Chat, Dialect::Messages, Dialect::Responses];
    prop::sample::select(dialects).prop_flat_map(|dialect| {
        let ends = prop::sample::select(vec!["\n\n", "\r\n\r\n"]);
        (
            prop::collection::vec(event_of(dialect), 0..12),
            ends,
            any::<bool>(),
        )
            .prop_map(move |(events, end, done)| {
                let events: Vec<String> = events.iter().map(|event| format!("data: {event}{end}")).collect();
                let mut text = events.concat();
                if done {
                    text += "data: [DONE]";
                    text += end;
                }
                (dialect, text.into_bytes())
            })
    })
}

proptest! {
    #[test]
    fn what_is_only_text_counts_as_if_it_were_parsed(
        (dialect, text) in stream(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.index(text.len() + 1)).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
        prop_assert_eq!(read(Tap::events(dialect), &pieces), parsed(dialect, &text));
    }
}

#[test]
fn calls_of_tools_at_the_provider_are_counted_and_the_callers_own_are_not() {
    let messages = r#"{"usage":{"input_tokens":1,"output_tokens":1,"server_tool_use":{"web_search_requests":2,"web_fetch_requests":1}}}"#;
    let items =
        r#"[{"type":"web_search_call"},{"type":"function_call"},{"type":"mcp_call"},{"type":"message"}]"#;
    let responses = format!(r#"{{"output":{items},"usage":{{"input_tokens":1,"output_tokens":1}}}}"#);
    let gemini = r#"{"candidates":[{"finishReason":"STOP","groundingMetadata":{"webSearchQueries":["a","b"]},"content":{"parts":[
        {"executableCode":{}}]}}],"usageMetadata":{"promptTokenCount":1,"candidatesTokenCount":1}}"#;
    for (dialect, body, calls) in [
        (Dialect::Messages, messages, 3),
        (Dialect::Responses, responses.as_str(), 2),
        (Dialect::Gemini, gemini, 3),
    ] {
        let mut tap = Tap::whole(dialect);
        tap.push(body.as_bytes());
        tap.finish();
        assert_eq!(tap.seen().usage.web_searches, calls, "{dialect:?}");
        assert_eq!(tap.seen().stated, Stated::Finally);
    }
    let mut tap = Tap::messages(Dialect::Responses);
    tap.message(br#"{"type":"response.output_item.done","item":{"type":"web_search_call"}}"#);
    tap.message(format!(r#"{{"type":"response.completed","response":{responses}}}"#).as_bytes());
    assert_eq!(tap.seen().usage.web_searches, 2);
}
