use super::*;

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

/// What each dialect's conversation becomes, and what it loses whoever it goes to.
fn each_caller() -> [(Dialect, &'static str, &'static str); 4] {
    [
        (Dialect::Chat, "c1", "seed"),
        (Dialect::Responses, "c1", "reasoning.encrypted_content truncation"),
        (Dialect::Messages, "c1", "cache_control metadata"),
        (Dialect::Gemini, "call_1", ""),
    ]
}

fn written(caller: Dialect, to: Dialect, model: &str) -> (Value, String) {
    let (mut written, lost, _) = asked(caller, (to, &speaks(to)), model, &conversation(caller));
    // Responses has no stop sequences, neither as a caller nor as a provider.
    for (at, name) in [
        ("", "stop"),
        ("", "stop_sequences"),
        ("generationConfig", "stopSequences"),
    ] {
        let object = if at.is_empty() {
            written.as_object_mut()
        } else {
            written.get_mut(at).and_then(Value::as_object_mut)
        };
        let found = object.and_then(|object| object.remove(name));
        assert!(found.is_none() || caller != Dialect::Responses);
    }
    // A tool that only Responses has.
    if caller == Dialect::Responses {
        let tools = match to {
            Dialect::Gemini => &mut written["tools"][0]["functionDeclarations"],
            _ => &mut written["tools"],
        };
        let shell = tools.as_array_mut().unwrap().pop().unwrap();
        assert!(shell.to_string().contains("\"local_shell\""), "{shell}");
    }
    (written, lost)
}

#[test]
fn every_dialect_says_the_same_to_a_provider_of_chats() {
    for (caller, id, lost) in each_caller() {
        let (chat, found) = written(caller, Dialect::Chat, "n");
        assert_eq!(found, lost, "{caller:?}");
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
    }
}

