/** Beside the conversation: terminals, files, changes and network of the session, all of them inside its sandbox. */
import { Maximize2, Minimize2, X } from "lucide-react";
import { useState, type KeyboardEvent } from "react";
import type { SessionModel } from "../../state/model";
import { FilesPanel } from "./FilesPanel";
import { GitPanel } from "./GitPanel";
import { NetworkPanel } from "./NetworkPanel";
import { PANELS, PANEL_NAMES, type PanelName } from "./panels";
import { TerminalPanel } from "./TerminalPanel";

interface Props {
  readonly model: SessionModel;
  readonly sessionId: string;
  readonly panel: PanelName;
  readonly onShow: (panel: PanelName | undefined) => void;
}

/** The neighbour of a tab in the direction of an arrow key. */
export function neighbour<T>(tabs: readonly T[], current: T, key: string): T | undefined {
  const step = key === "ArrowRight" ? 1 : key === "ArrowLeft" ? -1 : 0;
  const at = tabs.indexOf(current);
  if (step === 0 || at < 0) return undefined;
  return tabs[(at + step + tabs.length) % tabs.length];
}

function Tabs({ panel, onShow }: { panel: PanelName; onShow: (panel: PanelName) => void }) {
  const onKey = (event: KeyboardEvent<HTMLElement>) => {
    const next = neighbour(PANEL_NAMES, panel, event.key);
    if (!next) return;
    event.preventDefault();
    onShow(next);
    document.getElementById(`workbench-tab-${next}`)?.focus();
  };
  return (
    <div className="workbench-tabs" role="tablist" aria-label="Beside the conversation" tabIndex={-1} onKeyDown={onKey}>
      {PANEL_NAMES.map((name) => {
        const { title, icon: Icon } = PANELS[name];
        return (
          <button
            key={name}
            id={`workbench-tab-${name}`}
            type="button"
            role="tab"
            aria-selected={name === panel}
            aria-controls="workbench-panel"
            tabIndex={name === panel ? 0 : -1}
            data-testid={`tab-${name}`}
            onClick={() => onShow(name)}
          >
            <Icon size={14} aria-hidden /> {title}
          </button>
        );
      })}
    </div>
  );
}

function Panel({ model, sessionId, panel }: Omit<Props, "onShow">) {
  switch (panel) {
    case "terminal":
      return <TerminalPanel sessionId={sessionId} />;
    case "files":
      return <FilesPanel sessionId={sessionId} />;
    case "changes":
      return <GitPanel sessionId={sessionId} />;
    case "network":
      return <NetworkPanel log={model.network} />;
  }
}

export function Workbench({ model, sessionId, panel, onShow }: Props) {
  const [wide, setWide] = useState(false);
  const resize = wide ? "Make it smaller" : "Make it larger";
  const Resize = wide ? Minimize2 : Maximize2;
  return (
    <aside className={wide ? "workbench wide" : "workbench"} aria-label="Workspace of the session" data-testid="workbench">
      <header className="workbench-head">
        <Tabs panel={panel} onShow={onShow} />
        <button type="button" className="icon-button small workbench-resize" aria-label={resize} title={resize} aria-pressed={wide} onClick={() => setWide(!wide)}>
          <Resize size={14} aria-hidden />
        </button>
        <button type="button" className="icon-button small" aria-label="Close the panel" title="Close the panel" data-testid="workbench-close" onClick={() => onShow(undefined)}>
          <X size={16} aria-hidden />
        </button>
      </header>
      <div className="workbench-body" id="workbench-panel" role="tabpanel" aria-labelledby={`workbench-tab-${panel}`}>
        <Panel key={panel} model={model} sessionId={sessionId} panel={panel} />
      </div>
    </aside>
  );
}
