//! Plans as data: golden files for typical sessions, and what gets none.

use std::path::{Path, PathBuf};

use lodge_sandbox::plan::{PlanError, SessionSpec, plan};
use lodge_sandbox::policy::{Layer, Policy, Profile};
use lodge_sandbox::view::{HostView, Kind};

fn spec() -> SessionSpec {
    SessionSpec {
        workspace: "/home/ann/project".into(),
        private_home: "/home/ann/.local/share/lodge/runner/sessions/s/home".into(),
        gateway_socket: "/home/ann/.local/share/lodge/runner/sessions/s/gw/gateway.sock".into(),
        harness_roots: vec!["/home/ann/.local/share/lodge/harness/pi/1".into()],
        init_binary: "/home/ann/.local/share/lodge/bin/lodge-init".into(),
        uid: 1001,
        gid: 1002,
        session_id: "s".into(),
    }
}

fn view(control: &[(&str, Kind)]) -> HostView {
    HostView {
        system: vec![
            ("/usr".into(), Kind::Directory),
            ("/bin".into(), Kind::Symlink("usr/bin".into())),
            ("/etc/ld.so.cache".into(), Kind::File),
            (
                "/etc/localtime".into(),
                Kind::Symlink("/usr/share/zoneinfo/UTC".into()),
            ),
        ],
        control: control
            .iter()
            .map(|(name, kind)| ((*name).to_owned(), kind.clone()))
            .collect(),
        ..HostView::default()
    }
}

fn policy(text: &str) -> Policy {
    Policy::base(&Layer::parse(Path::new("x.toml"), &format!("version = 1\n{text}")).expect("layer"))
        .expect("policy")
}

fn golden(name: &str, policy: &Policy, spec: &SessionSpec, view: &HostView) {
    let plan = plan(policy, spec, view).expect("plan");
    insta::assert_snapshot!(name, serde_json::to_string_pretty(&plan).expect("json"));
}

#[test]
fn a_workspace_without_control_files() {
    golden("plain", &Policy::of(Profile::Development), &spec(), &view(&[]));
}

#[test]
fn a_repository_as_root_with_further_roots() {
    let control = [
        (".git", Kind::Directory),
        (".git/config", Kind::File),
        (".vscode", Kind::Directory),
        (".envrc", Kind::File),
    ];
    let mut view = view(&control);
    view.denied = [("/opt/tools/secret".into(), Kind::File)].into();
    let spec = SessionSpec {
        uid: 0,
        gid: 0,
        ..spec()
    };
    let text = "nesting = 'one_level'\n[fs]\nread = ['/opt/tools']\ndeny = ['/opt/tools/secret']\n[limits]\nmemory = '2G'";
    golden("repository", &policy(text), &spec, &view);
}

#[test]
fn a_worktree_whose_git_is_a_file() {
    golden(
        "worktree",
        &Policy::of(Profile::Development),
        &spec(),
        &view(&[(".git", Kind::File)]),
    );
}

#[test]
fn a_setting_that_cannot_be_enforced_is_refused_by_its_key() {
    for (text, key) in [
        ("profile = 'strict'", "profile"),
        ("profile = 'minimal'", "profile"),
        ("tier = 'container'", "tier"),
        ("[net]\nmode = 'broker'", "net.mode"),
        ("[limits]\ndisk = '1G'", "limits.disk"),
        ("[limits]\noutput = '1G'", "limits.output"),
        ("[limits]\nwall_seconds = 1", "limits.wall_seconds"),
        ("[limits]\nidle_seconds = 1", "limits.idle_seconds"),
    ] {
        let error = plan(&policy(text), &spec(), &view(&[])).expect_err(text);
        assert!(
            matches!(error, PlanError::Unsupported { key: found, .. } if found == key),
            "{text}: {error}"
        );
    }
}

#[test]
fn paths_that_would_cover_or_reveal_something_are_refused() {
    let development = Policy::of(Profile::Development);
    for workspace in [
        "/",
        "/usr/src",
        "/etc",
        "/home",
        "/home/guest",
        "/tmp",
        "/proc/1",
        "/run",
        "/home/ann",
        "/dev/shm/x",
    ] {
        let spec = SessionSpec {
            workspace: workspace.into(),
            ..spec()
        };
        let error = plan(&development, &spec, &view(&[])).expect_err(workspace);
        assert!(
            matches!(&error, PlanError::Collision { path, .. } if path == Path::new(workspace)),
            "{error}"
        );
    }
    for workspace in [
        "/tmp/project",
        "/home/guest/project",
        "/srv/project",
        "/run/user/1/project",
    ] {
        let spec = SessionSpec {
            workspace: workspace.into(),
            ..spec()
        };
        plan(&development, &spec, &view(&[])).expect(workspace);
    }
    let inside = SessionSpec {
        harness_roots: vec![PathBuf::from("/home/ann/project/tools")],
        ..spec()
    };
    assert!(matches!(
        plan(&development, &inside, &view(&[])),
        Err(PlanError::Collision { .. })
    ));
    let relative = SessionSpec {
        private_home: "home".into(),
        ..spec()
    };
    assert!(matches!(
        plan(&development, &relative, &view(&[])),
        Err(PlanError::Relative { .. })
    ));
}
