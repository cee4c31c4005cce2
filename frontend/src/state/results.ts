/** Results of commands, read leniently: a list may come bare or under its name. */
import type {
  Approval,
  FileContent,
  FileListing,
  FileWritten,
  GitDiff,
  GitStatus,
  HarnessInfo,
  Message,
  ModelInfo,
  SandboxChoices,
  SessionInfo,
  TerminalInfo,
  TrustedCode,
  WorkspaceCode,
  WorkspaceInfo,
} from "../protocol/generated";

function field(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>)[name] : undefined;
}

function list(value: unknown, name: string): readonly unknown[] {
  const found = Array.isArray(value) ? (value as unknown) : field(value, name);
  return Array.isArray(found) ? (found as readonly unknown[]) : [];
}

function nextCursor(value: unknown): string | undefined {
  const cursor = field(value, "next_cursor");
  return typeof cursor === "string" && cursor !== "" ? cursor : undefined;
}

export interface Page<T> {
  readonly items: readonly T[];
  readonly next?: string | undefined;
}

export const readSessions = (value: unknown): Page<SessionInfo> => ({
  items: list(value, "sessions") as readonly SessionInfo[],
  next: nextCursor(value),
});

export const readMessages = (value: unknown): Page<Message> => ({
  items: list(value, "messages") as readonly Message[],
  next: nextCursor(value),
});

export const readHarnesses = (value: unknown): readonly HarnessInfo[] =>
  list(value, "harnesses") as readonly HarnessInfo[];
export const readWorkspaces = (value: unknown): readonly WorkspaceInfo[] =>
  list(value, "workspaces") as readonly WorkspaceInfo[];
export const readApprovals = (value: unknown): readonly Approval[] =>
  list(value, "approvals") as readonly Approval[];
export const readTrusted = (value: unknown): readonly TrustedCode[] =>
  list(value, "trusted") as readonly TrustedCode[];
export const readModels = (value: unknown): readonly ModelInfo[] =>
  list(value, "models") as readonly ModelInfo[];

/** Ids of the models that a harness cannot be used with. */
export const readUnusable = (value: unknown, harness: string): readonly string[] =>
  list(field(value, "unusable"), harness).filter((id) => typeof id === "string");

/** The session that a `session.create` or `session.fork` made. */
export function readSession(value: unknown): SessionInfo | undefined {
  const candidate = field(value, "session") ?? value;
  return typeof field(candidate, "id") === "string" ? (candidate as SessionInfo) : undefined;
}

/** The path of a workspace that was made. */
export function readWorkspacePath(value: unknown): string | undefined {
  const path = field(field(value, "workspace") ?? value, "path");
  return typeof path === "string" ? path : undefined;
}

export const readTerminals = (value: unknown): readonly TerminalInfo[] =>
  list(value, "terminals") as readonly TerminalInfo[];

export function readTerminal(value: unknown): TerminalInfo | undefined {
  return typeof field(value, "terminal_id") === "number" ? (value as TerminalInfo) : undefined;
}

export function readSandbox(value: unknown): SandboxChoices | undefined {
  return Array.isArray(field(value, "tiers")) && Array.isArray(field(value, "profiles"))
    ? (value as SandboxChoices)
    : undefined;
}

export function readWorkspaceCode(value: unknown): WorkspaceCode | undefined {
  return Array.isArray(field(value, "files")) && typeof field(value, "trustable") === "boolean" ? (value as WorkspaceCode) : undefined;
}

export function readListing(value: unknown): FileListing {
  const path = field(value, "path");
  return {
    path: typeof path === "string" ? path : "",
    entries: [...(list(value, "entries") as FileListing["entries"])],
    truncated: field(value, "truncated") === true,
  };
}

export function readFile(value: unknown): FileContent | undefined {
  return typeof field(value, "version") === "string" ? (value as FileContent) : undefined;
}

export function readWritten(value: unknown): FileWritten | undefined {
  return typeof field(value, "version") === "string" ? (value as FileWritten) : undefined;
}

export function readGitStatus(value: unknown): GitStatus | undefined {
  return Array.isArray(field(value, "entries")) ? (value as GitStatus) : undefined;
}

export function readGitDiff(value: unknown): GitDiff {
  const text = field(value, "text");
  return { text: typeof text === "string" ? text : "", truncated: field(value, "truncated") === true };
}
