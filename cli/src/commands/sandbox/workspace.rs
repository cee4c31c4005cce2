//! Which directories the command line lets a guest work in.

use crate::data::DataDir;
use crate::failure::Failure;
use lodge_proto::ErrorCode;
use lodge_sandbox::workspace;
use std::path::{Path, PathBuf};

const ANOTHER: &str = "name another directory with --workspace DIR";

/// The real path of a workspace that shows a guest nothing of Lodge's own, and is not the whole home: whoever can write
/// to that has what shells and programs start.
pub(super) fn real(path: &Path, data: &DataDir) -> anyhow::Result<PathBuf> {
    let wrong = |code, what: String| {
        let failure = Failure::new(code, what)
            .at(path.display().to_string())
            .mend(ANOTHER);
        anyhow::Error::from(failure)
    };
    let real = path.canonicalize().map_err(|error| {
        wrong(
            ErrorCode::NotFound,
            format!("the workspace cannot be used: {error}"),
        )
    })?;
    if !real.is_dir() {
        return Err(wrong(
            ErrorCode::InvalidArgument,
            "the workspace is not a directory".to_owned(),
        ));
    }
    if real.to_str().is_none() {
        let what = "the workspace's path is not UTF-8".to_owned();
        return Err(wrong(ErrorCode::InvalidArgument, what));
    }
    match workspace::off_limits(&real, data.path()) {
        Some(reason) => Err(wrong(ErrorCode::SandboxDenied, reason.to_owned())),
        None => Ok(real),
    }
}
