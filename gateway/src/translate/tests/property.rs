use proptest::prelude::*;

use super::effort::Effort;
use super::model::{Call, Chat, Choice, Format, Part, Role, Tool, Turn};
use super::*;

fn word() -> impl Strategy<Value = String> {
    "[a-zA-Z][a-zA-Z0-9_-]{0,12}"
}

fn said() -> impl Strategy<Value = String> {
    "[a-zé😀\"\\\\\n ]{0,20}".prop_map(|text| format!("x{text}"))
}

fn image() -> impl Strategy<Value = Part> {
    "[A-Za-z0-9+/]{4}".prop_map(|data| Part::Image {
        media_type: "image/png".to_owned(),
        data,
    })
}

/// What the user says, what the model says and calls, and what comes of that.
fn exchange() -> impl Strategy<Value = Vec<Turn>> {
    let call = (0..4_usize, said());
    (
        said(),
        prop::option::of(image()),
        prop::option::of(said()),
        prop::collection::vec(call, 0..3),
        any::<bool>(),
    )
        .prop_map(|(asked, image, answered, calls, is_error)| {
            let calls: Vec<Call> = calls
                .into_iter()
                .map(|(tool, argument)| Call {
                    name: format!("tool_{tool}"),
                    arguments: json!({ "a": argument }).to_string(),
                    ..Call::default()
                })
                .collect();
            let answered = answered.or_else(|| calls.is_empty().then(|| "yes".to_owned()));
            let spoken = std::iter::once(Part::Text(asked)).chain(image).collect();
            let said = answered.into_iter().map(Part::Text);
            let results = calls.iter().map(|_| Part::Result {
                id: String::new(),
                text: "done".to_owned(),
                images: Vec::new(),
                is_error,
            });
            let results: Vec<Part> = results.collect();
            let turn = |role: Role, parts: Vec<Part>| Turn { role, parts };
            let answer = turn(
                Role::Assistant,
                said.chain(calls.into_iter().map(Part::Call)).collect(),
            );
            vec![turn(Role::User, spoken), answer, turn(Role::User, results)]
        })
}

fn tools() -> impl Strategy<Value = Vec<Tool>> {
    let tool = (prop::option::of(said()), word());
    prop::collection::vec(tool, 0..4).prop_map(|tools| {
        let named = tools.into_iter().enumerate();
        let tool = |(number, (description, field)): (usize, (Option<String>, String))| Tool {
            name: format!("tool_{number}"),
            description,
            schema: json!({ "type": "object", "properties": { field: { "type": "string" } } }),
            ..Tool::default()
        };
        named.map(tool).collect()
    })
}

prop_compose! {
    fn chat()(
        system in prop::option::of(said()),
        exchanges in prop::collection::vec(exchange(), 1..4),
        tools in tools(),
        choice in prop_oneof![Just(Choice::Auto), Just(Choice::None), Just(Choice::Any), Just(Choice::Tool("tool_0".to_owned()))],
        serial in any::<bool>(),
        (max_tokens, temperature, top_p, top_k) in (
            prop::option::of(2000..9000_u64),
            prop::option::of(prop_oneof![Just(json!(0.5)), Just(json!(1))]),
            prop::option::of(Just(json!(0.9))),
            prop::option::of(Just(json!(40))),
        ),
        stop in prop::collection::vec(said().prop_map(Value::from), 0..3),
        effort in prop::option::of(prop_oneof![Just(Effort::Low), Just(Effort::Medium), Just(Effort::High)]),
        format in prop::option::of(prop_oneof![Just(Format::Json), Just(Format::Schema { name: Some("answer".to_owned()), schema: json!({ "type": "object" }) })]),
    ) -> Chat {
        let mut chat = Chat { system: system.unwrap_or_default(), max_tokens, temperature, top_p, top_k, stop, effort, format, ..Chat::default() };
        for turn in exchanges.into_iter().flatten() {
            chat.add(turn.role, turn.parts);
        }
        if !tools.is_empty() {
            (chat.tools, chat.choice) = (tools, choice);
            chat.serial = serial && chat.choice != Choice::None;
        }
        number(&mut chat);
        chat
    }
}

