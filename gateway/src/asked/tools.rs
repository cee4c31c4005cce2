//! The fields that decide, and the tools that run at the provider.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::value::RawValue;

use super::Asked;
use crate::dialect::{Dialect, WireError};
use crate::json;
use crate::price::Count;

/// Calls of a tool that runs at the provider, where the request does not say.
pub const CALLS: u64 = 20;

/// Tools of Messages that have a limit of their own; the others have none.
const LIMITED: [&str; 3] = ["web_search", "web_fetch", "advisor"];

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
    max_tool_calls: Option<Count>,
    mcp_servers: Option<Vec<IgnoredAny>>,
    web_search_options: Option<IgnoredAny>,
}

/// A tool of three dialects.
#[derive(Deserialize)]
struct Typed {
    #[serde(rename = "type")]
    kind: Option<String>,
    max_uses: Option<Count>,
    /// Where a shell runs.
    environment: Option<Environment>,
}

#[derive(Deserialize)]
struct Environment {
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// A tool of Gemini's: one of its fields says what it is.
type Keyed = BTreeMap<String, Box<RawValue>>;

pub(super) fn read(dialect: Dialect, body: &[u8]) -> Result<Asked, WireError> {
    if dialect == Dialect::Gemini {
        return Ok(asked(dialect, peek::<Keyed>(body)?, |tool| {
            Some((keyed_tool(tool)?, CALLS))
        }));
    }
    Ok(asked(dialect, peek::<Typed>(body)?, |tool| {
        let uses = tool.max_uses.map_or(CALLS, |Count(uses)| uses);
        Some((typed_tool(dialect, tool)?, uses))
    }))
}

/// The body with a limit for every tool that runs at the provider, has none, and can have one; none where nothing is to be
/// added. Where there is no such field, [`CALLS`] is what such tools are known to keep to.
pub fn limited(dialect: Dialect, body: &[u8]) -> Option<Vec<u8>> {
    let tools = match dialect {
        Dialect::Messages | Dialect::Responses => peek::<Typed>(body).ok()?.tools?,
        Dialect::Chat | Dialect::Gemini => return None,
    };
    let mut ran_there = tools.iter().map(|tool| typed_tool(dialect, tool));
    if dialect == Dialect::Responses {
        let is_unlimited = peek::<IgnoredAny>(body).ok()?.max_tool_calls.is_none();
        let needs = is_unlimited && ran_there.any(|tool| tool.is_some());
        return needs.then(|| json::set(body, &["max_tool_calls"], &CALLS.to_string()).ok())?;
    }
    let needs: Vec<bool> = ran_there
        .zip(&tools)
        .map(|(name, tool)| {
            let can = |name: String| LIMITED.iter().any(|limited| name.starts_with(limited));
            tool.max_uses.is_none() && name.is_some_and(can)
        })
        .collect();
    if !needs.contains(&true) {
        return None;
    }
    let fields = json::fields(body).ok()?;
    let field = fields.iter().find(|field| field.name == "tools")?;
    let mut limited = body.to_vec();
    // From the last to the first, so that what was found stays where it is.
    let elements = json::elements(body, field.value.clone()).ok()?;
    for (range, _) in elements.into_iter().zip(needs).rev().filter(|(_, needs)| *needs) {
        let tool = json::set(&body[range.clone()], &["max_uses"], &CALLS.to_string()).ok()?;
        limited.splice(range, tool);
    }
    Some(limited)
}

fn peek<T: DeserializeOwned>(body: &[u8]) -> Result<Peek<T>, WireError> {
    serde_json::from_slice(body).map_err(|error| unreadable(&error))
}

pub(super) fn unreadable(error: &serde_json::Error) -> WireError {
    WireError::invalid(format!("the request body cannot be read: {error}"))
}

/// `provider_side`: the name of a tool that runs at the provider, and how often it may.
fn asked<T>(dialect: Dialect, peek: Peek<T>, provider_side: impl Fn(&T) -> Option<(String, u64)>) -> Asked {
    let found = peek.tools.iter().flatten().filter_map(provider_side);
    let (mut tools, mut uses): (Vec<String>, Vec<u64>) = found.unzip();
    for (name, is_asked) in [
        (
            "mcp_servers",
            peek.mcp_servers.is_some_and(|servers| !servers.is_empty()),
        ),
        ("web_search_options", peek.web_search_options.is_some()),
    ] {
        if is_asked {
            tools.push(name.to_owned());
            uses.push(CALLS);
        }
    }
    let calls = match dialect {
        _ if tools.is_empty() => 0,
        Dialect::Responses => peek.max_tool_calls.map_or(CALLS, |Count(calls)| calls),
        Dialect::Messages => uses.into_iter().fold(0, u64::saturating_add),
        Dialect::Chat | Dialect::Gemini => CALLS,
    };
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
        calls,
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
        // In a container of the provider's, unless it says that it is the caller's own.
        Dialect::Responses if kind == Some("shell") => tool
            .environment
            .as_ref()
            .is_none_or(|environment| environment.kind.as_deref() == Some("local")),
        Dialect::Responses => matches!(
            kind,
            Some("function" | "custom" | "namespace" | "local_shell" | "apply_patch" | "tool_search")
        ),
        Dialect::Gemini => false,
    };
    (!is_local).then(|| shown(kind.unwrap_or("without type")))
}

fn shown(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(60).collect()
}
