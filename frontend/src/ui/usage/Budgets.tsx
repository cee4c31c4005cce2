/** Limits in money: what is left of them, and when they begin again. Administrators set them. */
import { Plus } from "lucide-react";
import { useCallback, useState, type SubmitEvent } from "react";
import { useClient } from "../../app/context";
import { formatNanos, parseDollars, percentOf } from "../../lib/money";
import type { ErrorBody } from "../../protocol/generated";
import { errorBody } from "../../protocol/wire";
import { Dialog } from "../Dialog";
import { ErrorNote } from "../OtherPart";
import { ConfirmDialog } from "../SmallDialogs";
import { listBudgets, removeBudget, setBudget, type Budget, type Whose } from "./data";
import { Meter } from "./Meter";
import { useLoaded } from "./useLoaded";

export const WINDOWS = ["day", "week", "month", "total"] as const;
export type Window = (typeof WINDOWS)[number];

export const WINDOW_WORDS: Readonly<Record<string, string>> = {
  day: "a day",
  week: "a week",
  month: "a month",
  total: "in total",
};

const moment = (ms: number): string =>
  new Date(ms).toLocaleString(undefined, { weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });

interface RowProps {
  readonly budget: Budget;
  /** Only who may change it has these. */
  readonly change: { readonly onEdit: () => void; readonly onRemove: () => void } | undefined;
}

function BudgetRow({ budget, change }: RowProps) {
  const label = `${budget.scope}, ${formatNanos(budget.limit)} ${WINDOW_WORDS[budget.window] ?? budget.window}`;
  return (
    <li className="budget" data-testid="budget" data-scope={budget.scope} data-window={budget.window}>
      <div className="budget-words">
        <span>
          <strong>{formatNanos(budget.left)}</strong> left of {formatNanos(budget.limit)}{" "}
          {WINDOW_WORDS[budget.window] ?? budget.window}
        </span>
        <code className="muted ellipsis">{budget.scope}</code>
        {change && (
          <span className="budget-actions">
            <button type="button" className="button small" aria-label={`Change the budget ${label}`} onClick={change.onEdit}>
              Change
            </button>
            <button type="button" className="button small" aria-label={`Remove the budget ${label}`} onClick={change.onRemove}>
              Remove
            </button>
          </span>
        )}
      </div>
      <Meter label={`Used of ${label}`} used={percentOf(budget.spent, budget.limit)} held={percentOf(budget.reserved, budget.limit)} />
      <p className="muted">
        {formatNanos(budget.spent)} spent
        {budget.reserved > 0n && `, ${formatNanos(budget.reserved)} held for requests under way`}
        {budget.resetsAt !== undefined && (
          <>
            {" · begins again "}
            <time dateTime={new Date(budget.resetsAt).toISOString()}>{moment(budget.resetsAt)}</time>
          </>
        )}
      </p>
    </li>
  );
}

const KINDS = ["user", "key", "team", "org", "account"] as const;

const NAMED: Readonly<Record<string, string>> = {
  user: "Name of the user, or the uid of their sessions",
  key: "Id of the key",
  team: "Name of the team",
  org: "Name of the organisation",
  account: "Name of the provider",
};

/** `account:demo/main` is of the kind `account` and named `demo/main`. */
function scopeOf(budget: Budget | undefined): readonly [string, string] {
  const [kind = "user", ...name] = (budget?.scope ?? "user:").split(":");
  return [kind, name.join(":")];
}

function useBudgetForm(edited: Budget | undefined, onDone: () => void) {
  const [kind, setKind] = useState(scopeOf(edited)[0]);
  const [name, setName] = useState(scopeOf(edited)[1]);
  const [window, setWindow] = useState<Window>(WINDOWS.find((name) => name === edited?.window) ?? "month");
  const [dollars, setDollars] = useState(edited ? formatNanos(edited.limit).slice(1) : "");
  const [error, setError] = useState<ErrorBody>();
  const limit = parseDollars(dollars);
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    if (limit === undefined) return;
    setBudget(`${kind}:${name.trim()}`, window, limit)
      .then(onDone)
      .catch((failure: unknown) => setError(errorBody(failure)));
  };
  return { kind, setKind, name, setName, window, setWindow, dollars, setDollars, error, submit, ready: limit !== undefined && name.trim() !== "" };
}

