/** The workspace as a tree whose folders are read when they are opened. */
import { ChevronDown, ChevronRight, File, FileSymlink, Folder, Plug } from "lucide-react";
import { useState } from "react";
import { cleanTerminal } from "../../lib/terminal";
import type { ErrorBody, FileEntry, FileKind, FileListing } from "../../protocol/generated";
import { joinPath, SHOWN_ENTRIES } from "./files";

export interface FolderState {
  readonly listing?: FileListing | undefined;
  readonly error?: ErrorBody | undefined;
}

export type Folders = Readonly<Record<string, FolderState>>;

interface TreeProps {
  readonly folders: Folders;
  readonly open: ReadonlySet<string>;
  readonly current: string | undefined;
  readonly onToggle: (path: string) => void;
  readonly onFile: (path: string) => void;
}

const ICONS = { file: File, directory: Folder, symlink: FileSymlink, special: Plug } as const;
const NOTES: Readonly<Partial<Record<FileKind, string>>> = {
  special: "A socket, pipe or device: it is not opened",
};

function Entry({ entry, path, ...tree }: TreeProps & { entry: FileEntry; path: string }) {
  const Icon = ICONS[entry.kind] ?? File;
  const name = cleanTerminal(entry.name);
  const folder = entry.kind === "directory";
  const expanded = folder && tree.open.has(path);
  const Chevron = expanded ? ChevronDown : ChevronRight;
  return (
    <li>
      <button
        type="button"
        className={path === tree.current ? "tree-entry current" : "tree-entry"}
        aria-expanded={folder ? expanded : undefined}
        aria-current={path === tree.current ? "true" : undefined}
        disabled={entry.kind === "special"}
        title={NOTES[entry.kind] ?? (entry.target === undefined ? name : `${name} → ${cleanTerminal(entry.target)}`)}
        data-testid="tree-entry"
        data-path={path}
        data-kind={entry.kind}
        onClick={() => (folder ? tree.onToggle(path) : tree.onFile(path))}
      >
        {folder ? <Chevron size={12} aria-hidden /> : <span className="tree-space" />}
        <Icon size={14} aria-hidden />
        <span className="ellipsis">{name}</span>
        {entry.target !== undefined && <small className="ellipsis">→ {cleanTerminal(entry.target)}</small>}
      </button>
      {expanded && <Listing path={path} {...tree} />}
    </li>
  );
}

function Listing({ path, ...tree }: TreeProps & { path: string }) {
  const [limit, setLimit] = useState(SHOWN_ENTRIES);
  const folder = tree.folders[path];
  if (folder?.error) return <p className="tree-note">{folder.error.message}</p>;
  const entries = folder?.listing?.entries;
  if (!entries) return <p className="tree-note" role="status">Reading</p>;
  if (entries.length === 0) return <p className="tree-note">Empty</p>;
  return (
    <ul className="tree">
      {entries.slice(0, limit).map((entry) => (
        <Entry key={entry.name} entry={entry} path={joinPath(path, entry.name)} {...tree} />
      ))}
      {entries.length > limit && (
        <li>
          <button type="button" className="link-button" onClick={() => setLimit(limit + SHOWN_ENTRIES)}>
            {entries.length - limit} more
          </button>
        </li>
      )}
      {folder.listing?.truncated && <li className="tree-note">This folder has more entries than can be listed.</li>}
    </ul>
  );
}

export function FileTree(tree: TreeProps) {
  return (
    <nav className="file-tree" aria-label="Files of the workspace" data-testid="file-tree">
      <Listing path="" {...tree} />
    </nav>
  );
}
