import { describe, expect, it } from "vitest";
import type { Event, Finding } from "../protocol/generated";
import { announcementFor, toastFor } from "./announce";
import { accessOf, destinationOf, MAX_FINDINGS, MAX_ROWS } from "./guard";
import { fromSnapshot, type SessionModel } from "./model";
import { reduce } from "./reduce";
import { event, model, state } from "./testing";

const access = (over: Record<string, unknown> = {}, ts = 1_000): Event =>
  ({
    ...event(1, { event: "status", status: "idle", persisting: false }),
    event: "network.access", host: "pypi.org", port: 443, decision: "allowed", rule: "pypi.org", ...over, ts,
  }) as unknown as Event;

const play = (start: SessionModel, ...events: Event[]) => events.reduce(reduce, start);

describe("network.access", () => {
  it("counts decisions and joins what is the same", () => {
    const { network } = play(model(), access(), access({}, 2_000), access({ decision: "denied", rule: "", reason: "no rule" }));
    expect(network).toMatchObject({ allowed: 2, denied: 1 });
    expect(network.rows.map(({ decision, count, lastAt }) => [decision, count, lastAt])).toEqual([["denied", 1, 1_000], ["allowed", 2, 2_000]]);
  });

  it("counts connections that began, and bytes of those that ended", () => {
    const ended = access({ connections: 0, sent_bytes: 10, received_bytes: 2_000 });
    const { network } = play(model(), access({ connections: 5 }), ended, ended);
    expect(network).toMatchObject({ allowed: 5, rows: [{ count: 5, sent: 20, received: 4_000 }] });
  });

  it("lets the answer take the place of the question", () => {
    const { network } = play(model(), access({ decision: "asked", rule: "unlisted" }), access({ rule: "once" }));
    expect(network.rows.map((row) => row.decision)).toEqual(["allowed"]);
  });

  it("stays small however many hosts are tried", () => {
    const scan = Array.from({ length: MAX_ROWS * 2 }, (_, at) => access({ host: `h${at}.example`, decision: "denied" }));
    const { network } = play(model(), ...scan);
    expect(network.rows).toHaveLength(MAX_ROWS);
    expect(network.denied).toBe(MAX_ROWS * 2);
  });

  it("comes with a snapshot, and counts on from there", () => {
    const place = { host: "a.example", port: 443, rule: "*.example", reason: "", sent_bytes: 5, received_bytes: 6, last_at: 1 };
    const network = { allowed: 3, denied: 1, places: [{ ...place, decision: "allowed" as const, connections: 3 }] };
    const before = model({ network });
    expect(before.network.rows).toEqual([
      { host: "a.example", port: 443, decision: "allowed", rule: "*.example", count: 3, sent: 5, received: 6, lastAt: 1 },
    ]);
    const after = play(before, access({ host: "a.example", rule: "*.example" }));
    expect(after.network.allowed).toBe(4);
    expect(after.network.rows.map((row) => row.count)).toEqual([4]);
  });

  it("takes nothing for a decision that is none", () => {
    expect(accessOf(access({ host: 7 }))).toBeUndefined();
    expect(accessOf(access({ decision: "maybe" }))).toBeUndefined();
    expect(accessOf(event(1, { event: "turn.started" }))).toBeUndefined();
  });
});

describe("workspace.findings", () => {
  const hook: Finding = { kind: "hook", path: ".git/hooks/pre-commit", detail: "new" };

  it("are joined by kind and path, and the newest word counts", () => {
    const first = event(1, { event: "workspace.findings", items: [hook], truncated: false });
    const second = event(2, { event: "workspace.findings", items: [{ ...hook, detail: "changed" }], truncated: true });
    const { findings, findingsCut } = play(model(), first, second);
    expect(findings).toEqual([{ ...hook, detail: "changed", at: 1_002 }]);
    expect(findingsCut).toBe(true);
  });

  it("are kept over turns, and are bounded", () => {
    const items = Array.from({ length: MAX_FINDINGS + 10 }, (_, at) => ({ ...hook, path: `f${at}` }));
    const before = play(model(), event(1, { event: "workspace.findings", items, truncated: false }), event(2, { event: "turn.started" }));
    expect(before.findings).toHaveLength(MAX_FINDINGS);
  });

  it("come with a snapshot, which says all of them", () => {
    const before = play(model(), event(1, { event: "workspace.findings", items: [{ ...hook, path: "gone" }], truncated: true }));
    const told = state({ findings: [{ ...hook, at: 7 }] });
    const { findings, findingsCut } = fromSnapshot(told, { epoch: "2", seq: 0 }, before);
    expect(findings).toEqual([{ ...hook, at: 7 }]);
    expect(findingsCut).toBe(false);
  });

  it("are said aloud", () => {
    const found = event(1, { event: "workspace.findings", items: [hook], truncated: false });
    expect(announcementFor(found, model())).toMatch(/worth a look/);
  });
});

describe("a crossed limit", () => {
  const crossed = event(2, { event: "agent.error", code: "limit_exceeded", message: "limits.memory: 2 GiB", recoverable: true });

  it("is shown although the turn may go on, until the next prompt", () => {
    const after = play(model(), event(1, { event: "turn.started" }), crossed);
    expect(after.limit?.message).toMatch(/limits.memory/);
    expect(after.lastError).toBeUndefined();
    expect(toastFor(crossed, after)).toBeUndefined();
    expect(play(after, event(3, { event: "turn.started" })).limit).toBeUndefined();
  });

  it("is told once when it ended the turn", () => {
    const error = { code: "limit_exceeded" as const, message: "ended", details: { key: "limits.memory" } };
    const usage = state().usage;
    const after = play(model(), event(1, { event: "turn.started" }), crossed, event(3, { event: "turn.ended", outcome: "failed", usage, error }));
    expect(after.limit).toBeUndefined();
    expect(after.lastError).toEqual(error);
  });
});

describe("destinationOf", () => {
  const request = { id: "r", title: "?", kind: "permission" as const, tool: "network", choices: [] };

  it("reads host and port of a request of the network, and of no other", () => {
    expect(destinationOf({ ...request, arguments: { host: "a.example", port: 443 } })).toEqual({ host: "a.example", port: 443 });
    expect(destinationOf({ ...request, arguments: null })).toBeUndefined();
    expect(destinationOf({ ...request, tool: "bash", arguments: { host: "a", port: 1 } })).toBeUndefined();
  });
});
