//! The HTTP errors of the directive `err`.

use super::script::ErrKind;
use crate::dialect::{Dialect, WireError};

/// An HTTP error the script asked for.
#[derive(Clone, Debug)]
pub struct Fault {
    pub error: WireError,
    /// Only for this many requests with this message and key; then `items` is the answer.
    pub first: Option<u32>,
    /// With [`Fault::first`]: what the requests are counted by.
    pub message: String,
}

/// The error as this dialect's provider would send it.
pub(super) fn error(dialect: Dialect, kind: &ErrKind, retry_after: Option<String>) -> WireError {
    let messages = dialect == Dialect::Messages;
    let (status, kind, code, message) = match kind {
        ErrKind::Overloaded => (
            if messages { 529 } else { 503 },
            "overloaded_error",
            None,
            "Overloaded".to_owned(),
        ),
        ErrKind::Context => {
            let message = if messages {
                "prompt is too long: 250000 tokens > 200000 maximum"
            } else {
                "This model's maximum context length is 128000 tokens. However, your messages resulted in 250000 \
                 tokens."
            };
            (
                400,
                "invalid_request_error",
                Some("context_length_exceeded"),
                message.to_owned(),
            )
        }
        ErrKind::Quota => {
            let message = "You exceeded your current quota, please check your plan and billing details.";
            (
                429,
                "insufficient_quota",
                Some("insufficient_quota"),
                message.to_owned(),
            )
        }
        ErrKind::Status(status) => {
            let kind = match status {
                400 => "invalid_request_error",
                401 => "authentication_error",
                402 => "billing_error",
                403 => "permission_error",
                404 => "not_found_error",
                429 => "rate_limit_error",
                529 => "overloaded_error",
                _ => "api_error",
            };
            let code = (*status == 429).then_some("rate_limit_exceeded");
            (*status, kind, code, format!("scripted error {status}"))
        }
        ErrKind::Other(word) => (500, "api_error", None, format!("scripted error {word}")),
    };
    WireError {
        maybe_billed: false,
        status,
        kind,
        code,
        message,
        retry_after,
    }
}