/// Every call gets an id, and its result the same.
fn number(chat: &mut Chat) {
    let mut open = std::collections::VecDeque::new();
    let mut count = 0;
    for part in chat.turns.iter_mut().flat_map(|turn| &mut turn.parts) {
        match part {
            Part::Call(call) => {
                count += 1;
                call.id = format!("call_{count}");
                open.push_back(call.id.clone());
            }
            Part::Result { id, .. } => *id = open.pop_front().unwrap(),
            _ => {}
        }
    }
}

/// What a dialect makes of a request, less what it says is lost.
fn kept(mut chat: Chat, dialect: Dialect, lost: &Lost) -> Chat {
    let is_lost = |name: &str| lost.0.contains(name);
    for (name, field) in [
        ("temperature", &mut chat.temperature),
        ("top_p", &mut chat.top_p),
        ("top_k", &mut chat.top_k),
    ] {
        if is_lost(name) {
            *field = None;
        }
    }
    if is_lost("stop") {
        chat.stop.clear();
    }
    if is_lost("reasoning_effort") {
        chat.effort = None;
    }
    if is_lost("response_format") {
        chat.format = None;
    }
    if is_lost("parallel_tool_calls") {
        chat.serial = false;
    }
    if matches!(dialect, Dialect::Messages | Dialect::Gemini)
        && let Some(Format::Schema { name, .. }) = &mut chat.format
    {
        *name = None;
    }
    for turn in &mut chat.turns {
        // Results come before what the user says, and two dialects say in words that one is an error.
        let results = |part: &Part| !matches!(part, Part::Result { .. });
        turn.parts.sort_by_key(results);
        for part in &mut turn.parts {
            if let Part::Result { text, is_error, .. } = part
                && matches!(dialect, Dialect::Chat | Dialect::Responses)
                && std::mem::take(is_error)
            {
                *text = format!("Error: {text}");
            }
        }
    }
    if dialect == Dialect::Messages {
        // It has to say how much.
        chat.max_tokens = chat.max_tokens.or(Some(16_384));
    }
    chat.include_usage = dialect != Dialect::Chat;
    chat
}

proptest! {
    #[test]
    fn what_is_written_is_read_as_it_was_but_for_what_is_lost(chat in chat()) {
        for (dialect, model) in [
            (Dialect::Chat, "m"), (Dialect::Responses, "gpt-5.6-sol"), (Dialect::Responses, "gpt-4o"), (Dialect::Messages, "claude-sonnet-4-6"),
            (Dialect::Messages, "other"), (Dialect::Gemini, "gemini-3.8-flash"), (Dialect::Gemini, "other"),
        ] {
            let (mut written, mut lost, spec, keeper) = (chat.clone(), Lost::default(), speaks(dialect), keeper());
            let names = Names::plain(&mut written);
            prop_assert_eq!(names, Names::default());
            let to = To { dialect, kind: spec.kind, model, known: None, keeper: &keeper };
            let body = write::request(&to, &mut written, &mut lost);
            // Of these too nothing that a body is checked by.
            crate::asked::read(dialect, body.to_string().as_bytes()).unwrap();
            let read = read::request(dialect, &body, &mut Lost::default());
            prop_assert_eq!(read, kept(chat.clone(), dialect, &lost), "{:?} {}: {}", dialect, model, body);
        }
    }

    #[test]
    fn arbitrary_bodies_and_streams_never_panic(text in ".{0,80}", bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for caller in ALL {
            for to in ALL {
                let spec = speaks(to);
                let body = json!({ "messages": [{ "role": text, "content": [{ "type": text, "text": text }] }], "input": text,
                    "contents": [{ "parts": [{ "text": text }, { "functionCall": {} }] }], "tools": [{ "type": text }, { "type": "namespace", "name": text, "tools": [{ "type": "function", "name": text }] }] }).to_string();
                for body in [body.as_bytes(), &bytes] {
                    let _any = request((caller, &generate(caller, true)), (to, &spec), body, &text, keeper());
                }
                let _any = runtime.block_on(played(&translation(to, caller), vec![b"data: ".to_vec(), bytes.clone(), b"\n\n".to_vec()]));
                let quoted = crate::json::quoted(&text);
                let event = format!("data: {{\"type\":\"content_block_delta\",\"choices\":[{{\"delta\":{{\"content\":{quoted}}}}}],\"candidates\":[{{\"content\":{{\"parts\":[{{\"text\":{quoted},\"functionCall\":{{}}}}]}}}}]}}\n\n");
                let _any = runtime.block_on(played(&translation(to, caller), vec![event.into_bytes()]));
            }
        }
    }
}
