//! Questions of the harness: may a tool run, what does the user choose, forms of MCP servers.

use super::{Claude, Questions};
use crate::fold::{Cx, Rule};
use lodge_proto::event::NotifyLevel;
use lodge_proto::input::{InputAnswer, InputKind, InputRequest, PermissionChoice, SelectOption};
use serde_json::{Map, Value, json};

/// The tool by which the model asks the user.
const ASK_TOOL: &str = "AskUserQuestion";

impl Claude {
    /// A request of the harness. Each is answered, if only by a refusal: it would wait for ever.
    pub(super) fn control_request(&mut self, cx: &mut Cx<'_>, id: &str, request: &Value) {
        match text(request, "subtype") {
            "can_use_tool" => self.permission(cx, id, request),
            "elicitation" => elicitation(cx, id, request),
            other => {
                cx.warn(format!("Claude Code asked for `{other}`, which was refused"));
                let error = format!("this client does not support `{other}`");
                let response = json!({ "subtype": "error", "request_id": id, "error": error });
                cx.send(&json!({ "type": "control_response", "response": response }));
            }
        }
    }

    fn permission(&mut self, cx: &mut Cx<'_>, id: &str, request: &Value) {
        let tool = text(request, "tool_name").to_owned();
        let native = text(request, "tool_use_id").to_owned();
        let input = request.get("input").cloned().unwrap_or_default();
        let known = self.calls.get_mut(&native);
        let tool_call_id = known.map(|call| {
            call.asked = true;
            cx.tool_id(&native)
        });
        if tool == ASK_TOOL && self.questions(cx, id, &native, &input) {
            return;
        }
        let suggestions = request.get("permission_suggestions").cloned().unwrap_or_default();
        let suggested = suggestions.as_array().is_some_and(|list| !list.is_empty());
        let mut choices = vec![PermissionChoice::Once];
        if suggested {
            choices.extend([PermissionChoice::Session, PermissionChoice::Always]);
        }
        choices.extend([PermissionChoice::Deny, PermissionChoice::DenyAndStop]);
        let message = match (tool.as_str(), text(&input, "plan")) {
            ("ExitPlanMode", plan) if !plan.is_empty() => Some(plan.to_owned()),
            _ => reason(request),
        };
        let rule = rule(&tool, &input);
        let kind = InputKind::Permission {
            tool: tool.clone(),
            arguments: input,
            tool_call_id,
            choices,
        };
        let native = json!({ "request_id": id, "tool_use_id": native, "suggestions": suggestions });
        cx.ask_permission(native, format!("Allow {tool}?"), message, kind, rule);
    }

    /// The model's questions, one request each; `false` where their shape is not known.
    fn questions(&mut self, cx: &mut Cx<'_>, id: &str, tool_use: &str, input: &Value) -> bool {
        let list = input.get("questions").and_then(Value::as_array);
        let Some(list) = list.filter(|list| !list.is_empty()) else {
            return false;
        };
        if !list.iter().all(|question| !text(question, "question").is_empty()) {
            return false;
        }
        for question in list {
            let title = text(question, "question");
            let header = Some(text(question, "header").to_owned()).filter(|header| !header.is_empty());
            let multiple = question.get("multiSelect").and_then(Value::as_bool);
            let options = options(question);
            let kind = if options.is_empty() {
                InputKind::Input { placeholder: None }
            } else {
                InputKind::Select {
                    options,
                    multiple: multiple.unwrap_or_default(),
                }
            };
            let native = json!({ "request_id": id, "tool_use_id": tool_use, "question": title });
            cx.ask(native, title, header, kind);
        }
        let questions = Questions {
            tool_use: tool_use.to_owned(),
            input: input.clone(),
            open: list.len(),
            answers: Map::new(),
        };
        self.questions.insert(id.to_owned(), questions);
        true
    }

