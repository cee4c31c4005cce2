//! What a user typed into a search box, made safe: no part of it is ever read as a query expression.

use crate::request::Invalid;

const MAX_QUERY_BYTES: usize = 1024;
const MAX_TERMS: usize = 32;
/// The shortest term that an index of trigrams can find.
const MIN_CODE_TERM_CHARS: usize = 3;

/// The terms of a search, all of which must match. Text in double quotes is one term.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchText {
    terms: Vec<String>,
}

impl SearchText {
    /// Splits `query` (1 to 1024 bytes, at most 32 terms) into terms.
    pub fn parse(query: &str) -> Result<Self, Invalid> {
        if query.len() > MAX_QUERY_BYTES {
            return Err(Invalid::new(
                "query",
                format!("longer than {MAX_QUERY_BYTES} bytes"),
            ));
        }
        // A NUL would end the expression inside SQLite and leave its quote open.
        let clean: String = query
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let mut terms: Vec<String> = Vec::new();
        for (index, piece) in clean.split('"').enumerate() {
            if index % 2 == 1 {
                terms.push(piece.trim().to_owned());
            } else {
                terms.extend(piece.split_whitespace().map(str::to_owned));
            }
        }
        terms.retain(|term| !term.is_empty());
        if terms.is_empty() {
            return Err(Invalid::new("query", "empty"));
        }
        if terms.len() > MAX_TERMS {
            return Err(Invalid::new("query", format!("more than {MAX_TERMS} terms")));
        }
        Ok(Self { terms })
    }

    /// The terms as they were typed, without quotes.
    pub fn terms(&self) -> &[String] {
        &self.terms
    }

    /// Whether a term holds what only code has: punctuation inside a word. Such a search is one for substrings.
    pub fn looks_like_code(&self) -> bool {
        self.terms.iter().any(|term| {
            let trimmed = term.trim_matches(|c| matches!(c, '.' | ',' | '?' | '!' | ':' | ';' | '\''));
            trimmed
                .chars()
                .any(|c| !c.is_alphanumeric() && !c.is_whitespace() && !matches!(c, '\'' | '’'))
        })
    }

    /// The expression for the index of words; `None` when no term holds a word.
    pub(crate) fn prose_expression(&self) -> Option<String> {
        Self::all_of(
            self.terms
                .iter()
                .filter(|term| term.chars().any(char::is_alphanumeric)),
        )
    }

    /// The expression for the index of trigrams; `None` when every term is too short for it.
    pub(crate) fn code_expression(&self) -> Option<String> {
        Self::all_of(
            self.terms
                .iter()
                .filter(|term| term.chars().count() >= MIN_CODE_TERM_CHARS),
        )
    }

    fn all_of<'a>(terms: impl Iterator<Item = &'a String>) -> Option<String> {
        // Terms hold no double quote (it separates them), so that quoting is complete.
        let quoted: Vec<String> = terms.map(|term| format!("\"{term}\"")).collect();
        (!quoted.is_empty()).then(|| quoted.join(" AND "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> SearchText {
        SearchText::parse(query).unwrap()
    }

    #[test]
    fn terms_are_words_or_quoted_phrases() {
        assert_eq!(parse(" one  two ").terms(), ["one", "two"]);
        assert_eq!(
            parse("say \"hello big world\" now").terms(),
            ["say", "hello big world", "now"]
        );
        assert_eq!(
            parse("open \"quote never closed").terms(),
            ["open", "quote never closed"]
        );
        assert_eq!(parse("a\0b").terms(), ["a", "b"]);
    }

    #[test]
    fn operators_are_plain_terms() {
        let expression = parse("foo OR bar* NEAR(x").prose_expression().unwrap();
        assert_eq!(expression, r#""foo" AND "OR" AND "bar*" AND "NEAR(x""#);
    }

    #[test]
    fn code_is_told_from_prose() {
        for code in [
            "fn_name",
            "std::io",
            "a.b",
            "x->y",
            "call()",
            "--flag",
            "src/lib.rs",
        ] {
            assert!(parse(code).looks_like_code(), "{code}");
        }
        for prose in ["hello world", "don't", "what?", "end.", "Größe", "東京都"] {
            assert!(!parse(prose).looks_like_code(), "{prose}");
        }
    }

    #[test]
    fn empty_and_oversized_queries_are_refused() {
        for query in ["", "  ", "\"\"", "\0", &"x".repeat(1025), &"x ".repeat(33)] {
            assert!(SearchText::parse(query).is_err(), "{query:?}");
        }
        assert_eq!(parse("()").prose_expression(), None);
        assert_eq!(parse("()").code_expression(), None);
    }
}
