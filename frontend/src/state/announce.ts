/** Which events are worth saying aloud or showing as a notice. */
import type { Event } from "../protocol/generated";
import { explain } from "../lib/errors";
import type { Toast } from "./app-state";
import type { SessionModel } from "./model";

/** What a screen reader says: only that a turn is over or that the agent needs somebody. */
export function announcementFor(event: Event, model: SessionModel): string | undefined {
  switch (event.event) {
    case "turn.ended":
      if (event.outcome === "completed") return `${model.info.title || "The agent"}: finished.`;
      return `${model.info.title || "The agent"}: turn ${event.outcome}.`;
    case "agent.error":
      return event.code === "limit_exceeded" ? `A limit of the sandbox was reached: ${event.message}` : undefined;
    case "workspace.findings":
      return event.items.length > 0 ? "The turn left files in the workspace that are worth a look." : undefined;
    case "agent.input_needed":
      return `The agent needs your answer: ${event.request.title}`;
    case "agent.input_resolved":
      // It follows the question at once, and takes its place: nobody is needed.
      return event.remembered ? "Allowed, as you decided before." : undefined;
    default:
      return undefined;
  }
}

export function toastFor(event: Event, before: SessionModel): Omit<Toast, "id"> | undefined {
  switch (event.event) {
    case "notify":
      return { level: event.level, message: event.message, sessionId: event.session_id };
    case "agent.error": {
      // Within a turn its end tells of the error, in the conversation.
      if (event.turn_id !== undefined || event.code === "limit_exceeded") return undefined;
      const level = event.recoverable ? "warning" : "error";
      const { hint } = explain(event.code);
      return { level, message: event.message, code: event.code, hint, sessionId: event.session_id };
    }
    case "compact.end":
      if (event.success) return { level: "info", message: "The context was compacted." };
      // Who asked for it hears of the failure in the answer to the command.
      if (before.compacting === "manual") return undefined;
      return { level: "error", message: event.error?.message ?? "The context could not be compacted.", code: event.error?.code };
    default:
      return undefined;
  }
}
