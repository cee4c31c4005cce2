//! Permissions and questions.

use super::wire::{self, Permission, Question, Replied};
use super::{Asked, OpenCode};
use crate::fold::{Cx, Rule};
use lodge_proto::input::{InputAnswer, InputKind, PermissionChoice, SelectOption};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Told to the model with a refusal, after which it goes on; without words a refusal ends the run.
const DENIED: &str = "The user does not allow this.";

/// Questions that were asked in one request; it is answered when all are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Questions {
    answers: Vec<Option<Vec<String>>>,
}

impl OpenCode {
    pub(super) fn permission(&mut self, cx: &mut Cx<'_>, permission: Permission) {
        if !self.is_ours(&permission.session) {
            return;
        }
        let known = cx.question(|native| native.get("permission") == Some(&json!(permission.id)));
        if known.is_some() {
            return;
        }
        if !cx.in_turn() {
            return cx.warn("opencode asks for a permission outside of a turn");
        }
        let call = permission.tool.map(|tool| tool.call).unwrap_or_default();
        let mut arguments = permission.metadata;
        if arguments.as_object().is_none_or(serde_json::Map::is_empty) {
            arguments = json!({ "patterns": permission.patterns });
        }
        let message = match permission.what.as_str() {
            "external_directory" => Some(format!(
                "outside of the workspace: {}",
                permission.patterns.join(", ")
            )),
            "doom_loop" => Some("the agent repeats the same call again and again".to_owned()),
            _ => None,
        };
        let rule = rule(&permission.what, &arguments);
        let kind = InputKind::Permission {
            tool: permission.what.clone(),
            arguments,
            tool_call_id: cx.tool_input(&call).is_some().then(|| cx.tool_id(&call)),
            // What opencode remembers by itself is broader than what was asked for (`git status *` for `git status`),
            // and it forgets it with its process: Lodge remembers.
            choices: vec![
                PermissionChoice::Once,
                PermissionChoice::Deny,
                PermissionChoice::DenyAndStop,
            ],
        };
        let title = format!("Allow {}?", permission.what);
        cx.ask_permission(json!({ "permission": permission.id }), title, message, kind, rule);
    }

    pub(super) fn question(&mut self, cx: &mut Cx<'_>, question: Question) {
        if !self.is_ours(&question.session) || self.questions.contains_key(&question.id) {
            return;
        }
        if !cx.in_turn() || question.questions.is_empty() {
            return cx.warn("opencode asks a question outside of a turn");
        }
        let open = Questions {
            answers: vec![None; question.questions.len()],
        };
        self.questions.insert(question.id.clone(), open);
        for (number, asked) in question.questions.into_iter().enumerate() {
            let native = json!({ "question": question.id, "number": number });
            let (title, message) = if asked.header.is_empty() {
                (asked.question.clone(), None)
            } else {
                (asked.header.clone(), Some(asked.question.clone()))
            };
            cx.ask(native, title, message, question_kind(asked));
        }
    }

    pub(super) fn answer_request(&mut self, cx: &mut Cx<'_>, native: &Value, answer: &InputAnswer) {
        let permission = wire::text(native, "permission");
        if !permission.is_empty() {
            let body = match answer {
                InputAnswer::Permission {
                    choice: PermissionChoice::Once,
                } => json!({ "reply": "once" }),
                InputAnswer::Permission {
                    choice: PermissionChoice::Session | PermissionChoice::Always,
                } => json!({ "reply": "always" }),
                InputAnswer::Permission {
                    choice: PermissionChoice::Deny,
                } => json!({ "reply": "reject", "message": DENIED }),
                _ => json!({ "reply": "reject" }),
            };
            let path = format!("/permission/{permission}/reply");
            self.ask(cx, "POST", &path, Some(body), Asked::Other);
            return;
        }
        let id = wire::text(native, "question").to_owned();
        let number = native.get("number").and_then(Value::as_u64).unwrap_or_default();
        self.question_given(cx, &id, number, answer);
    }

    /// One of the questions of a request is answered; the last of them sends the reply.
    fn question_given(&mut self, cx: &mut Cx<'_>, id: &str, number: u64, answer: &InputAnswer) {
        let Some(open) = self.questions.get_mut(id) else {
            return;
        };
        let labels = match answer {
            InputAnswer::Selected { values } => values.clone(),
            InputAnswer::Text { text } => vec![text.clone()],
            _ => {
                self.questions.remove(id);
                self.ask(cx, "POST", &format!("/question/{id}/reject"), None, Asked::Other);
                // The others of the same request are moot.
                cx.withdraw(|native| wire::text(native, "question") == id);
                return;
            }
        };
        let place = usize::try_from(number).ok();
        if let Some(place) = place.and_then(|place| open.answers.get_mut(place)) {
            *place = Some(labels);
        }
        let answers: Option<Vec<Vec<String>>> = open.answers.iter().cloned().collect();
        if let Some(answers) = answers {
            self.questions.remove(id);
            let body = json!({ "answers": answers });
            self.ask(
                cx,
                "POST",
                &format!("/question/{id}/reply"),
                Some(body),
                Asked::Other,
            );
        }
    }

    pub(super) fn question_answered(&mut self, cx: &mut Cx<'_>, replied: &Replied) {
        if self.is_ours(&replied.session) {
            self.questions.remove(&replied.request);
            cx.withdraw(|native| wire::text(native, "question") == replied.request);
        }
    }
}

/// What an approval holds for: a change by its file, all else by the arguments.
fn rule(permission: &str, arguments: &Value) -> Option<Rule> {
    match permission {
        "edit" => Rule::files(permission, [wire::text(arguments, "filepath")]),
        // That the same call may go on and on is no rule.
        "doom_loop" => None,
        _ => Rule::exact(permission, arguments, &["description"]),
    }
}

/// Somebody else answered; for an answer of ours the question is closed already.
pub(super) fn permission_replied(cx: &mut Cx<'_>, replied: &Replied) {
    let choice = match replied.reply.as_str() {
        "once" => PermissionChoice::Once,
        "always" => PermissionChoice::Session,
        _ => PermissionChoice::Deny,
    };
    cx.answered(
        |native| wire::text(native, "permission") == replied.request,
        InputAnswer::Permission { choice },
    );
}

fn question_kind(asked: wire::Asked) -> InputKind {
    if asked.options.is_empty() {
        return InputKind::Input { placeholder: None };
    }
    let options = asked.options.into_iter().map(|option| SelectOption {
        value: option.label.clone(),
        label: option.label,
        description: option.description.filter(|text| !text.is_empty()),
    });
    InputKind::Select {
        options: options.collect(),
        multiple: asked.multiple,
    }
}
