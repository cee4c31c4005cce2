//! The listing of `git status --porcelain=v2 --branch -z`.

use lodge_proto::workspace::{GitEntry, GitStatus};

/// Entries that are shown.
const MAX_ENTRIES: usize = 2000;

/// Reads the listing; what it does not know it passes over. A listing that was `cut` ends in the midst of an entry.
pub(super) fn parse(listing: &[u8], cut: bool) -> GitStatus {
    let mut status = GitStatus {
        repository: true,
        truncated: cut,
        ..GitStatus::default()
    };
    let end = if cut {
        listing.iter().rposition(|byte| *byte == 0).unwrap_or(0)
    } else {
        listing.len()
    };
    let text = String::from_utf8_lossy(&listing[..end]);
    let mut fields = text.split('\0').filter(|field| !field.is_empty());
    while let Some(field) = fields.next() {
        let Some((kind, rest)) = field.split_once(' ') else {
            continue;
        };
        let entry = match kind {
            "#" => {
                header(&mut status, rest);
                continue;
            }
            "1" => changed(rest, 6, None),
            "2" => changed(rest, 7, fields.next()),
            "u" => changed(rest, 8, None),
            "?" => Some(GitEntry {
                path: rest.to_owned(),
                original_path: None,
                index: "?".to_owned(),
                worktree: "?".to_owned(),
            }),
            _ => None,
        };
        if status.entries.len() == MAX_ENTRIES {
            status.truncated = true;
            break;
        }
        status.entries.extend(entry);
    }
    status
}

/// `branch.oid …`, `branch.head main`, `branch.upstream origin/main`, `branch.ab +1 -2`.
fn header(status: &mut GitStatus, text: &str) {
    let Some((name, value)) = text.split_once(' ') else {
        return;
    };
    match name {
        "branch.head" if value != "(detached)" => status.branch = Some(value.to_owned()),
        "branch.upstream" => status.upstream = Some(value.to_owned()),
        "branch.ab" => {
            for number in value.split(' ') {
                match number.split_at_checked(1) {
                    Some(("+", ahead)) => status.ahead = ahead.parse().unwrap_or(0),
                    Some(("-", behind)) => status.behind = behind.parse().unwrap_or(0),
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

/// `XY`, then `skip` fields, then the path, in which spaces may be.
fn changed(text: &str, skip: usize, original: Option<&str>) -> Option<GitEntry> {
    let mut parts = text.splitn(skip + 2, ' ');
    let states = parts.next()?;
    let path = parts.nth(skip)?;
    let mut letters = states.chars().map(String::from);
    Some(GitEntry {
        path: path.to_owned(),
        original_path: original.map(str::to_owned),
        index: letters.next()?,
        worktree: letters.next()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = "# branch.oid 1234\0# branch.head main\0# branch.upstream origin/main\0# branch.ab +3 -1\0\
        1 .M N... 100644 100644 100644 aaa bbb a file\0\
        2 R. N... 100644 100644 100644 aaa bbb R100 new name\0old name\0\
        u UU N... 100644 100644 100644 100644 aaa bbb ccc both\0\
        ? \u{1b}[31mnew\n\0! ignored\0";

    fn entry(path: &str, original: Option<&str>, states: &str) -> GitEntry {
        GitEntry {
            path: path.into(),
            original_path: original.map(Into::into),
            index: states[..1].into(),
            worktree: states[1..].into(),
        }
    }

    #[test]
    fn every_kind_of_line_is_read() {
        let status = parse(LISTING.as_bytes(), false);
        assert_eq!(status.branch.as_deref(), Some("main"));
        assert_eq!(status.upstream.as_deref(), Some("origin/main"));
        assert_eq!((status.ahead, status.behind, status.truncated), (3, 1, false));
        assert_eq!(
            status.entries,
            [
                entry("a file", None, ".M"),
                entry("new name", Some("old name"), "R."),
                entry("both", None, "UU"),
                entry("\u{1b}[31mnew\n", None, "??"),
            ]
        );
    }

    #[test]
    fn a_listing_that_was_cut_loses_only_its_last_entry() {
        let cut = &LISTING.as_bytes()[..LISTING.find("both").unwrap()];
        let status = parse(cut, true);
        assert_eq!((status.entries.len(), status.truncated), (2, true));
    }

    #[test]
    fn too_many_entries_are_said_so() {
        let listing = "? x\0".repeat(MAX_ENTRIES + 1);
        let status = parse(listing.as_bytes(), false);
        assert_eq!((status.entries.len(), status.truncated), (MAX_ENTRIES, true));
    }
}
