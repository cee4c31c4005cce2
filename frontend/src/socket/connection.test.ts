import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Cursor, Event, ToClient } from "../protocol/generated";
import { LodgeError, TERMINAL_CHUNK } from "../protocol/wire";
import { event, SESSION, state } from "../state/testing";
import { backoffDelay } from "./backoff";
import { Connection, EAGER_TRIAL_MS, OPEN_MS, QUIET_MS, TRIAL_MS, type ConnectionState } from "./connection";
import { fakeEnvironment, FakeSocket, latestSocket } from "./testing";

const OTHER = "0190a000-0000-7000-8000-000000000002";

function setUp(over: Parameters<typeof fakeEnvironment>[0] = {}) {
  const states: ConnectionState[] = [];
  const events: Event[] = [];
  const controls: ToClient[] = [];
  const output: [number, string][] = [];
  let cursors: Record<string, Cursor | null> = { [SESSION]: "1.5" };
  const connection = new Connection(fakeEnvironment(over), {
    onState: (state) => states.push(state),
    onEvent: (next) => events.push(next),
    onControl: (control) => controls.push(control),
    onTerminal: (terminal, bytes) => output.push([terminal, new TextDecoder().decode(bytes)]),
    cursors: () => cursors,
  });
  return { connection, states, events, controls, output, setCursors: (next: typeof cursors) => (cursors = next) };
}

async function open(connection: Connection): Promise<FakeSocket> {
  connection.start();
  await vi.advanceTimersByTimeAsync(0);
  latestSocket().accept();
  return latestSocket();
}

const subscribed: ToClient = { type: "subscribed", session_id: SESSION, cursor: "1.5", verdict: "ok" };

beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.useRealTimers());

