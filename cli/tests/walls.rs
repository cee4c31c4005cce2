//! A machine without a wall: the harness is refused by the name of what is missing, never run without it.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Lodge, stderr};
use std::process::{Command, Output};

/// `lodge chat` on a machine that `take_away` (a shell command, in namespaces of its own) has made poorer.
fn chat_without(take_away: &str) -> Output {
    let lodge = Lodge::with_pi();
    let workspace = lodge.folder("work");
    let chat = lodge.command(&[
        "chat",
        "--harness",
        "pi",
        "--workspace",
        workspace.to_str().unwrap(),
        "say hi",
    ]);
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
    command.arg(format!("{take_away} && exec \"$0\" \"$@\""));
    command.arg(chat.get_program()).args(chat.get_args());
    for (name, value) in chat.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.output().unwrap()
}

#[test]
fn without_bubblewrap_it_says_what_to_install() {
    let output = chat_without("mount --bind /dev/null /usr/bin/bwrap");
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(19), "{said}");
    assert!(
        said.contains("bubblewrap") && said.contains("apt-get install"),
        "{said}"
    );
}

#[test]
fn without_user_namespaces_it_says_how_to_allow_them() {
    let output = chat_without("echo 0 > /proc/sys/user/max_user_namespaces");
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(19), "{said}");
    assert!(
        said.contains("user namespaces") && said.contains("max_user_namespaces"),
        "{said}"
    );
}
