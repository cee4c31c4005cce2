import { describe, expect, it } from "vitest";
import { splitPatches } from "./diff";
import { unwrapShell } from "./shell";
import { outputText, toolView } from "./tools";

describe("toolView", () => {
  it("shows codex's commands without the shell around them", () => {
    expect(toolView("shell", { command: "/bin/bash -lc 'touch newfile && ls'", cwd: "/w" })).toMatchObject({ kind: "bash", subject: "touch newfile && ls" });
  });

  it("shows every file of a patch, also such as come as their content", () => {
    const changes = [
      { path: "/w/new.txt", kind: "add", diff: "one\ntwo\n" },
      { path: "/w/old.txt", kind: "delete", diff: "gone\n" },
      { path: "/w/sub/b.txt", kind: "update", diff: "@@ -1 +1 @@\n-a\n+b\n" },
    ];
    const view = toolView("apply_patch", { changes }, "/w");
    expect(view.subject).toBe("new.txt, old.txt, sub/b.txt");
    expect(view.files.map(({ path, lines }) => [path, lines.map((line) => `${line.kind} ${line.text}`)])).toEqual([
      ["new.txt", ["add one", "add two"]],
      ["old.txt", ["remove gone"]],
      ["sub/b.txt", ["hunk @@ -1 +1 @@", "remove a", "add b"]],
    ]);
  });

  it("makes do with the title and the places that an ACP agent tells", () => {
    expect(toolView("run_shell_command", { description: "[dir]", title: "ls -la" })).toMatchObject({ kind: "bash", subject: "ls -la" });
    expect(toolView("write_file", { title: "Writing", locations: ["/w/a/b.txt"] }, "/w")).toMatchObject({ kind: "write", subject: "a/b.txt" });
    expect(toolView("execute", { title: "make" })).toMatchObject({ kind: "bash", subject: "make" });
  });

  it("reads the plans of all harnesses", () => {
    const of = (name: string, input: unknown) => toolView(name, input).plan.map((entry) => `${entry.status} ${entry.content}`);
    expect(of("update_plan", { plan: [{ step: "a", status: "completed" }] })).toEqual(["completed a"]);
    expect(of("TodoWrite", { todos: [{ content: "b", status: "in_progress", activeForm: "B" }] })).toEqual(["in_progress b"]);
    expect(of("write_todos", { todos: [{ description: "c", status: "pending" }] })).toEqual(["pending c"]);
    expect(toolView("TaskCreate", { subject: "d", description: "long" })).toMatchObject({ kind: "plan", subject: "d" });
    expect(toolView("TaskUpdate", { taskId: "2", status: "in_progress" }).subject).toBe("2: in progress");
    expect(toolView("todowrite", { todos: [{ content: "e", status: "completed" }, { content: "f" }] }).subject).toBe("1 of 2 done");
  });

  it("names searches, sub-agents and tools of servers", () => {
    expect(toolView("Grep", { pattern: "fn main", path: "/w/src" })).toMatchObject({ kind: "search", subject: "fn main" });
    expect(toolView("Task", { description: "look around", prompt: "…", subagent_type: "x" })).toMatchObject({ kind: "agent", subject: "look around" });
    expect(toolView("google_web_search", { query: "rust" })).toMatchObject({ kind: "web", subject: "rust" });
    expect(toolView("mcp__files__list_all", {})).toMatchObject({ kind: "other", label: "files · list_all" });
  });
});

describe("unwrapShell", () => {
  it("reads every way to quote one word", () => {
    expect(unwrapShell(`bash -lc 'it'"'"'s'`)).toBe("it's");
    expect(unwrapShell('/usr/bin/zsh -c "echo \\"$HOME\\""')).toBe('echo "$HOME"');
    expect(unwrapShell("sh -c ls")).toBe("ls");
  });

  it("leaves alone what is no single script", () => {
    for (const command of ["ls -la", "bash -lc 'a' b", "bash -lc 'open", "bash script.sh"]) expect(unwrapShell(command)).toBe(command);
  });
});

describe("splitPatches", () => {
  it("parts the words from the patches", () => {
    const told = splitPatches("Change it?\n--- /w/p.txt\n+++ /w/p.txt\n@@ -1 +1 @@\n-data\n+other\n--- /dev/null\n+++ b/q.txt\n@@ -0,0 +1 @@\n+new\n");
    expect(told.words).toBe("Change it?");
    expect(told.files.map((file) => [file.path, file.lines.length])).toEqual([["/w/p.txt", 3], ["q.txt", 2]]);
  });

  it("takes words alone as words", () => {
    expect(splitPatches("--- a rule ---\ntext")).toEqual({ words: "--- a rule ---\ntext", files: [] });
  });
});

describe("outputText", () => {
  it("drops the marks that Claude Code puts around errors", () => {
    expect(outputText([{ type: "text", text: "<tool_use_error>Read it first.</tool_use_error>" }])).toBe("Read it first.");
  });
});
