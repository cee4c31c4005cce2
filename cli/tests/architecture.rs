//! The shape of the repository: who may depend on whom, how large a file and a function may be.
//!
//! A function over 80 lines says why in a comment that begins with `// long:` in the lines before it.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use syn::spanned::Spanned;
use syn::visit::Visit;

/// Which folders' crates the crates of a folder may use (DESIGN: the repository).
const ARROWS: [(&str, &[&str]); 8] = [
    ("proto", &[]),
    ("sandbox", &[]),
    ("history", &["proto"]),
    ("gateway", &["proto"]),
    ("runner", &["proto", "sandbox"]),
    ("backend", &["proto"]),
    (
        "cli",
        &["proto", "sandbox", "history", "gateway", "runner", "backend"],
    ),
    // Measures all of them; nothing depends on it.
    (
        "benches",
        &["proto", "sandbox", "history", "gateway", "runner", "backend"],
    ),
];

/// Lines a file has at most, without exception.
const HARD_LIMIT: usize = 800;
/// Lines a file has as a rule.
const RULE: usize = 500;
/// Lines a function has at most, unless it says why.
const FUNCTION_LIMIT: usize = 80;

/// Files over [`RULE`] lines, each with its reason.
const LONG_FILES: &[(&str, &str)] = &[];
/// Files that a program writes: nobody reads them from top to bottom.
const GENERATED: &[&str] = &["frontend/src/protocol/generated.ts"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn toml_of(path: &Path) -> toml::Table {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.parse().unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Member folders of the workspace with their manifests.
fn members() -> BTreeMap<String, toml::Table> {
    let workspace = toml_of(&root().join("Cargo.toml"));
    let names = workspace["workspace"]["members"].as_array().unwrap();
    let names = names.iter().map(|name| name.as_str().unwrap().to_owned());
    names
        .map(|name| (name.clone(), toml_of(&root().join(name).join("Cargo.toml"))))
        .collect()
}

/// The first part of a member's path: `sandbox` for `sandbox/guest`.
fn folder(member: &str) -> &str {
    member.split('/').next().unwrap()
}

/// Every dependency table of a manifest.
fn dependencies(manifest: &toml::Table) -> Vec<(String, toml::Value)> {
    let mut tables = vec![manifest.clone()];
    if let Some(targets) = manifest.get("target").and_then(toml::Value::as_table) {
        tables.extend(targets.values().filter_map(toml::Value::as_table).cloned());
    }
    let kinds = ["dependencies", "dev-dependencies", "build-dependencies"];
    let found = tables
        .iter()
        .flat_map(|table| kinds.iter().filter_map(|kind| table.get(*kind)?.as_table()));
    found
        .flat_map(|table| table.iter().map(|(name, value)| (name.clone(), value.clone())))
        .collect()
}

#[test]
fn crates_depend_only_along_the_arrows() {
    let members = members();
    let folder_of: BTreeMap<String, String> = members
        .iter()
        .map(|(member, manifest)| {
            (
                manifest["package"]["name"].as_str().unwrap().to_owned(),
                folder(member).to_owned(),
            )
        })
        .collect();
    let arrows: BTreeMap<&str, &[&str]> = ARROWS.into_iter().collect();
    let mut wrong = Vec::new();
    for (member, manifest) in &members {
        let own = folder(member);
        let allowed = arrows
            .get(own)
            .unwrap_or_else(|| panic!("{own}: a new folder needs a row in ARROWS"));
        for (name, _) in dependencies(manifest) {
            let Some(target) = folder_of.get(&name) else {
                continue;
            };
            if target != own && !allowed.contains(&target.as_str()) {
                wrong.push(format!("{member} must not depend on {name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn versions_stand_in_one_table_and_lints_hold_everywhere() {
    let mut wrong = Vec::new();
    for (member, manifest) in members() {
        let lints = manifest
            .get("lints")
            .and_then(|lints| lints.get("workspace"))
            .and_then(toml::Value::as_bool);
        if lints != Some(true) {
            wrong.push(format!("{member}: `[lints] workspace = true` is missing"));
        }
        for (name, value) in dependencies(&manifest) {
            if value.get("workspace").and_then(toml::Value::as_bool) != Some(true)
                || value.get("version").is_some()
            {
                wrong.push(format!(
                    "{member}: {name} has to take its version from the workspace"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every source file that people write, relative to the root.
fn sources() -> Vec<String> {
    let mut found = Vec::new();
    collect(&root(), &root(), &mut found);
    assert!(found.len() > 100, "only {} sources were found", found.len());
    found.sort();
    found
}

fn collect(root: &Path, directory: &Path, found: &mut Vec<String>) {
    const SKIPPED: [&str; 8] = [
        "target",
        "node_modules",
        "dist",
        "book",
        "artifacts",
        "generated",
        "snapshots",
        "gen",
    ];
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with('.') || path.is_symlink() {
            continue;
        }
        if path.is_dir() && !SKIPPED.contains(&name.as_str()) {
            collect(root, &path, found);
        } else if path
            .extension()
            .is_some_and(|e| ["rs", "ts", "tsx", "js", "mjs"].iter().any(|s| e == *s))
        {
            found.push(path.strip_prefix(root).unwrap().to_string_lossy().into_owned());
        }
    }
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap()
}

#[test]
fn files_are_short() {
    let excused: BTreeMap<&str, &str> = LONG_FILES.iter().copied().collect();
    let mut wrong = Vec::new();
    let mut long = BTreeSet::new();
    for file in sources() {
        if GENERATED.contains(&file.as_str()) {
            continue;
        }
        let lines = read(&file).lines().count();
        if lines > RULE {
            long.insert(file.clone());
        }
        if lines > HARD_LIMIT {
            wrong.push(format!("{file}: {lines} lines, at most {HARD_LIMIT}"));
        } else if lines > RULE && !excused.contains_key(file.as_str()) {
            wrong.push(format!(
                "{file}: {lines} lines; split it, or give the reason in LONG_FILES"
            ));
        }
    }
    for (file, reason) in LONG_FILES {
        assert!(!reason.is_empty());
        if !long.contains(*file) {
            wrong.push(format!(
                "{file} is no longer over {RULE} lines: take it out of LONG_FILES"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Finds the functions of a file that are too long and do not say why.
struct Functions<'a> {
    lines: Vec<&'a str>,
    long: Vec<String>,
    count: usize,
}

impl Functions<'_> {
    fn look(&mut self, name: &syn::Ident, whole: proc_macro2::Span, body: proc_macro2::Span) {
        self.count += 1;
        let length = body.end().line - body.start().line + 1;
        // The comment stands before the attributes, the documentation or the signature.
        let first = whole.start().line.saturating_sub(3).max(1);
        let excused = self.lines[first - 1..body.start().line]
            .iter()
            .any(|line| line.trim().starts_with("// long: "));
        if length > FUNCTION_LIMIT && !excused {
            self.long
                .push(format!("{name} (line {}): {length} lines", whole.start().line));
        }
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.look(&item.sig.ident, item.span(), item.block.span());
        syn::visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.look(&item.sig.ident, item.span(), item.block.span());
        syn::visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.look(&item.sig.ident, item.span(), block.span());
        }
        syn::visit::visit_trait_item_fn(self, item);
    }
}

fn functions(text: &str) -> Result<Functions<'_>, syn::Error> {
    let mut functions = Functions {
        lines: text.lines().collect(),
        long: Vec::new(),
        count: 0,
    };
    functions.visit_file(&syn::parse_file(text)?);
    Ok(functions)
}

#[test]
fn functions_are_short() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for file in sources()
        .into_iter()
        .filter(|file| Path::new(file).extension().is_some_and(|e| e == "rs"))
    {
        match functions(&read(&file)) {
            Ok(found) => {
                count += found.count;
                wrong.extend(found.long.iter().map(|function| format!("{file}: {function}")));
            }
            Err(error) => wrong.push(format!("{file} cannot be parsed: {error}")),
        }
    }
    assert!(count > 500, "only {count} functions were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_function_check_can_fail() {
    let body = "    work();\n".repeat(FUNCTION_LIMIT);
    let long = format!("fn f() {{\n{body}}}\n");
    assert_eq!(functions(&long).unwrap().long.len(), 1);
    assert!(
        functions(&format!("// long: a table\n{long}"))
            .unwrap()
            .long
            .is_empty()
    );
    let method = format!("struct S;\nimpl S {{\n{long}}}\n");
    assert_eq!(functions(&method).unwrap().long.len(), 1);
}
