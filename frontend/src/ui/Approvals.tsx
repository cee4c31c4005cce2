/** What was allowed for always, or for one session, and a way to be asked again. */
import { useCallback, useEffect, useState } from "react";
import { useClient } from "../app/context";
import { toolView } from "../lib/tools";
import { cleanTerminal } from "../lib/terminal";
import { errorBody } from "../protocol/wire";
import type { Approval, ErrorBody, RequestId, SessionId } from "../protocol/generated";
import { readApprovals } from "../state/results";
import { Dialog } from "./Dialog";
import { ErrorNote } from "./OtherPart";
import { ConfirmDialog } from "./SmallDialogs";

/** All that an approval holds for, on one line: nothing of it may stay unseen. */
export function subjectText(subject: unknown): string {
  if (typeof subject !== "object" || subject === null || Array.isArray(subject)) return JSON.stringify(subject) ?? "";
  const { command, cwd, path, ...rest } = subject as Readonly<Record<string, unknown>>;
  if (Object.keys(rest).length === 0) {
    const place = typeof cwd === "string" ? ` (in ${cwd})` : "";
    if (typeof command === "string" && path === undefined && (cwd === undefined || place !== "")) return command + place;
    if (typeof path === "string" && command === undefined && cwd === undefined) return path;
  }
  return JSON.stringify(subject);
}

function ApprovalRow({ approval, onForget }: { approval: Approval; onForget: () => void }) {
  const label = toolView(approval.tool, approval.subject).label;
  return (
    <li className="provider" data-testid={`approval-${approval.id}`}>
      <div className="provider-text">
        <span>
          {label} <code className="prewrap">{cleanTerminal(subjectText(approval.subject))}</code>
        </span>
        <span className="muted">
          {approval.harness} in <code>{approval.workspace}</code>
        </span>
      </div>
      <div className="provider-actions">
        <button type="button" className="button small" onClick={onForget}>
          Ask again
        </button>
      </div>
    </li>
  );
}

/** Those for always, or those of one session. */
function useApprovals(sessionId?: SessionId) {
  const client = useClient();
  const [approvals, setApprovals] = useState<readonly Approval[]>();
  const [error, setError] = useState<ErrorBody>();
  const refresh = useCallback(() => {
    client
      .send({ cmd: "approvals.list" }, sessionId)
      .then((found) => {
        setApprovals(readApprovals(found));
        setError(undefined);
      })
      .catch((failure: unknown) => setError(errorBody(failure)));
  }, [client, sessionId]);
  useEffect(refresh, [refresh]);
  const forget = (id?: RequestId) => {
    const body = { cmd: "approvals.forget" as const };
    // One that is gone already is a failure, too: the list then shows what is true.
    void client.attempt(id === undefined ? body : { ...body, approval_id: id }, sessionId).then(refresh);
  };
  return { approvals, error, forget };
}

/** What the user allowed for the rest of one session. */
export function SessionApprovals({ sessionId, onClose }: { sessionId: SessionId; onClose: () => void }) {
  const { approvals, error, forget } = useApprovals(sessionId);
  return (
    <Dialog title="Allowed in this session" onClose={onClose} testId="dialog-session-approvals">
      <div className="dialog-body">
        <p className="muted">
          What you allowed for the rest of this session. What you always allow, here and elsewhere, is in the settings.
        </p>
        {error && <ErrorNote code={error.code} message={error.message} />}
        {approvals?.length === 0 && <p className="muted">Nothing: the agent asks before each use of a tool that needs your permission.</p>}
        <ul className="providers">
          {approvals?.map((approval) => <ApprovalRow key={approval.id} approval={approval} onForget={() => forget(approval.id)} />)}
        </ul>
      </div>
      <footer className="dialog-actions">
        {approvals !== undefined && approvals.length > 1 && (
          <button type="button" className="button" data-testid="forget-session-approvals" onClick={() => forget()}>
            Ask again for all
          </button>
        )}
        <button type="button" className="button primary" onClick={onClose}>
          Done
        </button>
      </footer>
    </Dialog>
  );
}

export function Approvals() {
  const { approvals, error, forget } = useApprovals();
  const [confirming, setConfirming] = useState(false);
  const forgetAll = () => {
    setConfirming(false);
    forget();
  };
  return (
    <section aria-labelledby="approvals-title">
      <h2 id="approvals-title">Remembered approvals</h2>
      <p className="muted">What you always allow, in every session with the same agent and workspace. Nothing else is allowed by it.</p>
      {error && <ErrorNote code={error.code} message={error.message} />}
      {approvals?.length === 0 && <p className="muted">None. Agents ask before each use of a tool that needs your permission.</p>}
      <ul className="providers">
        {approvals?.map((approval) => <ApprovalRow key={approval.id} approval={approval} onForget={() => forget(approval.id)} />)}
      </ul>
      {approvals !== undefined && approvals.length > 1 && (
        <button type="button" className="button small" data-testid="forget-approvals" onClick={() => setConfirming(true)}>
          Forget all
        </button>
      )}
      {confirming && (
        <ConfirmDialog title="Forget all approvals?" action="Forget all" onClose={() => setConfirming(false)} onConfirm={forgetAll}>
          <p>Agents will ask again for everything that you always allowed.</p>
        </ConfirmDialog>
      )}
    </section>
  );
}
