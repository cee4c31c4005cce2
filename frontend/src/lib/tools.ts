/** What a tool call is about, whatever its harness calls the tool and its arguments. */
import type { Part, PlanEntry, PlanStatus } from "../protocol/generated";
import { parsePatch, wholeFile, type FileDiff } from "./diff";
import { joinWords, unwrapShell } from "./shell";
import { cleanTerminal } from "./terminal";

export type ToolKind = "bash" | "read" | "write" | "edit" | "search" | "web" | "plan" | "agent" | "other";

export interface EditPair {
  readonly before: string;
  readonly after: string;
}

export interface ToolView {
  readonly kind: ToolKind;
  readonly label: string;
  /** The command, path or pattern: what one wants to see on one line. */
  readonly subject: string;
  readonly content?: string | undefined;
  readonly edits: readonly EditPair[];
  /** Changes that are given as patches, by file. */
  readonly files: readonly FileDiff[];
  readonly plan: readonly PlanEntry[];
}

/** Names of tools as harnesses have them, and the kinds of tools by which ACP names those that have none. */
const KINDS: readonly (readonly [ToolKind, RegExp])[] = [
  ["bash", /^(bash|shell|sh|exec|execute|exec_command|local_shell|shell_command|run_shell_command|run_command|terminal|bashoutput)$/],
  ["read", /^(read|read_file|read_many_files|view|view_file|view_image|cat|open)$/],
  ["write", /^(write|write_file|create|create_file)$/],
  ["edit", /^(edit|edit_file|replace|str_replace|multiedit|multi_edit|apply_patch|patch|file_change|notebookedit|delete|move)$/],
  ["search", /^(glob|grep|find|search|ls|list|list_directory|list_files|search_file_content|grep_search|file_search|codebase_search|toolsearch)$/],
  ["web", /^(web_?fetch|fetch|web_?search|google_web_search)$/],
  ["plan", /^(todo|todo_?write|todo_?read|write_todos|update_plan|plan|task_?(create|update|list|get))$/],
  ["agent", /^(task|agent|subagent|spawn_agent|delegate_task|invoke_agent)$/],
];

const LABELS: Readonly<Record<ToolKind, string>> = {
  bash: "Run",
  read: "Read",
  write: "Write",
  edit: "Edit",
  search: "Search",
  web: "Web",
  plan: "Plan",
  agent: "Sub-agent",
  other: "",
};

export function toolKind(name: string): ToolKind {
  const plain = name.toLowerCase();
  return KINDS.find(([, pattern]) => pattern.test(plain))?.[0] ?? "other";
}

/** `mcp__server__tool` and `server.tool` are a tool of a server. */
function toolName(name: string): string {
  const parts = /^mcp__(.+?)__(.+)$/.exec(name);
  return parts ? `${parts[1]} · ${parts[2]}` : name;
}

type Fields = Readonly<Record<string, unknown>>;

function fieldsOf(input: unknown): Fields {
  return typeof input === "object" && input !== null && !Array.isArray(input) ? (input as Fields) : {};
}

function listOf(fields: Fields, ...names: readonly string[]): readonly Fields[] {
  const found = names.map((name) => fields[name]).find(Array.isArray) as readonly unknown[] | undefined;
  return (found ?? []).map(fieldsOf);
}

function text(fields: Fields, ...names: readonly string[]): string | undefined {
  for (const name of names) {
    const value = fields[name];
    if (typeof value === "string" && value !== "") return value;
    if (Array.isArray(value) && value.length > 0 && value.every((item) => typeof item === "string")) return joinWords(value);
  }
  return undefined;
}

function pair(fields: Fields): EditPair | undefined {
  const of = (...names: string[]) => names.map((name) => fields[name]).find((value) => typeof value === "string");
  const before = of("oldText", "old_string", "oldString", "old_str", "old_text");
  const after = of("newText", "new_string", "newString", "new_str", "new_text");
  return before === undefined && after === undefined ? undefined : { before: before ?? "", after: after ?? "" };
}

function editPairs(fields: Fields): readonly EditPair[] {
  const own = pair(fields);
  return [...(own ? [own] : []), ...listOf(fields, "edits").flatMap((edit) => pair(edit) ?? [])];
}

