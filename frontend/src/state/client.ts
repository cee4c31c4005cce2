/** Ties connection and store together: everything the page can ask, and what the server's frames do to the state. */
import type { BlobRef, CommandBody, Cursor, ErrorBody, Event, Part, SessionId, SessionInfo, ToClient } from "../protocol/generated";
import { errorBody } from "../protocol/wire";
import { explain } from "../lib/errors";
import { newId } from "../lib/id";
import { load, save } from "../lib/storage";
import { Connection, type ConnectionState, type Environment } from "../socket/connection";
import { INITIAL_STATE, without, type AppState, type PendingPrompt, type PromptKind, type Toast } from "./app-state";
import { announcementFor, toastFor } from "./announce";
import { cursorOf, fromSnapshot, parseCursor, withOlder, type SessionModel } from "./model";
import { apply } from "./reduce";
import { readHarnesses, readMessages, readSession, readSessions } from "./results";
import { Store } from "./store";
import { Terminals } from "./terminals";

/** Sessions whose state is kept after they were left, so that going back is instant. */
const KEPT_MODELS = 6;
const LIST_PAGE = 200;
const MAX_LIST_PAGES = 50;
const MAX_OLDER_PAGES = 50;
const MAX_DELIVERIES = 8;
const DELIVERY_PAUSE_MS = 1_000;

export class Client {
  readonly store = new Store<AppState>(INITIAL_STATE);
  readonly terminals: Terminals;
  private readonly connection: Connection;
  private active: SessionId | undefined;
  /** Sessions whose missing events were asked for: what arrives before the answer is of no use. */
  private readonly resyncing = new Set<SessionId>();
  private readonly olderCursors = new Map<SessionId, string | undefined>();
  private toastId = 0;

  constructor(environment: Environment) {
    this.connection = new Connection(environment, {
      onState: (state, error) => this.onState(state, error),
      onEvent: (event) => this.onEvent(event),
      onControl: (control) => this.onControl(control),
      onTerminal: (terminal, bytes) => this.terminals.onBytes(terminal, bytes),
      cursors: () => this.cursors(),
    });
    this.terminals = new Terminals({
      send: (body, sessionId) => this.connection.send(body, sessionId),
      type: (terminal, bytes) => this.connection.type(terminal, bytes),
    });
  }

  start(): void {
    this.connection.start();
    for (const prompt of restorePending()) void this.deliver(prompt);
  }

  stop(): void {
    this.connection.stop();
  }

  nudge(): void {
    this.connection.nudge();
  }

  /** Shows a session: its events are followed until another one is opened. */
  open(id: SessionId | undefined): void {
    const before = this.active;
    if (before === id) return;
    this.active = id;
    this.trimModels();
    if (this.store.get().connection !== "connected") return;
    if (before) this.connection.send({ cmd: "session.unsubscribe" }, before).catch(() => undefined);
    if (id) this.subscribe(id, this.cursors()[id] ?? null);
  }

  send(body: CommandBody, sessionId?: SessionId): Promise<unknown> {
    return this.connection.send(body, sessionId);
  }

  /** Sends a command and reports its failure as a notice; resolves with `undefined` then. */
  async attempt(body: CommandBody, sessionId?: SessionId): Promise<{ readonly result: unknown } | undefined> {
    try {
      return { result: await this.send(body, sessionId) };
    } catch (error) {
      this.reportError(errorBody(error), sessionId);
      return undefined;
    }
  }

  /** Sends what the user typed. It is kept on disk until the server has answered, so a reload cannot lose it. */
  prompt(sessionId: SessionId, kind: PromptKind, text: string, images: readonly BlobRef[] = []): void {
    void this.deliver({ clientId: newId(), sessionId, kind, text, ...(images.length > 0 ? { images } : {}) });
  }

  dismissPending(clientId: string): void {
    this.store.set((state) => ({ ...state, pending: state.pending.filter((prompt) => prompt.clientId !== clientId) }));
    this.savePending();
  }

  /** Loads messages before the first one shown. Pages start at the end, so the first may hold only known ones. */
  async loadOlder(sessionId: SessionId): Promise<void> {
    const first = this.store.get().models[sessionId]?.messages[0]?.index ?? 0;
    try {
      for (let pages = 0; pages < MAX_OLDER_PAGES; pages += 1) {
        const cursor = this.olderCursors.get(sessionId);
        const body: CommandBody = { cmd: "get_messages", limit: 100, ...(cursor ? { cursor } : {}) };
        const page = readMessages(await this.send(body, sessionId));
        this.olderCursors.set(sessionId, page.next);
        this.editModel(sessionId, (model) => withOlder(model, page.items, page.next !== undefined));
        if (!page.next || page.items.some((message) => message.index < first)) return;
      }
    } catch (error) {
      this.reportError(errorBody(error), sessionId);
    }
  }

