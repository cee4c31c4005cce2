//! The Dockerfile and the recipe say the same.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use lodge_image::recipe::Recipe;

#[test]
fn the_dockerfile_installs_what_the_recipe_names() {
    let text = include_str!("../Dockerfile");
    let (_, rest) = text.split_once("--no-install-recommends").unwrap();
    let (list, _) = rest.split_once("&&").unwrap();
    let named: BTreeSet<&str> = list.split_whitespace().filter(|word| *word != "\\").collect();
    let recipe = Recipe::embedded().unwrap();
    assert_eq!(named, recipe.select(&recipe.default).unwrap());
    assert!(text.contains(&format!("debian:{}", recipe.suite)));
}
