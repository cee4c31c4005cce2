//! The programs of a workspace that its settings name: a trusted setting that starts `./tools/server.py` is worth no more
//! than that file.
//!
//! It is a guess by words, wider than any harness reads: what looks like the path of a program and is one is taken. What
//! those programs load in their turn is not known here.

use super::Entry;
use std::collections::BTreeSet;

/// Longest settings that are looked through, bytes.
const MAX_SETTINGS: usize = 256 * 1024;
/// Paths that are tried.
const MAX_CANDIDATES: usize = 2_000;
/// How the names of settings end.
const SETTINGS: &[&str] = &[".json", ".jsonc", ".toml", ".yaml", ".yml", ".env"];
/// Text with settings before it.
const WITH_FRONT: &[&str] = &[".md"];
/// How the names of programs end that need not be executable.
const PROGRAMS: &[&str] = &[
    "bash", "cjs", "cts", "fish", "jar", "js", "jsx", "lua", "mjs", "mts", "php", "pl", "ps1", "py", "rb",
    "sh", "ts", "tsx", "wasm", "zsh",
];
/// Keys of settings that say what tools may touch: what they name is no program.
const OF_TOOLS: &[&str] = &[
    "permissions",
    "permission",
    "instructions",
    "contextFileName",
    "$schema",
];
/// Keys whose values may be directories of code.
const OF_DIRECTORIES: &[&str] = &["packages", "extensions", "plugin", "plugins"];

/// A path that may be a program.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate {
    /// Relative to the workspace.
    pub path: String,
    /// It may also be a directory of code.
    pub directory: bool,
}

impl Candidate {
    /// Whether a file of this mode at this path is a program.
    pub fn is_program(&self, mode: u32) -> bool {
        let ending = self.path.rsplit_once('.').map(|(_, ending)| ending);
        mode & 0o111 != 0 || ending.is_some_and(|ending| PROGRAMS.contains(&ending))
    }
}

/// Paths that these files may mean, in order.
pub fn candidates(entries: &[Entry]) -> Vec<Candidate> {
    let mut found = BTreeSet::new();
    for entry in entries
        .iter()
        .filter(|entry| entry.contents.len() <= MAX_SETTINGS)
    {
        let Ok(text) = std::str::from_utf8(&entry.contents) else {
            continue;
        };
        for (text, directory) in texts(&entry.path, text) {
            for word in text.split(is_no_part_of_a_path).filter(|word| !word.is_empty()) {
                let bases = ["", parent(&entry.path)];
                let paths = bases.iter().filter_map(|base| resolve(base, word));
                found.extend(paths.map(|path| Candidate { path, directory }));
                // An absolute path of this or of another machine, or one after a variable that holds the workspace.
                let tails = word.match_indices('/').map(|(at, _)| &word[at + 1..]);
                let tails = tails.filter_map(|tail| resolve("", tail));
                found.extend(tails.map(|path| Candidate { path, directory }));
            }
        }
        if found.len() > MAX_CANDIDATES {
            break;
        }
    }
    found.into_iter().take(MAX_CANDIDATES).collect()
}

/// The texts of a file that may name programs, and whether such a name may be a directory's.
fn texts(path: &str, text: &str) -> Vec<(String, bool)> {
    let ends = |endings: &[&str]| endings.iter().any(|ending| path.ends_with(ending));
    if ends(WITH_FRONT) {
        let front = text.strip_prefix("---").and_then(|text| text.split_once("\n---"));
        return front
            .map(|(front, _)| (front.to_owned(), false))
            .into_iter()
            .collect();
    }
    if !ends(SETTINGS) {
        return Vec::new();
    }
    match serde_json::from_str(text) {
        Ok(value) => {
            let mut found = Vec::new();
            strings(&value, false, &mut found);
            found
        }
        Err(_) => vec![(text.to_owned(), false)],
    }
}

fn strings(value: &serde_json::Value, directory: bool, found: &mut Vec<(String, bool)>) {
    use serde_json::Value;
    match value {
        Value::String(text) => found.push((text.clone(), directory)),
        Value::Array(items) => items.iter().for_each(|item| strings(item, directory, found)),
        Value::Object(map) => {
            for (key, value) in map.iter().filter(|(key, _)| !OF_TOOLS.contains(&key.as_str())) {
                strings(value, OF_DIRECTORIES.contains(&key.as_str()), found);
            }
        }
        _ => {}
    }
}

fn is_no_part_of_a_path(c: char) -> bool {
    !(c.is_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+' | '@' | '~'))
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// `word` seen from `base`, both in the workspace; `None` where that is outside, or the workspace itself.
fn resolve(base: &str, word: &str) -> Option<String> {
    if word.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in base.split('/').chain(word.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}
