//! Asking an installed program for its version.

use super::confine::{Confined, Ended, Outputs};
use super::{InstallError, npm};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A program that does not say its version within this time is not fit for use.
const DEADLINE: Duration = Duration::from_mins(1);

/// What is to be asked.
pub(super) struct Asked<'a> {
    pub(super) name: &'a str,
    pub(super) argv: Vec<PathBuf>,
    /// Trees it consists of.
    pub(super) roots: Vec<PathBuf>,
    pub(super) expected: &'a semver::Version,
}

/// Runs `argv --version` in a sandbox and compares what it prints with what is expected. `scratch` is free of symbolic
/// links.
pub(super) fn check_version(
    asked: &Asked<'_>,
    scratch: &Path,
    cancelled: &dyn Fn() -> bool,
) -> Result<(), InstallError> {
    let Asked { name, expected, .. } = *asked;
    let workspace = scratch.join("check");
    std::fs::create_dir_all(&workspace).map_err(InstallError::io("making", &workspace))?;
    let [out_path, err_path] = ["check-out", "check-err"].map(|name| scratch.join(name));
    let out = File::create(&out_path).map_err(InstallError::io("writing", &out_path))?;
    let err = File::create(&err_path).map_err(InstallError::io("writing", &err_path))?;
    let words = asked.argv.iter().map(|word| word.to_string_lossy().into_owned());
    let confined = Confined {
        name,
        staging: scratch,
        workspace: &workspace,
        writable: &[],
        roots: asked.roots.clone(),
        argv: words.chain(["--version".to_owned()]).collect(),
        path: Vec::new(),
        network: None,
    };
    let outputs = Outputs { out: &out, err: &err };
    let ended = confined.run(&outputs, DEADLINE, &mut || cancelled())?;
    let failed = |reason: String| InstallError::CheckFailed {
        name: name.to_owned(),
        reason,
    };
    match ended {
        Ended::Cancelled => Err(InstallError::Cancelled),
        Ended::Deadline => Err(failed(format!(
            "no answer to --version within {} s",
            DEADLINE.as_secs()
        ))),
        Ended::Exit(status) if !status.success() => {
            let words = npm::read_bounded(&err_path);
            let last = words
                .lines()
                .rev()
                .find(|line| !line.trim().is_empty())
                .unwrap_or_default();
            Err(failed(format!(
                "{status}: {}",
                last.trim().chars().take(300).collect::<String>()
            )))
        }
        Ended::Exit(_) => {
            let said = npm::read_bounded(&out_path);
            if version_in(&said).as_ref() == Some(expected) {
                return Ok(());
            }
            let found = said.trim().chars().take(64).collect();
            Err(InstallError::CheckVersion {
                name: name.to_owned(),
                expected: expected.to_string(),
                found,
            })
        }
    }
}

/// The version in what a program prints, which often says its name too: the one word of the first line that is one.
fn version_in(said: &str) -> Option<semver::Version> {
    let words = said
        .lines()
        .find(|line| !line.trim().is_empty())?
        .split_whitespace();
    let versions: Vec<_> = words
        .filter_map(|word| word.trim_start_matches('v').parse().ok())
        .collect();
    match <[semver::Version; 1]>::try_from(versions) {
        Ok([version]) => Some(version),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::version_in;

    #[test]
    fn a_version_is_found_in_what_programs_print() {
        let found = |said| version_in(said).map(|version| version.to_string());
        for (said, version) in [
            ("v24.21.0\n", "24.21.0"),
            ("codex-cli 0.169.0\n", "0.169.0"),
            ("2.1.316 (Claude Code)\n", "2.1.316"),
            ("\n1.0.0-rc.1\nbuilt 2.0.0", "1.0.0-rc.1"),
        ] {
            assert_eq!(found(said).as_deref(), Some(version), "{said}");
        }
        for said in ["", "codex", "1.2", "1.2.3 or 1.2.4"] {
            assert_eq!(found(said), None, "{said}");
        }
    }
}
