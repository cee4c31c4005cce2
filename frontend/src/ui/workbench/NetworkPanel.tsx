/** Which hosts the programs of the session asked for, and what the broker said. */
import { Check, CircleHelp, X } from "lucide-react";
import { useState } from "react";
import { cleanTerminal } from "../../lib/terminal";
import { formatWhen } from "../../lib/format";
import { formatBytes } from "./files";
import type { AccessRow, Decision, NetworkLog } from "../../state/guard";

const ICONS = { allowed: Check, denied: X, asked: CircleHelp } as const;
const WORDS: Readonly<Record<Decision, string>> = { allowed: "Allowed", denied: "Denied", asked: "Asked" };

type Shown = "all" | "denied";

function Row({ row }: { row: AccessRow }) {
  const Icon = ICONS[row.decision];
  return (
    <tr className={`access access-${row.decision}`} data-testid="access-row" data-host={row.host} data-decision={row.decision}>
      <td>
        <span className="access-decision">
          <Icon size={13} aria-hidden /> {WORDS[row.decision]}
        </span>
      </td>
      <td className="access-host">
        {cleanTerminal(row.host)}:{row.port}
        {row.reason && <small>{cleanTerminal(row.reason)}</small>}
        {row.sent + row.received > 0 && (
          <small>
            {formatBytes(row.sent)} sent, {formatBytes(row.received)} received
          </small>
        )}
        {row.rule !== "" && (
          <small>
            Rule <code>{cleanTerminal(row.rule)}</code>
          </small>
        )}
      </td>
      <td className="access-count">{row.count}</td>
      <td>
        <time dateTime={new Date(row.lastAt).toISOString()}>{formatWhen(row.lastAt, Date.now())}</time>
      </td>
    </tr>
  );
}

function Table({ rows }: { rows: readonly AccessRow[] }) {
  return (
    <div className="table-scroll" role="region" aria-label="Destinations" tabIndex={0}>
      <table className="access-table">
        <thead>
          <tr>
            <th scope="col">Decision</th>
            <th scope="col">Host and rule</th>
            <th scope="col">Times</th>
            <th scope="col">Last</th>
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <Row key={`${row.host}:${row.port} ${row.decision} ${row.rule}`} row={row} />
          ))}
        </tbody>
      </table>
    </div>
  );
}

export function NetworkPanel({ log }: { log: NetworkLog }) {
  const [shown, setShown] = useState<Shown>("all");
  const rows = shown === "all" ? log.rows : log.rows.filter((row) => row.decision === "denied");
  if (log.rows.length === 0) {
    return (
      <div className="panel-empty">
        <p>No program of this session has asked for a host yet.</p>
        <p className="muted">Requests to the model provider go another way and are not listed.</p>
      </div>
    );
  }
  return (
    <div className="panel-column">
      <div className="panel-bar">
        <p data-testid="access-counts" data-allowed={log.allowed} data-denied={log.denied}>
          <strong>{log.allowed}</strong> allowed, <strong>{log.denied}</strong> denied
        </p>
        <label className="check">
          <input type="checkbox" checked={shown === "denied"} onChange={(event) => setShown(event.target.checked ? "denied" : "all")} />
          Only denied
        </label>
      </div>
      <Table rows={rows} />
    </div>
  );
}
