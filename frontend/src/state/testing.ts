/** Builders for tests. */
import type { Event, EventBody, Message, Part, Role, SessionInfo, SessionState } from "../protocol/generated";
import { fromSnapshot, type SessionModel } from "./model";

export const SESSION = "0190a000-0000-7000-8000-000000000001";
export const TURN = "0190a000-0000-7000-8000-0000000000aa";

export const CAPABILITIES: SessionState["capabilities"] = {
  steer: true, follow_up: true, queue: true, abort: true, abort_retry: true, fork: true, fork_at_message: true, compact: true, resume: true,
  images: false, plan: true, permissions: true, set_title: true, models: [], thinking_levels: [], modes: [],
};

export function info(over: Partial<SessionInfo> = {}): SessionInfo {
  return {
    id: SESSION, title: "Test", harness: "pi", workspace: "/w/project", tier: "process", status: "idle",
    shares_workspace_with: [], needs_input: false, created_at: 1, updated_at: 1, message_count: 0, ...over,
  };
}

export const ZERO_USAGE = { input: 0, output: 0, cache_read: 0, cache_write: 0, cost_nanodollars: 0 };

export function state(over: Partial<SessionState> = {}): SessionState {
  return {
    session: info(), capabilities: CAPABILITIES, persisting: false, messages: [], has_older: false, streaming: [],
    running_tools: [], requests: [], queue: [], plan: [], commands: [], usage: ZERO_USAGE, findings: [], findings_truncated: false,
    network: { allowed: 0, denied: 0, places: [] }, ...over,
  };
}

export function model(over: Partial<SessionState> = {}, seq = 0): SessionModel {
  return fromSnapshot(state(over), { epoch: "1", seq });
}

export function message(id: string, index: number, role: Role, parts: Part[], over: Partial<Message> = {}): Message {
  return {
    id, session_id: SESSION, turn_id: TURN, index, role, parts, harness: "pi", created_at: 1, version: 1, ...over,
  };
}

export function event(seq: number, body: EventBody): Event {
  return { session_id: SESSION, seq, ts: 1_000 + seq, turn_id: TURN, ...body };
}

export const text = (value: string): Part => ({ type: "text", text: value });
