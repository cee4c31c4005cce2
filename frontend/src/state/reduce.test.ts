import { describe, expect, it } from "vitest";
import type { Event, EventBody, Message, Part, SessionState } from "../protocol/generated";
import type { NetworkLog } from "./guard";
import { fromSnapshot, parseCursor, upsertMessages, withOlder, type SessionModel } from "./model";
import { apply, reduce } from "./reduce";
import { event, info, message, model, SESSION, text, TURN, ZERO_USAGE } from "./testing";

function summary({ allowed, denied, rows }: NetworkLog): SessionState["network"] {
  const places = rows.map(({ host, port, decision, rule, reason = "", count, sent, received, lastAt }) => ({
    host, port, decision, rule, reason, connections: count, sent_bytes: sent, received_bytes: received, last_at: lastAt,
  }));
  return { allowed, denied, places };
}

/** The snapshot that a runner would send at this point of the log. */
function snapshot(at: SessionModel): SessionState {
  return {
    session: at.info, capabilities: at.capabilities, phase: at.phase, turn_id: at.turnId, persisting: at.persisting,
    messages: [...at.messages], has_older: at.hasOlder, streaming: [...at.streaming],
    running_tools: Object.values(at.tools).filter((tool) => !tool.ended).map((tool) => ({
      tool_call_id: tool.id, name: tool.name, input: tool.input, output: [...tool.output], started_at: tool.startedAt,
    })),
    requests: [...at.requests], queue: [...at.queue], plan: [...at.plan], commands: [...at.commands], mode: at.mode,
    usage: at.usage, context_tokens: at.contextTokens, last_error: at.lastError,
    findings: [...at.findings], findings_truncated: at.findingsCut, network: summary(at.network),
  };
}

/** What snapshots carry; the rest (durations, banners) is a comfort of those who watched. */
function visible(at: SessionModel) {
  const { durations: _d, retry: _r, compacting: _c, statusText: _s, tools, ...rest } = at;
  return { ...rest, running: Object.values(tools).filter((tool) => !tool.ended) };
}

/** A small generator of numbers, the same in every run. */
function random(seed: number): () => number {
  let value = seed;
  return () => {
    value = (value * 1_103_515_245 + 12_345) % 2_147_483_648;
    return value / 2_147_483_648;
  };
}

