/** What Git says of the workspace. It runs inside the session's sandbox, without hooks and filters of the workspace. */
import { GitBranch, RotateCw } from "lucide-react";
import { useCallback, useEffect, useRef, useState } from "react";
import { useClient } from "../../app/context";
import { parsePatch, type DiffLine } from "../../lib/diff";
import { cleanTerminal } from "../../lib/terminal";
import type { ErrorBody, GitEntry, GitStatus } from "../../protocol/generated";
import { errorBody } from "../../protocol/wire";
import type { Client } from "../../state/client";
import { readFile, readGitDiff, readGitStatus } from "../../state/results";
import { DiffView } from "../DiffView";
import { ErrorNote } from "../OtherPart";
import { useTurnEnd } from "./FilesPanel";

type GroupName = "staged" | "changed" | "untracked";

const GROUPS: Readonly<Record<GroupName, string>> = { staged: "Staged", changed: "Changed", untracked: "Not tracked" };

const LETTERS: Readonly<Record<string, string>> = {
  M: "modified", A: "added", D: "deleted", R: "renamed", C: "copied", T: "type changed", U: "in conflict", "?": "not tracked",
};

export interface Change {
  readonly group: GroupName;
  readonly entry: GitEntry;
  readonly letter: string;
}

/** Entries by what a commit would do with them; one that is staged and changed again is in two groups. */
export function changesOf(entries: readonly GitEntry[]): readonly Change[] {
  return entries.flatMap((entry): Change[] => {
    if (entry.worktree === "?") return [{ group: "untracked", entry, letter: "?" }];
    const staged: Change[] = entry.index === "." ? [] : [{ group: "staged", entry, letter: entry.index }];
    const changed: Change[] = entry.worktree === "." ? [] : [{ group: "changed", entry, letter: entry.worktree }];
    return [...staged, ...changed];
  });
}

const keyOf = ({ group, entry }: Change): string => `${group} ${entry.path}`;

interface Shown {
  readonly lines: readonly DiffLine[];
  readonly note?: string | undefined;
}

/** The difference that a change makes; of a file that Git does not know, all of it. */
async function fetchDiff(client: Client, sessionId: string, { group, entry }: Change): Promise<Shown> {
  if (group === "untracked") {
    if (entry.path.endsWith("/")) return { lines: [], note: "A folder that Git does not track. Its files are in the Files panel." };
    const file = readFile(await client.send({ cmd: "file.read", path: entry.path }, sessionId));
    if (file?.text === undefined) return { lines: [], note: "Not text." };
    return { lines: cleanTerminal(file.text).replace(/\n$/, "").split("\n").map((text) => ({ kind: "add", text })) };
  }
  const body = { cmd: "git.diff" as const, path: entry.path, staged: group === "staged" };
  const diff = readGitDiff(await client.send(body, sessionId));
  return { lines: parsePatch(cleanTerminal(diff.text)), ...(diff.truncated ? { note: "The rest is too long to be shown." } : {}) };
}

function useStatus(sessionId: string) {
  const client = useClient();
  const [status, setStatus] = useState<GitStatus>();
  const [error, setError] = useState<ErrorBody>();
  const [edition, setEdition] = useState(0);
  const live = useRef(true);
  const refresh = useCallback(() => {
    client
      .send({ cmd: "git.status" }, sessionId)
      .then((found) => {
        if (!live.current) return;
        setStatus(readGitStatus(found));
        setError(undefined);
        setEdition((before) => before + 1);
      })
      .catch((failure: unknown) => live.current && setError(errorBody(failure)));
  }, [client, sessionId]);
  useEffect(() => {
    live.current = true;
    refresh();
    return () => {
      live.current = false;
    };
  }, [refresh]);
  return { status, error, refresh, edition };
}

