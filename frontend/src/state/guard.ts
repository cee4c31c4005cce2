/** What the sandbox has to say of a session: which hosts its programs asked for, and what a turn left in the workspace. */
import type { Event, Finding, InputRequest, NetworkPlace, NetworkSummary, SeenFinding } from "../protocol/generated";

export type Decision = "allowed" | "denied" | "asked";

/** Attempts at one destination that ended the same way. */
export interface AccessRow {
  readonly host: string;
  readonly port: number;
  readonly decision: Decision;
  /** The rule of the policy that decided. */
  readonly rule: string;
  readonly reason?: string | undefined;
  /** Connections that began. */
  readonly count: number;
  /** Bytes that guests sent and got, of connections that ended. */
  readonly sent: number;
  readonly received: number;
  /** UTC milliseconds of the last attempt. */
  readonly lastAt: number;
}

export interface NetworkLog {
  readonly allowed: number;
  readonly denied: number;
  /** The latest destinations, newest first. */
  readonly rows: readonly AccessRow[];
}

export const NO_NETWORK: NetworkLog = { allowed: 0, denied: 0, rows: [] };

/** Destinations that are kept; a scanner must not grow the page without bound. */
export const MAX_ROWS = 200;

/** The log that a snapshot tells of. */
export function logOf({ allowed, denied, places }: NetworkSummary): NetworkLog {
  return { allowed, denied, rows: places.map(rowOf) };
}

function rowOf(place: NetworkPlace): AccessRow {
  const { host, port, decision, rule, reason } = place;
  return {
    host,
    port,
    decision,
    rule,
    ...(reason === "" ? {} : { reason }),
    count: place.connections,
    sent: place.sent_bytes,
    received: place.received_bytes,
    lastAt: place.last_at,
  };
}

/** One decision of the egress broker. */
export interface Access {
  readonly host: string;
  readonly port: number;
  readonly decision: Decision;
  readonly rule: string;
  readonly reason?: string | undefined;
  readonly connections: number;
  readonly sent: number;
  readonly received: number;
  readonly ts: number;
}

const DECISIONS: readonly string[] = ["allowed", "denied", "asked"];

const amount = (value: unknown, otherwise: number): number => (typeof value === "number" && value >= 0 ? value : otherwise);

/** The decision that a `network.access` event tells of. */
export function accessOf(event: Event): Access | undefined {
  const fields = event as unknown as Readonly<Record<string, unknown>>;
  const { host, port, decision, rule, reason, ts } = fields;
  if (fields.event !== "network.access" || typeof host !== "string" || typeof port !== "number") return undefined;
  if (typeof decision !== "string" || !DECISIONS.includes(decision) || typeof ts !== "number") return undefined;
  return {
    host,
    port,
    decision: decision as Decision,
    rule: typeof rule === "string" ? rule : "",
    ...(typeof reason === "string" && reason !== "" ? { reason } : {}),
    connections: amount(fields.connections, 1),
    sent: amount(fields.sent_bytes, 0),
    received: amount(fields.received_bytes, 0),
    ts,
  };
}

/** The log with one more decision of the broker. */
export function withAccess(log: NetworkLog, access: Access): NetworkLog {
  const { host, port, decision, rule, reason, connections, ts } = access;
  const same = (row: AccessRow) =>
    row.host === host && row.port === port && row.decision === decision && row.rule === rule;
  const known = log.rows.find(same);
  // A question that was answered is told by its answer.
  const others = log.rows.filter((row) => !same(row) && !(row.decision === "asked" && row.host === host && row.port === port));
  const row: AccessRow = {
    host,
    port,
    decision,
    rule,
    reason,
    count: (known?.count ?? 0) + connections,
    sent: (known?.sent ?? 0) + access.sent,
    received: (known?.received ?? 0) + access.received,
    lastAt: ts,
  };
  return {
    allowed: log.allowed + (decision === "allowed" ? connections : 0),
    denied: log.denied + (decision === "denied" ? connections : 0),
    rows: [row, ...others].slice(0, MAX_ROWS),
  };
}

/** Findings kept for a session. */
export const MAX_FINDINGS = 500;

export const findingKey = (finding: Finding): string => `${finding.kind} ${finding.path}`;

/** Findings by kind and path: what is found again replaces what was said of it before. */
export function withFindings(known: readonly SeenFinding[], added: readonly Finding[], at: number): readonly SeenFinding[] {
  const byKey = new Map(known.map((finding) => [findingKey(finding), finding]));
  for (const finding of added) {
    byKey.delete(findingKey(finding));
    byKey.set(findingKey(finding), { ...finding, at });
  }
  return [...byKey.values()].slice(-MAX_FINDINGS);
}

export interface Destination {
  readonly host: string;
  readonly port: number;
}

/** The destination that a request asks for, if it is one of the network. */
export function destinationOf(request: InputRequest): Destination | undefined {
  if (request.kind !== "permission" || request.tool !== "network") return undefined;
  const { host, port } = (request.arguments ?? {}) as { host?: unknown; port?: unknown };
  return typeof host === "string" && typeof port === "number" ? { host, port } : undefined;
}
