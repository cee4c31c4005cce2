// Generated from the Rust types in `proto/` by `just gen-types`. Do not edit.
/* eslint-disable */

/**
 * A session: one conversation with one harness in one workspace.
 */
export type SessionId = string;

/**
 * A turn: one prompt and all that the agent does in answer.
 */
export type TurnId = string;

/**
 * A durable message.
 */
export type MessageId = string;

/**
 * A tool call, minted by Lodge; the harness's own id stays inside its adapter.
 */
export type ToolCallId = string;

/**
 * A question of the agent to its user.
 */
export type RequestId = string;

/**
 * An entry of the prompt queue.
 */
export type QueueId = string;

/**
 * `epoch.seq`: the last event a client has. The epoch is random and changes when numbers could repeat.
 */
export type Cursor = string;

/**
 * What kind of failure it is. Programs decide by this, people read the message.
 */
export type ErrorCode = "not_found" | "forbidden" | "unauthenticated" | "busy" | "conflict" | "invalid_argument" | "unsupported_by_harness" | "harness_not_installed" | "harness_crashed" | "sandbox_unavailable" | "sandbox_denied" | "budget_exceeded" | "rate_limited" | "provider_error" | "deadline_exceeded" | "unavailable" | "persisting" | "internal";

/**
 * An error as it reaches a user: what was wrong, where, and what to do.
 */
export type ErrorBody = { code: ErrorCode, message: string, details?: unknown, };

/**
 * Content that is stored apart and named by its hash; never carried inline.
 */
export type BlobRef = { 
/**
 * BLAKE3 of the bytes, 64 hexadecimal digits.
 */
hash: string, 
/**
 * Media type, `image/png` for example.
 */
media_type: string, 
/**
 * Bytes.
 */
size: number, 
/**
 * Name for people.
 */
name?: string, };

/**
 * State of one step of a plan.
 */
export type PlanStatus = "pending" | "in_progress" | "completed";

/**
 * One step of a plan or to-do list.
 */
export type PlanEntry = { content: string, status: PlanStatus, priority?: string, };

/**
 * One part of a message, tagged by `type`. Types that begin with `x-` are extensions: every layer carries
 * them and shows them as opaque.
 */
export type Part = { "type": "text", text: string, } | { "type": "thinking", text: string, 
/**
 * The provider keeps the content to itself.
 */
redacted: boolean, } | { "type": "tool_call", tool_call_id: ToolCallId, name: string, input: unknown, } | { "type": "tool_result", tool_call_id: ToolCallId, name: string, output: Array<Part>, is_error: boolean, } | { "type": "image", blob: BlobRef, alt?: string, } | { "type": "audio", blob: BlobRef, } | { "type": "video", blob: BlobRef, } | { "type": "file_ref", path: string, 
/**
 * First and last line, from 1.
 */
lines?: [number, number], } | { "type": "attachment", blob: BlobRef, } | { "type": "diff", path: string, patch: string, } | { "type": "plan", entries: Array<PlanEntry>, } | { "type": "error", code: ErrorCode, message: string, } | { type: `x-${string}` } & Record<string, unknown>;

/**
 * Who speaks.
 */
export type Role = "user" | "assistant" | "system" | "tool";

/**
 * The person or program that wrote a user message.
 */
export type Sender = { account: string, name: string, };

/**
 * Why an assistant stopped.
 */
export type StopReason = "end_turn" | "tool_use" | "max_tokens" | "refusal" | "aborted" | "error" | "interrupted";

/**
 * Tokens and cost. Classes are apart: `input` does not contain the cached tokens.
 */
export type Usage = { input: number, output: number, cache_read: number, cache_write: number, 
/**
 * Cost in nano-dollars (10⁻⁹ USD), as far as known.
 */
cost_nanodollars: number, };

/**
 * One durable message of a session.
 */
export type Message = { id: MessageId, session_id: SessionId, turn_id: TurnId, 
/**
 * Position in the session, from 0, without gap.
 */
index: number, role: Role, sender?: Sender, parts: Array<Part>, model?: string, provider?: string, harness: string, stop_reason?: StopReason, usage?: Usage, 
/**
 * UTC milliseconds.
 */
created_at: number, 
/**
 * Rises when the message is replaced; the first is 1.
 */
version: number, };

/**
 * A choice in answer to a permission request.
 */
export type PermissionChoice = "once" | "session" | "always" | "deny" | "deny_and_stop";

/**
 * One option of a `select` request.
 */
export type SelectOption = { value: string, label: string, description?: string, };