    pub(super) fn answer_request(
        &mut self,
        cx: &mut Cx<'_>,
        native: &Value,
        request: &InputRequest,
        answer: &InputAnswer,
    ) {
        let id = text(native, "request_id").to_owned();
        if native.get("question").is_some() {
            return self.answer_question(cx, &id, text(native, "question"), answer);
        }
        if native.get("elicitation").is_some() {
            return respond(cx, &id, &elicitation_answer(native, answer));
        }
        let arguments = match &request.kind {
            InputKind::Permission { arguments, .. } => arguments.clone(),
            _ => Value::Null,
        };
        let allow = |update: Option<Value>| {
            let mut response = json!({ "behavior": "allow", "updatedInput": arguments });
            if let Some(update) = update {
                response["updatedPermissions"] = update;
            }
            response
        };
        let suggestions = native.get("suggestions");
        let response = match answer {
            InputAnswer::Permission { choice } => match choice {
                PermissionChoice::Once => allow(None),
                PermissionChoice::Session => allow(scoped(suggestions, PermissionChoice::Session)),
                PermissionChoice::Always => allow(scoped(suggestions, PermissionChoice::Always)),
                PermissionChoice::Deny => json!({ "behavior": "deny", "message": "The user said no." }),
                PermissionChoice::DenyAndStop => {
                    json!({ "behavior": "deny", "message": "The user said no and stop.", "interrupt": true })
                }
            },
            _ => json!({ "behavior": "deny", "message": "The user did not answer." }),
        };
        if response["behavior"] == "allow" {
            self.start_call(cx, text(native, "tool_use_id"), true);
        }
        respond(cx, &id, &response);
    }

    fn answer_question(&mut self, cx: &mut Cx<'_>, id: &str, question: &str, answer: &InputAnswer) {
        let Some(asked) = self.questions.get_mut(id) else {
            return;
        };
        let said = match answer {
            InputAnswer::Selected { values } => values.join(", "),
            InputAnswer::Text { text } => text.clone(),
            _ => {
                self.questions.remove(id);
                cx.withdraw(|native| native.get("request_id").and_then(Value::as_str) == Some(id));
                let response = json!({ "behavior": "deny", "message": "The user did not answer." });
                return respond(cx, id, &response);
            }
        };
        asked.answers.insert(question.to_owned(), said.into());
        asked.open = asked.open.saturating_sub(1);
        if asked.open > 0 {
            return;
        }
        if let Some(asked) = self.questions.remove(id) {
            let mut input = asked.input;
            input["answers"] = asked.answers.into();
            self.start_call(cx, &asked.tool_use, true);
            respond(cx, id, &json!({ "behavior": "allow", "updatedInput": input }));
        }
    }

    /// The harness takes its question back.
    pub(super) fn cancelled(&mut self, cx: &mut Cx<'_>, id: &str) {
        self.questions.remove(id);
        cx.withdraw(|native| native.get("request_id").and_then(Value::as_str) == Some(id));
    }

    /// An answer that somebody else gave on the wire.
    pub(super) fn answered_on_the_wire(&mut self, cx: &mut Cx<'_>, response: &Value) {
        let id = text(response, "request_id").to_owned();
        let body = response.get("response").cloned().unwrap_or_default();
        let allowed = text(&body, "behavior") == "allow";
        let update = body.get("updatedPermissions").and_then(Value::as_array);
        let lasting =
            update.is_some_and(|list| list.iter().any(|rule| text(rule, "destination") != "session"));
        let stop = body.get("interrupt").and_then(Value::as_bool);
        let choice = match (allowed, update) {
            (true, Some(_)) if lasting => PermissionChoice::Always,
            (true, Some(_)) => PermissionChoice::Session,
            (true, None) => PermissionChoice::Once,
            (false, _) if stop == Some(true) => PermissionChoice::DenyAndStop,
            (false, _) => PermissionChoice::Deny,
        };
        let mut tool = String::new();
        let matches = |native: &Value| {
            let found = text(native, "request_id") == id;
            if found {
                text(native, "tool_use_id").clone_into(&mut tool);
            }
            found
        };
        cx.answered(matches, InputAnswer::Permission { choice });
        if allowed {
            self.start_call(cx, &tool, true);
        }
    }
}

/// What an approval of a call holds for: changes of files by the file, all else by the arguments. A plan is approved
/// once.
fn rule(tool: &str, input: &Value) -> Option<Rule> {
    let path = |field: &str| input.get(field).and_then(Value::as_str);
    match tool {
        "ExitPlanMode" | ASK_TOOL => None,
        "Read" | "Write" | "Edit" | "MultiEdit" => Rule::files(tool, path("file_path")),
        "NotebookEdit" => Rule::files(tool, path("notebook_path")),
        "Bash" => Rule::exact(tool, input, &["description", "timeout"]),
        _ => Rule::exact(tool, input, &[]),
    }
}

