//! The ids in an answer, at the places where only the provider writes.
//!
//! Never from text: what a model says is the guest's to choose, and an id it can have spoken would become its own.

use serde_json::Value;

use crate::asked::Kind;
use crate::dialect::Dialect;

/// What a line must hold to be read at all.
pub(super) fn needles(dialect: Dialect) -> &'static [&'static str] {
    match dialect {
        Dialect::Responses => &["\"id\"", "\"container_id\""],
        Dialect::Messages => &["\"container\"", "\"file_id\""],
        Dialect::Chat | Dialect::Gemini => &[],
    }
}

/// The ids of one event, or of a whole answer.
pub(super) fn find(dialect: Dialect, value: &Value) -> Vec<(Kind, &str)> {
    match dialect {
        Dialect::Responses => responses(value),
        Dialect::Messages => messages(value),
        Dialect::Chat | Dialect::Gemini => Vec::new(),
    }
}

/// The id in the answer to a request that makes an object of this kind; none where it says that it is another one.
pub(super) fn made(kind: Kind, value: &Value) -> Option<(Kind, &str)> {
    let is = |object: &str| value["object"] == object || value["type"] == object;
    match kind {
        // Gemini's have names in place of ids, those of files within the answer to an upload.
        Kind::Cache => name(value, "cachedContents/").map(|id| (kind, id)),
        Kind::File | Kind::Upload if value["file"].is_object() => {
            name(&value["file"], "files/").map(|id| (Kind::File, id))
        }
        Kind::File if is("file") => value["id"].as_str().map(|id| (kind, id)),
        Kind::Conversation if is("conversation") => value["id"].as_str().map(|id| (kind, id)),
        Kind::Container if is("container") => value["id"].as_str().map(|id| (kind, id)),
        _ => None,
    }
}

fn name<'a>(value: &'a Value, prefix: &str) -> Option<&'a str> {
    value["name"].as_str().filter(|name| name.starts_with(prefix))
}

fn responses(value: &Value) -> Vec<(Kind, &str)> {
    let response = value.get("response").unwrap_or(value);
    let mut ids = Vec::new();
    let mut add = |kind, id| ids.extend(Option::map(id, |id| (kind, id)));
    if response["object"] == "response" {
        add(Kind::Response, response["id"].as_str());
        let conversation = &response["conversation"];
        let id = conversation.as_str().or_else(|| conversation["id"].as_str());
        add(Kind::Conversation, id);
    }
    let items = response["output"].as_array().into_iter().flatten();
    for item in items.chain(value.get("item")) {
        add(Kind::Item, item["id"].as_str());
        add(Kind::Container, item["container_id"].as_str());
        let parts = item["content"].as_array().into_iter().flatten();
        let annotations = parts.filter_map(|part| part["annotations"].as_array()).flatten();
        for annotation in annotations {
            // Of a file that a tool of the provider's has made; others are the guest's own words.
            if annotation["type"] == "container_file_citation" {
                // It is in its container, and in no list of files.
                add(Kind::Item, annotation["file_id"].as_str());
            }
        }
    }
    ids
}

fn messages(value: &Value) -> Vec<(Kind, &str)> {
    let message = value.get("message").unwrap_or(value);
    let mut ids = Vec::new();
    let mut add = |kind, id| ids.extend(Option::map(id, |id| (kind, id)));
    add(Kind::Container, message["container"]["id"].as_str());
    add(Kind::Container, value["delta"]["container"]["id"].as_str());
    let blocks = message["content"].as_array().into_iter().flatten();
    for block in blocks.chain(value.get("content_block")) {
        let is_result = block["type"]
            .as_str()
            .is_some_and(|kind| kind.ends_with("code_execution_tool_result"));
        if is_result {
            let outputs = block["content"]["content"].as_array().into_iter().flatten();
            outputs.for_each(|output| add(Kind::File, output["file_id"].as_str()));
        }
    }
    ids
}
