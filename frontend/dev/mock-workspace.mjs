// Files, Git, terminals and walls of the mock: enough for every state of the panels.
export const SANDBOX = {
  tiers: [
    { tier: "process", usable: true },
    { tier: "container", usable: false, problem: "No container engine answers.", mend: "Start one: `systemctl --user start podman.socket`" },
    { tier: "microvm", usable: true, notice: "No KVM on this machine: the processor is emulated, which is slow." },
  ],
  profiles: [
    { name: "minimal", tier: "process", network: "broker", summary: "Reads your home without its secrets; asks for hosts that are on no list." },
    { name: "development", tier: "process", network: "broker", summary: "Workspace, package registries and Git hosts." },
    { name: "strict", tier: "container", network: "none", summary: "The workspace alone, no network." },
  ],
  default_tier: "process",
  default_profile: "development",
};

const SOURCE = `export function splitLine(line: string): string[] {
  const fields: string[] = [];
  let from = 0;
  for (let at = 0; at <= line.length; at += 1) {
    if (at < line.length && line[at] !== ",") continue;
    fields.push(line.slice(from, at));
    from = at + 1;
  }
  return fields;
}
`;

const files = new Map([
  ["README.md", "# CSV\n\nReads and writes comma-separated values.\n"],
  ["src/parse.ts", SOURCE],
  ["src/windows.ini", "[a]\r\nb = 1\r\n"],
  ["src/trojan.ts", "if (isAdmin\u202e) { } \u2066// check\u2069\n"],
  ["logo.png", undefined],
]);
const versions = new Map();
const version = (path) => `v${versions.get(path) ?? 1}`;

const PATCH = `diff --git a/src/parse.ts b/src/parse.ts
index 111..222 100644
--- a/src/parse.ts
+++ b/src/parse.ts
@@ -2,6 +2,6 @@
   const fields: string[] = [];
   let from = 0;
-  for (let at = 0; at < line.length; at += 1) {
+  for (let at = 0; at <= line.length; at += 1) {
     if (at < line.length && line[at] !== ",") continue;
`;

function list(path) {
  const prefix = path === "" ? "" : `${path}/`;
  const names = new Map();
  for (const [name, text] of files) {
    if (!name.startsWith(prefix)) continue;
    const [first, ...rest] = name.slice(prefix.length).split("/");
    names.set(first, rest.length > 0 ? { name: first, kind: "directory", size: 0, modified: 1 } : { name: first, kind: "file", size: text?.length ?? 5_120, modified: 1 });
  }
  if (path === "") {
    names.set("latest", { name: "latest", kind: "symlink", size: 3, modified: 1, target: "src" });
    names.set("agent.sock", { name: "agent.sock", kind: "special", size: 0, modified: 1 });
  }
  const order = { directory: 0 };
  return { path, truncated: false, entries: [...names.values()].sort((a, b) => (order[a.kind] ?? 1) - (order[b.kind] ?? 1) || a.name.localeCompare(b.name)) };
}

function read(path) {
  if (!files.has(path)) throw { code: "not_found", message: `${path}: there is no such file` };
  const text = files.get(path);
  return { path, size: text?.length ?? 5_120, version: version(path), binary: text === undefined, ...(text === undefined ? {} : { text }), offset: 0 };
}

function write({ path, text, expected_version: expected }) {
  if (path.startsWith(".git/")) throw { code: "sandbox_denied", message: `${path} is protected: it steers tools outside of the sandbox.` };
  const there = files.has(path) ? version(path) : "";
  if (expected !== undefined && expected !== there) throw { code: "conflict", message: `${path} has changed` };
  touch(path, text);
  return { path, size: text.length, version: version(path) };
}

/** What the agent does behind the editor's back. */
export function touch(path, text) {
  files.set(path, text);
  versions.set(path, (versions.get(path) ?? 1) + 1);
}

class MockTerminal {
  constructor(id, send, closed) {
    Object.assign(this, { id, shown: "", line: "", clients: new Set(), send, closed, opened_at: Date.now(), rows: 24, cols: 80 });
    this.say("\u001b[32mguest@lodge\u001b[0m:\u001b[38;2;80;120;220m/srv/workspaces/my-project\u001b[0m$ ");
  }

