/** REST calls to the backend. Every failure is a {@link LodgeError}. */
import { LodgeError, readErrorBody } from "../protocol/wire";
import type { ErrorCode } from "../protocol/generated";

export const BY_STATUS: Readonly<Record<number, ErrorCode>> = {
  400: "invalid_argument",
  401: "unauthenticated",
  403: "forbidden",
  404: "not_found",
  429: "rate_limited",
};

async function readBody(response: Response): Promise<unknown> {
  const text = await response.text();
  if (text === "") return undefined;
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}

/** A network that swallows packets must not keep a reconnect waiting. */
const DEADLINE_MS = 15_000;

/** Calls `path` below `/api/v1`; resolves with the decoded body. */
export async function api(
  method: "GET" | "POST" | "PUT" | "DELETE",
  path: string,
  body?: unknown,
  headers: Readonly<Record<string, string>> = {},
): Promise<unknown> {
  let response: Response;
  try {
    response = await fetch(`/api/v1${path}`, {
      method,
      credentials: "same-origin",
      signal: AbortSignal.timeout(DEADLINE_MS),
      ...(body === undefined ? {} : { headers: { "content-type": "application/json", ...headers }, body: JSON.stringify(body) }),
    });
  } catch {
    throw new LodgeError({ code: "unavailable", message: "The server cannot be reached." });
  }
  const value = await readBody(response);
  if (response.ok) return value;
  const code = BY_STATUS[response.status] ?? "unavailable";
  throw new LodgeError(readErrorBody(value) ?? { code, message: `The server answered ${response.status}.` });
}

/** The token that this page must show when it opens its WebSocket. */
export async function pageToken(): Promise<string> {
  const value = await api("GET", "/page-token");
  if (typeof value === "string") return value;
  const token = (value as { token?: unknown } | undefined)?.token;
  if (typeof token !== "string") throw new LodgeError({ code: "internal", message: "The server gave no page token." });
  return token;
}
