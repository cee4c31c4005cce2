/** Shells inside the session's sandbox. They live on the server: a reload, or the runner's restart, shows them again. */
import { LoaderCircle, Plus, X } from "lucide-react";
import { lazy, Suspense, useCallback, useEffect, useRef, useState } from "react";
import { useApp, useClient } from "../../app/context";
import { load, save } from "../../lib/storage";
import { errorBody } from "../../protocol/wire";
import type { ErrorBody, TerminalExit } from "../../protocol/generated";
import { useStore } from "../../state/store";
import type { TerminalView } from "../../state/terminals";
import { ErrorNote } from "../OtherPart";

const XtermView = lazy(() => import("./XtermView"));

/** Size of a new terminal until its panel has been measured. */
const FIRST_SIZE = { rows: 24, cols: 80 };

const SIGNALS: Readonly<Record<number, string>> = { 1: "HUP", 2: "INT", 3: "QUIT", 6: "ABRT", 9: "KILL", 11: "SEGV", 13: "PIPE", 15: "TERM" };

export function exitText(exit: TerminalExit): string {
  if (exit.code !== undefined) return exit.code === 0 ? "The shell ended." : `The shell ended with status ${exit.code}.`;
  if (exit.signal !== undefined) return `The shell was ended by signal ${SIGNALS[exit.signal] ?? exit.signal}.`;
  return `The shell is gone. ${exit.reason ?? ""}`.trim();
}

const keyOf = (view: TerminalView): string => `${view.id}.${view.openedAt}`;

function useTerminals(sessionId: string) {
  const client = useClient();
  const connected = useApp((state) => state.connection === "connected");
  const all = useStore(client.terminals.store, (views) => views);
  const [error, setError] = useState<ErrorBody>();
  const [loaded, setLoaded] = useState(false);
  useEffect(() => {
    if (!connected) return;
    let live = true;
    client.terminals
      .load(sessionId)
      .then(() => live && setError(undefined))
      .catch((failure: unknown) => live && setError(errorBody(failure)))
      .finally(() => live && setLoaded(true));
    return () => {
      live = false;
    };
  }, [client, sessionId, connected]);
  return { terminals: all.filter((view) => view.sessionId === sessionId), error, setError, loaded, connected };
}

function useOpen(sessionId: string, setError: (error: ErrorBody | undefined) => void, setCurrent: (id: number) => void) {
  const client = useClient();
  const [opening, setOpening] = useState(false);
  const open = () => {
    setOpening(true);
    client.terminals
      .open(sessionId, FIRST_SIZE)
      .then((id) => {
        setError(undefined);
        if (id !== undefined) setCurrent(id);
      })
      .catch((failure: unknown) => setError(errorBody(failure)))
      .finally(() => setOpening(false));
  };
  return { opening, open };
}

interface TabsProps {
  readonly terminals: readonly TerminalView[];
  readonly current: number | undefined;
  readonly opening: boolean;
  readonly onShow: (id: number) => void;
  readonly onClose: (id: number) => void;
  readonly onOpen: () => void;
}

function TerminalTabs({ terminals, current, opening, onShow, onClose, onOpen }: TabsProps) {
  return (
    <ul className="terminal-tabs" aria-label="Terminals">
      {terminals.map((view, index) => (
        <li key={keyOf(view)} className={view.id === current ? "terminal-tab current" : "terminal-tab"}>
          <button
            type="button"
            aria-pressed={view.id === current}
            data-testid="terminal-tab"
            data-terminal-id={view.id}
            data-ended={view.exit ? "" : undefined}
            onClick={() => onShow(view.id)}
          >
            Terminal {index + 1}
            {view.exit && <small>ended</small>}
          </button>
          <button
            type="button"
            className="icon-button small"
            aria-label={view.exit ? `Close terminal ${index + 1}` : `End terminal ${index + 1}`}
            title={view.exit ? "Close" : "End the shell and close"}
            data-testid="terminal-close"
            onClick={() => onClose(view.id)}
          >
            <X size={12} aria-hidden />
          </button>
        </li>
      ))}
      <li>
        <button type="button" className="icon-button small" aria-label="New terminal" title="New terminal" data-testid="terminal-new" disabled={opening} onClick={onOpen}>
          {opening ? <LoaderCircle size={14} className="spin" aria-hidden /> : <Plus size={14} aria-hidden />}
        </button>
      </li>
    </ul>
  );
}

function useReadAloud() {
  const [readAloud, setReadAloud] = useState(() => load("terminal-aloud") === "yes");
  const change = (on: boolean) => {
    setReadAloud(on);
    save("terminal-aloud", on ? "yes" : undefined);
  };
  return { readAloud, change };
}

export function TerminalPanel({ sessionId }: { sessionId: string }) {
  const client = useClient();
  const { terminals, error, setError, loaded, connected } = useTerminals(sessionId);
  const [chosen, setChosen] = useState<number>();
  const { opening, open } = useOpen(sessionId, setError, setChosen);
  const { readAloud, change } = useReadAloud();
  const tabs = useRef<HTMLDivElement>(null);
  const leave = useCallback(() => tabs.current?.querySelector<HTMLElement>("[aria-pressed=true]")?.focus(), []);
  const current = terminals.find((view) => view.id === chosen) ?? terminals.at(-1);
  const close = (id: number) => {
    client.terminals.close(sessionId, id).catch((failure: unknown) => setError(errorBody(failure)));
  };
  return (
    <div className="panel-column terminal-panel">
      <div ref={tabs}>
        <TerminalTabs terminals={terminals} current={current?.id} opening={opening} onShow={setChosen} onClose={close} onOpen={open} />
      </div>
      {error && <ErrorNote code={error.code} message={error.message} />}
      {terminals.length === 0 && loaded && (
        <div className="panel-empty">
          <p>A shell inside of this session’s sandbox, in its workspace. It sees what the agent sees, and no more.</p>
          <button type="button" className="button primary" data-testid="terminal-open" disabled={opening} onClick={open}>
            {opening ? "Opening…" : "Open a terminal"}
          </button>
        </div>
      )}
      <Suspense fallback={<p className="panel-empty" role="status">Loading the terminal</p>}>
        {terminals.map((view) => (
          <XtermView
            key={keyOf(view)}
            terminals={client.terminals}
            sessionId={sessionId}
            id={view.id}
            active={view.id === current?.id}
            ended={view.exit !== undefined}
            readAloud={readAloud}
            onLeave={leave}
          />
        ))}
      </Suspense>
      {current?.exit && (
        <p className="terminal-note" role="status" data-testid="terminal-exit">
          {exitText(current.exit)}
        </p>
      )}
      {current && (
        <div className="terminal-foot">
          <span>{connected ? <>Leave with <kbd>Shift</kbd> <kbd>Esc</kbd></> : "Not connected: keys go nowhere until it is back."}</span>
          <label className="check">
            <input type="checkbox" checked={readAloud} onChange={(event) => change(event.target.checked)} />
            Screen reader
          </label>
        </div>
      )}
    </div>
  );
}
