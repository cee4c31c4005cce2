//! What the agent asks: permissions and forms.

use super::wire::{ToolFields, key, list, text};
use super::{Acp, diff, failure, forms};
use crate::fold::{Cx, Rule};
use lodge_proto::input::{InputAnswer, InputKind, PermissionChoice, SelectOption};
use lodge_proto::part::Part;
use serde_json::{Map, Value, json};

impl Acp {
    /// A request of the agent. What we did not offer is refused.
    pub(super) fn asked(&mut self, cx: &mut Cx<'_>, id: &Value, method: &str, params: &Value) {
        match method {
            "session/request_permission" => self.permission(cx, id, params),
            "elicitation/create" if text(params, "mode") == Some("form") => forms::create(cx, id, params),
            "elicitation/create" => respond(cx, id, &json!({ "action": "decline" })),
            _ => {
                let shown: String = method.chars().take(60).collect();
                cx.warn(format!("the agent asked for `{shown}`, which was not offered"));
                let message = format!("\"Method not found\": {shown}");
                refuse(cx, id, -32_601, &message);
            }
        }
    }

    fn permission(&mut self, cx: &mut Cx<'_>, id: &Value, params: &Value) {
        if cx.is_aborting() {
            return respond(cx, id, &json!({ "outcome": { "outcome": "cancelled" } }));
        }
        let call = subject(params);
        let fields: ToolFields = serde_json::from_value(call.clone()).unwrap_or_default();
        let native = fields.tool_call_id.as_str();
        // Some agents tell of a call by asking for it; where it is known already, the question says less.
        if !native.is_empty() && cx.in_turn() && self.tool(native).is_none_or(|tool| tool.ended) {
            let told = ToolFields {
                status: None,
                ..serde_json::from_value(call.clone()).unwrap_or_default()
            };
            self.tool_update(cx, &told, true);
            if let Some(tool) = self.tool_mut(native) {
                tool.questioned = true;
            }
        }
        self.turn.silent = false;
        let tool = self.tool(native);
        let name = tool.map_or_else(
            || fields.kind.clone().unwrap_or_else(|| "tool".to_owned()),
            |tool| tool.name.clone(),
        );
        // A title is made for people: what it leaves out would be allowed unread.
        let told = fields.raw_input.as_ref().is_some_and(|input| !input.is_null())
            || tool.is_some_and(|tool| tool.input.is_some());
        let arguments = match (&fields.raw_input, tool) {
            (Some(input), _) if !input.is_null() => input.clone(),
            (_, Some(tool)) => tool.arguments(),
            _ if native.is_empty() && !call.is_null() => call,
            _ => json!({ "title": fields.title }),
        };
        let title = text(params, "title").map_or_else(|| format!("Allow {name}?"), str::to_owned);
        let options = list(params, "options");
        let known = (!native.is_empty() && cx.in_turn()).then(|| cx.tool_id(native));
        let rule = if told {
            rule(&name, &arguments, &fields)
        } else {
            None
        };
        let (kind, answers) = match choices(options) {
            Some((choices, answers)) => {
                let kind = InputKind::Permission {
                    tool: name,
                    arguments,
                    tool_call_id: known,
                    choices,
                };
                (kind, answers)
            }
            None => (select(options), Map::new()),
        };
        let question = json!({ "id": id, "tool": native, "answers": answers, "rejects": rejects(options) });
        cx.ask_permission(question, title, message(params, &fields), kind, rule);
    }

    /// The user's answer goes to the agent.
    pub(super) fn reply(&mut self, cx: &mut Cx<'_>, native: &Value, answer: &InputAnswer) {
        if native.get("form").is_some() {
            return forms::answer(cx, native, answer);
        }
        let option = chosen(native, answer);
        self.decide(cx, native, option.as_deref());
        let outcome = match option {
            Some(option) => json!({ "outcome": "selected", "optionId": option }),
            None => json!({ "outcome": "cancelled" }),
        };
        let id = native.get("id").cloned().unwrap_or_default();
        respond(cx, &id, &json!({ "outcome": outcome }));
    }