/**
 * The kinds of question, tagged by `kind`.
 */
export type InputKind = { "kind": "permission", tool: string, arguments: unknown, tool_call_id?: ToolCallId, choices: Array<PermissionChoice>, } | { "kind": "select", options: Array<SelectOption>, multiple: boolean, } | { "kind": "confirm", } | { "kind": "input", placeholder?: string, } | { "kind": "editor", text: string, };

/**
 * A question that holds the agent until it is answered.
 */
export type InputRequest = { id: RequestId, 
/**
 * What it is about, one line.
 */
title: string, message?: string, 
/**
 * UTC milliseconds after which the harness decides by itself.
 */
expires_at?: number, } & ({ "kind": "permission", tool: string, arguments: unknown, tool_call_id?: ToolCallId, choices: Array<PermissionChoice>, } | { "kind": "select", options: Array<SelectOption>, multiple: boolean, } | { "kind": "confirm", } | { "kind": "input", placeholder?: string, } | { "kind": "editor", text: string, });

/**
 * The user's answer, tagged by `answer`.
 */
export type InputAnswer = { "answer": "permission", choice: PermissionChoice, } | { "answer": "selected", values: Array<string>, } | { "answer": "confirmed", yes: boolean, } | { "answer": "text", text: string, } | { "answer": "cancelled", };

/**
 * Life of a session's harness. Allowed steps are in the runner's one table of transitions.
 */
export type SessionStatus = "starting" | "idle" | "working" | "aborting" | "stopping" | "stopped" | "failed";

/**
 * What a working agent is doing.
 */
export type Phase = "initializing" | "generating" | "thinking" | "tool_running" | "compacting" | "retrying" | "waiting_for_input";

/**
 * Isolation tier of a guest.
 */
export type Tier = "process" | "container" | "microvm";

/**
 * A model as a session offers it.
 */
export type ModelInfo = { 
/**
 * What `set_model` takes: `provider/model`.
 */
id: string, name: string, provider: string, 
/**
 * Tokens; absent where unknown.
 */
context_window?: number, reasoning: boolean, };

/**
 * A mode of the harness (plan, ask, full …).
 */
export type ModeInfo = { id: string, name: string, description?: string, };

/**
 * A slash command of the harness.
 */
export type CommandInfo = { name: string, description?: string, };

/**
 * What a session can do. It comes from the harness at start, never from a table of names in a client.
 */
export type Capabilities = { steer: boolean, follow_up: boolean, queue: boolean, abort: boolean, abort_retry: boolean, fork: boolean, compact: boolean, resume: boolean, images: boolean, plan: boolean, permissions: boolean, set_title: boolean, models: Array<ModelInfo>, thinking_levels: Array<string>, modes: Array<ModeInfo>, };

/**
 * Where a queued prompt stands.
 */
export type QueueState = "waiting" | "steering" | "uncertain";

/**
 * One prompt that waits.
 */
export type QueueEntry = { id: QueueId, state: QueueState, parts: Array<Part>, created_at: number, };

/**
 * What a session is: one row of the session list.
 */
export type SessionInfo = { id: SessionId, title: string, harness: string, harness_version?: string, workspace: string, tier: Tier, status: SessionStatus, model?: string, thinking_level?: string, parent?: SessionId, 
/**
 * Other open sessions on the same workspace: both may write its files.
 */
shares_workspace_with: Array<SessionId>, 
/**
 * A question waits for the user.
 */
needs_input: boolean, created_at: number, updated_at: number, message_count: number, };

/**
 * A tool call that runs now.
 */
export type RunningTool = { tool_call_id: ToolCallId, name: string, input: unknown, 
/**
 * Output so far.
 */
output: Array<Part>, started_at: number, };

/**
 * Everything a client needs to show a session at one moment: a reload costs this one frame.
 */
export type SessionState = { session: SessionInfo, capabilities: Capabilities, phase?: Phase, turn_id?: TurnId, 
/**
 * The turn has ended and waits for history.
 */
persisting: boolean, 
/**
 * The newest finished messages, in order of their index. Older ones come from `get_messages`.
 */
messages: Array<Message>, 
/**
 * Messages before the first of `messages` exist.
 */
has_older: boolean, 
/**
 * Messages that still stream: their parts as far as received.
 */
streaming: Array<Message>, running_tools: Array<RunningTool>, requests: Array<InputRequest>, queue: Array<QueueEntry>, plan: Array<PlanEntry>, commands: Array<CommandInfo>, mode?: string, 
/**
 * Sum over the session.
 */
usage: Usage, 
/**
 * Tokens of the context now in use, as the harness reports it.
 */
context_tokens?: number, 
/**
 * Why the last turn failed.
 */
last_error?: ErrorBody, };

