/** Terminals of sessions: which there are, what they have shown, and how they come back after a broken connection. */
import type { CommandBody, SessionId, TerminalExit, ToClient } from "../protocol/generated";
import { readTerminal, readTerminals } from "./results";
import { Store } from "./store";

/** What is kept of a terminal's output, so that a panel that was closed shows it again; bytes. */
export const KEPT_BYTES = 256 * 1024;
/** What comes for so long after a terminal was attached again is what it has shown before. */
const REPLAY_MS = 400;
/** Keys typed at a terminal that is being attached again wait for it, so long and so many bytes. */
const HELD_MS = 5_000;
const HELD_BYTES = 4_096;
/** Terminals whose output is kept; the runner allows fewer. */
const MAX_FEEDS = 64;

export interface TerminalView {
  readonly id: number;
  readonly sessionId: SessionId;
  readonly openedAt: number;
  /** Set when its shell has ended. */
  readonly exit?: TerminalExit | undefined;
}

/** Where the bytes of a terminal go: the one panel that shows it. */
export interface Sink {
  reset(): void;
  /** `again`: the bytes were shown before, so that questions in them to the terminal have been answered. */
  write(bytes: Uint8Array, again: boolean): void;
}

/** What this needs of the client. */
export interface Port {
  send(body: CommandBody, sessionId: SessionId): Promise<unknown>;
  type(terminal: number, bytes: Uint8Array): boolean;
}

export interface Size {
  readonly rows: number;
  readonly cols: number;
}

class Feed {
  private chunks: Uint8Array[] = [];
  private kept = 0;
  sink: Sink | undefined;
  /** The next bytes begin with the whole scrollback: what was shown before gives way to them. */
  stale = false;
  private replayedUntil = 0;

  push(bytes: Uint8Array): void {
    this.begin();
    this.chunks.push(bytes);
    this.kept += bytes.length;
    while (this.kept > KEPT_BYTES && this.chunks.length > 1) this.kept -= this.chunks.shift()?.length ?? 0;
    this.sink?.write(bytes, Date.now() < this.replayedUntil);
  }

  begin(): void {
    if (!this.stale) return;
    this.stale = false;
    this.replayedUntil = Date.now() + REPLAY_MS;
    this.chunks = [];
    this.kept = 0;
    this.sink?.reset();
  }

  attach(sink: Sink): void {
    this.sink = sink;
    for (const chunk of this.chunks) sink.write(chunk, true);
  }
}

export class Terminals {
  readonly store = new Store<readonly TerminalView[]>([]);
  private readonly feeds = new Map<number, Feed>();
  /** Terminals whose output comes over the present connection. */
  private readonly attached = new Set<number>();
  /** Those of them that take keys: the runner has said that they are attached. */
  private readonly ready = new Set<number>();
  private readonly held = new Map<number, { readonly at: number; readonly bytes: Uint8Array }[]>();

  constructor(private readonly port: Port) {}

  /** Opens a shell in the session's sandbox and resolves with its number. */
  async open(sessionId: SessionId, { rows, cols }: Size): Promise<number | undefined> {
    const terminal = readTerminal(await this.port.send({ cmd: "terminal.open", rows, cols }, sessionId));
    if (!terminal) return undefined;
    this.attached.add(terminal.terminal_id);
    this.ready.add(terminal.terminal_id);
    this.add({ id: terminal.terminal_id, sessionId, openedAt: terminal.opened_at });
    return terminal.terminal_id;
  }

  /** Finds the terminals that the session has, and follows each of them. */
  async load(sessionId: SessionId): Promise<void> {
    const found = readTerminals(await this.port.send({ cmd: "terminal.list" }, sessionId));
    const there = new Set(found.map((terminal) => terminal.terminal_id));
    const gone = { reason: "It ended while nobody was connected." };
    this.store.set((views) =>
      views.map((view) => (view.sessionId !== sessionId || view.exit || there.has(view.id) ? view : { ...view, exit: gone })),
    );
    for (const { terminal_id: id, opened_at: openedAt } of found) this.add({ id, sessionId, openedAt });
    await Promise.all(found.map(({ terminal_id: id }) => this.attach(sessionId, id)));
  }

  resize(sessionId: SessionId, id: number, { rows, cols }: Size): void {
    this.port.send({ cmd: "terminal.resize", terminal_id: id, rows, cols }, sessionId).catch(() => undefined);
  }

  type(id: number, text: string): boolean {
    return this.typeBytes(id, new TextEncoder().encode(text));
  }

