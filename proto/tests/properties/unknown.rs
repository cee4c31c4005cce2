//! What this build does not know passes through unharmed; what it knows and cannot read is an error.

use super::events::{event_bodies, event_of};
use super::strategies::{extension, fields, parts_with, value};
use lodge_proto::{Event, EventBody, Message, Part};
use proptest::prelude::*;
use proptest::strategy::Union;
use serde_json::{Map, Value, json};

/// An event as a later version may send it.
fn later_event() -> BoxedStrategy<Value> {
    (
        any::<[u8; 16]>(),
        any::<u64>(),
        any::<u64>(),
        any::<bool>(),
        "[a-z]{1,9}[._][a-z]{1,9}",
        fields(),
    )
        .prop_map(|(id, seq, ts, in_turn, tag, mut fields)| {
            let id = uuid::Uuid::from_bytes(id).to_string();
            fields.insert("session_id".to_owned(), id.clone().into());
            fields.insert("seq".to_owned(), seq.into());
            fields.insert("ts".to_owned(), ts.into());
            if in_turn {
                fields.insert("turn_id".to_owned(), id.into());
            }
            fields.insert("event".to_owned(), format!("x_{tag}").into());
            Value::Object(fields)
        })
        .boxed()
}

fn later_part() -> BoxedStrategy<Value> {
    let name = prop_oneof!["x-[a-z]{1,9}", "later_[a-z]{1,9}"];
    (name, fields())
        .prop_map(|(name, mut fields)| {
            fields.insert("type".to_owned(), name.into());
            Value::Object(fields)
        })
        .boxed()
}

/// Decodes and encodes; the text must be the same but for the order of fields.
fn unharmed<T: serde::Serialize + serde::de::DeserializeOwned>(sent: &Value) -> Result<(), TestCaseError> {
    let text = sent.to_string();
    let read: T =
        serde_json::from_str(&text).map_err(|error| TestCaseError::fail(format!("{error}: {text}")))?;
    let passed_on = serde_json::to_string(&read).expect("encode");
    let passed_on: Value = serde_json::from_str(&passed_on).expect("JSON");
    prop_assert_eq!(passed_on.to_string(), text);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn unknown_events_pass(sent in later_event()) {
        let event: Event = serde_json::from_value(sent.clone()).expect("an event");
        prop_assert!(matches!(event.body, EventBody::Other(_)));
        prop_assert_eq!(event.body.tag(), sent["event"].as_str().unwrap());
        unharmed::<Event>(&sent)?;
    }

    #[test]
    fn unknown_parts_pass(sent in later_part()) {
        unharmed::<Part>(&sent)?;
    }

    /// However deep they lie: in the result of a tool, in a message, in an event.
    #[test]
    fn unknown_parts_pass_inside_others(part in later_part(), depth in 0usize..4) {
        let mut part = part;
        let id = uuid::Uuid::from_u128(7).to_string();
        for _ in 0..depth {
            part = json!({
                "type": "tool_result", "tool_call_id": id, "name": "t", "output": [part], "is_error": false,
            });
        }
        let message = json!({
            "id": id, "session_id": id, "turn_id": id, "index": 0, "role": "tool", "parts": [part],
            "harness": "pi", "created_at": 1, "version": 1,
        });
        unharmed::<Message>(&message)?;
        unharmed::<Event>(&json!({
            "session_id": id, "seq": 1, "ts": 1, "event": "stream.message_end", "message": message,
        }))?;
    }

    /// A known event that lacks a field, or has one of another type, is never taken for an unknown one.
    #[test]
    fn malformed_events_are_errors(
        event in event_of(Union::new(event_bodies()).boxed()),
        pick in any::<prop::sample::Index>(),
        drop in any::<bool>(),
    ) {
        let mut sent = object(serde_json::to_value(&event).unwrap());
        if let Some(field) = break_one(&mut sent, "event", REQUIRED_NOWHERE, pick, drop) {
            let text = Value::Object(sent).to_string();
            let read = serde_json::from_str::<Event>(&text);
            prop_assert!(read.is_err(), "without a good `{field}`: {text}\nread as {read:?}");
        }
    }

    #[test]
    fn malformed_parts_are_errors(
        part in Union::new(parts_with(&extension())),
        pick in any::<prop::sample::Index>(),
        drop in any::<bool>(),
    ) {
        prop_assume!(!matches!(part, Part::Other(_)));
        let mut sent = object(serde_json::to_value(&part).unwrap());
        if let Some(field) = break_one(&mut sent, "type", REQUIRED_NOWHERE, pick, drop) {
            let text = Value::Object(sent).to_string();
            let read = serde_json::from_str::<Part>(&text);
            prop_assert!(read.is_err(), "without a good `{field}`: {text}\nread as {read:?}");
        }
    }

    /// Whatever JSON arrives is read or refused.
    #[test]
    fn any_json_is_read_or_refused(sent in value()) {
        let text = sent.to_string();
        let _ = serde_json::from_str::<Event>(&text);
        let _ = serde_json::from_str::<Part>(&text);
        let _ = serde_json::from_str::<lodge_proto::Command>(&text);
        let _ = serde_json::from_str::<lodge_proto::relay::ToClient>(&text);
    }

    #[test]
    fn an_extension_needs_its_prefix(name in "[a-w][a-z-]{0,8}", fields in fields()) {
        prop_assert!(Part::extension(&name, fields).is_none());
    }
}

