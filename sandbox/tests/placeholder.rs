//! Stand-ins for absent control files: there while a sandbox needs them, gone afterwards, whatever died meanwhile.

mod support;

use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use lodge_sandbox::launch::{Tools, compile};
use lodge_sandbox::placeholder::{acquire, standing, sweep};
use lodge_sandbox::plan::Placeholder;
use lodge_sandbox::spawn::kill;
use support::{Session, eventually};

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("listing").flatten();
    let mut names: Vec<_> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn wanted() -> Vec<Placeholder> {
    [(".envrc", false), (".vscode", true), (".git/hooks", true)]
        .map(|(name, directory)| Placeholder {
            name: name.into(),
            directory,
        })
        .into()
}

struct Scene {
    _temp: tempfile::TempDir,
    workspace: PathBuf,
    state: PathBuf,
}

fn scene() -> Scene {
    let temp = tempfile::tempdir().expect("temporary directory");
    let base = temp.path().canonicalize().expect("real path");
    fs::create_dir_all(base.join("workspace/.git")).expect("workspace");
    Scene {
        _temp: temp,
        workspace: base.join("workspace"),
        state: base.join("state"),
    }
}

#[test]
fn the_last_one_out_removes_what_was_made() {
    let Scene { workspace, state, .. } = &scene();
    let first = acquire(state, workspace, &wanted()).unwrap();
    let second = acquire(state, workspace, &wanted()).unwrap();
    assert_eq!(names(workspace), [".envrc", ".git", ".vscode"]);
    assert_eq!(names(&workspace.join(".git")), ["hooks"]);
    assert_eq!(standing(state, workspace), [".envrc", ".vscode", ".git/hooks"]);
    drop(first);
    sweep(state).unwrap();
    assert_eq!(
        names(workspace),
        [".envrc", ".git", ".vscode"],
        "the second needs them"
    );
    drop(second);
    sweep(state).unwrap();
    assert_eq!(names(workspace), [".git"]);
    assert_eq!(names(&workspace.join(".git")), [""; 0]);
    assert_eq!(names(&state.join("placeholders")), ["lock", "spare"]);
}

#[test]
fn what_was_there_or_has_changed_stays() {
    let Scene { workspace, state, .. } = &scene();
    fs::create_dir(workspace.join(".vscode")).unwrap();
    let hold = acquire(state, workspace, &wanted()).unwrap();
    fs::write(workspace.join(".envrc"), "a person's").unwrap();
    fs::remove_dir(workspace.join(".git/hooks")).unwrap();
    fs::create_dir(workspace.join(".git/hooks")).unwrap();
    fs::write(workspace.join(".git/hooks/x"), "").unwrap();
    assert_eq!(standing(state, workspace), [""; 0], "a person sees his own");
    drop(hold);
    sweep(state).unwrap();
    assert_eq!(names(workspace), [".envrc", ".git", ".vscode"]);
    assert_eq!(names(&workspace.join(".git/hooks")), ["x"]);
}

#[test]
fn a_start_that_was_killed_between_note_and_deed_is_made_good() {
    let Scene { workspace, state, .. } = &scene();
    drop(acquire(state, workspace, &wanted()).unwrap());
    // What the note looks like before the deed is noted too.
    let registry = names(&state.join("placeholders"))
        .into_iter()
        .find(|name| Path::new(name).extension().is_some_and(|ending| ending == "json"))
        .expect("a registry");
    let path = state.join("placeholders").join(registry);
    let mut note: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for made in note["made"].as_array_mut().unwrap() {
        assert!(made["id"].take().is_array());
    }
    fs::write(&path, note.to_string()).unwrap();
    sweep(state).unwrap();
    assert_eq!(names(workspace), [".git"]);
}

#[test]
fn links_and_other_kinds_in_the_way_are_refused() {
    let Scene { workspace, state, .. } = &scene();
    std::os::unix::fs::symlink("/etc", workspace.join(".vscode")).unwrap();
    let error = acquire(state, workspace, &wanted()).unwrap_err().to_string();
    assert!(error.contains(".vscode"), "{error}");
    fs::remove_file(workspace.join(".vscode")).unwrap();
    fs::create_dir(workspace.join(".envrc")).unwrap();
    let error = acquire(state, workspace, &wanted()).unwrap_err().to_string();
    assert!(error.contains(".envrc"), "{error}");
    fs::remove_dir(workspace.join(".envrc")).unwrap();
    fs::rename(workspace.join(".git"), workspace.join("elsewhere")).unwrap();
    std::os::unix::fs::symlink("elsewhere", workspace.join(".git")).unwrap();
    acquire(state, workspace, &wanted()).expect_err("a link on the way");
    assert_eq!(names(&workspace.join("elsewhere")), [""; 0]);
}

#[test]
fn a_sandbox_leaves_nothing_behind_even_when_its_launcher_is_killed() {
    let session = Session::new();
    let workspace = &session.spec.workspace;
    fs::create_dir(workspace.join(".git")).unwrap();
    let state = session.root.path().join("state");
    let tools = Tools {
        tier_binary: "/nonexistent".into(),
        init_binary: session.spec.init_binary.clone(),
        state: state.clone(),
    };
    let plan = session.plan();
    let mut command = compile(&plan, &tools, &session.spec.gateway_socket).unwrap();
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut child = command
        .spawn(theirs.into(), std::process::Stdio::inherit())
        .unwrap();
    assert!(command.hold.as_ref().is_some_and(|hold| hold.as_raw_fd() >= 512));
    sweep(&state).unwrap();
    assert!(
        names(workspace).contains(&".vscode".to_owned()),
        "held while it runs"
    );
    kill(&child);
    child.wait().unwrap();
    drop((command, ours));
    eventually("nothing is left", || {
        sweep(&state).unwrap();
        names(workspace) == [".git"] && names(&workspace.join(".git")).is_empty()
    });
}

#[test]
fn what_was_made_ready_is_used_and_taken_for_nobody_elses() {
    let Scene { workspace, state, .. } = &scene();
    drop(acquire(state, workspace, &wanted()).unwrap());
    sweep(state).unwrap();
    let spare = state.join("placeholders/spare");
    let before = names(&spare).len();
    assert!(before >= 2, "{before}");
    let hold = acquire(state, workspace, &wanted()).unwrap();
    assert_eq!(names(&spare).len(), before - 2);
    assert_eq!(names(workspace), [".envrc", ".git", ".vscode"]);
    assert_eq!(standing(state, workspace), [".envrc", ".vscode", ".git/hooks"]);
    fs::write(workspace.join(".vscode/settings.json"), "{}").unwrap();
    drop(hold);
    sweep(state).unwrap();
    assert_eq!(names(workspace), [".git", ".vscode"]);
    assert_eq!(names(&workspace.join(".vscode")), ["settings.json"]);
    assert_eq!(names(&spare).len(), before);
}
