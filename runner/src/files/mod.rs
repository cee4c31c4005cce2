//! Files of a workspace, listed, read and written by guest init inside the session's sandbox.

use crate::guest::{self, Limits, Streams};
use lodge_guest::files::{Answer, Failure, FailureKind, MAX_WRITE, Request};
use lodge_proto::workspace::{FileContent, FileEntry, FileKind, FileListing, FileWritten};
use lodge_proto::{ErrorBody, ErrorCode};
use lodge_sandbox::plan::GUEST_INIT;
use std::time::Duration;

/// Entries of a directory that are shown.
const MAX_ENTRIES: u32 = 5000;
/// Bytes read at once, at most.
const MAX_READ: u32 = 1024 * 1024;
/// Bytes of an answer: a directory's names, or a slice of a file.
const MAX_ANSWER: usize = 8 * 1024 * 1024;
/// Longest path, in bytes.
const MAX_PATH: usize = 4096;
const TIME: Duration = Duration::from_secs(15);

type Result<T> = std::result::Result<T, ErrorBody>;

/// Result of `file.list`.
pub async fn list(streams: &Streams, path: String) -> Result<FileListing> {
    let request = Request::List {
        path: checked(&path)?,
        limit: MAX_ENTRIES,
    };
    match ask(streams, &request, &[]).await? {
        (Answer::Listing { entries, truncated }, _) => Ok(FileListing {
            path,
            entries: entries.into_iter().map(entry).collect(),
            truncated,
        }),
        (other, _) => Err(unexpected(&other)),
    }
}

fn entry(entry: lodge_guest::files::Entry) -> FileEntry {
    use lodge_guest::files::Kind;
    FileEntry {
        name: entry.name,
        kind: match entry.kind {
            Kind::File => FileKind::File,
            Kind::Directory => FileKind::Directory,
            Kind::Symlink => FileKind::Symlink,
            Kind::Special => FileKind::Special,
        },
        size: entry.size,
        modified: entry.modified,
        target: entry.target,
    }
}

/// Result of `file.read`. A slice ends before a character that it would cut.
pub async fn read(
    streams: &Streams,
    path: String,
    offset: Option<u64>,
    limit: Option<u32>,
) -> Result<FileContent> {
    let offset = offset.unwrap_or(0);
    let request = Request::Read {
        path: checked(&path)?,
        offset,
        limit: limit.unwrap_or(MAX_READ).clamp(1, MAX_READ),
    };
    match ask(streams, &request, &[]).await? {
        (Answer::Content { size, version }, bytes) => Ok(content(path, offset, size, version, bytes)),
        (other, _) => Err(unexpected(&other)),
    }
}

fn content(path: String, offset: u64, size: u64, version: String, mut bytes: Vec<u8>) -> FileContent {
    let end = offset + bytes.len() as u64;
    if let Err(error) = std::str::from_utf8(&bytes)
        && error.error_len().is_none()
        && error.valid_up_to() > 0
        && end < size
    {
        bytes.truncate(error.valid_up_to());
    }
    let end = offset + bytes.len() as u64;
    let binary = bytes.contains(&0);
    let text = String::from_utf8(bytes).ok().filter(|_| !binary);
    FileContent {
        path,
        size,
        version,
        binary: text.is_none(),
        text,
        offset,
        next_offset: (end < size).then_some(end),
    }
}

/// Result of `file.write`.
pub async fn write(
    streams: &Streams,
    path: String,
    text: &str,
    expected_version: Option<String>,
) -> Result<FileWritten> {
    if text.len() > MAX_WRITE {
        let message = format!(
            "text: at most {MAX_WRITE} bytes are written at once, these are {}",
            text.len()
        );
        return Err(ErrorBody::new(ErrorCode::InvalidArgument, message));
    }
    let request = Request::Write {
        path: checked(&path)?,
        size: text.len() as u64,
        expected_version,
    };
    match ask(streams, &request, text.as_bytes()).await? {
        (Answer::Written { size, version }, _) => Ok(FileWritten { path, size, version }),
        (other, _) => Err(unexpected(&other)),
    }
}

