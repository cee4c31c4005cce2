//! How hard a model is to think: each vendor has its own words for it, and each generation of models other ones.

/// Google's word for a call that its model did not make, or whose signature is gone: without any, it is refused.
pub(super) const NOT_SIGNED: &str = "skip_thought_signature_validator";

/// Least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Effort {
    None,
    Minimal,
    Low,
    Medium,
    High,
    Xhigh,
    Max,
}

impl Effort {
    /// A word of any dialect.
    pub(super) fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "none" | "off" => Self::None,
            "minimal" => Self::Minimal,
            "low" => Self::Low,
            "medium" => Self::Medium,
            "high" => Self::High,
            "xhigh" => Self::Xhigh,
            "max" => Self::Max,
            _ => return None,
        })
    }

    /// From how many tokens there are to think with.
    pub(super) fn of_budget(tokens: u64) -> Self {
        match tokens {
            0 => Self::None,
            1..=4096 => Self::Low,
            4097..=16_384 => Self::Medium,
            _ => Self::High,
        }
    }

    /// Tokens to think with.
    pub(super) fn budget(self) -> u64 {
        match self {
            Self::None => 0,
            Self::Minimal => 1024,
            Self::Low => 4096,
            Self::Medium => 10_240,
            Self::High => 24_576,
            Self::Xhigh | Self::Max => 32_000,
        }
    }

    /// One of three words that every model which thinks knows; none for none.
    pub(super) fn word(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Minimal | Self::Low => Some("low"),
            Self::Medium => Some("medium"),
            Self::High | Self::Xhigh | Self::Max => Some("high"),
        }
    }
}

/// How a model of Anthropic's is told to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claude {
    /// It does not, or is not known.
    Not,
    /// By a number of tokens.
    Budget,
    /// By a word; it decides by itself how much. Other settings of sampling than its own are refused from 4.7 on.
    Adaptive { samples: bool },
}

impl Claude {
    pub(super) fn of(model: &str) -> Self {
        let Some(version) = model.contains("claude").then(|| version(model)).flatten() else {
            return Self::Not;
        };
        match version {
            (4, 6) => Self::Adaptive { samples: true },
            version if version > (4, 6) => Self::Adaptive { samples: false },
            version if version >= (3, 7) => Self::Budget,
            _ => Self::Not,
        }
    }
}

/// How a model of Google's is told to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gemini {
    Not,
    /// By a number of tokens, at least this many.
    Budget(u64),
    /// By a word. It refuses calls without what it signed them with.
    Level {
        knows_medium: bool,
    },
}

impl Gemini {
    pub(super) fn of(model: &str) -> Self {
        let Some(version) = model.contains("gemini").then(|| version(model)).flatten() else {
            return Self::Not;
        };
        let is_pro = model.contains("pro");
        match version {
            version if version >= (3, 0) => Self::Level {
                knows_medium: !is_pro || version > (3, 0),
            },
            version if version >= (2, 5) => Self::Budget(if is_pro { 128 } else { 0 }),
            _ => Self::Not,
        }
    }
}

/// Whether a model of `OpenAI`'s thinks, by its name.
pub(super) fn openai_thinks(model: &str) -> bool {
    let model = model.rsplit('/').next().unwrap_or(model);
    let is_o = model
        .strip_prefix('o')
        .is_some_and(|rest| rest.starts_with(|char: char| char.is_ascii_digit()));
    let is_chat = model.ends_with("-chat-latest");
    (is_o || model.contains("codex") || version(model).is_some_and(|version| version >= (5, 0))) && !is_chat
}

/// The first number of one or two digits in a name, and the one after it: 4.6 of `claude-opus-4-6`. Dates are longer.
fn version(model: &str) -> Option<(u32, u32)> {
    let mut numbers = model
        .split(|char: char| !char.is_ascii_alphanumeric())
        .map(|word| word.parse::<u32>().ok().filter(|_| word.len() <= 2))
        .skip_while(Option::is_none);
    let major = numbers.next()??;
    Some((major, numbers.next().flatten().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_by_name() {
        for (model, expected) in [
            ("claude-3-5-sonnet-20241022", Claude::Not),
            ("claude-3-7-sonnet-latest", Claude::Budget),
            ("claude-opus-4-20250514", Claude::Budget),
            ("claude-sonnet-4-5-20250929", Claude::Budget),
            ("claude-sonnet-4-6", Claude::Adaptive { samples: true }),
            ("claude-opus-5-5", Claude::Adaptive { samples: false }),
            ("anthropic/claude-opus-4.7", Claude::Adaptive { samples: false }),
            ("glm-4-9", Claude::Not),
            ("claude", Claude::Not),
        ] {
            assert_eq!(Claude::of(model), expected, "{model}");
        }
        for (model, expected) in [
            ("gemini-2.0-flash", Gemini::Not),
            ("gemini-2.5-flash", Gemini::Budget(0)),
            ("gemini-2.5-pro", Gemini::Budget(128)),
            ("gemini-3-pro-preview", Gemini::Level { knows_medium: false }),
            ("gemini-3.8-flash", Gemini::Level { knows_medium: true }),
            ("gemini-3.1-pro-preview", Gemini::Level { knows_medium: true }),
            ("gemma-3-27b", Gemini::Not),
        ] {
            assert_eq!(Gemini::of(model), expected, "{model}");
        }
        for (model, thinks) in [
            ("gpt-4.1", false),
            ("gpt-4o", false),
            ("o3", true),
            ("gpt-5.3-codex", true),
            ("gpt-5.6-sol", true),
            ("gpt-5-chat-latest", false),
            ("omni", false),
        ] {
            assert_eq!(openai_thinks(model), thinks, "{model}");
        }
    }

    #[test]
    fn words_and_budgets_agree() {
        for word in ["none", "low", "medium", "high"] {
            let effort = Effort::parse(word).unwrap();
            assert_eq!(Effort::of_budget(effort.budget()), effort, "{word}");
        }
        assert_eq!(Effort::parse("hard"), None);
    }
}
