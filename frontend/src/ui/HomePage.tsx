import { Menu as MenuIcon, Plus } from "lucide-react";
import { useApp } from "../app/context";

export function MenuButton({ onMenu }: { onMenu: () => void }) {
  return (
    <button type="button" className="icon-button menu-toggle" aria-label="Sessions" onClick={onMenu}>
      <MenuIcon size={18} aria-hidden />
    </button>
  );
}

export function HomePage({ onMenu, onNew }: { onMenu: () => void; onNew: () => void }) {
  const count = useApp((state) => Object.keys(state.sessions).length);
  return (
    <div className="page">
      <header className="page-header bare">
        <MenuButton onMenu={onMenu} />
      </header>
      <div className="home">
        <h1>{count === 0 ? "Welcome to Lodge" : "What shall we work on?"}</h1>
        <p>
          Run a coding agent in its own sandbox. It sees one workspace and nothing else: no home directory, no open network,
          no keys.
        </p>
        <button type="button" className="button primary" onClick={onNew}>
          <Plus size={16} aria-hidden /> New session
        </button>
        <p className="home-hint">
          or press <kbd>Ctrl K</kbd>
        </p>
      </div>
    </div>
  );
}
