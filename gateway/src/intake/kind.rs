//! What a body says it is: JSON in UTF-8, or nothing. A body that the provider might read in another way than it was
//! checked in is refused.

use hyper::HeaderMap;
use hyper::header::CONTENT_TYPE;

use crate::dialect::WireError;

/// Refuses everything that is no JSON by its own words.
pub(super) fn check(headers: &HeaderMap) -> Result<(), WireError> {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let Some(first) = values.next() else {
        return Ok(());
    };
    let text = first.to_str().unwrap_or("?");
    if values.next().is_none() && is_json(text) {
        return Ok(());
    }
    let shown: String = text.chars().filter(|char| !char.is_control()).take(60).collect();
    Err(WireError::not_json(&shown))
}

fn is_json(text: &str) -> bool {
    let mut parts = text.split(';');
    let essence = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_json = essence == "application/json"
        || essence
            .strip_prefix("application/")
            .is_some_and(|rest| rest.ends_with("+json"));
    is_json && parts.all(is_harmless)
}

/// Any parameter but a charset that would make other characters of the same bytes.
fn is_harmless(parameter: &str) -> bool {
    let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
    let value = value.trim().trim_matches('"');
    !name.trim().eq_ignore_ascii_case("charset")
        || ["utf-8", "utf8", "us-ascii"]
            .iter()
            .any(|good| value.eq_ignore_ascii_case(good))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_in_utf_8_or_nothing() {
        for (text, good) in [
            ("application/json", true),
            ("Application/JSON; charset=UTF-8", true),
            ("application/json;charset=\"utf-8\";v=1", true),
            ("application/vnd.api+json", true),
            ("application/json; charset=utf-16", false),
            ("application/json; charset=utf-7", false),
            ("text/plain", false),
            ("application/x-www-form-urlencoded", false),
            ("multipart/form-data; boundary=x", false),
            ("application/x-protobuf", false),
            ("", false),
        ] {
            assert_eq!(is_json(text), good, "{text}");
        }
        let mut twice = HeaderMap::new();
        assert!(check(&twice).is_ok());
        for _ in 0..2 {
            twice.append(CONTENT_TYPE, "application/json".parse().unwrap());
        }
        assert_eq!(check(&twice).unwrap_err().status, 415);
    }
}
