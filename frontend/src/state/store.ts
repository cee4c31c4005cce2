/** A store outside React: changes apply at once; of batched ones listeners hear at most thirty times a second. */
import { useSyncExternalStore } from "react";

/** Text that grows faster than this looks no smoother and costs twice as much. */
const MIN_INTERVAL_MS = 32;

export type Unsubscribe = () => void;

export class Store<S> {
  private readonly listeners = new Set<() => void>();
  private scheduled = false;
  private notified = 0;

  constructor(private state: S) {}

  readonly get = (): S => this.state;

  readonly subscribe = (listener: () => void): Unsubscribe => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  /** Applies a change and tells everyone now. */
  set(change: (state: S) => S): void {
    this.state = change(this.state);
    this.notify();
  }

  /** Applies a change and tells everyone soon: for streams of events. */
  setBatched(change: (state: S) => S): void {
    this.state = change(this.state);
    if (this.scheduled) return;
    this.scheduled = true;
    // A hidden page gets no animation frames, but its title and live regions must still follow.
    if (document.visibilityState !== "visible") setTimeout(() => this.notify(), 100);
    else if (performance.now() - this.notified >= MIN_INTERVAL_MS) requestAnimationFrame(() => this.notify());
    else setTimeout(() => this.notify(), MIN_INTERVAL_MS);
  }

  private notify(): void {
    this.scheduled = false;
    this.notified = performance.now();
    for (const listener of [...this.listeners]) listener();
  }
}

/** The selected slice of a store; the component renders again when the slice is another object. */
export function useStore<S, T>(store: Store<S>, select: (state: S) => T): T {
  return useSyncExternalStore(store.subscribe, () => select(store.get()));
}
