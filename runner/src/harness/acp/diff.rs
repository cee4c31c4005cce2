//! Changes of files as unified diffs.

use super::wire::{list, text};
use lodge_proto::part::Part;
use serde_json::Value;
use std::fmt::Write as _;

/// Unchanged lines around a change.
const CONTEXT: usize = 3;

/// The diffs of a tool's content item of type `diff`, of either version.
pub(super) fn parts(item: &Value) -> Vec<Part> {
    match (text(item, "path"), text(item, "newText")) {
        (Some(path), Some(new)) => {
            let old = text(item, "oldText");
            vec![Part::Diff {
                path: path.to_owned(),
                patch: unified(path, old, new),
            }]
        }
        _ => changes(item),
    }
}

/// Version 2: a list of changed files, and perhaps one patch with a section for each.
fn changes(item: &Value) -> Vec<Part> {
    let patch = item
        .pointer("/patch/text")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let sections = sections(patch);
    let changes = list(item, "changes");
    let one_each = sections.len() == changes.len();
    let mut parts = Vec::new();
    for (at, change) in changes.iter().enumerate() {
        let path = text(change, "path").unwrap_or_default().to_owned();
        let patch = match sections.get(at) {
            Some(section) if one_each => (*section).to_owned(),
            _ if at == 0 && !patch.is_empty() => patch.to_owned(),
            _ => summary(change, &path),
        };
        parts.push(Part::Diff { path, patch });
    }
    parts
}

/// A change without a patch, in the words of git.
fn summary(change: &Value, path: &str) -> String {
    let operation = text(change, "operation").unwrap_or("modify");
    let from = text(change, "oldPath").map(|old| format!("{operation} from {old}\n"));
    format!("{}{operation} {path}\n", from.unwrap_or_default())
}

fn sections(patch: &str) -> Vec<&str> {
    let mut starts: Vec<usize> = patch
        .match_indices("diff --git ")
        .map(|(at, _)| at)
        .filter(|at| *at == 0 || patch.as_bytes().get(at - 1) == Some(&b'\n'))
        .collect();
    starts.push(patch.len());
    starts
        .windows(2)
        .filter_map(|pair| patch.get(pair[0]..pair[1]))
        .collect()
}

/// A unified diff with one hunk: from the first changed line to the last. `old` is `None` for a new file.
pub(super) fn unified(path: &str, old: Option<&str>, new: &str) -> String {
    let before: Vec<&str> = old.unwrap_or_default().split_inclusive('\n').collect();
    let after: Vec<&str> = new.split_inclusive('\n').collect();
    let same = before.iter().zip(&after).take_while(|(a, b)| a == b).count();
    let rest = before.len().min(after.len()) - same;
    let tail = before
        .iter()
        .rev()
        .zip(after.iter().rev())
        .take(rest)
        .take_while(|(a, b)| a == b)
        .count();
    let from = same.saturating_sub(CONTEXT);
    let kept = tail.min(CONTEXT);
    let (old_end, new_end) = (before.len() - tail, after.len() - tail);
    let mut out = match old {
        Some(_) => format!("--- {path}\n+++ {path}\n"),
        None => format!("--- /dev/null\n+++ {path}\n"),
    };
    if old_end == same && new_end == same {
        return out;
    }
    let (old_lines, new_lines) = (old_end + kept - from, new_end + kept - from);
    let start = |lines: usize| if lines == 0 { from } else { from + 1 };
    let _ = writeln!(
        out,
        "@@ -{},{old_lines} +{},{new_lines} @@",
        start(old_lines),
        start(new_lines)
    );
    push(&mut out, ' ', &before[from..same]);
    push(&mut out, '-', &before[same..old_end]);
    push(&mut out, '+', &after[same..new_end]);
    push(&mut out, ' ', &before[old_end..old_end + kept]);
    out
}

fn push(out: &mut String, sign: char, lines: &[&str]) {
    for line in lines {
        out.push(sign);
        out.push_str(line);
        if !line.ends_with('\n') {
            out.push_str("\n\\ No newline at end of file\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_change_in_the_middle_keeps_three_lines_around_it() {
        let old = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";
        let new = old.replace("5\n", "five\n");
        let expected = "--- f\n+++ f\n@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n";
        assert_eq!(unified("f", Some(old), &new), expected);
    }

    #[test]
    fn new_files_and_files_without_a_last_line_feed() {
        assert_eq!(
            unified("f", None, "a\n"),
            "--- /dev/null\n+++ f\n@@ -0,0 +1,1 @@\n+a\n"
        );
        assert_eq!(
            unified("f", Some("data"), "other"),
            "--- f\n+++ f\n@@ -1,1 +1,1 @@\n-data\n\\ No newline at end of file\n+other\n\\ No newline at end of file\n"
        );
        assert_eq!(unified("f", Some("a\n"), "a\n"), "--- f\n+++ f\n");
    }

    #[test]
    fn repeated_lines_are_counted_once() {
        let patch = unified("f", Some("a\na\n"), "a\na\na\n");
        assert_eq!(patch, "--- f\n+++ f\n@@ -1,2 +1,3 @@\n a\n a\n+a\n");
    }

    #[test]
    fn a_patch_of_version_2_is_split_by_file() {
        let item = json!({
            "type": "diff",
            "changes": [{ "operation": "modify", "path": "/a" }, { "operation": "delete", "path": "/b" }],
            "patch": { "text": "diff --git /a /a\n+x\ndiff --git /b /b\n-y\n" },
        });
        let parts = parts(&item);
        assert_eq!(
            parts,
            [
                Part::Diff {
                    path: "/a".into(),
                    patch: "diff --git /a /a\n+x\n".into()
                },
                Part::Diff {
                    path: "/b".into(),
                    patch: "diff --git /b /b\n-y\n".into()
                },
            ]
        );
    }
}
