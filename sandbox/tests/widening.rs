//! Ways in which a policy was widened elsewhere, each tried here: by the workspace's own file, by what lies at a path,
//! and by a guest.

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use lodge_sandbox::plan::{SessionSpec, plan};
use lodge_sandbox::policy::{Layer, Net, Policy, PolicyError, Profile};
use lodge_sandbox::view::{HostView, ViewError};
use support::{Guest, Session, bwrap};

/// An operator's policy and a workspace that may bring its own.
struct Files {
    temp: tempfile::TempDir,
}

impl Files {
    fn new(operator: &str) -> Self {
        let temp = tempfile::tempdir().expect("temporary directory");
        let files = Self { temp };
        fs::create_dir_all(files.base().join("workspace/.lodge")).expect("workspace");
        fs::write(files.operator(), format!("version = 1\n{operator}")).expect("policy");
        files
    }

    fn base(&self) -> PathBuf {
        self.temp.path().canonicalize().expect("real path")
    }

    fn operator(&self) -> PathBuf {
        self.base().join("system.toml")
    }

    fn own(&self) -> PathBuf {
        self.base().join("workspace/.lodge/sandbox.toml")
    }

    fn with(&self, text: &str) -> Result<Policy, PolicyError> {
        fs::write(self.own(), text).expect("policy");
        Policy::load(Some(&self.operator()), None, Some(&self.own()))
    }

