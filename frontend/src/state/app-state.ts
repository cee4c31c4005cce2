/** What the whole page knows, besides what its components keep to themselves. */
import type { BlobRef, ErrorBody, HarnessInfo, NotifyLevel, SessionId, SessionInfo } from "../protocol/generated";
import type { ConnectionState } from "../socket/connection";
import type { SessionModel } from "./model";

export type PromptKind = "prompt" | "steer" | "follow_up";

/** A prompt on its way: shown until the server has said that it is safe. */
export interface PendingPrompt {
  readonly clientId: string;
  readonly sessionId: SessionId;
  readonly kind: PromptKind;
  readonly text: string;
  readonly images?: readonly BlobRef[];
  readonly error?: ErrorBody;
}

export interface Toast {
  readonly id: number;
  readonly level: NotifyLevel;
  readonly message: string;
  readonly code?: string | undefined;
  readonly hint?: string | undefined;
  readonly sessionId?: SessionId | undefined;
}

export interface AppState {
  readonly connection: ConnectionState;
  readonly connectionError?: ErrorBody | undefined;
  readonly account?: { readonly account: string; readonly name: string };
  readonly sessions: Readonly<Record<SessionId, SessionInfo>>;
  readonly sessionsLoaded: boolean;
  readonly harnesses: readonly HarnessInfo[];
  readonly models: Readonly<Record<SessionId, SessionModel>>;
  readonly openErrors: Readonly<Record<SessionId, ErrorBody>>;
  readonly pending: readonly PendingPrompt[];
  readonly toasts: readonly Toast[];
  /** Said by screen readers when it changes. */
  readonly announcement: string;
}

export const INITIAL_STATE: AppState = {
  connection: "connecting",
  sessions: {},
  sessionsLoaded: false,
  harnesses: [],
  models: {},
  openErrors: {},
  pending: [],
  toasts: [],
  announcement: "",
};

/** `record` without `key`. */
export function without<T>(record: Readonly<Record<string, T>>, key: string): Readonly<Record<string, T>> {
  if (!(key in record)) return record;
  return Object.fromEntries(Object.entries(record).filter(([other]) => other !== key));
}

/** Newest work first; the id breaks ties so that the order never flickers. */
export function sortedSessions(sessions: Readonly<Record<SessionId, SessionInfo>>): SessionInfo[] {
  return Object.values(sessions).sort((a, b) => b.updated_at - a.updated_at || (a.id < b.id ? 1 : -1));
}
