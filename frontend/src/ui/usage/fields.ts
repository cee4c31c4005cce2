/** Reading what the REST interface answers, leniently: what is missing or odd is nothing. */

export type Fields = Readonly<Record<string, unknown>>;

export function fieldsOf(value: unknown): Fields {
  return typeof value === "object" && value !== null ? (value as Fields) : {};
}

export function listOf(value: unknown, name: string): readonly Fields[] {
  const list = fieldsOf(value)[name];
  return Array.isArray(list) ? list.map(fieldsOf) : [];
}

export const text = (fields: Fields, name: string): string => {
  const value = fields[name];
  return typeof value === "string" ? value : "";
};

export const texts = (fields: Fields, name: string): readonly string[] => {
  const list = fields[name];
  return Array.isArray(list) ? list.filter((value) => typeof value === "string") : [];
};

export const count = (fields: Fields, name: string): number => {
  const value = fields[name];
  return typeof value === "number" && value > 0 ? value : 0;
};

/** Seconds of the server as milliseconds; 0 is no time. */
export const moment = (fields: Fields, name: string): number | undefined => {
  const seconds = count(fields, name);
  return seconds > 0 ? seconds * 1_000 : undefined;
};

/** Milliseconds of the server; 0 is no time. */
export const momentMs = (fields: Fields, name: string): number | undefined => count(fields, name) || undefined;
