/** Text frames from the relay, checked as far as this client relies on them. */
import type { ErrorBody, Event, Response, ToClient } from "./generated";

export type ServerFrame =
  | { readonly kind: "event"; readonly handle: number; readonly event: Event }
  | { readonly kind: "response"; readonly response: Response }
  | { readonly kind: "control"; readonly handle: number | undefined; readonly control: ToClient };

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isEvent(value: unknown): value is Event {
  return (
    isRecord(value) &&
    typeof value.event === "string" &&
    typeof value.session_id === "string" &&
    typeof value.seq === "number"
  );
}

function isResponse(value: unknown): value is Response {
  return isRecord(value) && typeof value.id === "string" && ("ok" in value || isRecord(value.error));
}

function isControl(value: unknown): value is ToClient {
  return isRecord(value) && typeof value.type === "string";
}

/** Reads one frame; `undefined` for anything that is none. */
export function parseFrame(text: string): ServerFrame | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!isRecord(value)) return undefined;
  const handle = typeof value.session === "number" ? value.session : undefined;
  if (isEvent(value.event) && handle !== undefined) return { kind: "event", handle, event: value.event };
  if (isResponse(value.response)) return { kind: "response", response: value.response };
  if (isControl(value.control)) return { kind: "control", handle, control: value.control };
  return undefined;
}

/** A terminal's number stands before its bytes: four bytes, least significant first. */
const TERMINAL_HEADER = 4;
/** Input is cut into frames of this size, so that a long paste holds up nothing else. */
export const TERMINAL_CHUNK = 16 * 1024;

export interface TerminalFrame {
  readonly terminal: number;
  readonly bytes: Uint8Array;
}

/** Reads a binary frame: output of a terminal. */
export function parseTerminalFrame(data: ArrayBuffer): TerminalFrame | undefined {
  if (data.byteLength < TERMINAL_HEADER) return undefined;
  const terminal = new DataView(data).getUint32(0, true);
  return { terminal, bytes: new Uint8Array(data, TERMINAL_HEADER) };
}

/** The binary frames that carry `bytes` to a terminal. */
export function terminalFrames(terminal: number, bytes: Uint8Array): ArrayBuffer[] {
  const frames: ArrayBuffer[] = [];
  for (let from = 0; from < bytes.length; from += TERMINAL_CHUNK) {
    const slice = bytes.subarray(from, from + TERMINAL_CHUNK);
    const frame = new ArrayBuffer(TERMINAL_HEADER + slice.length);
    new DataView(frame).setUint32(0, terminal, true);
    new Uint8Array(frame, TERMINAL_HEADER).set(slice);
    frames.push(frame);
  }
  return frames;
}

/** An error with a code of the protocol, as thrown by commands and HTTP calls. */
export class LodgeError extends Error {
  readonly body: ErrorBody;
  constructor(body: ErrorBody) {
    super(body.message);
    this.name = "LodgeError";
    this.body = body;
  }
}

/** The error behind anything that was thrown. */
export function errorBody(error: unknown): ErrorBody {
  if (error instanceof LodgeError) return error.body;
  return { code: "internal", message: error instanceof Error ? error.message : String(error) };
}

/** The error in a JSON body of an HTTP answer, if it is one. */
export function readErrorBody(value: unknown): ErrorBody | undefined {
  const candidate = isRecord(value) && isRecord(value.error) ? value.error : value;
  if (!isRecord(candidate) || typeof candidate.code !== "string" || typeof candidate.message !== "string") {
    return undefined;
  }
  return candidate as unknown as ErrorBody;
}
