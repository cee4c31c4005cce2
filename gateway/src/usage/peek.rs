//! Events that say nothing but more text, which are nearly all of a stream: their text is counted where it stands, and
//! nothing is built of them. All others are parsed whole.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::dialect::Dialect;

/// What such an event adds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Peeked<'a> {
    /// As [`super::Seen::visible`] counts.
    pub(super) visible: u64,
    pub(super) tier: Option<Cow<'a, str>>,
}

/// None where an event may say anything else, or cannot be read: that is for the parser to tell.
pub(super) fn text(dialect: Dialect, event: &[u8]) -> Option<Peeked<'_>> {
    // What is skipped would not be looked at.
    let event = std::str::from_utf8(event).ok()?;
    if !event.starts_with('{') {
        return None;
    }
    let (visible, tier) = match dialect {
        Dialect::Chat => {
            let chunk: Chunk<'_> = serde_json::from_str(event).ok()?;
            // The last one, or one with figures.
            if chunk.usage.is_some() || chunk.choices.ends {
                return None;
            }
            (chunk.choices.visible, chunk.service_tier)
        }
        Dialect::Messages => {
            let piece: Piece<'_> = serde_json::from_str(event).ok()?;
            (piece.kind == "content_block_delta").then(|| (shown(piece.delta), None))?
        }
        Dialect::Responses => {
            let piece: Piece<'_> = serde_json::from_str(event).ok()?;
            let is_text = piece.response.is_none() && piece.kind.rsplit('.').next() == Some("delta");
            is_text.then(|| (shown(piece.delta), None))?
        }
        // Figures are in each of its events.
        Dialect::Gemini => return None,
    };
    Some(Peeked { visible, tier })
}

/// One more for the event itself, as the parser counts.
fn shown(text: Option<Text>) -> u64 {
    text.map_or(0, |text| text.0.saturating_add(1))
}

/// Of a chat. A field of another type than it should have is for the parser, and so is one that comes twice.
#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(default)]
    choices: Choices,
    #[serde(borrow)]
    service_tier: Option<Cow<'a, str>>,
    usage: Option<IgnoredAny>,
}

/// Of Messages and Responses.
#[derive(Deserialize)]
struct Piece<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    delta: Option<Text>,
    response: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Choice {
    delta: Option<Text>,
    finish_reason: Option<IgnoredAny>,
}

/// All choices of a chunk together.
#[derive(Default)]
struct Choices {
    visible: u64,
    ends: bool,
}

impl<'de> Deserialize<'de> for Choices {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Self::default())
    }
}

impl<'de> Visitor<'de> for Choices {
    type Value = Self;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("choices")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Self, A::Error> {
        while let Some(choice) = items.next_element::<Choice>()? {
            self.visible = self.visible.saturating_add(shown(choice.delta));
            self.ends |= choice.finish_reason.is_some();
        }
        Ok(self)
    }
}

/// Bytes of all text in a value.
struct Text(u64);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Count).map(Self)
    }
}

struct Count;

impl<'de> Visitor<'de> for Count {
    type Value = u64;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_str<E>(self, text: &str) -> Result<u64, E> {
        Ok(text.len() as u64)
    }

    fn visit_bool<E>(self, _: bool) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_i64<E>(self, _: i64) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_u64<E>(self, _: u64) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_f64<E>(self, _: f64) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_unit<E>(self) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<u64, A::Error> {
        let mut sum = 0_u64;
        while let Some(Text(count)) = items.next_element()? {
            sum = sum.saturating_add(count);
        }
        Ok(sum)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<u64, A::Error> {
        let mut sum = 0_u64;
        while let Some((_, Text(count))) = fields.next_entry::<IgnoredAny, _>()? {
            sum = sum.saturating_add(count);
        }
        Ok(sum)
    }
}
