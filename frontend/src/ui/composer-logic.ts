/** What the composer's Enter key does, and why it may do nothing. */
import type { CommandInfo } from "../protocol/generated";
import type { PromptKind } from "../state/app-state";
import type { SessionModel } from "../state/model";
import { isBusy } from "./status";

export type BusyChoice = "steer" | "queue";

export interface SendState {
  /** The command that Enter sends; `undefined` where nothing can be sent. */
  readonly kind: PromptKind | undefined;
  /** Steering and queueing can both be chosen now. */
  readonly choice: boolean;
  readonly label: string;
  readonly reason?: string | undefined;
  /** The agent works and cannot be steered: what is sent waits for the end of the turn. */
  readonly waits?: boolean;
}

export function sendState(model: SessionModel, wanted: BusyChoice): SendState {
  const { capabilities, info } = model;
  if (info.status === "stopping") return blocked("The session is being closed.");
  if (info.status === "stopped" && !capabilities.resume) {
    return blocked("This session is closed, and its agent cannot be resumed. Start a new session.");
  }
  if (!isBusy(info.status)) return { kind: "prompt", choice: false, label: "Send" };
  const canQueue = capabilities.queue || capabilities.follow_up;
  const canSteer = capabilities.steer && info.status === "working";
  if (canSteer && (wanted === "steer" || !canQueue)) return { kind: "steer", choice: canQueue, label: "Steer" };
  if (canQueue) return { kind: "follow_up", choice: canSteer, label: "Queue", waits: !capabilities.steer };
  return blocked("This agent takes no message while it works. Wait for it, or stop it.");
}

function blocked(reason: string): SendState {
  return { kind: undefined, choice: false, label: "Send", reason };
}

interface Key {
  readonly key: string;
  readonly keyCode: number;
  readonly shiftKey: boolean;
  readonly isComposing: boolean;
}

/** Enter sends, unless it confirms a candidate of an input method: browsers say so by either of two signs. */
export function isSendKey(event: Key): boolean {
  return event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229;
}

/** Slash commands that begin with what is typed; only while the command's name is being typed. */
export function matchingCommands(commands: readonly CommandInfo[], text: string): readonly CommandInfo[] {
  const typed = /^\/(\S*)$/.exec(text)?.[1];
  if (typed === undefined) return [];
  const wanted = typed.toLowerCase();
  return commands.filter((command) => command.name.replace(/^\//, "").toLowerCase().startsWith(wanted)).slice(0, 8);
}
