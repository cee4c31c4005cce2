//! What `lodge sandbox run` does alike in the tiers that have an engine.

use super::sandbox::{Said, Terminal, all_gone, descendants, ends};
use super::{Lodge, eventually, signal, stderr, stdout};
use rustix::process::Signal;
use std::io::Write;
use std::process::Stdio;

/// A tier, and how much a test pushes through its standard input.
#[derive(Clone, Copy)]
pub struct Tier {
    pub name: &'static str,
    pub input: usize,
}

impl Tier {
    pub fn lodge(self) -> Lodge {
        Lodge::of_tier(self.name)
    }

    pub fn flags(self) -> [&'static str; 2] {
        ["--tier", self.name]
    }

    /// Nothing in the workspace or the state, and no container.
    fn nothing_left(self, lodge: &Lodge) {
        assert_eq!(lodge.leftovers(), Vec::<String>::new());
        if self.name == "container" {
            assert_eq!(lodge.containers(), "");
        }
    }

    pub fn exit_status_signals_and_pipes_are_passed_through(self) {
        let lodge = self.lodge();
        for (script, status) in [("exit 7", 7), ("kill -TERM $$", 143)] {
            let output = lodge.script(&self.flags(), script).output().unwrap();
            assert_eq!(
                output.status.code(),
                Some(status),
                "{script}: {}",
                stderr(&output)
            );
        }
        let missing = lodge
            .sandboxed(&self.flags(), &["no-such-command"])
            .output()
            .unwrap();
        assert_eq!(missing.status.code(), Some(127));
        let mut child = lodge
            .script(&self.flags(), "wc -c; touch made; echo wrong >&2")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let much = vec![b'x'; self.input];
        child.stdin.take().unwrap().write_all(&much).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(stdout(&output).trim(), much.len().to_string());
        assert_eq!(stderr(&output), "wrong\n");
        std::fs::remove_file(lodge.folder("work").join("made")).unwrap();
        self.nothing_left(&lodge);
    }

    pub fn what_is_typed_is_for_the_guest(self) {
        let lodge = self.lodge();
        let script = "stty size; trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.05; done";
        let mut terminal = Terminal::with(&lodge.script(&self.flags(), script), None);
        terminal.said.wait_for("33 77\r\nready");
        terminal.type_in("\u{3}");
        terminal.said.wait_for("caught");
        assert_eq!(terminal.wait(), Some(9));
        assert!(terminal.edits_lines());
    }

    pub fn an_interrupt_during_the_start_leaves_nothing(self) {
        let lodge = self.lodge();
        let mut child = lodge.script(&self.flags(), "sleep 1000").spawn().unwrap();
        let started = eventually("a launcher", || {
            Some(descendants(child.id())).filter(|pids| !pids.is_empty())
        });
        signal(child.id().into(), Signal::INT);
        assert_eq!(ends(&mut child).code(), Some(130));
        all_gone(&started);
        self.nothing_left(&lodge);
    }

    pub fn after_a_kill_nothing_is_left_once_another_has_run(self) {
        let lodge = self.lodge();
        let mut child = lodge
            .script(&self.flags(), "echo ready; sleep 1000")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Said::by(child.stdout.take().unwrap()).wait_for("ready");
        if self.name == "container" {
            assert_ne!(lodge.containers(), "");
        }
        let started = descendants(child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        all_gone(&started);
        assert!(lodge.script(&self.flags(), "true").status().unwrap().success());
        self.nothing_left(&lodge);
    }
}
