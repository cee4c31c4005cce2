//! One event or one body of a dialect, folded into what was seen.

use serde_json::Value;

use super::{MAX_TOKENS, Seen, Stated, Usage, peek};
use crate::dialect::Dialect;

/// An event of a stream.
pub(super) fn event(dialect: Dialect, seen: &mut Seen, data: &[u8]) {
    let trimmed = data.trim_ascii();
    if trimmed.is_empty() {
        return;
    }
    if trimmed == b"[DONE]" {
        seen.ended = true;
        if seen.stated == Stated::Partly {
            seen.stated = Stated::Finally;
        }
        return;
    }
    match peek::text(dialect, trimmed) {
        Some(peeked) => {
            seen.visible = seen.visible.saturating_add(peeked.visible);
            if let Some(tier) = peeked.tier {
                served_by(seen, &tier);
            }
        }
        None => parsed(dialect, seen, trimmed),
    }
}

/// An event of any kind, parsed whole.
pub(super) fn parsed(dialect: Dialect, seen: &mut Seen, event: &[u8]) {
    let Ok(value) = serde_json::from_slice::<Value>(event) else {
        seen.lost = true;
        seen.visible = seen.visible.saturating_add(event.len() as u64);
        return;
    };
    match dialect {
        Dialect::Chat => chat(seen, &value),
        Dialect::Responses => responses(seen, &value),
        Dialect::Messages => messages(seen, &value),
        Dialect::Gemini => gemini(seen, &value),
    }
}

/// A body that is not a stream of events, at its end. One that breaks off before it says nothing that can be read.
pub(super) fn body(dialect: Dialect, seen: &mut Seen, body: &[u8]) {
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        seen.lost = true;
        return;
    };
    seen.ended = true;
    match (dialect, &value) {
        // A stream of Gemini's without `alt=sse` is an array of the same chunks.
        (Dialect::Gemini, Value::Array(chunks)) => chunks.iter().for_each(|chunk| gemini(seen, chunk)),
        (Dialect::Gemini, _) => gemini(seen, &value),
        (Dialect::Chat, _) => chat(seen, &value),
        (Dialect::Responses, _) => responses_usage(seen, &value),
        (Dialect::Messages, _) => {
            model(seen, &value["model"]);
            messages_usage(seen, &value["usage"]);
            state(seen, value["usage"].is_object());
        }
    }
}

fn tokens(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0).min(MAX_TOKENS)
}

