import { describe, expect, it, vi } from "vitest";
import type { CommandBody } from "../protocol/generated";
import { KEPT_BYTES, Terminals, type Sink } from "./terminals";
import { SESSION } from "./testing";

const bytes = (text: string) => new TextEncoder().encode(text);

/** A server with the given terminals, and a sink that remembers. */
function setUp(there: number[] = []) {
  const sent: CommandBody[] = [];
  let opened = 100;
  const answers: Record<string, (body: CommandBody) => unknown> = {
    "terminal.list": () => ({ terminals: there.map((id) => ({ terminal_id: id, rows: 24, cols: 80, opened_at: id })) }),
    "terminal.open": () => ({ terminal_id: 1, rows: 24, cols: 80, opened_at: (opened += 1) }),
  };
  const send = vi.fn((body: CommandBody) => {
    sent.push(body);
    return Promise.resolve(answers[body.cmd]?.(body) ?? {});
  });
  let typed = "";
  const type = (_: number, keys: Uint8Array) => {
    typed += new TextDecoder().decode(keys);
    return true;
  };
  const terminals = new Terminals({ send, type });
  let shown = "";
  const again: boolean[] = [];
  const sink: Sink = {
    reset: () => (shown = ""),
    write: (chunk, replayed) => {
      shown += new TextDecoder().decode(chunk);
      again.push(replayed);
    },
  };
  return { terminals, sent, there, sink, again, shown: () => shown, typed: () => typed, asked: (cmd: string) => sent.filter((body) => body.cmd === cmd) };
}

describe("Terminals", () => {
  it("shows what was kept to a panel that comes later, and marks it as shown before", async () => {
    const { terminals, sink, shown, again } = setUp();
    expect(await terminals.open(SESSION, { rows: 24, cols: 80 })).toBe(1);
    terminals.onBytes(1, bytes("$ "));
    const hide = terminals.show(1, sink);
    terminals.onBytes(1, bytes("ls"));
    hide();
    terminals.onBytes(1, bytes("!"));
    expect(shown()).toBe("$ ls");
    expect(again).toEqual([true, false]);
    terminals.show(1, sink);
    expect(shown()).toBe("$ ls$ ls!");
  });

  it("keeps no more of the output than its bound", async () => {
    const { terminals, sink, shown } = setUp();
    await terminals.open(SESSION, { rows: 24, cols: 80 });
    for (let part = 0; part < 100; part += 1) terminals.onBytes(1, bytes("x".repeat(KEPT_BYTES / 10)));
    terminals.show(1, sink);
    expect(shown().length).toBeLessThanOrEqual(KEPT_BYTES);
    expect(shown().length).toBeGreaterThan(KEPT_BYTES / 2);
  });

  it("attaches again after the connection came back: the scrollback replaces what was shown", async () => {
    const { terminals, sink, shown, asked } = setUp([4]);
    await terminals.load(SESSION);
    terminals.show(4, sink);
    terminals.onBytes(4, bytes("before"));
    await terminals.load(SESSION);
    expect(asked("terminal.attach")).toHaveLength(1);
    terminals.onLost();
    await terminals.load(SESSION);
    expect(asked("terminal.attach")).toHaveLength(2);
    terminals.onBytes(4, bytes("before and after"));
    expect(shown()).toBe("before and after");
  });

  it("loses no key while it is attached again, and types none that is old or too much", async () => {
    vi.useFakeTimers();
    const { terminals, typed } = setUp([4]);
    await terminals.load(SESSION);
    terminals.type(4, "a");
    terminals.onLost();
    expect(terminals.type(4, "old")).toBe(true);
    vi.advanceTimersByTime(6_000);
    terminals.type(4, "b");
    terminals.type(4, "c");
    expect(terminals.type(4, "x".repeat(5_000))).toBe(false);
    expect(typed()).toBe("a");
    await terminals.load(SESSION);
    terminals.type(4, "d");
    expect(typed()).toBe("abcd");
    vi.useRealTimers();
  });

  it("tells how a shell ended, also when it ended unseen", async () => {
    const { terminals, there } = setUp([4, 5]);
    await terminals.load(SESSION);
    terminals.onControl({ type: "terminal_closed", session_id: SESSION, terminal_id: 4, exit: { code: 3 } });
    terminals.onLost();
    there.length = 0;
    await terminals.load(SESSION);
    expect(terminals.store.get().map((view) => view.exit)).toEqual([{ code: 3 }, { reason: expect.stringMatching(/ended/) as string }]);
  });

  it("heeds no ending that comes for the terminal of another session", async () => {
    const { terminals } = setUp([4]);
    await terminals.load(SESSION);
    terminals.onControl({ type: "terminal_closed", session_id: "other", terminal_id: 4, exit: {} });
    expect(terminals.store.get()[0]?.exit).toBeUndefined();
  });

  it("closes the tab of a shell that has ended without asking the server", async () => {
    const { terminals, asked } = setUp([4, 5]);
    await terminals.load(SESSION);
    terminals.onControl({ type: "terminal_closed", session_id: SESSION, terminal_id: 4, exit: { code: 0 } });
    await terminals.close(SESSION, 4);
    expect(asked("terminal.close")).toHaveLength(0);
    await terminals.close(SESSION, 5);
    expect(asked("terminal.close")).toHaveLength(1);
    expect(terminals.store.get()).toEqual([]);
  });

  it("shows nothing of an older terminal under a number that is used again", async () => {
    const { terminals, sink, shown } = setUp();
    await terminals.open(SESSION, { rows: 24, cols: 80 });
    terminals.onBytes(1, bytes("old"));
    terminals.onControl({ type: "terminal_closed", session_id: SESSION, terminal_id: 1, exit: { code: 0 } });
    await terminals.open(SESSION, { rows: 24, cols: 80 });
    terminals.onBytes(1, bytes("new"));
    terminals.show(1, sink);
    expect(shown()).toBe("new");
    expect(terminals.store.get()).toHaveLength(1);
  });

  it("attaches again when it was too slow", async () => {
    const { terminals, asked } = setUp([4]);
    await terminals.load(SESSION);
    terminals.onControl({ type: "terminal_lagged", terminal_id: 4 });
    expect(asked("terminal.attach")).toHaveLength(2);
  });

  it("bounds what it keeps of terminals that nobody named, and still takes new ones", async () => {
    const { terminals, sink, shown } = setUp([4]);
    for (let id = 1_000; id < 2_000; id += 1) terminals.onBytes(id, bytes("stray"));
    await terminals.load(SESSION);
    terminals.onBytes(4, bytes("mine"));
    terminals.show(4, sink);
    expect(shown()).toBe("mine");
  });
});