/** What a call would change, where it says so by patches. New and deleted files may come as their content. */
function patches(fields: Fields, path: string): readonly FileDiff[] {
  const changes = listOf(fields, "changes").flatMap((change): FileDiff[] => {
    const diff = text(change, "diff", "patch", "content") ?? "";
    const kind = text(change, "kind", "type");
    const whole = !/^(---|@@|diff )/.test(diff);
    const sign = kind === "add" ? "add" : kind === "delete" ? "remove" : undefined;
    const lines = sign && whole ? wholeFile(diff, sign) : parsePatch(diff);
    return [{ path: text(change, "path") ?? "", lines }];
  });
  if (changes.length > 0) return changes;
  const patch = text(fields, "patch", "diff", "input");
  return patch === undefined ? [] : [{ path, lines: parsePatch(patch) }];
}

const STATUSES: Readonly<Record<string, PlanStatus>> = {
  completed: "completed",
  done: "completed",
  cancelled: "completed",
  in_progress: "in_progress",
  inProgress: "in_progress",
};

function planEntries(fields: Fields): readonly PlanEntry[] {
  return listOf(fields, "todos", "plan", "entries").flatMap((entry) => {
    const content = text(entry, "content", "step", "description", "subject", "title");
    return content === undefined ? [] : [{ content, status: STATUSES[text(entry, "status") ?? ""] ?? "pending" }];
  });
}

function firstText(fields: Fields): string | undefined {
  const value = Object.values(fields).find((candidate) => typeof candidate === "string" && candidate !== "");
  return typeof value === "string" ? value : undefined;
}

function pathOf(fields: Fields): string | undefined {
  const changed = listOf(fields, "changes").flatMap((change) => text(change, "path") ?? []);
  const places = Array.isArray(fields.locations) ? (fields.locations as unknown[]).filter((place) => typeof place === "string") : [];
  const many = [changed, places].find((paths) => paths.length > 0);
  return text(fields, "path", "file_path", "filePath", "filepath", "absolute_path", "filename", "file", "notebook_path") ?? many?.join(", ");
}

/** Paths below the workspace without it: the name of the file is what one looks for. */
export function below(path: string, workspace: string): string {
  return workspace === "" ? path : path.replaceAll(`${workspace}/`, "");
}

function subjectOf(kind: ToolKind, fields: Fields, path: string | undefined): string | undefined {
  // Some agents tell a title and no arguments.
  const title = text(fields, "title");
  switch (kind) {
    case "bash": {
      const command = text(fields, "command", "cmd", "script");
      return command === undefined ? title : unwrapShell(command);
    }
    case "read":
    case "write":
    case "edit":
      return path ?? title;
    case "search":
      return text(fields, "pattern", "query", "glob") ?? path ?? title;
    case "web":
      return text(fields, "query", "url", "prompt") ?? title;
    case "plan": {
      const entries = planEntries(fields);
      const done = entries.filter((entry) => entry.status === "completed").length;
      if (entries.length > 0) return `${done} of ${entries.length} done`;
      const task = [text(fields, "taskId"), text(fields, "status")?.replaceAll("_", " ")].filter((word) => word !== undefined);
      return text(fields, "subject") ?? title ?? task.join(": ");
    }
    case "agent":
      return text(fields, "description", "prompt") ?? title;
    case "other":
      return path ?? title ?? firstText(fields)?.split("\n", 1)[0];
  }
}

export function toolView(name: string, input: unknown, workspace = ""): ToolView {
  const kind = toolKind(name);
  const fields = fieldsOf(input);
  const path = pathOf(fields);
  const shown = path === undefined ? undefined : below(path, workspace);
  const changes = kind === "edit" || kind === "write";
  return {
    kind,
    label: LABELS[kind] || toolName(name),
    subject: subjectOf(kind, fields, shown) ?? "",
    content: kind === "write" ? text(fields, "content", "contents", "text", "file_text") : undefined,
    edits: kind === "edit" ? editPairs(fields) : [],
    files: changes ? patches(fields, shown ?? "").map((file) => ({ ...file, path: below(file.path, workspace) })) : [],
    plan: kind === "plan" ? planEntries(fields) : [],
  };
}

/** The text that a tool gave back. */
export function outputText(parts: readonly Part[]): string {
  const texts = parts.flatMap((part) => {
    if (part.type === "text" || part.type === "thinking") return [part.text];
    if (part.type === "error") return [part.message];
    return [];
  });
  return cleanTerminal(texts.join("\n").replace(/<\/?tool_use_error>/g, ""));
}
