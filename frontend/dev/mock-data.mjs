// What the mock server's sessions contain and how they answer.
import { randomUUID } from "node:crypto";
import { touch } from "./mock-workspace.mjs";
import { MockSession, text } from "./mock-session.mjs";

const ANSWER = `The parser dropped the last field when a line ended in a comma. It now keeps it.

## What changed

- \`splitFields\` counts separators instead of looking for a following character
- an **empty trailing field** is a field, as [RFC 4180](https://www.rfc-editor.org/rfc/rfc4180) says
- [x] tests for one, two and no trailing commas
- [ ] quoted fields across lines are still not handled

| input | before | after |
| --- | --- | --- |
| \`a,b\` | 2 fields | 2 fields |
| \`a,b,\` | 2 fields | 3 fields |

\`\`\`ts
export function splitFields(line: string): string[] {
  return line.split(",").map((field) => field.trim());
}
\`\`\`

> Callers that relied on the old behaviour would have lost data, so I changed none of them.
`;

const TEST_OUTPUT = `\u001b[1m RUN \u001b[22m v4.1.12 /srv/workspaces/my-project

 \u001b[32m✓\u001b[39m src/csv.test.ts (6 tests) 11ms
   \u001b[32m✓\u001b[39m keeps an empty trailing field
   \u001b[32m✓\u001b[39m keeps two of them

 Test Files  1 passed (1)
      Tests  6 passed (6)
`;

const EDIT = {
  path: "src/csv.ts",
  oldText: "export function splitFields(line: string): string[] {\n  const fields = [];\n  for (const match of line.matchAll(FIELD)) fields.push(match[1]);\n  return fields;\n}",
  newText: "export function splitFields(line: string): string[] {\n  return line.split(\",\").map((field) => field.trim());\n}",
};

async function work(session, delay) {
  await session.tool("read", { path: "src/csv.ts" }, "const FIELD = /([^,]*),?/g;\nexport function splitFields…", {
    before: [{ type: "thinking", text: "The report says that a **trailing comma** loses a field. I look at the parser first, then at its tests." }, text("I look at the parser first.")],
    delay,
  });
  await session.tool("edit", EDIT, "Applied 1 edit to src/csv.ts", { delay });
  await session.tool("write", { path: "src/csv.test.ts", content: "import { splitFields } from \"./csv\";\n\ntest(\"keeps an empty trailing field\", () => {\n  expect(splitFields(\"a,b,\")).toEqual([\"a\", \"b\", \"\"]);\n});\n" }, "Wrote 214 bytes", { delay });
  await session.tool("bash", { command: "npx vitest run src/csv.test.ts" }, TEST_OUTPUT, { delay });
  await session.tool("bash", { command: "git push" }, "fatal: unable to access the remote: Could not resolve host\nCommand exited with code 128", { delay, isError: true });
  await session.say("assistant", [text(ANSWER)], { delay, stop: "end_turn" });
}

/** Decisions of the broker, findings and a crossed limit. */
const GUARD = {
  net: (session) => {
    const access = (host, port, decision, rule, reason) => session.emit({ event: "network.access", host, port, decision, rule, ...(reason ? { reason } : {}) });
    for (let time = 0; time < 14; time += 1) access("registry.npmjs.org", 443, "allowed", "registry.npmjs.org");
    access("github.com", 443, "allowed", "*.github.com");
    access("metadata.google.internal", 80, "denied", "port", "Port 80 is not among the policy's ports.");
    for (let time = 0; time < 3; time += 1) access("telemetry.example.com", 443, "denied", "", "No rule allows it.");
  },
  findings: (session) => session.emit({ event: "workspace.findings", truncated: false, items: [
    { kind: "hook", path: ".git/hooks/pre-commit", detail: "New, executable, 214 bytes." },
    { kind: "control_file", path: ".envrc", detail: "direnv runs it when a shell enters the folder." },
    { kind: "hard_link", path: "notes/copy.txt", detail: "The file has 2 names; the other one is not in this folder." },
    { kind: "nested_repository", path: "vendor/left-pad", detail: "A repository with hooks of its own." },
    { kind: "special_file", path: "agent.sock", detail: "A socket." },
  ] }),
  limit: (session) => session.emit({ event: "agent.error", code: "limit_exceeded", recoverable: true, message: "limits.memory: 2 GiB are allowed, 2.1 GiB were used; the process tree of the tool was ended." }),
  touch: () => touch("src/parse.ts", "// Rewritten by the agent.\n"),
};

const QUESTIONS = {
  permission: { kind: "permission", title: "Run a command?", tool: "bash", arguments: { command: "rm -rf build && npm run build" }, choices: ["once", "session", "always", "deny", "deny_and_stop"] },
  "permission edit": { kind: "permission", title: "Change src/csv.ts?", tool: "edit", arguments: EDIT, choices: ["once", "session", "deny"] },
  network: { kind: "permission", title: "Connect to files.example.org?", tool: "network", arguments: { host: "files.example.org", port: 443 }, choices: ["once", "session", "deny"], expires_at: Date.now() + 86_400_000 },
  select: { kind: "select", title: "Which test runner?", message: "The project has none yet.", options: [{ value: "vitest", label: "Vitest", description: "Fast, same configuration as Vite" }, { value: "node", label: "node:test", description: "Nothing to install" }], multiple: false },
  confirm: { kind: "confirm", title: "Delete the old fixtures?", message: "12 files are not used by any test." },
  input: { kind: "input", title: "Name of the new package?", placeholder: "my-package" },
  editor: { kind: "editor", title: "Commit message", text: "Keep empty trailing fields\n\nA line that ends in a comma has one more field." },
};

