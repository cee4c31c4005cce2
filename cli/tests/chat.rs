//! `lodge chat` and `lodge sessions` with the real pi and the demo model.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Lodge, eventually, signal, stderr, stdout};
use lodge_proto::event::TurnOutcome;
use lodge_proto::{Event, EventBody, Role};
use rustix::process::Signal;
use serde_json::Value;
use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Output, Stdio};

fn chat(lodge: &Lodge, workspace: &Path, prompt: &str) -> Output {
    let workspace = workspace.to_str().unwrap();
    lodge.run(&[
        "chat",
        "--harness",
        "pi",
        "--workspace",
        workspace,
        "--json",
        prompt,
    ])
}

fn events(output: &Output) -> Vec<Event> {
    let text = stdout(output);
    let events: Vec<Event> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(!events.is_empty(), "no event; standard error: {}", stderr(output));
    events
}

/// Gap-free numbers from 1, one end of the one turn, everything the checker knows.
fn assert_whole_turn(events: &[Event]) {
    assert!(
        events.iter().map(|event| event.seq).eq(1..=events.len() as u64),
        "a gap"
    );
    let ends = events
        .iter()
        .filter(|event| matches!(event.body, EventBody::TurnEnded { .. }))
        .count();
    assert_eq!(ends, 1);
    assert!(matches!(events.last().unwrap().body, EventBody::AgentIdle { .. }));
    let mut checker = lodge_proto::invariants::Checker::new();
    for event in events {
        checker.event(event).unwrap();
    }
    checker.finish().unwrap();
}

#[test]
fn a_turn_prints_its_whole_log_and_leaves_no_process() {
    let lodge = Lodge::with_pi();
    let workspace = lodge.folder("work");
    let output = chat(&lodge, &workspace, "think");
    assert!(output.status.success(), "{}", stderr(&output));
    assert_whole_turn(&events(&output));
    lodge.assert_no_processes();
}

#[test]
fn a_tool_writes_into_the_workspace_and_the_session_goes_on() {
    let lodge = Lodge::with_pi();
    let workspace = lodge.folder("work");
    let output = chat(
        &lodge,
        &workspace,
        "use bash: echo hi > hello.txt && cat hello.txt",
    );
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(
        std::fs::read_to_string(workspace.join("hello.txt")).unwrap(),
        "hi\n"
    );
    let session = events(&output)[0].session_id.to_string();
    let folder = workspace.to_str().unwrap();
    let more = lodge.run(&[
        "chat",
        "--session",
        &session,
        "--workspace",
        folder,
        "say still here",
    ]);
    assert!(more.status.success(), "{}", stderr(&more));
    assert!(stdout(&more).contains("still here"), "{}", stdout(&more));
    let list: Value = serde_json::from_slice(&lodge.run(&["sessions", "list", "--json"]).stdout).unwrap();
    assert_eq!(list[0]["id"], session.as_str());
    let shown = stdout(&lodge.run(&["sessions", "show", &session]));
    assert!(
        shown.contains("hello.txt") && shown.contains("still here"),
        "{shown}"
    );
    let deleted = lodge.run(&["sessions", "delete", &session]);
    assert!(deleted.status.success(), "{}", stderr(&deleted));
    assert_eq!(lodge.run(&["sessions", "show", &session]).status.code(), Some(10));
}

#[test]
fn a_running_lodge_is_used_and_decides_where_agents_work() {
    let lodge = Lodge::with_pi();
    let (inside, outside) = (lodge.folder("inside"), lodge.folder("outside"));
    let _up = lodge.up(&["--workspace", inside.to_str().unwrap()]);
    let output = chat(&lodge, &inside, "say hello");
    assert!(output.status.success(), "{}", stderr(&output));
    assert_whole_turn(&events(&output));
    let refused = chat(&lodge, &outside, "say hello");
    assert!(
        matches!(refused.status.code(), Some(11 | 20)),
        "{}",
        stderr(&refused)
    );
    assert!(stderr(&refused).contains("--workspace"), "{}", stderr(&refused));
    std::os::unix::fs::symlink(&outside, inside.join("link")).unwrap();
    let refused = chat(&lodge, &inside.join("link"), "say hello");
    assert!(
        matches!(refused.status.code(), Some(11 | 20)),
        "{}",
        stderr(&refused)
    );
    assert!(
        lodge
            .processes()
            .iter()
            .any(|process| process.contains("lodge-shim")),
        "the session is there"
    );
    assert!(lodge.run(&["down"]).status.success());
    lodge.assert_no_processes();
}

