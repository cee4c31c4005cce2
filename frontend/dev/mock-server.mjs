// A stand-in for `lodge up` while the interface is worked on: serves dist/ with the production policy and plays
// scripted sessions over the real protocol. Usage: node dev/mock-server.mjs [PORT]
import { createECDH, randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { WebSocketServer } from "ws";
import { answer, HARNESSES, makeSessions, PROVIDERS, WORKSPACES } from "./mock-data.mjs";
import { CAPABILITIES, MockSession } from "./mock-session.mjs";
import { usageAnswer } from "./mock-usage.mjs";
import { leave, typed, WORKSPACE_COMMANDS } from "./mock-workspace.mjs";

const DIST = fileURLToPath(new URL("../dist/", import.meta.url));
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml" };
const POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'none'";

const sessions = await makeSessions();
const handles = new Map([...sessions.keys()].map((id, index) => [id, index + 1]));
const answered = new Map();
const clients = new Set();
let loggedIn = true;

function json(response, status, body) {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(body === undefined ? "" : JSON.stringify(body));
}

async function body(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return chunks.length === 0 ? {} : JSON.parse(Buffer.concat(chunks).toString());
}

async function rest(request, response, path) {
  if (path === "/login") {
    const { token } = await body(request);
    if (token === "expired") return json(response, 401, { error: { code: "unauthenticated", message: "used or expired" } });
    loggedIn = true;
    return json(response, 204);
  }
  if (path === "/logout") {
    loggedIn = false;
    return json(response, 204);
  }
  if (!loggedIn) return json(response, 401, { error: { code: "unauthenticated", message: "not logged in" } });
  if (path === "/page-token") return json(response, 200, { token: "page-token" });
  if (path === "/providers") return json(response, 200, { providers: PROVIDERS });
  if (path === "/key-exchange") {
    const publicKey = createECDH("prime256v1").generateKeys("base64");
    return json(response, 200, { exchange: randomUUID(), public_key: publicKey });
  }
  if (path.startsWith("/providers/")) return json(response, 204);
  const answered = usageAnswer(request.method, new URL(request.url, "http://mock"), await body(request));
  if (answered) return json(response, ...answered);
  return json(response, 404, { error: { code: "not_found", message: path } });
}

async function serveFile(response, path) {
  const name = path === "/" || extname(path) === "" ? "index.html" : normalize(path).replace(/^\/+/, "");
  try {
    const content = await readFile(join(DIST, name));
    const type = TYPES[extname(name)] ?? "application/octet-stream";
    response.writeHead(200, { "content-type": type, "content-security-policy": POLICY, "x-content-type-options": "nosniff" });
    response.end(content);
  } catch {
    response.writeHead(404).end();
  }
}

const server = createServer((request, response) => {
  const path = new URL(request.url, "http://mock").pathname;
  if (path === "/mock/cut") {
    for (const client of clients) client.socket.terminate();
    return json(response, 204);
  }
  if (path === "/mock/runner-lost" || path === "/mock/runner-ready") {
    const control = path.endsWith("lost") ? { type: "runner_lost", error: { code: "unavailable", message: "The runner went away." } } : { type: "runner_ready" };
    for (const client of clients) client.send({ control });
    return json(response, 204);
  }
  if (path.startsWith("/api/v1/")) return void rest(request, response, path.slice("/api/v1".length));
  return void serveFile(response, path);
});

function subscribe(client, id, cursor) {
  const session = sessions.get(id);
  if (!session) return client.send({ control: { type: "subscribe_failed", session_id: id, error: { code: "not_found", message: "There is no such session." } } });
  client.unsubscribe.get(id)?.();
  const handle = handles.get(id);
  const [epoch, seq] = (cursor ?? "").split(".").map(Number);
  const known = epoch === session.epoch && seq <= session.seq;
  const verdict = known ? { verdict: "ok" } : { verdict: "snapshot", state: session.state() };
  client.send({ session: handle, control: { type: "subscribed", session_id: id, cursor: known ? cursor : `${session.epoch}.${session.seq}`, ...verdict } });
  if (known) for (const event of session.log) if (event.seq > seq) client.send({ session: handle, event });
  const listener = (event) => client.send({ session: handle, event });
  session.listeners.add(listener);
  client.unsubscribe.set(id, () => session.listeners.delete(listener));
}

function changed(session) {
  for (const client of clients) client.send({ control: { type: "session_changed", session: session.info } });
}

function addSession(options) {
  const session = new MockSession(options);
  sessions.set(session.info.id, session);
  handles.set(session.info.id, handles.size + 1);
  return session;
}

async function drain(session) {
  while (session.queue.length > 0) {
    const [next, ...rest] = session.queue;
    session.emit({ event: "queue.updated", entries: rest });
    await answer(session, next.parts[0].text);
  }
  changed(session);
}

const CODE_DIGEST = "3f1c".repeat(16);
const CODE_FILES = [
  { path: ".mcp.json", size: 63, mode: 0o644, sha256: "00".repeat(32), named: false, text: '{ "mcpServers": { "docs": { "command": "./tools/docs.py" } } }\n' },
  { path: "tools/docs.py", size: 90_000, mode: 0o755, sha256: "01".repeat(32), named: true },
];
const trusted = new Set();

/** What a workspace brings as code: nothing for pi. */
function workspaceCode(workspace, harness) {
  const files = harness === "pi" ? [] : CODE_FILES;
  const digest = files.length > 0 ? { digest: CODE_DIGEST } : {};
  return { workspace, harness, files, left_out: [], trustable: true, trusted: trusted.has(`${workspace} ${harness}`), changed: [], ...digest };
}

const COMMANDS = {
  ...WORKSPACE_COMMANDS,
  "session.list": () => ({ sessions: [...sessions.values()].map((session) => session.info) }),
  "harness.list": () => ({ harnesses: HARNESSES }),
  "workspace.list": () => ({ workspaces: WORKSPACES }),
  "workspace.create": (_, { name }) => ({ path: `/srv/workspaces/${name}`, name, sessions: [] }),
  "workspace.inspect": (_, { workspace, harness }) => workspaceCode(workspace, harness),
  "workspace.trust": (_, { workspace, harness }) => {
    trusted.add(`${workspace} ${harness}`);
    return workspaceCode(workspace, harness);
  },
  "workspace.distrust": (_, { workspace, harness }) => {
    trusted.delete(`${workspace} ${harness}`);
    return {};
  },
  "workspace.trusted": () => ({
    trusted: [...trusted].map((place) => {
      const [workspace, harness] = place.split(" ");
      return { workspace, harness, digest: CODE_DIGEST, files: CODE_FILES.map((file) => file.path), file_count: CODE_FILES.length, created_at: Date.now() };
    }),
  }),
  get_models: () => ({ models: CAPABILITIES.models }),
  get_messages: (session, { cursor, limit }) => {
    const end = cursor === undefined ? session.messages.length : Number(cursor);
    const start = Math.max(0, end - limit);
    return { messages: session.messages.slice(start, end), ...(start > 0 ? { next_cursor: String(start) } : {}) };
  },
  "session.create": (_, { harness, workspace, model, tier, profile }) => {
    if (harness === "codex") throw { code: "sandbox_unavailable", message: "This machine does not allow user namespaces." };
    const session = addSession({ harness, workspace, model: model ?? "demo/demo", title: "", tier: tier ?? "process", profile: profile ?? "development" });
    changed(session);
    return { session: session.info };
  },
  "session.fork": (session) => {
    const fork = addSession({ ...session.info, id: randomUUID(), title: `${session.info.title} (fork)`, parent: session.info.id, shares_workspace_with: [session.info.id] });
    return { session: fork.info };
  },
  "session.delete": (session) => {
    sessions.delete(session.info.id);
    for (const client of clients) client.send({ control: { type: "session_removed", session_id: session.info.id } });
    return {};
  },
  "session.close": (session) => session.emit({ event: "session.closed", reason: "asked" }),
  "session.subscribe": (session, { cursor }, client, command) => subscribe(client, command.session_id, cursor),
  "session.unsubscribe": (session, _, client) => client.unsubscribe.get(session.info.id)?.(),
  prompt: (session, { parts }) => void answer(session, parts[0].text).then(() => drain(session)).then(() => changed(session)),
  steer: (session, { parts }) => void session.say("user", parts),
  follow_up: (session, { parts }) => session.emit({ event: "queue.updated", entries: [...session.queue, { id: randomUUID(), state: parts[0].text.includes("uncertain") ? "uncertain" : "waiting", parts, created_at: Date.now() }] }),
  "queue.clear": (session, { entry_id }) => session.emit({ event: "queue.updated", entries: session.queue.filter((entry) => entry.id !== entry_id) }),
  "queue.edit": (session, { entry_id, parts }) => session.emit({ event: "queue.updated", entries: session.queue.map((entry) => (entry.id === entry_id ? { ...entry, parts } : entry)) }),
  "queue.resend": (session, { entry_id }) => session.emit({ event: "queue.updated", entries: session.queue.map((entry) => (entry.id === entry_id ? { ...entry, state: "waiting" } : entry)) }),
  abort: (session) => {
    session.cancelled = true;
    session.emit({ event: "status", status: "aborting" });
  },
  input_response: (session, { request_id, answer: given }) => {
    session.emit({ event: "agent.input_resolved", request_id, answer: given });
    session.answered?.(given);
  },
  set_model: (session, { model }) => session.emit({ event: "config.model_changed", model }),
  set_thinking_level: (session, { level }) => session.emit({ event: "config.thinking_level_changed", level }),
  set_title: (session, { title }) => {
    session.emit({ event: "session.title_changed", title });
    changed(session);
  },
  compact: (session) => {
    session.emit({ event: "compact.start", reason: "manual" });
    setTimeout(() => session.emit({ event: "compact.end", success: true }), 1_500);
  },
};

function run(client, command) {
  const key = command.client_id;
  if (key && answered.has(key)) return { id: command.id, ...answered.get(key) };
  const session = sessions.get(command.session_id);
  const handler = COMMANDS[command.cmd];
  let outcome;
  try {
    if (!handler) throw { code: "invalid_argument", message: `unknown command ${command.cmd}` };
    outcome = { ok: handler(session, command, client, command) ?? {} };
  } catch (error) {
    outcome = { error: { code: error.code ?? "internal", message: error.message } };
  }
  if (key) answered.set(key, outcome);
  return { id: command.id, ...outcome };
}

const sockets = new WebSocketServer({ server, path: "/api/v1/ws", handleProtocols: () => "lodge.v1" });
sockets.on("connection", (socket) => {
  const client = { socket, unsubscribe: new Map(), send: (frame) => socket.readyState === socket.OPEN && socket.send(JSON.stringify(frame)) };
  clients.add(client);
  client.send({ control: { type: "welcome", version: 1, account: "me", name: "Robin" } });
  socket.on("message", (data, binary) => {
    if (binary) return void typed(data);
    const frame = JSON.parse(data.toString());
    if (frame.hello) for (const [id, cursor] of Object.entries(frame.hello.cursors)) subscribe(client, id, cursor);
    else client.send({ response: run(client, frame) });
    return undefined;
  });
  socket.on("close", () => {
    clients.delete(client);
    leave(client);
    for (const stop of client.unsubscribe.values()) stop();
  });
});

const port = Number(process.argv[2] ?? 8090);
server.listen(port, "127.0.0.1", () => console.log(`ready http://127.0.0.1:${port}`));
