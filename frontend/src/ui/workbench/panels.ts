/** The panels beside the conversation, and which one is open. */
import { FolderTree, GitCompare, Globe, SquareTerminal, type LucideIcon } from "lucide-react";
import { useState } from "react";
import { load, save } from "../../lib/storage";

export type PanelName = "terminal" | "files" | "changes" | "network";

export interface PanelWords {
  readonly title: string;
  readonly icon: LucideIcon;
}

export const PANELS: Readonly<Record<PanelName, PanelWords>> = {
  terminal: { title: "Terminal", icon: SquareTerminal },
  files: { title: "Files", icon: FolderTree },
  changes: { title: "Changes", icon: GitCompare },
  network: { title: "Network", icon: Globe },
};

export const PANEL_NAMES = Object.keys(PANELS) as readonly PanelName[];

const isPanel = (name: string | undefined): name is PanelName => name !== undefined && name in PANELS;

/** Which panel is open. It comes back after a reload of the same session, and only there. */
export function usePanel(sessionId: string) {
  const key = `panel.${sessionId}`;
  const [panel, setPanel] = useState<PanelName | undefined>(() => {
    const stored = load(key);
    return isPanel(stored) ? stored : undefined;
  });
  const show = (next: PanelName | undefined) => {
    setPanel(next);
    save(key, next);
  };
  return { panel, show, toggle: (name: PanelName) => show(panel === name ? undefined : name) };
}
