//! Asking an installed program for its version.

use super::{InstallError, npm};
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// A program that does not say its version within this time is not fit for use.
const DEADLINE: Duration = Duration::from_mins(1);

/// Runs `argv --version` with an empty home in `scratch` and compares what it prints with `expected`.
pub(super) fn check_version(
    name: &str,
    argv: &[PathBuf],
    scratch: &Path,
    expected: &semver::Version,
    cancelled: &dyn Fn() -> bool,
) -> Result<(), InstallError> {
    let [program, arguments @ ..] = argv else {
        return Err(InstallError::CheckFailed {
            name: name.to_owned(),
            reason: "no program".to_owned(),
        });
    };
    let home = scratch.join("check-home");
    std::fs::create_dir_all(&home).map_err(InstallError::io("making", &home))?;
    let [out_path, err_path] = ["check-out", "check-err"].map(|name| scratch.join(name));
    let out = File::create(&out_path).map_err(InstallError::io("writing", &out_path))?;
    let err = File::create(&err_path).map_err(InstallError::io("writing", &err_path))?;
    let child = Command::new(program)
        .args(arguments)
        .arg("--version")
        // Nothing of the caller's environment: it may hold keys, and this is somebody else's program.
        .env_clear()
        .env("HOME", &home)
        .env("TMPDIR", &home)
        .env("PATH", "/usr/bin:/bin")
        .current_dir(&home)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .process_group(0)
        .spawn()
        .map_err(|source| InstallError::CheckStart {
            name: name.to_owned(),
            program: program.clone(),
            source,
        })?;
    let ended =
        npm::wait(child, DEADLINE, &mut || cancelled()).map_err(|source| InstallError::CheckStart {
            name: name.to_owned(),
            program: program.clone(),
            source,
        })?;
    let failed = |reason: String| InstallError::CheckFailed {
        name: name.to_owned(),
        reason,
    };
    match ended {
        npm::Ended::Cancelled => Err(InstallError::Cancelled),
        npm::Ended::Deadline => Err(failed(format!(
            "no answer to --version within {} s",
            DEADLINE.as_secs()
        ))),
        npm::Ended::Exit(status) if !status.success() => {
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
        npm::Ended::Exit(_) => {
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
