//! Requests of codex: permissions, questions, and what it may not ask for.

use super::tools::Tool;
use super::{Codex, Place};
use crate::fold::{Cx, Rule};
use lodge_proto::input::{InputAnswer, InputKind, PermissionChoice, SelectOption};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

const COMMAND: &str = "item/commandExecution/requestApproval";
const FILE_CHANGE: &str = "item/fileChange/requestApproval";
const PERMISSIONS: &str = "item/permissions/requestApproval";
const QUESTIONS: &str = "item/tool/requestUserInput";
const ELICITATION: &str = "mcpServer/elicitation/request";
/// A method that is not known.
const METHOD_NOT_FOUND: i32 = -32601;

/// Questions that were asked in one request; it is answered when all are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Questions {
    open: u32,
    answers: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Approval {
    #[serde(flatten)]
    place: Place,
    #[serde(default)]
    item_id: String,
    reason: Option<String>,
    #[serde(default)]
    command: Option<String>,
    cwd: Option<String>,
    grant_root: Option<String>,
    #[serde(default)]
    permissions: Value,
    proposed_execpolicy_amendment: Option<Value>,
    #[serde(default)]
    network_approval_context: Value,
    #[serde(default)]
    available_decisions: Option<Vec<Value>>,
}

#[derive(Debug, Deserialize)]
struct Question {
    id: String,
    #[serde(default)]
    header: String,
    #[serde(default, rename = "question")]
    text: String,
    options: Option<Vec<Choice>>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    label: String,
    description: Option<String>,
}

impl Codex {
    pub(super) fn request(&mut self, cx: &mut Cx<'_>, id: &Value, method: &str, params: Value) {
        // Codex sends what is open again to a client that joins anew.
        cx.withdraw(|native| native.get("id") == Some(id));
        let asked = match method {
            COMMAND | FILE_CHANGE | PERMISSIONS => self.approval(cx, id, method, params),
            QUESTIONS => self.questions(cx, id, &params),
            ELICITATION => {
                elicitation(cx, id, &params);
                Some(())
            }
            // No tool of a client was offered.
            "item/tool/call" => {
                let content = json!([{ "type": "inputText", "text": "there is no such tool" }]);
                cx.send(&json!({ "id": id, "result": { "contentItems": content, "success": false } }));
                Some(())
            }
            _ => None,
        };
        if asked.is_none() {
            let name: String = method.chars().take(60).collect();
            cx.warn(format!("codex asked for `{name}`, which is refused"));
            let message = format!("`{name}` is not supported by this client");
            cx.send(&json!({ "id": id, "error": { "code": METHOD_NOT_FOUND, "message": message } }));
        }
    }

    fn approval(&mut self, cx: &mut Cx<'_>, id: &Value, method: &str, params: Value) -> Option<()> {
        let approval: Approval = serde_json::from_value(params).ok()?;
        if self.is_main(&approval.place.thread_id) {
            self.adopt(cx, &approval.place.turn_id);
        }
        if !cx.in_turn() {
            return None;
        }
        let item = approval.item_id.as_str();
        let known = cx.tool_input(item).cloned();
        let (tool, arguments, title) = match method {
            COMMAND if !approval.network_approval_context.is_null() => (
                "network",
                approval.network_approval_context.clone(),
                "Allow access to the network?".to_owned(),
            ),
            COMMAND => {
                let command = approval.command.as_deref().unwrap_or_default();
                let tool = Tool::command(item, command, approval.cwd.as_deref());
                if known.is_none() && !item.is_empty() && self.is_main(&approval.place.thread_id) {
                    // A client that joined during the request learns of the tool from it.
                    self.tool_started(cx, &tool);
                }
                (
                    "shell",
                    known.unwrap_or(tool.input),
                    "Run this command?".to_owned(),
                )
            }
            FILE_CHANGE => {
                let title = match &approval.grant_root {
                    Some(root) => format!("Change files below {root}?"),
                    None => "Change these files?".to_owned(),
                };
                ("apply_patch", known.unwrap_or_default(), title)
            }
            _ => (
                "permissions",
                approval.permissions.clone(),
                "Grant these permissions?".to_owned(),
            ),
        };
        let rule = match method {
            FILE_CHANGE => changes(&arguments, approval.grant_root.as_deref()),
            _ => Rule::exact(tool, &arguments, &[]),
        };
        let always = always(&approval);
        let mut choices = vec![PermissionChoice::Once, PermissionChoice::Session];
        if always.is_some() {
            choices.push(PermissionChoice::Always);
        }
        choices.extend([PermissionChoice::Deny, PermissionChoice::DenyAndStop]);
        let kind = InputKind::Permission {
            tool: tool.to_owned(),
            arguments,
            tool_call_id: (!item.is_empty()).then(|| cx.tool_id(item)),
            choices,
        };
        let native = json!({
            "id": id, "method": method, "always": always, "permissions": approval.permissions,
        });
        cx.ask_permission(native, title, approval.reason, kind, rule);
        Some(())
    }

