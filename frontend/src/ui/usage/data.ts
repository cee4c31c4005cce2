/** Usage, budgets and keys as the REST interface tells of them, read leniently. */
import { api } from "../../lib/http";
import { readNanos } from "../../lib/money";
import { count, fieldsOf, listOf, moment, text, texts, type Fields } from "./fields";

/** Whose: one's own, or everybody's, which only administrators are told. */
export type Whose = "own" | "all";
export type By = "day" | "model" | "session" | "user";

export interface UsageRow {
  readonly name: string;
  readonly requests: number;
  readonly inexact: number;
  readonly unpriced: number;
  /** With what was read from and written to a cache. */
  readonly input: number;
  readonly output: number;
  /** Nano-dollars. */
  readonly cost: bigint;
}

export interface Budget {
  readonly scope: string;
  readonly window: string;
  /** Nano-dollars, as the others. */
  readonly limit: bigint;
  readonly spent: bigint;
  readonly reserved: bigint;
  readonly left: bigint;
  /** UTC milliseconds. */
  readonly resetsAt: number | undefined;
}

export interface Key {
  readonly id: string;
  readonly name: string;
  readonly user: string;
  /** Limits of it, in words: `60 requests a minute`. */
  readonly limits: readonly string[];
  readonly models: readonly string[];
  /** UTC milliseconds. */
  readonly notBefore: number | undefined;
  readonly expires: number | undefined;
  readonly created: number;
  /** Until then the text before the last rotation works too. */
  readonly overlapUntil: number | undefined;
  readonly revoked: boolean;
  /** For now. */
  readonly disabled: boolean;
}

/** What a new key has; a limit of 0 is none. */
export interface NewKey {
  readonly user: string;
  readonly name: string;
  readonly team: string;
  readonly org: string;
  readonly parent: string;
  readonly models: readonly string[];
  readonly deny_models: readonly string[];
  readonly providers: readonly string[];
  readonly deny_providers: readonly string[];
  readonly rpm: number;
  readonly tpm: number;
  readonly concurrency: number;
  /** Seconds since 1970; 0: at once. */
  readonly not_before: number;
  /** Seconds since 1970; 0: never. */
  readonly expires: number;
  readonly on_limit: string;
  readonly budgets: readonly { readonly window: string; readonly limit: string }[];
}

export interface MadeKey {
  readonly id: string;
  readonly secret: string;
}

export function readUsage(value: unknown): readonly UsageRow[] {
  return listOf(value, "rows").map((row) => ({
    name: text(row, "name"),
    requests: count(row, "requests"),
    inexact: count(row, "inexact"),
    unpriced: count(row, "unpriced"),
    input: count(row, "input_tokens") + count(row, "cache_read_tokens") + count(row, "cache_write_tokens"),
    output: count(row, "output_tokens"),
    cost: readNanos(row.cost),
  }));
}

export function readBudgets(value: unknown): readonly Budget[] {
  return listOf(value, "budgets").map((budget) => ({
    scope: text(budget, "scope"),
    window: text(budget, "window"),
    limit: readNanos(budget.limit),
    spent: readNanos(budget.spent),
    reserved: readNanos(budget.reserved),
    left: readNanos(budget.left),
    resetsAt: moment(budget, "resets_at"),
  }));
}

function limitsOf(key: Fields): readonly string[] {
  const counted = [
    [count(key, "rpm"), "requests a minute"],
    [count(key, "tpm"), "tokens a minute"],
    [count(key, "concurrency"), "at a time"],
  ] as const;
  const lists = [
    [texts(key, "deny_models"), "not"],
    [texts(key, "providers"), "at"],
    [texts(key, "deny_providers"), "not at"],
  ] as const;
  return [
    ...lists.filter(([patterns]) => patterns.length > 0).map(([patterns, word]) => `${word} ${patterns.join(", ")}`),
    ...counted.filter(([limit]) => limit > 0).map(([limit, word]) => `${limit.toLocaleString()} ${word}`),
    ...(text(key, "parent") === "" ? [] : [`below ${text(key, "parent")}`]),
  ];
}

