//! The fields that decide, and the tools that run at the provider.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::value::RawValue;

use super::Asked;
use crate::dialect::{Dialect, WireError};

/// The tools that an administrator lets run at a provider, each with its price.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProviderTools(pub BTreeMap<String, u64>);

impl ProviderTools {
    /// What one call costs, in nano-dollars; none where the tool is not allowed.
    ///
    /// A name stands for its dated versions too: `web_search` for `web_search_20250305` and `web_search_preview`.
    pub fn price(&self, tool: &str) -> Option<u64> {
        let is_version = |rest: &str| {
            rest.strip_prefix('_')
                .is_some_and(|rest| rest.starts_with(|char: char| char.is_ascii_digit()) || rest == "preview")
        };
        self.0
            .iter()
            .find(|(name, _)| {
                tool.strip_prefix(name.as_str())
                    .is_some_and(|rest| rest.is_empty() || is_version(rest))
            })
            .map(|(_, price)| *price)
    }
}

/// A field that comes twice is an error, since parsers differ in which one they take.
#[derive(Deserialize)]
struct Peek<T> {
    model: Option<String>,
    stream: Option<bool>,
    store: Option<bool>,
    tools: Option<Vec<T>>,
    background: Option<bool>,
    prompt: Option<IgnoredAny>,
    mcp_servers: Option<Vec<IgnoredAny>>,
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

pub(super) fn read(dialect: Dialect, body: &[u8]) -> Result<Asked, WireError> {
    if dialect == Dialect::Gemini {
        return Ok(asked(dialect, peek::<Keyed>(body)?, keyed_tool));
    }
    Ok(asked(dialect, peek::<Typed>(body)?, |tool| {
        typed_tool(dialect, tool)
    }))
}

fn peek<T: DeserializeOwned>(body: &[u8]) -> Result<Peek<T>, WireError> {
    serde_json::from_slice(body).map_err(|error| unreadable(&error))
}

pub(super) fn unreadable(error: &serde_json::Error) -> WireError {
    WireError::invalid(format!("the request body cannot be read: {error}"))
}

fn asked<T>(dialect: Dialect, peek: Peek<T>, provider_side: impl Fn(&T) -> Option<String>) -> Asked {
    let mut tools: Vec<String> = peek.tools.iter().flatten().filter_map(provider_side).collect();
    if peek.mcp_servers.is_some_and(|servers| !servers.is_empty()) {
        tools.push("mcp_servers".to_owned());
    }
    if peek.web_search_options.is_some() {
        tools.push("web_search_options".to_owned());
    }
    Asked {
        model: peek.model,
        stream: peek.stream == Some(true),
        // Responses are kept unless the request says otherwise, chats only where it says so.
        keeps: match dialect {
            Dialect::Responses => peek.store != Some(false),
            Dialect::Chat => peek.store == Some(true),
            Dialect::Messages | Dialect::Gemini => true,
        },
        background: peek.background == Some(true),
        stored_prompt: dialect == Dialect::Responses && peek.prompt.is_some(),
        tools,
        ..Asked::default()
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