/**
 * Place of a message within its session: what history pages by.
 */
export type MessageAnchor = { message_id: MessageId, index: number, };

/**
 * How a turn ended.
 */
export type TurnOutcome = "completed" | "aborted" | "failed" | "interrupted";

/**
 * Weight of a notice.
 */
export type NotifyLevel = "info" | "warning" | "error";

/**
 * Why a context is compacted.
 */
export type CompactReason = "manual" | "threshold" | "overflow";

/**
 * What happened, tagged by `event`.
 */
export type EventBody = { "event": "session.created", session: SessionInfo, } | { "event": "session.closed", reason: string, } | { "event": "session.title_changed", title: string, } | { "event": "session.capabilities", capabilities: Capabilities, } | { "event": "session.heartbeat", status: SessionStatus, } | { "event": "turn.started", } | { "event": "turn.ended", outcome: TurnOutcome, usage: Usage, error?: ErrorBody, } | { "event": "agent.working", phase: Phase, } | { "event": "agent.idle", 
/**
 * Messages of the session: a client whose copy has another count is stale.
 */
message_version: number, } | { "event": "agent.error", code: ErrorCode, message: string, recoverable: boolean, } | { "event": "agent.input_needed", request: InputRequest, } | { "event": "agent.input_resolved", request_id: RequestId, answer: InputAnswer, } | { "event": "stream.message_start", message_id: MessageId, role: Role, } | { "event": "stream.text_delta", message_id: MessageId, part_index: number, delta: string, } | { "event": "stream.thinking_delta", message_id: MessageId, part_index: number, delta: string, } | { "event": "stream.tool_call_start", message_id: MessageId, part_index: number, tool_call_id: ToolCallId, name: string, } | { "event": "stream.tool_call_delta", message_id: MessageId, part_index: number, tool_call_id: ToolCallId, delta: string, } | { "event": "stream.tool_call_end", message_id: MessageId, part_index: number, tool_call_id: ToolCallId, name: string, input: unknown, } | { "event": "stream.message_end", message: Message, } | { "event": "stream.message_discarded", message_id: MessageId, } | { "event": "tool.start", tool_call_id: ToolCallId, name: string, input: unknown, } | { "event": "tool.progress", tool_call_id: ToolCallId, name: string, 
/**
 * Text to append to the output so far.
 */
delta?: string, 
/**
 * The whole output so far, where it is no mere extension of what was sent before.
 */
output?: Array<Part>, } | { "event": "tool.end", tool_call_id: ToolCallId, name: string, output: Array<Part>, is_error: boolean, duration_ms?: number, } | { "event": "retry.start", attempt: number, max_attempts?: number, delay_ms: number, error: ErrorBody, } | { "event": "retry.end", success: boolean, attempt: number, } | { "event": "compact.start", reason: CompactReason, } | { "event": "compact.end", success: boolean, summary?: string, error?: ErrorBody, } | { "event": "stream.resync_required", from_seq: number, } | { "event": "plan.updated", entries: Array<PlanEntry>, } | { "event": "queue.updated", entries: Array<QueueEntry>, } | { "event": "commands.updated", commands: Array<CommandInfo>, } | { "event": "config.model_changed", model: string, } | { "event": "config.thinking_level_changed", level: string, } | { "event": "config.mode_changed", mode: string, } | { "event": "usage.updated", 
/**
 * Sum over the session.
 */
usage: Usage, context_tokens?: number, } | { "event": "notify", level: NotifyLevel, message: string, } | { "event": "status", status: SessionStatus, text?: string, persisting: boolean, };

/**
 * One event of a session's log.
 */
