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
export type ErrorCode = "not_found" | "forbidden" | "unauthenticated" | "busy" | "conflict" | "invalid_argument" | "unsupported_by_harness" | "harness_not_installed" | "harness_crashed" | "sandbox_unavailable" | "sandbox_denied" | "limit_exceeded" | "budget_exceeded" | "rate_limited" | "provider_error" | "deadline_exceeded" | "unavailable" | "persisting" | "internal";

/**
 * An error as it reaches a user: what was wrong, where, and what to do.
 */
export type ErrorBody = { code: ErrorCode, message: string, details?: unknown, };

/**
 * Content that is stored apart and named by its hash; never carried inline.
 */
export type BlobRef = { 
/**
 * SHA-256 of the bytes, 64 hexadecimal digits in lower case.
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
 * For how long an approval is remembered.
 */
export type ApprovalScope = "session" | "always";

/**
 * An approval that answers equal permission requests from now on: result of `approvals.list`.
 */
export type Approval = { 
/**
 * The request that was answered so.
 */
id: RequestId, scope: ApprovalScope, 
/**
 * The session that it holds for, where it does not hold for all.
 */
session_id?: SessionId, harness: string, workspace: string, tool: string, 
/**
 * Exactly what is allowed: a command with its directory, the path of a file, or the call's other arguments.
 */
subject: unknown, created_at: number, };

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
export type Capabilities = { steer: boolean, follow_up: boolean, queue: boolean, abort: boolean, abort_retry: boolean, 
/**
 * A new session can go on from a copy of the whole conversation.
 */
fork: boolean, 
/**
 * It can also go on from before one of the user's messages.
 */
fork_at_message: boolean, compact: boolean, resume: boolean, images: boolean, plan: boolean, permissions: boolean, set_title: boolean, models: Array<ModelInfo>, thinking_levels: Array<string>, modes: Array<ModeInfo>, };

/**
 * Bounds of one session. Each of them only narrows what its user may use; what is absent stays as it is.
 *
 * A bound that this build does not know is an error: it must not be left out in silence.
 */
export type SessionLimits = { 
/**
 * What the whole session may cost, in nano-dollars (10⁻⁹ USD), over all its starts.
 */
budget_nanodollars?: number, 
/**
 * Models it may use, as their providers name them; `*` stands for any characters. Empty: all.
 */
models?: Array<string>, 
/**
 * Providers it may use, in the same way.
 */
providers?: Array<string>, 
/**
 * Requests to models a minute.
 */
requests_per_minute?: number, 
/**
 * Tokens a minute.
 */
tokens_per_minute?: number, 
/**
 * Requests to models at a time.
 */
concurrent_requests?: number, };

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
export type SessionInfo = { id: SessionId, title: string, harness: string, harness_version?: string, workspace: string, tier: Tier, 
/**
 * Profile of the sandbox's policy.
 */
profile?: string, 
/**
 * What it may use of what its user may; absent: all of it.
 */
limits?: SessionLimits, status: SessionStatus, model?: string, thinking_level?: string, parent?: SessionId, 
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
last_error?: ErrorBody, 
/**
 * What turns left in the workspace that is worth a look: one a kind and path, the newest 500 in the order in
 * which they were said.
 */
findings: Array<SeenFinding>, 
/**
 * The last findings were cut: there are more.
 */
findings_truncated: boolean, network: NetworkSummary, };

/**
 * Place of a message within its session: what history pages by.
 */
export type MessageAnchor = { message_id: MessageId, index: number, };

/**
 * What a directory entry is.
 */
export type FileKind = "file" | "directory" | "symlink" | "special";

/**
 * One entry of a directory.
 */
export type FileEntry = { 
/**
 * Bytes that are no UTF-8 are replaced, and such a file cannot be opened by name.
 */
name: string, kind: FileKind, 
/**
 * Bytes.
 */
size: number, 
/**
 * UTC milliseconds.
 */
modified: number, 
/**
 * Where a symbolic link leads, as it is written in it.
 */
target?: string, };

/**
 * Result of `file.list`: directories first, then by name.
 */
export type FileListing = { path: string, entries: Array<FileEntry>, 
/**
 * There are more than the 5000 that are shown.
 */
truncated: boolean, };

/**
 * Result of `file.read`.
 */
export type FileContent = { path: string, 
/**
 * Bytes of the whole file.
 */
size: number, 
/**
 * Changes when the file does; what `file.write` takes as `expected_version`.
 */
version: string, 
/**
 * The slice is no UTF-8 text, so there is no `text`.
 */
binary: boolean, text?: string, 
/**
 * Where the text begins, in bytes.
 */
offset: number, 
/**
 * Where to read on; absent at the end.
 */
next_offset?: number, };

/**
 * Result of `file.write`.
 */
export type FileWritten = { path: string, size: number, version: string, };

/**
 * A changed file. The states are the letters of `git status`: `M`, `A`, `D`, `R`, `C`, `T`, `U`, `?`, or `.` for none.
 */
export type GitEntry = { path: string, 
/**
 * Where a renamed or copied file came from.
 */
original_path?: string, index: string, worktree: string, };

/**
 * Result of `git.status`.
 */
export type GitStatus = { 
/**
 * Whether the workspace is a Git repository; without one the rest is empty.
 */
repository: boolean, 
/**
 * Absent when no branch is checked out.
 */
branch?: string, upstream?: string, 
/**
 * Commits that the upstream lacks.
 */
ahead: number, 
/**
 * Commits that are only in the upstream.
 */
behind: number, entries: Array<GitEntry>, 
/**
 * There are more than the 2000 that are shown.
 */
truncated: boolean, };

/**
 * Result of `git.diff`.
 */
export type GitDiff = { 
/**
 * Unified.
 */
text: string, 
/**
 * There is more than the 1 MiB that is shown.
 */
truncated: boolean, };

/**
 * A terminal of a session: result of `terminal.open`, row of `terminal.list`.
 *
 * Its bytes travel as binary frames in both directions: the id as `u32`, little endian, then the bytes.
 */
export type TerminalInfo = { terminal_id: number, rows: number, cols: number, opened_at: number, };

/**
 * How a terminal's shell ended: a status, a signal, or else the reason why it cannot be told.
 */
export type TerminalExit = { code?: number, signal?: number, reason?: string, };

/**
 * What kind of thing a finding is.
 */
export type FindingKind = "control_file" | "hook" | "hard_link" | "nested_repository" | "special_file" | "set_uid";

/**
 * Something new in the workspace after a turn that is worth a look before tools of the host meet it.
 */
export type Finding = { kind: FindingKind, path: string, 
/**
 * One sentence for a person.
 */
detail: string, };

/**
 * A finding, and when it was last said.
 */
export type SeenFinding = { 
/**
 * UTC milliseconds.
 */
at: number, kind: FindingKind, path: string, 
/**
 * One sentence for a person.
 */
detail: string, };

/**
 * Connections to one place that ended the same way.
 */
export type NetworkPlace = { 
/**
 * As in `network.access`.
 */
host: string, port: number, decision: NetworkDecision, 
/**
 * What decided: a pattern with its list, or a key of the policy.
 */
rule: string, 
/**
 * For people; empty where the rule says it all.
 */
reason: string, 
/**
 * Connections that began.
 */
connections: number, 
/**
 * Bytes from the guest, of connections that ended.
 */
sent_bytes: number, 
/**
 * Bytes to the guest, of connections that ended.
 */
received_bytes: number, 
/**
 * UTC milliseconds of the last attempt.
 */
last_at: number, };

/**
 * What a session's guest reached, or tried to reach, besides models.
 */
export type NetworkSummary = { 
/**
 * Connections that were let through.
 */
allowed: number, 
/**
 * Connections that were not.
 */
denied: number, 
/**
 * The latest 200 places, the newest first.
 */
places: Array<NetworkPlace>, };

/**
 * A tier, and whether it works here.
 */
export type TierChoice = { tier: Tier, usable: boolean, 
/**
 * What is missing.
 */
problem?: string, 
/**
 * What to do about it.
 */
mend?: string, 
/**
 * It works, and this is to be known about it.
 */
notice?: string, };

/**
 * A profile of the policy.
 */
export type ProfileChoice = { name: string, 
/**
 * The tier it runs in unless another one is asked for.
 */
tier: Tier, 
/**
 * `none` or `broker`.
 */
network: string, 
/**
 * One sentence for a person.
 */
summary: string, };

/**
 * Result of `sandbox.list`.
 */
export type SandboxChoices = { tiers: Array<TierChoice>, profiles: Array<ProfileChoice>, 
/**
 * What a session gets that asks for nothing.
 */
default_tier: Tier, default_profile: string, };

/**
 * One file that an agent would take for its own settings or code.
 */
export type CodeFile = { path: string, 
/**
 * Bytes.
 */
size: number, 
/**
 * Permission bits.
 */
mode: number, 
/**
 * Of its content, in hexadecimal.
 */
sha256: string, 
/**
 * A program outside of the agent's own names, which one of its settings names.
 */
named: boolean, 
/**
 * Its content, where it is text and not too long to be shown.
 */
text?: string, };

/**
 * What became of a file since its content was trusted.
 */
export type CodeChangeKind = "added" | "removed" | "changed";

/**
 * A difference between what is there and what was trusted last.
 */
export type CodeChange = { path: string, change: CodeChangeKind, };

/**
 * Result of `workspace.inspect` and `workspace.trust`: what the workspace brings for one harness.
 */
export type WorkspaceCode = { 
/**
 * Absolute path.
 */
workspace: string, harness: string, 
/**
 * In order of their paths; empty where it brings nothing, or where it cannot be said what.
 */
files: Array<CodeFile>, 
/**
 * What is kept from the agent even when it is trusted: packages that were installed there.
 */
left_out: Array<string>, 
/**
 * Over the names, modes and contents, in hexadecimal; absent where there is nothing, or `trustable` is false.
 */
digest?: string, 
/**
 * The next start of the harness would run it.
 */
trusted: boolean, trustable: boolean, 
/**
 * Why it cannot be trusted.
 */
reason?: string, 
/**
 * How it differs from what was trusted last; empty where nothing ever was, or `trusted` is true.
 */
changed: Array<CodeChange>, };

/**
 * A row of `workspace.trusted`.
 */
export type TrustedCode = { 
/**
 * Absolute path.
 */
workspace: string, harness: string, digest: string, 
/**
 * The first 20 paths of what was trusted …
 */
files: Array<string>, 
/**
 * … of so many.
 */
file_count: number, 
/**
 * UTC milliseconds.
 */
created_at: number, };

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
 * What became of a guest's connections to one place.
 */
export type NetworkDecision = "allowed" | "denied" | "asked";

/**
 * What happened, tagged by `event`.
 */
export type EventBody = { "event": "session.created", session: SessionInfo, } | { "event": "session.closed", reason: string, } | { "event": "session.title_changed", title: string, } | { "event": "session.capabilities", capabilities: Capabilities, } | { "event": "session.heartbeat", status: SessionStatus, } | { "event": "turn.started", } | { "event": "turn.ended", outcome: TurnOutcome, usage: Usage, error?: ErrorBody, } | { "event": "agent.working", phase: Phase, } | { "event": "agent.idle", 
/**
 * Messages of the session: a client whose copy has another count is stale.
 */
message_version: number, } | { "event": "agent.error", code: ErrorCode, message: string, recoverable: boolean, } | { "event": "agent.input_needed", request: InputRequest, } | { "event": "agent.input_resolved", request_id: RequestId, answer: InputAnswer, 
/**
 * Nobody was asked: an approval of this scope was remembered.
 */
remembered?: ApprovalScope, } | { "event": "stream.message_start", message_id: MessageId, role: Role, } | { "event": "stream.text_delta", message_id: MessageId, part_index: number, delta: string, } | { "event": "stream.thinking_delta", message_id: MessageId, part_index: number, delta: string, } | { "event": "stream.tool_call_start", message_id: MessageId, part_index: number, tool_call_id: ToolCallId, name: string, } | { "event": "stream.tool_call_delta", message_id: MessageId, part_index: number, tool_call_id: ToolCallId, delta: string, } | { "event": "stream.tool_call_end", message_id: MessageId, part_index: number, tool_call_id: ToolCallId, name: string, input: unknown, } | { "event": "stream.message_end", message: Message, } | { "event": "stream.message_discarded", message_id: MessageId, } | { "event": "tool.start", tool_call_id: ToolCallId, name: string, input: unknown, } | { "event": "tool.progress", tool_call_id: ToolCallId, name: string, 
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
usage: Usage, context_tokens?: number, } | { "event": "workspace.findings", items: Array<Finding>, 
/**
 * There are more, or the workspace was too large to look through.
 */
truncated: boolean, } | { "event": "network.access", 
/**
 * A name in lower case, an address, or words in parentheses where there is none.
 */
host: string, port: number, decision: NetworkDecision, 
/**
 * What decided: a pattern with its list, or a key of the policy.
 */
rule: string, 
/**
 * For people; empty where the rule says it all.
 */
reason: string, 
/**
 * Connections that began; 0 where some only ended.
 */
connections: number, 
/**
 * Bytes from the guest, of connections that ended.
 */
sent_bytes: number, 
/**
 * Bytes to the guest, of connections that ended.
 */
received_bytes: number, } | { "event": "notify", level: NotifyLevel, message: string, } | { "event": "status", status: SessionStatus, text?: string, persisting: boolean, };

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
message_version: number, } | { "event": "agent.error", code: ErrorCode, message: string, recoverable: boolean, } | { "event": "agent.input_needed", request: InputRequest, } | { "event": "agent.input_resolved", request_id: RequestId, answer: InputAnswer, 
/**
 * Nobody was asked: an approval of this scope was remembered.
 */
remembered?: ApprovalScope, } | { "event": "stream.message_start", message_id: MessageId, role: Role, } | { "event": "stream.text_delta", message_id: MessageId, part_index: number, delta: string, } | { "event": "stream.thinking_delta", message_id: MessageId, part_index: number, delta: string, } | { "event": "stream.tool_call_start", message_id: MessageId, part_index: number, tool_call_id: ToolCallId, name: string, } | { "event": "stream.tool_call_delta", message_id: MessageId, part_index: number, tool_call_id: ToolCallId, delta: string, } | { "event": "stream.tool_call_end", message_id: MessageId, part_index: number, tool_call_id: ToolCallId, name: string, input: unknown, } | { "event": "stream.message_end", message: Message, } | { "event": "stream.message_discarded", message_id: MessageId, } | { "event": "tool.start", tool_call_id: ToolCallId, name: string, input: unknown, } | { "event": "tool.progress", tool_call_id: ToolCallId, name: string, 
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
usage: Usage, context_tokens?: number, } | { "event": "workspace.findings", items: Array<Finding>, 
/**
 * There are more, or the workspace was too large to look through.
 */
truncated: boolean, } | { "event": "network.access", 
/**
 * A name in lower case, an address, or words in parentheses where there is none.
 */
host: string, port: number, decision: NetworkDecision, 
/**
 * What decided: a pattern with its list, or a key of the policy.
 */
rule: string, 
/**
 * For people; empty where the rule says it all.
 */
reason: string, 
/**
 * Connections that began; 0 where some only ended.
 */
connections: number, 
/**
 * Bytes from the guest, of connections that ended.
 */
sent_bytes: number, 
/**
 * Bytes to the guest, of connections that ended.
 */
received_bytes: number, } | { "event": "notify", level: NotifyLevel, message: string, } | { "event": "status", status: SessionStatus, text?: string, persisting: boolean, });

