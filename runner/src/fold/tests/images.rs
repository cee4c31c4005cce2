//! Images in prompts: what is delivered names them, and what is lost fails by name.

use super::*;
use lodge_proto::ErrorBody;
use lodge_proto::part::BlobRef;

fn image(digit: &str) -> Part {
    let blob = BlobRef {
        hash: digit.repeat(64),
        media_type: "image/png".into(),
        size: 3,
        name: None,
    };
    Part::Image { blob, alt: None }
}

fn prompt(parts: Vec<Part>) -> CommandBody {
    CommandBody::Prompt { parts }
}

fn launch(text_models: Vec<String>) -> RecordBody {
    let launch = Launch {
        harness_version: "1".into(),
        models: Vec::new(),
        text_models,
        resume: false,
        ask_permissions: false,
        tier: None,
        profile: None,
    };
    RecordBody::Note(Box::new(Note::Launch(Box::new(launch))))
}

#[test]
fn the_places_of_images_are_cut_out_and_their_hashes_kept() {
    let mut session = Session::idle();
    // Text that looks like an image is text.
    let text = Part::text("\"data\":\"\" é");
    let events = {
        session
            .command(prompt(vec![text, image("a"), image("b")]))
            .unwrap();
        session.fold.state()
    };
    assert!(matches!(events.messages[0].parts[1], Part::Image { .. }));
    let input = session.fold.wants().inputs.last().cloned().unwrap();
    let hashes: Vec<&str> = input.blobs.iter().map(|slot| &slot.hash[..1]).collect();
    assert_eq!(hashes, ["a", "b"]);
    // What goes there makes the line that pi takes.
    let mut line = input.bytes.clone();
    for (slot, bytes) in input.blobs.iter().zip([b"AAAA", b"BBBB"]).rev() {
        line.splice(slot.at..slot.at, bytes.iter().copied());
    }
    let line: Value = serde_json::from_slice(&line).unwrap();
    assert_eq!(line["message"], "\"data\":\"\" é");
    assert_eq!(
        line["images"],
        json!([
            { "type": "image", "data": "AAAA", "mimeType": "image/png" },
            { "type": "image", "data": "BBBB", "mimeType": "image/png" },
        ])
    );
    // The same after a restart of the runner in between.
    let restored = SessionFold::from_snapshot(&session.fold.to_snapshot().unwrap()).unwrap();
    assert_eq!(restored.wants().inputs.last(), Some(&input));
}

#[test]
fn an_image_that_is_lost_fails_its_turn_and_no_other() {
    let mut session = Session::idle();
    session.deliver();
    session.command(prompt(vec![image("a")])).unwrap();
    let input = session.fold.wants().inputs[0].id;
    let error = ErrorBody::new(ErrorCode::NotFound, "the image aaa cannot be read any more");
    let lost = Note::InputLost { input, error };
    session.apply(RecordBody::Note(Box::new(lost.clone())));
    assert!(session.fold.wants().inputs.is_empty());
    let events = session.acknowledge();
    assert_eq!(outcome(&events), TurnOutcome::Failed);
    session.prompt("go on");
    assert_eq!(session.deliver()[0]["message"], "go on");
    // Told again it is old news.
    assert!(session.apply(RecordBody::Note(Box::new(lost))).is_empty());
}

#[test]
fn an_image_without_text_is_not_steered() {
    let mut session = Session::idle();
    session.prompt("hi");
    session.deliver();
    session.answer_begins();
    let steer = |parts| CommandBody::Steer { parts };
    assert_eq!(
        session.command(steer(vec![image("a")])).unwrap()["disposition"],
        "queued"
    );
    let both = vec![Part::text("and this"), image("b")];
    assert_eq!(session.command(steer(both)).unwrap()["disposition"], "steering");
    assert_eq!(session.fold.wants().inputs.last().unwrap().blobs.len(), 1);
}

#[test]
fn a_model_that_takes_no_images_gets_none() {
    let mut session = Session::created();
    session.apply(launch(vec!["p/blind".into()]));
    session.start(1);
    session.line(&json!({
        "type": "response", "command": "get_state", "success": true,
        "data": { "model": { "provider": "p", "id": "blind" } },
    }));
    let refused = session.command(prompt(vec![image("a")]));
    if session.fold.info().model.as_deref() == Some("p/blind") {
        assert_eq!(refused.unwrap_err().code, ErrorCode::UnsupportedByHarness);
    } else {
        panic!("the model is {:?}", session.fold.info().model);
    }
    session.prompt("words");
}