export function WindowSelect({ value, onChange }: { value: Window; onChange: (window: Window) => void }) {
  return (
    <label className="labelled">
      <span>Window</span>
      <select className="field" value={value} onChange={(event) => onChange(event.target.value as Window)}>
        {WINDOWS.map((window) => (
          <option key={window} value={window}>
            {WINDOW_WORDS[window]}
          </option>
        ))}
      </select>
      <small className="muted">Days, weeks from Monday and months are those of UTC.</small>
    </label>
  );
}

/** Sets a budget, or gives one that there is another amount. */
function BudgetDialog({ edited, onClose, onSaved }: { edited: Budget | undefined; onClose: () => void; onSaved: () => void }) {
  const form = useBudgetForm(edited, () => {
    onSaved();
    onClose();
  });
  return (
    <Dialog title={edited ? "Change a budget" : "Set a budget"} onClose={onClose} size="small" testId="dialog-budget">
      <form onSubmit={form.submit}>
        <div className="dialog-body">
          {edited ? (
            <p>
              What <code>{edited.scope}</code> may spend {WINDOW_WORDS[edited.window] ?? edited.window}. What is spent already counts.
            </p>
          ) : (
            <>
              <label className="labelled">
                <span>Of</span>
                <select className="field" value={form.kind} onChange={(event) => form.setKind(event.target.value)}>
                  {KINDS.map((kind) => (
                    <option key={kind}>{kind}</option>
                  ))}
                </select>
              </label>
              <label className="labelled">
                <span>{NAMED[form.kind]}</span>
                <input className="field" data-testid="budget-name" value={form.name} onChange={(event) => form.setName(event.target.value)} />
              </label>
            </>
          )}
          <label className="labelled">
            <span>Dollars</span>
            <input className="field" inputMode="decimal" placeholder="20" data-testid="budget-dollars" value={form.dollars} onChange={(event) => form.setDollars(event.target.value)} />
          </label>
          {!edited && <WindowSelect value={form.window} onChange={form.setWindow} />}
          {form.error && <ErrorNote code={form.error.code} message={form.error.message} />}
        </div>
        <footer className="dialog-actions">
          <button type="button" className="button" onClick={onClose}>
            Cancel
          </button>
          <button type="submit" className="button primary" data-testid="budget-save" disabled={!form.ready}>
            {edited ? "Change budget" : "Set budget"}
          </button>
        </footer>
      </form>
    </Dialog>
  );
}

export function Budgets({ whose }: { whose: Whose }) {
  const client = useClient();
  const load = useCallback(() => listBudgets(whose), [whose]);
  const { value: budgets, error, refresh } = useLoaded(load);
  const [adding, setAdding] = useState(false);
  const [editing, setEditing] = useState<Budget>();
  const [removing, setRemoving] = useState<Budget>();
  const remove = (budget: Budget) => {
    setRemoving(undefined);
    removeBudget(budget.scope, budget.window)
      .then(refresh)
      .catch((failure: unknown) => client.reportError(errorBody(failure)));
  };
  return (
    <section className="usage-card" aria-labelledby="budgets-title">
      <header>
        <h2 id="budgets-title">Budgets</h2>
        {whose === "all" && (
          <button type="button" className="button small" data-testid="add-budget" onClick={() => setAdding(true)}>
            <Plus size={14} aria-hidden /> Set a budget
          </button>
        )}
      </header>
      {error && <ErrorNote code={error.code} message={error.message} />}
      {!budgets && !error && <p className="muted">Loading…</p>}
      {budgets?.length === 0 && <p className="muted">{whose === "all" ? "There is none: nothing is limited." : "Nothing limits what you may spend."}</p>}
      <ul className="budgets">
        {budgets?.map((budget) => (
          <BudgetRow
            key={`${budget.scope} ${budget.window}`}
            budget={budget}
            change={whose === "all" ? { onEdit: () => setEditing(budget), onRemove: () => setRemoving(budget) } : undefined}
          />
        ))}
      </ul>
      {adding && <BudgetDialog edited={undefined} onClose={() => setAdding(false)} onSaved={refresh} />}
      {editing && <BudgetDialog edited={editing} onClose={() => setEditing(undefined)} onSaved={refresh} />}
      {removing && (
        <ConfirmDialog title="Remove this budget?" action="Remove" onClose={() => setRemoving(undefined)} onConfirm={() => remove(removing)}>
          <p>
            Nothing will limit what <code>{removing.scope}</code> spends {WINDOW_WORDS[removing.window] ?? removing.window}.
          </p>
        </ConfirmDialog>
      )}
    </section>
  );
}