/** Answers a prompt; the verbs are a small part of those of the demo model. */
export async function answer(session, prompt) {
  const [verb, ...rest] = prompt.split(" ");
  const argument = rest.join(" ");
  await session.turnOf(prompt, async () => {
    if (verb === "long") return void (await session.say("assistant", [text("word and more ".repeat(Number(rest[0] ?? 50)))], { delay: Number(rest[1] ?? 20), stop: "end_turn" }));
    if (verb === "work") return void (await work(session, Number(rest[0] ?? 8)));
    if (verb === "err") return { code: "provider_error", message: `The provider answered ${argument || "500"}.` };
    if (verb === "ask") {
      const reply = await session.ask(QUESTIONS[argument] ?? QUESTIONS.permission);
      return void (await session.say("assistant", [text(`You answered \`${JSON.stringify(reply)}\`.`)], { stop: "end_turn" }));
    }
    if (verb in GUARD) {
      GUARD[verb](session);
      return void (await session.say("assistant", [text("Done.")], { stop: "end_turn" }));
    }
    if (verb === "killed") return { code: "limit_exceeded", message: "The sandbox used more memory than its policy allows and was ended.", details: { key: "limits.memory", allowed: "2 GiB", found: "2.1 GiB" } };
    if (verb === "retry") {
      session.emit({ event: "retry.start", attempt: 2, max_attempts: 5, delay_ms: 30_000, error: { code: "rate_limited", message: "The provider is overloaded (529)." } });
      await new Promise((resolve) => setTimeout(resolve, 30_000));
      return undefined;
    }
    if (verb === "big") {
      const answerText = ANSWER.repeat(Math.ceil(Number(rest[0] ?? 40_000) / ANSWER.length));
      return void (await session.say("assistant", [text(answerText)], { delay: 1, stop: "end_turn" }));
    }
    return void (await session.say("assistant", [text("This is the mock’s short answer. Try `work`, `long 100 20`, `ask permission`, `err 500`.")], { delay: 8, stop: "end_turn" }));
  });
}

async function manyMessages(session, count) {
  for (let index = 0; index < count / 4; index += 1) {
    session.turn = randomUUID();
    await session.say("user", [text(`Question ${index + 1}: what does part ${index} do?`)]);
    await session.tool("bash", { command: `grep -rn part${index} src` }, `src/part${index}.ts:1:export const part${index} = ${index};`);
    await session.say("assistant", [text(`Part ${index} holds a **constant**.\n\n- used in \`src/part${index}.ts\`\n- and nowhere else\n`.repeat(1 + (index % 4)))], { stop: "end_turn" });
  }
  session.turn = undefined;
}

export async function makeSessions() {
  const now = Date.now();
  const main = new MockSession({ title: "Trailing commas in the CSV parser" });
  await main.turnOf("A line that ends in a comma loses its last field. Find out why, fix it, and add tests.", () => work(main, 0));
  main.emit({ event: "plan.updated", entries: [
    { content: "Find where fields are split", status: "completed" },
    { content: "Keep empty trailing fields", status: "completed" },
    { content: "Handle quoted fields across lines", status: "in_progress" },
    { content: "Update the documentation", status: "pending" },
  ] });
  const other = new MockSession({ title: "Documentation for the importer", shares_workspace_with: [main.info.id] });
  main.info.shares_workspace_with = [other.info.id];
  const big = new MockSession({ title: "A very long conversation about every part", workspace: "/srv/workspaces/archive", model: "anthropic/sonnet" });
  await manyMessages(big, 3_000);
  const failed = new MockSession({ title: "Migrate to the new API", harness: "codex", workspace: "/srv/workspaces/service" });
  await failed.turnOf("err 401", () => Promise.resolve({ code: "provider_error", message: "The provider answered 401: the key is not accepted." }));
  const closed = new MockSession({ title: "Release notes for 2.4", harness: "claude", workspace: "/srv/workspaces/notes", status: "stopped" });
  const sessions = [main, other, big, failed, closed];
  for (const [index, session] of sessions.entries()) session.info.updated_at = now - index * 3_600_000 * 5;
  return new Map(sessions.map((session) => [session.info.id, session]));
}

export const HARNESSES = [
  { name: "pi", title: "pi", description: "Small and fast, with many models", installed: true, version: "0.87.1" },
  { name: "codex", title: "Codex", description: "OpenAI’s agent", installed: true, version: "0.169.0" },
  { name: "claude", title: "Claude Code", description: "Anthropic’s agent", licence: "Claude Code is not free software: whoever installs it accepts Anthropic’s terms.", installed: false, version: "2.4.1", problem: { code: "harness_not_installed", message: "Not installed." } },
  { name: "opencode", title: "OpenCode", description: "Open source, many providers", installed: false, version: "1.18.33" },
];

export const WORKSPACES = [
  { path: "/srv/workspaces/my-project", name: "my-project", sessions: ["x"] },
  { path: "/srv/workspaces/archive", name: "archive", sessions: [] },
  { path: "/srv/workspaces/service", name: "service", sessions: [] },
];

export const PROVIDERS = [
  { name: "demo", kind: "demo", base_url: "", has_key: false, key_source: "none", models: [{}] },
  { name: "anthropic", kind: "anthropic", base_url: "", has_key: true, key_source: "environment", models: [{}, {}, {}] },
  { name: "local", kind: "openai_compatible", base_url: "http://127.0.0.1:11434/v1", has_key: true, key_source: "sealed", models: [{}, {}] },
  { name: "openai", kind: "openai", base_url: "", has_key: false, key_source: "none", models: [] },
];
