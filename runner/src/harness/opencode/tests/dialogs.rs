//! Permissions and questions.

use super::Play;
use lodge_proto::command::CommandBody;
use lodge_proto::input::{InputAnswer, InputKind, InputRequest, PermissionChoice};
use serde_json::json;

#[test]
fn permissions_are_answered_in_opencodes_words() {
    let mut play = Play::working();
    let answers = [
        (PermissionChoice::Once, json!({ "reply": "once" })),
        (
            PermissionChoice::Deny,
            json!({ "reply": "reject", "message": "The user does not allow this." }),
        ),
        (PermissionChoice::DenyAndStop, json!({ "reply": "reject" })),
    ];
    for (number, (choice, wanted)) in answers.into_iter().enumerate() {
        let asked = json!({
            "id": format!("per_{number}"), "permission": "bash", "patterns": ["ls"], "always": ["ls *"],
            "metadata": { "command": format!("ls {number}") },
        });
        play.event("permission.asked", asked.clone());
        // Told again after the stream was lost.
        play.event("permission.asked", asked);
        let request = play.questions().pop().unwrap();
        assert_eq!(play.questions().len(), number + 1);
        let answer = InputAnswer::Permission { choice };
        play.command(CommandBody::InputResponse {
            request_id: request.id,
            answer,
        });
        let path = format!("/permission/per_{number}/reply");
        assert_eq!(play.body("POST", &path), wanted);
    }
    // The last choice stops the turn, too.
    play.request("POST", "/session/ses_main/abort");
}

#[test]
fn questions_of_one_request_are_answered_together() {
    let mut play = Play::working();
    let options = json!([{ "label": "red", "description": "like a rose" }, { "label": "blue" }]);
    let questions = json!([
        { "question": "Which colour?", "header": "Colour", "options": options },
        { "question": "Which names?", "header": "", "options": [] },
    ]);
    play.event("question.asked", json!({ "id": "que_1", "questions": questions }));
    let asked = play.questions();
    assert!(matches!(&asked[0].kind, InputKind::Select { options, .. } if options.len() == 2));
    assert_eq!(asked[1].title, "Which names?");
    let answer = |request: &InputRequest, answer| CommandBody::InputResponse {
        request_id: request.id,
        answer,
    };
    let values = vec!["blue".to_owned()];
    play.command(answer(&asked[0], InputAnswer::Selected { values }));
    assert!(play.find("POST", "/question/que_1/reply").is_none());
    let text = "x".to_owned();
    play.command(answer(&asked[1], InputAnswer::Text { text }));
    assert_eq!(
        play.body("POST", "/question/que_1/reply"),
        json!({ "answers": [["blue"], ["x"]] })
    );
}
