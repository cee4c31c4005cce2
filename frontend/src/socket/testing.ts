/** A WebSocket whose other end is the test. */
import type { Event, ToClient } from "../protocol/generated";
import { terminalFrames } from "../protocol/wire";
import type { Environment } from "./connection";

export class FakeSocket {
  static readonly all: FakeSocket[] = [];
  readyState: number = WebSocket.CONNECTING;
  binaryType = "blob";
  readonly sent: Record<string, unknown>[] = [];
  /** Binary frames sent so far. */
  readonly blobs: ArrayBuffer[] = [];
  onopen: (() => void) | null = null;
  onmessage: ((message: { data: unknown }) => void) | null = null;
  onclose: (() => void) | null = null;

  constructor(
    readonly url: string,
    readonly protocols: string[],
  ) {
    FakeSocket.all.push(this);
  }

  send(frame: string | ArrayBuffer): void {
    if (typeof frame === "string") this.sent.push(JSON.parse(frame) as Record<string, unknown>);
    else this.blobs.push(frame);
  }

  close(): void {
    this.readyState = WebSocket.CLOSED;
  }

  // ---- what the server does ----

  accept(): void {
    this.readyState = WebSocket.OPEN;
    this.onopen?.();
  }

  cut(): void {
    this.readyState = WebSocket.CLOSED;
    this.onclose?.();
  }

  receive(frame: unknown): void {
    const raw = typeof frame === "string" || frame instanceof ArrayBuffer;
    this.onmessage?.({ data: raw ? frame : JSON.stringify(frame) });
  }

  /** Output of a terminal. */
  output(terminal: number, text: string): void {
    for (const frame of terminalFrames(terminal, new TextEncoder().encode(text))) this.receive(frame);
  }

  control(control: ToClient, session?: number): void {
    this.receive(session === undefined ? { control } : { session, control });
  }

  event(session: number, event: Event): void {
    this.receive({ session, event });
  }

  /** Commands sent so far, by their name. */
  commands(name: string): Record<string, unknown>[] {
    return this.sent.filter((frame) => frame.cmd === name);
  }

  reply(command: Record<string, unknown> | undefined, ok: unknown = {}): void {
    this.receive({ response: { id: command?.id, ok } });
  }
}

export function latestSocket(): FakeSocket {
  const socket = FakeSocket.all.at(-1);
  if (!socket) throw new Error("no socket was opened");
  return socket;
}

export function fakeEnvironment(over: Partial<Environment> = {}): Environment {
  FakeSocket.all.length = 0;
  let ids = 0;
  return {
    url: "ws://test/api/v1/ws",
    pageToken: () => Promise.resolve("t0"),
    openSocket: (url, protocols) => new FakeSocket(url, protocols) as unknown as WebSocket,
    random: () => 0,
    newId: () => `id-${(ids += 1)}`,
    ...over,
  };
}
