//! What a run leaves behind in a workspace is named, and nothing that it leaves behind hurts the one who looks.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use lodge_sandbox::findings::{Baseline, Finding, FindingKind, MAX_DEPTH};

fn found(findings: &[Finding], kind: FindingKind) -> Vec<&str> {
    let of = findings.iter().filter(|finding| finding.kind == kind);
    of.map(|finding| finding.path.as_str()).collect()
}

fn workspace() -> (tempfile::TempDir, std::path::PathBuf) {
    let temp = tempfile::tempdir().expect("a workspace");
    let at = temp.path().join("workspace");
    fs::create_dir_all(at.join(".git/hooks")).expect("a workspace");
    fs::write(at.join(".git/config"), "[core]\n").expect("a workspace");
    fs::write(at.join("old"), "").expect("a workspace");
    (temp, at)
}

fn baseline(at: &Path) -> Baseline {
    Baseline::take(at, [".git/config", ".vscode", ".mcp.json"]).expect("a workspace")
}

#[test]
fn ordinary_work_is_not_reported() {
    let (_temp, at) = workspace();
    let before = baseline(&at);
    fs::create_dir_all(at.join("src/deep")).unwrap();
    fs::write(at.join("src/deep/main.rs"), "fn main() {}").unwrap();
    fs::write(at.join(".git/HEAD"), "x").unwrap();
    symlink("old", at.join("link")).unwrap();
    assert_eq!(before.changes().unwrap(), []);
}

#[test]
fn everything_that_acts_outside_is_reported() {
    let (temp, at) = workspace();
    let before = baseline(&at);
    fs::write(at.join(".git/config"), "[core]\nhooksPath = /tmp\n").unwrap();
    fs::write(at.join(".git/hooks/pre-commit"), "#!/bin/sh\n").unwrap();
    fs::create_dir_all(at.join("sub/.git/hooks")).unwrap();
    fs::write(at.join("sub/.git/hooks/post-checkout"), "x").unwrap();
    fs::create_dir(at.join("tree")).unwrap();
    fs::write(at.join("tree/.git"), "gitdir: /elsewhere").unwrap();
    fs::create_dir(at.join(".vscode")).unwrap();
    fs::write(at.join(".vscode/tasks.json"), "{}").unwrap();
    fs::write(at.join("sub/.envrc"), "x").unwrap();
    fs::write(temp.path().join("outside"), "x").unwrap();
    fs::hard_link(temp.path().join("outside"), at.join("hard")).unwrap();
    let _socket = UnixListener::bind(at.join("socket")).unwrap();
    fs::set_permissions(at.join("old"), fs::Permissions::from_mode(0o4755)).unwrap();
    let changes = before.changes().unwrap();
    assert_eq!(
        found(&changes, FindingKind::ControlFile),
        [".git/config", ".vscode", ".vscode/tasks.json", "sub/.envrc"]
    );
    assert_eq!(
        found(&changes, FindingKind::Hook),
        [".git/hooks/pre-commit", "sub/.git/hooks/post-checkout"]
    );
    assert_eq!(
        found(&changes, FindingKind::NestedRepository),
        ["sub/.git", "tree/.git"]
    );
    assert_eq!(found(&changes, FindingKind::HardLink), ["hard"]);
    assert_eq!(found(&changes, FindingKind::SpecialFile), ["socket"]);
    assert_eq!(found(&changes, FindingKind::SetUid), ["old"]);
    assert_eq!(before.changes().unwrap(), changes);
}

#[test]
fn a_write_through_an_old_hard_link_and_a_removed_control_file_are_reported() {
    let (temp, at) = workspace();
    fs::write(temp.path().join("outside"), "x").unwrap();
    fs::hard_link(temp.path().join("outside"), at.join("hard")).unwrap();
    let before = baseline(&at);
    assert_eq!(before.changes().unwrap(), []);
    assert_eq!(found(&before.standing(), FindingKind::HardLink), ["hard"]);
    fs::write(at.join("hard"), "longer").unwrap();
    fs::remove_file(at.join(".git/config")).unwrap();
    let changes = before.changes().unwrap();
    assert_eq!(found(&changes, FindingKind::HardLink), ["hard"]);
    assert_eq!(changes[0].detail, "was removed");
}

#[test]
fn detours_of_git_are_reported() {
    let (_temp, at) = workspace();
    let before = baseline(&at);
    for name in [".git/commondir", ".git/config.worktree", ".git/modules/m/config"] {
        fs::create_dir_all(at.join(name).parent().unwrap()).unwrap();
        fs::write(at.join(name), "x").unwrap();
    }
    for name in ["objects", "refs", "sub/objects", "sub/refs"] {
        fs::create_dir_all(at.join(name)).unwrap();
    }
    fs::write(at.join("HEAD"), "x").unwrap();
    fs::write(at.join("sub/HEAD"), "x").unwrap();
    let changes = before.changes().unwrap();
    assert_eq!(
        found(&changes, FindingKind::ControlFile),
        [".git/commondir", ".git/config.worktree", ".git/modules/m/config"]
    );
    assert_eq!(found(&changes, FindingKind::NestedRepository), [".", "sub"]);
}

#[test]
fn stand_ins_come_and_go_unreported() {
    let (_temp, at) = workspace();
    let before = baseline(&at);
    fs::create_dir(at.join(".vscode")).unwrap();
    assert_eq!(before.changes().unwrap(), []);
    let with = before.again().unwrap();
    fs::remove_dir(at.join(".vscode")).unwrap();
    assert_eq!(with.changes().unwrap(), []);
    fs::create_dir_all(at.join(".vscode/below")).unwrap();
    let changes = with.changes().unwrap();
    assert_eq!(
        found(&changes, FindingKind::ControlFile),
        [".vscode", ".vscode/below"]
    );
}

#[test]
fn names_are_shown_escaped() {
    let (_temp, at) = workspace();
    let before = baseline(&at);
    let name = std::ffi::OsStr::from_bytes(b"a\x1b]0;pwn\x07\nfake: line\xff");
    fs::create_dir_all(at.join(name).join(".git")).unwrap();
    let changes = before.changes().unwrap();
    let text = changes[0].to_string();
    assert!(!text.chars().any(char::is_control), "{text:?}");
    assert!(text.contains("\\u{1b}]0;pwn"), "{text}");
}

#[test]
fn links_are_not_followed_and_depth_is_bounded() {
    let (temp, at) = workspace();
    let before = baseline(&at);
    fs::create_dir_all(temp.path().join("other/.git/hooks")).unwrap();
    fs::write(temp.path().join("other/.git/hooks/x"), "").unwrap();
    symlink(temp.path().join("other"), at.join("out")).unwrap();
    assert_eq!(before.changes().unwrap(), []);
    let deep: std::path::PathBuf = (0..MAX_DEPTH + 2).map(|_| "d").collect();
    fs::create_dir_all(at.join(deep)).unwrap();
    assert_eq!(before.changes().unwrap()[0].kind, FindingKind::Truncated);
}

#[test]
fn a_workspace_that_is_a_link_is_refused() {
    let (temp, at) = workspace();
    symlink(&at, temp.path().join("link")).unwrap();
    assert!(Baseline::take(&temp.path().join("link"), [""; 0]).is_err());
}
