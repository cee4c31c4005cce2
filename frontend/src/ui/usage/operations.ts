/** Requests under way, the audit, and how the gateway and its accounts are, as the REST interface tells of them. */
import { api } from "../../lib/http";
import { readNanos } from "../../lib/money";
import type { Whose } from "./data";
import { count, fieldsOf, listOf, moment, momentMs, text, texts } from "./fields";

export interface LiveRequest {
  readonly id: string;
  /** UTC milliseconds. */
  readonly since: number | undefined;
  readonly key: string;
  readonly session: string;
  readonly user: string;
  /** `provider/model`. */
  readonly model: string;
  /** Nano-dollars, as the next. */
  readonly reserved: bigint;
  readonly cost: bigint;
}

export function readRequests(value: unknown): readonly LiveRequest[] {
  return listOf(value, "requests").map((live) => ({
    id: text(live, "id"),
    since: moment(live, "at"),
    key: text(live, "key"),
    session: text(live, "session"),
    user: text(live, "user"),
    model: `${text(live, "provider")}/${text(live, "model")}`,
    reserved: readNanos(live.reserved),
    cost: readNanos(live.cost),
  }));
}

const below = (whose: Whose): string => (whose === "all" ? "/admin" : "");

export async function listRequests(whose: Whose): Promise<readonly LiveRequest[]> {
  return readRequests(await api("GET", `${below(whose)}/requests`));
}

export async function endRequest(whose: Whose, id: string): Promise<void> {
  await api("DELETE", `${below(whose)}/requests/${encodeURIComponent(id)}`);
}

export interface AuditEntry {
  readonly serial: number;
  /** UTC milliseconds. */
  readonly at: number;
  readonly who: string;
  readonly action: string;
  readonly target: string;
  /** What was asked for, as names and values. */
  readonly detail: readonly (readonly [string, string])[];
  readonly outcome: string;
  readonly result: string;
}

export interface AuditPage {
  readonly entries: readonly AuditEntry[];
  readonly next: number | undefined;
}

/** What says something; what was left as it is by default is not listed. */
function detailOf(value: unknown): readonly (readonly [string, string])[] {
  const says = (part: unknown) => part !== "" && part !== 0 && part !== false && part !== null && !(Array.isArray(part) && part.length === 0);
  return Object.entries(fieldsOf(value))
    .filter(([, part]) => says(part))
    .map(([name, part]) => [name, typeof part === "string" ? part : JSON.stringify(part)]);
}

export function readAudit(value: unknown): AuditPage {
  return {
    entries: listOf(value, "entries").map((entry) => ({
      serial: count(entry, "serial"),
      at: count(entry, "at"),
      who: text(entry, "actor") || `uid ${count(entry, "uid")}`,
      action: text(entry, "action"),
      target: text(entry, "target"),
      detail: detailOf(entry.detail),
      outcome: text(entry, "outcome"),
      result: text(entry, "result"),
    })),
    next: count(fieldsOf(value), "next") || undefined,
  };
}

export async function listAudit(search: string, before: number): Promise<AuditPage> {
  const query = new URLSearchParams({ search, before: String(before), limit: "50" });
  return readAudit(await api("GET", `/admin/audit?${query.toString()}`));
}

export interface QuotaWindow {
  readonly name: string;
  /** From 0 to 100; `undefined`: unknown. */
  readonly usedPercent: number | undefined;
  readonly words: string;
  /** UTC milliseconds. */
  readonly resetsAt: number | undefined;
}

export interface Account {
  readonly provider: string;
  readonly account: string;
  readonly state: string;
  /** UTC milliseconds, as the next. */
  readonly pausedUntil: number | undefined;
  readonly toldAt: number | undefined;
  readonly windows: readonly QuotaWindow[];
}

export interface Health {
  readonly version: string;
  readonly sessions: number;
  readonly address: string;
  readonly configError: string;
}

function readWindow(window: Readonly<Record<string, unknown>>): QuotaWindow {
  const [limit, remaining] = [window.limit, window.remaining].map((value) => (typeof value === "number" ? value : undefined));
  const used = typeof window.used_percent === "number" ? window.used_percent : undefined;
  const counted = limit !== undefined && limit > 0 && remaining !== undefined ? ((limit - remaining) / limit) * 100 : undefined;
  const known = used ?? counted;
  const left =
    remaining === undefined
      ? known === undefined
        ? text(window, "status") || "unknown"
        : `${(100 - known).toFixed(0)} % left`
      : limit === undefined
        ? `${remaining.toLocaleString()} left`
        : `${remaining.toLocaleString()} of ${limit.toLocaleString()} left`;
  return {
    name: text(window, "name"),
    usedPercent: known === undefined ? undefined : Math.min(Math.max(known, 0), 100),
    words: left,
    resetsAt: momentMs(window, "resets_at"),
  };
}

export function readAccounts(value: unknown): readonly Account[] {
  return listOf(value, "accounts").map((account) => ({
    provider: text(account, "provider"),
    account: text(account, "account"),
    state: text(account, "state"),
    pausedUntil: momentMs(account, "paused_until"),
    toldAt: momentMs(account, "told_at"),
    windows: listOf(account, "windows").map(readWindow),
  }));
}

export async function listAccounts(): Promise<readonly Account[]> {
  return readAccounts(await api("GET", "/admin/quota"));
}

export async function gatewayHealth(): Promise<Health> {
  const health = fieldsOf(await api("GET", "/admin/gateway/health"));
  return {
    version: text(health, "version"),
    sessions: count(health, "open_leases"),
    address: text(health, "address"),
    configError: text(health, "config_error"),
  };
}

/** Resolves with the blocks that need a restart. */
export async function reloadConfig(): Promise<readonly string[]> {
  return texts(fieldsOf(await api("POST", "/admin/gateway/reload", {})), "needs_restart");
}

export interface Tested {
  readonly account: string;
  readonly ok: boolean;
  readonly words: string;
}

export async function testProvider(name: string): Promise<readonly Tested[]> {
  const answer = await api("POST", `/admin/providers/${encodeURIComponent(name)}/test`, {});
  return listOf(answer, "accounts").map((test) => ({
    account: text(test, "account"),
    ok: test.ok === true,
    words: test.ok === true ? `works, answered in ${count(test, "milliseconds")} ms` : text(test, "message"),
  }));
}
