//! Errors in the caller's dialect, so that a harness shows the reason instead of "unexpected response".

use serde_json::{Value, json};

use super::Dialect;

/// The codings of bodies that are accepted.
const CODINGS: &str = "gzip, br, zstd, deflate";
/// The code of an error about another one.
const UNKNOWN_CODING: &str = "unsupported_content_encoding";

/// An error before it is written in a dialect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireError {
    /// HTTP status.
    pub status: u16,
    /// The type word of Anthropic and `OpenAI` errors.
    pub kind: &'static str,
    /// The code word of `OpenAI` errors.
    pub code: Option<&'static str>,
    pub message: String,
    /// Seconds.
    pub retry_after: Option<String>,
    /// The provider may have begun to answer, and bill for it.
    pub maybe_billed: bool,
}

impl WireError {
    fn new(status: u16, kind: &'static str, message: String) -> Self {
        Self {
            status,
            kind,
            code: None,
            message,
            retry_after: None,
            maybe_billed: false,
        }
    }

    /// 400: the request is not what the dialect asks for.
    pub fn invalid(message: String) -> Self {
        Self::new(400, "invalid_request_error", message)
    }

    /// 401: no key, or not the key of this socket.
    pub fn unauthenticated(message: &str) -> Self {
        Self {
            code: Some("invalid_api_key"),
            ..Self::new(401, "authentication_error", message.to_owned())
        }
    }

    /// 403: understood and not allowed here.
    pub fn forbidden(message: String) -> Self {
        Self::new(403, "permission_error", message)
    }

    /// 402: a budget is used up. The words are those at which each dialect's clients stop instead of trying again.
    pub fn budget(message: String) -> Self {
        Self {
            code: Some("insufficient_quota"),
            ..Self::new(402, "insufficient_quota", message)
        }
    }

    /// 400: ended by hand. A status at which no client tries again, which would undo it.
    pub fn cancelled() -> Self {
        let message = "this request was ended by hand, in Lodge's list of requests under way; \
                       send it again if that was a mistake";
        Self {
            code: Some("request_cancelled"),
            ..Self::new(400, "invalid_request_error", message.to_owned())
        }
    }

    /// 429: too many for now.
    pub fn rate(message: String) -> Self {
        Self {
            code: Some("rate_limit_exceeded"),
            ..Self::new(429, "rate_limit_error", message)
        }
    }

    /// 503: the gateway cannot do its part.
    pub fn unavailable(message: String) -> Self {
        Self::new(503, "api_error", message)
    }

    /// 404: no such route, provider or model.
    pub fn not_found(message: String) -> Self {
        Self::new(404, "not_found_error", message)
    }

    /// 404: no such model.
    pub fn no_model(message: String) -> Self {
        Self {
            code: Some("model_not_found"),
            ..Self::not_found(message)
        }
    }

    /// 413: the body is over the limit.
    pub fn too_large(limit: usize) -> Self {
        Self::new(
            413,
            "request_too_large",
            format!("the request body is larger than {limit} bytes"),
        )
    }

    /// 413: what comes out of a compressed body is over the limit.
    pub fn unpacked_too_large(coding: &str, limit: usize) -> Self {
        let message = format!("the request body, {coding} taken off, is larger than {limit} bytes");
        Self::new(413, "request_too_large", message)
    }

    /// 415: the body is compressed in a way that is not known here.
    pub fn compressed(encoding: &str) -> Self {
        Self {
            code: Some(UNKNOWN_CODING),
            ..Self::new(
                415,
                "invalid_request_error",
                format!(
                    "request bodies with content-encoding `{encoding}` are not accepted; send them plain or with one of \
                     {CODINGS}"
                ),
            )
        }
    }

    /// 415: the body is not JSON by its own words.
    pub fn not_json(content_type: &str) -> Self {
        let message = format!(
            "request bodies with content-type `{content_type}` are not accepted; send JSON in UTF-8, as \
             `application/json`"
        );
        Self {
            code: Some("unsupported_content_type"),
            ..Self::new(415, "invalid_request_error", message)
        }
    }

    /// The codings that would be accepted, for the header that says so.
    pub fn accepts(&self) -> Option<&'static str> {
        (self.code == Some(UNKNOWN_CODING)).then_some(CODINGS)
    }

    /// 429: everything that could answer is to be left alone for a while.
    pub fn limited(message: String) -> Self {
        Self {
            code: Some("rate_limit_exceeded"),
            ..Self::new(429, "rate_limit_error", message)
        }
    }

    /// 503: everything that could answer fails.
    pub fn overloaded(message: String) -> Self {
        Self::new(503, "overloaded_error", message)
    }

    /// 502: the provider could not be reached, or answered with something that is not passed on.
    pub fn upstream(message: String) -> Self {
        Self::new(502, "api_error", message)
    }

    /// 504: the provider took too long.
    pub fn timeout(message: String) -> Self {
        Self::new(504, "timeout_error", message)
    }

    /// 408: the client took too long.
    pub fn slow_client(message: String) -> Self {
        Self::new(408, "timeout_error", message)
    }

    /// The same as an event in a stream of that dialect, which ends with it.
    pub fn event(&self, dialect: Dialect) -> String {
        let body = self.body(dialect);
        match dialect {
            Dialect::Messages => format!("event: error\ndata: {body}\n\n"),
            // Its clients take no other event for the end. Of its codes, this is one that they do not try again at.
            Dialect::Responses => {
                let error = json!({ "code": "invalid_prompt", "message": self.message });
                let response =
                    json!({ "object": "response", "status": "failed", "error": error, "output": [] });
                let failed = json!({ "type": "response.failed", "response": response });
                format!("event: response.failed\ndata: {failed}\n\n")
            }
            Dialect::Chat | Dialect::Gemini => format!("data: {body}\n\n"),
        }
    }

    /// The body of the HTTP answer.
    pub fn body(&self, dialect: Dialect) -> Value {
        let Self {
            status,
            kind,
            code,
            message,
            ..
        } = self;
        match dialect {
            Dialect::Messages => json!({
                "type": "error", "error": { "type": if *status == 402 { "billing_error" } else { kind }, "message": message }, "request_id": "req_lodge",
            }),
            Dialect::Gemini => json!({
                "error": { "code": status, "message": message, "status": google_status(*status) },
            }),
            Dialect::Chat | Dialect::Responses => json!({
                "error": { "message": message, "type": kind, "param": null, "code": code },
            }),
        }
    }
}

/// The canonical name Google's APIs give a status.
fn google_status(status: u16) -> &'static str {
    match status {
        400 | 413 | 415 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        402 | 403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        408 | 504 => "DEADLINE_EXCEEDED",
        429 => "RESOURCE_EXHAUSTED",
        502 | 503 | 529 => "UNAVAILABLE",
        _ => "INTERNAL",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_in_a_stream_is_one_event_with_its_message() {
        for (dialect, place) in [
            (Dialect::Chat, "/error/message"),
            (Dialect::Responses, "/response/error/message"),
            (Dialect::Messages, "/error/message"),
            (Dialect::Gemini, "/error/message"),
        ] {
            let event = WireError::cancelled().event(dialect);
            let (head, data) = event.split_once("data: ").unwrap();
            assert!(
                head.is_empty() || head.starts_with("event: ") && head.ends_with('\n'),
                "{event}"
            );
            let data: Value = serde_json::from_str(data.strip_suffix("\n\n").unwrap()).unwrap();
            let message = data.pointer(place).and_then(Value::as_str).unwrap();
            assert!(message.contains("ended by hand"), "{event}");
        }
    }
}
