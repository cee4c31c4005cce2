// One scripted session: a log of canonical events and the state they lead to.
import { randomUUID } from "node:crypto";

export const usage = (input = 0, output = 0) => ({
  input,
  output,
  cache_read: 0,
  cache_write: 0,
  cost_nanodollars: (input + output) * 3_000,
});

export const text = (value) => ({ type: "text", text: value });

export const CAPABILITIES = {
  steer: true, follow_up: true, queue: true, abort: true, abort_retry: true, fork: true, compact: true, resume: true,
  images: false, plan: true, permissions: true, set_title: true,
  models: [
    { id: "demo/demo", name: "Demo", provider: "demo", context_window: 128_000, reasoning: true },
    { id: "anthropic/sonnet", name: "Sonnet", provider: "anthropic", context_window: 200_000, reasoning: true },
  ],
  thinking_levels: ["off", "low", "medium", "high"],
  modes: [],
};

export class MockSession {
  constructor(options) {
    this.epoch = 7;
    this.seq = 0;
    this.log = [];
    this.listeners = new Set();
    this.messages = [];
    this.streaming = [];
    this.tools = new Map();
    this.requests = [];
    this.queue = [];
    this.plan = [];
    this.cancelled = false;
    this.contextTokens = 3_000;
    const now = Date.now();
    this.info = {
      id: randomUUID(), title: "", harness: "pi", harness_version: "0.87.1", workspace: "/srv/workspaces/my-project",
      tier: "process", profile: "development", status: "idle", model: "demo/demo", thinking_level: "medium", shares_workspace_with: [],
      needs_input: false, created_at: now, updated_at: now, message_count: 0, ...options,
    };
  }

  emit(body, seq = undefined) {
    if (seq === undefined) this.seq += 1;
    const event = { session_id: this.info.id, seq: seq ?? this.seq, ts: Date.now(), ...(this.turn ? { turn_id: this.turn } : {}), ...body };
    this.log.push(event);
    this.fold(event);
    for (const listener of this.listeners) listener(event);
  }

  fold(event) {
    const live = this.streaming.find((message) => message.id === event.message_id);
    const part = live?.parts[event.part_index];
    const handlers = {
      "stream.message_start": () => this.streaming.push(this.draft(event.message_id, event.role)),
      "stream.text_delta": () => { live.parts[event.part_index] = text((part?.text ?? "") + event.delta); },
      "stream.thinking_delta": () => { live.parts[event.part_index] = { type: "thinking", text: (part?.text ?? "") + event.delta }; },
      "stream.tool_call_start": () => { live.parts[event.part_index] = { type: "tool_call", tool_call_id: event.tool_call_id, name: event.name, input: "" }; },
      "stream.tool_call_end": () => { live.parts[event.part_index] = { type: "tool_call", tool_call_id: event.tool_call_id, name: event.name, input: event.input }; },
      "stream.message_end": () => {
        this.streaming = this.streaming.filter((message) => message.id !== event.message.id);
        this.messages.push(event.message);
      },
      "tool.start": () => this.tools.set(event.tool_call_id, { tool_call_id: event.tool_call_id, name: event.name, input: event.input, output: [], started_at: event.ts }),
      "tool.end": () => this.tools.delete(event.tool_call_id),
      "agent.input_needed": () => this.requests.push(event.request),
      "agent.input_resolved": () => { this.requests = this.requests.filter((request) => request.id !== event.request_id); },
      "queue.updated": () => { this.queue = event.entries; },
      "plan.updated": () => { this.plan = event.entries; },
      "turn.started": () => { this.info.status = "working"; },
      "agent.idle": () => { this.info.status = "idle"; this.phase = undefined; },
      "agent.working": () => { this.phase = event.phase; },
      "session.title_changed": () => { this.info.title = event.title; },
      "config.model_changed": () => { this.info.model = event.model; },
      "config.thinking_level_changed": () => { this.info.thinking_level = event.level; },
      "status": () => { this.info.status = event.status; },
      "turn.ended": () => { this.lastError = event.error; this.turn = undefined; },
    };
    handlers[event.event]?.();
    this.info.needs_input = this.requests.length > 0;
    this.info.message_count = this.messages.length;
    this.info.updated_at = event.ts;
  }

