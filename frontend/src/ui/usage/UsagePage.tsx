/** What was used and what it cost: one's own, and for administrators everybody's, with all that they run. */
import { useCallback, useState } from "react";
import { useApp } from "../../app/context";
import { SECTIONS, sectionHref, type Section } from "../../app/route";
import { formatTokens } from "../../lib/format";
import { formatNanos } from "../../lib/money";
import { MenuButton } from "../HomePage";
import { ErrorNote } from "../OtherPart";
import { Accounts } from "./Accounts";
import { Audit } from "./Audit";
import { Budgets } from "./Budgets";
import { Catalog } from "./Catalog";
import { isAdministrator, listUsage, type By, type UsageRow, type Whose } from "./data";
import { DayChart, type Measure } from "./DayChart";
import { everyDay, sinceDays, totalOf } from "./days";
import { Keys } from "./Keys";
import { Ranking } from "./Ranking";
import { Requests } from "./Requests";
import { useLoaded } from "./useLoaded";
import "../../styles/usage.css";

const PERIODS = [
  { days: 7, label: "7 days" },
  { days: 30, label: "30 days" },
  { days: 90, label: "90 days" },
  { days: 0, label: "All time" },
] as const;

const RANKED: Readonly<Record<Whose, readonly [By, By]>> = { own: ["model", "session"], all: ["model", "user"] };

const counted = (count: number, one: string, many: string): string =>
  count === 1 ? `One request ${one}` : `${count.toLocaleString()} requests ${many}`;

function Totals({ rows }: { rows: readonly UsageRow[] }) {
  const total = totalOf(rows);
  return (
    <>
      <dl className="totals" data-testid="usage-totals">
        <div>
          <dt>Cost</dt>
          <dd data-testid="total-cost">{formatNanos(total.cost)}</dd>
        </div>
        <div>
          <dt>Tokens in</dt>
          <dd title={total.input.toLocaleString()}>{formatTokens(total.input)}</dd>
        </div>
        <div>
          <dt>Tokens out</dt>
          <dd title={total.output.toLocaleString()}>{formatTokens(total.output)}</dd>
        </div>
        <div>
          <dt>Requests</dt>
          <dd>{total.requests.toLocaleString()}</dd>
        </div>
      </dl>
      {total.inexact > 0 && (
        <p className="muted">{counted(total.inexact, "ended without the provider’s figures and is counted at its bound", "ended without the provider’s figures and are counted at their bound")}.</p>
      )}
      {total.unpriced > 0 && <p className="muted">{counted(total.unpriced, "has a price that nobody knows; it counts as $0", "have a price that nobody knows; they count as $0")}.</p>}
    </>
  );
}

function useUsage(whose: Whose, days: number) {
  const load = useCallback(async () => {
    const now = Date.now();
    const since = sinceDays(days, now);
    const [first, second] = RANKED[whose];
    const [byDay, ...ranked] = await Promise.all([
      listUsage(whose, "day", since),
      listUsage(whose, first, since),
      listUsage(whose, second, since),
    ]);
    return { byDay, days: everyDay(byDay, since, now), ranked: [{ by: first, rows: ranked[0] ?? [] }, { by: second, rows: ranked[1] ?? [] }] };
  }, [whose, days]);
  return useLoaded(load);
}

/** What a row stands for, in words. */
function useNames(): (by: By, name: string) => string {
  const sessions = useApp((state) => state.sessions);
  return useCallback(
    (by, name) => {
      if (by === "session" && name === "") return "Outside of sessions, with a key";
      const title = by === "session" ? sessions[name]?.title : undefined;
      if (title) return title;
      // The gateway knows who runs sessions by the number that the system has for them.
      if (by === "user" && /^\d+$/.test(name)) return `Sessions of uid ${name}`;
      return name;
    },
    [sessions],
  );
}

