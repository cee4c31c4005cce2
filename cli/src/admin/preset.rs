//! What the name of a provider says about it, so that nobody has to look it up.

/// What is assumed of a provider unless options say otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Preset<'a> {
    pub(super) kind: &'a str,
    /// Empty: the usual one of the kind.
    pub(super) base_url: &'static str,
    /// A server on this machine that asks for no key.
    pub(super) is_local: bool,
}

/// What the name says; another name is its own kind.
pub(super) fn of(name: &str) -> Preset<'_> {
    let (base_url, is_local) = match name {
        "ollama" => ("http://127.0.0.1:11434/v1", true),
        "vllm" => ("http://127.0.0.1:8000/v1", true),
        "llama-cpp" => ("http://127.0.0.1:8080/v1", true),
        "openrouter" => ("https://openrouter.ai/api/v1", false),
        _ => {
            return Preset {
                kind: name,
                base_url: "",
                is_local: false,
            };
        }
    };
    Preset {
        kind: "openai_compatible",
        base_url,
        is_local,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_servers_on_this_machine_go_without_a_key() {
        for name in ["ollama", "vllm", "llama-cpp", "openrouter", "anthropic", "mine"] {
            let preset = of(name);
            assert_eq!(
                preset.is_local,
                preset.base_url.starts_with("http://127.0.0.1:"),
                "{name}"
            );
        }
        assert_eq!(
            (of("anthropic").kind, of("openrouter").kind),
            ("anthropic", "openai_compatible")
        );
    }
}
