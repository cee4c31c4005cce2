//! What `lodge sandbox` refuses, by name: workspaces, policies, limits, tiers.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Lodge, stderr, stdout};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Output;

/// Exit statuses (docs: protocol, error codes).
const NOT_FOUND: i32 = 10;
const INVALID: i32 = 15;
const UNAVAILABLE: i32 = 19;
const DENIED: i32 = 20;
const LIMIT: i32 = 27;
const USAGE: i32 = 2;

fn lodge() -> Lodge {
    Lodge::of_tier("process")
}

#[track_caller]
fn refused(output: &Output, status: i32, parts: &[&str]) {
    let said = stderr(output);
    assert_eq!(output.status.code(), Some(status), "{said}");
    assert_eq!(stdout(output), "");
    for part in parts {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
    assert!(said.contains("to do:") || status == USAGE, "{said}");
}

fn write(path: &Path, text: &str) -> PathBuf {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
    path.to_owned()
}

fn in_workspace(lodge: &Lodge, workspace: &str) -> Output {
    let home = lodge.folder("home");
    lodge
        .command(&["sandbox", "run", "--workspace", workspace, "--", "pwd"])
        .current_dir(lodge.root())
        .env("HOME", home)
        .output()
        .unwrap()
}

#[test]
fn a_workspace_may_be_relative_and_have_any_name() {
    let lodge = lodge();
    for name in [
        "work",
        "with blank",
        "ü",
        "line\nfeed",
        "home/src",
        "data/workspaces/a",
    ] {
        let real = lodge.folder(name).canonicalize().unwrap();
        let output = in_workspace(&lodge, name);
        assert_eq!(
            stdout(&output),
            format!("{}\n", real.display()),
            "{name}: {}",
            stderr(&output)
        );
    }
}

#[test]
fn a_workspace_that_cannot_be_one_is_named() {
    let lodge = lodge();
    write(&lodge.root().join("file"), "");
    lodge.folder("data/gateway");
    let root = lodge.root().to_str().unwrap();
    for (workspace, status, why) in [
        ("missing", NOT_FOUND, "No such file"),
        ("file", INVALID, "not a directory"),
        ("/", DENIED, "data directory"),
        (root, DENIED, "data directory"),
        ("data", DENIED, "data directory"),
        ("data/gateway", DENIED, "data directory"),
        ("home", DENIED, "home directory"),
        ("/etc", DENIED, "/etc"),
        ("/usr", DENIED, "/usr"),
        ("/proc", DENIED, "/proc"),
        ("/tmp", DENIED, "/tmp"),
    ] {
        refused(&in_workspace(&lodge, workspace), status, &[workspace, why]);
    }
    refused(&in_workspace(&lodge, ""), USAGE, &["--workspace"]);
}

#[test]
fn unknown_words_are_wrong_usage() {
    let lodge = lodge();
    for args in [
        &["--profile", "none", "--", "true"][..],
        &["--tier", "none", "--", "true"],
        &[],
        &["--"],
    ] {
        let words: Vec<&str> = ["sandbox", "run"].iter().chain(args).copied().collect();
        refused(&lodge.run(&words), USAGE, &[]);
    }
}

/// A text, and what an error about it names.
const BROKEN: [(&str, &str); 7] = [
    ("version = 1\nnonsense = 3\n", "nonsense"),
    ("version = 1\n[fs]\nwrites = [\"x\"]\n", "fs.writes"),
    (
        "version = 1\n[limits]\nprocesses = \"many\"\n",
        "limits.processes",
    ),
    ("version = 1\n[limits]\nmemory = -1\n", "limits.memory"),
    ("version = 2\n", "version"),
    ("", "version"),
    ("no toml\n", "sandbox.toml"),
];

#[test]
fn a_broken_policy_is_an_error_that_names_file_and_key() {
    let lodge = lodge();
    for (text, key) in BROKEN {
        let file = write(&lodge.root().join("sandbox.toml"), text);
        let file = file.to_str().unwrap();
        let output = lodge.script(&["--policy", file], "true").output().unwrap();
        refused(&output, DENIED, &[file, key]);
        write(&lodge.folder("work").join(".lodge/sandbox.toml"), text);
        let output = lodge.script(&[], "true").output().unwrap();
        refused(&output, DENIED, &["work/.lodge/sandbox.toml", key]);
        std::fs::remove_dir_all(lodge.folder("work")).unwrap();
    }
    let missing = lodge
        .script(&["--policy", "missing.toml"], "true")
        .output()
        .unwrap();
    refused(&missing, NOT_FOUND, &["missing.toml"]);
}

#[test]
fn a_workspace_cannot_widen_its_policy() {
    let lodge = lodge();
    let file = lodge.folder("work").join(".lodge/sandbox.toml");
    for (text, key) in [
        ("[limits]\nprocesses = 100000\n", "limits.processes"),
        (
            "[net]\nmode = \"broker\"\nallow = [\"evil.example\"]\n",
            "net.allow",
        ),
        ("[fs]\nwrite = [\"/srv\"]\n", "fs.write"),
        ("profile = \"minimal\"\n", "work/.lodge/sandbox.toml"),
    ] {
        write(&file, &format!("version = 1\n{text}"));
        let output = lodge.script(&[], "true").output().unwrap();
        refused(&output, DENIED, &["work/.lodge/sandbox.toml", key]);
    }
    std::fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", &file).unwrap();
    let output = lodge.script(&[], "true").output().unwrap();
    refused(&output, DENIED, &["work/.lodge/sandbox.toml"]);
    std::fs::remove_file(&file).unwrap();
    let below = lodge
        .script(&["--profile", "strict", "--tier", "process"], "true")
        .output()
        .unwrap();
    refused(&below, DENIED, &["tier", "minimum_tier"]);
}

#[test]
fn a_host_on_no_list_is_refused_and_that_is_said() {
    let lodge = lodge();
    // A proxy's wire by hand: not every machine has curl.
    let script = "exec 3<>/dev/tcp/127.0.0.1/8377; \
        printf 'CONNECT evil.example:443 HTTP/1.1\\r\\nHost: evil.example:443\\r\\n\\r\\n' >&3; head -n 1 <&3";
    for unlisted in ["deny", "ask"] {
        let text =
            format!("version = 1\n[net]\nmode = \"broker\"\nports = [443]\nunlisted = \"{unlisted}\"\n");
        let file = write(&lodge.root().join("sandbox.toml"), &text);
        let flags = ["--policy", file.to_str().unwrap()];
        let output = lodge.sandboxed(&flags, &["bash", "-c", script]).output().unwrap();
        assert!(
            stdout(&output).contains(" 403 "),
            "{unlisted}: {}",
            stdout(&output)
        );
        let said = stderr(&output);
        assert!(said.contains("evil.example:443"), "{unlisted}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn a_limit_that_is_crossed_is_named_with_its_place() {
    let lodge = lodge();
    for (limit, script) in [
        (
            "wall_seconds = 1",
            "trap '' TERM; while :; do sleep 0.1; echo; done",
        ),
        ("idle_seconds = 1", "sleep 1000"),
        ("output = \"1M\"", "yes"),
        ("disk = \"4M\"", "head -c 20000000 /dev/zero > big; sleep 1000"),
    ] {
        let key = limit.split(' ').next().unwrap();
        let text = format!("version = 1\n[limits]\n{limit}\n");
        let file = write(&lodge.root().join("sandbox.toml"), &text);
        let file = file.to_str().unwrap();
        let output = lodge.script(&["--policy", file], script).output().unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(LIMIT), "{limit}: {said}");
        for part in [format!("limits.{key}"), "allowed".to_owned(), file.to_owned()] {
            assert!(said.contains(&part), "{part} is not in: {said}");
        }
    }
}

#[test]
fn a_limit_that_cannot_be_held_as_demanded_is_refused() {
    let lodge = lodge();
    let file = write(
        &lodge.root().join("sandbox.toml"),
        "version = 1\n[limits]\nrequire = \"hard\"\n",
    );
    let output = lodge
        .script(&["--policy", file.to_str().unwrap()], "true")
        .output()
        .unwrap();
    // Disk is measured on every machine.
    refused(&output, UNAVAILABLE, &["limits.require", "limits."]);
}

#[test]
fn explain_starts_nothing_and_needs_no_data_directory() {
    let lodge = Lodge::new();
    let work = lodge.folder("work");
    let explain = ["sandbox", "explain", "--workspace", work.to_str().unwrap()];
    let text = lodge.run(&explain);
    assert!(text.status.success(), "{}", stderr(&text));
    for part in [
        work.to_str().unwrap(),
        "profile development",
        "tier process",
        ".envrc",
    ] {
        assert!(
            stdout(&text).contains(part),
            "{part} is not in: {}",
            stdout(&text)
        );
    }
    let json = lodge.run(
        &[
            &explain[..],
            &["--json", "--profile", "strict", "--tier", "microvm"],
        ]
        .concat(),
    );
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert!(json.is_object());
    assert!(!lodge.data().exists());
    assert_eq!(std::fs::read_dir(&work).unwrap().count(), 0);
}

#[test]
fn status_says_what_each_tier_lacks_and_how_each_limit_is_held() {
    let lodge = Lodge::new();
    let output = lodge
        .command(&["sandbox", "status", "--json"])
        .env("DOCKER_HOST", "unix:///nonexistent")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "only the process tier decides");
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    let tiers = status["tiers"].as_array().unwrap();
    assert_eq!(tiers.len(), 3);
    for tier in tiers {
        assert_eq!(tier["usable"] == false, tier["mend"].is_string(), "{tier}");
        let limits = tier["limits"].as_array().unwrap();
        assert!(limits.iter().all(|limit| limit["by"].is_string()), "{tier}");
        assert!(limits.iter().any(|limit| limit["key"] == "limits.memory"));
    }
    // This data directory has no image.
    assert_eq!(tiers[1]["usable"], false);
    assert_eq!(tiers[2]["usable"], false);
}
