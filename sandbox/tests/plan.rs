//! Plans as data: golden files for typical sessions, and what gets none.

use std::path::{Path, PathBuf};

use lodge_sandbox::plan::{Network, PlanError, SessionSpec, plan};
use lodge_sandbox::policy::{Layer, Policy, Profile, Tier};
use lodge_sandbox::view::{HomeView, HostView, Kind};

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

/// A repository with some of the control files, as every profile and tier sees it.
#[test]
fn every_profile_in_every_tier() {
    let control = [
        (".git", Kind::Directory),
        (".git/config", Kind::File),
        (".git/hooks", Kind::Directory),
        (".vscode", Kind::Directory),
    ];
    let mut view = view(&control);
    view.empty.insert(".git/hooks".into());
    view.home = Some(HomeView {
        path: "/home/ann".into(),
        shown: vec![
            ("/home/ann/notes.txt".into(), Kind::File),
            ("/home/ann/old".into(), Kind::Symlink("older".into())),
            ("/home/ann/project".into(), Kind::Directory),
        ],
    });
    for profile in [Profile::Minimal, Profile::Development, Profile::Strict] {
        for tier in [Tier::Process, Tier::Container, Tier::Microvm] {
            let mut policy = Policy::of(profile);
            policy.tier = tier;
            if policy.minimum_tier > tier || profile == Profile::Minimal && tier != Tier::Process {
                plan(&policy, &spec(), &view).expect_err("too low a tier, or one that cannot do it");
                continue;
            }
            let mut view = view.clone();
            view.home = view.home.filter(|_| policy.fs.home);
            let name = format!("{}_{}", profile.name(), tier.name());
            golden(&name, &policy, &spec(), &view);
        }
    }
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
    view.denied = [
        ("/opt/tools/secret".into(), Kind::File),
        ("/srv/data/a/b/secret".into(), Kind::Directory),
        ("/elsewhere".into(), Kind::Directory),
    ]
    .into();
    let spec = SessionSpec {
        uid: 0,
        gid: 0,
        ..spec()
    };
    let text = "nesting = 'one_level'\n[fs]\nread = ['/opt/tools']\nwrite = ['/srv/data']\n\
                deny = ['/elsewhere', '/opt/tools/secret', '/srv/data/a/b/secret']\n[limits]\nmemory = '2G'";
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
        ("profile = 'minimal'\ntier = 'container'", "nesting"),
        ("nesting = 'one_level'\ntier = 'container'", "nesting"),
        ("profile = 'minimal'\ntier = 'microvm'", "fs.home"),
    ] {
        let error = plan(&policy(text), &spec(), &view(&[])).expect_err(text);
        assert!(
            matches!(error, PlanError::Unsupported { key: found, .. } if found == key),
            "{text}: {error}"
        );
    }
    let error = plan(
        &policy("nesting = 'one_level'\ntier = 'container'"),
        &spec(),
        &view(&[]),
    );
    let said = error.expect_err("refused").to_string();
    assert!(said.starts_with("x.toml: nesting: "), "{said}");
}

#[test]
fn a_broker_without_ports_leads_nowhere() {
    let none = policy("[net]\nmode = 'broker'\nallow = ['pypi.org']");
    let made = plan(&none, &spec(), &view(&[])).expect("plan");
    assert_eq!(made.network, Network::None);
    assert!(!made.guest_env.iter().any(|(name, _)| name == "HTTPS_PROXY"));
    let some = policy(
        "[net]\nmode = 'broker'\nallow = ['pypi.org']\nports = [443, 80]\n[env]\nset = { HTTPS_PROXY = 'x' }",
    );
    let made = plan(&some, &spec(), &view(&[])).expect("plan");
    let value = |env: &[(String, String)], wanted: &str| {
        let found = env.iter().find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.clone())
    };
    assert_eq!(
        value(&made.init_env, "LODGE_EGRESS_PORTS").as_deref(),
        Some("80,443")
    );
    assert_eq!(
        value(&made.guest_env, "HTTPS_PROXY").as_deref(),
        Some("http://127.0.0.1:8377")
    );
}

#[test]
fn denials_and_grants_that_would_break_or_bare_the_sandbox_are_refused() {
    for text in [
        "deny = ['/proc/version']",
        "deny = ['/run']",
        "deny = ['/home/ann/project']",
        "deny = ['/home/guest/x']",
        "deny = ['/home']",
        "read = ['/home/ann/.local']",
        "write = ['/home/ann/.local/share']",
        "write = ['/home/ann/.local/share/lodge/harness/pi/1/lib']",
    ] {
        let error = plan(&policy(&format!("[fs]\n{text}")), &spec(), &view(&[])).expect_err(text);
        assert!(matches!(error, PlanError::Collision { .. }), "{text}: {error}");
        let key = text.split(' ').next().expect("a key");
        assert!(
            error.to_string().starts_with(&format!("x.toml: fs.{key}: ")),
            "{error}"
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

/// A copy that was checked takes the place of what lies there. Nothing else of the sandbox is another.
#[test]
fn a_checked_copy_is_shown_and_widens_nothing() {
    use lodge_sandbox::plan::{Access, Mount};
    let mut policy = Policy::of(Profile::Development);
    let control = [
        (".mcp.json", Kind::File),
        ("tools", Kind::Directory),
        ("tools/run.sh", Kind::File),
    ];
    for tier in [Tier::Process, Tier::Container, Tier::Microvm] {
        policy.tier = tier;
        let plain = plan(&policy, &spec(), &view(&control)).expect("plan");
        let mut trusting = policy.clone();
        trusting.fs.protect.extend(["tools/run.sh".to_owned()]);
        let mut view = view(&control);
        for name in [".mcp.json", ".opencode", "tools/run.sh"] {
            let copy = PathBuf::from("/data/trusted").join(name);
            view.checked.insert(name.to_owned(), copy);
        }
        let trusting = plan(&trusting, &spec(), &view).expect("plan");
        let at = |name: &str| {
            let at = Path::new("/home/ann/project").join(name);
            let is_there = |mount: &&Mount| matches!(mount, Mount::Bind { at: there, .. } if *there == at);
            trusting.mounts.iter().rfind(is_there).cloned()
        };
        for name in [".mcp.json", ".opencode", "tools/run.sh"] {
            let Some(Mount::Bind { from, access, .. }) = at(name) else {
                panic!("{name} is not shown in {tier:?}");
            };
            assert_eq!(
                (from, access),
                (Path::new("/data/trusted").join(name), Access::Read)
            );
        }
        // Its directory cannot be moved away.
        assert!(matches!(
            at("tools"),
            Some(Mount::Bind {
                access: Access::Write,
                ..
            })
        ));
        // The absent one is held as before.
        assert_eq!(trusting.placeholders, plain.placeholders);
        let writable = |plan: &lodge_sandbox::plan::Plan| {
            let roots: std::collections::BTreeSet<PathBuf> = plan
                .mounts
                .iter()
                .filter_map(|mount| match mount {
                    Mount::Bind {
                        at,
                        access: Access::Write,
                        ..
                    } => Some(at.clone()),
                    _ => None,
                })
                .filter(|at| !at.starts_with("/home/ann/project/"))
                .collect();
            roots
        };
        assert_eq!(writable(&plain), writable(&trusting));
        assert_eq!(plain.network, trusting.network);
        assert_eq!(plain.limits, trusting.limits);
        assert_eq!(plain.guest_env, trusting.guest_env);
        assert_eq!(plain.walls.seccomp, trusting.walls.seccomp);
    }
}
