//! Choosing a tool among those the harness offers, and filling in its arguments by its own schema.

use serde_json::{Value, json};

use super::neutral::Neutral;
use super::script::ToolKind;

/// Where it is there the plan is made task by task.
pub(super) const TASK: &str = "TaskCreate";
/// By this one a harness loads tools that it does not offer at first, [`TASK`] among them.
const ON_DEMAND: &str = "ToolSearch";

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
        ToolKind::Plan => &["update_plan", "TodoWrite", "todowrite", "write_todos", TASK],
    }
}

/// The name under which this request offers the tool, else its usual name.
pub(super) fn pick(kind: ToolKind, request: &Neutral) -> &'static str {
    let names = synonyms(kind);
    let offered = names.iter().find(|name| request.tools.contains_key(**name));
    match offered {
        Some(name) => name,
        None if kind == ToolKind::Plan && request.tools.contains_key(ON_DEMAND) => TASK,
        None => names[0],
    }
}

/// The command that writes a file, where the harness has a shell and no tool for that. Codex sees a change of a file in it.
pub(super) fn write_command(kind: ToolKind, request: &Neutral, args: &[String]) -> Option<String> {
    let offers = |kind| {
        synonyms(kind)
            .iter()
            .any(|name| request.tools.contains_key(*name))
    };
    if kind != ToolKind::Write || offers(ToolKind::Write) || !offers(ToolKind::Bash) {
        return None;
    }
    let path = args.first().map_or("scripted.txt", String::as_str);
    let content = args.get(1).map_or("hello from scripted model", String::as_str);
    let lines = content.replace('\n', "\n+");
    Some(format!(
        "apply_patch <<'EOF'\n*** Begin Patch\n*** Add File: {path}\n+{lines}\n*** End Patch\nEOF"
    ))
}

/// The arguments as JSON text, in the property names the tool's schema uses.
pub(super) fn arguments(kind: ToolKind, tool: &str, request: &Neutral, args: &[String]) -> String {
    let properties = request
        .tools
        .get(tool)
        .map_or(&Value::Null, |schema| &schema["properties"]);
    if kind == ToolKind::Plan {
        return plan_text(tool, properties, args);
    }
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
        // Its arguments are a list.
        ToolKind::Plan => Vec::new(),
    };
    object_text(&fields)
}

/// The steps of a plan, each with its status: `x` before one that is done, `>` before the one in progress.
fn steps(args: &[String]) -> Vec<(&str, &'static str)> {
    let step = |arg: &'static str| (arg, "pending");
    let written = args.iter().filter(|arg| !arg.is_empty()).map(|arg| {
        let marks = [("x ", "completed"), ("> ", "in_progress")];
        let marked = marks
            .iter()
            .find_map(|(mark, status)| Some((arg.strip_prefix(mark)?.trim(), *status)));
        marked.unwrap_or((arg.as_str(), "pending"))
    });
    let written: Vec<_> = written.collect();
    if written.is_empty() {
        return vec![step("scripted step"), step("another scripted step")];
    }
    written
}

/// The steps as the tool's schema wants them; of one that takes a task at a time, the first.
fn plan_text(tool: &str, properties: &Value, args: &[String]) -> String {
    let steps = steps(args);
    if tool == TASK {
        let text = json!(steps[0].0);
        return object_text(&[("subject", text.clone()), ("description", text)]);
    }
    let list = ["plan", "todos"]
        .into_iter()
        .find(|name| properties.get(name).is_some())
        .unwrap_or("plan");
    let item = &properties[list]["items"]["properties"];
    let text_key = ["step", "content", "description"]
        .into_iter()
        .find(|name| item.get(name).is_some())
        .unwrap_or("step");
    let entries: Vec<String> = steps
        .iter()
        .map(|(text, status)| {
            let mut fields = vec![(text_key, json!(text)), ("status", json!(status))];
            if item.get("activeForm").is_some() {
                fields.push(("activeForm", json!(text)));
            }
            if item.get("priority").is_some() {
                fields.push(("priority", json!("medium")));
            }
            object_text(&fields)
        })
        .collect();
    format!("{{{}: [{}]}}", json!(list), entries.join(", "))
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
    fn a_plan_follows_the_schema() {
        let args = ["x look".to_owned(), "> change".to_owned(), "test".to_owned()];
        let call = |tool: &str, properties: &Value| -> Value {
            let request = with(tool, properties);
            assert_eq!(pick(ToolKind::Plan, &request), tool);
            serde_json::from_str(&arguments(ToolKind::Plan, tool, &request, &args)).unwrap()
        };
        let entries = json!({"items": {"properties": {"step": {}, "status": {}}}});
        assert_eq!(
            call("update_plan", &json!({ "plan": entries })),
            json!({"plan": [
                {"step": "look", "status": "completed"},
                {"step": "change", "status": "in_progress"},
                {"step": "test", "status": "pending"},
            ]})
        );
        let entries = json!({"items": {"properties": {"description": {}, "status": {}, "priority": {}}}});
        assert_eq!(
            call("write_todos", &json!({ "todos": entries }))["todos"][0],
            json!({"description": "look", "status": "completed", "priority": "medium"})
        );
        assert_eq!(
            call(TASK, &json!({})),
            json!({"subject": "look", "description": "look"})
        );
        assert_eq!(pick(ToolKind::Plan, &with(ON_DEMAND, &json!({}))), TASK);
    }

    #[test]
    fn a_file_is_written_by_a_command_where_no_tool_writes() {
        let args = ["a.txt".to_owned(), "one\ntwo".to_owned()];
        let shell = with("exec_command", &json!({"cmd": {}}));
        let command = write_command(ToolKind::Write, &shell, &args).unwrap();
        assert!(
            command.contains("*** Add File: a.txt\n+one\n+two\n*** End Patch\n"),
            "{command}"
        );
        assert_eq!(write_command(ToolKind::Edit, &shell, &args), None);
        assert_eq!(
            write_command(ToolKind::Write, &with("Write", &json!({})), &args),
            None
        );
        assert_eq!(write_command(ToolKind::Write, &Neutral::default(), &args), None);
    }

    #[test]
    fn defaults_fill_what_the_line_leaves_out() {
        let request = Neutral::default();
        let text = arguments(ToolKind::Bash, "bash", &request, &[String::new()]);
        assert_eq!(text, r#"{"command": "echo hello-from-tool"}"#);
    }
}
