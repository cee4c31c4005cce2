//! What several adapters have in common: names that Lodge gives, content of messages in Anthropic's manner, lines that
//! are none of a protocol.

use crate::fold::Cx;
use lodge_proto::ErrorCode;
use lodge_proto::part::Part;
use serde::Deserialize;
use serde_json::Value;

/// Prefix of the provider names that Lodge writes into the configuration of harnesses.
pub(super) const PROVIDER_PREFIX: &str = "lodge-";
/// Lines that are none of its protocol and were told to the user, per process.
const TOLD_GARBAGE: u32 = 5;
/// Characters of such a line that are shown.
const SHOWN_GARBAGE: usize = 80;

/// The provider of Lodge that a harness means.
pub(super) fn canonical_provider(provider: &str) -> &str {
    provider.strip_prefix(PROVIDER_PREFIX).unwrap_or(provider)
}

/// Lodge's name of a model, `provider/model`.
pub(super) fn canonical_model(provider: &str, id: &str) -> String {
    format!("{}/{id}", canonical_provider(provider))
}

/// Text of a prompt for a harness that has no reference to a file but its path, which it reads itself.
pub(super) fn prompt_text(parts: &[Part]) -> String {
    let texts: Vec<String> = parts
        .iter()
        .filter_map(|part| match part {
            Part::Text { text } => Some(text.clone()),
            Part::FileRef { path, lines: None } => Some(format!("@{path}")),
            Part::FileRef {
                path,
                lines: Some((first, last)),
            } => Some(format!("@{path} (lines {first} to {last})")),
            _ => None,
        })
        .collect();
    texts.join("\n")
}

/// Tells the user of a line that was not understood, the first few times. `told` counts them, `who` is the name of the
/// harness.
pub(super) fn garbage(cx: &mut Cx<'_>, told: &mut u32, who: &str, line: &[u8], why: &str) {
    *told = told.saturating_add(1);
    if *told > TOLD_GARBAGE {
        return;
    }
    let shown: String = String::from_utf8_lossy(line)
        .chars()
        .take(SHOWN_GARBAGE)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    cx.agent_error(
        ErrorCode::HarnessCrashed,
        format!("{who} wrote a line that is none of its protocol ({why}): {shown}"),
        true,
    );
}

/// The blocks that one harness knows.
pub(super) trait Known: Sized {
    fn of_text(text: String) -> Self;
    fn as_text(&self) -> Option<&str>;
}

/// Content of a message: a text or blocks.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub(super) enum Content<K> {
    Text(String),
    Blocks(Vec<Block<K>>),
}

impl<K> Default for Content<K> {
    fn default() -> Self {
        Self::Blocks(Vec::new())
    }
}

impl<K: Known> Content<K> {
    pub(super) fn blocks(self) -> Vec<Block<K>> {
        match self {
            Self::Text(text) if text.is_empty() => Vec::new(),
            Self::Text(text) => vec![Block::Known(K::of_text(text))],
            Self::Blocks(blocks) => blocks,
        }
    }

    /// All text of it, block by block.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Blocks(blocks) => {
                let texts: Vec<&str> = blocks.iter().filter_map(Block::text).collect();
                texts.join("\n")
            }
        }
    }
}

/// A block of content; what is not known is carried as it came.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub(super) enum Block<K> {
    Known(K),
    Other(Value),
}

impl<K: Known> Block<K> {
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Known(known) => known.as_text(),
            Self::Other(_) => None,
        }
    }
}
