//! Which directories the command line lets a guest work in.

use crate::data::DataDir;
use crate::failure::Failure;
use lodge_proto::ErrorCode;
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
    match reason(&real, &existing(data.path()), std::env::home_dir().as_deref()) {
        Some(reason) => Err(wrong(ErrorCode::SandboxDenied, reason.to_owned())),
        None => Ok(real),
    }
}

/// Why a guest must not work in `workspace`; all paths are real.
fn reason(workspace: &Path, data: &Path, home: Option<&Path>) -> Option<&'static str> {
    let home = home.and_then(|home| home.canonicalize().ok());
    if data.starts_with(workspace) {
        return Some(
            "the workspace holds Lodge's data directory, with keys and the history of every session",
        );
    }
    if workspace.starts_with(data) && !workspace.starts_with(data.join("workspaces")) {
        return Some("the workspace lies in Lodge's data directory, beside its folder for workspaces");
    }
    // A home that is the root is nobody's.
    if home.is_some_and(|home| home.parent().is_some() && home.starts_with(workspace)) {
        return Some(
            "the workspace is the home directory, or holds it: with it a guest gets keys and start-up files",
        );
    }
    None
}

/// The real path of a directory that need not exist yet.
fn existing(path: &Path) -> PathBuf {
    for base in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (base.canonicalize(), path.strip_prefix(base)) {
            return real.join(rest);
        }
    }
    path.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lodges_own_or_the_whole_home_is_no_workspace() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let home = root.join("ann");
        let data = home.join(".local/share/lodge");
        std::fs::create_dir_all(home.join("src")).unwrap();
        let allowed = |path: &Path| reason(path, &data, Some(&home)).is_none();
        for good in [
            home.join("src"),
            data.join("workspaces"),
            data.join("workspaces/a"),
            root.join("an"),
            home.join(".local/share/lodge2"),
        ] {
            assert!(allowed(&good), "{}", good.display());
        }
        for bad in [
            root.as_path(),
            &home,
            &home.join(".local"),
            &data,
            &data.join("gateway"),
            &data.join("workspaces2"),
            Path::new("/"),
        ] {
            assert!(!allowed(bad), "{}", bad.display());
        }
        // The home is found also where it is named through a link.
        std::os::unix::fs::symlink(&home, root.join("link")).unwrap();
        let data = root.join("data");
        assert!(reason(&home, &data, Some(&root.join("link"))).is_some());
        assert!(reason(&home, &data, None).is_none());
    }

    #[test]
    fn a_data_directory_that_does_not_exist_has_a_real_path_too() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("real")).unwrap();
        std::os::unix::fs::symlink(root.join("real"), root.join("link")).unwrap();
        assert_eq!(existing(&root.join("link/a/b")), root.join("real/a/b"));
    }
}
