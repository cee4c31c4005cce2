/** The session list, with what belongs to no session below it. On a narrow screen it is a drawer. */
import { ChartColumn, CircleHelp, Monitor, Moon, Plus, Settings, Sun, X } from "lucide-react";
import { useEffect, useMemo, useState } from "react";
import { useApp } from "../app/context";
import type { Route } from "../app/route";
import { useTheme } from "../app/theme";
import type { SessionInfo } from "../protocol/generated";
import { sortedSessions } from "../state/app-state";
import { Brand } from "./Brand";
import { ConnectionBadge } from "./ConnectionBadge";
import { SessionItem } from "./SessionItem";

interface Props {
  readonly route: Route;
  readonly open: boolean;
  readonly onClose: () => void;
  readonly onNew: () => void;
  readonly onHelp: () => void;
}

const FILTER_FROM = 8;

function SessionList({ current }: { current: string | undefined }) {
  const sessions = useApp((state) => state.sessions);
  const harnesses = useApp((state) => state.harnesses);
  const loaded = useApp((state) => state.sessionsLoaded);
  const [filter, setFilter] = useState("");
  const sorted = useMemo(() => sortedSessions(sessions), [sessions]);
  const wanted = filter.trim().toLowerCase();
  const title = (name: string) => harnesses.find((harness) => harness.name === name)?.title ?? "";
  const words = ({ title: own, workspace, harness }: SessionInfo) => `${own} ${workspace} ${harness} ${title(harness)}`;
  const shown = wanted ? sorted.filter((session) => words(session).toLowerCase().includes(wanted)) : sorted;
  return (
    <nav className="session-nav" aria-label="Sessions">
      {sorted.length >= FILTER_FROM && (
        <input
          type="search"
          className="field session-filter"
          placeholder="Filter sessions"
          aria-label="Filter sessions"
          value={filter}
          onChange={(event) => setFilter(event.target.value)}
        />
      )}
      {!loaded && <div className="session-skeleton" aria-hidden="true" />}
      {loaded && shown.length === 0 && (
        <p className="sidebar-empty">{wanted ? "No session matches." : "No sessions yet."}</p>
      )}
      <ul className="session-list">
        {shown.map((session) => (
          <SessionItem key={session.id} session={session} current={session.id === current} />
        ))}
      </ul>
    </nav>
  );
}

const THEME_ICONS = { system: Monitor, light: Sun, dark: Moon } as const;

function ThemeButton() {
  const { theme, next, cycle } = useTheme();
  const Icon = THEME_ICONS[theme];
  const label = `Colours: ${theme}. Change to ${next}`;
  return (
    <button type="button" className="icon-button" aria-label={label} title={label} data-testid="theme" onClick={cycle}>
      <Icon size={16} aria-hidden />
    </button>
  );
}

function Footer({ onHelp }: { onHelp: () => void }) {
  const account = useApp((state) => state.account);
  return (
    <footer className="sidebar-footer">
      <ConnectionBadge />
      <div className="sidebar-tools">
        <span className="account" title={account?.account}>
          {account?.name}
        </span>
        <a className="icon-button" href="#/usage" aria-label="Usage" title="Usage" data-testid="usage-link">
          <ChartColumn size={16} aria-hidden />
        </a>
        <a className="icon-button" href="#/settings" aria-label="Settings" title="Settings">
          <Settings size={16} aria-hidden />
        </a>
        <ThemeButton />
        <button type="button" className="icon-button" aria-label="Keyboard help" title="Keyboard help" onClick={onHelp}>
          <CircleHelp size={16} aria-hidden />
        </button>
      </div>
    </footer>
  );
}

export function Sidebar({ route, open, onClose, onNew, onHelp }: Props) {
  useEffect(() => {
    if (!open) return;
    const onKey = (event: KeyboardEvent) => {
      if (event.key === "Escape") onClose();
    };
    window.addEventListener("keydown", onKey);
    return () => window.removeEventListener("keydown", onKey);
  }, [open, onClose]);

  return (
    <>
      {open && <div className="drawer-shade" onClick={onClose} aria-hidden="true" />}
      <aside className={open ? "sidebar open" : "sidebar"} aria-label="Lodge">
        <div className="sidebar-top">
          <a href="#/" className="brand-link">
            <Brand />
          </a>
          <button type="button" className="icon-button drawer-close" aria-label="Close the session list" onClick={onClose}>
            <X size={18} aria-hidden />
          </button>
        </div>
        <button type="button" className="button new-session" data-testid="new-session" onClick={onNew}>
          <Plus size={16} aria-hidden /> New session
        </button>
        <SessionList current={route.page === "session" ? route.id : undefined} />
        <Footer onHelp={onHelp} />
      </aside>
    </>
  );
}
