/** What a client knows of one open session. Built by {@link fromSnapshot}, advanced by `reduce`. */
import type {
  Capabilities,
  CommandInfo,
  CompactReason,
  ErrorBody,
  InputRequest,
  Message,
  Part,
  Phase,
  PlanEntry,
  QueueEntry,
  SeenFinding,
  SessionInfo,
  SessionState,
  ToolCallId,
  TurnId,
  Usage,
} from "../protocol/generated";
import { logOf, type NetworkLog } from "./guard";

/** A tool call that runs, or has ended and whose result message has not come yet. */
export interface ToolRun {
  readonly id: ToolCallId;
  readonly name: string;
  readonly input: unknown;
  readonly output: readonly Part[];
  readonly startedAt: number;
  readonly ended: boolean;
  readonly isError: boolean;
}

export interface Retry {
  readonly attempt: number;
  readonly maxAttempts?: number | undefined;
  readonly delayMs: number;
  readonly startedAt: number;
  readonly error: ErrorBody;
}

export interface SessionModel {
  readonly epoch: string;
  /** Number of the last event applied. */
  readonly seq: number;
  readonly info: SessionInfo;
  readonly capabilities: Capabilities;
  readonly phase?: Phase | undefined;
  readonly turnId?: TurnId | undefined;
  readonly persisting: boolean;
  readonly statusText?: string | undefined;
  /** Finished messages, ordered by index. */
  readonly messages: readonly Message[];
  readonly hasOlder: boolean;
  readonly streaming: readonly Message[];
  readonly tools: Readonly<Record<ToolCallId, ToolRun>>;
  /** How long finished tool calls took, as far as seen. */
  readonly durations: Readonly<Record<ToolCallId, number>>;
  readonly requests: readonly InputRequest[];
  readonly queue: readonly QueueEntry[];
  readonly plan: readonly PlanEntry[];
  readonly commands: readonly CommandInfo[];
  readonly mode?: string | undefined;
  readonly usage: Usage;
  readonly contextTokens?: number | undefined;
  readonly lastError?: ErrorBody | undefined;
  /** A bound of the sandbox's policy that was crossed since the last prompt. */
  readonly limit?: ErrorBody | undefined;
  readonly retry?: Retry | undefined;
  readonly compacting?: CompactReason | undefined;
  /** What the egress broker decided. */
  readonly network: NetworkLog;
  /** What turns left in the workspace that is worth a look before tools of the host meet it. */
  readonly findings: readonly SeenFinding[];
  /** The last findings were cut: there is more in the workspace than is listed. */
  readonly findingsCut: boolean;
  /** The log asks readers to fetch the state anew. */
  readonly stale: boolean;
}

export interface CursorParts {
  readonly epoch: string;
  readonly seq: number;
}

/** Reads `epoch.seq`; `undefined` where it is malformed. */
export function parseCursor(cursor: string): CursorParts | undefined {
  const match = /^(\d+)\.(\d+)$/.exec(cursor);
  if (!match?.[1] || !match[2]) return undefined;
  return { epoch: match[1], seq: Number(match[2]) };
}

export function cursorOf(model: SessionModel): string {
  return `${model.epoch}.${model.seq}`;
}

/** What a snapshot need not hold and a page that stays open goes on knowing. */
type Kept = Pick<SessionModel, "limit">;

/** The model that a snapshot describes; it replaces what was known before, but for what only events tell. */
export function fromSnapshot(state: SessionState, cursor: CursorParts, kept: Kept = {}): SessionModel {
  const tools: Record<ToolCallId, ToolRun> = {};
  for (const tool of state.running_tools) {
    tools[tool.tool_call_id] = {
      id: tool.tool_call_id,
      name: tool.name,
      input: tool.input,
      output: tool.output,
      startedAt: tool.started_at,
      ended: false,
      isError: false,
    };
  }
  return {
    epoch: cursor.epoch,
    seq: cursor.seq,
    info: state.session,
    capabilities: state.capabilities,
    phase: state.phase,
    turnId: state.turn_id,
    persisting: state.persisting ?? false,
    messages: state.messages,
    hasOlder: state.has_older,
    streaming: state.streaming,
    tools,
    durations: {},
    requests: state.requests,
    queue: state.queue,
    plan: state.plan,
    commands: state.commands,
    mode: state.mode,
    usage: state.usage,
    contextTokens: state.context_tokens,
    lastError: state.last_error,
    network: logOf(state.network),
    findings: state.findings,
    findingsCut: state.findings_truncated,
    limit: kept.limit,
    stale: false,
  };
}

/** Puts messages into an ordered list: by id they replace, by index they find their place. */
export function upsertMessages(list: readonly Message[], added: readonly Message[]): readonly Message[] {
  const last = list.at(-1);
  const only = added.length === 1 ? added[0] : undefined;
  if (only && (!last || only.index > last.index)) return [...list, only];
  const byId = new Map(list.map((message) => [message.id, message]));
  for (const message of added) {
    const known = byId.get(message.id);
    if (!known || known.version <= message.version) byId.set(message.id, message);
  }
  return [...byId.values()].sort((a, b) => a.index - b.index);
}

/** Adds a page of older messages from `get_messages`. */
export function withOlder(model: SessionModel, page: readonly Message[], hasOlder: boolean): SessionModel {
  return { ...model, messages: upsertMessages(model.messages, page), hasOlder };
}