function readKeys(value: unknown): readonly Key[] {
  return listOf(value, "keys").map((key) => ({
    id: text(key, "id"),
    name: text(key, "name"),
    user: text(key, "user"),
    models: texts(key, "models"),
    limits: limitsOf(key),
    notBefore: moment(key, "not_before"),
    expires: moment(key, "expires"),
    overlapUntil: moment(key, "overlap_until"),
    created: count(key, "created") * 1_000,
    revoked: key.revoked === true,
    disabled: key.disabled === true,
  }));
}

export interface Model {
  /** `provider/model`. */
  readonly id: string;
  /** Tokens; 0: unknown. */
  readonly contextWindow: number;
  /** Nano-dollars per million tokens; absent: nobody knows it. */
  readonly price: { readonly input: bigint; readonly output: bigint } | undefined;
}

/** The models of one answer with their prices of another. */
export function readCatalog(models: unknown, prices: unknown): readonly Model[] {
  const known = new Map(
    listOf(prices, "prices")
      .filter((price) => text(price, "source") !== "")
      .map((price) => [`${text(price, "provider")}/${text(price, "model")}`, price]),
  );
  return listOf(models, "models").map((model) => {
    const id = text(model, "id");
    const price = known.get(id);
    return {
      id,
      contextWindow: count(model, "context_window"),
      price: price && { input: readNanos(price.input), output: readNanos(price.output) },
    };
  });
}

const below = (whose: Whose): string => (whose === "all" ? "/admin" : "");

/** Usage from a moment on (seconds since 1970; 0: all). */
export async function listUsage(whose: Whose, by: By, since: number): Promise<readonly UsageRow[]> {
  return readUsage(await api("GET", `${below(whose)}/usage?by=${by}&since=${since}`));
}

export async function listBudgets(whose: Whose): Promise<readonly Budget[]> {
  return readBudgets(await api("GET", `${below(whose)}/budgets`));
}

export async function listKeys(whose: Whose): Promise<readonly Key[]> {
  return readKeys(await api("GET", `${below(whose)}/keys`));
}

export async function isAdministrator(): Promise<boolean> {
  return fieldsOf(await api("GET", "/me")).administrator === true;
}

function readMade(value: unknown): MadeKey {
  const made = fieldsOf(value);
  return { id: text(fieldsOf(made.key), "id"), secret: text(made, "secret") };
}

/** Makes a key; once, however often it is tried under the same `attempt`. */
export async function createKey(key: NewKey, attempt: string): Promise<MadeKey> {
  return readMade(await api("POST", "/admin/keys", key, { "idempotency-key": attempt }));
}

/** The old text works for `overlap` more seconds. */
export async function rotateKey(id: string, overlap: number, attempt: string): Promise<MadeKey> {
  const path = `/admin/keys/${encodeURIComponent(id)}/rotate`;
  return readMade(await api("POST", path, { overlap }, { "idempotency-key": attempt }));
}

export async function revokeKey(id: string): Promise<void> {
  await api("DELETE", `/admin/keys/${encodeURIComponent(id)}`);
}

/** Has a key work again, or not for now. */
export async function enableKey(id: string, enabled: boolean): Promise<void> {
  await api("PUT", `/admin/keys/${encodeURIComponent(id)}/enabled`, { enabled });
}

const budgetPath = (scope: string, window: string): string =>
  `/admin/budgets/${encodeURIComponent(scope)}/${encodeURIComponent(window)}`;

export async function setBudget(scope: string, window: string, limit: bigint): Promise<void> {
  await api("PUT", budgetPath(scope, window), { limit: limit.toString() });
}

export async function removeBudget(scope: string, window: string): Promise<void> {
  await api("DELETE", budgetPath(scope, window));
}
