//! The ids in an answer, at the places where only the provider writes.
//!
//! Never from text: what a model says is the guest's to choose, and an id it can have spoken would become its own.

use serde_json::Value;

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
pub(super) fn find(dialect: Dialect, value: &Value) -> Vec<&str> {
    match dialect {
        Dialect::Responses => responses(value),
        Dialect::Messages => messages(value),
        Dialect::Chat | Dialect::Gemini => Vec::new(),
    }
}

fn responses(value: &Value) -> Vec<&str> {
    let response = value.get("response").unwrap_or(value);
    let mut ids = Vec::new();
    if response["object"] == "response" {
        ids.extend(response["id"].as_str());
        let conversation = &response["conversation"];
        ids.extend(conversation.as_str().or_else(|| conversation["id"].as_str()));
    }
    let items = response["output"].as_array().into_iter().flatten();
    for item in items.chain(value.get("item")) {
        ids.extend(item["id"].as_str());
        ids.extend(item["container_id"].as_str());
        let parts = item["content"].as_array().into_iter().flatten();
        let annotations = parts.filter_map(|part| part["annotations"].as_array()).flatten();
        for annotation in annotations {
            // Of a file that a tool of the provider's has made; others are the guest's own words.
            if annotation["type"] == "container_file_citation" {
                ids.extend(annotation["file_id"].as_str());
            }
        }
    }
    ids
}

fn messages(value: &Value) -> Vec<&str> {
    let message = value.get("message").unwrap_or(value);
    let mut ids = Vec::new();
    ids.extend(message["container"]["id"].as_str());
    ids.extend(value["delta"]["container"]["id"].as_str());
    let blocks = message["content"].as_array().into_iter().flatten();
    for block in blocks.chain(value.get("content_block")) {
        let is_result = block["type"]
            .as_str()
            .is_some_and(|kind| kind.ends_with("code_execution_tool_result"));
        if is_result {
            let outputs = block["content"]["content"].as_array().into_iter().flatten();
            ids.extend(outputs.filter_map(|output| output["file_id"].as_str()));
        }
    }
    ids
}