/// Fields that may be absent, or that hold any value: breaking them proves nothing.
const REQUIRED_NOWHERE: &[&str] = &[
    "turn_id",
    "error",
    "summary",
    "max_attempts",
    "context_tokens",
    "text?",
    "persisting",
    "truncated",
    "duration_ms",
    "remembered",
    "delta?",
    "redacted",
    "alt",
    "lines",
    "input",
    "arguments",
    "usage?",
];

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        other => panic!("{other} is no object"),
    }
}

/// Drops a required field, or gives it a value that none takes; answers which, if there is one.
fn break_one(
    fields: &mut Map<String, Value>,
    tag: &str,
    optional: &[&str],
    pick: prop::sample::Index,
    drop: bool,
) -> Option<String> {
    let event = fields
        .get(tag)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let optional_here: &[&str] = match event.as_str() {
        "tool.progress" => &["delta", "output"],
        "status" => &["text"],
        _ => &[],
    };
    let required: Vec<String> = fields
        .keys()
        .filter(|name| {
            *name != tag && !optional.contains(&name.as_str()) && !optional_here.contains(&name.as_str())
        })
        .cloned()
        .collect();
    if required.is_empty() {
        return None;
    }
    let field = required[pick.index(required.len())].clone();
    if drop {
        fields.remove(&field);
    } else {
        fields.insert(field.clone(), json!([{ "no": "such" }]));
    }
    Some(field)
}

#[test]
fn unknown_commands_and_malformed_ones_are_errors() {
    for text in [
        r#"{"id":"1","cmd":"session.explode"}"#,
        r#"{"id":"1","cmd":"prompt"}"#,
        r#"{"id":"1","cmd":"prompt","parts":"text"}"#,
        r#"{"id":"1"}"#,
        r#"{"cmd":"get_models"}"#,
        r#"{"id":1,"cmd":"get_models"}"#,
        r#"{"id":"1","cmd":"prompt","parts":[{"type":"text"}]}"#,
        r#"{"id":"1","cmd":"prompt","parts":[{"text":"no type"}]}"#,
        r#"{"id":"1","session_id":"no uuid","cmd":"abort"}"#,
        r#"{"id":"1","cmd":"session.subscribe","cursor":"1-2"}"#,
        "null",
        "[]",
        "",
    ] {
        let read = serde_json::from_str::<lodge_proto::Command>(text);
        assert!(read.is_err(), "{text} was read as {read:?}");
    }
}
