//! What the session says of the code that its workspace brings.

use super::support::Session;
use super::*;
use lodge_proto::event::NotifyLevel;
use lodge_proto::trust::{CodeChange, CodeChangeKind};

fn said(note: Note) -> (NotifyLevel, String) {
    let mut session = Session::idle();
    let events = session.apply(RecordBody::Note(Box::new(note)));
    let [
        Event {
            body: EventBody::Notify { level, message },
            ..
        },
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    session.checker.finish().unwrap();
    (*level, message.clone())
}

#[test]
fn what_is_on_is_said_and_what_went_off_is_a_warning_with_its_reason() {
    let on = said(Note::WorkspaceCode {
        trusted: true,
        files: 3,
        changed: Vec::new(),
        reason: None,
    });
    assert_eq!(on.0, NotifyLevel::Info);
    assert!(on.1.contains("3 file(s)"), "{}", on.1);
    let changed = |n: u32| CodeChange {
        path: format!("f{n}"),
        change: CodeChangeKind::Changed,
    };
    let off = said(Note::WorkspaceCode {
        trusted: false,
        files: 7,
        changed: (0..7).map(changed).collect(),
        reason: None,
    });
    assert_eq!(off.0, NotifyLevel::Warning);
    assert!(off.1.contains("(f0, f1, f2, f3, f4, 2 more)"), "{}", off.1);
    let refused = said(Note::WorkspaceCode {
        trusted: false,
        files: 0,
        changed: Vec::new(),
        reason: Some("`.mcp.json` is a symbolic link".to_owned()),
    });
    assert_eq!(refused.0, NotifyLevel::Warning);
    assert!(refused.1.contains("symbolic link"), "{}", refused.1);
}
