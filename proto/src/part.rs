//! Parts: what messages are made of.

use crate::error::ErrorCode;
use crate::ids::ToolCallId;
use crate::opaque::{Known, Opaque};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use ts_rs::TS;

/// Content that is stored apart and named by its hash; never carried inline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(optional_fields)]
pub struct BlobRef {
    /// SHA-256 of the bytes, 64 hexadecimal digits in lower case.
    pub hash: String,
    /// Media type, `image/png` for example.
    pub media_type: String,
    /// Bytes.
    #[ts(type = "number")]
    pub size: u64,
    /// Name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// State of one step of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum PlanStatus {
    Pending,
    InProgress,
    Completed,
}

/// One step of a plan or to-do list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(optional_fields)]
pub struct PlanEntry {
    pub content: String,
    pub status: PlanStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<String>,
}

/// One part of a message, tagged by `type`. Types that begin with `x-` are extensions: every layer carries
/// them and shows them as opaque.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "type", rename_all = "snake_case")]
#[ts(optional_fields)]
pub enum Part {
    Text {
        text: String,
    },
    Thinking {
        text: String,
        /// The provider keeps the content to itself.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        redacted: bool,
    },
    ToolCall {
        tool_call_id: ToolCallId,
        name: String,
        #[ts(type = "unknown")]
        input: Value,
    },
    ToolResult {
        tool_call_id: ToolCallId,
        name: String,
        output: Vec<Part>,
        is_error: bool,
    },
    Image {
        blob: BlobRef,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        alt: Option<String>,
    },
    Audio {
        blob: BlobRef,
    },
    Video {
        blob: BlobRef,
    },
    /// A file of the workspace, by its path relative to it.
    FileRef {
        path: String,
        /// First and last line, from 1.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lines: Option<(u32, u32)>,
    },
    Attachment {
        blob: BlobRef,
    },
    /// A change of one file as a unified diff.
    Diff {
        path: String,
        patch: String,
    },
    Plan {
        entries: Vec<PlanEntry>,
    },
    Error {
        code: ErrorCode,
        message: String,
    },
    #[serde(untagged)]
    #[ts(type = "{ type: `x-${string}` } & Record<string, unknown>")]
    Other(Opaque<PartTags>),
}

/// The part types this build knows.
#[derive(Debug, Clone, Copy)]
pub struct PartTags;

impl Known for PartTags {
    const TAG: &'static str = "type";
    const TAGS: &'static [&'static str] = &[
        "text",
        "thinking",
        "tool_call",
        "tool_result",
        "image",
        "audio",
        "video",
        "file_ref",
        "attachment",
        "diff",
        "plan",
        "error",
    ];
}

impl Part {
    /// A text part.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text { text: text.into() }
    }

    /// An extension part; `None` where `name` does not begin with `x-`.
    pub fn extension(name: &str, mut fields: serde_json::Map<String, Value>) -> Option<Self> {
        if !name.starts_with("x-") {
            return None;
        }
        fields.insert("type".into(), name.into());
        Opaque::new(fields).map(Self::Other)
    }

    /// The text of a text part.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text { text } => Some(text),
            _ => None,
        }
    }
}

/// The text parts of `parts`, joined by line feeds.
pub fn plain_text(parts: &[Part]) -> String {
    let texts: Vec<&str> = parts.iter().filter_map(Part::as_text).collect();
    texts.join("\n")
}