  draft(id, role, parts = []) {
    return {
      id, session_id: this.info.id, turn_id: this.turn ?? randomUUID(), index: this.messages.length + this.streaming.length,
      role, parts, harness: this.info.harness, model: role === "assistant" ? this.info.model : undefined,
      created_at: Date.now(), version: 1,
    };
  }

  /** Emits a message with one delta for each chunk of its text. */
  async say(role, parts, { delay = 0, stop = undefined } = {}) {
    const id = randomUUID();
    this.emit({ event: "stream.message_start", message_id: id, role });
    for (const [part_index, part] of parts.entries()) {
      if (this.cancelled) break;
      await this.sayPart(id, part_index, part, delay);
    }
    const streamed = this.streaming.find((message) => message.id === id);
    const aborted = this.cancelled && role === "assistant";
    const message = { ...streamed, parts: aborted ? streamed.parts : parts, stop_reason: aborted ? "aborted" : stop };
    this.emit({ event: "stream.message_end", message });
    return message;
  }

  async sayPart(message_id, part_index, part, delay) {
    if (part.type === "tool_call") {
      const { tool_call_id, name, input } = part;
      this.emit({ event: "stream.tool_call_start", message_id, part_index, tool_call_id, name });
      this.emit({ event: "stream.tool_call_end", message_id, part_index, tool_call_id, name, input });
      return;
    }
    if (part.type !== "text" && part.type !== "thinking") return;
    const event = part.type === "text" ? "stream.text_delta" : "stream.thinking_delta";
    this.emit({ event: "agent.working", phase: part.type === "text" ? "generating" : "thinking" });
    for (const chunk of delay === 0 ? [part.text] : (part.text.match(/[\s\S]{1,12}/g) ?? [])) {
      if (this.cancelled) return;
      this.emit({ event, message_id, part_index, delta: chunk });
      if (delay > 0) await new Promise((resolve) => setTimeout(resolve, delay));
    }
  }

  /** Runs a tool: its call inside an assistant message, its progress, its result as a message of its own. */
  async tool(name, input, output, { before = [], delay = 0, isError = false, after = undefined } = {}) {
    const tool_call_id = randomUUID();
    await this.say("assistant", [...before, { type: "tool_call", tool_call_id, name, input }], { delay, stop: "tool_use" });
    this.emit({ event: "agent.working", phase: "tool_running" });
    this.emit({ event: "tool.start", tool_call_id, name, input });
    if (after) await after();
    if (delay > 0) await new Promise((resolve) => setTimeout(resolve, 400));
    const parts = typeof output === "string" ? [text(output)] : output;
    this.emit({ event: "tool.end", tool_call_id, name, output: parts, is_error: isError, duration_ms: 340 });
    await this.say("tool", [{ type: "tool_result", tool_call_id, name, output: parts, is_error: isError }]);
  }

  async turnOf(prompt, body) {
    this.cancelled = false;
    this.turn = randomUUID();
    this.emit({ event: "turn.started" });
    await this.say("user", [text(prompt)]);
    this.emit({ event: "agent.working", phase: "generating" });
    const error = await body();
    this.contextTokens += 2_400;
    this.emit({ event: "usage.updated", usage: usage(this.contextTokens, 900), context_tokens: this.contextTokens });
    this.emit({ event: "status", status: this.info.status, persisting: true });
    const outcome = error ? "failed" : this.cancelled ? "aborted" : "completed";
    this.emit({ event: "turn.ended", outcome, usage: usage(2_400, 300), ...(error ? { error } : {}) });
    this.emit({ event: "agent.idle", message_version: this.messages.length });
  }

  ask(request) {
    const id = randomUUID();
    this.emit({ event: "agent.input_needed", request: { id, ...request } });
    return new Promise((resolve) => { this.answered = (answer) => resolve(answer); this.pendingRequest = id; });
  }

  state() {
    const first = Math.max(0, this.messages.length - 200);
    return {
      session: this.info, capabilities: CAPABILITIES, phase: this.phase, turn_id: this.turn, persisting: false,
      messages: this.messages.slice(first), has_older: first > 0, streaming: this.streaming,
      running_tools: [...this.tools.values()], requests: this.requests, queue: this.queue, plan: this.plan,
      commands: [{ name: "compact", description: "Shorten the context" }, { name: "review", description: "Review the changes" }],
      usage: usage(this.contextTokens, 900), context_tokens: this.contextTokens, last_error: this.lastError,
      findings: [], findings_truncated: false, network: { allowed: 0, denied: 0, places: [] },
    };
  }
}
