//! Every wire: lines that are none, lines that are too long, lines that end in the middle. The harness is a stand-in that
//! speaks the least of each wire; the bridge of opencode's is the real one.

use crate::support::rig::Rig;
use crate::world::{World, create_with};
use lodge_proto::event::{EventBody, TurnOutcome};
use lodge_proto::session::SessionStatus;
use lodge_proto::{ErrorCode, SessionId};
use std::time::Duration;

/// One harness a wire.
const WIRES: [&str; 5] = ["pi", "codex", "claude", "gemini", "opencode"];
/// A wire is started, and each of these is more than one turn, on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_mins(2);

/// What goes wrong in a turn that goes on, and what is said of it.
struct Fault {
    directive: String,
    /// Words of the error that the agent reports; nothing where it reports none.
    told: Option<&'static str>,
}

fn faults(harness: &str) -> Vec<Fault> {
    let fault = |directive: &str, told| Fault {
        directive: directive.to_owned(),
        told,
    };
    // The bridge makes lines of its own out of whatever the server streams. It takes less, for what it puts around it.
    let is_bridged = harness == "opencode";
    let (limit, mib) = if is_bridged {
        ("12 MiB", 12)
    } else {
        ("16 MiB", 16)
    };
    let garbage = if is_bridged { "without a type" } else { "not JSON" };
    vec![
        fault("garbage", Some(garbage)),
        fault("invalid-utf8", Some("not UTF-8")),
        fault("shapes", None),
        // Accepted, and nothing that it knows.
        fault(&format!("bigline {}", (mib << 20) - 64), None),
        fault(&format!("bigline {}", 20 << 20), Some(limit)),
    ]
}

/// The stand-in, after lines that are none of any wire.
const NOISY: &str = r#"printf 'Debugger attached. {\n\377\376\n[]\nnull\n{"type":"response"'
echo; exec "${0%/*}/lodge-fake-pi" "$@""#;

async fn start(harness: &str) -> (World, SessionId) {
    start_in(Rig::new(), harness).await
}

async fn start_in(rig: Rig, harness: &str) -> (World, SessionId) {
    let mut world = World::with(rig);
    world.set_patience(PATIENCE);
    world.rig.workspace(harness);
    let created = world.ok(None, create_with(harness, harness, None)).await;
    let id = created["id"].as_str().unwrap().parse().unwrap();
    world.subscribe(id, None).await;
    world.status(id, SessionStatus::Idle).await;
    (world, id)
}

/// What the agent reported as an error after an event.
fn errors(world: &World, id: SessionId, after: u64) -> Vec<(ErrorCode, String)> {
    let events = world.seen(id).events.iter().filter(|event| event.seq > after);
    let errors = events.filter_map(|event| match &event.body {
        EventBody::AgentError { code, message, .. } => Some((*code, message.clone())),
        _ => None,
    });
    errors.collect()
}

/// Odd lines in the middle of a turn change nothing of it.
async fn survives(harness: &str) {
    let (mut world, id) = start(harness).await;
    for fault in faults(harness) {
        let what = format!("{harness}: {}", fault.directive);
        let before = world.head(id);
        let turn = world
            .prompt(id, &format!("before\n{}\nafter", fault.directive))
            .await;
        let (outcome, error) = world.ended(id, turn).await;
        assert_eq!(outcome, TurnOutcome::Completed, "{what}: {error:?}");
        let answers = world.seen(id).answers();
        assert!(answers.contains("before") && answers.contains("after"), "{what}");
        if let Some(words) = fault.told {
            let errors = errors(&world, id, before);
            let told = errors.iter().any(|(code, message)| {
                *code == ErrorCode::HarnessCrashed && message.contains(words) && message.len() < 1000
            });
            assert!(told, "{what}: {errors:?}");
        }
    }
    world.run(id, "still here").await;
    assert!(world.seen(id).answers().ends_with("still here"), "{harness}");
    world.finish();
}

/// A line that ends in the middle with its process interrupts the turn, and the next prompt starts another process.
async fn torn(harness: &str) {
    let (mut world, id) = start(harness).await;
    for (directive, status) in [("torn 3", "3"), ("torn 0", "0"), ("exit 9", "9")] {
        let what = format!("{harness}: {directive}");
        let turn = world.prompt(id, &format!("said before\n{directive}")).await;
        let (outcome, error) = world.ended(id, turn).await;
        let error = error.expect("an error");
        assert_eq!(
            (outcome, error.code),
            (TurnOutcome::Interrupted, ErrorCode::HarnessCrashed),
            "{what}: {error:?}"
        );
        assert!(
            error.message.contains(&format!("status {status}")),
            "{what}: {}",
            error.message
        );
        world.run(id, "again").await;
        assert!(world.seen(id).answers().ends_with("again"), "{what}");
    }
    world.finish();
}

#[tokio::test]
async fn odd_lines_of_pi_are_told_and_survived() {
    survives(WIRES[0]).await;
}

#[tokio::test]
async fn odd_lines_of_codex_are_told_and_survived() {
    survives(WIRES[1]).await;
}

#[tokio::test]
async fn odd_lines_of_claude_are_told_and_survived() {
    survives(WIRES[2]).await;
}

#[tokio::test]
async fn odd_lines_of_acp_are_told_and_survived() {
    survives(WIRES[3]).await;
}

#[tokio::test]
async fn odd_events_of_opencode_are_survived() {
    survives(WIRES[4]).await;
}

#[tokio::test]
async fn a_line_that_ends_with_its_process_interrupts_the_turn_on_every_wire() {
    for harness in WIRES {
        torn(harness).await;
    }
}

#[tokio::test]
async fn noise_before_the_first_answer_keeps_no_harness_from_its_start() {
    for harness in WIRES {
        let (mut world, id) = start_in(Rig::with_harness(Some(NOISY)), harness).await;
        world.run(id, "still here").await;
        assert_eq!(world.seen(id).answers(), "still here", "{harness}");
        world.finish();
    }
}
