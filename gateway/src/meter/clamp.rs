//! Asking for less: the one number in the body is replaced, or added where there is none; every other byte stays.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::dialect::Dialect;
use crate::json;
use crate::provider::Kind;

/// More bytes than a new limit takes.
pub(super) const ADDED: u64 = 64;

/// An answer of fewer tokens is of no use to anybody.
const LEAST: u64 = 256;

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    max_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    max_completion_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    max_output_tokens: Option<&'a RawValue>,
    #[serde(borrow, rename = "generationConfig")]
    generation: Option<Generation<'a>>,
    #[serde(borrow, rename = "generation_config")]
    snake: Option<Generation<'a>>,
    thinking: Option<Thinking>,
}

#[derive(Deserialize)]
struct Generation<'a> {
    #[serde(borrow, rename = "maxOutputTokens", alias = "max_output_tokens")]
    output: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Thinking {
    budget_tokens: Option<u64>,
}

/// The largest number up to `most` that fits; what fits, fits smaller too.
pub(super) fn most(most: u64, fits: impl Fn(u64) -> bool) -> u64 {
    let (mut low, mut high) = (0, most);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if fits(middle) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    low
}

/// The body with that limit of output: in the place where it has one, else in a new one at the end. None where it has two
/// places, or the rest would be of no use.
pub(super) fn output(dialect: Dialect, kind: Kind, body: &Bytes, tokens: u64) -> Option<Bytes> {
    let fields: Fields<'_> = serde_json::from_slice(body).ok()?;
    let field = match dialect {
        Dialect::Chat if fields.max_tokens.is_some() && fields.max_completion_tokens.is_some() => {
            return None;
        }
        Dialect::Chat => fields.max_completion_tokens.or(fields.max_tokens),
        Dialect::Responses => fields.max_output_tokens,
        Dialect::Messages => fields.max_tokens,
        Dialect::Gemini => {
            let config = fields.generation.as_ref().or(fields.snake.as_ref());
            config.and_then(|config| config.output)
        }
    };
    let thinks = fields
        .thinking
        .as_ref()
        .and_then(|thinking| thinking.budget_tokens)
        .unwrap_or(0);
    if tokens < LEAST || tokens <= thinks {
        return None;
    }
    let Some(field) = field else {
        return json::set(body, place(dialect, kind, &fields), &tokens.to_string())
            .ok()
            .map(Bytes::from);
    };
    let asked: u64 = field.get().parse().ok()?;
    if tokens > asked {
        return None;
    }
    let start = field.get().as_ptr() as usize - body.as_ptr() as usize;
    let end = start + field.get().len();
    let number = tokens.to_string();
    Some([&body[..start], number.as_bytes(), &body[end..]].concat().into())
}

/// Where the dialect has the limit.
fn place(dialect: Dialect, kind: Kind, fields: &Fields<'_>) -> &'static [&'static str] {
    match dialect {
        // The other one is refused by newer models there, and not known to most other servers.
        Dialect::Chat if kind == Kind::Openai => &["max_completion_tokens"],
        Dialect::Chat | Dialect::Messages => &["max_tokens"],
        Dialect::Responses => &["max_output_tokens"],
        Dialect::Gemini if fields.snake.is_some() => &["generation_config", "maxOutputTokens"],
        Dialect::Gemini => &["generationConfig", "maxOutputTokens"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_is_replaced_and_nothing_else() {
        for (dialect, body, expected) in [
            (
                Dialect::Messages,
                "{ \"max_tokens\" : 64000,\"x\":1e2, \"messages\":[{\"max_tokens\":64000}]}",
                "{ \"max_tokens\" : 500,\"x\":1e2, \"messages\":[{\"max_tokens\":64000}]}",
            ),
            (
                Dialect::Chat,
                "{\"max_completion_tokens\":9000}",
                "{\"max_completion_tokens\":500}",
            ),
            (
                Dialect::Gemini,
                "{\"generationConfig\":{\"maxOutputTokens\":9000,\"a\":1}}",
                "{\"generationConfig\":{\"maxOutputTokens\":500,\"a\":1}}",
            ),
        ] {
            assert_eq!(
                output(dialect, Kind::Openai, &Bytes::from(body), 500).unwrap(),
                expected
            );
        }
    }

    #[test]
    fn where_there_is_no_number_it_is_added_at_the_end() {
        for (dialect, kind, body, expected) in [
            (Dialect::Messages, Kind::Anthropic, "{}", "{\"max_tokens\":500}"),
            (
                Dialect::Chat,
                Kind::Openai,
                "{\"n\": 1e0 }",
                "{\"n\": 1e0,\"max_completion_tokens\":500 }",
            ),
            (
                Dialect::Chat,
                Kind::OpenaiCompatible,
                "{\"max_tokens\":null}",
                "{\"max_tokens\":500}",
            ),
            (
                Dialect::Responses,
                Kind::Openai,
                "{\"input\":\"x\"}",
                "{\"input\":\"x\",\"max_output_tokens\":500}",
            ),
            (
                Dialect::Gemini,
                Kind::Gemini,
                "{\"contents\":[]}",
                "{\"contents\":[],\"generationConfig\":{\"maxOutputTokens\":500}}",
            ),
            (
                Dialect::Gemini,
                Kind::Gemini,
                "{\"generation_config\":{\"topK\":1}}",
                "{\"generation_config\":{\"topK\":1,\"maxOutputTokens\":500}}",
            ),
        ] {
            assert_eq!(output(dialect, kind, &Bytes::from(body), 500).unwrap(), expected);
        }
    }

    #[test]
    fn what_would_be_of_no_use_is_not_asked_for() {
        for (body, tokens) in [
            ("{\"max_tokens\":64000}", 255),
            ("{\"max_tokens\":400}", 500),
            (
                "{\"max_tokens\":64000,\"thinking\":{\"budget_tokens\":32000}}",
                30000,
            ),
            ("{}", 255),
            ("{\"max_tokens\":1e5}", 500),
        ] {
            assert_eq!(
                output(Dialect::Messages, Kind::Anthropic, &Bytes::from(body), tokens),
                None,
                "{body}"
            );
        }
        let both = Bytes::from("{\"max_tokens\":9000,\"max_completion_tokens\":9000}");
        assert_eq!(output(Dialect::Chat, Kind::Openai, &both, 500), None);
    }

    #[test]
    fn the_most_that_fits() {
        assert_eq!(most(100, |number| number <= 37), 37);
        assert_eq!(most(100, |_| true), 100);
        assert_eq!(most(100, |number| number == 0), 0);
    }
}