fn respond(cx: &mut Cx<'_>, id: &str, response: &Value) {
    let response = json!({ "subtype": "success", "request_id": id, "response": response });
    cx.send(&json!({ "type": "control_response", "response": response }));
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// Why the harness asks, as far as it says.
fn reason(request: &Value) -> Option<String> {
    let mut lines: Vec<&str> = ["description", "decision_reason"]
        .into_iter()
        .map(|field| text(request, field))
        .filter(|line| !line.is_empty())
        .collect();
    if request.get("agent_id").is_some_and(|agent| !agent.is_null()) {
        lines.push("A sub-agent asks.");
    }
    (!lines.is_empty()).then(|| lines.join("\n"))
}

fn options(question: &Value) -> Vec<SelectOption> {
    let list = question
        .get("options")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    list.iter()
        .filter_map(|option| {
            let label = option.get("label")?.as_str()?.to_owned();
            let description = Some(text(option, "description").to_owned());
            Some(SelectOption {
                value: label.clone(),
                label,
                description: description.filter(|text| !text.is_empty()),
            })
        })
        .collect()
}

/// The harness's own suggestions with the scope the user chose. Rules that last go into the harness's private home:
/// the workspace's settings belong to whoever wrote the workspace.
fn scoped(suggestions: Option<&Value>, choice: PermissionChoice) -> Option<Value> {
    let mut list = suggestions?.as_array()?.clone();
    for rule in &mut list {
        let lasting = choice == PermissionChoice::Always && text(rule, "type") != "setMode";
        rule["destination"] = if lasting { "userSettings" } else { "session" }.into();
    }
    Some(list.into())
}

/// A question of an MCP server: a confirmation, or a form of one text field. Larger forms are declined.
fn elicitation(cx: &mut Cx<'_>, id: &str, request: &Value) {
    let fields = request
        .pointer("/requested_schema/properties")
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    let title = format!("{} asks", text(request, "mcp_server_name"));
    let message = [text(request, "message"), text(request, "url")]
        .join("\n")
        .trim()
        .to_owned();
    let mut single = fields.iter().filter(|(_, field)| text(field, "type") == "string");
    let (kind, field) = match (fields.len(), single.next()) {
        (0, _) => (InputKind::Confirm {}, Value::Null),
        (1, Some((name, _))) => (InputKind::Input { placeholder: None }, name.clone().into()),
        _ => {
            cx.notify(
                NotifyLevel::Warning,
                format!("{title} with a form that cannot be shown; it was declined: {message}"),
            );
            return respond(cx, id, &json!({ "action": "decline" }));
        }
    };
    let native = json!({ "request_id": id, "elicitation": field });
    cx.ask(native, title, Some(message), kind);
}

fn elicitation_answer(native: &Value, answer: &InputAnswer) -> Value {
    match (answer, native.get("elicitation").and_then(Value::as_str)) {
        (InputAnswer::Confirmed { yes: true }, _) => json!({ "action": "accept", "content": {} }),
        (InputAnswer::Confirmed { yes: false }, _) => json!({ "action": "decline" }),
        (InputAnswer::Text { text }, Some(field)) => {
            let content = Map::from_iter([(field.to_owned(), Value::from(text.as_str()))]);
            json!({ "action": "accept", "content": content })
        }
        _ => json!({ "action": "cancel" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_approval_holds_for_a_file_or_for_exact_arguments() {
        let edit = |text: &str| rule("Edit", &json!({ "file_path": "/w/a", "new_string": text }));
        assert!(edit("x").is_some());
        assert_eq!(edit("x"), edit("y"));
        assert_eq!(rule("Edit", &json!({ "new_string": "x" })), None);
        let bash =
            |command: &str, why: &str| rule("Bash", &json!({ "command": command, "description": why }));
        assert_eq!(bash("ls", "look"), bash("ls", "see"));
        assert_ne!(bash("ls", "look"), bash("ls /", "look"));
        let issue = |text: &str| rule("mcp__x__issue", &json!({ "title": "t", "description": text }));
        assert_ne!(issue("a"), issue("b"), "here it is what is written");
        assert_eq!(rule("ExitPlanMode", &json!({ "plan": "p" })), None);
    }
}
