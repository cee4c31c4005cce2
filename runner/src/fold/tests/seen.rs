//! What a snapshot tells of events that nobody saw.

use super::support::Session;
use super::*;
use crate::fold::seen::{MAX_FINDINGS, MAX_PLACES};
use lodge_proto::event::NetworkDecision;
use lodge_proto::workspace::{Finding, FindingKind};

fn found(kind: FindingKind, paths: impl IntoIterator<Item = String>) -> RecordBody {
    let items = paths.into_iter().map(|path| Finding {
        kind,
        path,
        detail: String::new(),
    });
    RecordBody::Note(Box::new(Note::Findings {
        items: items.collect(),
        truncated: false,
    }))
}

fn access(host: String, decision: NetworkDecision, rule: &str) -> RecordBody {
    RecordBody::Note(Box::new(Note::NetworkAccess(Box::new(Access {
        host,
        port: 443,
        decision,
        rule: rule.into(),
        reason: String::new(),
        connections: 2,
        sent: 10,
        received: 20,
    }))))
}

#[test]
fn findings_are_kept_once_and_the_newest_of_them() {
    let mut session = Session::idle();
    session.apply(found(FindingKind::Hook, ["a".into(), "b".into()]));
    session.apply(found(FindingKind::HardLink, ["a".into()]));
    session.apply(found(FindingKind::Hook, ["a".into()]));
    let state = session.fold.state();
    let told: Vec<_> = state
        .findings
        .iter()
        .map(|seen| (seen.finding.kind, seen.finding.path.as_str()))
        .collect();
    let expected = [
        (FindingKind::Hook, "b"),
        (FindingKind::HardLink, "a"),
        (FindingKind::Hook, "a"),
    ];
    assert_eq!(told, expected);
    assert!(state.findings[0].at < state.findings[2].at);
    let json = serde_json::to_value(&state.findings[0]).unwrap();
    assert_eq!(json["path"], "b", "a finding's fields are its own");
    session.apply(found(
        FindingKind::Hook,
        (0..MAX_FINDINGS).map(|number| number.to_string()),
    ));
    let state = session.fold.state();
    assert_eq!(state.findings.len(), MAX_FINDINGS);
    assert_eq!(state.findings[0].finding.path, "0", "the oldest went");
}

#[test]
fn places_are_counted_and_the_latest_comes_first() {
    let mut session = Session::idle();
    session.apply(access("a".into(), NetworkDecision::Asked, "unlisted"));
    session.apply(access("b".into(), NetworkDecision::Denied, "deny"));
    session.apply(access("a".into(), NetworkDecision::Allowed, "once"));
    session.apply(access("a".into(), NetworkDecision::Allowed, "once"));
    let network = session.fold.state().network;
    assert_eq!((network.allowed, network.denied), (4, 2));
    let [first, second] = &network.places[..] else {
        panic!("{:?}", network.places)
    };
    assert_eq!((first.host.as_str(), first.connections), ("a", 4));
    assert_eq!((first.sent_bytes, first.received_bytes), (20, 40));
    assert_eq!(second.host, "b");
    for number in 0..MAX_PLACES {
        session.apply(access(number.to_string(), NetworkDecision::Denied, "deny"));
    }
    let network = session.fold.state().network;
    assert_eq!(network.places.len(), MAX_PLACES);
    assert!(network.places.iter().all(|place| place.host != "a"));
}

#[test]
fn they_are_in_stored_states_and_older_ones_are_read_without() {
    let mut session = Session::idle();
    session.apply(found(FindingKind::Hook, ["a".into()]));
    let bytes = session.fold.to_snapshot().unwrap();
    let kept = SessionFold::from_snapshot(&bytes).unwrap();
    assert_eq!(kept.state().findings, session.fold.state().findings);
    let mut stored: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    stored["fold"]["core"]
        .as_object_mut()
        .unwrap()
        .remove("seen")
        .unwrap();
    let old = SessionFold::from_snapshot(&serde_json::to_vec(&stored).unwrap()).unwrap();
    assert!(old.state().findings.is_empty());
}
