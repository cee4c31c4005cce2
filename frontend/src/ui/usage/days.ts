/** Days of usage: UTC, as the gateway counts them, without gaps. */
import type { UsageRow } from "./data";

const DAY_MS = 86_400_000;
/** More bars cannot be told apart. */
export const MAX_DAYS = 366;

export const dayName = (ms: number): string => new Date(ms).toISOString().slice(0, 10);

/** The beginning of the day `days` - 1 days before today, in seconds since 1970; of 0 days: the beginning of all. */
export function sinceDays(days: number, now: number): number {
  return days === 0 ? 0 : (Math.floor(now / DAY_MS) - days + 1) * 86_400;
}

/** `2026-11-20` as `20 Nov`. */
export function shortDay(name: string): string {
  const date = new Date(`${name}T00:00:00Z`);
  if (Number.isNaN(date.getTime())) return name;
  return date.toLocaleDateString(undefined, { day: "numeric", month: "short", timeZone: "UTC" });
}

/** One row a day from the first (`since`, or the first with usage) to today; days without usage are there too. */
export function everyDay(rows: readonly UsageRow[], since: number, now: number): readonly UsageRow[] {
  const known = new Map(rows.map((row) => [row.name, row]));
  const first = since > 0 ? since * 1_000 : Date.parse(`${rows[0]?.name ?? dayName(now)}T00:00:00Z`);
  const today = Math.floor(now / DAY_MS);
  const from = Math.max(Math.floor(first / DAY_MS), today - MAX_DAYS + 1);
  return Array.from({ length: Math.max(today - from + 1, 1) }, (_, index) => {
    const name = dayName((from + index) * DAY_MS);
    return known.get(name) ?? { name, requests: 0, inexact: 0, unpriced: 0, input: 0, output: 0, cost: 0n };
  });
}

export function totalOf(rows: readonly UsageRow[]): UsageRow {
  const zero: UsageRow = { name: "", requests: 0, inexact: 0, unpriced: 0, input: 0, output: 0, cost: 0n };
  return rows.reduce(
    (sum, row) => ({
      name: "",
      requests: sum.requests + row.requests,
      inexact: sum.inexact + row.inexact,
      unpriced: sum.unpriced + row.unpriced,
      input: sum.input + row.input,
      output: sum.output + row.output,
      cost: sum.cost + row.cost,
    }),
    zero,
  );
}