#[test]
fn every_dialect_says_the_same_to_a_provider_of_messages() {
    for (caller, id, lost) in each_caller() {
        let (messages, found) = written(caller, Dialect::Messages, "n");
        assert_eq!(found, lost, "{caller:?}");
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

#[test]
fn every_dialect_says_the_same_to_a_provider_of_responses() {
    for (caller, id, lost) in each_caller() {
        let (responses, found) = written(caller, Dialect::Responses, "gpt-4o");
        let found = found.replace(" stop", "").replace("stop", "");
        assert_eq!(found, lost, "{caller:?}");
        assert_eq!(
            responses,
            json!({
                "model": "gpt-4o", "stream": false, "store": false, "max_output_tokens": 16, "temperature": 0.5,
                "instructions": "be brief", "tool_choice": "required",
                "tools": [{ "type": "function", "name": "ls", "description": "d", "parameters": { "type": "object" }, "strict": false }],
                "input": [
                    { "type": "message", "role": "user", "content": [{ "type": "input_text", "text": "hi" }, { "type": "input_image", "image_url": "data:image/png;base64,AA" }] },
                    { "type": "function_call", "call_id": id, "name": "ls", "arguments": "{\"a\":1}" },
                    { "type": "function_call_output", "call_id": id, "output": "file" },
                ],
            }),
            "{caller:?}"
        );
    }
}

#[test]
fn every_dialect_says_the_same_to_gemini() {
    for (caller, id, lost) in each_caller() {
        let (gemini, found) = written(caller, Dialect::Gemini, "gemini-2.5-flash");
        assert_eq!(found, lost, "{caller:?}");
        assert_eq!(
            gemini,
            json!({
                "systemInstruction": { "parts": [{ "text": "be brief" }] },
                "generationConfig": { "maxOutputTokens": 9, "temperature": 0.5 },
                "tools": [{ "functionDeclarations": [{ "name": "ls", "description": "d", "parametersJsonSchema": { "type": "object" } }] }],
                "toolConfig": { "functionCallingConfig": { "mode": "ANY" } },
                "contents": [
                    { "role": "user", "parts": [{ "text": "hi" }, { "inlineData": { "mimeType": "image/png", "data": "AA" } }] },
                    { "role": "model", "parts": [{ "functionCall": { "id": id, "name": "ls", "args": { "a": 1 } } }] },
                    { "role": "user", "parts": [{ "functionResponse": { "id": id, "name": "ls", "response": { "output": "file" } } }] },
                ],
            }),
            "{caller:?}"
        );
    }
}

#[test]
fn how_hard_to_think_in_the_words_of_each_model() {
    let body = json!({ "model": "m", "input": "hi", "temperature": 0.5, "reasoning": { "effort": "xhigh" } });
    let request = |to: Dialect, model: &str| {
        let mut spec = speaks(to);
        let known = Model {
            reasoning: true,
            efforts: vec!["minimal".to_owned(), "low".to_owned()],
            ..Model::named("weak")
        };
        spec.models.push(known);
        let (written, lost, _) = asked(Dialect::Responses, (to, &spec), model, &body);
        (written, lost)
    };
    let (opus, lost) = request(Dialect::Messages, "claude-opus-5-5");
    assert_eq!(
        (&opus["thinking"], &opus["output_config"], lost.as_str()),
        (
            &json!({ "type": "adaptive" }),
            &json!({ "effort": "high" }),
            "temperature"
        )
    );
    let (sonnet, _) = request(Dialect::Messages, "claude-sonnet-4-5");
    assert_eq!(
        sonnet["thinking"],
        json!({ "type": "enabled", "budget_tokens": 15_360 })
    );
    let (_, lost) = request(Dialect::Messages, "other");
    assert_eq!(lost, "reasoning_effort");
    let (three, _) = request(Dialect::Gemini, "gemini-3-pro-preview");
    assert_eq!(
        three["generationConfig"]["thinkingConfig"],
        json!({ "thinkingLevel": "high", "includeThoughts": true })
    );
    let (two, _) = request(Dialect::Gemini, "gemini-2.5-flash");
    assert_eq!(
        two["generationConfig"]["thinkingConfig"]["thinkingBudget"],
        json!(24_576)
    );
    let (chat, lost) = request(Dialect::Chat, "m");
    assert_eq!(
        (&chat["reasoning_effort"], lost.as_str()),
        (&Value::Null, "reasoning_effort")
    );
    let (weak, _) = request(Dialect::Chat, "weak");
    assert_eq!(weak["reasoning_effort"], "low");
    let claude = json!({ "model": "m", "messages": [{ "role": "user", "content": "hi" }], "max_tokens": 50_000,
        "thinking": { "type": "enabled", "budget_tokens": 32_000 } });
    let (written, ..) = asked(
        Dialect::Messages,
        (Dialect::Responses, &speaks(Dialect::Responses)),
        "gpt-5.6-sol",
        &claude,
    );
    assert_eq!(
        (&written["reasoning"], &written["include"]),
        (
            &json!({ "effort": "high", "summary": "auto" }),
            &json!(["reasoning.encrypted_content"])
        )
    );
}

#[test]
fn an_answer_by_a_schema_is_asked_for_in_each_dialect() {
    let schema = json!({ "type": "object" });
    let body = json!({ "model": "m", "messages": [{ "role": "user", "content": "hi" }],
        "response_format": { "type": "json_schema", "json_schema": { "name": "x", "schema": schema } } });
    for (to, model, place) in [
        (Dialect::Responses, "n", "/text/format/schema"),
        (
            Dialect::Messages,
            "claude-opus-5-5",
            "/output_config/format/schema",
        ),
        (
            Dialect::Gemini,
            "gemini-3.8-flash",
            "/generationConfig/responseJsonSchema",
        ),
    ] {
        let (written, lost, _) = asked(Dialect::Chat, (to, &speaks(to)), model, &body);
        assert_eq!(
            (written.pointer(place), lost.as_str()),
            (Some(&schema), ""),
            "{to:?}"
        );
    }
}

#[test]
fn what_only_the_callers_provider_could_do_is_refused() {
    for body in [
        json!({ "model": "m", "input": "hi", "previous_response_id": "resp_1" }),
        json!({ "model": "m", "input": [{ "type": "item_reference", "id": "x" }] }),
        json!({ "model": "m", "input": "hi", "tools": [{ "type": "web_search" }] }),
    ] {
        let asked = crate::asked::read(Dialect::Responses, body.to_string().as_bytes()).unwrap();
        let error = refusal(&asked).unwrap();
        assert!(
            error.status == 400 && error.message.contains("cannot be translated"),
            "{error:?}"
        );
    }
    let plain = crate::asked::read(Dialect::Responses, tools::odd_tools().to_string().as_bytes()).unwrap();
    assert_eq!(refusal(&plain), None);
}

#[test]
fn a_models_name_does_not_lead_to_another_path() {
    let (parts, ()) = hyper::Request::post("/v1/messages?beta=true")
        .body(())
        .unwrap()
        .into_parts();
    let to = |model: &str, stream: bool| {
        let translation = Translation {
            stream,
            ..translation(Dialect::Gemini, Dialect::Messages)
        };
        head(&translation, model, &parts).map(|(path, head)| (path, head.uri.query().map(str::to_owned)))
    };
    assert_eq!(
        to("gemini-3.8-flash", true).unwrap(),
        (
            "/v1beta/models/gemini-3.8-flash:streamGenerateContent".to_owned(),
            Some("alt=sse".to_owned())
        )
    );
    assert_eq!(
        to("models/m", false).unwrap(),
        ("/v1beta/models/m:generateContent".to_owned(), None)
    );
    for model in [
        "",
        "../files",
        "a/b",
        "m:batchGenerateContent?x=",
        "m#",
        "m%2f",
        "..",
    ] {
        assert_eq!(to(model, true).unwrap_err().status, 404, "{model}");
    }
}

#[test]
fn a_limit_above_the_models_own_is_lowered() {
    let mut spec = speaks(Dialect::Gemini);
    let known = Model {
        max_output: 8,
        ..Model::named("n")
    };
    spec.models.push(known);
    let body = conversation(Dialect::Messages);
    let (written, lost, _) = asked(Dialect::Messages, (Dialect::Gemini, &spec), "n", &body);
    assert_eq!(written["generationConfig"]["maxOutputTokens"], 8);
    assert!(lost.contains("max_tokens"), "{lost}");
}
