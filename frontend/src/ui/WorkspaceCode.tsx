/** What a workspace brings for an agent as code: off until its user has looked at it and trusts just that. */
import { FileCode2, LoaderCircle } from "lucide-react";
import { useCallback, useEffect, useState } from "react";
import { useClient, useHarnessTitle } from "../app/context";
import { cleanTerminal } from "../lib/terminal";
import { errorBody } from "../protocol/wire";
import type { CodeFile, ErrorBody, WorkspaceCode } from "../protocol/generated";
import { readWorkspaceCode } from "../state/results";
import { Dialog } from "./Dialog";
import { ErrorNote } from "./OtherPart";

/** While somebody types a path, not every letter is looked at. */
const TYPING_MS = 300;

function useWorkspaceCode(workspace: string | undefined, harness: string) {
  const client = useClient();
  const [code, setCode] = useState<WorkspaceCode>();
  const look = useCallback(
    async (isLive: () => boolean) => {
      if (workspace === undefined || harness === "") return;
      // A folder that is not there yet brings nothing; one that may not be used is refused when the session is made.
      const found = await client.send({ cmd: "workspace.inspect", workspace, harness }).catch(() => undefined);
      if (isLive()) setCode(readWorkspaceCode(found));
    },
    [client, workspace, harness],
  );
  useEffect(() => {
    let live = true;
    const timer = setTimeout(() => void look(() => live), TYPING_MS);
    return () => {
      live = false;
      clearTimeout(timer);
    };
  }, [look]);
  // What was found of another folder, or for another agent, says nothing of this one.
  const fits = workspace !== undefined && code?.harness === harness;
  return { code: fits ? code : undefined, setCode, look };
}

const count = (files: number) => `${files} ${files === 1 ? "file" : "files"}`;

/** One sentence on how it stands. */
export function codeSentence(code: WorkspaceCode, title: string): string {
  const brings = `This workspace brings code for ${title}`;
  if (!code.trustable) return `Whatever this workspace brings for ${title} as code is off, and cannot be trusted.`;
  const files = count(code.files.length);
  if (code.trusted) return `${brings}: ${files}, on. You trust exactly these.`;
  if (code.changed.length > 0) return `${brings}: ${files}, off. It has changed since you trusted it.`;
  return `${brings}: ${files}, off.`;
}

function FileRow({ file }: { file: CodeFile }) {
  return (
    <li>
      <details className="code-file">
        <summary>
          <code>{cleanTerminal(file.path)}</code>{" "}
          <span className="muted">
            {file.size} bytes{(file.mode & 0o111) !== 0 && ", executable"}
            {file.named && ", a program that a setting names"}
          </span>
        </summary>
        {file.text === undefined ? (
          <p className="muted">No text, or too long to be shown here.</p>
        ) : (
          <pre tabIndex={0}>{cleanTerminal(file.text)}</pre>
        )}
      </details>
    </li>
  );
}

const CHANGES = { added: "new", removed: "gone", changed: "changed" } as const;

function CodeBody({ code, title }: { code: WorkspaceCode; title: string }) {
  return (
    <>
      <p>{codeSentence(code, title)}</p>
      {code.reason !== undefined && <p>{cleanTerminal(code.reason)}</p>}
      {code.changed.length > 0 && (
        <ul className="code-changes" aria-label="Changed since you trusted it">
          {code.changed.map(({ path, change }) => (
            <li key={path}>
              <strong>{CHANGES[change]}</strong> <code>{cleanTerminal(path)}</code>
            </li>
          ))}
        </ul>
      )}
      <ul className="code-files" aria-label="Files">
        {code.files.map((file) => (
          <FileRow key={file.path} file={file} />
        ))}
      </ul>
      {code.left_out.length > 0 && (
        <p className="muted">
          Never shown to the agent: <code>{cleanTerminal(code.left_out.join(", "))}</code>
        </p>
      )}
      {code.digest !== undefined && (
        <p className="muted code-digest">
          Digest <code>{code.digest}</code>
        </p>
      )}
      {code.trustable && (
        <p className="muted">
          These are settings, servers, hooks and extensions that {title} runs without being asked, and they may allow its tools without
          asking you. They run inside the same sandbox either way. Your trust holds for this content only, from the next start of the agent.
        </p>
      )}
    </>
  );
}

interface DialogProps {
  readonly code: WorkspaceCode;
  readonly onClose: () => void;
  readonly onCode: (code: WorkspaceCode | undefined) => void;
}

function useTrust({ code, onClose, onCode }: DialogProps) {
  const client = useClient();
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<ErrorBody>();
  const { workspace, harness, digest } = code;
  const decide = async (trust: boolean) => {
    if (digest === undefined) return;
    setBusy(true);
    try {
      if (trust) onCode(readWorkspaceCode(await client.send({ cmd: "workspace.trust", workspace, harness, digest })));
      else {
        await client.send({ cmd: "workspace.distrust", workspace, harness });
        onCode({ ...code, trusted: false, changed: [] });
      }
      onClose();
    } catch (failure) {
      // It changed while it was looked at: what is there now is shown instead, to be looked at in its turn.
      setError(errorBody(failure));
      const now = await client.send({ cmd: "workspace.inspect", workspace, harness }).catch(() => undefined);
      onCode(readWorkspaceCode(now));
      setBusy(false);
    }
  };
  return { busy, error, decide };
}

function CodeDialog(props: DialogProps) {
  const { code, onClose } = props;
  const title = useHarnessTitle(code.harness);
  const { busy, error, decide } = useTrust(props);
  return (
    <Dialog title={`Code for ${title}`} onClose={onClose} size="large" testId="dialog-workspace-code">
      <div className="dialog-body">
        {error && <ErrorNote code={error.code} message={error.message} />}
        <CodeBody code={code} title={title} />
      </div>
      <footer className="dialog-actions">
        <button type="button" className="button" onClick={code.trusted ? () => void decide(false) : onClose} disabled={busy}>
          Do not trust
        </button>
        {!code.trusted && code.digest !== undefined && (
          <button type="button" className="button primary" data-testid="trust-code" disabled={busy} onClick={() => void decide(true)}>
            {busy && <LoaderCircle size={14} className="spin" aria-hidden />} Trust
          </button>
        )}
      </footer>
    </Dialog>
  );
}

interface LineProps {
  /** Absolute path; absent where it is not known yet. */
  readonly workspace: string | undefined;
  readonly harness: string;
}

/** One line where there is something to say, with a way to look at it. */
export function WorkspaceCodeLine({ workspace, harness }: LineProps) {
  const { code, setCode } = useWorkspaceCode(workspace, harness);
  const title = useHarnessTitle(harness);
  const [open, setOpen] = useState(false);
  if (!code || (code.files.length === 0 && code.reason === undefined)) return null;
  return (
    <div className="workspace-code" data-testid="workspace-code" data-trusted={code.trusted}>
      <FileCode2 size={14} aria-hidden />
      <span role="status">{codeSentence(code, title)}</span>
      <button type="button" className="button small" data-testid="look-at-code" onClick={() => setOpen(true)}>
        Look at it
      </button>
      {open && <CodeDialog code={code} onClose={() => setOpen(false)} onCode={setCode} />}
    </div>
  );
}