  async fork(sessionId: SessionId, messageId?: string): Promise<SessionInfo | undefined> {
    const body: CommandBody = { cmd: "session.fork", ...(messageId ? { message_id: messageId } : {}) };
    const answer = await this.attempt(body, sessionId);
    const session = answer && readSession(answer.result);
    if (session) this.addSession(session);
    return session;
  }

  /** Asks which harnesses there are, and how far those are that are being installed. */
  async refreshHarnesses(): Promise<void> {
    const harnesses = readHarnesses(await this.send({ cmd: "harness.list" }));
    this.store.set((state) => ({ ...state, harnesses }));
  }

  addSession(session: SessionInfo): void {
    this.store.set((state) => ({ ...state, sessions: { ...state.sessions, [session.id]: session } }));
  }

  reportError(error: ErrorBody, sessionId?: SessionId): void {
    this.toast({ level: "error", message: error.message, code: error.code, hint: explain(error.code).hint, sessionId });
  }

  toast(toast: Omit<Toast, "id">): void {
    this.toastId += 1;
    const id = this.toastId;
    // A flood of notices must not fill the screen.
    this.store.set((state) => ({ ...state, toasts: [...state.toasts.slice(-4), { ...toast, id }] }));
  }

  dismissToast(id: number): void {
    this.store.set((state) => ({ ...state, toasts: state.toasts.filter((toast) => toast.id !== id) }));
  }

  private async deliver(prompt: PendingPrompt): Promise<void> {
    const others = this.store.get().pending.filter((other) => other.clientId !== prompt.clientId);
    this.store.set((state) => ({ ...state, pending: [...others, prompt] }));
    this.savePending();
    const error = await this.sendPrompt(prompt);
    if (!error) {
      this.dismissPending(prompt.clientId);
      return;
    }
    const swap = (other: PendingPrompt) => (other.clientId === prompt.clientId ? { ...prompt, error } : other);
    this.store.set((state) => ({ ...state, pending: state.pending.map(swap) }));
  }

  /** Sends under the same client id while the runner is being restarted; twice the same has one effect. */
  private async sendPrompt(prompt: PendingPrompt): Promise<ErrorBody | undefined> {
    const { kind, sessionId, clientId } = prompt;
    const body: CommandBody = { cmd: kind, parts: partsOf(prompt) };
    for (let attempt = 1; ; attempt += 1) {
      try {
        await this.connection.send(body, sessionId, clientId);
        return undefined;
      } catch (failure) {
        const error = errorBody(failure);
        if (error.code !== "unavailable" || attempt === MAX_DELIVERIES) return error;
        await new Promise((resolve) => setTimeout(resolve, DELIVERY_PAUSE_MS));
      }
    }
  }

  private savePending(): void {
    const pending = this.store.get().pending.map(({ error: _, ...prompt }) => prompt);
    save("outbox", pending.length === 0 ? undefined : JSON.stringify(pending));
  }

  private cursors(): Record<SessionId, Cursor | null> {
    if (!this.active) return {};
    const model = this.store.get().models[this.active];
    return { [this.active]: model && !model.stale ? cursorOf(model) : null };
  }

  private subscribe(id: SessionId, cursor: Cursor | null): void {
    const body: CommandBody = { cmd: "session.subscribe", ...(cursor ? { cursor } : {}) };
    this.connection.send(body, id).catch((error: unknown) => this.setOpenError(id, errorBody(error)));
  }

  /** Closes a gap: asks for what is missing, or for the whole state where that cannot be had. */
  private resync(id: SessionId, cursor: Cursor | null): void {
    if (this.resyncing.has(id)) return;
    this.resyncing.add(id);
    this.subscribe(id, cursor);
  }

  private onState(connection: ConnectionState, connectionError?: ErrorBody): void {
    this.store.set((state) => ({ ...state, connection, connectionError }));
    this.resyncing.clear();
    if (connection !== "connected") this.terminals.onLost();
    if (connection === "connected") {
      void this.refreshList();
      // Without it the page shows harnesses by their short names.
      if (this.store.get().harnesses.length === 0) this.refreshHarnesses().catch(() => undefined);
    }
  }