    fn questions(&mut self, cx: &mut Cx<'_>, id: &Value, params: &Value) -> Option<()> {
        let questions: Vec<Question> = Vec::deserialize(params.get("questions")?).ok()?;
        if questions.is_empty() {
            return None;
        }
        let open = Questions {
            open: u32::try_from(questions.len()).ok()?,
            answers: Map::new(),
        };
        self.questions.insert(id.to_string(), open);
        for question in questions {
            let native = json!({ "id": id, "method": QUESTIONS, "question": question.id });
            let (title, message) = if question.header.is_empty() {
                (question.text, None)
            } else {
                (question.header, Some(question.text))
            };
            cx.ask(native, title, message, question_kind(question.options));
        }
        Some(())
    }

    pub(super) fn answer_request(&mut self, cx: &mut Cx<'_>, native: &Value, answer: &InputAnswer) {
        let id = native.get("id").cloned().unwrap_or_default();
        let method = native.get("method").and_then(Value::as_str).unwrap_or_default();
        let result = match method {
            COMMAND | FILE_CHANGE => json!({ "decision": decision(cx, native, answer) }),
            PERMISSIONS => grant(native, answer),
            ELICITATION => elicited(answer),
            _ => match self.question_answered(&id, native, answer) {
                Some(result) => result,
                None => return,
            },
        };
        cx.send(&json!({ "id": id, "result": result }));
    }

    /// The reply to a request of questions, once the last of them is answered.
    fn question_answered(&mut self, id: &Value, native: &Value, answer: &InputAnswer) -> Option<Value> {
        let key = id.to_string();
        let questions = self.questions.get_mut(&key)?;
        let question = native.get("question").and_then(Value::as_str).unwrap_or_default();
        let texts = match answer {
            InputAnswer::Selected { values } => values.clone(),
            InputAnswer::Text { text } => vec![text.clone()],
            _ => Vec::new(),
        };
        questions
            .answers
            .insert(question.to_owned(), json!({ "answers": texts }));
        questions.open = questions.open.saturating_sub(1);
        if questions.open > 0 {
            return None;
        }
        let answers = self.questions.remove(&key)?.answers;
        Some(json!({ "answers": answers }))
    }
}

/// What an approval of changes holds for: their files. A grant for a whole directory is codex's own to remember.
fn changes(arguments: &Value, root: Option<&str>) -> Option<Rule> {
    let changes = arguments.get("changes")?.as_array()?;
    let paths: Option<Vec<&str>> = changes
        .iter()
        .map(|change| match change.get("path") {
            Some(Value::String(path)) if root.is_none() => Some(path.as_str()),
            _ => None,
        })
        .collect();
    Rule::files("apply_patch", paths?)
}

/// The decision that codex offers for "always": a rule of its execution policy, or of its network policy.
fn always(approval: &Approval) -> Option<Value> {
    let offered = approval.available_decisions.iter().flatten().find(|decision| {
        // A rule for the network may as well be one that denies.
        let action = "/applyNetworkPolicyAmendment/network_policy_amendment/action";
        decision.get("acceptWithExecpolicyAmendment").is_some()
            || decision.pointer(action).is_some_and(|action| action == "allow")
    });
    offered.cloned().or_else(|| {
        let rule = approval.proposed_execpolicy_amendment.as_ref()?;
        Some(json!({ "acceptWithExecpolicyAmendment": { "execpolicy_amendment": rule } }))
    })
}

fn question_kind(options: Option<Vec<Choice>>) -> InputKind {
    match options.filter(|options| !options.is_empty()) {
        Some(options) => InputKind::Select {
            options: options
                .into_iter()
                .map(|option| SelectOption {
                    value: option.label.clone(),
                    label: option.label,
                    description: option.description,
                })
                .collect(),
            multiple: false,
        },
        None => InputKind::Input { placeholder: None },
    }
}

