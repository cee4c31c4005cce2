//! What differs between the four dialects: paths, errors, and where a key travels.

mod error;
mod route;
mod stored;

pub use error::WireError;
pub use route::{Operation, Route, RouteError, guess};
pub use stored::{Action, Stored};

use lodge_proto::control::Dialect as ProtoDialect;

/// The language a client speaks to a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dialect {
    /// `OpenAI` Chat Completions.
    Chat,
    /// `OpenAI` Responses.
    Responses,
    /// Anthropic Messages.
    Messages,
    /// Gemini `generateContent`.
    Gemini,
}

impl From<Dialect> for ProtoDialect {
    fn from(dialect: Dialect) -> Self {
        match dialect {
            Dialect::Chat => Self::OpenaiChat,
            Dialect::Responses => Self::OpenaiResponses,
            Dialect::Messages => Self::AnthropicMessages,
            Dialect::Gemini => Self::Gemini,
        }
    }
}
