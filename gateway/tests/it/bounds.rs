//! What a request may cost at the most: tools, tiers, what it refers to, and what it leaves unsaid.

use crate::budget::of_user;
use crate::common::upstream::Upstream;
use crate::metered::{ASK, Scene};
use lodge_proto::control::VirtualKey;

#[tokio::test]
async fn tools_at_the_provider_get_a_limit_where_they_have_none() {
    let mut upstream = Upstream::start().await;
    let scene = Scene::new(upstream.port, of_user("ann"), u64::MAX / 8).await;
    let usage = r#"{"type":"message","usage":{"input_tokens":1,"output_tokens":1}}"#;
    let own = r#"{ "name":"max_uses" , "input_schema":{}}"#;
    let messages = |uses: &str| {
        format!(
            r#"{{"model":"m","max_tokens":100,"tools":[{own}, {{"type":"web_search_20250305","name":"web_search"{uses}}} ],"messages":[]}}"#
        )
    };
    let responses = |calls: &str| {
        format!(
            r#"{{"model":"m","max_output_tokens":9,"input":"x","tools":[{{"type":"web_search"}}]{calls} }}"#
        )
    };
    for (path, sent, expected) in [
        (
            "/anthropic/v1/messages",
            messages(""),
            messages(r#","max_uses":20"#),
        ),
        (
            "/anthropic/v1/messages",
            messages(r#","max_uses":3"#),
            messages(r#","max_uses":3"#),
        ),
        (
            "/openai/v1/responses",
            responses(""),
            responses(r#","max_tool_calls":20"#),
        ),
        (
            "/openai/v1/responses",
            responses(r#","max_tool_calls":1"#),
            responses(r#","max_tool_calls":1"#),
        ),
    ] {
        let (status, _, got) = scene.seen(&mut upstream, path, &sent, &[("200 OK", usage)]).await;
        assert_eq!((status, got), (200, expected));
    }
}

#[tokio::test]
async fn a_tier_whose_price_nobody_knows_is_refused_where_a_budget_applies() {
    let mut upstream = Upstream::start().await;
    let scene = Scene::new(upstream.port, of_user("ann"), u64::MAX / 8).await;
    let usage = r#"{"usage":{"input_tokens":1,"output_tokens":1,"prompt_tokens":1,"completion_tokens":1}}"#;
    let (chat, messages) = ("/openai/v1/chat/completions", "/anthropic/v1/messages");
    let ask = |field: &str| ASK.replace("\"messages\"", &format!("{field},\"messages\""));
    for (path, model, field, passes) in [
        (chat, "m", r#""service_tier":"auto""#, true),
        (chat, "m", r#""service_tier":"default""#, true),
        (chat, "m", r#""service_tier":"flex""#, true),
        // The prices of `m` are the configuration's, which knows no tiers; those of the other one the table's.
        (chat, "m", r#""service_tier":"priority""#, false),
        (chat, "gpt-5.6-sol", r#""service_tier":"priority""#, true),
        (chat, "gpt-5.6-sol", r#""service_tier":"of-tomorrow""#, false),
        (
            messages,
            "m",
            r#""speed":"standard","inference_geo":"global""#,
            true,
        ),
        (messages, "m", r#""speed":"fast""#, false),
        (messages, "m", r#""inference_geo":"us""#, false),
    ] {
        let body = ask(field).replace("\"m\"", &format!("\"{model}\""));
        let answers: &[_] = if passes { &[("200 OK", usage)] } else { &[] };
        let (status, text) = scene.ask(&mut upstream, path, &body, answers).await;
        assert_eq!(status, if passes { 200 } else { 402 }, "{model} {field}: {text}");
        if !passes {
            let name = field.split('"').nth(1).unwrap();
            assert!(text.contains(name), "{text}");
        }
    }
    assert!(upstream.is_untouched());
}

#[tokio::test]
async fn a_stream_is_asked_for_its_usage_where_the_configuration_wants_it() {
    let mut upstream = Upstream::start().await;
    let scene = Scene::new(upstream.port, of_user("ann"), u64::MAX / 8).await;
    let asked = r#""stream_options":{"include_usage":true}"#;
    let body = |fields: &str| format!(r#"{{"model":"m","max_tokens":9,"messages":[]{fields}}}"#);
    for (path, fields, expected) in [
        (
            "/local/v1/chat/completions",
            r#","stream":true"#,
            format!(r#","stream":true,{asked}"#),
        ),
        (
            "/local/v1/chat/completions",
            r#","stream_options":{ "include_usage" : true },"stream":true"#,
            r#","stream_options":{ "include_usage" : true },"stream":true"#.to_owned(),
        ),
        ("/local/v1/chat/completions", "", String::new()),
        (
            "/openai/v1/chat/completions",
            r#","stream":true"#,
            r#","stream":true"#.to_owned(),
        ),
    ] {
        let (status, _, got) = scene
            .seen(&mut upstream, path, &body(fields), &[("200 OK", "{}")])
            .await;
        assert_eq!((status, got), (200, body(&expected)), "{path} {fields}");
    }
}

#[tokio::test]
async fn what_is_kept_at_the_provider_is_reserved_and_charged() {
    let mut upstream = Upstream::start().await;
    let mut scene = Scene::new(upstream.port, of_user("ann"), u64::MAX / 8).await;
    let path = "/openai/v1/containers";
    let container = r#"{"name":"x","memory_limit":"4g"}"#;
    let made = r#"{"id":"cntr_1","object":"container"}"#;
    let (status, text) = scene
        .ask(&mut upstream, path, container, &[("200 OK", made)])
        .await;
    assert_eq!((status, text.as_str()), (200, made));
    let mut spent = 4 * 30_000_000;
    assert_eq!(scene.spent().await, spent);
    // An error of the provider costs nothing.
    scene
        .ask(&mut upstream, path, container, &[("400 Bad", "{}")])
        .await;
    assert_eq!(scene.spent().await, spent);
    let online = r#"{"name":"x","network_policy":{"type":"allowlist","allowed_domains":["x.example"]}}"#;
    let (status, text) = scene.ask(&mut upstream, path, online, &[]).await;
    assert!(status == 403 && text.contains("fetch_url"), "{text}");

    let path = "/gemini/v1beta/cachedContents";
    let cache = r#"{"model":"models/m","contents":[{"parts":[{"text":"long"}]}],"ttl":"7200s"}"#;
    let made = r#"{"name":"cachedContents/1","usageMetadata":{"totalTokenCount":12}}"#;
    let (status, _) = scene.ask(&mut upstream, path, cache, &[("200 OK", made)]).await;
    assert_eq!(status, 200);
    // Read once at the dearest price, and kept for two hours at a dollar for a million and an hour.
    let tokens = cache.len() as u64 + 4096;
    spent += tokens * 4000 + tokens * 2 * 1000;
    assert_eq!(scene.spent().await, spent);
    let search = cache.replace("\"ttl\"", "\"tools\":[{\"googleSearch\":{}}],\"ttl\"");
    let (status, text) = scene.ask(&mut upstream, path, &search, &[]).await;
    assert!(status == 403 && text.contains("cached content"), "{text}");
    let named =
        r#"{"contents":[],"cachedContent":"cachedContents/1","generationConfig":{"maxOutputTokens":9}}"#;
    let usage = r#"{"candidates":[{"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":100,
        "cachedContentTokenCount":90,"candidatesTokenCount":1,"totalTokenCount":101}}"#;
    let generate = "/gemini/v1beta/models/m:generateContent";
    let (status, _) = scene
        .ask(&mut upstream, generate, named, &[("200 OK", usage)])
        .await;
    spent += 100 * 2000 + 10_000;
    assert_eq!((status, scene.spent().await), (200, spent));
    assert!(upstream.is_untouched());
}

#[tokio::test]
async fn what_a_request_refers_to_may_fill_the_window() {
    let mut upstream = Upstream::start().await;
    let path = "/openai/v1/responses";
    let first = r#"{"model":"m","max_output_tokens":100,"input":"x"}"#;
    let next = r#"{"model":"m","max_output_tokens":100,"previous_response_id":"resp_1"}"#;
    let answer = r#"{"id":"resp_1","object":"response","usage":{"input_tokens":1,"output_tokens":1}}"#;
    let whole = 5000 * 4000 + 100 * 10_000;
    for (room, passes) in [(whole, true), (whole - 1, false)] {
        let scene = Scene::new(upstream.port, of_user("ann"), room + 12_000).await;
        let (status, _) = scene.ask(&mut upstream, path, first, &[("200 OK", answer)]).await;
        assert_eq!(status, 200);
        let answers: &[_] = if passes { &[("200 OK", answer)] } else { &[] };
        let (status, text) = scene.ask(&mut upstream, path, next, answers).await;
        assert_eq!(status, if passes { 200 } else { 402 }, "{text}");
    }
    // Making a conversation short is a model's work, and paid for; nothing says how long its answer is.
    let scene = Scene::new(upstream.port, of_user("ann"), whole).await;
    let (compact, body) = ("/openai/v1/responses/compact", r#"{"model":"m","input":"x"}"#);
    let (status, _) = scene
        .ask(&mut upstream, compact, body, &[("200 OK", answer)])
        .await;
    assert_eq!(status, 200);
    let poor = Scene::new(upstream.port, of_user("ann"), 1_000_000).await;
    let (status, _) = poor.ask(&mut upstream, compact, body, &[]).await;
    assert_eq!(status, 402);
    // Counting is free.
    let count = "/openai/v1/responses/input_tokens";
    let (status, _) = poor
        .ask(&mut upstream, count, body, &[("200 OK", r#"{"input_tokens":1}"#)])
        .await;
    assert_eq!(status, 200);
    assert!(upstream.is_untouched());
}

#[tokio::test]
async fn clamped_a_request_without_a_limit_gets_one() {
    let mut upstream = Upstream::start().await;
    for (path, body, limit) in [
        (
            "/openai/v1/chat/completions",
            r#"{"model":"large","messages":[] }"#,
            r#","max_completion_tokens":700"#,
        ),
        (
            "/local/v1/chat/completions",
            r#"{"model":"large","messages":[] }"#,
            r#","max_tokens":700"#,
        ),
        (
            "/openai/v1/responses",
            r#"{"model":"large","input":"x" }"#,
            r#","max_output_tokens":700"#,
        ),
        (
            "/gemini/v1beta/models/large:generateContent",
            r#"{"contents":[] }"#,
            r#","generationConfig":{"maxOutputTokens":700}"#,
        ),
    ] {
        let key = VirtualKey {
            on_limit: "clamp".into(),
            ..of_user("ann")
        };
        // What is added is paid for as input, too.
        let room = (body.len() as u64 + 4096) * 4000 + 700 * 10_000 + limit.len() as u64 * 4000;
        let scene = Scene::new(upstream.port, key, room).await;
        let (status, text, got) = scene.seen(&mut upstream, path, body, &[("200 OK", "{}")]).await;
        assert_eq!(status, 200, "{text}");
        let (start, rest) = body.rsplit_once(' ').unwrap();
        // As much as fits: what is added takes some of the room that was there before it.
        let number: u64 = got
            .rsplit_once(':')
            .and_then(|(_, end)| end.trim_end_matches(['}', ' ']).parse().ok())
            .unwrap();
        assert!((256..=720).contains(&number), "{got}");
        let limit = limit.replace("700", &number.to_string());
        assert_eq!(got, format!("{start}{limit} {rest}"));
    }
}