export type Event = { session_id: SessionId, 
/**
 * Starts at 1, has no gap, never repeats within an epoch. 0 marks `session.heartbeat`, which has no number.
 */
seq: number, 
/**
 * UTC milliseconds of the record that caused it.
 */
ts: number, turn_id?: TurnId, } & ({ "event": "session.created", session: SessionInfo, } | { "event": "session.closed", reason: string, } | { "event": "session.title_changed", title: string, } | { "event": "session.capabilities", capabilities: Capabilities, } | { "event": "session.heartbeat", status: SessionStatus, } | { "event": "turn.started", } | { "event": "turn.ended", outcome: TurnOutcome, usage: Usage, error?: ErrorBody, } | { "event": "agent.working", phase: Phase, } | { "event": "agent.idle", 
/**
 * Messages of the session: a client whose copy has another count is stale.
 */
message_version: number, } | { "event": "agent.error", code: ErrorCode, message: string, recoverable: boolean, } | { "event": "agent.input_needed", request: InputRequest, } | { "event": "agent.input_resolved", request_id: RequestId, answer: InputAnswer, } | { "event": "stream.message_start", message_id: MessageId, role: Role, } | { "event": "stream.text_delta", message_id: MessageId, part_index: number, delta: string, } | { "event": "stream.thinking_delta", message_id: MessageId, part_index: number, delta: string, } | { "event": "stream.tool_call_start", message_id: MessageId, part_index: number, tool_call_id: ToolCallId, name: string, } | { "event": "stream.tool_call_delta", message_id: MessageId, part_index: number, tool_call_id: ToolCallId, delta: string, } | { "event": "stream.tool_call_end", message_id: MessageId, part_index: number, tool_call_id: ToolCallId, name: string, input: unknown, } | { "event": "stream.message_end", message: Message, } | { "event": "stream.message_discarded", message_id: MessageId, } | { "event": "tool.start", tool_call_id: ToolCallId, name: string, input: unknown, } | { "event": "tool.progress", tool_call_id: ToolCallId, name: string, 
/**
 * Text to append to the output so far.
 */
delta?: string, 
/**
 * The whole output so far, where it is no mere extension of what was sent before.
 */
output?: Array<Part>, } | { "event": "tool.end", tool_call_id: ToolCallId, name: string, output: Array<Part>, is_error: boolean, duration_ms?: number, } | { "event": "retry.start", attempt: number, max_attempts?: number, delay_ms: number, error: ErrorBody, } | { "event": "retry.end", success: boolean, attempt: number, } | { "event": "compact.start", reason: CompactReason, } | { "event": "compact.end", success: boolean, summary?: string, error?: ErrorBody, } | { "event": "stream.resync_required", from_seq: number, } | { "event": "plan.updated", entries: Array<PlanEntry>, } | { "event": "queue.updated", entries: Array<QueueEntry>, } | { "event": "commands.updated", commands: Array<CommandInfo>, } | { "event": "config.model_changed", model: string, } | { "event": "config.thinking_level_changed", level: string, } | { "event": "config.mode_changed", mode: string, } | { "event": "usage.updated", 
/**
 * Sum over the session.
 */
usage: Usage, context_tokens?: number, } | { "event": "notify", level: NotifyLevel, message: string, } | { "event": "status", status: SessionStatus, text?: string, persisting: boolean, });

/**
 * What is asked, tagged by `cmd`.
 */
export type CommandBody = { "cmd": "session.create", harness: string, 
/**
 * Absolute path, or a name below the default root.
 */
workspace: string, model?: string, thinking_level?: string, title?: string, tier?: Tier, profile?: string, } | { "cmd": "session.resume", } | { "cmd": "session.close", } | { "cmd": "session.delete", } | { "cmd": "session.fork", message_id?: MessageId, } | { "cmd": "session.list", cursor?: string, limit?: number, } | { "cmd": "session.subscribe", cursor?: Cursor, } | { "cmd": "session.unsubscribe", } | { "cmd": "prompt", parts: Array<Part>, } | { "cmd": "steer", parts: Array<Part>, } | { "cmd": "follow_up", parts: Array<Part>, } | { "cmd": "queue.edit", entry_id: QueueId, parts: Array<Part>, } | { "cmd": "queue.clear", entry_id?: QueueId, } | { "cmd": "queue.resend", entry_id: QueueId, } | { "cmd": "abort", } | { "cmd": "input_response", request_id: RequestId, answer: InputAnswer, } | { "cmd": "set_model", model: string, } | { "cmd": "set_thinking_level", level: string, } | { "cmd": "set_mode", mode: string, } | { "cmd": "compact", instructions?: string, } | { "cmd": "abort_retry", } | { "cmd": "set_title", title: string, } | { "cmd": "get_state", } | { "cmd": "get_messages", cursor?: string, limit?: number, } | { "cmd": "get_models", } | { "cmd": "get_commands", } | { "cmd": "get_stats", } | { "cmd": "harness.list", } | { "cmd": "workspace.list", } | { "cmd": "workspace.create", name: string, };

/**
 * A command as a client sends it.
 */
