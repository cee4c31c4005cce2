//! `lodge up` and what goes with it: one a data directory, nothing left behind, restarts.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Lodge, eventually, signal, stderr, stdout};
use rustix::process::Signal;
use serde_json::Value;
use std::net::TcpListener;
use std::time::Duration;

fn role_pid(status: &Value, role: &str) -> Option<u64> {
    let role = &status["roles"][role];
    (role["health"] == "ready")
        .then(|| role["pid"].as_u64())
        .flatten()
}

#[test]
fn up_is_ready_says_so_and_down_leaves_nothing() {
    let lodge = Lodge::new();
    let mut up = lodge.up(&[]);
    let status = lodge.status();
    assert_eq!(status["running"], true);
    assert_eq!(status["ready"], true, "{status}");
    assert_eq!(status["pid"].as_u64().unwrap(), u64::from(up.child.id()));
    assert!(
        !status.to_string().contains("token"),
        "the state holds no login token: {status}"
    );
    let down = lodge.run(&["down"]);
    assert!(down.status.success(), "{}", stderr(&down));
    assert_eq!(up.wait(), Some(0));
    lodge.assert_no_processes();
    assert!(!lodge.data().join("lodge.json").exists());
    assert_eq!(lodge.run(&["status"]).status.code(), Some(3));
}

#[test]
fn a_second_up_on_the_same_data_directory_names_process_and_address() {
    let lodge = Lodge::new();
    let up = lodge.up(&[]);
    let second = lodge.run(&["up", "--no-open", "--listen", "127.0.0.1:0"]);
    assert_eq!(second.status.code(), Some(13), "busy");
    let text = stderr(&second);
    assert!(
        text.contains(&up.child.id().to_string()) && text.contains(&up.address()),
        "{text}"
    );
    assert!(text.contains("lodge down"), "says what to do: {text}");
}

#[test]
fn a_port_in_use_is_an_error_before_anything_starts() {
    let lodge = Lodge::new();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    let up = lodge.run(&["up", "--no-open", "--listen", &address]);
    assert_eq!(up.status.code(), Some(13), "busy");
    let text = stderr(&up);
    assert!(text.contains(&address) && text.contains("in use"), "{text}");
    assert!(!lodge.data().join("gateway").exists(), "nothing was started");
}

#[test]
fn without_tls_only_the_loopback_is_listened_on() {
    let up = Lodge::new().run(&["up", "--no-open", "--listen", "0.0.0.0:0"]);
    assert_eq!(up.status.code(), Some(15), "{}", stderr(&up));
}

#[test]
fn seconds_ends_it_and_leaves_no_process() {
    let lodge = Lodge::new();
    let up = lodge.run(&["up", "--no-open", "--listen", "127.0.0.1:0", "--seconds", "1"]);
    assert!(up.status.success(), "{}", stderr(&up));
    assert!(stdout(&up).contains("Lodge is ready: http://127.0.0.1:"));
    lodge.assert_no_processes();
}

#[test]
fn a_killed_role_comes_back() {
    let lodge = Lodge::new();
    let _up = lodge.up(&[]);
    for role in ["gateway", "history", "runner", "backend"] {
        let first = role_pid(&lodge.status(), role).unwrap();
        signal(first, Signal::KILL);
        let second = eventually("the role is started again", || {
            role_pid(&lodge.status(), role).filter(|second| *second != first)
        });
        assert_ne!(first, second);
    }
    eventually("all is ready", || (lodge.status()["ready"] == true).then_some(()));
}

#[test]
fn a_killed_supervisor_takes_its_roles_along_and_the_next_start_is_clean() {
    let lodge = Lodge::new();
    let mut up = lodge.up(&[]);
    signal(u64::from(up.child.id()), Signal::KILL);
    up.wait();
    eventually("the roles are gone", || {
        lodge.processes().is_empty().then_some(())
    });
    assert!(
        lodge.data().join("lodge.json").exists(),
        "stale state is what this test is about"
    );
    assert_eq!(lodge.run(&["status"]).status.code(), Some(3));
    drop(up);
    lodge.up(&[]);
}

#[test]
fn an_unknown_key_stops_the_start_with_file_line_and_key() {
    let lodge = Lodge::new();
    let config = lodge.data().join("config");
    std::fs::create_dir_all(&config).unwrap();
    std::fs::write(
        config.join("lodge.toml"),
        "workspaces = []\n[gateway]\ndemmo = true\n",
    )
    .unwrap();
    let up = lodge.run(&["up", "--no-open", "--listen", "127.0.0.1:0"]);
    assert_eq!(up.status.code(), Some(15));
    let text = stderr(&up);
    for part in ["lodge.toml", "line 3", "demmo"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_workspace_that_does_not_exist_is_refused() {
    let up = Lodge::new().run(&[
        "up",
        "--no-open",
        "--listen",
        "127.0.0.1:0",
        "--workspace",
        "/no/such/directory",
    ]);
    assert_eq!(up.status.code(), Some(10), "{}", stderr(&up));
}

#[test]
fn logs_show_what_the_roles_wrote() {
    let lodge = Lodge::new();
    let none = lodge.run(&["logs"]);
    assert_eq!(none.status.code(), Some(10), "{}", stderr(&none));
    let _up = lodge.up(&[]);
    let logs = lodge.run(&["logs", "runner"]);
    assert!(
        logs.status.success() && stdout(&logs).contains("ready"),
        "{}",
        stdout(&logs)
    );
}

#[test]
fn a_login_link_is_new_each_time_and_needs_a_running_lodge() {
    let lodge = Lodge::new();
    assert_eq!(lodge.run(&["login-link"]).status.code(), Some(25));
    let up = lodge.up(&[]);
    let link = || {
        let output = lodge.run(&["login-link"]);
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output).trim().to_owned()
    };
    let links = [link(), link()];
    assert!(
        links
            .iter()
            .all(|link| link.contains(&up.address()) && link.contains('#')),
        "{links:?}"
    );
    assert!(links[0] != links[1] && links[0] != up.url);
}

#[test]
fn a_stop_asked_for_while_it_starts_is_obeyed() {
    let lodge = Lodge::new();
    let args = ["up", "--no-open", "--listen", "127.0.0.1:0"];
    let mut child = lodge
        .command(&args)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    eventually("it holds the lock", || {
        (lodge.run(&["status"]).status.code() != Some(3)).then_some(())
    });
    signal(u64::from(child.id()), Signal::TERM);
    eventually("it ends", || child.try_wait().unwrap());
    eventually("nothing is left", || {
        std::thread::sleep(Duration::from_millis(1));
        lodge.processes().is_empty().then_some(())
    });
}