function assistantTurn(next: () => number, turn: number, indexFrom: number): EventBody[] {
  const out: EventBody[] = [{ event: "turn.started" }];
  let index = indexFrom;
  const say = (role: Message["role"], parts: Part[], key: string) => {
    const id = `m-${turn}-${key}`;
    out.push({ event: "stream.message_start", message_id: id, role });
    for (const [part_index, part] of parts.entries()) {
      if (part.type === "text" || part.type === "thinking") {
        const whole = part.text;
        const kind = part.type === "text" ? "stream.text_delta" : "stream.thinking_delta";
        for (let at = 0; at < whole.length; at += 1 + Math.floor(next() * 5)) out.push({ event: kind, message_id: id, part_index, delta: whole.slice(at, at + 2) });
      } else if (part.type === "tool_call") {
        const { tool_call_id, name, input } = part;
        out.push({ event: "stream.tool_call_start", message_id: id, part_index, tool_call_id, name });
        out.push({ event: "stream.tool_call_delta", message_id: id, part_index, tool_call_id, delta: '{"comm' });
        out.push({ event: "stream.tool_call_end", message_id: id, part_index, tool_call_id, name, input });
      }
    }
    if (next() < 0.1) {
      out.push({ event: "stream.message_discarded", message_id: id });
      out.push({ event: "stream.message_start", message_id: `${id}r`, role });
      out.push({ event: "stream.message_end", message: message(`${id}r`, index, role, parts) });
    } else out.push({ event: "stream.message_end", message: message(id, index, role, parts) });
    index += 1;
  };
  say("user", [text(`prompt ${turn}`)], "user");
  const tools = Math.floor(next() * 3);
  for (let tool = 0; tool < tools; tool += 1) {
    const id = `t-${turn}-${tool}`;
    out.push({ event: "agent.working", phase: "thinking" });
    say("assistant", [{ type: "thinking", text: "let me see", redacted: false }, { type: "tool_call", tool_call_id: id, name: "bash", input: { command: "ls" } }], `a${tool}`);
    if (next() < 0.3) {
      const request = { id: `r-${turn}-${tool}`, title: "May I?", kind: "confirm" } as const;
      out.push({ event: "agent.input_needed", request });
      out.push({ event: "agent.input_resolved", request_id: request.id, answer: { answer: "confirmed", yes: true } });
    }
    out.push({ event: "tool.start", tool_call_id: id, name: "bash", input: { command: "ls" } });
    out.push({ event: "tool.progress", tool_call_id: id, name: "bash", delta: "one\n" });
    out.push({ event: "tool.progress", tool_call_id: id, name: "bash", delta: "two\n" });
    out.push({ event: "tool.end", tool_call_id: id, name: "bash", output: [text("one\ntwo\n")], is_error: false, duration_ms: 12 });
    say("tool", [{ type: "tool_result", tool_call_id: id, name: "bash", output: [text("one\ntwo\n")], is_error: false }], `o${tool}`);
  }
  say("assistant", [text("all done, in many small steps")], "end");
  out.push({ event: "queue.updated", entries: [{ id: `q${turn}`, state: "waiting", parts: [text("next")], created_at: 1 }] });
  out.push({ event: "usage.updated", usage: { ...ZERO_USAGE, input: turn }, context_tokens: turn });
  out.push({ event: "status", status: "working", persisting: true });
  const failed = next() < 0.3;
  out.push({ event: "turn.ended", outcome: failed ? "failed" : "completed", usage: ZERO_USAGE, ...(failed ? { error: { code: "provider_error", message: "no" } } : {}) });
  out.push({ event: "agent.idle", message_version: index });
  return out;
}

function log(seed: number): Event[] {
  const next = random(seed);
  const bodies: EventBody[] = [];
  let messages = 0;
  for (let turn = 0; turn < 4; turn += 1) {
    bodies.push(...assistantTurn(next, turn, messages));
    messages = bodies.filter((body) => body.event === "stream.message_end").length;
  }
  return bodies.map((body, index) => event(index + 1, body));
}

function replay(from: SessionModel, events: readonly Event[]): SessionModel {
  return events.reduce((at, next) => {
    const applied = apply(at, next);
    return applied.kind === "applied" ? applied.model : at;
  }, from);
}

