//! What has to be done in the private home of an agent before it goes on with a conversation.

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::fs::{openat, openat2, renameat_with, statat};
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Where Gemini keeps the conversations of its projects.
const GEMINI_PROJECTS: &str = ".gemini/tmp";
/// How it begins the names of their files; the time follows.
const GEMINI_PREFIX: &str = "session-";
/// How they begin once they were put out of its way.
const KEPT_PREFIX: &str = "session-kept-";
/// Entries of a directory that are looked at: the guest may have made any number.
const MOST: usize = 10_000;

/// Makes the home ready for the harness to be started again.
pub fn before_start(harness: &str, home: &Path) {
    if harness == "gemini"
        && let Err(error) = keep_gemini(home)
    {
        tracing::warn!(%error, "gemini may lose a conversation that it resumes within the minute it was begun in");
    }
}

/// Gemini names the file of a conversation by the minute, and begins it anew when it loads it within that minute. It
/// looks for conversations in every file, so under another name it finds this one and goes on in it.
fn keep_gemini(home: &Path) -> io::Result<()> {
    let home = openat(CWD, home, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let Some(projects) = directory(&home, Path::new(GEMINI_PROJECTS))? else {
        return Ok(());
    };
    for project in names(&projects, FileType::Directory)? {
        let Some(chats) = directory(&projects, &project.join("chats"))? else {
            continue;
        };
        for file in names(&chats, FileType::RegularFile)? {
            let name = file.as_os_str().as_bytes();
            let Some(rest) = name.strip_prefix(GEMINI_PREFIX.as_bytes()) else {
                continue;
            };
            if name.starts_with(KEPT_PREFIX.as_bytes()) {
                continue;
            }
            let kept = [KEPT_PREFIX.as_bytes(), rest].concat();
            // One of that name has the conversation; this one was only begun.
            if statat(&chats, kept.as_slice(), AtFlags::SYMLINK_NOFOLLOW).is_err() {
                renameat_with(&chats, &file, &chats, kept.as_slice(), RenameFlags::NOREPLACE)?;
            }
        }
    }
    Ok(())
}

/// A directory of the guest's, which may be none, or a link to somewhere else.
fn directory(at: impl AsFd, path: &Path) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    match openat2(at, path, flags, Mode::empty(), beneath) {
        Ok(directory) => Ok(Some(directory)),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn names(directory: &OwnedFd, kind: FileType) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in Dir::read_from(directory)?.take(MOST) {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if entry.file_type() == kind && !matches!(name, b"." | b"..") {
            found.push(PathBuf::from(OsStr::from_bytes(name)));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const NAME: &str = "session-2026-11-20T13-44-f82a21a6.jsonl";
    const KEPT: &str = "session-kept-2026-11-20T13-44-f82a21a6.jsonl";

    #[test]
    fn a_conversation_of_gemini_is_out_of_its_way_and_stays_there() {
        let home = tempfile::tempdir().unwrap();
        before_start("gemini", home.path());
        let chats = home.path().join(".gemini/tmp/w/chats");
        fs::create_dir_all(&chats).unwrap();
        fs::write(chats.join(NAME), "said").unwrap();
        fs::write(chats.join("other.jsonl"), "").unwrap();
        before_start("claude", home.path());
        assert!(chats.join(NAME).exists(), "no other agent's");
        before_start("gemini", home.path());
        assert_eq!(fs::read_to_string(chats.join(KEPT)).unwrap(), "said");
        // What the load began in its place does not replace it.
        fs::write(chats.join(NAME), "begun").unwrap();
        before_start("gemini", home.path());
        assert_eq!(fs::read_to_string(chats.join(KEPT)).unwrap(), "said");
        assert!(chats.join("other.jsonl").exists());
    }

    #[test]
    fn a_link_is_not_followed() {
        let (home, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir_all(other.path().join("chats")).unwrap();
        fs::write(other.path().join("chats").join(NAME), "").unwrap();
        let projects = home.path().join(".gemini/tmp");
        fs::create_dir_all(projects.join("w")).unwrap();
        std::os::unix::fs::symlink(other.path(), projects.join("linked")).unwrap();
        std::os::unix::fs::symlink(other.path().join("chats"), projects.join("w/chats")).unwrap();
        keep_gemini(home.path()).unwrap();
        assert!(other.path().join("chats").join(NAME).exists());
    }
}