/// What the guest would refuse too, said without asking it.
fn checked(path: &str) -> Result<String> {
    let wrong = if path.len() > MAX_PATH {
        "is longer than 4096 bytes"
    } else if path.starts_with('/') {
        "is absolute; paths are relative to the workspace"
    } else if path.contains('\0') {
        "contains a NUL"
    } else {
        return Ok(path.to_owned());
    };
    Err(ErrorBody::new(
        ErrorCode::InvalidArgument,
        format!("path: it {wrong}"),
    ))
}

/// One request to `lodge-init files`: its first line is the request or answer, the rest the file's bytes.
async fn ask(streams: &Streams, request: &Request, body: &[u8]) -> Result<(Answer, Vec<u8>)> {
    let mut input = serde_json::to_vec(request).map_err(|error| internal(&error))?;
    input.push(b'\n');
    input.extend_from_slice(body);
    let argv = vec![GUEST_INIT.to_owned(), "files".to_owned()];
    let limits = Limits {
        output: MAX_ANSWER,
        time: TIME,
    };
    let finished = guest::run(streams, argv, Vec::new(), &input, limits).await?;
    let mut stdout = finished.stdout;
    let Some(end) = stdout.iter().position(|byte| *byte == b'\n') else {
        let message = format!("the sandbox did not answer: {}", finished.stderr);
        return Err(ErrorBody::new(ErrorCode::Unavailable, message));
    };
    let rest = stdout.split_off(end + 1);
    let answer: std::result::Result<Answer, Failure> =
        serde_json::from_slice(&stdout).map_err(|error| internal(&error))?;
    answer
        .map(|answer| (answer, rest))
        .map_err(|failure| refusal(&failure))
}

fn refusal(failure: &Failure) -> ErrorBody {
    let code = match failure.kind {
        FailureKind::NotFound => ErrorCode::NotFound,
        FailureKind::Invalid => ErrorCode::InvalidArgument,
        FailureKind::Denied => ErrorCode::SandboxDenied,
        FailureKind::Conflict => ErrorCode::Conflict,
        FailureKind::Full => ErrorCode::LimitExceeded,
        FailureKind::Other => ErrorCode::Unavailable,
    };
    ErrorBody::new(code, failure.message.clone())
}

/// The guest may run whatever it likes in place of an honest answer.
fn unexpected(answer: &Answer) -> ErrorBody {
    ErrorBody::new(
        ErrorCode::Unavailable,
        format!("the sandbox answered something else than what was asked: {answer:?}"),
    )
}

fn internal(error: &dyn std::fmt::Display) -> ErrorBody {
    ErrorBody::new(
        ErrorCode::Unavailable,
        format!("the sandbox's answer cannot be read: {error}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_ends_with_a_whole_character() {
        let bytes = "aä".as_bytes()[..2].to_vec();
        let slice = content("f".into(), 10, 100, "v".into(), bytes);
        assert_eq!((slice.text.as_deref(), slice.next_offset), (Some("a"), Some(11)));
        let whole = content("f".into(), 0, 3, "v".into(), "aä".into());
        assert_eq!((whole.text.as_deref(), whole.next_offset), (Some("aä"), None));
    }

    #[test]
    fn what_is_no_text_is_said_so() {
        for bytes in [&b"a\0b"[..], b"\xff\xfe", b"\xc3"] {
            let size = bytes.len() as u64;
            let slice = content("f".into(), 0, size, "v".into(), bytes.to_vec());
            assert!(slice.binary && slice.text.is_none(), "{bytes:?}");
        }
    }

    #[test]
    fn paths_are_relative() {
        for path in ["/etc/passwd", "a\0b"] {
            assert_eq!(checked(path).unwrap_err().code, ErrorCode::InvalidArgument);
        }
        assert!(
            checked("").is_ok() && checked("../x").is_ok(),
            "the guest refuses what leads out"
        );
    }
}