#[test]
fn what_cannot_be_started_is_refused_with_its_reason() {
    let lodge = Lodge::new();
    let workspace = lodge.folder("work");
    let missing = chat(&lodge, &workspace, "say x");
    assert_eq!(missing.status.code(), Some(17), "{}", stderr(&missing));
    assert!(
        stderr(&missing).contains("lodge harness install pi"),
        "{}",
        stderr(&missing)
    );
    let nowhere = chat(&lodge, &workspace.join("none"), "say x");
    assert_eq!(nowhere.status.code(), Some(10), "{}", stderr(&nowhere));
    let folder = workspace.to_str().unwrap();
    let unknown = lodge.run(&[
        "chat",
        "--harness",
        "no-such-agent",
        "--workspace",
        folder,
        "say x",
    ]);
    assert!(
        matches!(unknown.status.code(), Some(10 | 15)),
        "{}",
        stderr(&unknown)
    );
    assert!(stderr(&unknown).contains("no-such-agent"));
}

#[test]
fn an_unknown_model_is_refused() {
    let lodge = Lodge::with_pi();
    let workspace = lodge.folder("work");
    let args = [
        "chat",
        "--harness",
        "pi",
        "--workspace",
        workspace.to_str().unwrap(),
        "--model",
        "no/such",
        "say x",
    ];
    let output = lodge.run(&args);
    assert!(
        matches!(output.status.code(), Some(10 | 15)),
        "{}",
        stderr(&output)
    );
    assert!(stderr(&output).contains("no/such"), "{}", stderr(&output));
}

#[test]
fn an_error_of_the_provider_ends_the_turn_and_is_the_exit_status() {
    let lodge = Lodge::with_pi();
    let output = chat(&lodge, &lodge.folder("work"), "err 401");
    assert_eq!(output.status.code(), Some(23), "{}", stderr(&output));
    assert_whole_turn(&events(&output));
}

/// A chat under way; its lines as they come.
struct Running {
    child: Child,
    lines: Box<dyn Iterator<Item = Event>>,
}

impl Running {
    fn start(lodge: &Lodge, workspace: &Path, prompt: &str) -> Self {
        let args = [
            "chat",
            "--harness",
            "pi",
            "--workspace",
            workspace.to_str().unwrap(),
            "--json",
            prompt,
        ];
        let mut child = lodge.command(&args).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok);
        Self {
            child,
            lines: Box::new(lines.map(|line| serde_json::from_str(&line).unwrap())),
        }
    }

    /// The events up to the first piece of the answer.
    fn until_it_streams(&mut self) -> Vec<Event> {
        let mut seen = Vec::new();
        let mut answers = HashSet::new();
        for event in &mut self.lines {
            let streams = match &event.body {
                EventBody::StreamMessageStart {
                    message_id,
                    role: Role::Assistant,
                } => {
                    answers.insert(*message_id);
                    false
                }
                EventBody::StreamTextDelta { message_id, .. } => answers.contains(message_id),
                _ => false,
            };
            seen.push(event);
            if streams {
                return seen;
            }
        }
        panic!("the answer never streamed");
    }

    fn finish(mut self, mut seen: Vec<Event>) -> (Vec<Event>, Option<i32>) {
        seen.extend(&mut self.lines);
        let code = eventually("the chat ends", || self.child.try_wait().unwrap()).code();
        (seen, code)
    }
}

fn outcome(events: &[Event]) -> TurnOutcome {
    let mut ends = events.iter().filter_map(|event| match &event.body {
        EventBody::TurnEnded { outcome, .. } => Some(*outcome),
        _ => None,
    });
    ends.next_back().unwrap()
}

