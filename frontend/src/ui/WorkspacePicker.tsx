import { FolderClosed, FolderPlus } from "lucide-react";
import type { WorkspaceInfo } from "../protocol/generated";

interface Props {
  readonly workspaces: readonly WorkspaceInfo[];
  readonly value: string;
  readonly onChange: (value: string) => void;
}

const SHOWN = 6;

function consequence(value: string, workspaces: readonly WorkspaceInfo[]): string {
  const typed = value.trim();
  if (typed === "") return "The agent sees this folder and nothing else.";
  const known = workspaces.find((workspace) => workspace.path === typed || workspace.name === typed);
  if (known) {
    const others = known.sessions.length;
    if (others === 0) return known.path;
    return `${known.path}, where ${others === 1 ? "another session works" : `${others} other sessions work`} already`;
  }
  return typed.startsWith("/") ? "A folder on the server, inside an allowed root" : `A new folder “${typed}” will be made`;
}

export function WorkspacePicker({ workspaces, value, onChange }: Props) {
  const typed = value.trim().toLowerCase();
  const exact = workspaces.some((workspace) => workspace.name === value.trim() || workspace.path === value.trim());
  const shown = workspaces
    .filter((workspace) => exact || typed === "" || workspace.path.toLowerCase().includes(typed))
    .slice(0, SHOWN);
  const isNew = value.trim() !== "" && !exact && !value.trim().startsWith("/");
  return (
    <div className="workspace">
      <label className="labelled" htmlFor="workspace-input">
        <span>Workspace</span>
      </label>
      <div className="workspace-field">
        {isNew ? <FolderPlus size={16} aria-hidden /> : <FolderClosed size={16} aria-hidden />}
        <input
          id="workspace-input"
          data-testid="workspace-input"
          className="field"
          value={value}
          placeholder="Name of a folder, or a path"
          autoComplete="off"
          spellCheck={false}
          aria-describedby="workspace-note"
          onChange={(event) => onChange(event.target.value)}
        />
      </div>
      <p className="muted" id="workspace-note">
        {consequence(value, workspaces)}
      </p>
      {shown.length > 0 && (
        <div className="workspace-known" role="group" aria-label="Known workspaces">
          {shown.map((workspace) => (
            <button
              key={workspace.path}
              type="button"
              className="chip-button"
              aria-pressed={workspace.name === value || workspace.path === value}
              title={workspace.path}
              onClick={() => onChange(workspace.name)}
            >
              {workspace.name}
            </button>
          ))}
        </div>
      )}
    </div>
  );
}
