/** A WebSocket whose other end is the test. */
import type { Event, ToClient } from "../protocol/generated";
import type { Environment } from "./connection";

export class FakeSocket {
  static readonly all: FakeSocket[] = [];
  readyState: number = WebSocket.CONNECTING;
  readonly sent: Record<string, unknown>[] = [];
  onopen: (() => void) | null = null;
  onmessage: ((message: { data: unknown }) => void) | null = null;
  onclose: (() => void) | null = null;

  constructor(
    readonly url: string,
    readonly protocols: string[],
  ) {
    FakeSocket.all.push(this);
  }

  send(text: string): void {
    this.sent.push(JSON.parse(text) as Record<string, unknown>);
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
    this.onmessage?.({ data: typeof frame === "string" ? frame : JSON.stringify(frame) });
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
