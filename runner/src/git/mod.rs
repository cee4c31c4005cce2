//! Git of a workspace, run inside the session's sandbox.
//!
//! A repository's configuration, hooks, filters and helpers are code of whoever wrote the workspace. None of them may
//! run on the host, so the host runs no Git on a workspace at all; what could start a program is switched off inside
//! too, so that looking at a state does not change it.

mod status;

use crate::guest::{self, Finished, Limits, Streams};
use lodge_proto::workspace::{GitDiff, GitStatus};
use lodge_proto::{ErrorBody, ErrorCode};
use std::time::Duration;

/// Bytes of a state's listing.
const MAX_STATUS: usize = 4 * 1024 * 1024;
/// Bytes of a diff that are shown.
const MAX_DIFF: usize = 1024 * 1024;
const TIME: Duration = Duration::from_secs(20);

/// Settings that a repository cannot override.
const SETTINGS: [&str; 8] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.untrackedCache=keep",
    "core.quotePath=false",
    "core.pager=cat",
    "protocol.ext.allow=never",
    "submodule.recurse=false",
    // The workspace may belong to another number inside than the guest has.
    "safe.directory=*",
];

/// `git` with these arguments.
fn command(arguments: &[&str]) -> Vec<String> {
    let mut argv = vec![
        "git".to_owned(),
        "--no-optional-locks".to_owned(),
        "--no-pager".to_owned(),
    ];
    for setting in SETTINGS {
        argv.extend(["-c".to_owned(), setting.to_owned()]);
    }
    argv.extend(arguments.iter().map(|&word| word.to_owned()));
    argv
}

fn environment() -> Vec<(String, String)> {
    [
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_OPTIONAL_LOCKS", "0"),
        ("LC_ALL", "C.UTF-8"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

async fn git(streams: &Streams, arguments: &[&str], output: usize) -> Result<Finished, ErrorBody> {
    let limits = Limits { output, time: TIME };
    guest::run(streams, command(arguments), environment(), &[], limits).await
}

fn failed(finished: &Finished) -> Option<ErrorBody> {
    let exit = finished.exit.as_ref()?;
    if exit.code == Some(0) {
        return None;
    }
    let message = match finished.stderr.lines().next() {
        Some(line) if !line.is_empty() => line.to_owned(),
        _ => format!("git ended with status {:?}, signal {:?}", exit.code, exit.signal),
    };
    Some(ErrorBody::new(ErrorCode::Unavailable, format!("git: {message}")))
}

fn is_no_repository(finished: &Finished) -> bool {
    let failed = finished.exit.as_ref().is_some_and(|exit| exit.code != Some(0));
    failed && finished.stderr.to_lowercase().contains("not a git repository")
}

/// Result of `git.status`.
pub async fn status(streams: &Streams) -> Result<GitStatus, ErrorBody> {
    let arguments = [
        "status",
        "--porcelain=v2",
        "--branch",
        "-z",
        "--untracked-files=normal",
        "--ignore-submodules=all",
    ];
    let finished = git(streams, &arguments, MAX_STATUS).await?;
    if is_no_repository(&finished) {
        return Ok(GitStatus::default());
    }
    if let Some(error) = failed(&finished) {
        return Err(error);
    }
    Ok(status::parse(&finished.stdout, finished.is_cut()))
}

/// Result of `git.diff`.
pub async fn diff(streams: &Streams, path: Option<&str>, staged: bool) -> Result<GitDiff, ErrorBody> {
    let mut arguments = vec![
        "diff",
        "--no-color",
        "--no-ext-diff",
        "--no-textconv",
        "--ignore-submodules=all",
    ];
    if staged {
        arguments.push("--cached");
    }
    // Whatever a path looks like, it is a path and no option, and no pattern.
    let literal = path.map(|path| format!(":(literal){path}"));
    arguments.push("--");
    arguments.extend(literal.as_deref());
    let finished = git(streams, &arguments, MAX_DIFF).await?;
    if is_no_repository(&finished) {
        let message = "the workspace is no Git repository";
        return Err(ErrorBody::new(ErrorCode::NotFound, message));
    }
    if let Some(error) = failed(&finished) {
        return Err(error);
    }
    let truncated = finished.is_cut();
    let text = String::from_utf8_lossy(&finished.stdout).into_owned();
    Ok(GitDiff { text, truncated })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_can_start_nothing() {
        let argv = command(&["status"]);
        for setting in [
            "core.hooksPath=/dev/null",
            "core.fsmonitor=false",
            "protocol.ext.allow=never",
        ] {
            let at = argv.iter().position(|word| word == setting).expect(setting);
            assert_eq!(argv[at - 1], "-c");
        }
        assert!(argv.contains(&"--no-optional-locks".to_owned()));
    }

    /// The host runs no Git: no part of Lodge but this module names the program, and this one hands it to the guest.
    #[test]
    fn no_part_of_lodge_starts_git_on_the_host() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let own = std::path::Path::new("runner/src/git");
        let mut found = Vec::new();
        let mut looked_at = 0;
        for part in [
            "backend", "cli", "gateway", "history", "proto", "runner", "sandbox",
        ] {
            sources(&root.join(part), &mut |path, text| {
                looked_at += 1;
                let inside = path.strip_prefix(&root).is_ok_and(|path| path.starts_with(own));
                let names_it = [
                    r#"new("git")"#,
                    r#""git".to_owned()"#,
                    "/bin/git",
                    "git2::",
                    "gix::",
                ];
                if !inside && names_it.iter().any(|name| text.contains(name)) {
                    found.push(path.to_owned());
                }
            });
        }
        assert!(looked_at > 100, "{looked_at} files");
        assert_eq!(found, Vec::<std::path::PathBuf>::new());
    }

    /// Every source file of a part, without its tests.
    fn sources(directory: &std::path::Path, see: &mut impl FnMut(&std::path::Path, &str)) {
        for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let name = entry.file_name();
            if path.is_dir() && name != "tests" && name != "target" && name != "node_modules" {
                sources(&path, see);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                see(&path, &std::fs::read_to_string(&path).unwrap());
            }
        }
    }
}
