/** The rows of a transcript: messages in order, tool results beside their calls, and what is on its way. */
import type { ErrorBody, Message, MessageId, Part, ToolCallId } from "../protocol/generated";
import type { PendingPrompt } from "./app-state";
import type { SessionModel } from "./model";

export interface ToolResult {
  readonly messageId: MessageId;
  readonly output: readonly Part[];
  readonly isError: boolean;
}

export type ToolResults = ReadonlyMap<ToolCallId, ToolResult>;

export type Row =
  | {
      readonly kind: "message";
      readonly key: string;
      readonly message: Message;
      readonly streaming: boolean;
      /** It goes on where the agent's message before it ended. */
      readonly continues: boolean;
    }
  | { readonly kind: "pending"; readonly key: string; readonly prompt: PendingPrompt }
  | { readonly kind: "note"; readonly key: string; readonly text: string }
  | { readonly kind: "error"; readonly key: string; readonly error: ErrorBody };

export function toolResults(messages: readonly Message[]): ToolResults {
  const results = new Map<ToolCallId, ToolResult>();
  for (const message of messages) {
    if (message.role !== "tool") continue;
    for (const part of message.parts) {
      if (part.type !== "tool_result") continue;
      results.set(part.tool_call_id, {
        messageId: message.id,
        output: part.output,
        isError: part.is_error,
      });
    }
  }
  return results;
}

export function toolCallIds(messages: readonly Message[]): ReadonlySet<ToolCallId> {
  const ids = new Set<ToolCallId>();
  for (const message of messages) {
    for (const part of message.parts) if (part.type === "tool_call") ids.add(part.tool_call_id);
  }
  return ids;
}

/** A tool message whose calls are all shown has its place inside their cards. */
function isShownInCards(message: Message, calls: ReadonlySet<ToolCallId>): boolean {
  if (message.role !== "tool") return false;
  return message.parts.every((part) => part.type === "tool_result" && calls.has(part.tool_call_id));
}

function messageRows(messages: readonly Message[], calls: ReadonlySet<ToolCallId>, streaming: boolean): Row[] {
  const rows: Row[] = [];
  let agentBefore = false;
  for (const message of messages) {
    if (isShownInCards(message, calls)) continue;
    const agent = message.role !== "user";
    rows.push({ kind: "message", key: message.id, message, streaming, continues: agent && agentBefore });
    agentBefore = agent;
  }
  return rows;
}

/** Rows of the finished messages: they change seldom, so callers keep them between frames. */
export function finishedRows(messages: readonly Message[]): readonly Row[] {
  return messageRows(messages, toolCallIds(messages), false);
}

/** All rows, from `finished` on to what streams and what is on its way. */
export function buildRows(
  finished: readonly Row[],
  model: Pick<SessionModel, "streaming" | "lastError" | "turnId">,
  pending: readonly PendingPrompt[],
): readonly Row[] {
  const last = finished.at(-1);
  const afterAgent = last?.kind === "message" && last.message.role !== "user";
  const live = messageRows(model.streaming, new Set(), true).map((row, index) =>
    row.kind === "message" && index === 0 && row.message.role !== "user" ? { ...row, continues: afterAgent } : row,
  );
  const rows: Row[] = [...finished, ...live];
  if (!model.turnId) {
    const end = rows.at(-1);
    const unanswered = end?.kind === "message" && end.message.role === "user";
    // The error of a turn is a message of its own; that of a start which failed is not.
    const told = end?.kind === "message" && end.message.parts.some((part) => part.type === "error");
    if (model.lastError && !told) rows.push({ kind: "error", key: "last-error", error: model.lastError });
    else if (unanswered) rows.push({ kind: "note", key: "unanswered", text: "The turn ended without an answer." });
  }
  for (const prompt of pending) rows.push({ kind: "pending", key: `pending-${prompt.clientId}`, prompt });
  return rows;
}
