//! `lodge sandbox run` in the process tier: exit status, signals, pipes and the terminal are passed through, and nothing
//! is left.

#![allow(clippy::unwrap_used)]

mod common;

use common::sandbox::{Said, Terminal, all_gone, descendants, ends};
use common::{Lodge, eventually, signal, stderr, stdout};
use rustix::process::Signal;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

/// More than all that is buffered anywhere on the way.
const MUCH: usize = 50 << 20;

fn lodge() -> Lodge {
    Lodge::of_tier("process")
}

/// Starts a script that says `ready` when it is.
fn ready(command: &mut Command) -> (Child, Said) {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let said = Said::by(child.stdout.take().unwrap());
    said.wait_for("ready");
    (child, said)
}

#[test]
fn the_exit_status_is_the_commands() {
    let lodge = lodge();
    for (script, status) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("exit 255", 255),
        ("kill -TERM $$", 143),
        ("kill -KILL $$", 137),
    ] {
        let output = lodge.script(&[], script).output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(status),
            "{script}: {}",
            stderr(&output)
        );
        assert_eq!(stderr(&output), "", "{script}");
    }
    assert_eq!(lodge.leftovers(), Vec::<String>::new());
}

#[test]
fn a_command_that_cannot_be_started_is_named() {
    let lodge = lodge();
    for (name, status) in [("no-such-command", 127), ("/etc/os-release", 126), ("./x", 127)] {
        let output = lodge.sandboxed(&[], &[name]).output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{name}");
        assert!(stderr(&output).contains(name), "{}", stderr(&output));
    }
}

#[test]
fn both_outputs_and_the_input_are_pipes_of_their_own() {
    let lodge = lodge();
    let mut child = lodge
        .script(&[], "cat; echo wrong >&2; test -t 0 || echo no terminal")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"typed\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(stdout(&output), "typed\nno terminal\n");
    assert_eq!(stderr(&output), "wrong\n");
}

#[test]
fn much_goes_in_and_out_unchanged() {
    let lodge = lodge();
    let mut child = lodge
        .script(&[], "cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let sent: Vec<u8> = (0..=250).cycle().take(MUCH).collect();
    let mut input = child.stdin.take().unwrap();
    let expected = sent.clone();
    let writer = std::thread::spawn(move || input.write_all(&sent).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.stdout == expected, "{} bytes came", output.stdout.len());
}

#[test]
fn signals_reach_the_command() {
    let lodge = lodge();
    for (sent, status) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let (mut child, _) = ready(&mut lodge.script(&[], "echo ready; sleep 1000"));
        signal(child.id().into(), sent);
        assert_eq!(ends(&mut child).code(), Some(status), "{sent:?}");
    }
    let script = "trap 'echo caught' USR1; trap 'exit 9' INT; echo ready; while :; do sleep 0.05; done";
    let (mut child, said) = ready(&mut lodge.script(&[], script));
    signal(child.id().into(), Signal::USR1);
    said.wait_for("caught");
    signal(child.id().into(), Signal::INT);
    assert_eq!(ends(&mut child).code(), Some(9));
    assert_eq!(lodge.leftovers(), Vec::<String>::new());
}

#[test]
fn input_that_nobody_reads_holds_up_no_signal() {
    let lodge = lodge();
    let mut command = lodge.script(&[], "echo ready; sleep 1000");
    let (mut child, _) = ready(command.stdin(std::fs::File::open("/dev/zero").unwrap()));
    // Until no more is taken: the whole way is full.
    let mut before = 0;
    eventually("the input stops", || {
        let read = read_bytes(&child);
        std::mem::replace(&mut before, read)
            .eq(&read)
            .then_some(())
            .filter(|()| read > 1 << 20)
    });
    signal(child.id().into(), Signal::INT);
    assert_eq!(ends(&mut child).code(), Some(130));
}

/// How many bytes a process has read.
fn read_bytes(child: &Child) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/io", child.id())).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("rchar: "));
    line.unwrap().parse().unwrap()
}

#[test]
fn a_command_that_closes_its_input_goes_on() {
    let lodge = lodge();
    let mut command = lodge.script(&[], "exec 0<&-; sleep 0.3; exit 4");
    command.stdin(std::fs::File::open("/dev/zero").unwrap());
    assert_eq!(command.output().unwrap().status.code(), Some(4));
}

#[test]
fn a_reader_that_goes_away_ends_the_command_quietly() {
    let lodge = lodge();
    let mut child = lodge
        .sandboxed(&[], &["yes"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut first)
        .unwrap();
    assert_eq!(first, "y\n");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(141), "128 and SIGPIPE");
    assert_eq!(stderr(&output), "");
    assert_eq!(lodge.leftovers(), Vec::<String>::new());
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = lodge
        .sandboxed(&[], &["echo", "x"])
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(70));
    assert!(stderr(&output).contains("standard output cannot be written to: No space left"));
}

