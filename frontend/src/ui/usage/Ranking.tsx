/** What was used by model, session or user: a table whose rows have a bar. */
import { formatTokens } from "../../lib/format";
import { formatNanos } from "../../lib/money";
import type { By, UsageRow } from "./data";
import { largest, share, type Measure } from "./DayChart";

/** The others are summed up. */
const MAX_ROWS = 12;

const TITLES: Readonly<Record<By, string>> = { day: "Day", model: "Model", session: "Session", user: "User" };

interface Props {
  readonly by: By;
  readonly rows: readonly UsageRow[];
  readonly measure: Measure;
  /** A name for people. */
  readonly nameOf: (name: string) => string;
}

function Bar({ part }: { part: number }) {
  return (
    <svg className="rank-bar" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">
      <rect className="bar-ground" width={100} height={6} />
      <rect className="bar-value" width={part > 0 ? Math.max(part, 0.5) : 0} height={6} />
    </svg>
  );
}

export function Ranking({ by, rows, measure, nameOf }: Props) {
  const tokens = (row: UsageRow) => row.input + row.output;
  const sorted = measure === "cost" ? rows : rows.toSorted((one, other) => tokens(other) - tokens(one));
  const most = largest(rows, measure);
  const rest = rows.length - MAX_ROWS;
  return (
    <section className="usage-card" aria-labelledby={`by-${by}`}>
      <header>
        <h2 id={`by-${by}`}>By {TITLES[by].toLowerCase()}</h2>
      </header>
      <div className="table-scroll" role="region" aria-label={`Usage by ${by}`} tabIndex={0}>
        <table className="usage-table" data-testid={`usage-${by}`}>
          <thead>
            <tr>
              <th scope="col">{TITLES[by]}</th>
              <th scope="col">Cost</th>
              <th scope="col">Tokens</th>
              <th scope="col">Requests</th>
            </tr>
          </thead>
          <tbody>
            {sorted.slice(0, MAX_ROWS).map((row) => (
              <tr key={row.name}>
                <th scope="row">
                  <span className="rank-name" title={row.name}>
                    {nameOf(row.name)}
                  </span>
                  <Bar part={share(row, measure, most)} />
                </th>
                <td>{formatNanos(row.cost)}</td>
                <td title={tokens(row).toLocaleString()}>{formatTokens(tokens(row))}</td>
                <td>{row.requests.toLocaleString()}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {rest > 0 && <p className="muted">and {rest} more, which used less</p>}
    </section>
  );
}