/// A question of an MCP server: a form, of which the user edits the content, or an address to visit.
fn elicitation(cx: &mut Cx<'_>, id: &Value, params: &Value) {
    let text = |field: &str| params.get(field).and_then(Value::as_str);
    let title = format!("{} asks", text("serverName").unwrap_or("An MCP server"));
    let mut message = text("message").unwrap_or_default().to_owned();
    if let Some(url) = text("url") {
        message = format!("{message}\n{url}");
    }
    let fields = params
        .pointer("/requestedSchema/properties")
        .and_then(Value::as_object)
        .filter(|fields| !fields.is_empty());
    let kind = match fields {
        Some(fields) => {
            let form: Map<String, Value> = fields
                .iter()
                .map(|(name, schema)| (name.clone(), schema.get("default").cloned().unwrap_or_default()))
                .collect();
            InputKind::Editor {
                text: format!("{:#}", Value::Object(form)),
            }
        }
        None => InputKind::Confirm {},
    };
    cx.ask(
        json!({ "id": id, "method": ELICITATION }),
        title,
        Some(message),
        kind,
    );
}

fn elicited(answer: &InputAnswer) -> Value {
    match answer {
        InputAnswer::Confirmed { yes: true } => json!({ "action": "accept", "content": {} }),
        InputAnswer::Confirmed { yes: false } => json!({ "action": "decline", "content": null }),
        InputAnswer::Text { text } => match serde_json::from_str::<Value>(text) {
            Ok(content) => json!({ "action": "accept", "content": content }),
            Err(_) => json!({ "action": "decline", "content": null }),
        },
        _ => json!({ "action": "cancel", "content": null }),
    }
}

fn decision(cx: &Cx<'_>, native: &Value, answer: &InputAnswer) -> Value {
    let InputAnswer::Permission { choice } = answer else {
        // `cancel` ends the turn, too.
        return if cx.is_aborting() { "cancel" } else { "decline" }.into();
    };
    match choice {
        PermissionChoice::Once => "accept".into(),
        PermissionChoice::Session => "acceptForSession".into(),
        PermissionChoice::Always => native.get("always").cloned().unwrap_or("accept".into()),
        PermissionChoice::Deny => "decline".into(),
        PermissionChoice::DenyAndStop => "cancel".into(),
    }
}

fn grant(native: &Value, answer: &InputAnswer) -> Value {
    let granted = native.get("permissions").cloned().unwrap_or_default();
    match answer {
        InputAnswer::Permission {
            choice: PermissionChoice::Once,
        } => json!({ "permissions": granted, "scope": "turn" }),
        InputAnswer::Permission {
            choice: PermissionChoice::Session | PermissionChoice::Always,
        } => json!({ "permissions": granted, "scope": "session" }),
        _ => json!({ "permissions": {}, "scope": "turn" }),
    }
}

/// What an answer on the wire says.
pub(super) fn read_answer(result: &Value) -> InputAnswer {
    let choice = match result.get("decision") {
        Some(Value::Object(_)) => Some(PermissionChoice::Always),
        Some(decision) => match decision.as_str() {
            Some("accept") => Some(PermissionChoice::Once),
            Some("acceptForSession") => Some(PermissionChoice::Session),
            Some("decline") => Some(PermissionChoice::Deny),
            Some("cancel") => Some(PermissionChoice::DenyAndStop),
            _ => None,
        },
        None => None,
    };
    match (choice, result.get("action").and_then(Value::as_str)) {
        (Some(choice), _) => InputAnswer::Permission { choice },
        (None, Some("accept")) => InputAnswer::Confirmed { yes: true },
        (None, Some("decline")) => InputAnswer::Confirmed { yes: false },
        _ => InputAnswer::Cancelled {},
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_approval_of_changes_holds_for_their_files() {
        let input = |paths: &[&str], diff: &str| {
            let changes: Vec<Value> = paths
                .iter()
                .map(|path| json!({ "path": path, "diff": diff }))
                .collect();
            json!({ "changes": changes })
        };
        let rule = changes(&input(&["/w/b", "/w/a"], "x"), None);
        assert!(rule.is_some());
        assert_eq!(rule, changes(&input(&["/w/a", "/w/b"], "y"), None));
        assert_ne!(rule, changes(&input(&["/w/a"], "x"), None));
        assert_eq!(changes(&input(&["/w/a"], "x"), Some("/w")), None);
        assert_eq!(changes(&input(&[], "x"), None), None);
        // Of changes that were not announced nothing is known.
        assert_eq!(changes(&Value::Null, None), None);
        assert_eq!(changes(&json!({ "changes": [{ "diff": "x" }] }), None), None);
    }
}
