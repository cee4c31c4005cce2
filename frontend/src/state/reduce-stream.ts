/** The part of the reducer that follows messages and tool calls while they come in. */
import type { Event, Message, MessageId, Part, Role, ToolCallId } from "../protocol/generated";
import { upsertMessages, type SessionModel, type ToolRun } from "./model";

export type StreamEvent = Extract<Event, { event: `stream.${string}` | `tool.${string}` }>;

const PLACEHOLDER: Part = { type: "text", text: "" };

function startMessage(model: SessionModel, event: Event, id: MessageId, role: Role): SessionModel {
  if (model.messages.some((message) => message.id === id)) return model;
  const message: Message = {
    id,
    session_id: event.session_id,
    turn_id: event.turn_id ?? model.turnId ?? "",
    index: (model.messages.at(-1)?.index ?? -1) + 1 + model.streaming.length,
    role,
    parts: [],
    harness: model.info.harness,
    model: role === "assistant" ? model.info.model : undefined,
    created_at: event.ts,
    version: 0,
  };
  return { ...model, streaming: [...model.streaming.filter((other) => other.id !== id), message] };
}

/** Replaces one part of a streaming message. A message that is not streaming (any more) is left alone. */
function editPart(model: SessionModel, id: MessageId, index: number, edit: (part: Part) => Part): SessionModel {
  const at = model.streaming.findIndex((message) => message.id === id);
  const message = model.streaming[at];
  if (!message) return model;
  const parts = message.parts.slice();
  while (parts.length <= index) parts.push(PLACEHOLDER);
  parts[index] = edit(parts[index] ?? PLACEHOLDER);
  const streaming = model.streaming.slice();
  streaming[at] = { ...message, parts };
  return { ...model, streaming };
}

function appendToolInput(part: Part, id: ToolCallId, delta: string): Part {
  if (part.type !== "tool_call") return { type: "tool_call", tool_call_id: id, name: "", input: delta };
  // Until the call is complete its input is the text of the arguments so far.
  const before = typeof part.input === "string" ? part.input : "";
  return { ...part, input: before + delta };
}

function endMessage(model: SessionModel, message: Message): SessionModel {
  const next: SessionModel = {
    ...model,
    streaming: model.streaming.filter((other) => other.id !== message.id),
    messages: upsertMessages(model.messages, [message]),
  };
  const done = message.parts.flatMap((part) => (part.type === "tool_result" ? [part.tool_call_id] : []));
  if (!done.some((id) => id in model.tools)) return next;
  const gone = new Set<string>(done);
  const tools = Object.fromEntries(Object.entries(model.tools).filter(([id]) => !gone.has(id)));
  return { ...next, tools };
}

function setTool(model: SessionModel, event: Event, tool: Partial<ToolRun> & { id: string; name: string }): SessionModel {
  const known = model.tools[tool.id];
  const base: ToolRun = known ?? {
    id: tool.id,
    name: tool.name,
    input: undefined,
    output: [],
    startedAt: event.ts,
    ended: false,
    isError: false,
  };
  return { ...model, tools: { ...model.tools, [tool.id]: { ...base, ...tool } } };
}

function progressOutput(model: SessionModel, id: ToolCallId, delta?: string, output?: readonly Part[]): readonly Part[] {
  const before = output ?? model.tools[id]?.output ?? [];
  if (!delta) return before;
  const last = before.at(-1);
  if (last?.type === "text") return [...before.slice(0, -1), { type: "text", text: last.text + delta }];
  return [...before, { type: "text", text: delta }];
}

function hasResult(model: SessionModel, id: ToolCallId): boolean {
  return model.messages.some(
    (message) =>
      message.role === "tool" && message.parts.some((part) => part.type === "tool_result" && part.tool_call_id === id),
  );
}

function endTool(model: SessionModel, event: Extract<Event, { event: "tool.end" }>): SessionModel {
  const id = event.tool_call_id;
  const durations = event.duration_ms === undefined ? model.durations : { ...model.durations, [id]: event.duration_ms };
  if (hasResult(model, id)) {
    const tools = Object.fromEntries(Object.entries(model.tools).filter(([other]) => other !== id));
    return { ...model, durations, tools };
  }
  const ended = { id, name: event.name, output: event.output, isError: event.is_error, ended: true };
  return { ...setTool(model, event, ended), durations };
}

export function reduceStream(model: SessionModel, event: StreamEvent): SessionModel {
  switch (event.event) {
    case "stream.message_start":
      return startMessage(model, event, event.message_id, event.role);
    case "stream.text_delta":
      return editPart(model, event.message_id, event.part_index, (part) => ({
        type: "text",
        text: (part.type === "text" ? part.text : "") + event.delta,
      }));
    case "stream.thinking_delta":
      return editPart(model, event.message_id, event.part_index, (part) => ({
        type: "thinking",
        text: (part.type === "thinking" ? part.text : "") + event.delta,
        redacted: false,
      }));
    case "stream.tool_call_start":
      return editPart(model, event.message_id, event.part_index, () => ({
        type: "tool_call",
        tool_call_id: event.tool_call_id,
        name: event.name,
        input: "",
      }));
    case "stream.tool_call_delta":
      return editPart(model, event.message_id, event.part_index, (part) =>
        appendToolInput(part, event.tool_call_id, event.delta),
      );
    case "stream.tool_call_end":
      return editPart(model, event.message_id, event.part_index, () => ({
        type: "tool_call",
        tool_call_id: event.tool_call_id,
        name: event.name,
        input: event.input,
      }));
    case "stream.message_end":
      return endMessage(model, event.message);
    case "stream.message_discarded":
      return { ...model, streaming: model.streaming.filter((message) => message.id !== event.message_id) };
    case "stream.resync_required":
      return { ...model, stale: true };
    case "tool.start":
      return setTool(model, event, { id: event.tool_call_id, name: event.name, input: event.input, startedAt: event.ts });
    case "tool.progress":
      return setTool(model, event, {
        id: event.tool_call_id,
        name: event.name,
        output: progressOutput(model, event.tool_call_id, event.delta, event.output),
      });
    case "tool.end":
      return endTool(model, event);
    default:
      return model;
  }
}