function Figures({ whose, days, measure }: { whose: Whose; days: number; measure: Measure }) {
  const { value, error } = useUsage(whose, days);
  const nameOf = useNames();
  if (error) return <ErrorNote code={error.code} message={error.message} />;
  if (!value) return <p className="muted" role="status">Loading…</p>;
  if (value.byDay.length === 0) {
    return (
      <p className="usage-card usage-empty" data-testid="usage-empty">
        Nothing was used in this time.
      </p>
    );
  }
  return (
    <>
      <Totals rows={value.byDay} />
      <DayChart rows={value.days} measure={measure} />
      {value.ranked.map(({ by, rows }) => (
        <Ranking key={by} by={by} rows={rows} measure={measure} nameOf={(name) => nameOf(by, name)} />
      ))}
    </>
  );
}

interface ControlProps {
  readonly days: number;
  readonly onDays: (days: number) => void;
  readonly measure: Measure;
  readonly onMeasure: (measure: Measure) => void;
}

function Controls({ days, onDays, measure, onMeasure }: ControlProps) {
  return (
    <div className="usage-controls">
      <label>
        <span className="visually-hidden">Period</span>
        <select className="picker" data-testid="usage-period" value={days} onChange={(event) => onDays(Number(event.target.value))}>
          {PERIODS.map((period) => (
            <option key={period.days} value={period.days}>
              {period.label}
            </option>
          ))}
        </select>
      </label>
      {(["cost", "tokens"] as const).map((name) => (
        <button key={name} type="button" className="chip-button" aria-pressed={measure === name} data-testid={`measure-${name}`} onClick={() => onMeasure(name)}>
          {name === "cost" ? "Cost" : "Tokens"}
        </button>
      ))}
    </div>
  );
}

function Tabs({ whose }: { whose: Whose }) {
  return (
    <nav className="usage-tabs" aria-label="Whose usage">
      <a href="#/usage" aria-current={whose === "own" ? "page" : undefined}>
        Mine
      </a>
      <a href="#/usage/all" aria-current={whose === "all" ? "page" : undefined} data-testid="usage-all">
        Everybody
      </a>
    </nav>
  );
}

const SECTION_WORDS: Readonly<Record<Section, string>> = {
  usage: "Usage",
  budgets: "Budgets",
  keys: "Keys",
  accounts: "Accounts",
  requests: "Requests",
  audit: "Audit",
};

function SectionTabs({ current }: { current: Section }) {
  return (
    <nav className="section-tabs" aria-label="Administration">
      {SECTIONS.map((section) => (
        <a key={section} href={sectionHref(section)} aria-current={section === current ? "page" : undefined} data-testid={`section-${section}`}>
          {SECTION_WORDS[section]}
        </a>
      ))}
    </nav>
  );
}

function Usage({ whose }: { whose: Whose }) {
  const [days, setDays] = useState(30);
  const [measure, setMeasure] = useState<Measure>("cost");
  return (
    <>
      <Controls days={days} onDays={setDays} measure={measure} onMeasure={setMeasure} />
      <Figures whose={whose} days={days} measure={measure} />
    </>
  );
}

/** One's own on one page: there is not much of it. */
function Own() {
  return (
    <>
      <Usage whose="own" />
      <Budgets whose="own" />
      <Requests whose="own" />
      <Keys whose="own" />
      <Catalog />
    </>
  );
}

function Everybody({ section }: { section: Section }) {
  switch (section) {
    case "usage":
      return <Usage whose="all" />;
    case "budgets":
      return <Budgets whose="all" />;
    case "keys":
      return <Keys whose="all" />;
    case "accounts":
      return <Accounts />;
    case "requests":
      return <Requests whose="all" />;
    case "audit":
      return <Audit />;
  }
}

export function UsagePage({ whose, section, onMenu }: { whose: Whose; section: Section; onMenu: () => void }) {
  const { value: administers } = useLoaded(isAdministrator);
  const title = whose === "own" ? "Usage" : "Administration";
  return (
    <div className="page">
      <header className="page-header">
        <MenuButton onMenu={onMenu} />
        <div className="header-title">
          <h1>{title}</h1>
        </div>
        {administers && <Tabs whose={whose} />}
      </header>
      {whose === "all" && <SectionTabs current={section} />}
      <div className="settings usage" tabIndex={0} role="region" aria-label={whose === "own" ? title : `Administration of ${SECTION_WORDS[section].toLowerCase()}`} key={`${whose} ${section}`}>
        {whose === "own" ? <Own /> : <Everybody section={section} />}
      </div>
    </div>
  );
}
