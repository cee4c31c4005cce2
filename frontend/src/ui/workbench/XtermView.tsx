/** One terminal on the page. Loaded on demand: xterm.js is larger than all the rest. */
import { FitAddon } from "@xterm/addon-fit";
import { Terminal } from "@xterm/xterm";
import "@xterm/xterm/css/xterm.css";
import { useEffect, useRef } from "react";
import type { Size, Terminals } from "../../state/terminals";
import { isAnswer } from "./xterm-answers";
import { withStyleSheets } from "./xterm-document";

const SCROLLBACK_LINES = 5_000;
const RESIZE_PAUSE_MS = 100;

function colours(): { background: string; foreground: string; cursor: string; selectionBackground: string } {
  const style = getComputedStyle(document.documentElement);
  const value = (name: string) => style.getPropertyValue(name).trim();
  return {
    background: value("--surface"),
    foreground: value("--text"),
    cursor: value("--accent"),
    selectionBackground: value("--border-strong"),
  };
}

function createTerminal(readAloud: boolean): Terminal {
  return new Terminal({
    allowProposedApi: false,
    cursorBlink: false,
    fontFamily: getComputedStyle(document.documentElement).getPropertyValue("--mono"),
    fontSize: 13,
    minimumContrastRatio: 4.5,
    screenReaderMode: readAloud,
    scrollback: SCROLLBACK_LINES,
    theme: colours(),
    // A link's address is shown before it is followed, and only addresses of the web are.
    linkHandler: { activate: (_, address) => followLink(address), allowNonHttpProtocols: false },
  });
}

function followLink(address: string): void {
  if (window.confirm(`Open this address, which a program in the terminal names?\n\n${address}`)) {
    window.open(address, "_blank", "noopener,noreferrer");
  }
}

/** Keys that belong to the page: leaving the terminal, and copying what is selected. */
function pageKeys(terminal: Terminal, onLeave: () => void): (event: KeyboardEvent) => boolean {
  return (event) => {
    if (event.type !== "keydown") return true;
    if (event.key === "Escape" && event.shiftKey) {
      onLeave();
      return false;
    }
    if (event.ctrlKey && event.shiftKey && event.key.toLowerCase() === "c" && terminal.hasSelection()) {
      event.preventDefault();
      if (window.isSecureContext) void navigator.clipboard.writeText(terminal.getSelection());
      return false;
    }
    return true;
  };
}

/** Keeps the terminal as large as its frame, and says so when it has changed. */
function followFrame(frame: HTMLElement, fit: FitAddon, terminal: Terminal, onSize: (size: Size) => void): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let told = "";
  const apply = () => {
    // A terminal that is not shown has no size, and keeps the one it had.
    if (frame.clientWidth === 0 || frame.clientHeight === 0) return;
    fit.fit();
    const { rows, cols } = terminal;
    if (told === `${rows}x${cols}`) return;
    told = `${rows}x${cols}`;
    onSize({ rows, cols });
  };
  const observer = new ResizeObserver(() => {
    clearTimeout(timer);
    timer = setTimeout(apply, RESIZE_PAUSE_MS);
  });
  observer.observe(frame);
  apply();
  return () => {
    clearTimeout(timer);
    observer.disconnect();
  };
}

interface Props {
  readonly terminals: Terminals;
  readonly sessionId: string;
  readonly id: number;
  readonly active: boolean;
  readonly ended: boolean;
  readonly readAloud: boolean;
  readonly onLeave: () => void;
}

interface Handlers {
  readonly onLeave: () => void;
}

/** Puts a terminal into `frame`; returns it and how to take it away. */
function mount(frame: HTMLElement, { terminals, sessionId, id, readAloud }: Props, handlers: { current: Handlers }) {
  const terminal = createTerminal(readAloud);
  const fit = new FitAddon();
  terminal.loadAddon(fit);
  withStyleSheets(document, () => terminal.open(frame));
  terminal.attachCustomKeyEventHandler(pageKeys(terminal, () => handlers.current.onLeave()));
  // What is shown a second time holds questions to the terminal that were answered when it was shown first.
  let replaying = 0;
  const hide = terminals.show(id, {
    reset: () => terminal.reset(),
    write: (bytes, again) => {
      if (!again) {
        terminal.write(bytes);
        return;
      }
      replaying += 1;
      terminal.write(bytes, () => {
        replaying -= 1;
      });
    },
  });
  const keys = terminal.onData((text) => {
    // Somebody may type while it is shown: only answers are held back.
    if (replaying === 0 || !isAnswer(text)) terminals.type(id, text);
  });
  const raw = terminal.onBinary((text) => {
    terminals.typeBytes(id, Uint8Array.from(text, (letter) => letter.charCodeAt(0)));
  });
  const unfollow = followFrame(frame, fit, terminal, (size) => terminals.resize(sessionId, id, size));
  const retheme = new MutationObserver(() => {
    terminal.options.theme = colours();
  });
  retheme.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
  const unmount = () => {
    retheme.disconnect();
    unfollow();
    hide();
    keys.dispose();
    raw.dispose();
    terminal.dispose();
  };
  return { terminal, unmount };
}

export default function XtermView(props: Props) {
  const { terminals, sessionId, id, active, ended, readAloud, onLeave } = props;
  const frame = useRef<HTMLDivElement>(null);
  const shown = useRef<Terminal>(undefined);
  const handlers = useRef<Handlers>({ onLeave });
  useEffect(() => {
    handlers.current = { onLeave };
  }, [onLeave]);

  useEffect(() => {
    if (!frame.current) return;
    const { terminal, unmount } = mount(frame.current, { terminals, sessionId, id, active, ended, readAloud, onLeave }, handlers);
    shown.current = terminal;
    return () => {
      shown.current = undefined;
      unmount();
    };
    // eslint-disable-next-line react-hooks/exhaustive-deps -- the rest may change while the terminal stays
  }, [terminals, sessionId, id, readAloud]);

  useEffect(() => {
    if (active) shown.current?.focus();
  }, [active]);

  useEffect(() => {
    if (shown.current) shown.current.options.disableStdin = ended;
  }, [ended]);

  return <div ref={frame} className="xterm-frame" hidden={!active} data-testid="xterm" data-terminal-id={id} />;
}
