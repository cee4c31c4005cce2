//! Errors of agents, in words and with the code that they mean.

use super::wire::text;
use lodge_proto::{ErrorBody, ErrorCode};
use serde_json::Value;

/// The agent wants a login.
pub(super) const AUTH_REQUIRED: i64 = -32_000;
/// The request was cancelled.
pub(super) const CANCELLED: i64 = -32_800;

/// The code of a JSON-RPC error.
pub(super) fn code(error: &Value) -> i64 {
    error.get("code").and_then(Value::as_i64).unwrap_or_default()
}

/// What an agent says in an error. Agents differ in where they put the cause: the message, `data`, or the
/// provider's body inside either.
pub(super) fn body(error: &Value) -> ErrorBody {
    let data = error.get("data").cloned().unwrap_or_default();
    let message = text(error, "message").unwrap_or("no reason given");
    let detail = text(&data, "message")
        .or_else(|| text(&data, "details"))
        .or_else(|| data.as_str());
    let said = match detail {
        Some(detail) if message.is_empty() || message.starts_with("Internal error") => detail,
        _ => message.strip_prefix("Internal error: ").unwrap_or(message),
    };
    let (head, json) = said.split_at(said.find('{').unwrap_or(said.len()));
    let json: Value = serde_json::from_str(json).unwrap_or_default();
    let words = json
        .pointer("/error/message")
        .or_else(|| json.get("message"))
        .and_then(Value::as_str);
    let status = status(error, &data, head);
    let kind = kind(&data);
    let code = match status {
        _ if kind.contains("usage_limit")
            || kind.contains("billing")
            || said.contains("insufficient_quota") =>
        {
            ErrorCode::BudgetExceeded
        }
        Some(402) => ErrorCode::BudgetExceeded,
        Some(429) => ErrorCode::RateLimited,
        _ if kind.contains("rate_limit") => ErrorCode::RateLimited,
        // The request itself was wrong, or is not known.
        _ if matches!(self::code(error), -32_602..=-32_600) => ErrorCode::InvalidArgument,
        _ => ErrorCode::ProviderError,
    };
    let message = match (status, words) {
        (Some(status), Some(words)) => format!("the model provider answered {status}: {words}"),
        (None, Some(words)) => words.to_owned(),
        (_, None) => said.to_owned(),
    };
    ErrorBody::new(code, message)
}

/// The provider's status, wherever it stands.
fn status(error: &Value, data: &Value, head: &str) -> Option<u64> {
    let known = |status: u64| (400..600).contains(&status).then_some(status);
    let direct = error.get("code").and_then(Value::as_u64).and_then(known);
    let word = || {
        head.split(|c: char| !c.is_ascii_digit())
            .filter(|word| word.len() == 3)
            .find_map(|word| word.parse().ok().and_then(known))
    };
    direct.or_else(|| find_status(data).and_then(known)).or_else(word)
}

fn find_status(data: &Value) -> Option<u64> {
    let object = data.as_object()?;
    let named = [
        "http_status_code",
        "httpStatusCode",
        "statusCode",
        "api_error_status",
    ];
    named
        .iter()
        .find_map(|name| object.get(*name).and_then(Value::as_u64))
        .or_else(|| object.values().find_map(find_status))
}

/// The agent's own name for the kind of error, in snake case as far as it goes.
fn kind(data: &Value) -> String {
    let named = ["errorKind", "codex_error_info", "codexErrorInfo", "errorName"];
    let kind = named.iter().find_map(|name| text(data, name)).unwrap_or_default();
    let mut snake = String::with_capacity(kind.len());
    for c in kind.chars() {
        if c.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}
