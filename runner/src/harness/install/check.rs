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
            let found = said
                .trim()
                .trim_start_matches('v')
                .chars()
                .take(64)
                .collect::<String>();
            if found == expected.to_string() {
                return Ok(());
            }
            Err(InstallError::CheckVersion {
                name: name.to_owned(),
                expected: expected.to_string(),
                found,
            })
        }
    }
}