    fn decide(&mut self, cx: &mut Cx<'_>, native: &Value, option: Option<&str>) {
        let refused = option.is_none_or(|option| {
            list(native, "rejects")
                .iter()
                .any(|reject| reject.as_str() == Some(option))
        });
        if let Some(tool) = text(native, "tool") {
            self.decided(cx, tool, refused);
        }
    }

    /// A recorded answer to a question.
    pub(super) fn recorded_answer(&mut self, cx: &mut Cx<'_>, id: &Value, result: &Value) {
        let id = key(id);
        let is = |native: &Value| native.get("id").map(key).as_ref() == Some(&id);
        let Some(native) = cx.question(is).cloned() else {
            return;
        };
        let option = result.pointer("/outcome/optionId").and_then(Value::as_str);
        self.decide(cx, &native, option);
        let answers = native.get("answers").and_then(Value::as_object);
        let choice = option.and_then(|option| {
            let known = answers?
                .iter()
                .find(|(_, native)| native.as_str() == Some(option));
            serde_json::from_value(Value::from(known?.0.as_str())).ok()
        });
        let answer = match (choice, option) {
            (Some(choice), _) => InputAnswer::Permission { choice },
            (None, Some(option)) => InputAnswer::Selected {
                values: vec![option.to_owned()],
            },
            (None, None) => InputAnswer::Cancelled {},
        };
        cx.answered(is, answer);
    }

    /// The agent takes a question back.
    pub(super) fn withdrawn(cx: &mut Cx<'_>, params: &Value) {
        let Some(request) = params.get("requestId") else {
            return;
        };
        let id = key(request);
        let is = |native: &Value| native.get("id").map(key).as_ref() == Some(&id);
        if cx.question(is).is_some() {
            cx.withdraw(is);
            refuse(cx, request, failure::CANCELLED, "request cancelled");
        }
    }
}

/// What a permission is asked for, as a tool call where it can be told as one.
fn subject(params: &Value) -> Value {
    if let Some(call) = params.get("toolCall") {
        return call.clone();
    }
    let subject = params.get("subject").cloned().unwrap_or_default();
    match text(&subject, "type") {
        Some("tool_call") => subject.get("toolCall").cloned().unwrap_or_default(),
        Some("command") => json!({
            "toolCallId": text(&subject, "toolCallId").unwrap_or_default(),
            "kind": "execute",
            "rawInput": { "command": subject.get("command"), "cwd": subject.get("cwd") },
        }),
        // One that is not known is shown as it is.
        _ => subject,
    }
}

pub(super) fn respond(cx: &mut Cx<'_>, id: &Value, result: &Value) {
    cx.send(&json!({ "jsonrpc": "2.0", "id": id, "result": result }));
}

fn refuse(cx: &mut Cx<'_>, id: &Value, code: i64, message: &str) {
    cx.send(&json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } }));
}

/// The agent's option for an answer; `None`: the question is cancelled.
fn chosen(native: &Value, answer: &InputAnswer) -> Option<String> {
    match answer {
        InputAnswer::Permission { choice } => {
            let name = serde_json::to_value(choice).ok()?;
            let option = native.get("answers")?.get(name.as_str()?)?;
            option.as_str().map(str::to_owned)
        }
        InputAnswer::Selected { values } => values.first().cloned(),
        _ => None,
    }
}

/// The options as choices, with the agent's id for each. `None` where they say more than our choices can.
fn choices(options: &[Value]) -> Option<(Vec<PermissionChoice>, Map<String, Value>)> {
    let mut choices = Vec::new();
    let mut answers = Map::new();
    for option in options {
        let id = text(option, "optionId")?;
        let name = text(option, "name").unwrap_or_default();
        let session = [id, name]
            .iter()
            .any(|word| word.to_lowercase().contains("session"));
        let choice = match text(option, "kind")? {
            "allow_once" => PermissionChoice::Once,
            "allow_always" if session => PermissionChoice::Session,
            "allow_always" => PermissionChoice::Always,
            "reject_once" => PermissionChoice::Deny,
            _ => return None,
        };
        let named = serde_json::to_value(choice).ok()?;
        if answers.insert(named.as_str()?.to_owned(), id.into()).is_some() {
            return None;
        }
        choices.push(choice);
    }
    choices.sort_by_key(|choice| match choice {
        PermissionChoice::Once => 0,
        PermissionChoice::Session => 1,
        PermissionChoice::Always => 2,
        PermissionChoice::Deny | PermissionChoice::DenyAndStop => 3,
    });
    // It cancels the question and the turn, which every agent understands.
    choices.push(PermissionChoice::DenyAndStop);
    Some((choices, answers))
}

