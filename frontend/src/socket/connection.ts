/** The WebSocket to the relay: one that mends itself, with an outbox, and never shows a frame of the wrong session. */
import { PROTOCOL_VERSION } from "../protocol/generated";
import type { Command, CommandBody, Cursor, ErrorBody, Event, SessionId, ToClient } from "../protocol/generated";
import { LodgeError, parseFrame, parseTerminalFrame, terminalFrames, type ServerFrame } from "../protocol/wire";
import { backoffDelay } from "./backoff";
import { Outbox } from "./outbox";

export type ConnectionState = "connecting" | "connected" | "reconnecting" | "runner_lost" | "logged_out";

/** Where the connection reports to, and what it asks. */
export interface Listener {
  onState(state: ConnectionState, error?: ErrorBody): void;
  onEvent(event: Event): void;
  onControl(control: ToClient): void;
  /** Output of a terminal. The bytes are the receiver's own. */
  onTerminal(terminal: number, bytes: Uint8Array): void;
  /** Cursor of every session that is shown; `null` for one that nothing is known of. */
  cursors(): Record<SessionId, Cursor | null>;
}

/** The world outside, replaced in tests. */
export interface Environment {
  readonly url: string;
  readonly pageToken: () => Promise<string>;
  readonly openSocket: (url: string, protocols: string[]) => WebSocket;
  readonly random: () => number;
  readonly newId: () => string;
}

/** After this long without a frame the connection is tried. */
export const QUIET_MS = 20_000;
/** A trial that stays unanswered for this long means the socket is dead although it says it is open. */
export const TRIAL_MS = 8_000;
/** A socket that does not open for this long is given up. */
export const OPEN_MS = 10_000;
/** The same when the page comes back to the front or the network comes back: somebody is looking. */
export const EAGER_TRIAL_MS = 3_000;

const QUERIES = new Set<CommandBody["cmd"]>([
  "session.list",
  "session.subscribe",
  "session.unsubscribe",
  "get_state",
  "get_messages",
  "get_models",
  "get_commands",
  "get_stats",
  "harness.list",
  "workspace.list",
  "sandbox.list",
  "approvals.list",
  "terminal.attach",
  "terminal.resize",
  "terminal.list",
  "file.list",
  "file.read",
  "git.status",
  "git.diff",
]);