describe("Connection", () => {
  it("shows its page token and says hello with its cursors", async () => {
    const { connection, states } = setUp();
    const socket = await open(connection);
    expect(socket.protocols).toEqual(["lodge.v1", "token.t0"]);
    expect(socket.sent).toEqual([{ hello: { version: 1, cursors: { [SESSION]: "1.5" } } }]);
    expect(states).toEqual(["connected"]);
  });

  it("stops at the login page when nobody is logged in", async () => {
    const { connection, states } = setUp({ pageToken: () => Promise.reject(new LodgeError({ code: "unauthenticated", message: "no" })) });
    connection.start();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(states).toEqual(["logged_out"]);
    expect(FakeSocket.all).toHaveLength(0);
  });

  it("sends unanswered commands again, under the same ids, on the next connection", async () => {
    const { connection } = setUp();
    const first = await open(connection);
    const answer = connection.send({ cmd: "prompt", parts: [] }, SESSION);
    const answered = connection.send({ cmd: "abort" }, SESSION);
    first.reply(first.commands("abort")[0]);
    await answered;
    first.cut();
    await vi.advanceTimersByTimeAsync(100);
    const second = latestSocket();
    expect(second).not.toBe(first);
    second.accept();
    expect(second.commands("prompt")).toEqual(first.commands("prompt"));
    expect(second.commands("abort")).toEqual([]);
    expect(second.commands("prompt")[0]?.client_id).toBeTypeOf("string");
    second.reply(second.commands("prompt")[0], { done: true });
    await expect(answer).resolves.toEqual({ done: true });
  });

  it("says hello again and sends again when the runner is back, and holds commands while it is away", async () => {
    const { connection, states, setCursors } = setUp();
    const socket = await open(connection);
    socket.control({ type: "runner_lost", error: { code: "unavailable", message: "gone" } });
    void connection.send({ cmd: "abort" }, SESSION);
    expect(socket.commands("abort")).toHaveLength(0);
    setCursors({ [SESSION]: "1.9" });
    socket.control({ type: "runner_ready" });
    expect(socket.commands("abort")).toHaveLength(1);
    expect(socket.sent.filter((frame) => "hello" in frame).at(-1)).toEqual({ hello: { version: 1, cursors: { [SESSION]: "1.9" } } });
    expect(states).toEqual(["connected", "runner_lost", "connected"]);
  });

  it("drops events of a session that their handle is not bound to", async () => {
    const { connection, events } = setUp();
    const socket = await open(connection);
    const own = event(6, { event: "turn.started" });
    socket.event(7, own);
    expect(events).toHaveLength(0);
    socket.control(subscribed, 7);
    socket.event(7, { ...own, session_id: OTHER });
    socket.event(8, own);
    expect(events).toHaveLength(0);
    socket.event(7, own);
    expect(events).toEqual([own]);
  });

  it("takes frames that are none", async () => {
    const { connection, events, controls } = setUp();
    const socket = await open(connection);
    for (const bad of ["", "{", "null", "[]", '{"event":{}}', '{"response":{}}', '{"control":3}', '{"session":1,"event":{"event":"x"}}']) socket.receive(bad);
    expect([events, controls]).toEqual([[], []]);
  });

  it("replaces a socket that stays silent when it is tried", async () => {
    const { connection, states } = setUp();
    const socket = await open(connection);
    await vi.advanceTimersByTimeAsync(QUIET_MS);
    expect(socket.commands("session.list")).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(TRIAL_MS);
    expect(socket.readyState).toBe(WebSocket.CLOSED);
    expect(states.at(-1)).toBe("reconnecting");
    await vi.advanceTimersByTimeAsync(100);
    expect(latestSocket()).not.toBe(socket);
  });

  it("keeps a socket that answers its trial", async () => {
    const { connection } = setUp();
    const socket = await open(connection);
    connection.nudge();
    await vi.advanceTimersByTimeAsync(EAGER_TRIAL_MS - 1);
    socket.reply(socket.commands("session.list")[0], { sessions: [] });
    await vi.advanceTimersByTimeAsync(EAGER_TRIAL_MS);
    expect(socket.readyState).toBe(WebSocket.OPEN);
  });

  it("comes back at once when somebody looks", async () => {
    const { connection } = setUp({ pageToken: () => Promise.resolve("t") });
    const socket = await open(connection);
    socket.cut();
    connection.nudge();
    await vi.advanceTimersByTimeAsync(0);
    expect(FakeSocket.all).toHaveLength(2);
    await vi.advanceTimersByTimeAsync(10_000);
    expect(FakeSocket.all).toHaveLength(2);
  });

  it("makes one connection however often somebody looks meanwhile", async () => {
    const tokens: ((token: string) => void)[] = [];
    const { connection } = setUp({ pageToken: () => new Promise((resolve) => tokens.push(resolve)) });
    connection.start();
    connection.nudge();
    connection.nudge();
    for (const give of tokens) give("t");
    await vi.advanceTimersByTimeAsync(0);
    expect(FakeSocket.all).toHaveLength(1);
  });

  it("gives up a socket that never opens", async () => {
    const { connection, states } = setUp();
    connection.start();
    await vi.advanceTimersByTimeAsync(OPEN_MS);
    expect(states).toEqual(["reconnecting"]);
    await vi.advanceTimersByTimeAsync(100);
    expect(FakeSocket.all).toHaveLength(2);
  });

  it("gives up a query after a while, but never a command with an effect", async () => {
    const { connection } = setUp();
    const socket = await open(connection);
    const query = connection.send({ cmd: "harness.list" });
    const refused = expect(query).rejects.toMatchObject({ body: { code: "deadline_exceeded" } });
    let settled = false;
    void connection.send({ cmd: "prompt", parts: [] }, SESSION).finally(() => (settled = true));
    for (let second = 0; second < 40; second += 1) {
      socket.control({ type: "session_removed", session_id: OTHER });
      await vi.advanceTimersByTimeAsync(1_000);
    }
    await refused;
    expect(settled).toBe(false);
  });

  it("throws what the server answers", async () => {
    const { connection } = setUp();
    const socket = await open(connection);
    const answer = connection.send({ cmd: "abort" }, SESSION);
    socket.receive({ response: { id: socket.commands("abort")[0]?.id, error: { code: "busy", message: "wait" } } });
    await expect(answer).rejects.toMatchObject({ body: { code: "busy", message: "wait" } });
  });

  it("passes snapshots on", async () => {
    const { connection, controls } = setUp();
    const socket = await open(connection);
    socket.control({ type: "subscribed", session_id: SESSION, cursor: "1.9", verdict: "snapshot", state: state() }, 3);
    expect(controls.map((control) => control.type)).toEqual(["subscribed"]);
  });
});

describe("backoffDelay", () => {
  it("grows from 100 ms to 5 s and jitters in its upper half", () => {
    expect([0, 1, 2, 6, 60].map((attempt) => backoffDelay(attempt, () => 1))).toEqual([100, 200, 400, 5_000, 5_000]);
    expect(backoffDelay(0, () => 0)).toBe(50);
  });
});

describe("terminal bytes", () => {
  it("come with their terminal's number, and go in frames of bounded size", async () => {
    const { connection, output } = setUp();
    const socket = await open(connection);
    expect(socket.binaryType).toBe("arraybuffer");
    socket.output(7, "hé");
    socket.receive(new ArrayBuffer(3));
    expect(output).toEqual([[7, "hé"]]);
    expect(connection.type(7, new Uint8Array(TERMINAL_CHUNK + 1))).toBe(true);
    expect(socket.blobs.map((frame) => frame.byteLength)).toEqual([TERMINAL_CHUNK + 4, 5]);
    expect(new DataView(socket.blobs[1]!).getUint32(0, true)).toBe(7);
  });

  it("are not kept for later when there is no connection", async () => {
    const { connection } = setUp();
    const first = await open(connection);
    first.control({ type: "runner_lost", error: { code: "unavailable", message: "gone" } });
    expect(connection.type(7, new Uint8Array(1))).toBe(false);
    first.cut();
    await vi.advanceTimersByTimeAsync(100);
    latestSocket().accept();
    expect(latestSocket().blobs).toEqual([]);
  });
});
