/** Keys that work anywhere but in a text field or a dialog. */
import { useEffect } from "react";

export interface Shortcuts {
  readonly newSession: () => void;
  readonly help: () => void;
  /** Moves to the next (1) or previous (-1) session of the list. */
  readonly move: (step: 1 | -1) => void;
}

function isTyping(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));
}

export function useShortcuts({ newSession, help, move }: Shortcuts): void {
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.isComposing || event.defaultPrevented || document.querySelector("dialog[open]")) return;
      if ((event.ctrlKey || event.metaKey) && !event.altKey && event.key.toLowerCase() === "k") {
        event.preventDefault();
        newSession();
        return;
      }
      if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
      const actions: Readonly<Record<string, () => void>> = {
        "?": help,
        n: newSession,
        j: () => move(1),
        k: () => move(-1),
        "/": () => document.querySelector<HTMLElement>("[data-testid=composer]")?.focus(),
      };
      const action = actions[event.key];
      if (!action) return;
      event.preventDefault();
      action();
    };
    window.addEventListener("keydown", onKey);
    return () => window.removeEventListener("keydown", onKey);
  }, [newSession, help, move]);
}
