/** The pure reducer over canonical events: what a session's log says, as a model to show. */
import type { Event, SessionInfo, SessionStatus } from "../protocol/generated";
import { accessOf, withAccess, withFindings } from "./guard";
import type { SessionModel } from "./model";
import { reduceStream, type StreamEvent } from "./reduce-stream";

/** What became of an event: applied, known already, or beyond a gap that must be closed first. */
export type Applied =
  | { readonly kind: "applied"; readonly model: SessionModel }
  | { readonly kind: "duplicate" }
  | { readonly kind: "gap"; readonly expected: number };

/** Applies an event if it is the next one. Heartbeats carry the number 0 and fit everywhere. */
export function apply(model: SessionModel, event: Event): Applied {
  if (event.seq === 0) return { kind: "applied", model: reduce(model, event) };
  if (event.seq <= model.seq) return { kind: "duplicate" };
  if (event.seq !== model.seq + 1) return { kind: "gap", expected: model.seq + 1 };
  return { kind: "applied", model: { ...reduce(model, event), seq: event.seq } };
}

function withInfo(model: SessionModel, info: Partial<SessionInfo>): SessionModel {
  return { ...model, info: { ...model.info, ...info } };
}

function withStatus(model: SessionModel, status: SessionStatus): SessionModel {
  return model.info.status === status ? model : withInfo(model, { status });
}

function isStreamEvent(event: Event): event is StreamEvent {
  return event.event.startsWith("stream.") || event.event.startsWith("tool.");
}

/** The model after `event`. Events this build does not know change nothing. */
export function reduce(model: SessionModel, event: Event): SessionModel {
  if (isStreamEvent(event)) return reduceStream(model, event);
  if (event.event.startsWith("turn.") || event.event.startsWith("agent.")) return reduceTurn(model, event);
  if (event.event.startsWith("session.")) return reduceSession(model, event);
  return reduceState(model, event);
}

function endTurn(model: SessionModel, event: Extract<Event, { event: "turn.ended" }>): SessionModel {
  const busy = model.info.status === "working" || model.info.status === "aborting";
  const next: SessionModel = {
    ...model,
    turnId: undefined,
    phase: undefined,
    persisting: false,
    retry: undefined,
    streaming: [],
    tools: {},
    // The end of the turn tells of the limit itself.
    limit: event.error?.code === "limit_exceeded" ? undefined : model.limit,
    lastError: event.error ?? (event.outcome === "completed" ? undefined : model.lastError),
  };
  return busy ? withStatus(next, "idle") : next;
}

function reduceTurn(model: SessionModel, event: Event): SessionModel {
  switch (event.event) {
    case "turn.started":
      return withStatus(
        { ...model, turnId: event.turn_id, lastError: undefined, limit: undefined, statusText: undefined },
        "working",
      );
    case "turn.ended":
      return endTurn(model, event);
    case "agent.working": {
      const next = { ...model, phase: event.phase };
      return model.info.status === "idle" ? withStatus(next, "working") : next;
    }
    case "agent.idle": {
      const next = { ...model, phase: undefined, statusText: undefined };
      const over = model.info.status === "working" || model.info.status === "aborting" || model.info.status === "starting";
      return over ? withStatus(next, "idle") : next;
    }
    case "agent.error":
      // A crossed limit is told of although the turn may go on: something of it was ended.
      if (event.code === "limit_exceeded") return { ...model, limit: { code: event.code, message: event.message } };
      return event.recoverable ? model : { ...model, lastError: { code: event.code, message: event.message } };
    case "agent.input_needed": {
      const others = model.requests.filter((request) => request.id !== event.request.id);
      return withInfo({ ...model, requests: [...others, event.request] }, { needs_input: true });
    }
    case "agent.input_resolved": {
      const requests = model.requests.filter((request) => request.id !== event.request_id);
      return withInfo({ ...model, requests }, { needs_input: requests.length > 0 });
    }
    default:
      return model;
  }
}

function reduceSession(model: SessionModel, event: Event): SessionModel {
  switch (event.event) {
    case "session.created":
      return { ...model, info: event.session };
    case "session.closed":
      return withStatus({ ...model, phase: undefined, requests: [] }, "stopped");
    case "session.title_changed":
      return withInfo(model, { title: event.title });
    case "session.capabilities":
      return { ...model, capabilities: event.capabilities };
    case "session.heartbeat":
      return withStatus(model, event.status);
    default:
      return model;
  }
}

function reduceState(model: SessionModel, event: Event): SessionModel {
  const access = accessOf(event);
  if (access) return { ...model, network: withAccess(model.network, access) };
  switch (event.event) {
    case "retry.start":
      return {
        ...model,
        retry: {
          attempt: event.attempt,
          maxAttempts: event.max_attempts,
          delayMs: event.delay_ms,
          startedAt: event.ts,
          error: event.error,
        },
      };
    case "retry.end":
      return { ...model, retry: undefined };
    case "compact.start":
      return { ...model, compacting: event.reason };
    case "compact.end":
      return { ...model, compacting: undefined };
    case "plan.updated":
      return { ...model, plan: event.entries };
    case "queue.updated":
      return { ...model, queue: event.entries };
    case "commands.updated":
      return { ...model, commands: event.commands };
    case "config.model_changed":
      return withInfo(model, { model: event.model });
    case "config.thinking_level_changed":
      return withInfo(model, { thinking_level: event.level });
    case "config.mode_changed":
      return { ...model, mode: event.mode };
    case "usage.updated":
      return { ...model, usage: event.usage, contextTokens: event.context_tokens ?? model.contextTokens };
    case "workspace.findings":
      return {
        ...model,
        findings: withFindings(model.findings, event.items, event.ts),
        findingsCut: event.truncated ?? false,
      };
    case "status":
      return withStatus({ ...model, persisting: event.persisting ?? false, statusText: event.text }, event.status);
    default:
      return model;
  }
}
