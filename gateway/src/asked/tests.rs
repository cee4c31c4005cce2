use super::*;

fn message(dialect: Dialect, body: &str) -> Option<(u16, String)> {
    read(dialect, body.as_bytes())
        .and_then(|asked| asked.check(&ProviderTools::default()))
        .err()
        .map(|error| (error.status, error.message))
}

fn ids(dialect: Dialect, body: &str) -> Vec<(Kind, String)> {
    let asked = read(dialect, body.as_bytes()).unwrap();
    asked
        .objects
        .into_iter()
        .map(|object| (object.kind, object.id))
        .collect()
}

#[test]
fn local_tools_pass() {
    for (dialect, body) in [
        (
            Dialect::Chat,
            r#"{"model":"m","tools":[{"type":"function","function":{"name":"web_search"}}]}"#,
        ),
        (
            Dialect::Responses,
            r#"{"tools":[{"type":"namespace","name":"x"}],"previous_response_id":null}"#,
        ),
        (
            Dialect::Messages,
            r#"{"tools":[{"name":"Bash","input_schema":{}},{"type":"bash_20250124"}]}"#,
        ),
        (Dialect::Gemini, r#"{"tools":[{"functionDeclarations":[]}]}"#),
        (Dialect::Messages, r#"{"mcp_servers":[],"x":{"container":1}}"#),
    ] {
        assert_eq!(message(dialect, body), None, "{body}");
        assert_eq!(ids(dialect, body), [], "{body}");
    }
}

#[test]
fn ways_out_do_not() {
    for (dialect, body, word) in [
        (
            Dialect::Responses,
            r#"{"tools":[{"type":"web_search"}]}"#,
            "web_search",
        ),
        (
            Dialect::Responses,
            r#"{"tools":[{"type":"mcp","server_url":"https://x"}]}"#,
            "mcp",
        ),
        (Dialect::Responses, r#"{"background":true}"#, "background"),
        (Dialect::Responses, r#"{"prompt":{"id":"pmpt_1"}}"#, "prompt"),
        (
            Dialect::Messages,
            r#"{"tools":[{"type":"web_fetch_20250910","name":"f"}]}"#,
            "web_fetch",
        ),
        (
            Dialect::Messages,
            r#"{"mcp_servers":[{"url":"https://x"}]}"#,
            "mcp_servers",
        ),
        (
            Dialect::Gemini,
            r#"{"tools":[{"functionDeclarations":[]},{"urlContext":{}}]}"#,
            "urlContext",
        ),
        (
            Dialect::Chat,
            r#"{"web_search_options":{}}"#,
            "web_search_options",
        ),
        (
            Dialect::Chat,
            r#"{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://x/?secret"}}]}]}"#,
            "URL",
        ),
        (
            Dialect::Responses,
            r#"{"input":[{"type":"function_call_output","output":[{"type":"input_image","image_url":"http://x"}]}]}"#,
            "URL",
        ),
        (
            Dialect::Messages,
            r#"{"messages":[{"content":[{"type":"tool_result","content":[{"type":"image","source":{"type":"url","url":"https://x"}}]}]}]}"#,
            "URL",
        ),
        (
            Dialect::Gemini,
            r#"{"contents":[{"parts":[{"fileData":{"fileUri":"https://youtube.example/x"}}]}]}"#,
            "URL",
        ),
    ] {
        let (status, text) = message(dialect, body).unwrap();
        assert!(status == 403 && text.contains(word), "{body}: {text}");
    }
}

#[test]
fn what_policy_names_passes_and_nothing_else() {
    let allowed = ProviderTools([("web_search".to_owned(), 10_000_000), (FETCH.to_owned(), 0)].into());
    let check = |dialect, body: &str| read(dialect, body.as_bytes()).unwrap().check(&allowed).is_ok();
    assert!(check(Dialect::Responses, r#"{"tools":[{"type":"web_search"}]}"#));
    assert!(check(
        Dialect::Messages,
        r#"{"tools":[{"type":"web_search_20250305"}]}"#
    ));
    assert!(check(
        Dialect::Chat,
        r#"{"messages":[{"content":[{"image_url":{"url":"https://x"}}]}]}"#
    ));
    assert!(!check(
        Dialect::Responses,
        r#"{"tools":[{"type":"web_search_of_theirs"}]}"#
    ));
    assert!(!check(
        Dialect::Responses,
        r#"{"tools":[{"type":"web_search"},{"type":"code_interpreter"}]}"#
    ));
    assert_eq!(allowed.price("web_search_preview"), Some(10_000_000));
}

#[test]
fn ids_of_stored_objects_are_found_wherever_a_provider_follows_them() {
    let body = r#"{"previous_response_id":"resp_1","conversation":{"id":"conv_1"},
        "tools":[{"type":"code_interpreter","container":{"type":"auto","file_ids":["file-1"]}},
                 {"type":"file_search","vector_store_ids":["vs_1"]}],
        "input":[{"type":"item_reference","id":"rs_1"},{"type":"reasoning","id":"rs_2"},
                 {"role":"user","content":[{"type":"input_file","file_id":"file-2","file_data":"data:x"}]},
                 {"id":"rs_3","type":"item_reference"}]}"#;
    let expected = [
        (Kind::Response, "resp_1"),
        (Kind::Conversation, "conv_1"),
        (Kind::File, "file-1"),
        (Kind::VectorStore, "vs_1"),
        (Kind::Item, "rs_1"),
        (Kind::File, "file-2"),
        (Kind::Item, "rs_3"),
    ];
    assert_eq!(
        ids(Dialect::Responses, body),
        expected.map(|(kind, id)| (kind, id.to_owned()))
    );
    let twice = r#"{"container":"c_1","container":{"id":"c_2"},"messages":[{"content":[{"type":"document","source":{"file_id":"f"}}]}]}"#;
    assert_eq!(
        ids(Dialect::Messages, twice),
        [
            (Kind::Container, "c_1".to_owned()),
            (Kind::Container, "c_2".to_owned()),
            (Kind::File, "f".to_owned())
        ]
    );
    let skills = r#"{"container":{"skills":[{"skill_id":"pptx"},{"skill_id":"skill_01"}]}}"#;
    assert_eq!(
        ids(Dialect::Messages, skills),
        [(Kind::Skill, "skill_01".to_owned())]
    );
    assert_eq!(
        ids(Dialect::Gemini, r#"{"cached\u0043ontent":"cachedContents/1"}"#),
        [(Kind::Cache, "cachedContents/1".to_owned())]
    );
}

#[test]
fn what_tools_were_called_with_is_data() {
    for (dialect, body) in [
        (
            Dialect::Messages,
            r#"{"messages":[{"content":[{"type":"tool_use","id":"t","input":{"file_id":"x","url":"https://x","source":{"url":"https://x"}}}]}]}"#,
        ),
        (
            Dialect::Chat,
            r#"{"messages":[{"tool_calls":[{"id":"c","function":{"arguments":"{\"file_id\":1}"}}],"content":"https://x"}]}"#,
        ),
        (
            Dialect::Gemini,
            r#"{"contents":[{"parts":[{"functionCall":{"args":{"fileUri":"https://x"}}}]}]}"#,
        ),
        (
            Dialect::Responses,
            r#"{"input":"https://x","tools":[{"type":"function","parameters":{"properties":{"file_ids":["a"]}}}]}"#,
        ),
        (
            Dialect::Chat,
            r#"{"messages":[{"content":[{"image_url":{"url":"data:image/png;base64,AA"}}]}]}"#,
        ),
    ] {
        assert_eq!(message(dialect, body), None, "{body}");
        assert_eq!(ids(dialect, body), [], "{body}");
    }
}

#[test]
fn what_parsers_could_read_differently_is_refused() {
    for body in [
        r#"{"tools":[],"tools":[{"type":"web_search"}]}"#,
        r#"{"model":"a","model":"b"}"#,
        r#"{"tools":["#,
        "[]",
        "",
        "\u{feff}{}",
    ] {
        assert_eq!(message(Dialect::Responses, body).unwrap().0, 400, "{body}");
    }
}
