//! Money in JSON: nano-dollars as a text of digits, because numbers in a browser are exact to 2^53 only.

use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serializer};

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
pub(crate) fn serialize<S: Serializer>(nanos: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(nanos)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().ok_or_else(|| {
        D::Error::custom("an amount is nano-dollars as a text of digits, such as \"5000000000\"")
    })
}