#[test]
fn a_command_heeds_signals_that_whoever_started_lodge_ignores() {
    let lodge = lodge();
    let inner = lodge.script(&[], "kill -INT $$; echo survived");
    let mut outer = Command::new("sh");
    outer
        .args(["-c", "trap '' INT; exec \"$0\" \"$@\""])
        .arg(inner.get_program())
        .args(inner.get_args())
        .env("LODGE_DATA", lodge.data())
        .current_dir(lodge.folder("work"));
    let output = outer.output().unwrap();
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(130), ""));
    // And Lodge goes on ignoring them itself.
    let script = inner.get_args().map(|word| word.to_string_lossy().into_owned());
    let mut words: Vec<String> = script.collect();
    *words.last_mut().unwrap() = "echo ready; sleep 0.5; exit 3".to_owned();
    let mut outer = Command::new("sh");
    outer
        .args(["-c", "trap '' HUP; exec \"$0\" \"$@\""])
        .arg(inner.get_program())
        .args(words)
        .env("LODGE_DATA", lodge.data())
        .current_dir(lodge.folder("work"));
    let (mut child, _) = ready(&mut outer);
    signal(child.id().into(), Signal::HUP);
    assert_eq!(ends(&mut child).code(), Some(3));
}

#[test]
fn files_of_the_guest_are_the_users() {
    let lodge = lodge();
    let output = lodge.script(&[], "echo x > made; mkdir folder").output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    for (name, mode) in [("made", 0o644), ("folder", 0o755)] {
        let found = std::fs::metadata(lodge.folder("work").join(name)).unwrap();
        assert_eq!(found.permissions().mode() & 0o777, mode, "{name}");
    }
}

#[test]
fn what_a_command_leaves_running_ends_with_it() {
    let lodge = lodge();
    let script = "setsid sh -c 'trap \"\" TERM HUP INT; sleep 1000' >/dev/null 2>&1 </dev/null & exit 5";
    let status = lodge.script(&[], script).status().unwrap();
    assert_eq!(status.code(), Some(5));
    assert_eq!(lodge.leftovers(), Vec::<String>::new());
}

#[test]
fn after_a_kill_nothing_is_left_once_another_has_run() {
    let lodge = lodge();
    let (mut child, _) = ready(&mut lodge.script(&[], "mkdir -p ~/x/y; chmod 0 ~/x; echo ready; sleep 1000"));
    let started = descendants(child.id());
    assert!(!started.is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
    all_gone(&started);
    assert!(!lodge.leftovers().is_empty(), "there is something to clear away");
    assert!(lodge.script(&[], "true").status().unwrap().success());
    assert_eq!(lodge.leftovers(), Vec::<String>::new());
}

#[test]
fn sandboxes_side_by_side_do_not_clear_away_each_others() {
    let lodge = lodge();
    let (mut child, said) = ready(&mut lodge.script(
        &[],
        "echo x > ~/x; trap 'cat ~/x; ls -d .lodge' USR1; echo ready; while :; do sleep 0.05; done",
    ));
    assert!(lodge.script(&[], "true").status().unwrap().success());
    signal(child.id().into(), Signal::USR1);
    said.wait_for("x\n.lodge\n");
    signal(child.id().into(), Signal::KILL);
    ends(&mut child);
}

#[test]
fn at_a_terminal_the_guest_has_one_of_the_same_size() {
    let lodge = lodge();
    let script =
        "stty size; echo $TERM; trap 'stty size; exit 6' WINCH; echo ready; while :; do sleep 0.05; done";
    let mut terminal = Terminal::with(&lodge.script(&[], script), None);
    terminal.said.wait_for("33 77\r\nxterm-256color\r\nready");
    assert!(!terminal.edits_lines(), "the one inside does");
    terminal.resize(50, 120);
    terminal.said.wait_for("50 120\r\n");
    assert_eq!(terminal.wait(), Some(6));
    assert!(terminal.edits_lines(), "its modes are as they were");
}

#[test]
fn what_is_typed_is_for_the_guest() {
    let lodge = lodge();
    let script = "trap 'echo caught' INT; echo ready; until read line; do :; done; echo got $line; cat; echo end of input; exit 8";
    let mut terminal = Terminal::with(&lodge.script(&[], script), None);
    terminal.said.wait_for("ready");
    terminal.type_in("\u{3}");
    terminal.said.wait_for("caught");
    terminal.type_in("some words\r");
    terminal.said.wait_for("got some words");
    terminal.type_in("more\r");
    terminal.said.wait_for("more\r\nmore\r\n");
    terminal.type_in("\u{4}");
    terminal.said.wait_for("end of input");
    assert_eq!(terminal.wait(), Some(8));
}

#[test]
fn the_terminal_is_as_it_was_however_it_ends() {
    let lodge = lodge();
    let mut missing = Terminal::with(&lodge.sandboxed(&[], &["no-such-command"]), None);
    assert_eq!(missing.wait(), Some(127));
    assert!(missing.edits_lines());
    let mut told = Terminal::with(&lodge.script(&[], "echo ready; sleep 1000"), None);
    told.said.wait_for("ready");
    signal(told.child.id().into(), Signal::TERM);
    assert_eq!(told.wait(), Some(143));
    assert!(told.edits_lines());
}

#[test]
fn an_interrupt_from_the_keyboard_reaches_a_command_whose_output_is_piped() {
    let lodge = lodge();
    let script = "trap 'sleep 0.2; echo cleared up; exit 9' INT; echo ready; while :; do sleep 0.05; done";
    let mut terminal = Terminal::with(&lodge.script(&[], script), Some(Stdio::piped()));
    let said = Said::by(terminal.child.stdout.take().unwrap());
    said.wait_for("ready");
    terminal.type_in("\u{3}");
    said.wait_for("cleared up");
    assert_eq!(terminal.wait(), Some(9));
}
