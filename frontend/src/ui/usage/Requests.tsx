/** Requests that are under way now, and the means to end one. */
import { useCallback, useState } from "react";
import { useApp, useClient } from "../../app/context";
import { sessionHref } from "../../app/route";
import { formatNanos } from "../../lib/money";
import { errorBody } from "../../protocol/wire";
import { ErrorNote } from "../OtherPart";
import { ConfirmDialog } from "../SmallDialogs";
import type { Whose } from "./data";
import { endRequest, listRequests, type LiveRequest } from "./operations";
import { usePolled } from "./usePolled";

const EVERY_MS = 2_000;

/** How long it has run, as far as the clocks of both machines agree. */
function lasted(since: number | undefined, now: number): string {
  if (since === undefined) return "";
  const seconds = Math.max(Math.round((now - since) / 1_000), 0);
  return seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}

function Origin({ live }: { live: LiveRequest }) {
  const title = useApp((state) => state.sessions[live.session]?.title);
  if (title !== undefined) return <a href={sessionHref(live.session)}>{title || "Untitled"}</a>;
  if (live.session !== "") return <code className="muted">{live.session}</code>;
  return <code className="muted">{live.key}</code>;
}

interface RowProps {
  readonly live: LiveRequest;
  readonly withUser: boolean;
  readonly now: number;
  readonly onEnd: () => void;
}

function Row({ live, withUser, now, onEnd }: RowProps) {
  return (
    <tr data-testid="request" data-request={live.id}>
      <th scope="row">{live.model}</th>
      <td>
        <Origin live={live} />
      </td>
      {withUser && <td data-label="User">{/^\d+$/.test(live.user) ? `uid ${live.user}` : live.user}</td>}
      <td className="number" data-label="For">{lasted(live.since, now)}</td>
      <td className="number" data-label="Cost so far">{formatNanos(live.cost)}</td>
      <td className="number" data-label="At most">{formatNanos(live.reserved)}</td>
      <td className="key-actions">
        <button type="button" className="button small danger" aria-label={`End the request ${live.id} to ${live.model}`} onClick={onEnd}>
          End
        </button>
      </td>
    </tr>
  );
}

export function Requests({ whose }: { whose: Whose }) {
  const client = useClient();
  const load = useCallback(async () => ({ requests: await listRequests(whose), now: Date.now() }), [whose]);
  const { value, error, refresh } = usePolled(load, EVERY_MS);
  const [ending, setEnding] = useState<LiveRequest>();
  const end = (live: LiveRequest) => {
    setEnding(undefined);
    endRequest(whose, live.id)
      .catch((failure: unknown) => client.reportError(errorBody(failure)))
      .finally(refresh);
  };
  return (
    <section className="usage-card" aria-labelledby="requests-title">
      <header>
        <h2 id="requests-title">Requests under way</h2>
      </header>
      {error && <ErrorNote code={error.code} message={error.message} />}
      {!value && !error && <p className="muted">Loading…</p>}
      {value?.requests.length === 0 && (
        <p className="muted" data-testid="no-requests">
          None at the moment. This list looks again every two seconds.
        </p>
      )}
      {value && value.requests.length > 0 && (
        <div className="table-scroll" role="region" aria-label="List of requests under way" tabIndex={0}>
          <table className="usage-table keys-table">
            <thead>
              <tr>
                <th scope="col">Model</th>
                <th scope="col">Of</th>
                {whose === "all" && <th scope="col">User</th>}
                <th scope="col" className="number">
                  For
                </th>
                <th scope="col" className="number">
                  Cost so far
                </th>
                <th scope="col" className="number">
                  At most
                </th>
                <th scope="col">Change</th>
              </tr>
            </thead>
            <tbody>
              {value.requests.map((live) => (
                <Row key={live.id} live={live} withUser={whose === "all"} now={value.now} onEnd={() => setEnding(live)} />
              ))}
            </tbody>
          </table>
        </div>
      )}
      {ending && (
        <ConfirmDialog title="End this request?" action="End request" onClose={() => setEnding(undefined)} onConfirm={() => end(ending)}>
          <p>
            The answer of <strong>{ending.model}</strong> stops, and its client is told why. What came through is paid for.
          </p>
        </ConfirmDialog>
      )}
    </section>
  );
}
