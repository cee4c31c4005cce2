//! Every value survives encoding and decoding.

use super::{events, places, sessions, strategies, trust};
use lodge_proto::relay::RunnerControl;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::fmt::Debug;

/// Through text and through a `Value`: the two readers differ in how they hand out borrowed strings.
fn survives<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) -> Result<(), TestCaseError> {
    let text = serde_json::to_string(value).expect("encode");
    prop_assert!(!text.contains('\n'), "a line of its own: {text}");
    let read: T =
        serde_json::from_str(&text).map_err(|error| TestCaseError::fail(format!("{error}: {text}")))?;
    prop_assert_eq!(&read, value);
    let tree = serde_json::to_value(value).expect("encode");
    let read: T =
        serde_json::from_value(tree).map_err(|error| TestCaseError::fail(format!("{error}: {text}")))?;
    prop_assert_eq!(&read, value);
    Ok(())
}

macro_rules! survive {
    ($($name:ident: $strategy:expr;)*) => {
        proptest! {
            #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]
            $(#[test]
            fn $name(value in $strategy) {
                survives(&value)?;
            })*
        }
    };
}

survive! {
    all_events: events::event();
    parts: strategies::part();
    messages: strategies::message();
    input_requests: strategies::request();
    input_answers: strategies::answer();
    errors: strategies::error();
    cursors: strategies::cursor();
    commands: sessions::command();
    responses: sessions::response();
    harness_infos: sessions::harness();
    workspace_infos: sessions::workspace();
    listings: places::listing();
    contents: places::content();
    written_files: places::written();
    git_states: places::git_status();
    git_diffs: places::git_diff();
    terminals: places::terminal();
    sandbox_choices: places::choices();
    approvals: places::approval();
    workspace_codes: trust::code();
    trusted_codes: trust::trusted();
    session_states: sessions::state();
    message_anchors: sessions::anchor();
    client_frames: sessions::client_frame();
    hellos: sessions::hello();
    controls_to_clients: sessions::to_client();
    controls_to_runners: sessions::to_runner();
    controls_to_relays: sessions::to_relay();
    actors: sessions::actor();
    runner_controls: prop_oneof![
        sessions::to_relay().prop_map(RunnerControl::Relay),
        sessions::to_client().prop_map(|control| RunnerControl::Client(Box::new(control))),
    ];
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// The relay takes the client's bytes as they are and the runner reads the same command out of them.
    #[test]
    fn an_envelope_keeps_the_clients_bytes(command in sessions::command(), actor in sessions::actor()) {
        use lodge_proto::relay::CommandEnvelope;
        let bytes = serde_json::to_string_pretty(&command).expect("encode");
        let raw = serde_json::value::RawValue::from_string(bytes.clone()).expect("JSON");
        let envelope = serde_json::to_vec(&CommandEnvelope { actor: actor.clone(), command: raw }).expect("encode");
        let read: CommandEnvelope = serde_json::from_slice(&envelope).expect("decode");
        prop_assert_eq!(read.actor, actor);
        prop_assert_eq!(read.command.get(), bytes.as_str());
        prop_assert_eq!(serde_json::from_str::<lodge_proto::Command>(read.command.get()).expect("decode"), command);
    }
}

/// One value of each strategy.
fn one_of_each<T: Debug>(strategies: &[BoxedStrategy<T>]) -> Vec<T> {
    let mut runner = TestRunner::deterministic();
    strategies
        .iter()
        .map(|strategy| strategy.new_tree(&mut runner).expect("a value").current())
        .collect()
}

#[test]
fn no_event_is_left_out() {
    let tried: BTreeSet<String> = one_of_each(&events::event_bodies())
        .iter()
        .map(|body| body.tag().to_owned())
        .collect();
    assert_eq!(tried, super::documentation::tags("EventBody", "event"));
}

#[test]
fn no_part_is_left_out() {
    let tried: BTreeSet<String> = one_of_each(&strategies::parts_with(&strategies::extension()))
        .iter()
        .map(|part| {
            serde_json::to_value(part).unwrap()["type"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .filter(|tag| !tag.starts_with("x-"))
        .collect();
    assert_eq!(tried, super::documentation::tags("Part", "type"));
}

#[test]
fn no_command_is_left_out() {
    let tried: BTreeSet<String> = one_of_each(&sessions::command_bodies())
        .iter()
        .map(|body| {
            serde_json::to_value(body).unwrap()["cmd"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(tried, super::documentation::tags("CommandBody", "cmd"));
}
