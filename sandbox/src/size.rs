//! Amounts of bytes as people write them: `1048576`, `"512K"`, `"2M"`, `"1G"`, and as Lodge prints them: `"2 GiB"`.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl Bytes {
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let unit = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let shift = match text[unit..].trim_start() {
            "" | "bytes" => 0,
            "K" | "KiB" => 10,
            "M" | "MiB" => 20,
            "G" | "GiB" => 30,
            _ => return None,
        };
        let count: u64 = text[..unit].parse().ok()?;
        count.checked_mul(1 << shift).map(Self)
    }
}

struct BytesVisitor;

impl Visitor<'_> for BytesVisitor {
    type Value = Bytes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of bytes such as 1048576, \"512K\", \"64M\" or \"2 GiB\"")
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Bytes, E> {
        u64::try_from(value)
            .map(Bytes)
            .map_err(|_| E::custom("a size cannot be negative"))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Bytes, E> {
        Ok(Bytes(value))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Bytes, E> {
        Bytes::parse(text).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BytesVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::Bytes;

    #[test]
    fn what_is_printed_can_be_written() {
        for (text, bytes) in [
            ("0", 0),
            ("1048576", 1 << 20),
            ("512K", 512 << 10),
            ("2GiB", 2 << 30),
            ("2 GiB", 2 << 30),
            ("3 MiB", 3 << 20),
            ("7 bytes", 7),
        ] {
            assert_eq!(Bytes::parse(text), Some(Bytes(bytes)), "{text}");
        }
        // A decimal unit would be another number.
        for text in ["", "G", "-1", "1.5G", "2GB", "2 g", "2 G iB", "99999999999G"] {
            assert_eq!(Bytes::parse(text), None, "{text}");
        }
    }
}
