/** Bars, one a day. Keys walk through the days as on a slider; the same figures are there as a table. */
import { useState, type KeyboardEvent } from "react";
import { formatTokens } from "../../lib/format";
import { formatNanos, percentOf } from "../../lib/money";
import type { UsageRow } from "./data";
import { shortDay } from "./days";

export type Measure = "cost" | "tokens";

const HEIGHT = 120;

const amount = (row: UsageRow, measure: Measure): bigint =>
  measure === "cost" ? row.cost : BigInt(row.input + row.output);

export function shown(row: UsageRow, measure: Measure): string {
  return measure === "cost" ? formatNanos(row.cost) : `${formatTokens(row.input + row.output)} tokens`;
}

export function largest(rows: readonly UsageRow[], measure: Measure): bigint {
  return rows.reduce((most, row) => (amount(row, measure) > most ? amount(row, measure) : most), 0n);
}

export function share(row: UsageRow, measure: Measure, most: bigint): number {
  return percentOf(amount(row, measure), most);
}

function useSelection(length: number) {
  const [picked, setPicked] = useState<number>();
  const selected = Math.min(picked ?? length - 1, length - 1);
  const onKeyDown = (event: KeyboardEvent) => {
    const steps: Readonly<Record<string, number>> = {
      ArrowLeft: selected - 1,
      ArrowDown: selected - 1,
      ArrowRight: selected + 1,
      ArrowUp: selected + 1,
      PageDown: selected - 7,
      PageUp: selected + 7,
      Home: 0,
      End: length - 1,
    };
    const next = steps[event.key];
    if (next === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    setPicked(Math.min(Math.max(next, 0), length - 1));
  };
  return { selected, setPicked, onKeyDown };
}

function Bars({ rows, measure }: { rows: readonly UsageRow[]; measure: Measure }) {
  const { selected, setPicked, onKeyDown } = useSelection(rows.length);
  const most = largest(rows, measure);
  const row = rows[selected];
  if (!row) return null;
  const words = `${shortDay(row.name)}: ${shown(row, measure)}`;
  return (
    <>
      <div
        className="chart"
        role="slider"
        tabIndex={0}
        aria-label={measure === "cost" ? "Cost by day" : "Tokens by day"}
        aria-orientation="horizontal"
        aria-valuemin={1}
        aria-valuemax={rows.length}
        aria-valuenow={selected + 1}
        aria-valuetext={words}
        data-testid="day-chart"
        onKeyDown={onKeyDown}
      >
        <svg viewBox={`0 0 ${rows.length * 10} ${HEIGHT}`} preserveAspectRatio="none" aria-hidden="true">
          {rows.map((day, index) => {
            const share_ = share(day, measure, most);
            // Something is never drawn as nothing.
            const height = share_ > 0 || amount(day, measure) > 0n ? Math.max((share_ * HEIGHT) / 100, 2) : 0;
            return (
              <g key={day.name} className={index === selected ? "bar selected" : "bar"} onPointerEnter={() => setPicked(index)}>
                <rect className="bar-ground" x={index * 10} y={0} width={10} height={HEIGHT} />
                <rect className="bar-value" x={index * 10 + 1} y={HEIGHT - height} width={8} height={height} />
              </g>
            );
          })}
        </svg>
      </div>
      <p className="chart-foot" aria-hidden="true">
        <span>{shortDay(rows[0]?.name ?? "")}</span>
        <strong data-testid="day-value">{words}</strong>
        <span>{shortDay(rows.at(-1)?.name ?? "")}</span>
      </p>
    </>
  );
}

function DayTable({ rows }: { rows: readonly UsageRow[] }) {
  return (
    <div className="table-scroll chart-table" role="region" aria-label="Usage of each day" tabIndex={0}>
      <table className="usage-table">
        <thead>
          <tr>
            <th scope="col">Day (UTC)</th>
            <th scope="col">Cost</th>
            <th scope="col">Tokens in</th>
            <th scope="col">Tokens out</th>
            <th scope="col">Requests</th>
          </tr>
        </thead>
        <tbody>
          {rows.toReversed().map((row) => (
            <tr key={row.name}>
              <th scope="row">{row.name}</th>
              <td>{formatNanos(row.cost)}</td>
              <td>{row.input.toLocaleString()}</td>
              <td>{row.output.toLocaleString()}</td>
              <td>{row.requests.toLocaleString()}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

export function DayChart({ rows, measure }: { rows: readonly UsageRow[]; measure: Measure }) {
  const [table, setTable] = useState(false);
  return (
    <section className="usage-card" aria-labelledby="by-day">
      <header>
        <h2 id="by-day">By day</h2>
        <button type="button" className="link-button" data-testid="as-table" aria-pressed={table} onClick={() => setTable(!table)}>
          Table
        </button>
      </header>
      {table ? <DayTable rows={rows} /> : <Bars rows={rows} measure={measure} />}
    </section>
  );
}
