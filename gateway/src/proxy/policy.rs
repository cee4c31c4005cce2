//! What a body may not ask for: stored objects of the provider's account, which are everybody's, and tools that
//! run at the provider, which would be a way out of a sandbox without network.
//!
//! The body is read beside the bytes that are forwarded, and read strictly: what cannot be read the one way a
//! provider could read it is refused.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::value::RawValue;

use crate::dialect::{Dialect, WireError};

/// The fields that decide. A field that comes twice is an error, since parsers differ in which one they take.
#[derive(Deserialize)]
struct Peek<T> {
    tools: Option<Vec<T>>,
    previous_response_id: Option<IgnoredAny>,
    conversation: Option<IgnoredAny>,
    background: Option<bool>,
    prompt: Option<IgnoredAny>,
    mcp_servers: Option<Vec<IgnoredAny>>,
    container: Option<IgnoredAny>,
    #[serde(rename = "cachedContent", alias = "cached_content")]
    cached: Option<IgnoredAny>,
    web_search_options: Option<IgnoredAny>,
}

/// A tool of three dialects.
#[derive(Deserialize)]
struct Typed {
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// A tool of Gemini's: one of its fields says what it is.
type Keyed = BTreeMap<String, Box<RawValue>>;

/// Why this body may not be forwarded.
pub fn refusal(dialect: Dialect, provider_tools: bool, body: &[u8]) -> Result<(), WireError> {
    if dialect == Dialect::Gemini {
        return check(&peek::<Keyed>(body)?, provider_tools, keyed_tool);
    }
    check(&peek::<Typed>(body)?, provider_tools, |tool| {
        typed_tool(dialect, tool)
    })
}

fn peek<T: DeserializeOwned>(body: &[u8]) -> Result<Peek<T>, WireError> {
    serde_json::from_slice(body)
        .map_err(|error| WireError::invalid(format!("the request body cannot be read: {error}")))
}

fn check<T>(
    peek: &Peek<T>,
    provider_tools: bool,
    provider_side: impl Fn(&T) -> Option<String>,
) -> Result<(), WireError> {
    let stored = [
        ("previous_response_id", peek.previous_response_id.is_some()),
        ("conversation", peek.conversation.is_some()),
        ("background", peek.background == Some(true)),
        ("prompt", peek.prompt.is_some()),
        ("container", peek.container.is_some()),
        ("cachedContent", peek.cached.is_some()),
    ];
    if let Some((field, _)) = stored.into_iter().find(|(_, is_set)| *is_set) {
        let message =
            format!("`{field}` refers to objects stored at the provider; this gateway does not pass it on");
        return Err(WireError::forbidden(message));
    }
    if provider_tools {
        return Ok(());
    }
    let servers = peek
        .mcp_servers
        .as_ref()
        .is_some_and(|servers| !servers.is_empty());
    let field = [
        ("mcp_servers", servers),
        ("web_search_options", peek.web_search_options.is_some()),
    ]
    .into_iter()
    .find_map(|(field, is_set)| is_set.then(|| field.to_owned()));
    match field.or_else(|| peek.tools.iter().flatten().find_map(provider_side)) {
        None => Ok(()),
        Some(name) => Err(WireError::forbidden(format!(
            "the tool `{name}` runs at the provider, outside the sandbox; an administrator can allow it with \
             `provider_tools = true`"
        ))),
    }
}

/// The name of a tool that runs at the provider. Unknown ones count as such.
fn keyed_tool(tool: &Keyed) -> Option<String> {
    let local = ["functionDeclarations", "function_declarations"];
    tool.keys()
        .find(|key| !local.contains(&key.as_str()))
        .map(|key| shown(key))
}

fn typed_tool(dialect: Dialect, tool: &Typed) -> Option<String> {
    let kind = tool.kind.as_deref();
    let is_local = match dialect {
        // No type, or `custom`: the caller's own. The others of this list are run by the caller too.
        Dialect::Messages => kind.is_none_or(|kind| {
            let run_by_caller = [
                "bash_",
                "text_editor_",
                "computer_",
                "memory_",
                "tool_search_tool_",
            ];
            kind == "custom" || run_by_caller.iter().any(|prefix| kind.starts_with(prefix))
        }),
        Dialect::Chat => matches!(kind, Some("function" | "custom")),
        Dialect::Responses => matches!(
            kind,
            Some(
                "function" | "custom" | "namespace" | "local_shell" | "shell" | "apply_patch" | "tool_search"
            )
        ),
        Dialect::Gemini => false,
    };
    (!is_local).then(|| shown(kind.unwrap_or("without type")))
}

fn shown(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(dialect: Dialect, body: &str) -> Option<(u16, String)> {
        refusal(dialect, false, body.as_bytes())
            .err()
            .map(|error| (error.status, error.message))
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
        }
    }

    #[test]
    fn ways_out_and_objects_of_others_do_not() {
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
            (
                Dialect::Responses,
                r#"{"previous_response_id":"resp_1"}"#,
                "previous_response_id",
            ),
            (Dialect::Responses, r#"{"background":true}"#, "background"),
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
                Dialect::Gemini,
                r#"{"cached_content":"cachedContents/1"}"#,
                "cachedContent",
            ),
            (
                Dialect::Chat,
                r#"{"web_search_options":{}}"#,
                "web_search_options",
            ),
        ] {
            let (status, text) = message(dialect, body).unwrap();
            assert!(status == 403 && text.contains(word), "{body}: {text}");
        }
        assert!(refusal(Dialect::Responses, true, br#"{"tools":[{"type":"web_search"}]}"#).is_ok());
    }

    #[test]
    fn what_parsers_could_read_differently_is_refused() {
        for body in [
            r#"{"tools":[],"tools":[{"type":"web_search"}]}"#,
            r#"{"tools":["#,
            "[]",
            "",
            "\u{feff}{}",
        ] {
            assert_eq!(message(Dialect::Responses, body).unwrap().0, 400, "{body}");
        }
    }
}
