//! Choosing a tool among those the harness offers, and filling in its arguments by its own schema.

use serde_json::{Value, json};

use super::neutral::Neutral;
use super::script::ToolKind;

fn synonyms(kind: ToolKind) -> &'static [&'static str] {
    match kind {
        ToolKind::Bash => &[
            "bash",
            "shell",
            "Bash",
            "run_shell_command",
            "exec_command",
            "local_shell",
            "shell_command",
            "exec",
        ],
        ToolKind::Read => &["read", "Read", "read_file", "view"],
        ToolKind::Write => &["write", "Write", "write_file", "create_file"],
        ToolKind::Edit => &[
            "edit",
            "Edit",
            "replace",
            "edit_file",
            "str_replace",
            "apply_patch",
        ],
    }
}

/// The name under which this request offers the tool, else its usual name.
pub(super) fn pick(kind: ToolKind, request: &Neutral) -> &'static str {
    let names = synonyms(kind);
    names
        .iter()
        .find(|name| request.tools.contains_key(**name))
        .unwrap_or(&names[0])
}

/// The arguments as JSON text, in the property names the tool's schema uses.
pub(super) fn arguments(kind: ToolKind, tool: &str, request: &Neutral, args: &[String]) -> String {
    let properties = request
        .tools
        .get(tool)
        .map_or(&Value::Null, |schema| &schema["properties"]);
    let has = |name: &str| properties.get(name).is_some();
    let first = |names: &[&'static str]| names.iter().find(|name| has(name)).copied().unwrap_or(names[0]);
    let arg = |index: usize, default: &str| {
        args.get(index)
            .filter(|arg| index > 0 || !arg.is_empty())
            .cloned()
            .unwrap_or_else(|| default.to_owned())
    };
    let path = (
        first(&["path", "filePath", "file_path", "absolute_path"]),
        json!(arg(0, "scripted.txt")),
    );
    let fields = match kind {
        ToolKind::Bash => {
            let key = first(&["command", "cmd"]);
            let command = arg(0, "echo hello-from-tool");
            let is_list = properties[key]["type"] == "array";
            let value = if is_list {
                json!(["bash", "-lc", command])
            } else {
                json!(command)
            };
            let mut fields = vec![(key, value)];
            if has("description") {
                fields.push(("description", json!("scripted shell command")));
            }
            fields
        }
        ToolKind::Read => vec![path],
        ToolKind::Write => {
            vec![
                path,
                (
                    first(&["content", "contents"]),
                    json!(arg(1, "hello from scripted model\n")),
                ),
            ]
        }
        ToolKind::Edit if has("edits") => vec![
            path,
            (
                "edits",
                json!([{"oldText": arg(1, "hello"), "newText": arg(2, "goodbye")}]),
            ),
        ],
        ToolKind::Edit => {
            let mut fields = vec![
                path,
                (
                    first(&["oldString", "old_string", "oldText"]),
                    json!(arg(1, "hello")),
                ),
                (
                    first(&["newString", "new_string", "newText"]),
                    json!(arg(2, "goodbye")),
                ),
            ];
            if has("instruction") {
                fields.push(("instruction", json!("scripted edit")));
            }
            fields
        }
    };
    object_text(&fields)
}

/// Written by hand because the order of a `serde_json` map depends on a feature any dependency may switch on.
pub(super) fn object_text(fields: &[(&str, Value)]) -> String {
    let fields: Vec<String> = fields
        .iter()
        .map(|(key, value)| format!("{}: {value}", json!(key)))
        .collect();
    format!("{{{}}}", fields.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(tool: &str, properties: &Value) -> Neutral {
        let mut request = Neutral::default();
        request
            .tools
            .insert(tool.to_owned(), json!({"properties": properties}));
        request
    }

    #[test]
    fn the_schema_decides_names_and_shapes() {
        let request = with("shell", &json!({"command": {"type": "array"}, "description": {}}));
        let tool = pick(ToolKind::Bash, &request);
        assert_eq!(tool, "shell");
        let args: Value =
            serde_json::from_str(&arguments(ToolKind::Bash, tool, &request, &["ls".into()])).unwrap();
        assert_eq!(
            args,
            json!({"command": ["bash", "-lc", "ls"], "description": "scripted shell command"})
        );

        let request = with(
            "Edit",
            &json!({"file_path": {}, "old_string": {}, "new_string": {}}),
        );
        let text = arguments(
            ToolKind::Edit,
            "Edit",
            &request,
            &["a".into(), "b".into(), "c".into()],
        );
        assert_eq!(
            text,
            r#"{"file_path": "a", "old_string": "b", "new_string": "c"}"#
        );
    }

    #[test]
    fn defaults_fill_what_the_line_leaves_out() {
        let request = Neutral::default();
        let text = arguments(ToolKind::Bash, "bash", &request, &[String::new()]);
        assert_eq!(text, r#"{"command": "echo hello-from-tool"}"#);
    }
}