#[test]
fn an_interrupt_aborts_the_turn_and_everything_ends_with_the_call() {
    let lodge = Lodge::with_pi();
    let mut chat = Running::start(&lodge, &lodge.folder("work"), "long 400 20");
    let seen = chat.until_it_streams();
    signal(u64::from(chat.child.id()), Signal::INT);
    let (events, code) = chat.finish(seen);
    assert_eq!(code, Some(130));
    assert_eq!(outcome(&events), TurnOutcome::Aborted);
    assert_whole_turn(&events);
    lodge.assert_no_processes();
}

#[test]
fn a_killed_runner_costs_no_event() {
    let lodge = Lodge::with_pi();
    let workspace = lodge.folder("work");
    let _up = lodge.up(&["--workspace", workspace.to_str().unwrap()]);
    let mut chat = Running::start(&lodge, &workspace, "long 100 20");
    let mut seen = chat.until_it_streams();
    for _ in 0..3 {
        let pid = eventually("the runner is ready", || {
            let runner = lodge.status()["roles"]["runner"].clone();
            (runner["health"] == "ready")
                .then(|| runner["pid"].as_u64())
                .flatten()
        });
        signal(pid, Signal::KILL);
        seen.extend(chat.lines.by_ref().take(10));
    }
    let (events, code) = chat.finish(seen);
    assert_eq!(code, Some(0));
    assert_whole_turn(&events);
    let text: String = events.iter().filter_map(answer_text).collect();
    assert!(
        (0..100).all(|number| text.split_whitespace().any(|word| word == format!("tok{number}"))),
        "{text}"
    );
}

/// The text of a finished answer.
fn answer_text(event: &Event) -> Option<String> {
    match &event.body {
        EventBody::StreamMessageEnd { message } if message.role == Role::Assistant => {
            Some(lodge_proto::part::plain_text(&message.parts))
        }
        _ => None,
    }
}

#[test]
fn as_text_the_answer_streams_and_a_tool_call_is_one_line() {
    let lodge = Lodge::with_pi();
    let workspace = lodge.folder("work");
    let folder = workspace.to_str().unwrap();
    let prompt = "use bash: printf '\\033]0;title\\007x'";
    let output = lodge.run(&["chat", "--harness", "pi", "--workspace", folder, prompt]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(
        text.lines()
            .any(|line| line.starts_with("● bash ") && line.contains("→ ok")),
        "{text}"
    );
    assert!(
        text.contains("done") && !text.contains('\u{1b}') && !text.contains('\u{7}'),
        "{text:?}"
    );
}

/// A PNG of 16 by 12 pixels.
const IMAGE: &str = "src/commands/harness/suite/cases/image.png";

#[test]
fn images_reach_the_model_and_what_is_none_is_refused_by_name() {
    let lodge = Lodge::with_pi();
    let workspace = lodge.folder("work");
    let folder = workspace.to_str().unwrap();
    let image = common::repository().join("cli").join(IMAGE);
    let chat = |images: &[&str]| {
        let mut args = vec!["chat", "--harness", "pi", "--workspace", folder, "look"];
        args.extend(images.iter().flat_map(|path| ["--image", *path]));
        lodge.run(&args)
    };
    let path = image.to_str().unwrap();
    let output = chat(&[path, path]);
    assert!(output.status.success(), "{}", stderr(&output));
    let size = std::fs::metadata(&image).unwrap().len();
    let told = format!("image/png, {size} bytes, 16x12, sha256 ");
    let text = stdout(&output);
    assert!(
        text.contains("2 images") && text.matches(&told).count() == 2,
        "{text}"
    );

    std::fs::write(workspace.join("page.png"), "<svg/>").unwrap();
    let fake = workspace.join("page.png");
    for odd in [fake.to_str().unwrap(), "/dev/zero", "no/such/file.png", folder] {
        let output = chat(&[odd]);
        assert_eq!(output.status.code(), Some(15), "{odd}: {}", stderr(&output));
        assert!(stderr(&output).contains(odd), "{}", stderr(&output));
    }
}
