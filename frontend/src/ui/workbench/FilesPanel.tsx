/** The files of the workspace, read and written inside the session's sandbox. */
import { FilePlus, RotateCw } from "lucide-react";
import { useCallback, useEffect, useRef, useState } from "react";
import { useApp, useClient } from "../../app/context";
import { errorBody } from "../../protocol/wire";
import type { Client } from "../../state/client";
import { readListing } from "../../state/results";
import { PromptDialog } from "../SmallDialogs";
import { FileTree, type Folders, type FolderState } from "./FileTree";
import { FileView } from "./FileView";
import { useFile } from "./useFile";

interface Chosen {
  readonly path: string;
  readonly isNew: boolean;
}

async function fetchFolder(client: Client, sessionId: string, path: string): Promise<FolderState> {
  try {
    return { listing: readListing(await client.send({ cmd: "file.list", path }, sessionId)) };
  } catch (failure) {
    return { error: errorBody(failure) };
  }
}

function useFolders(sessionId: string) {
  const client = useClient();
  const [folders, setFolders] = useState<Folders>({});
  const [open, setOpen] = useState<ReadonlySet<string>>(new Set());
  const live = useRef(true);
  const read = useCallback(
    (path: string) => {
      void fetchFolder(client, sessionId, path).then((folder) => {
        if (live.current) setFolders((before) => ({ ...before, [path]: folder }));
      });
    },
    [client, sessionId],
  );
  useEffect(() => {
    live.current = true;
    read("");
    return () => {
      live.current = false;
    };
  }, [read]);
  const toggle = (path: string) => {
    const next = new Set(open);
    if (next.delete(path)) {
      setOpen(next);
      return;
    }
    setOpen(next.add(path));
    read(path);
  };
  const refresh = () => {
    for (const path of ["", ...open]) read(path);
  };
  return { folders, open, toggle, refresh };
}

/** Runs `onEnd` when a turn is over: the agent may have changed what is shown. */
export function useTurnEnd(sessionId: string, onEnd: () => void): void {
  const turn = useApp((state) => state.models[sessionId]?.turnId);
  const before = useRef(turn);
  const latest = useRef(onEnd);
  useEffect(() => {
    latest.current = onEnd;
  });
  useEffect(() => {
    if (before.current !== undefined && turn === undefined) latest.current();
    before.current = turn;
  }, [turn]);
}

function OneFile({ sessionId, chosen }: { sessionId: string; chosen: Chosen }) {
  const file = useFile(sessionId, chosen.path, chosen.isNew);
  useTurnEnd(sessionId, () => {
    if (!file.busy && !file.isNew) file.reload();
  });
  if (!file.content && !file.isNew && !file.error) return <p className="panel-empty" role="status">Reading {chosen.path}</p>;
  return <FileView file={file} path={chosen.path} />;
}

export function FilesPanel({ sessionId }: { sessionId: string }) {
  const { folders, open, toggle, refresh } = useFolders(sessionId);
  const [chosen, setChosen] = useState<Chosen>();
  const [naming, setNaming] = useState(false);
  useTurnEnd(sessionId, refresh);
  return (
    <div className="files-panel">
      <div className="files-side">
        <div className="panel-bar">
          <strong>Workspace</strong>
          <span className="action-group">
            <button type="button" className="icon-button small" aria-label="New file" title="New file" data-testid="file-new" onClick={() => setNaming(true)}>
              <FilePlus size={14} aria-hidden />
            </button>
            <button type="button" className="icon-button small" aria-label="Read the tree again" title="Read again" data-testid="files-refresh" onClick={refresh}>
              <RotateCw size={14} aria-hidden />
            </button>
          </span>
        </div>
        <FileTree folders={folders} open={open} current={chosen?.path} onToggle={toggle} onFile={(path) => setChosen({ path, isNew: false })} />
      </div>
      <div className="files-main">
        {chosen ? (
          <OneFile key={`${chosen.path} ${chosen.isNew ? "new" : ""}`} sessionId={sessionId} chosen={chosen} />
        ) : (
          <p className="panel-empty muted">Choose a file.</p>
        )}
      </div>
      {naming && (
        <PromptDialog
          title="New file"
          label="Path in the workspace"
          value=""
          action="Write it"
          onClose={() => setNaming(false)}
          onSubmit={(path) => {
            setNaming(false);
            setChosen({ path: path.replace(/^\/+/, ""), isNew: true });
          }}
        />
      )}
    </div>
  );
}
