/** The workspaces whose code agents may run, and a way to take that back. */
import { useCallback, useEffect, useState } from "react";
import { useClient, useHarnessTitle } from "../app/context";
import { cleanTerminal } from "../lib/terminal";
import { errorBody } from "../protocol/wire";
import type { ErrorBody, TrustedCode } from "../protocol/generated";
import { readTrusted } from "../state/results";
import { ErrorNote } from "./OtherPart";

function TrustedRow({ trusted, onRevoke }: { trusted: TrustedCode; onRevoke: () => void }) {
  const title = useHarnessTitle(trusted.harness);
  const more = trusted.file_count - trusted.files.length;
  return (
    <li className="provider" data-testid={`trusted-${trusted.digest}`}>
      <div className="provider-text">
        <span>
          <code>{cleanTerminal(trusted.workspace)}</code> for {title}
        </span>
        <span className="muted">
          {cleanTerminal(trusted.files.join(", "))}
          {more > 0 && ` and ${more} more`}
        </span>
        <code className="muted ellipsis">{trusted.digest}</code>
      </div>
      <div className="provider-actions">
        <button type="button" className="button small" onClick={onRevoke}>
          Do not trust
        </button>
      </div>
    </li>
  );
}

function useTrusted() {
  const client = useClient();
  const [trusted, setTrusted] = useState<readonly TrustedCode[]>();
  const [error, setError] = useState<ErrorBody>();
  const refresh = useCallback(() => {
    client
      .send({ cmd: "workspace.trusted" })
      .then((found) => {
        setTrusted(readTrusted(found));
        setError(undefined);
      })
      .catch((failure: unknown) => setError(errorBody(failure)));
  }, [client]);
  useEffect(refresh, [refresh]);
  const revoke = ({ workspace, harness, digest }: TrustedCode) => {
    // One that is gone already is a failure, too: the list then shows what is true.
    void client.attempt({ cmd: "workspace.distrust", workspace, harness, digest }).then(refresh);
  };
  return { trusted, error, revoke };
}

export function TrustedWorkspaces() {
  const { trusted, error, revoke } = useTrusted();
  return (
    <section aria-labelledby="trusted-title">
      <h2 id="trusted-title">Trusted workspaces</h2>
      <p className="muted">
        Settings, servers, hooks and extensions that a workspace brings and you let an agent run, for exactly this content. What runs now goes
        on until the agent ends.
      </p>
      {error && <ErrorNote code={error.code} message={error.message} />}
      {trusted?.length === 0 && <p className="muted">None. Agents run nothing of what a workspace brings for them.</p>}
      <ul className="providers">
        {trusted?.map((one) => (
          <TrustedRow key={`${one.workspace} ${one.harness} ${one.digest}`} trusted={one} onRevoke={() => revoke(one)} />
        ))}
      </ul>
    </section>
  );
}