    /// The key by which the workspace's file is refused as one that loosens.
    fn loosened(&self, text: &str) -> &'static str {
        match self.with(&format!("version = 1\n{text}")) {
            Err(PolicyError::Loosens { file, key, .. }) if file == self.own() => key,
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn row_1_and_2_the_name_of_a_looser_profile_changes_nothing() {
    let files = Files::new("profile = 'strict'");
    let strict = files.with("version = 1").unwrap();
    assert_eq!(
        strict.fs,
        Policy::of(Profile::Strict).fs,
        "nothing of a home is in it, there or not"
    );
    for looser in ["minimal", "development"] {
        assert_eq!(files.loosened(&format!("profile = '{looser}'")), "profile");
    }
    let same = files.with("version = 1\nprofile = 'strict'").unwrap();
    assert!(same.is_within(&strict) && strict.is_within(&same));
}

#[test]
fn row_3_a_profile_of_ones_own_and_further_binds_are_refused() {
    let files = Files::new("profile = 'strict'");
    assert_eq!(files.loosened("[fs]\nwrite = ['/home/ann/.ssh']"), "fs.write");
    assert_eq!(files.loosened("[fs]\nread = ['/home/ann/.ssh']"), "fs.read");
    assert_eq!(files.loosened("[fs]\nhome = true"), "fs.home");
    for text in [
        "version = 1\nprofile = 'mine'\n[profiles.mine]\nextra_rw_bind = ['/home/ann/.ssh']",
        "version = 1\n[fs]\nextra_rw_bind = ['/home/ann/.ssh']",
    ] {
        let error = files.with(text).expect_err(text);
        assert!(
            matches!(&error, PolicyError::Invalid { file, .. } if *file == files.own()),
            "{error}"
        );
    }
}

#[test]
fn row_4_a_file_that_cannot_be_read_or_understood_stops_the_session() {
    let files = Files::new("profile = 'strict'");
    for text in ["version = 1\n[fs", "", "version = 1\nprofile = 3", "\u{0}"] {
        let error = files.with(text).expect_err(text);
        assert!(
            error.to_string().starts_with(files.own().to_str().unwrap()),
            "{error}"
        );
    }
    fs::remove_file(files.own()).unwrap();
    fs::create_dir(files.own()).unwrap();
    let load = || Policy::load(Some(&files.operator()), None, Some(&files.own()));
    assert!(matches!(load(), Err(PolicyError::Read { .. })));
    fs::remove_dir(files.own()).unwrap();
    let pipe = Command::new("mkfifo").arg(files.own()).status().unwrap();
    assert!(pipe.success());
    assert!(
        matches!(load(), Err(PolicyError::Read { .. })),
        "and does not hang"
    );
    fs::remove_file(files.own()).unwrap();
    symlink(files.operator(), files.own()).unwrap();
    assert!(
        matches!(load(), Err(PolicyError::Read { .. })),
        "its content is not the workspace's"
    );
}

#[test]
fn row_5_a_misspelt_profile_is_an_error_with_file_and_key() {
    let files = Files::new("profile = 'stict'");
    let error = files.with("version = 1").unwrap_err();
    assert!(
        matches!(&error, PolicyError::Invalid { file, key, .. } if *file == files.operator() && key == "profile"),
        "{error}"
    );
}

#[test]
fn row_6_by_default_the_users_own_files_are_out_of_reach() {
    let home = PathBuf::from(std::env::var_os("HOME").unwrap());
    let secret = tempfile::NamedTempFile::new_in(&home).unwrap();
    fs::write(secret.path(), "token").unwrap();
    let session = Session::new();
    let sibling = session.spec.workspace.with_file_name("sibling");
    fs::create_dir_all(sibling.join(".lodge")).unwrap();
    fs::write(sibling.join(".lodge/sandbox.toml"), "version = 1").unwrap();
    symlink(&sibling, session.spec.workspace.join("sibling")).unwrap();
    let mut guest = session.start();
    // Where the home lies below the guest's own /tmp it may make files of these names there.
    let unit = home.join(".config/systemd/user/x.service");
    let profile = home.join(".bashrc");
    let before = fs::read(&profile).ok();
    for path in [&unit, &profile] {
        let (path, above) = (path.display(), path.parent().unwrap().display());
        guest.sh(&format!("mkdir -p {above} && echo x >> {path}"));
    }
    assert!(!unit.exists());
    assert_eq!(fs::read(&profile).ok(), before);
    for act in [
        format!("cat {}", secret.path().display()),
        format!("echo x > {}/.lodge/sandbox.toml", sibling.display()),
        format!(
            "echo x > {}/sibling/.lodge/sandbox.toml",
            session.spec.workspace.display()
        ),
        // Its own is protected, absent as it is.
        format!(
            "cd {} && mkdir -p .lodge && echo x > .lodge/sandbox.toml",
            session.spec.workspace.display()
        ),
    ] {
        assert_ne!(guest.sh(&act).code(), Some(0), "{act}");
    }
    assert_eq!(
        fs::read_to_string(sibling.join(".lodge/sandbox.toml")).unwrap(),
        "version = 1"
    );
}

#[test]
fn row_7_hosts_and_ports_of_a_workspace_only_narrow() {
    let files = Files::new("[net]\nmode = 'broker'\nallow = ['*.example.org']\nports = [443]");
    let broker = |rest: &str| format!("[net]\nmode = 'broker'\n{rest}");
    assert_eq!(
        files.loosened(&broker("allow = ['other.example.com']")),
        "net.allow"
    );
    assert_eq!(files.loosened(&broker("ports = [443, 80]")), "net.ports");
    assert_eq!(files.loosened(&broker("unlisted = 'ask'")), "net.unlisted");
    let all = files.with(&format!("version = 1\n{}", broker("allow = ['*']")));
    assert!(matches!(all, Err(PolicyError::Invalid { key, .. }) if key == "net.allow"));
    let narrowed = files
        .with(&format!("version = 1\n{}", broker("allow = ['a.example.org']")))
        .unwrap();
    assert!(
        matches!(narrowed.net, Net::Broker { allow, .. } if allow == ["a.example.org".to_owned()].into())
    );
}

#[test]
fn all_rows_no_variable_of_the_runner_is_inside() {
    assert!(
        std::env::var_os("CARGO_MANIFEST_DIR").is_some(),
        "the control: it is set here"
    );
    let mut guest = Session::new().start();
    assert!(!guest.sh("env").text().contains("CARGO_MANIFEST_DIR"));
}

#[test]
fn a_repository_from_outside_may_bring_a_tighter_policy_only() {
    let files = Files::new("[limits]\nprocesses = 100");
    let tighter = files
        .with("version = 1\nprofile = 'strict'\n[limits]\nprocesses = 20")
        .unwrap();
    assert_eq!(tighter.limits.processes, Some(20));
    assert_eq!(tighter.net, Net::None);
    assert_eq!(
        tighter.place("limits.processes"),
        format!("{}: limits.processes", files.own().display())
    );
    assert_eq!(tighter.place("net.mode"), "profile strict: net.mode");
    assert_eq!(files.loosened("[env.set]\nGIT_SSH_COMMAND = 'evil'"), "env.set");
    assert_eq!(files.loosened("[limits]\nprocesses = 101"), "limits.processes");
    let removed = files.with("version = 1\n[fs]\nprotect = []\ndeny = []").unwrap();
    assert_eq!(
        removed.fs,
        Policy::of(Profile::Development).fs,
        "lists of denials only grow"
    );
}

/// A session whose policy is the operator's `text`.
fn probe(session: &Session, text: &str) -> Result<HostView, ViewError> {
    HostView::probe(&operator(text), &session.spec)
}

fn operator(text: &str) -> Policy {
    let layer = Layer::parse("system.toml".as_ref(), &format!("version = 1\n{text}")).expect("layer");
    Policy::base(&layer).expect("policy")
}

/// A path as a string of TOML.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display())
}

fn data(session: &Session) -> PathBuf {
    let data = session.spec.workspace.with_file_name("data");
    fs::create_dir_all(data.join("deep/keys")).expect("data");
    fs::write(data.join("deep/keys/id"), "secret").expect("data");
    fs::write(data.join("token"), "secret").expect("data");
    data
}

#[test]
fn what_is_granted_has_to_be_there_under_its_real_path() {
    let session = Session::new();
    let data = data(&session);
    symlink(&data, data.with_file_name("link")).unwrap();
    for (list, path, reason) in [
        ("read", data.join("missing"), "does not exist"),
        ("write", data.join("missing/deeper"), "does not exist"),
        ("read", data.join("token"), "not a directory"),
        ("read", data.with_file_name("link"), "symbolic link"),
        ("write", data.with_file_name("link").join("deep"), "symbolic link"),
    ] {
        let said = probe(&session, &format!("[fs]\n{list} = [{path:?}]"))
            .expect_err(reason)
            .to_string();
        let place = format!("system.toml: fs.{list}: {}", path.display());
        assert!(said.starts_with(&place) && said.contains(reason), "{said}");
    }
    probe(&session, &format!("[fs]\nread = [{data:?}]")).expect("the control: the real path");
}

#[test]
fn what_is_denied_cannot_be_had_by_another_name() {
    let session = Session::new();
    let data = data(&session);
    let policy = |deny: &Path| format!("[fs]\nread = [{data:?}]\ndeny = [{deny:?}]");
    symlink(data.join("deep"), data.join("alias")).unwrap();
    fs::hard_link(data.join("token"), data.join("second")).unwrap();
    for (path, reason) in [
        (data.join("alias"), "symbolic link"),
        (data.join("alias/keys"), "symbolic link"),
        (data.join("token"), "hard link"),
        (data.join("not-yet"), "does not exist"),
    ] {
        let said = probe(&session, &policy(&path)).expect_err(reason).to_string();
        assert!(
            said.starts_with("system.toml: fs.deny: ") && said.contains(reason),
            "{said}"
        );
    }
    // What nothing shows need not be there.
    probe(&session, &policy(Path::new("/nonexistent/x"))).expect("it is out of reach anyway");
    let policy = operator(&policy(&data.join("deep/keys")));
    let mut guest = Guest::start(&session.plan_for(&policy), &bwrap());
    let data = data.display();
    for path in ["deep/keys/id", "alias/keys/id", "deep/../deep/keys/id"] {
        assert_ne!(guest.sh(&format!("cat {data}/{path}")).code(), Some(0), "{path}");
    }
    assert_eq!(
        guest.sh(&format!("cat {data}/second")).text(),
        "secret",
        "the control: the rest can be read"
    );
}

#[test]
fn what_is_denied_below_a_writable_root_cannot_be_moved_bare() {
    let session = Session::new();
    let data = data(&session);
    let text = format!("[fs]\nwrite = [{data:?}]\ndeny = [{:?}]", data.join("deep/keys"));
    let policy = operator(&text);
    let mut guest = Guest::start(&session.plan_for(&policy), &bwrap());
    let at = data.display();
    for act in [
        "cat deep/keys/id",
        "mv deep moved",
        "mv deep/keys x",
        "rm -rf deep",
        "echo x > deep/keys/new",
    ] {
        assert_ne!(guest.sh(&format!("cd {at} && {act}")).code(), Some(0), "{act}");
    }
    assert_eq!(
        guest
            .sh(&format!("cd {at} && echo x > deep/new && mv token t"))
            .code(),
        Some(0),
        "the control: the rest can be written"
    );
    assert_eq!(fs::read_to_string(data.join("deep/keys/id")).unwrap(), "secret");
}

/// Set in the copy of this test that runs where a directory is mounted twice.
const INSIDE: &str = "LODGE_TEST_ALIAS";

#[test]
fn a_second_mount_of_what_is_denied_or_protected_is_refused() {
    if let Some(base) = std::env::var_os(INSIDE) {
        return aliased(Path::new(&base));
    }
    let temp = tempfile::tempdir().unwrap();
    let base = temp.path().canonicalize().unwrap();
    for dir in [
        "workspace",
        "home",
        "gw",
        "data/keys",
        "granted/data",
        "granted/ws",
        "plain",
    ] {
        fs::create_dir_all(base.join(dir)).unwrap();
    }
    let status = Command::new(bwrap().path)
        .args(["--dev-bind", "/", "/", "--bind"])
        .args([base.join("data"), base.join("granted/data")])
        .arg("--bind")
        .args([base.join("workspace"), base.join("granted/ws")])
        .arg("--")
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "a_second_mount_of_what_is_denied_or_protected_is_refused",
        ])
        .env(INSIDE, &base)
        .status()
        .unwrap();
    assert!(status.success());
}

