//! Which directories may become a workspace, what the host offers, and what is refused.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use lodge_sandbox::SandboxError;
use lodge_sandbox::host::{HostReport, require_process_tier, usable};
use lodge_sandbox::plan::SessionSpec;
use lodge_sandbox::policy::{Policy, Profile, Tier};
use lodge_sandbox::view::{HostView, ViewError};
use lodge_sandbox::workspace::{WorkspaceError, validate};

struct Tree {
    _temp: tempfile::TempDir,
    base: PathBuf,
}

fn tree() -> Tree {
    let temp = tempfile::tempdir().expect("temporary directory");
    let base = temp.path().canonicalize().expect("real path");
    for name in ["root/project/sub", "outside"] {
        fs::create_dir_all(base.join(name)).expect("directory");
    }
    fs::write(base.join("root/file"), "").expect("file");
    symlink(base.join("outside"), base.join("root/escape")).expect("link");
    symlink("../outside", base.join("root/relative")).expect("link");
    symlink("project", base.join("root/alias")).expect("link");
    symlink(base.join("root"), base.join("link-to-root")).expect("link");
    symlink("loop", base.join("root/loop")).expect("link");
    Tree { _temp: temp, base }
}

#[test]
fn what_lies_below_a_root_is_accepted_under_its_real_path() {
    let tree = tree();
    let roots = [tree.base.join("nothing"), tree.base.join("root")];
    for (path, real) in [
        ("root", "root"),
        ("root/project", "root/project"),
        ("root/project/", "root/project"),
        ("root/alias/sub", "root/project/sub"),
    ] {
        let found = validate(&tree.base.join(path), &roots).unwrap();
        assert_eq!(found.path, tree.base.join(real), "{path}");
    }
    let by_link = [tree.base.join("link-to-root")];
    assert_eq!(
        validate(&tree.base.join("link-to-root/project"), &by_link)
            .unwrap()
            .path,
        tree.base.join("root/project")
    );
    assert_eq!(
        validate(&tree.base.join("root/project"), &by_link).unwrap().path,
        tree.base.join("root/project")
    );
}

#[test]
fn everything_else_is_refused_by_its_own_error() {
    let tree = tree();
    let roots = [tree.base.join("root")];
    let refused = |path: &str| validate(&tree.base.join(path), &roots).expect_err(path);
    assert!(matches!(refused("root/missing"), WorkspaceError::NotFound { .. }));
    assert!(matches!(
        refused("root/file"),
        WorkspaceError::NotADirectory { .. }
    ));
    assert!(matches!(
        refused("root/file/x"),
        WorkspaceError::NotADirectory { .. }
    ));
    for path in ["root/escape", "root/relative", "root/loop"] {
        assert!(matches!(refused(path), WorkspaceError::Symlink { .. }), "{path}");
    }
    for path in ["outside", "root/../outside", "roots", "outside/missing", ""] {
        assert!(
            matches!(refused(path), WorkspaceError::OutsideRoots { .. }),
            "{path}"
        );
    }
    assert!(matches!(
        validate("project".as_ref(), &roots),
        Err(WorkspaceError::OutsideRoots { .. })
    ));
    assert!(matches!(
        validate(&tree.base, &[]),
        Err(WorkspaceError::OutsideRoots { .. })
    ));
}

#[test]
fn a_control_file_that_is_a_link_is_refused() {
    let tree = tree();
    let workspace = tree.base.join("root/project");
    let spec = SessionSpec {
        workspace: workspace.clone(),
        private_home: tree.base.clone(),
        gateway_socket: tree.base.clone(),
        harness_roots: vec![],
        init_binary: tree.base.clone(),
        uid: 0,
        gid: 0,
        session_id: String::new(),
    };
    let policy = Policy::of(Profile::Development);
    HostView::probe(&policy, &spec).expect("the control: without links");
    fs::create_dir(workspace.join(".git")).unwrap();
    for name in [".envrc", ".git/hooks", ".git/config"] {
        symlink(tree.base.join("outside"), workspace.join(name)).unwrap();
        let error = HostView::probe(&policy, &spec).unwrap_err();
        assert!(
            matches!(&error, ViewError::Symlink { path } if *path == workspace.join(name)),
            "{error}"
        );
        fs::remove_file(workspace.join(name)).unwrap();
    }
}

#[test]
fn the_report_agrees_with_what_is_required() {
    let report = HostReport::probe();
    let missing: Vec<_> = report
        .items
        .iter()
        .filter(|item| item.required && !item.ok)
        .collect();
    let bwrap = require_process_tier();
    assert!(
        missing.is_empty() && bwrap.is_ok(),
        "this machine cannot run the process tier: {missing:?} {bwrap:?}"
    );
    for item in &report.items {
        assert_eq!(item.ok, item.problem.is_none() && item.mend.is_none(), "{item:?}");
        assert!(
            item.ok || item.mend.as_ref().is_some_and(|mend| !mend.is_empty()),
            "{item:?}"
        );
    }
}

#[test]
fn a_tier_that_cannot_be_run_names_the_missing_wall() {
    let state = tempfile::tempdir().unwrap();
    usable(Tier::Process, state.path()).expect("the process tier");
    for tier in [Tier::Container, Tier::Microvm] {
        let error = usable(tier, state.path()).expect_err("there is no guest image");
        assert!(
            matches!(&error, SandboxError::MissingWall { mend, .. } if !mend.is_empty()),
            "{error}"
        );
    }
}
