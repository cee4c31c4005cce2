//! Forms that the agent asks to be filled in (`elicitation/create`): one question for each field, in turn.

use super::dialogs::respond;
use super::wire::{list, text};
use crate::fold::Cx;
use lodge_proto::input::{InputAnswer, InputKind, SelectOption};
use serde_json::{Map, Value, json};

pub(super) fn create(cx: &mut Cx<'_>, id: &Value, params: &Value) {
    let schema = params.get("requestedSchema").cloned().unwrap_or_default();
    let mut fields: Vec<Value> = schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(name, schema)| json!({ "name": name, "schema": schema }))
        .collect();
    if fields.is_empty() {
        fields.push(json!({ "schema": { "type": "boolean" } }));
    }
    let form = json!({ "message": params.get("message"), "fields": fields, "content": {} });
    next(cx, id, &form);
}

/// Asks for the first field that is not filled in, or answers the agent when there is none.
fn next(cx: &mut Cx<'_>, id: &Value, form: &Value) {
    let message = text(form, "message").map(str::to_owned);
    let Some(field) = list(form, "fields").first() else {
        let content = form.get("content").cloned().unwrap_or_default();
        return respond(cx, id, &json!({ "action": "accept", "content": content }));
    };
    let name = text(field, "name").unwrap_or("The agent asks");
    let schema = field.get("schema").cloned().unwrap_or_default();
    let title = text(&schema, "title").unwrap_or(name).to_owned();
    let described = text(&schema, "description").map(str::to_owned);
    let message = [message, described]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join("\n");
    let native = json!({ "id": id, "form": form });
    cx.ask(
        native,
        title,
        (!message.is_empty()).then_some(message),
        kind(&schema),
    );
}

fn kind(schema: &Value) -> InputKind {
    let (options, multiple) = match text(schema, "type") {
        Some("boolean") => return InputKind::Confirm {},
        Some("array") => (options(schema.get("items").unwrap_or(&Value::Null)), true),
        _ => (options(schema), false),
    };
    if options.is_empty() {
        let default = schema.get("default").filter(|default| !default.is_null());
        let placeholder =
            default.map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        return InputKind::Input { placeholder };
    }
    InputKind::Select { options, multiple }
}

fn options(schema: &Value) -> Vec<SelectOption> {
    let plain = list(schema, "enum")
        .iter()
        .filter_map(Value::as_str)
        .map(|value| (value, value));
    let titled = list(schema, "oneOf")
        .iter()
        .chain(list(schema, "anyOf"))
        .filter_map(|option| {
            let value = text(option, "const")?;
            Some((value, text(option, "title").unwrap_or(value)))
        });
    plain
        .chain(titled)
        .map(|(value, label)| SelectOption {
            value: value.to_owned(),
            label: label.to_owned(),
            description: None,
        })
        .collect()
}

/// Takes the answer to the first field and goes on.
pub(super) fn answer(cx: &mut Cx<'_>, native: &Value, answer: &InputAnswer) {
    let id = native.get("id").cloned().unwrap_or_default();
    let mut form = native.get("form").cloned().unwrap_or_default();
    let field = form
        .get_mut("fields")
        .and_then(Value::as_array_mut)
        .filter(|fields| !fields.is_empty())
        .map(|fields| fields.remove(0));
    let (Some(field), false) = (field, matches!(answer, InputAnswer::Cancelled {})) else {
        return respond(cx, &id, &json!({ "action": "cancel" }));
    };
    let schema = field.get("schema").cloned().unwrap_or_default();
    // Without a field the message itself was the question.
    if field.get("name").is_none() && *answer == (InputAnswer::Confirmed { yes: false }) {
        return respond(cx, &id, &json!({ "action": "decline" }));
    }
    if let (Some(name), Some(value)) = (text(&field, "name"), value(&schema, answer)) {
        let content = form.get_mut("content").and_then(Value::as_object_mut);
        content.unwrap_or(&mut Map::new()).insert(name.to_owned(), value);
    }
    next(cx, &id, &form);
}

/// The answer as the field's type wants it; `None` leaves the field out.
fn value(schema: &Value, answer: &InputAnswer) -> Option<Value> {
    match (answer, text(schema, "type")) {
        (InputAnswer::Confirmed { yes }, _) => Some((*yes).into()),
        (InputAnswer::Selected { values }, Some("array")) => Some(values.clone().into()),
        (InputAnswer::Selected { values }, _) => values.first().cloned().map(Value::from),
        (InputAnswer::Text { text }, Some("integer")) => text.trim().parse::<i64>().ok().map(Value::from),
        (InputAnswer::Text { text }, Some("number")) => text.trim().parse::<f64>().ok().map(Value::from),
        (InputAnswer::Text { text }, _) => (!text.is_empty()).then(|| text.clone().into()),
        _ => None,
    }
}
