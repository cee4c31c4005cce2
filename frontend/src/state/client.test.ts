import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { fakeEnvironment, latestSocket } from "../socket/testing";
import { Client } from "./client";
import { event, info, message, SESSION, state, text } from "./testing";

async function open(): Promise<Client> {
  const client = new Client(fakeEnvironment());
  client.open(SESSION);
  client.start();
  await vi.advanceTimersByTimeAsync(0);
  latestSocket().accept();
  return client;
}

function snapshot(seq: number, over: Parameters<typeof state>[0] = {}): void {
  latestSocket().control({ type: "subscribed", session_id: SESSION, cursor: `1.${seq}`, verdict: "snapshot", state: state(over) }, 4);
}

const model = (client: Client) => client.store.get().models[SESSION];

beforeEach(() => {
  vi.useFakeTimers();
  localStorage.clear();
});
afterEach(() => vi.useRealTimers());

describe("Client", () => {
  it("shows a snapshot and then the events that follow it", async () => {
    const client = await open();
    snapshot(3);
    latestSocket().event(4, event(4, { event: "turn.started" }));
    expect([model(client)?.seq, model(client)?.info.status]).toEqual([4, "working"]);
  });

  it("asks from its cursor on when events are missing, once, and ignores what comes before the answer", async () => {
    const client = await open();
    const socket = latestSocket();
    snapshot(3);
    socket.event(4, event(6, { event: "turn.started" }));
    socket.event(4, event(7, { event: "agent.working", phase: "generating" }));
    expect(socket.commands("session.subscribe").map((command) => command.cursor)).toEqual(["1.3"]);
    expect(model(client)?.seq).toBe(3);
    socket.control({ type: "subscribed", session_id: SESSION, cursor: "1.3", verdict: "ok" }, 4);
    for (const seq of [4, 5, 6, 7]) socket.event(4, event(seq, { event: "agent.working", phase: "generating" }));
    expect(model(client)?.seq).toBe(7);
  });

  it("asks for the whole state where its numbers are of another epoch", async () => {
    await open();
    snapshot(3);
    latestSocket().control({ type: "subscribed", session_id: SESSION, cursor: "2.3", verdict: "ok" }, 4);
    expect(latestSocket().commands("session.subscribe")).toMatchObject([{ session_id: SESSION }]);
    expect(latestSocket().commands("session.subscribe")[0]).not.toHaveProperty("cursor");
  });

  it("goes on from its cursor on the next connection", async () => {
    const client = await open();
    snapshot(3);
    latestSocket().event(4, event(4, { event: "turn.started" }));
    latestSocket().cut();
    await vi.advanceTimersByTimeAsync(200);
    latestSocket().accept();
    expect(latestSocket().sent[0]).toEqual({ hello: { version: 1, cursors: { [SESSION]: "1.4" } } });
    expect(client.store.get().connection).toBe("connected");
  });

  it("keeps a prompt until it is answered, also over a reload of the page", async () => {
    const client = await open();
    snapshot(1);
    client.prompt(SESSION, "prompt", "do it");
    const sent = latestSocket().commands("prompt")[0];
    client.stop();
    const again = await open();
    const resent = latestSocket().commands("prompt")[0];
    expect(resent?.client_id).toBe(sent?.client_id);
    expect(again.store.get().pending.map((prompt) => prompt.text)).toEqual(["do it"]);
    latestSocket().reply(resent);
    await vi.advanceTimersByTimeAsync(0);
    expect(again.store.get().pending).toEqual([]);
    expect(localStorage.getItem("lodge.outbox")).toBeNull();
  });

  it("sends a prompt again, under the same client id, while the runner is not there", async () => {
    const client = await open();
    client.prompt(SESSION, "prompt", "do it");
    const first = latestSocket().commands("prompt")[0];
    latestSocket().receive({ response: { id: first?.id, error: { code: "unavailable", message: "restarting" } } });
    await vi.advanceTimersByTimeAsync(1_000);
    const second = latestSocket().commands("prompt")[1];
    expect([second?.client_id, second?.id === first?.id]).toEqual([first?.client_id, false]);
    latestSocket().reply(second);
    await vi.advanceTimersByTimeAsync(0);
    expect(client.store.get().pending).toEqual([]);
  });

  it("names images in a prompt, which may have no text", async () => {
    const client = await open();
    const blob = { hash: "ab".repeat(32), media_type: "image/png", size: 3 };
    client.prompt(SESSION, "prompt", "", [blob]);
    client.prompt(SESSION, "prompt", "look", [blob]);
    const parts = latestSocket().commands("prompt").map((sent) => sent.parts);
    expect(parts).toEqual([[{ type: "image", blob }], [{ type: "text", text: "look" }, { type: "image", blob }]]);
    client.stop();
    const again = await open();
    expect(again.store.get().pending[0]?.images).toEqual([blob]);
  });

  it("shows a refused prompt with its error", async () => {
    const client = await open();
    client.prompt(SESSION, "prompt", "do it");
    const sent = latestSocket().commands("prompt")[0];
    latestSocket().receive({ response: { id: sent?.id, error: { code: "budget_exceeded", message: "no money" } } });
    await vi.advanceTimersByTimeAsync(0);
    expect(client.store.get().pending[0]?.error?.code).toBe("budget_exceeded");
  });

  it("loads older pages until one holds something new", async () => {
    const client = await open();
    snapshot(1, { messages: [message("c", 2, "user", [text("c")])], has_older: true });
    const done = client.loadOlder(SESSION);
    const socket = latestSocket();
    socket.reply(socket.commands("get_messages")[0], { messages: [message("c", 2, "user", [text("c")])], next_cursor: "x" });
    await vi.advanceTimersByTimeAsync(0);
    expect(socket.commands("get_messages")[1]?.cursor).toBe("x");
    socket.reply(socket.commands("get_messages")[1], { messages: [message("a", 0, "user", []), message("b", 1, "user", [])] });
    await done;
    expect(model(client)?.messages.map((one) => one.id)).toEqual(["a", "b", "c"]);
    expect(model(client)?.hasOlder).toBe(false);
  });

  it("tells of another session that needs its user", async () => {
    const client = await open();
    latestSocket().control({ type: "session_changed", session: info({ id: "other", title: "Other", needs_input: true }) });
    expect(client.store.get().toasts.map((toast) => toast.sessionId)).toEqual(["other"]);
  });

  it("forgets a session that was removed", async () => {
    const client = await open();
    snapshot(1);
    latestSocket().control({ type: "session_removed", session_id: SESSION });
    expect([model(client), client.store.get().openErrors[SESSION]?.code]).toEqual([undefined, "not_found"]);
  });
});
