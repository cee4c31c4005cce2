//! A project's text for its agent.
//!
//! `AGENTS.md` and its like are text, not code. Some harnesses read them only of a workspace that they trust with code
//! too; these find the text among their own user's instructions, in the private home.

use super::launch::HomeFile;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

/// Longer text is cut, bytes.
const LIMIT: u64 = 128 * 1024;

/// Where a harness reads its user's instructions, below the home, and which files of a workspace it is given there: the
/// first that has text.
const PLACES: &[(&str, &str, &[&str])] = &[
    ("codex", ".codex/AGENTS.md", &["AGENTS.md"]),
    ("claude", ".claude/CLAUDE.md", &["CLAUDE.md", "AGENTS.md"]),
    ("gemini", ".gemini/GEMINI.md", &["GEMINI.md", "AGENTS.md"]),
    ("opencode", ".config/opencode/AGENTS.md", &["AGENTS.md"]),
    ("opencode-acp", ".config/opencode/AGENTS.md", &["AGENTS.md"]),
];

/// The file for the home of a harness that does not read the workspace's by itself; empty where there is no text, so that
/// none of an earlier start remains. Blocking.
pub fn of_project(harness: &str, workspace: impl AsFd) -> Option<HomeFile> {
    let (_, path, names) = PLACES.iter().find(|(name, ..)| *name == harness)?;
    let text = names.iter().find_map(|name| read(workspace.as_fd(), name));
    Some(HomeFile {
        path: PathBuf::from(path),
        contents: text.unwrap_or_default(),
    })
}

/// The text of a plain file of the workspace. Links are followed as long as they stay in it.
fn read(workspace: BorrowedFd<'_>, name: &str) -> Option<String> {
    // Opening a pipe must not wait for its other end.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let file = rustix::fs::openat2(workspace, name, flags, Mode::empty(), resolve).ok()?;
    let file = File::from(file);
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(LIMIT).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    (!text.trim().is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn given(harness: &str, root: &std::path::Path) -> String {
        let workspace = File::open(root).unwrap();
        of_project(harness, &workspace).unwrap().contents
    }

    #[test]
    fn the_harnesss_own_name_comes_first_and_nothing_is_empty() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(given("claude", root.path()), "");
        std::fs::write(root.path().join("AGENTS.md"), "for all").unwrap();
        std::fs::write(root.path().join("CLAUDE.md"), " \n").unwrap();
        assert_eq!(given("claude", root.path()), "for all");
        std::fs::write(root.path().join("CLAUDE.md"), "for one").unwrap();
        assert_eq!(given("claude", root.path()), "for one");
        assert_eq!(given("codex", root.path()), "for all");
        assert!(of_project("pi", File::open(root.path()).unwrap()).is_none());
    }

    #[test]
    fn only_plain_files_of_the_workspace_are_read_and_not_without_end() {
        let root = tempfile::tempdir().unwrap();
        let (work, file) = (root.path().join("work"), root.path().join("work/AGENTS.md"));
        std::fs::create_dir(&work).unwrap();
        std::fs::write(root.path().join("secret"), "secret").unwrap();
        symlink("../secret", &file).unwrap();
        assert_eq!(given("codex", &work), "");
        std::fs::remove_file(&file).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &file, rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert_eq!(given("codex", &work), "");
        std::fs::remove_file(&file).unwrap();
        std::fs::write(work.join("docs.md"), "x".repeat(1 << 20)).unwrap();
        symlink("docs.md", &file).unwrap();
        assert_eq!(given("codex", &work).len() as u64, LIMIT);
    }
}