function Difference({ sessionId, change, edition }: { sessionId: string; change: Change; edition: number }) {
  const client = useClient();
  const [shown, setShown] = useState<Shown>();
  const [error, setError] = useState<ErrorBody>();
  const key = keyOf(change);
  const latest = useRef(change);
  useEffect(() => {
    latest.current = change;
  });
  useEffect(() => {
    let live = true;
    fetchDiff(client, sessionId, latest.current)
      .then((found) => live && setShown(found))
      .catch((failure: unknown) => live && setError(errorBody(failure)));
    return () => {
      live = false;
    };
  }, [client, sessionId, key, edition]);
  if (error) return <ErrorNote code={error.code} message={error.message} />;
  if (!shown) return <p className="panel-empty" role="status">Reading the change</p>;
  return (
    <div className="git-diff" data-testid="git-diff">
      {shown.lines.length > 0 && <DiffView lines={shown.lines} />}
      {shown.note && <p className="file-note">{shown.note}</p>}
      {shown.lines.length === 0 && !shown.note && <p className="file-note">No lines changed.</p>}
    </div>
  );
}

interface GroupProps {
  readonly name: GroupName;
  readonly changes: readonly Change[];
  readonly current: string | undefined;
  readonly onChoose: (key: string) => void;
}

function Group({ name, changes, current, onChoose }: GroupProps) {
  const own = changes.filter((change) => change.group === name);
  if (own.length === 0) return null;
  return (
    <section className="git-group">
      <h2>
        {GROUPS[name]} <small>{own.length}</small>
      </h2>
      <ul>
        {own.map((change) => (
          <li key={keyOf(change)}>
            <button
              type="button"
              className={keyOf(change) === current ? "tree-entry current" : "tree-entry"}
              aria-pressed={keyOf(change) === current}
              data-testid="git-entry"
              data-path={change.entry.path}
              data-group={name}
              onClick={() => onChoose(keyOf(change))}
            >
              <span className={`git-letter git-${change.letter === "?" ? "new" : change.letter}`} title={LETTERS[change.letter]}>
                {change.letter}
                <span className="visually-hidden"> {LETTERS[change.letter]}</span>
              </span>
              <span className="ellipsis">
                {change.entry.original_path && `${cleanTerminal(change.entry.original_path)} → `}
                {cleanTerminal(change.entry.path)}
              </span>
            </button>
          </li>
        ))}
      </ul>
    </section>
  );
}

function Branch({ status, onRefresh }: { status: GitStatus; onRefresh: () => void }) {
  return (
    <div className="panel-bar">
      <span className="git-branch ellipsis">
        <GitBranch size={14} aria-hidden /> <strong>{status.branch === undefined ? "No branch" : cleanTerminal(status.branch)}</strong>
        {status.ahead > 0 && <small>{status.ahead} ahead</small>}
        {status.behind > 0 && <small>{status.behind} behind</small>}
      </span>
      <button type="button" className="icon-button small" aria-label="Ask Git again" title="Ask again" onClick={onRefresh}>
        <RotateCw size={14} aria-hidden />
      </button>
    </div>
  );
}

export function GitPanel({ sessionId }: { sessionId: string }) {
  const { status, error, refresh, edition } = useStatus(sessionId);
  const [chosen, setChosen] = useState<string>();
  useTurnEnd(sessionId, refresh);
  if (error) return <div className="panel-empty"><ErrorNote code={error.code} message={error.message} /></div>;
  if (!status) return <p className="panel-empty" role="status">Asking Git</p>;
  if (!status.repository) return <p className="panel-empty">This workspace is not a Git repository.</p>;
  const changes = changesOf(status.entries);
  const change = changes.find((candidate) => keyOf(candidate) === chosen);
  return (
    <div className="panel-column git-panel">
      <Branch status={status} onRefresh={refresh} />
      <div className="git-list">
        {changes.length === 0 && <p className="panel-empty">Nothing has changed since the last commit.</p>}
        <Group name="staged" changes={changes} current={chosen} onChoose={setChosen} />
        <Group name="changed" changes={changes} current={chosen} onChoose={setChosen} />
        <Group name="untracked" changes={changes} current={chosen} onChoose={setChosen} />
        {status.truncated && <p className="file-note">There are more changes than can be listed.</p>}
      </div>
      {change && <Difference key={keyOf(change)} sessionId={sessionId} change={change} edition={edition} />}
    </div>
  );
}