describe("reduce", () => {
  it("reaches the same state from every snapshot on the way", () => {
    for (const seed of [1, 2, 3, 4, 5]) {
      const events = log(seed);
      const whole = replay(model(), events);
      expect(whole.messages.length).toBeGreaterThan(8);
      let at = model();
      for (let k = 0; k < events.length; k += 1) {
        const again = replay(fromSnapshot(structuredClone(snapshot(at)), { epoch: "1", seq: at.seq }), events.slice(k));
        expect(visible(again)).toEqual(visible(whole));
        at = replay(at, events.slice(k, k + 1));
      }
    }
  });

  it("changes nothing when events come twice", () => {
    const events = log(9);
    const doubled = events.flatMap((one) => [one, one]);
    expect(replay(model(), doubled)).toEqual(replay(model(), events));
  });

  it("never changes the state it was given", () => {
    const freeze = (value: unknown): void => {
      if (typeof value !== "object" || value === null || Object.isFrozen(value)) return;
      Object.freeze(value);
      Object.values(value).forEach(freeze);
    };
    let at = model();
    for (const next of log(3)) {
      freeze(at);
      at = replay(at, [next]);
    }
    expect(at.info.status).toBe("idle");
  });

  it("tells a gap and a duplicate apart", () => {
    const at = model({}, 5);
    expect(apply(at, event(5, { event: "turn.started" })).kind).toBe("duplicate");
    expect(apply(at, event(7, { event: "turn.started" }))).toEqual({ kind: "gap", expected: 6 });
    const next = apply(at, event(6, { event: "turn.started" }));
    expect(next.kind === "applied" && next.model.seq).toBe(6);
  });

  it("takes heartbeats, which have no number", () => {
    const next = apply(model({}, 5), event(0, { event: "session.heartbeat", status: "working" }));
    expect(next.kind === "applied" && [next.model.seq, next.model.info.status]).toEqual([5, "working"]);
  });

  it("carries on with events it does not know", () => {
    const strange = { session_id: SESSION, seq: 1, ts: 1, event: "future.thing" } as unknown as Event;
    const next = apply(model(), strange);
    expect(next.kind === "applied" && next.model.seq).toBe(1);
  });

  it("asks for the state anew when the log says so", () => {
    expect(reduce(model(), event(1, { event: "stream.resync_required", from_seq: 1 })).stale).toBe(true);
  });

  it("keeps a tool's partial arguments as text until they are whole", () => {
    let at = reduce(model(), event(1, { event: "stream.message_start", message_id: "m", role: "assistant" }));
    at = reduce(at, event(2, { event: "stream.tool_call_start", message_id: "m", part_index: 1, tool_call_id: "t", name: "bash" }));
    at = reduce(at, event(3, { event: "stream.tool_call_delta", message_id: "m", part_index: 1, tool_call_id: "t", delta: '{"a"' }));
    expect(at.streaming[0]?.parts).toEqual([text(""), { type: "tool_call", tool_call_id: "t", name: "bash", input: '{"a"' }]);
  });

  it("follows requests and says when none waits any more", () => {
    const request = { id: "r", title: "May I?", kind: "confirm" } as const;
    const asked = reduce(model(), event(1, { event: "agent.input_needed", request }));
    expect([asked.requests.length, asked.info.needs_input]).toEqual([1, true]);
    const answered = reduce(asked, event(2, { event: "agent.input_resolved", request_id: "r", answer: { answer: "cancelled" } }));
    expect([answered.requests.length, answered.info.needs_input]).toEqual([0, false]);
  });

  it("stays aborting while late phases come in, and ends idle", () => {
    const at = model({ session: info({ status: "aborting" }), turn_id: TURN });
    const late = reduce(at, event(1, { event: "agent.working", phase: "generating" }));
    expect(late.info.status).toBe("aborting");
    const ended = reduce(late, event(2, { event: "turn.ended", outcome: "aborted", usage: ZERO_USAGE }));
    expect([ended.info.status, ended.turnId]).toEqual(["idle", undefined]);
  });
});

describe("messages", () => {
  it("are ordered by index and replaced by id, newer versions winning", () => {
    const old = message("b", 1, "assistant", [text("old")], { version: 2 });
    const list = upsertMessages([message("a", 0, "user", []), old], [message("c", 2, "user", []), message("b", 1, "assistant", [text("older")], { version: 1 })]);
    expect(list.map((one) => one.id)).toEqual(["a", "b", "c"]);
    expect(list[1]).toBe(old);
  });

  it("join with older pages without doubling", () => {
    const at = withOlder(model({ messages: [message("b", 1, "user", [])] }), [message("a", 0, "user", []), message("b", 1, "user", [])], false);
    expect(at.messages.map((one) => one.id)).toEqual(["a", "b"]);
    expect(at.hasOlder).toBe(false);
  });

  it("have cursors of two numbers", () => {
    expect(parseCursor("12.34")).toEqual({ epoch: "12", seq: 34 });
    for (const bad of ["", "12", "a.1", "1.2.3", "-1.2"]) expect(parseCursor(bad)).toBeUndefined();
  });
});
