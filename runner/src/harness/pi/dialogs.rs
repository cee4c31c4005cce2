//! Dialogs of extensions, and of Lodge's own permission extension.

use crate::fold::{Cx, Rule};
use lodge_proto::event::NotifyLevel;
use lodge_proto::input::{InputAnswer, InputKind, PermissionChoice, SelectOption};
use serde_json::{Value, json};

/// Begins the title of a dialog of Lodge's permission extension; a JSON object follows.
pub(super) const PERMISSION_PREFIX: &str = "lodge-permission:";

pub(super) fn request(cx: &mut Cx<'_>, request: &Value) {
    let text = |field: &str| {
        request
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let title = text("title");
    let message = Some(text("message")).filter(|message| !message.is_empty());
    let kind = match text("method").as_str() {
        "select" => match title.strip_prefix(PERMISSION_PREFIX).and_then(permission) {
            Some((title, kind, rule)) => {
                cx.ask_permission(native(request), title, None, kind, rule);
                return;
            }
            None => InputKind::Select {
                options: options(request),
                multiple: false,
            },
        },
        "confirm" => InputKind::Confirm {},
        "input" => InputKind::Input {
            placeholder: Some(text("placeholder")).filter(|text| !text.is_empty()),
        },
        "editor" => InputKind::Editor {
            text: text("prefill"),
        },
        "notify" => {
            let level = match text("notifyType").as_str() {
                "error" => NotifyLevel::Error,
                "warning" => NotifyLevel::Warning,
                _ => NotifyLevel::Info,
            };
            return cx.notify(level, text("message"));
        }
        "setStatus" => return cx.status_text(text("statusText")),
        // Widgets, titles and editor text of a terminal have no place here.
        _ => return,
    };
    cx.ask(native(request), title, message, kind);
}

fn native(request: &Value) -> Value {
    json!({ "id": request.get("id"), "method": request.get("method") })
}

fn options(request: &Value) -> Vec<SelectOption> {
    let list = request
        .get("options")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    list.iter()
        .filter_map(Value::as_str)
        .map(|option| SelectOption {
            value: option.to_owned(),
            label: option.to_owned(),
            description: None,
        })
        .collect()
}

fn permission(details: &str) -> Option<(String, InputKind, Option<Rule>)> {
    let details: Value = serde_json::from_str(details).ok()?;
    let tool = details.get("tool")?.as_str()?.to_owned();
    let arguments = details.get("arguments").cloned().unwrap_or_default();
    let rule = rule(&tool, &arguments);
    let kind = InputKind::Permission {
        tool: tool.clone(),
        arguments,
        tool_call_id: None,
        choices: vec![
            PermissionChoice::Once,
            PermissionChoice::Deny,
            PermissionChoice::DenyAndStop,
        ],
    };
    Some((format!("Allow {tool}?"), kind, rule))
}

/// What an approval of a call holds for: pi's own file tools by the file, all else by the arguments.
fn rule(tool: &str, arguments: &Value) -> Option<Rule> {
    match tool {
        "read" | "write" | "edit" => Rule::files(tool, arguments.get("path").and_then(Value::as_str)),
        "bash" => Rule::exact(tool, arguments, &["timeout"]),
        _ => Rule::exact(tool, arguments, &[]),
    }
}

pub(super) fn answer(cx: &mut Cx<'_>, native: &Value, answer: &InputAnswer) {
    let mut response = json!({ "type": "extension_ui_response", "id": native.get("id") });
    match answer {
        InputAnswer::Permission { choice } => {
            response["value"] = serde_json::to_value(choice).unwrap_or_default();
        }
        InputAnswer::Selected { values } => {
            response["value"] = values.first().cloned().unwrap_or_default().into();
        }
        InputAnswer::Confirmed { yes } => response["confirmed"] = (*yes).into(),
        InputAnswer::Text { text } => response["value"] = text.clone().into(),
        InputAnswer::Cancelled {} => response["cancelled"] = true.into(),
    }
    cx.send(&response);
}

/// What an answer on the wire says.
pub(super) fn read_answer(response: &Value) -> InputAnswer {
    let text = response.get("value").and_then(Value::as_str);
    match (text, response.get("confirmed").and_then(Value::as_bool)) {
        (Some(text), _) => InputAnswer::Text {
            text: text.to_owned(),
        },
        (None, Some(yes)) => InputAnswer::Confirmed { yes },
        (None, None) => InputAnswer::Cancelled {},
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_approval_holds_for_a_file_or_for_exact_arguments() {
        let edit = |text: &str| rule("edit", &json!({ "path": "a", "newText": text }));
        assert!(edit("x").is_some());
        assert_eq!(edit("x"), edit("y"));
        assert_ne!(edit("x"), rule("edit", &json!({ "path": "b" })));
        assert_ne!(edit("x"), rule("write", &json!({ "path": "a" })));
        let bash =
            |command: &str, timeout: u32| rule("bash", &json!({ "command": command, "timeout": timeout }));
        assert_eq!(bash("ls", 1), bash("ls", 2));
        assert_ne!(bash("ls", 1), bash("ls /", 1));
        assert_eq!(rule("edit", &json!({})), None);
    }
}