export class Connection {
  private socket: WebSocket | undefined;
  private state: ConnectionState = "connecting";
  private attempt = 0;
  private stopped = true;
  /** Counts attempts to connect, so that one that was overtaken gives up. */
  private generation = 0;
  private readonly outbox = new Outbox();
  private readonly bindings = new Map<number, SessionId>();
  private retryTimer: ReturnType<typeof setTimeout> | undefined;
  private quietTimer: ReturnType<typeof setTimeout> | undefined;
  private trialTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly environment: Environment,
    private readonly listener: Listener,
  ) {}

  start(): void {
    if (!this.stopped) return;
    this.stopped = false;
    void this.connect();
  }

  stop(): void {
    this.stopped = true;
    this.generation += 1;
    clearTimeout(this.retryTimer);
    this.dropSocket();
    this.outbox.rejectAll({ code: "unavailable", message: "The connection was closed." });
  }

  /** Sends a command and waits for its answer, over as many connections as it takes. */
  send(body: CommandBody, sessionId?: SessionId, clientId?: string): Promise<unknown> {
    const command = this.compose(body, sessionId, clientId);
    const answer = this.outbox.add(command);
    if (this.state === "connected") this.write(command);
    return answer;
  }

  /** Sends keys to a terminal. Without a connection they are gone: `false`, for a terminal shows what arrived. */
  type(terminal: number, bytes: Uint8Array): boolean {
    const socket = this.socket;
    if (this.state !== "connected" || socket?.readyState !== WebSocket.OPEN) return false;
    for (const frame of terminalFrames(terminal, bytes)) socket.send(frame);
    return true;
  }

  /** The page came back to the front, or the network did: find out now whether the socket still lives. */
  nudge(): void {
    if (this.stopped || this.state === "logged_out") return;
    if (this.socket?.readyState === WebSocket.OPEN) {
      this.tryOut(EAGER_TRIAL_MS);
      return;
    }
    if (this.socket) return;
    clearTimeout(this.retryTimer);
    this.attempt = 0;
    void this.connect();
  }

  private compose(body: CommandBody, sessionId?: SessionId, clientId?: string): Command {
    const id = this.environment.newId();
    const mutating = !QUERIES.has(body.cmd);
    return {
      id,
      ...(sessionId === undefined ? {} : { session_id: sessionId }),
      ...(mutating ? { client_id: clientId ?? id } : {}),
      ...body,
    };
  }

  private async connect(): Promise<void> {
    this.generation += 1;
    const generation = this.generation;
    let token: string;
    try {
      token = await this.environment.pageToken();
    } catch (error) {
      if (generation !== this.generation) return;
      if (error instanceof LodgeError && error.body.code === "unauthenticated") {
        this.setState("logged_out", error.body);
        return;
      }
      this.retryLater();
      return;
    }
    if (this.stopped || generation !== this.generation) return;
    const socket = this.environment.openSocket(this.environment.url, ["lodge.v1", `token.${token}`]);
    this.socket = socket;
    this.bindings.clear();
    socket.binaryType = "arraybuffer";
    socket.onopen = () => this.onOpen(socket);
    socket.onmessage = (message: MessageEvent<unknown>) => this.onMessage(socket, message.data);
    socket.onclose = () => this.onClose(socket);
    this.deadline(socket, OPEN_MS);
  }

  private onOpen(socket: WebSocket): void {
    if (socket !== this.socket) return;
    this.answered();
    this.greet();
    this.setState("connected");
    this.armQuiet();
  }

  /** Says where each session stands, then sends what is unanswered, in the order in which it was asked. */
  private greet(): void {
    this.write({ hello: { version: PROTOCOL_VERSION, cursors: this.listener.cursors() } });
    for (const command of this.outbox.pending()) this.write(command);
  }

  private onMessage(socket: WebSocket, data: unknown): void {
    if (socket !== this.socket) return;
    this.answered();
    this.attempt = 0;
    this.armQuiet();
    if (data instanceof ArrayBuffer) {
      const blob = parseTerminalFrame(data);
      if (blob) this.listener.onTerminal(blob.terminal, blob.bytes);
      return;
    }
    const frame = typeof data === "string" ? parseFrame(data) : undefined;
    if (frame) this.dispatch(frame);
  }

  private dispatch(frame: ServerFrame): void {
    if (frame.kind === "response") {
      this.outbox.settle(frame.response);
      return;
    }
    if (frame.kind === "event") {
      // A runner may be hostile: an event counts only for the session that its handle is bound to.
      if (this.bindings.get(frame.handle) === frame.event.session_id) this.listener.onEvent(frame.event);
      return;
    }
    this.onControl(frame.control, frame.handle);
  }

  private onControl(control: ToClient, handle: number | undefined): void {
    if (control.type === "subscribed" && handle !== undefined) this.bindings.set(handle, control.session_id);
    if (control.type === "runner_lost") this.setState("runner_lost", control.error);
    if (control.type === "runner_ready") {
      this.bindings.clear();
      this.greet();
      this.setState("connected");
    }
    this.listener.onControl(control);
  }

  private onClose(socket: WebSocket): void {
    if (socket !== this.socket) return;
    this.dropSocket();
    this.retryLater();
  }

  private retryLater(): void {
    if (this.stopped) return;
    this.setState("reconnecting");
    clearTimeout(this.retryTimer);
    this.retryTimer = setTimeout(() => void this.connect(), backoffDelay(this.attempt, this.environment.random));
    this.attempt += 1;
  }

  private armQuiet(): void {
    clearTimeout(this.quietTimer);
    this.quietTimer = setTimeout(() => this.tryOut(TRIAL_MS), QUIET_MS);
  }

  /** Asks something cheap; silence means a half-open socket, which is dropped and replaced. */
  private tryOut(deadline: number): void {
    if (this.trialTimer !== undefined || !this.socket) return;
    const socket = this.socket;
    this.write(this.compose({ cmd: "session.list", limit: 1 }));
    this.deadline(socket, deadline);
  }

  /** Gives `socket` up unless it answers in time. */
  private deadline(socket: WebSocket, after: number): void {
    this.trialTimer = setTimeout(() => {
      if (socket !== this.socket) return;
      this.dropSocket();
      this.retryLater();
    }, after);
  }

  private answered(): void {
    clearTimeout(this.trialTimer);
    this.trialTimer = undefined;
  }

  private dropSocket(): void {
    clearTimeout(this.quietTimer);
    this.answered();
    const socket = this.socket;
    this.socket = undefined;
    this.bindings.clear();
    socket?.close();
  }

  private write(frame: Command | { hello: unknown }): void {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(frame));
  }

  private setState(state: ConnectionState, error?: ErrorBody): void {
    this.state = state;
    this.listener.onState(state, error);
  }
}
