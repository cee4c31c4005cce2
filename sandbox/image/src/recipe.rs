//! The recipe: `[image]` of `dependencies.toml`, embedded and read strictly.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::error::ImageError;

const DEPENDENCIES: &str = include_str!("../../../dependencies.toml");
/// Rises when the steps of the build change, so that what an older program built is not taken for this one's.
const STEPS: u32 = 1;

/// What an image is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Debian's code name.
    pub suite: String,
    /// Seconds since 1970 that every time stamp in the image is cut to.
    pub epoch: u64,
    /// Groups that are taken when none are named.
    pub default: BTreeSet<String>,
    /// Packages by group.
    pub packages: BTreeMap<String, BTreeSet<String>>,
}

#[derive(Deserialize)]
struct Document {
    image: Recipe,
}

impl Recipe {
    /// The recipe of this program.
    pub fn embedded() -> Result<Self, ImageError> {
        Self::parse(DEPENDENCIES)
    }

    fn parse(text: &str) -> Result<Self, ImageError> {
        let refused = |reason: String| ImageError::Recipe { reason };
        let document: Document = toml::from_str(text).map_err(|error| refused(error.to_string()))?;
        let recipe = document.image;
        recipe.select(&recipe.default)?;
        let names = recipe.packages.values().flatten().chain([&recipe.suite]);
        for name in names {
            if !plain(name) {
                return Err(refused(format!("image: {name:?} is not a Debian name")));
            }
        }
        Ok(recipe)
    }

    /// The packages of `groups`.
    pub fn select(&self, groups: &BTreeSet<String>) -> Result<BTreeSet<&str>, ImageError> {
        let mut packages = BTreeSet::new();
        for name in groups {
            let group = self.packages.get(name).ok_or_else(|| ImageError::UnknownGroup {
                name: name.clone(),
                known: self.packages.keys().cloned().collect::<Vec<_>>().join(", "),
            })?;
            packages.extend(group.iter().map(String::as_str));
        }
        Ok(packages)
    }
}

/// Names go into a command line, separated by commas.
fn plain(name: &str) -> bool {
    let ok = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
    name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(ok)
}

/// All that decides what a build makes, apart from the versions in the archive.
#[derive(Debug, Serialize)]
pub(crate) struct Inputs<'a> {
    pub(crate) suite: &'a str,
    pub(crate) epoch: u64,
    pub(crate) packages: BTreeSet<&'a str>,
    /// Digest of the root that takes the place of the packages.
    pub(crate) from: Option<String>,
    /// Place and version.
    pub(crate) harnesses: Vec<(&'a str, &'a str)>,
    pub(crate) architecture: &'a str,
}

impl Inputs<'_> {
    pub(crate) fn digest(&self) -> Result<String, ImageError> {
        let text = serde_json::to_vec(&(STEPS, self))?;
        Ok(crate::digest::of_bytes(&text))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_embedded_recipe_is_sound() {
        let recipe = Recipe::embedded().unwrap();
        let packages = recipe.select(&recipe.default).unwrap();
        for wanted in ["bash", "ca-certificates", "curl", "git", "python3"] {
            assert!(packages.contains(wanted), "{wanted}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let unknown = BTreeSet::from(["games".to_owned()]);
        let error = Recipe::embedded().unwrap().select(&unknown).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("no package group `games`; groups are base"),
            "{error}"
        );
        for (text, part) in [
            (
                "[image]\nsuite = \"a\"\nepoch = 1\ndefault = []\ncolour = 1\n[image.packages]\n",
                "colour",
            ),
            (
                "[image]\nsuite = \"a\"\nepoch = 1\ndefault = []\n[image.packages]\nx = [\"git,--hook=x\"]\n",
                "git,--hook",
            ),
            (
                "[image]\nsuite = \"a\"\nepoch = 1\ndefault = [\"y\"]\n[image.packages]\n",
                "`y`",
            ),
        ] {
            let error = Recipe::parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn every_input_changes_the_digest() {
        let inputs = |packages: &[&'static str], harness: &'static str, from: Option<&str>| {
            Inputs {
                suite: "s",
                epoch: 1,
                packages: packages.iter().copied().collect(),
                from: from.map(str::to_owned),
                harnesses: vec![("pi", harness)],
                architecture: "amd64",
            }
            .digest()
            .unwrap()
        };
        let one = inputs(&["a", "b"], "1", None);
        assert_eq!(one, inputs(&["b", "a"], "1", None));
        for other in [
            inputs(&["a"], "1", None),
            inputs(&["a", "b"], "2", None),
            inputs(&["a", "b"], "1", Some("root")),
        ] {
            assert_ne!(one, other);
        }
    }
}