/**
 * What is asked, tagged by `cmd`.
 */
export type CommandBody = { "cmd": "session.create", harness: string, 
/**
 * Absolute path, or a name below the default root.
 */
workspace: string, model?: string, thinking_level?: string, title?: string, tier?: Tier, profile?: string, limits?: SessionLimits, } | { "cmd": "session.resume", } | { "cmd": "session.close", } | { "cmd": "session.delete", } | { "cmd": "session.fork", message_id?: MessageId, } | { "cmd": "session.list", cursor?: string, limit?: number, } | { "cmd": "session.subscribe", cursor?: Cursor, } | { "cmd": "session.unsubscribe", } | { "cmd": "prompt", parts: Array<Part>, } | { "cmd": "steer", parts: Array<Part>, } | { "cmd": "follow_up", parts: Array<Part>, } | { "cmd": "queue.edit", entry_id: QueueId, parts: Array<Part>, } | { "cmd": "queue.clear", entry_id?: QueueId, } | { "cmd": "queue.resend", entry_id: QueueId, } | { "cmd": "abort", } | { "cmd": "input_response", request_id: RequestId, answer: InputAnswer, } | { "cmd": "set_model", model: string, } | { "cmd": "set_thinking_level", level: string, } | { "cmd": "set_mode", mode: string, } | { "cmd": "compact", instructions?: string, } | { "cmd": "abort_retry", } | { "cmd": "set_title", title: string, } | { "cmd": "get_state", } | { "cmd": "get_messages", cursor?: string, limit?: number, } | { "cmd": "get_models", } | { "cmd": "get_commands", } | { "cmd": "get_stats", } | { "cmd": "harness.list", } | { "cmd": "harness.install", name: string, } | { "cmd": "workspace.list", } | { "cmd": "workspace.create", name: string, } | { "cmd": "workspace.inspect", 
/**
 * Absolute path, or a name below the default root.
 */
workspace: string, harness: string, } | { "cmd": "workspace.trust", workspace: string, harness: string, digest: string, } | { "cmd": "workspace.distrust", workspace: string, harness: string, digest?: string, } | { "cmd": "workspace.trusted", } | { "cmd": "sandbox.list", } | { "cmd": "approvals.list", } | { "cmd": "approvals.forget", approval_id?: RequestId, } | { "cmd": "terminal.open", rows: number, cols: number, } | { "cmd": "terminal.attach", terminal_id: number, } | { "cmd": "terminal.resize", terminal_id: number, rows: number, cols: number, } | { "cmd": "terminal.close", terminal_id: number, } | { "cmd": "terminal.list", } | { "cmd": "file.list", path: string, } | { "cmd": "file.read", path: string, 
/**
 * Byte to begin at, 0 where absent.
 */
offset?: number, 
/**
 * Bytes, at most 1 MiB and that where absent.
 */
limit?: number, } | { "cmd": "file.write", path: string, text: string, 
/**
 * The version it was read at: another one is a `conflict`. The empty string demands that it does not exist.
 */
expected_version?: string, } | { "cmd": "git.status", } | { "cmd": "git.diff", path?: string, staged?: boolean, };

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
workspace: string, model?: string, thinking_level?: string, title?: string, tier?: Tier, profile?: string, limits?: SessionLimits, } | { "cmd": "session.resume", } | { "cmd": "session.close", } | { "cmd": "session.delete", } | { "cmd": "session.fork", message_id?: MessageId, } | { "cmd": "session.list", cursor?: string, limit?: number, } | { "cmd": "session.subscribe", cursor?: Cursor, } | { "cmd": "session.unsubscribe", } | { "cmd": "prompt", parts: Array<Part>, } | { "cmd": "steer", parts: Array<Part>, } | { "cmd": "follow_up", parts: Array<Part>, } | { "cmd": "queue.edit", entry_id: QueueId, parts: Array<Part>, } | { "cmd": "queue.clear", entry_id?: QueueId, } | { "cmd": "queue.resend", entry_id: QueueId, } | { "cmd": "abort", } | { "cmd": "input_response", request_id: RequestId, answer: InputAnswer, } | { "cmd": "set_model", model: string, } | { "cmd": "set_thinking_level", level: string, } | { "cmd": "set_mode", mode: string, } | { "cmd": "compact", instructions?: string, } | { "cmd": "abort_retry", } | { "cmd": "set_title", title: string, } | { "cmd": "get_state", } | { "cmd": "get_messages", cursor?: string, limit?: number, } | { "cmd": "get_models", } | { "cmd": "get_commands", } | { "cmd": "get_stats", } | { "cmd": "harness.list", } | { "cmd": "harness.install", name: string, } | { "cmd": "workspace.list", } | { "cmd": "workspace.create", name: string, } | { "cmd": "workspace.inspect", 
/**
 * Absolute path, or a name below the default root.
 */
workspace: string, harness: string, } | { "cmd": "workspace.trust", workspace: string, harness: string, digest: string, } | { "cmd": "workspace.distrust", workspace: string, harness: string, digest?: string, } | { "cmd": "workspace.trusted", } | { "cmd": "sandbox.list", } | { "cmd": "approvals.list", } | { "cmd": "approvals.forget", approval_id?: RequestId, } | { "cmd": "terminal.open", rows: number, cols: number, } | { "cmd": "terminal.attach", terminal_id: number, } | { "cmd": "terminal.resize", terminal_id: number, rows: number, cols: number, } | { "cmd": "terminal.close", terminal_id: number, } | { "cmd": "terminal.list", } | { "cmd": "file.list", path: string, } | { "cmd": "file.read", path: string, 
/**
 * Byte to begin at, 0 where absent.
 */
offset?: number, 
/**
 * Bytes, at most 1 MiB and that where absent.
 */
limit?: number, } | { "cmd": "file.write", path: string, text: string, 
/**
 * The version it was read at: another one is a `conflict`. The empty string demands that it does not exist.
 */
expected_version?: string, } | { "cmd": "git.status", } | { "cmd": "git.diff", path?: string, staged?: boolean, });

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
 * Terms of its vendor, which whoever installs it accepts.
 */