/// What an approval of a call holds for: changes that are shown by their files, all else by the arguments.
fn rule(tool: &str, arguments: &Value, fields: &ToolFields) -> Option<Rule> {
    let content = fields.content.as_deref().unwrap_or_default();
    let shown: Option<Vec<&str>> = content
        .iter()
        .map(|item| text(item, "path").filter(|_| text(item, "type") == Some("diff")))
        .collect();
    // opencode shows the change among the arguments.
    let shown = shown.filter(|paths| !paths.is_empty()).or_else(|| {
        text(arguments, "diff")
            .and(text(arguments, "filepath"))
            .map(|path| vec![path])
    });
    match shown {
        Some(paths) if fields.kind.as_deref() == Some("edit") => Rule::files(tool, paths),
        // Beside a command it describes; elsewhere it may be what is written.
        _ if text(arguments, "command").is_some() => Rule::exact(tool, arguments, &["description"]),
        _ => Rule::exact(tool, arguments, &[]),
    }
}

fn select(options: &[Value]) -> InputKind {
    let options = options
        .iter()
        .filter_map(|option| {
            let value = text(option, "optionId")?.to_owned();
            Some(SelectOption {
                label: text(option, "name").unwrap_or(&value).to_owned(),
                value,
                description: None,
            })
        })
        .collect();
    InputKind::Select {
        options,
        multiple: false,
    }
}

fn rejects(options: &[Value]) -> Vec<&str> {
    let reject = |option: &&Value| text(option, "kind").is_some_and(|kind| kind.starts_with("reject"));
    options
        .iter()
        .filter(reject)
        .filter_map(|option| text(option, "optionId"))
        .collect()
}

/// What is asked, beside the arguments: the title of the call, what it says of itself, the change it would make.
fn message(params: &Value, fields: &ToolFields) -> Option<String> {
    let mut lines: Vec<String> = Vec::new();
    lines.extend(text(params, "description").map(str::to_owned));
    lines.extend(fields.title.clone());
    for item in fields.content.iter().flatten() {
        let said = item.pointer("/content/text").and_then(Value::as_str);
        lines.extend(said.map(str::to_owned));
        if text(item, "type") == Some("diff") {
            lines.extend(diff::parts(item).into_iter().filter_map(|part| match part {
                Part::Diff { patch, .. } => Some(patch),
                _ => None,
            }));
        }
    }
    (!lines.is_empty()).then(|| lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_approval_holds_for_the_files_of_shown_changes_or_for_exact_arguments() {
        let of = |fields: Value, arguments: Value| {
            let fields: ToolFields = serde_json::from_value(fields).expect("fields");
            rule("t", &arguments, &fields)
        };
        let edit = |text: &str| {
            let content = [json!({ "type": "diff", "path": "/w/a", "newText": text })];
            of(
                json!({ "toolCallId": "c", "kind": "edit", "content": content }),
                json!({ "text": text }),
            )
        };
        assert!(edit("x").is_some());
        assert_eq!(edit("x"), edit("y"));
        // What stands beside the changes would be allowed unread.
        let content = [
            json!({ "type": "diff", "path": "/w/a" }),
            json!({ "type": "content" }),
        ];
        let more = |text: &str| {
            of(
                json!({ "toolCallId": "c", "kind": "edit", "content": content }),
                json!({ "text": text }),
            )
        };
        assert_ne!(more("x"), more("y"));
        let run = |command: &str, why: &str| {
            let arguments = json!({ "command": command, "description": why });
            of(json!({ "toolCallId": "c", "kind": "execute" }), arguments)
        };
        assert_eq!(run("ls", "look"), run("ls", "see"));
        assert_ne!(run("ls", "look"), run("ls /", "look"));
    }
}