  private onEvent(event: Event): void {
    const id = event.session_id;
    const model = this.store.get().models[id];
    if (!model || this.resyncing.has(id)) return;
    const applied = apply(model, event);
    if (applied.kind === "duplicate") return;
    if (applied.kind === "gap") {
      this.resync(id, cursorOf(model));
      return;
    }
    const announcement = announcementFor(event, applied.model);
    this.store.setBatched((state) => ({
      ...state,
      models: { ...state.models, [id]: applied.model },
      announcement: announcement ?? state.announcement,
    }));
    const toast = toastFor(event, model);
    if (toast) this.toast(toast);
    if (applied.model.stale) this.resync(id, null);
  }

  private onControl(control: ToClient): void {
    this.terminals.onControl(control);
    switch (control.type) {
      case "welcome":
        this.store.set((state) => ({ ...state, account: { account: control.account, name: control.name } }));
        break;
      case "subscribed":
        this.onSubscribed(control);
        break;
      case "subscribe_failed":
        this.resyncing.delete(control.session_id);
        this.setOpenError(control.session_id, control.error);
        break;
      case "session_changed":
        this.onSessionChanged(control.session);
        break;
      case "session_removed":
        this.forget(control.session_id);
        break;
      case "rejected":
        this.reportError(control.error);
        break;
      default:
        break;
    }
  }

  private onSubscribed(control: Extract<ToClient, { type: "subscribed" }>): void {
    const id = control.session_id;
    this.resyncing.delete(id);
    const cursor = parseCursor(control.cursor);
    if (!cursor) return;
    if (control.verdict === "ok") {
      const model = this.store.get().models[id];
      if (model?.epoch !== cursor.epoch || cursor.seq > model.seq) this.resync(id, null);
      return;
    }
    this.olderCursors.delete(id);
    const model = fromSnapshot(control.state, cursor, this.store.get().models[id]);
    this.store.set((state) => ({
      ...state,
      models: { ...state.models, [id]: model },
      openErrors: without(state.openErrors, id),
    }));
  }

  private onSessionChanged(session: SessionInfo): void {
    const before = this.store.get().sessions[session.id];
    this.addSession(session);
    if (session.needs_input && !before?.needs_input && session.id !== this.active) {
      this.toast({ level: "warning", message: `“${session.title || "Untitled"}” waits for your answer.`, sessionId: session.id });
    }
  }

  private forget(id: SessionId): void {
    this.store.set((state) => ({
      ...state,
      sessions: without(state.sessions, id),
      models: without(state.models, id),
      openErrors: { ...state.openErrors, [id]: { code: "not_found", message: "This session was deleted." } },
    }));
  }

  private setOpenError(id: SessionId, error: ErrorBody): void {
    this.store.set((state) => ({ ...state, openErrors: { ...state.openErrors, [id]: error } }));
  }

  private async refreshList(): Promise<void> {
    const sessions: Record<SessionId, SessionInfo> = {};
    let cursor: string | undefined;
    try {
      for (let page = 0; page < MAX_LIST_PAGES; page += 1) {
        const body: CommandBody = { cmd: "session.list", limit: LIST_PAGE, ...(cursor ? { cursor } : {}) };
        const { items, next } = readSessions(await this.send(body));
        for (const session of items) sessions[session.id] = session;
        cursor = next;
        if (!cursor) break;
      }
      this.store.set((state) => ({ ...state, sessions, sessionsLoaded: true }));
    } catch (error) {
      const body = errorBody(error);
      if (body.code !== "unavailable") this.reportError(body);
    }
  }

  private editModel(id: SessionId, edit: (model: SessionModel) => SessionModel): void {
    this.store.set((state) => {
      const model = state.models[id];
      return model ? { ...state, models: { ...state.models, [id]: edit(model) } } : state;
    });
  }

  private trimModels(): void {
    const ids = Object.keys(this.store.get().models);
    const gone = ids.filter((id) => id !== this.active).slice(0, Math.max(0, ids.length - KEPT_MODELS));
    for (const id of gone) this.store.set((state) => ({ ...state, models: without(state.models, id) }));
  }
}

function partsOf({ text, images = [] }: PendingPrompt): Part[] {
  const shown: Part[] = images.map((blob) => ({ type: "image", blob }));
  return text.trim() === "" && shown.length > 0 ? shown : [{ type: "text", text }, ...shown];
}

function restorePending(): readonly PendingPrompt[] {
  try {
    const value: unknown = JSON.parse(load("outbox") ?? "[]");
    return Array.isArray(value) ? (value as PendingPrompt[]) : [];
  } catch {
    return [];
  }
}