licence?: string, 
/**
 * Why it cannot be used, and what to do.
 */
problem?: ErrorBody, 
/**
 * An installation that a client asked for is under way.
 */
installing?: Installing, };

/**
 * How far an installation is.
 */
export type Installing = { 
/**
 * What it does now, for people.
 */
step: string, 
/**
 * Of the present step, so many packages are done …
 */
done: number, 
/**
 * … of so many; 0 where they are not counted.
 */
total: number, };

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
export type ToClient = { "type": "welcome", version: number, account: string, name: string, } | { "type": "subscribed", session_id: SessionId, cursor: Cursor, } & ({ "verdict": "ok", } | { "verdict": "snapshot", state: SessionState, } | { "verdict": "gap", reason: string, state: SessionState, }) | { "type": "subscribe_failed", session_id: SessionId, error: ErrorBody, } | { "type": "session_changed", session: SessionInfo, } | { "type": "session_removed", session_id: SessionId, } | { "type": "runner_lost", error: ErrorBody, } | { "type": "runner_ready", } | { "type": "terminal_closed", session_id: SessionId, terminal_id: number, exit: TerminalExit, } | { "type": "terminal_lagged", terminal_id: number, } | { "type": "rejected", error: ErrorBody, };

export const PROTOCOL_VERSION = 1;
export const ERROR_CODES: readonly ErrorCode[] = ["not_found", "forbidden", "unauthenticated", "busy", "conflict", "invalid_argument", "unsupported_by_harness", "harness_not_installed", "harness_crashed", "sandbox_unavailable", "sandbox_denied", "limit_exceeded", "budget_exceeded", "rate_limited", "provider_error", "deadline_exceeded", "unavailable", "persisting", "internal"];
