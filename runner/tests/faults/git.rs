//! Git of a workspace whose repository was made by somebody hostile.

use crate::world::World;
use lodge_proto::ErrorCode;
use lodge_proto::command::CommandBody;
use lodge_proto::workspace::{GitDiff, GitStatus};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Makes a repository with one commit and one change.
fn repository(workspace: &Path) {
    std::fs::write(workspace.join("file.txt"), "one\n").unwrap();
    let script = "git init -q -b main . && git config user.name T && git config user.email t@example.org \
        && git add . && git commit -qm first";
    let made = Command::new("/bin/sh")
        .args(["-c", script])
        .current_dir(workspace)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    assert!(
        made.status.success(),
        "git is needed (sudo apt-get install --yes git): {}",
        String::from_utf8_lossy(&made.stderr)
    );
    std::fs::write(workspace.join("file.txt"), "two\n").unwrap();
    std::fs::write(workspace.join("new file"), "x\n").unwrap();
}

fn diff(path: Option<&str>, staged: Option<bool>) -> CommandBody {
    CommandBody::GitDiff {
        path: path.map(str::to_owned),
        staged,
    }
}

#[tokio::test]
async fn a_repositorys_state_and_changes_are_shown() {
    let mut world = World::new();
    let workspace = world.rig.workspace("repo");
    repository(&workspace);
    let id = world.session("repo").await;
    let status: GitStatus = serde_json::from_value(world.ok(id, CommandBody::GitStatus {}).await).unwrap();
    assert!(status.repository && !status.truncated);
    assert_eq!(status.branch.as_deref(), Some("main"));
    let changed: Vec<(&str, &str, &str)> = status
        .entries
        .iter()
        .map(|entry| (entry.path.as_str(), entry.index.as_str(), entry.worktree.as_str()))
        .collect();
    assert!(changed.contains(&("file.txt", ".", "M")), "{changed:?}");
    assert!(changed.contains(&("new file", "?", "?")), "{changed:?}");
    let text: GitDiff = serde_json::from_value(world.ok(id, diff(None, None)).await).unwrap();
    assert!(text.text.contains("-one\n+two\n"), "{}", text.text);
    let one: GitDiff =
        serde_json::from_value(world.ok(id, diff(Some("file.txt"), Some(true))).await).unwrap();
    assert_eq!(one.text, "", "nothing is staged");
    // A name that looks like an option or a pattern is a name.
    for path in ["--output=pwned", ":(exclude)file.txt", "*"] {
        let none: GitDiff = serde_json::from_value(world.ok(id, diff(Some(path), None)).await).unwrap();
        assert_eq!(none.text, "", "{path}");
    }
    assert!(!workspace.join("pwned").exists());
    world.finish();
}

#[tokio::test]
async fn without_a_repository_there_is_no_state() {
    let mut world = World::new();
    let id = world.session("plain").await;
    let status: GitStatus = serde_json::from_value(world.ok(id, CommandBody::GitStatus {}).await).unwrap();
    assert_eq!(status, GitStatus::default());
    assert_eq!(
        world.refused(id, diff(None, None)).await.code,
        ErrorCode::NotFound
    );
    world.finish();
}

/// Everything in a repository's configuration that names a program.
fn hostile_config(program: &dyn Fn(&str) -> String, hooks: &Path) -> String {
    format!(
        "[core]\n\tfsmonitor = {fsmonitor}\n\tpager = {pager}\n\tsshCommand = {ssh}\n\thooksPath = {hooks}\n\
         [filter \"evil\"]\n\tclean = {clean}\n\tsmudge = {clean}\n\
         [diff \"evil\"]\n\ttextconv = {textconv}\n\tcommand = {command}\n[diff]\n\texternal = {external}\n\
         [alias]\n\tstatus = !{alias}\n[pager]\n\tstatus = {pager}\n\tdiff = {pager}\n",
        fsmonitor = program("fsmonitor"),
        pager = program("pager"),
        ssh = program("ssh"),
        hooks = hooks.display(),
        clean = program("clean"),
        textconv = program("textconv"),
        command = program("command"),
        external = program("external"),
        alias = program("alias"),
    )
}

/// Every way in which a repository starts a program, each leaving a mark: inside where it can, and outside.
#[tokio::test]
async fn a_hostile_repository_runs_nothing_on_the_host() {
    let mut world = World::new();
    let workspace = world.rig.workspace("hostile");
    repository(&workspace);
    let marks = world.rig.root().join("marks");
    std::fs::create_dir(&marks).unwrap();
    let program = |name: &str| -> String {
        let path = workspace.join(format!("{name}.sh"));
        let outside = marks.join(name);
        let script = format!(
            "#!/bin/sh\necho ran > {} 2>/dev/null\necho ran > {}\ncat\n",
            outside.display(),
            workspace.join(format!("ran-{name}")).display()
        );
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        path.display().to_string()
    };
    let config = hostile_config(&program, &workspace.join("hooks"));
    std::fs::create_dir(workspace.join("hooks")).unwrap();
    let hook = program("hook");
    for name in [
        "post-index-change",
        "reference-transaction",
        "pre-commit",
        "fsmonitor-watchman",
    ] {
        std::fs::copy(&hook, workspace.join("hooks").join(name)).unwrap();
    }
    std::fs::write(workspace.join(".gitattributes"), "*.txt filter=evil diff=evil\n").unwrap();
    let own = std::fs::read_to_string(workspace.join(".git/config")).unwrap();
    std::fs::write(workspace.join(".git/config"), own + &config).unwrap();
    std::fs::write(workspace.join("file.txt"), "three\n").unwrap();
    let id = world.session("hostile").await;
    for body in [
        CommandBody::GitStatus {},
        diff(None, None),
        diff(Some("file.txt"), None),
        diff(None, Some(true)),
    ] {
        world.ok(id, body).await;
    }
    world.run(id, "hi").await;
    let ran: Vec<PathBuf> = std::fs::read_dir(&marks)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(ran, Vec::<PathBuf>::new(), "it ran on the host");
    for name in [
        "fsmonitor",
        "pager",
        "ssh",
        "textconv",
        "command",
        "external",
        "alias",
        "hook",
    ] {
        assert!(
            !workspace.join(format!("ran-{name}")).exists(),
            "{name} ran in the guest"
        );
    }
    // The one thing that cannot be switched off without showing another state: it ran where it can do nothing more
    // than the guest itself.
    assert!(workspace.join("ran-clean").exists(), "the marks work");
    world.finish();
}
