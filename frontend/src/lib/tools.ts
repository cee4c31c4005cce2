/** What a tool call is about, whatever its harness calls the tool and its arguments. */
import type { Part } from "../protocol/generated";
import { cleanTerminal } from "./terminal";

export type ToolKind = "bash" | "read" | "write" | "edit" | "other";

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
  readonly patch?: string | undefined;
}

const KINDS: readonly (readonly [ToolKind, RegExp])[] = [
  ["bash", /^(bash|shell|sh|exec|execute|exec_command|local_shell|shell_command|run_shell_command|run_command|terminal)$/],
  ["read", /^(read|read_file|view|view_file|cat|open)$/],
  ["write", /^(write|write_file|create|create_file)$/],
  ["edit", /^(edit|edit_file|replace|str_replace|multiedit|multi_edit|apply_patch|patch|file_change)$/],
];

const LABELS: Readonly<Record<ToolKind, string>> = { bash: "Run", read: "Read", write: "Write", edit: "Edit", other: "" };

export function toolKind(name: string): ToolKind {
  const plain = name.toLowerCase();
  return KINDS.find(([, pattern]) => pattern.test(plain))?.[0] ?? "other";
}

type Fields = Readonly<Record<string, unknown>>;

function fieldsOf(input: unknown): Fields {
  return typeof input === "object" && input !== null && !Array.isArray(input) ? (input as Fields) : {};
}

function text(fields: Fields, ...names: readonly string[]): string | undefined {
  for (const name of names) {
    const value = fields[name];
    if (typeof value === "string") return value;
    if (Array.isArray(value) && value.every((item) => typeof item === "string")) return shellWords(value);
  }
  return undefined;
}

/** `["bash", "-lc", script]` is shown as its script. */
function shellWords(words: readonly string[]): string {
  const [program, flag, script] = words;
  if (words.length === 3 && program && /(^|\/)(ba|z)?sh$/.test(program) && flag?.startsWith("-") && script) return script;
  return words.join(" ");
}

function pair(fields: Fields): EditPair | undefined {
  const before = text(fields, "oldText", "old_string", "oldString", "old_str", "old_text");
  const after = text(fields, "newText", "new_string", "newString", "new_str", "new_text");
  return before === undefined && after === undefined ? undefined : { before: before ?? "", after: after ?? "" };
}

function editPairs(fields: Fields): readonly EditPair[] {
  const own = pair(fields);
  const many = Array.isArray(fields.edits) ? (fields.edits as unknown[]) : [];
  return [...(own ? [own] : []), ...many.flatMap((edit) => pair(fieldsOf(edit)) ?? [])];
}

function firstText(fields: Fields): string {
  const value = Object.values(fields).find((candidate) => typeof candidate === "string" && candidate !== "");
  return typeof value === "string" ? (value.split("\n", 1)[0] ?? "") : "";
}

export function toolView(name: string, input: unknown): ToolView {
  const kind = toolKind(name);
  const fields = fieldsOf(input);
  const path = text(fields, "path", "file_path", "filePath", "filename", "file");
  const subject = kind === "bash" ? text(fields, "command", "cmd", "script") : path;
  return {
    kind,
    label: LABELS[kind] || name,
    subject: subject ?? (kind === "other" ? firstText(fields) : (path ?? "")),
    content: kind === "write" ? text(fields, "content", "contents", "text", "file_text") : undefined,
    edits: kind === "edit" ? editPairs(fields) : [],
    patch: kind === "edit" ? text(fields, "patch", "diff", "input") : undefined,
  };
}

/** The text that a tool gave back. */
export function outputText(parts: readonly Part[]): string {
  const texts = parts.flatMap((part) => {
    if (part.type === "text" || part.type === "thinking") return [part.text];
    if (part.type === "error") return [part.message];
    return [];
  });
  return cleanTerminal(texts.join("\n"));
}
