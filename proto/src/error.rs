//! The closed list of error codes, the same over WebSocket, HTTP, gRPC and as exit codes.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use ts_rs::TS;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, http $http:literal, exit $exit:literal, grpc $grpc:ident;)*) => {
        /// What kind of failure it is. Programs decide by this, people read the message.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, TS)]
        #[serde(rename_all = "snake_case")]
        pub enum ErrorCode {
            $($(#[$doc])* $name,)*
        }

        impl ErrorCode {
            /// Every code, in order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The code as it appears on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The HTTP status that carries this code.
            pub const fn http_status(self) -> u16 {
                match self { $(Self::$name => $http,)* }
            }

            /// The exit status of a command that failed with this code.
            pub const fn exit_code(self) -> u8 {
                match self { $(Self::$name => $exit,)* }
            }

            /// The gRPC status that carries this code.
            pub const fn grpc_code(self) -> tonic::Code {
                match self { $(Self::$name => tonic::Code::$grpc,)* }
            }
        }
    };
}

codes! {
    /// No such session, message, harness, file …
    NotFound = "not_found", http 404, exit 10, grpc NotFound;
    /// The actor has no right to this.
    Forbidden = "forbidden", http 403, exit 11, grpc PermissionDenied;
    /// Nobody is logged in, or the credential is no longer good.
    Unauthenticated = "unauthenticated", http 401, exit 12, grpc Unauthenticated;
    /// Something else is under way that excludes this.
    Busy = "busy", http 409, exit 13, grpc FailedPrecondition;
    /// The same client id with another payload, or a state that has moved on.
    Conflict = "conflict", http 409, exit 14, grpc Aborted;
    /// The request itself is wrong.
    InvalidArgument = "invalid_argument", http 400, exit 15, grpc InvalidArgument;
    /// This session's harness cannot do it; see the session's capabilities.
    UnsupportedByHarness = "unsupported_by_harness", http 422, exit 16, grpc Unimplemented;
    HarnessNotInstalled = "harness_not_installed", http 424, exit 17, grpc FailedPrecondition;
    HarnessCrashed = "harness_crashed", http 502, exit 18, grpc Internal;
    /// A wall of the sandbox is missing on this machine.
    SandboxUnavailable = "sandbox_unavailable", http 503, exit 19, grpc FailedPrecondition;
    SandboxDenied = "sandbox_denied", http 403, exit 20, grpc PermissionDenied;
    /// A bound of the sandbox's policy was crossed; `details` has `key`, `allowed` and `found`.
    LimitExceeded = "limit_exceeded", http 507, exit 27, grpc ResourceExhausted;
    BudgetExceeded = "budget_exceeded", http 402, exit 21, grpc ResourceExhausted;
    RateLimited = "rate_limited", http 429, exit 22, grpc ResourceExhausted;
    ProviderError = "provider_error", http 502, exit 23, grpc Unavailable;
    DeadlineExceeded = "deadline_exceeded", http 504, exit 24, grpc DeadlineExceeded;
    /// A part of Lodge does not answer.
    Unavailable = "unavailable", http 503, exit 25, grpc Unavailable;
    /// The turn is being written to history; try again in a moment.
    Persisting = "persisting", http 503, exit 26, grpc Unavailable;
    Internal = "internal", http 500, exit 70, grpc Internal;
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for ErrorCode {
    type Err = UnknownErrorCode;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .iter()
            .copied()
            .find(|code| code.as_str() == s)
            .ok_or_else(|| UnknownErrorCode(s.to_owned()))
    }
}

/// A code that is not on the list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no error code of the canonical protocol")]
pub struct UnknownErrorCode(pub String);

/// An error as it reaches a user: what was wrong, where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS, thiserror::Error)]
#[error("{message}")]
#[ts(optional_fields)]
pub struct ErrorBody {
    pub code: ErrorCode,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(type = "unknown")]
    pub details: Option<Value>,
}

impl ErrorBody {
    /// An error without details.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            details: None,
        }
    }

    /// The same error with details for programs.
    #[must_use]
    pub fn with_details(mut self, details: Value) -> Self {
        self.details = Some(details);
        self
    }
}

impl From<ErrorBody> for tonic::Status {
    fn from(error: ErrorBody) -> Self {
        Self::new(error.code.grpc_code(), error.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_and_exit_codes_are_unique_and_match_serde() {
        let mut names = HashSet::new();
        let mut exits = HashSet::new();
        for code in ErrorCode::ALL {
            assert!(names.insert(code.as_str()), "{code} twice");
            assert!(exits.insert(code.exit_code()), "{code} shares its exit code");
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
            assert_eq!(code.as_str().parse::<ErrorCode>().unwrap(), *code);
        }
    }
}
