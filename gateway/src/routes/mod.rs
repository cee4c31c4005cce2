//! Where a model's requests go: aliases with their chains, and what policy does to a request by its model.

use crate::dialect::WireError;

/// All aliases and policies of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    pub aliases: Vec<Alias>,
    pub policies: Vec<ModelPolicy>,
}

/// A name that stands for models.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    /// Under whose path it is asked for.
    pub provider: String,
    pub name: String,
    /// In the order in which they are tried.
    pub targets: Vec<Target>,
}

/// A model of a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub provider: String,
    pub model: String,
}

impl Target {
    /// Reads `provider/model`; a model's name may hold further slashes.
    pub fn parse(text: &str) -> Option<Self> {
        let (provider, model) = text.split_once('/')?;
        (!provider.is_empty() && !model.is_empty()).then(|| Self {
            provider: provider.to_owned(),
            model: model.to_owned(),
        })
    }
}

/// What is done to requests for some models.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelPolicy {
    /// Globs.
    pub provider: String,
    pub model: String,
    pub deny: Option<String>,
    pub rewrite: Option<String>,
    /// Paths into the body, and JSON.
    pub set: Vec<(Vec<String>, String)>,
}

/// What becomes of a request at one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub target: Target,
    /// Fields that policy sets.
    pub set: Vec<(Vec<String>, String)>,
}

impl Routes {
    /// The alias of that name under a provider's path.
    pub fn alias(&self, provider: &str, name: &str) -> Option<&Alias> {
        self.aliases
            .iter()
            .find(|alias| alias.provider == provider && alias.name == name)
    }

    /// The policy with these very patterns.
    pub fn policy(&self, provider: &str, model: &str) -> Option<&ModelPolicy> {
        self.policies
            .iter()
            .find(|policy| policy.provider == provider && policy.model == model)
    }

    /// Where a request goes, in the order in which it is tried, or why it may go nowhere.
    ///
    /// Deny wins: for the name that was asked for, and for what it becomes. A denied target of a chain is left out; a
    /// chain of which nothing is left is denied.
    pub fn steps(&self, provider: &str, model: &str) -> Result<Vec<Step>, WireError> {
        let asked = Target {
            provider: provider.to_owned(),
            model: model.to_owned(),
        };
        self.allowed(&asked)?;
        let alias = self.alias(provider, model);
        let targets = alias.map_or_else(|| vec![asked], |alias| alias.targets.clone());
        let mut denied = None;
        let mut steps = Vec::new();
        for target in targets {
            match self.step(target) {
                Ok(step) => steps.push(step),
                Err(error) => denied = Some(error),
            }
        }
        match denied {
            Some(error) if steps.is_empty() => Err(error),
            _ => Ok(steps),
        }
    }

    fn step(&self, mut target: Target) -> Result<Step, WireError> {
        self.allowed(&target)?;
        let mut set = Vec::new();
        let asked = target.clone();
        for policy in self.matching(&asked) {
            if let Some(model) = &policy.rewrite
                && target == asked
            {
                target.model.clone_from(model);
            }
            set.extend(policy.set.iter().cloned());
        }
        self.allowed(&target)?;
        Ok(Step { target, set })
    }

    fn matching<'a>(&'a self, target: &'a Target) -> impl Iterator<Item = &'a ModelPolicy> {
        self.policies
            .iter()
            .filter(|policy| glob(&policy.provider, &target.provider) && glob(&policy.model, &target.model))
    }

    fn allowed(&self, target: &Target) -> Result<(), WireError> {
        match self.matching(target).find_map(|policy| policy.deny.as_deref()) {
            None => Ok(()),
            Some(reason) => {
                let model: String = target
                    .model
                    .chars()
                    .filter(|char| !char.is_control())
                    .take(100)
                    .collect();
                let reason = if reason.is_empty() { "by policy" } else { reason };
                Err(WireError::forbidden(format!(
                    "the model `{model}` is not allowed: {reason}"
                )))
            }
        }
    }
}

/// Whether a text fits a pattern in which `*` stands for any text, the empty one included.
pub fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Target {
        Target::parse(text).unwrap()
    }

    fn policy(model: &str) -> ModelPolicy {
        ModelPolicy {
            provider: "*".into(),
            model: model.into(),
            deny: None,
            rewrite: None,
            set: Vec::new(),
        }
    }

    #[test]
    fn globs() {
        for (pattern, text, fits) in [
            ("*", "", true),
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*a", "a", false),
            ("abc", "abcd", false),
            ("", "x", false),
            ("claude-*-5", "claude-opus-5", true),
            ("claude-*-5", "claude-opus-5-5x", false),
        ] {
            assert_eq!(glob(pattern, text), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn chains_and_policies_as_a_table() {
        let routes = Routes {
            aliases: vec![Alias {
                provider: "a".into(),
                name: "best".into(),
                targets: vec![target("a/big"), target("b/x/y"), target("a/secret")],
            }],
            policies: vec![
                ModelPolicy {
                    deny: Some("not for us".into()),
                    ..policy("secret*")
                },
                ModelPolicy {
                    rewrite: Some("small".into()),
                    set: vec![(vec!["tier".into()], "1".into())],
                    ..policy("bi*")
                },
                ModelPolicy {
                    rewrite: Some("secret-2".into()),
                    ..policy("trick")
                },
            ],
        };
        let shown = |provider: &str, model: &str| {
            routes.steps(provider, model).map(|steps| {
                let shown = |step: Step| {
                    (
                        format!("{}/{}", step.target.provider, step.target.model),
                        step.set.len(),
                    )
                };
                steps.into_iter().map(shown).collect::<Vec<_>>()
            })
        };
        let ok = |steps: &[(&str, usize)]| {
            Ok(steps
                .iter()
                .map(|(text, set)| ((*text).to_owned(), *set))
                .collect())
        };
        assert_eq!(shown("a", "best"), ok(&[("a/small", 1), ("b/x/y", 0)]));
        assert_eq!(shown("b", "best"), ok(&[("b/best", 0)]));
        assert_eq!(shown("a", "big"), ok(&[("a/small", 1)]));
        for model in ["secret", "trick"] {
            let error = shown("a", model).unwrap_err();
            assert!(
                error.status == 403 && error.message.contains("not for us"),
                "{error:?}"
            );
        }
    }
}
