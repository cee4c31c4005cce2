/** Nano-dollars, exactly: amounts are whole numbers beyond what a float holds. */

const NANO = 1_000_000_000n;

/** Reads a text of digits; anything else is nothing. */
export function readNanos(value: unknown): bigint {
  return typeof value === "string" && /^\d{1,20}$/.test(value) ? BigInt(value) : 0n;
}

function grouped(whole: bigint): string {
  return whole.toString().replace(/\B(?=(\d{3})+$)/g, ",");
}

/** All digits there are, and never fewer than cents: `$1,234.50`, `$0.000012`. */
export function formatNanos(nanos: bigint): string {
  const fraction = (nanos % NANO).toString().padStart(9, "0").replace(/0{1,7}$/, "");
  return `$${grouped(nanos / NANO)}.${fraction}`;
}

/** Dollars as people write them (`5`, `$0.25`, `1,000.50`); `undefined` for what is none or is finer than a nano-dollar. */
export function parseDollars(text: string): bigint | undefined {
  const match = /^\$?\s*((?:\d{1,3}(?:,\d{3})+|\d{1,10}))(?:\.(\d{1,9}))?$/.exec(text.trim());
  if (!match) return undefined;
  const whole = BigInt((match[1] ?? "").replaceAll(",", ""));
  return whole * NANO + BigInt((match[2] ?? "").padEnd(9, "0"));
}

/** Which part of `whole` it is, in percent from 0 to 100, to a tenth. */
export function percentOf(part: bigint, whole: bigint): number {
  if (whole <= 0n) return part > 0n ? 100 : 0;
  const tenths = (part * 1_000n) / whole;
  return Number(tenths > 1_000n ? 1_000n : tenths) / 10;
}