  info() {
    const { id: terminal_id, rows, cols, opened_at } = this;
    return { terminal_id, rows, cols, opened_at };
  }

  say(text) {
    this.shown += text;
    for (const client of this.clients) this.send(client, this.id, text);
  }

  attach(client) {
    this.clients.add(client);
    this.send(client, this.id, this.shown);
  }

  type(text) {
    for (const letter of text) {
      if (letter !== "\r") {
        this.line += letter;
        this.say(letter);
        continue;
      }
      this.say("\r\n");
      const line = this.line;
      this.line = "";
      if (line === "exit 3") return this.closed(this, { code: 3 });
      if (line.startsWith("echo ")) this.say(`${line.slice(5)}\r\n`);
      if (line === "colours") for (let n = 0; n < 16; n += 1) this.say(`\u001b[48;5;${n}m ${n} \u001b[0m\u001b[3${n % 8}mtext\u001b[0m \u001b[38;2;${n * 16};60;120mtrue\u001b[0m\r\n`);
      this.say("$ ");
    }
    return undefined;
  }
}

const terminals = new Map();
let nextTerminal = 1;

function sendBytes(client, id, text) {
  const bytes = Buffer.from(text);
  const frame = Buffer.alloc(4 + bytes.length);
  frame.writeUInt32LE(id, 0);
  bytes.copy(frame, 4);
  // After the response to the command that attached it.
  setTimeout(() => client.socket.readyState === client.socket.OPEN && client.socket.send(frame), 0);
}

function openTerminal(session, size, client) {
  const closed = (terminal, exit) => {
    terminals.delete(terminal.id);
    for (const other of terminal.clients) other.send({ control: { type: "terminal_closed", session_id: session.info.id, terminal_id: terminal.id, exit } });
  };
  const terminal = new MockTerminal(nextTerminal, sendBytes, closed);
  terminal.session = session.info.id;
  nextTerminal += 1;
  terminals.set(terminal.id, terminal);
  terminal.attach(client);
  return terminal.info();
}

/** Input of a client: a binary frame. */
export function typed(data) {
  terminals.get(data.readUInt32LE(0))?.type(data.subarray(4).toString());
}

export function leave(client) {
  for (const terminal of terminals.values()) terminal.clients.delete(client);
}

const APPROVALS = [
  { id: "01a00000-0000-7000-8000-0000000000a1", tool: "bash", subject: { command: "npm test" } },
  { id: "01a00000-0000-7000-8000-0000000000a2", tool: "edit", subject: { path: "src/parse.ts" } },
].map((one) => ({ ...one, scope: "always", harness: "pi", workspace: "/srv/workspaces/my-project", created_at: 1_790_000_000_000 }));

export const WORKSPACE_COMMANDS = {
  "sandbox.list": () => SANDBOX,
  "approvals.list": () => ({ approvals: APPROVALS }),
  "file.list": (_, { path }) => list(path),
  "file.read": (_, { path }) => read(path),
  "file.write": (_, command) => write(command),
  "git.status": () => ({
    repository: true, branch: "fix/trailing-comma", upstream: "origin/main", ahead: 2, behind: 0, truncated: false,
    entries: [
      { path: "src/parse.ts", index: "M", worktree: "M" },
      { path: "src/lines.ts", original_path: "src/rows.ts", index: "R", worktree: "." },
      { path: "README.md", index: "?", worktree: "?" },
    ],
  }),
  "git.diff": () => ({ text: PATCH, truncated: false }),
  "terminal.open": (session, size, client) => openTerminal(session, size, client),
  "terminal.attach": (_, { terminal_id }, client) => {
    const terminal = terminals.get(terminal_id);
    if (!terminal) throw { code: "not_found", message: "There is no such terminal." };
    terminal.attach(client);
    return terminal.info();
  },
  "terminal.resize": () => ({}),
  "terminal.close": (_, { terminal_id }) => {
    const terminal = terminals.get(terminal_id);
    terminal?.closed(terminal, { signal: 1 });
    return {};
  },
  "terminal.list": (session) => ({ terminals: [...terminals.values()].filter((terminal) => terminal.session === session.info.id).map((terminal) => terminal.info()) }),
};