fn aliased(base: &Path) {
    let spec = SessionSpec {
        workspace: base.join("workspace"),
        private_home: base.join("home"),
        gateway_socket: base.join("gw"),
        harness_roots: Vec::new(),
        init_binary: base.join("init"),
        uid: 1000,
        gid: 1000,
        session_id: String::new(),
    };
    let probe = |text: &str| HostView::probe(&operator(text), &spec);
    let granted = base.join("granted");
    let keys = base.join("data/keys");
    for (text, place, path) in [
        (
            format!("[fs]\nread = [{}]\ndeny = [{}]", quoted(&granted), quoted(&keys)),
            "system.toml: fs.deny",
            keys.clone(),
        ),
        (
            format!("[fs]\nwrite = [{}]", quoted(&granted)),
            "system.toml: fs.write",
            base.join("workspace/.claude"),
        ),
    ] {
        match probe(&text) {
            Err(ViewError::Alias {
                place: said,
                path: found,
                alias,
            }) => {
                assert_eq!((said.as_str(), &found), (place, &path));
                assert!(alias.starts_with(&granted), "{}", alias.display());
            }
            other => panic!("{text}: {other:?}"),
        }
    }
    let plain = format!(
        "[fs]\nwrite = [{}]\ndeny = [{}]",
        quoted(&base.join("plain")),
        quoted(&keys)
    );
    let view = probe(&plain).expect("the control: a root without a second mount");
    plan(&operator(&plain), &spec, &view).expect("plan");
}

#[test]
fn the_home_can_be_read_without_its_secrets_where_the_policy_says_so() {
    let home = PathBuf::from(std::env::var_os("HOME").unwrap());
    let open = tempfile::Builder::new()
        .prefix("lodge-test-")
        .tempfile_in(&home)
        .unwrap();
    let secret = tempfile::Builder::new()
        .prefix(".lodge-test-")
        .tempfile_in(&home)
        .unwrap();
    for file in [open.path(), secret.path()] {
        fs::write(file, "content").unwrap();
    }
    let session = Session::new();
    let policy = Policy::of(Profile::Minimal);
    let mut guest = Guest::start(&session.plan_for(&policy), &bwrap());
    let cat = |path: &Path| format!("cat {}", path.display());
    assert_eq!(guest.sh(&cat(open.path())).text(), "content");
    assert_ne!(guest.sh(&cat(secret.path())).code(), Some(0));
    assert_ne!(
        guest.sh(&format!("echo x > {}", open.path().display())).code(),
        Some(0)
    );
    assert_ne!(guest.sh(&format!("ls {}/.ssh", home.display())).code(), Some(0));
}