  typeBytes(id: number, bytes: Uint8Array): boolean {
    if (this.ready.has(id)) return this.port.type(id, bytes);
    const held = this.held.get(id) ?? [];
    const size = held.reduce((sum, keys) => sum + keys.bytes.length, bytes.length);
    if (size > HELD_BYTES) return false;
    this.held.set(id, [...held, { at: Date.now(), bytes }]);
    return true;
  }

  /** What was typed a moment ago arrives; of what is older nobody would expect it any more. */
  private takesKeys(id: number): void {
    this.ready.add(id);
    const since = Date.now() - HELD_MS;
    for (const { at, bytes } of this.held.get(id) ?? []) if (at >= since) this.port.type(id, bytes);
    this.held.delete(id);
  }

  /** Ends a shell; of one that has ended only the tab goes. */
  async close(sessionId: SessionId, id: number): Promise<void> {
    const view = this.store.get().find((other) => other.id === id);
    if (view && !view.exit) await this.port.send({ cmd: "terminal.close", terminal_id: id }, sessionId);
    this.forget((other) => other.id === id);
  }

  /** Shows a terminal: what was kept of its output, then what comes. Returns how to stop. */
  show(id: number, sink: Sink): () => void {
    const feed = this.feed(id);
    feed?.attach(sink);
    return () => {
      if (feed?.sink === sink) feed.sink = undefined;
    };
  }

  onBytes(id: number, bytes: Uint8Array): void {
    this.feed(id)?.push(bytes);
  }

  onControl(control: ToClient): void {
    if (control.type === "terminal_closed") {
      const { terminal_id: id, session_id: sessionId, exit } = control;
      const ended = (view: TerminalView) => (view.id === id && view.sessionId === sessionId ? { ...view, exit } : view);
      this.store.set((views) => views.map(ended));
      this.detached(id);
    } else if (control.type === "terminal_lagged") {
      const view = this.store.get().find((other) => other.id === control.terminal_id);
      this.detached(control.terminal_id);
      if (view && !view.exit) void this.attach(view.sessionId, view.id).catch(() => undefined);
    } else if (control.type === "session_removed") {
      this.forget((view) => view.sessionId === control.session_id);
    }
  }

  /** The connection or the runner went: nothing comes until each terminal is attached again. */
  onLost(): void {
    this.attached.clear();
    this.ready.clear();
  }

  private detached(id: number): void {
    this.attached.delete(id);
    this.ready.delete(id);
  }

  private async attach(sessionId: SessionId, id: number): Promise<void> {
    if (this.attached.has(id)) return;
    this.attached.add(id);
    const feed = this.feed(id);
    if (feed) feed.stale = true;
    try {
      await this.port.send({ cmd: "terminal.attach", terminal_id: id }, sessionId);
      feed?.begin();
      if (this.attached.has(id)) this.takesKeys(id);
    } catch (error) {
      this.detached(id);
      throw error;
    }
  }

  private add(view: TerminalView): void {
    this.store.set((views) => {
      const same = (other: TerminalView) =>
        other.id === view.id && other.sessionId === view.sessionId && other.openedAt === view.openedAt;
      if (views.some(same)) return views;
      // A number that was free again: nothing of the older terminal belongs to this one.
      if (views.some((other) => other.id === view.id)) this.feeds.delete(view.id);
      return [...views.filter((other) => other.id !== view.id), view].sort((a, b) => a.openedAt - b.openedAt || a.id - b.id);
    });
  }

  private forget(gone: (view: TerminalView) => boolean): void {
    for (const view of this.store.get().filter(gone)) {
      this.feeds.delete(view.id);
      this.held.delete(view.id);
      this.detached(view.id);
    }
    this.store.set((views) => views.filter((view) => !gone(view)));
  }

  private feed(id: number): Feed | undefined {
    const known = this.feeds.get(id);
    if (known) return known;
    // Bytes may come before the answer that names their terminal, but not of any number of terminals.
    if (this.feeds.size >= MAX_FEEDS) this.dropStrayFeed();
    if (this.feeds.size >= MAX_FEEDS) return undefined;
    const feed = new Feed();
    this.feeds.set(id, feed);
    return feed;
  }

  private dropStrayFeed(): void {
    const named = new Set(this.store.get().map((view) => view.id));
    const stray = [...this.feeds].find(([id, feed]) => !named.has(id) && !feed.sink);
    if (stray) this.feeds.delete(stray[0]);
  }
}