export type Command = { 
/**
 * Correlates the response; chosen by the client, at most [`MAX_ID_BYTES`].
 */
id: string, session_id?: SessionId, 
/**
 * Required on every command that changes something. The same id with the same payload has one effect and two
 * equal answers for 30 days; with another payload it is a `conflict`.
 */
client_id?: string, } & ({ "cmd": "session.create", harness: string, 
/**
 * Absolute path, or a name below the default root.
 */
workspace: string, model?: string, thinking_level?: string, title?: string, tier?: Tier, profile?: string, } | { "cmd": "session.resume", } | { "cmd": "session.close", } | { "cmd": "session.delete", } | { "cmd": "session.fork", message_id?: MessageId, } | { "cmd": "session.list", cursor?: string, limit?: number, } | { "cmd": "session.subscribe", cursor?: Cursor, } | { "cmd": "session.unsubscribe", } | { "cmd": "prompt", parts: Array<Part>, } | { "cmd": "steer", parts: Array<Part>, } | { "cmd": "follow_up", parts: Array<Part>, } | { "cmd": "queue.edit", entry_id: QueueId, parts: Array<Part>, } | { "cmd": "queue.clear", entry_id?: QueueId, } | { "cmd": "queue.resend", entry_id: QueueId, } | { "cmd": "abort", } | { "cmd": "input_response", request_id: RequestId, answer: InputAnswer, } | { "cmd": "set_model", model: string, } | { "cmd": "set_thinking_level", level: string, } | { "cmd": "set_mode", mode: string, } | { "cmd": "compact", instructions?: string, } | { "cmd": "abort_retry", } | { "cmd": "set_title", title: string, } | { "cmd": "get_state", } | { "cmd": "get_messages", cursor?: string, limit?: number, } | { "cmd": "get_models", } | { "cmd": "get_commands", } | { "cmd": "get_stats", } | { "cmd": "harness.list", } | { "cmd": "workspace.list", } | { "cmd": "workspace.create", name: string, });

/**
 * Success with its result, or an error.
 */
export type Outcome = { "ok": unknown } | { "error": ErrorBody };

/**
 * The one answer to a command.
 */
export type Response = { id: string, } & ({ "ok": unknown } | { "error": ErrorBody });

/**
 * A harness as the picker shows it: result of `harness.list`.
 */
export type HarnessInfo = { name: string, 
/**
 * Name for people.
 */
title: string, description: string, installed: boolean, 
/**
 * The version that is installed, or else the pinned one.
 */
version: string, 
/**
 * Why it cannot be used, and what to do.
 */
problem?: ErrorBody, };

/**
 * A folder that sessions may work in: result of `workspace.list`.
 */
export type WorkspaceInfo = { 
/**
 * Absolute path.
 */
path: string, name: string, 
/**
 * Open sessions that work in it.
 */
sessions: Array<SessionId>, };

/**
 * The client's first frame, and again after `runner_ready`: where it stands in each session it shows.
 */
export type Hello = { version: number, 
/**
 * Last event seen of each session; `null` for a session that is opened anew.
 */
cursors: { [key in SessionId]: Cursor | null }, };

/**
 * A text frame from a client.
 */
export type ClientFrame = { hello: Hello, } | Command;

/**
 * What the server found at a client's cursor.
 */
export type Verdict = { "verdict": "ok", } | { "verdict": "snapshot", state: SessionState, } | { "verdict": "gap", reason: string, state: SessionState, };

/**
 * Controls that a client sees.
 */
export type ToClient = { "type": "welcome", version: number, account: string, name: string, } | { "type": "subscribed", session_id: SessionId, cursor: Cursor, } & ({ "verdict": "ok", } | { "verdict": "snapshot", state: SessionState, } | { "verdict": "gap", reason: string, state: SessionState, }) | { "type": "subscribe_failed", session_id: SessionId, error: ErrorBody, } | { "type": "session_changed", session: SessionInfo, } | { "type": "session_removed", session_id: SessionId, } | { "type": "runner_lost", error: ErrorBody, } | { "type": "runner_ready", } | { "type": "rejected", error: ErrorBody, };

export const PROTOCOL_VERSION = 1;
export const ERROR_CODES: readonly ErrorCode[] = ["not_found", "forbidden", "unauthenticated", "busy", "conflict", "invalid_argument", "unsupported_by_harness", "harness_not_installed", "harness_crashed", "sandbox_unavailable", "sandbox_denied", "budget_exceeded", "rate_limited", "provider_error", "deadline_exceeded", "unavailable", "persisting", "internal"];