/// Every byte of text in it: no token is shorter.
fn text(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.len() as u64,
        Value::Array(items) => items.iter().map(text).fold(0, u64::saturating_add),
        Value::Object(fields) => fields.values().map(text).fold(0, u64::saturating_add),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

/// One token more for each event: marks that are billed and not shown.
fn show(seen: &mut Seen, value: &Value) {
    if !value.is_null() {
        seen.visible = seen.visible.saturating_add(text(value)).saturating_add(1);
    }
}

/// Figures came: the last ones if the answer has said that it ends.
fn state(seen: &mut Seen, figures: bool) {
    if figures {
        seen.stated = if seen.ended {
            Stated::Finally
        } else {
            Stated::Partly
        };
    }
}

fn tier(seen: &mut Seen, value: &Value) {
    if let Some(tier) = value["service_tier"].as_str() {
        served_by(seen, tier);
    }
}

fn served_by(seen: &mut Seen, tier: &str) {
    if tier.len() <= 32 && seen.tier.as_deref() != Some(tier) {
        seen.tier = Some(tier.to_owned());
    }
}

/// The first statement counts: events repeat it.
fn model(seen: &mut Seen, value: &Value) {
    if seen.model.is_none() {
        seen.model = value
            .as_str()
            .filter(|model| (1..=200).contains(&model.len()))
            .map(str::to_owned);
    }
}

fn chat(seen: &mut Seen, value: &Value) {
    model(seen, &value["model"]);
    let none = Vec::new();
    let choices = value["choices"].as_array().unwrap_or(&none);
    for choice in choices {
        show(seen, &choice["delta"]);
        seen.ended |= !choice["finish_reason"].is_null();
    }
    tier(seen, value);
    let stated = &value["usage"];
    if !stated.is_object() {
        return;
    }
    seen.usage = openai(
        stated,
        ["prompt_tokens", "prompt_tokens_details"],
        ["completion_tokens", "completion_tokens_details"],
    );
    seen.ended |= choices.is_empty();
    state(seen, true);
}

fn responses(seen: &mut Seen, value: &Value) {
    let kind = value["type"].as_str().unwrap_or_default();
    if matches!(
        kind,
        "response.completed" | "response.incomplete" | "response.failed"
    ) {
        seen.ended = true;
    }
    if kind.rsplit('.').next() == Some("delta") {
        show(seen, &value["delta"]);
    }
    if kind == "response.output_item.done" {
        show(seen, &value["item"]["encrypted_content"]);
        seen.usage.web_searches = seen.usage.web_searches.saturating_add(ran_there(&value["item"]));
    }
    responses_usage(seen, &value["response"]);
}

/// 1 for a call that the provider ran itself, 0 for one that is the caller's to run and for everything else.
fn ran_there(item: &Value) -> u64 {
    let kind = item["type"].as_str().unwrap_or_default();
    let by_caller = [
        "function_call",
        "custom_tool_call",
        "local_shell_call",
        "shell_call",
        "apply_patch_call",
        "computer_call",
        "tool_search_call",
    ];
    u64::from(kind.ends_with("_call") && !by_caller.contains(&kind))
}

fn responses_usage(seen: &mut Seen, response: &Value) {
    model(seen, &response["model"]);
    tier(seen, response);
    let output = response["output"].as_array().into_iter().flatten();
    let calls = seen.usage.web_searches.max(output.map(ran_there).sum());
    seen.usage.web_searches = calls;
    let stated = &response["usage"];
    if stated.is_object() {
        seen.usage = Usage {
            web_searches: calls,
            ..openai(
                stated,
                ["input_tokens", "input_tokens_details"],
                ["output_tokens", "output_tokens_details"],
            )
        };
        state(seen, true);
    }
}

/// Input includes what was cached. Some servers leave reasoning out of the output, and only the total shows it.
fn openai(stated: &Value, input: [&str; 2], output: [&str; 2]) -> Usage {
    let whole = tokens(&stated[input[0]]);
    let read = tokens(&stated[input[1]]["cached_tokens"])
        .max(tokens(&stated["prompt_cache_hit_tokens"]))
        .min(whole);
    let written = tokens(&stated[input[1]]["cache_write_tokens"]).min(whole - read);
    let out = tokens(&stated[output[0]]).max(tokens(&stated["total_tokens"]).saturating_sub(whole));
    Usage {
        input: whole - read - written,
        cache_read: read,
        cache_write: written,
        cache_write_1h: 0,
        output: out,
        reasoning: tokens(&stated[output[1]]["reasoning_tokens"]).min(out),
        web_searches: 0,
    }
}

fn messages(seen: &mut Seen, value: &Value) {
    match value["type"].as_str().unwrap_or_default() {
        "message_start" => {
            model(seen, &value["message"]["model"]);
            messages_usage(seen, &value["message"]["usage"]);
            state(seen, value["message"]["usage"].is_object());
        }
        "content_block_start" => show(seen, &value["content_block"]),
        "content_block_delta" => show(seen, &value["delta"]),
        "message_delta" => {
            seen.ended |= !value["delta"]["stop_reason"].is_null();
            messages_usage(seen, &value["usage"]);
            state(seen, value["usage"].is_object());
        }
        "message_stop" if seen.stated == Stated::Partly => {
            seen.ended = true;
            seen.stated = Stated::Finally;
        }
        _ => {}
    }
}

/// Input leaves out what was cached. The last event may repeat the input or leave it away.
fn messages_usage(seen: &mut Seen, stated: &Value) {
    let mut take = |field: &str, to: fn(&mut Usage) -> &mut u64| {
        if !stated[field].is_null() {
            *to(&mut seen.usage) = tokens(&stated[field]);
        }
    };
    take("input_tokens", |usage| &mut usage.input);
    take("cache_read_input_tokens", |usage| &mut usage.cache_read);
    take("cache_creation_input_tokens", |usage| &mut usage.cache_write);
    take("output_tokens", |usage| &mut usage.output);
    let usage = &mut seen.usage;
    let hour = &stated["cache_creation"]["ephemeral_1h_input_tokens"];
    if !hour.is_null() {
        usage.cache_write_1h = tokens(hour);
    }
    usage.cache_write_1h = usage.cache_write_1h.min(usage.cache_write);
    let thought = &stated["output_tokens_details"]["thinking_tokens"];
    if !thought.is_null() {
        usage.reasoning = tokens(thought).min(usage.output);
    }
    // One count for each tool that ran at the provider.
    if let Some(tools) = stated["server_tool_use"].as_object() {
        usage.web_searches = tools.values().map(tokens).fold(0, u64::saturating_add);
    }
    tier(seen, stated);
}

fn gemini(seen: &mut Seen, value: &Value) {
    model(seen, &value["modelVersion"]);
    for candidate in value["candidates"].as_array().into_iter().flatten() {
        show(seen, &candidate["content"]["parts"]);
        seen.ended |= !candidate["finishReason"].is_null();
        let queries = candidate["groundingMetadata"]["webSearchQueries"].as_array();
        let parts = candidate["content"]["parts"].as_array().into_iter().flatten();
        let ran = parts.filter(|part| part["executableCode"].is_object()).count();
        let calls = queries.map_or(0, Vec::len).saturating_add(ran) as u64;
        seen.usage.web_searches = seen.usage.web_searches.saturating_add(calls);
    }
    seen.ended |= !value["promptFeedback"]["blockReason"].is_null();
    let stated = &value["usageMetadata"];
    if !stated.is_object() {
        return;
    }
    let whole =
        tokens(&stated["promptTokenCount"]).saturating_add(tokens(&stated["toolUsePromptTokenCount"]));
    let read = tokens(&stated["cachedContentTokenCount"]).min(whole);
    let reasoning = tokens(&stated["thoughtsTokenCount"]);
    let out = tokens(&stated["candidatesTokenCount"])
        .saturating_add(reasoning)
        .max(tokens(&stated["totalTokenCount"]).saturating_sub(whole));
    seen.usage = Usage {
        input: whole - read,
        cache_read: read,
        output: out,
        reasoning: reasoning.min(out),
        web_searches: seen.usage.web_searches,
        ..Usage::default()
    };
    state(seen, true);
}
