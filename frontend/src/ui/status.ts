/** Words for what a session is doing. */
import type { Phase, SessionInfo, SessionStatus } from "../protocol/generated";
import type { SessionModel } from "../state/model";

export const STATUS_LABELS: Readonly<Record<SessionStatus, string>> = {
  starting: "Starting",
  idle: "Ready",
  working: "Working",
  aborting: "Stopping the turn",
  stopping: "Closing",
  stopped: "Closed",
  failed: "Failed",
};

const PHASE_LABELS: Readonly<Record<Phase, string>> = {
  initializing: "Starting the agent",
  generating: "Writing",
  thinking: "Thinking",
  tool_running: "Running a tool",
  compacting: "Compacting the context",
  retrying: "Retrying",
  waiting_for_input: "Waiting for your answer",
};

export type DotKind = "idle" | "working" | "input" | "off" | "failed";

export function dotKind(session: SessionInfo): DotKind {
  if (session.needs_input) return "input";
  if (session.status === "failed") return "failed";
  if (session.status === "idle") return "idle";
  return session.status === "stopped" ? "off" : "working";
}

export function isBusy(status: SessionStatus): boolean {
  return status === "working" || status === "aborting";
}

/** One line about the present moment of a session. */
export function activityLabel(model: SessionModel): string {
  const { status } = model.info;
  if (model.persisting) return "Saving";
  if (status === "stopped" && model.messages.length === 0) return "Starts with your first message";
  if (status === "stopped") return "Closed. Your next message starts it again.";
  if (status === "failed") return "The agent could not run.";
  if (status !== "working") return STATUS_LABELS[status] ?? status;
  const running = Object.values(model.tools).find((tool) => !tool.ended);
  if (model.requests.length > 0) return PHASE_LABELS.waiting_for_input;
  if (running) return `Running ${running.name}`;
  return model.statusText ?? (model.phase ? (PHASE_LABELS[model.phase] ?? "Working") : "Working");
}
