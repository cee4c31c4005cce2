/** Making a key, and the one time its text is shown. */
import { useState, type SubmitEvent } from "react";
import { newId } from "../../lib/id";
import { parseDollars } from "../../lib/money";
import type { ErrorBody } from "../../protocol/generated";
import { errorBody } from "../../protocol/wire";
import { CopyButton } from "../CopyButton";
import { Dialog } from "../Dialog";
import { ErrorNote } from "../OtherPart";
import { WindowSelect, type Window } from "./Budgets";
import { createKey, type MadeKey, type NewKey } from "./data";

export function SecretDialog({ made, onClose }: { made: MadeKey; onClose: () => void }) {
  // A stray key or click must not end the only view of it.
  return (
    <Dialog title="The new key" onClose={() => undefined} size="small" testId="dialog-secret" unasked>
      <div className="dialog-body">
        <p>This is shown once. Keep it where the program that uses it keeps secrets.</p>
        <p className="secret">
          <code data-testid="secret">{made.secret}</code>
          <CopyButton text={made.secret} label="Copy the key" />
        </p>
        <p className="muted">If it is lost, rotate the key {made.id}: that gives it a new text.</p>
      </div>
      <footer className="dialog-actions">
        <button type="button" className="button primary" data-testid="secret-done" onClick={onClose}>
          I have stored it
        </button>
      </footer>
    </Dialog>
  );
}

interface Fields {
  readonly user: string;
  readonly name: string;
  readonly team: string;
  readonly org: string;
  readonly parent: string;
  readonly models: string;
  readonly denyModels: string;
  readonly providers: string;
  readonly denyProviders: string;
  readonly rpm: string;
  readonly tpm: string;
  readonly concurrency: string;
  readonly notBefore: string;
  readonly expires: string;
  readonly onLimit: string;
  readonly dollars: string;
  readonly window: Window;
}

export const EMPTY: Fields = {
  user: "",
  name: "",
  team: "",
  org: "",
  parent: "",
  models: "",
  denyModels: "",
  providers: "",
  denyProviders: "",
  rpm: "",
  tpm: "",
  concurrency: "",
  notBefore: "",
  expires: "",
  onLimit: "refuse",
  dollars: "",
  window: "month",
};

/** A whole number that a limit may be; empty: none. */
function limitOf(field: string): number | undefined {
  const value = field.trim() === "" ? 0 : Number(field);
  return Number.isInteger(value) && value >= 0 && value <= 0xffff_ffff ? value : undefined;
}

/** The seconds since 1970 of a moment of a day here; empty: 0. */
function secondsOf(day: string, time: string): number | undefined {
  if (day === "") return 0;
  const ms = new Date(`${day}T${time}`).getTime();
  return Number.isFinite(ms) ? Math.floor(ms / 1_000) : undefined;
}

const patterns = (field: string): readonly string[] => field.split(/[\s,]+/).filter((pattern) => pattern !== "");

/** The key that the fields describe; `undefined` where they describe none. */
export function newKeyOf(fields: Fields): NewKey | undefined {
  const limit = fields.dollars.trim() === "" ? undefined : parseDollars(fields.dollars);
  const [rpm, tpm, concurrency] = [limitOf(fields.rpm), limitOf(fields.tpm), limitOf(fields.concurrency)];
  // A key works until its last day is over here.
  const [notBefore, expires] = [secondsOf(fields.notBefore, "00:00:00"), secondsOf(fields.expires, "23:59:59")];
  // A child has the user of its parent.
  if ((fields.user.trim() === "" && fields.parent.trim() === "") || (fields.dollars.trim() !== "" && limit === undefined)) return undefined;
  if (rpm === undefined || tpm === undefined || concurrency === undefined || notBefore === undefined || expires === undefined) return undefined;
  return {
    user: fields.user.trim(),
    name: fields.name.trim(),
    team: fields.team.trim(),
    org: fields.org.trim(),
    parent: fields.parent.trim(),
    models: patterns(fields.models),
    deny_models: patterns(fields.denyModels),
    providers: patterns(fields.providers),
    deny_providers: patterns(fields.denyProviders),
    rpm,
    tpm,
    concurrency,
    not_before: notBefore,
    expires,
    on_limit: fields.onLimit,
    budgets: limit === undefined ? [] : [{ window: fields.window, limit: limit.toString() }],
  };
}

const ON_LIMIT: Readonly<Record<string, string>> = {
  refuse: "is refused, with the reason",
  queue: "waits for room, up to two minutes",
  clamp: "gets as much output as fits",
};

interface FieldProps {
  readonly label: string;
  readonly hint?: string;
  readonly value: string;
  readonly onChange: (value: string) => void;
  readonly testId?: string;
  readonly type?: string;
  readonly placeholder?: string;
}

function Field({ label, hint, value, onChange, testId, type = "text", placeholder }: FieldProps) {
  return (
    <label className="labelled">
      <span>{label}</span>
      <input className="field" type={type} autoComplete="off" placeholder={placeholder} data-testid={testId} value={value} onChange={(event) => onChange(event.target.value)} />
      {hint && <small className="muted">{hint}</small>}
    </label>
  );
}

interface PartProps {
  readonly fields: Fields;
  readonly set: (name: keyof Fields) => (value: string) => void;
}

/** What few keys need. */
function MoreFields({ fields, set }: PartProps) {
  return (
    <details className="more-fields" data-testid="key-more">
      <summary>More limits</summary>
      <div className="more-fields-body">
        <Field label="But not these models" hint="A denial wins." value={fields.denyModels} onChange={set("denyModels")} testId="key-deny-models" />
        <Field label="Providers" hint="* stands for any characters; empty: all." value={fields.providers} onChange={set("providers")} />
        <Field label="But not these providers" value={fields.denyProviders} onChange={set("denyProviders")} />
        <Field label="Tokens a minute" hint="Empty: any number." value={fields.tpm} onChange={set("tpm")} testId="key-tpm" />
        <Field label="Requests at a time" hint="Empty: any number." value={fields.concurrency} onChange={set("concurrency")} />
        <Field label="First day" hint="Empty: it works at once." type="date" value={fields.notBefore} onChange={set("notBefore")} />
        <Field label="Team" hint="It counts in the budgets of this team." value={fields.team} onChange={set("team")} />
        <Field label="Organisation" hint="It counts in the budgets of this organisation." value={fields.org} onChange={set("org")} />
        <Field label="Below the key" hint="Id of a key that it is never more than; it has that key’s user." value={fields.parent} onChange={set("parent")} />
        <label className="labelled">
          <span>A request that does not fit into a budget</span>
          <select className="field" data-testid="key-on-limit" value={fields.onLimit} onChange={(event) => set("onLimit")(event.target.value)}>
            {Object.entries(ON_LIMIT).map(([name, words]) => (
              <option key={name} value={name}>
                {words}
              </option>
            ))}
          </select>
        </label>
      </div>
    </details>
  );
}

function KeyFields({ fields, set }: PartProps) {
  return (
    <>
      <Field label="User" hint="Whose key it is: it counts in the budgets of this user." value={fields.user} onChange={set("user")} testId="key-user" />
      <Field label="Name" hint="For people, such as “laptop”." value={fields.name} onChange={set("name")} testId="key-name" />
      <Field label="Models" hint="* stands for any characters; empty: all." placeholder="claude-*, gpt-5*" value={fields.models} onChange={set("models")} />
      <Field label="Requests a minute" hint="Empty: any number." value={fields.rpm} onChange={set("rpm")} />
      <Field label="Last day" hint="Empty: it never expires." type="date" value={fields.expires} onChange={set("expires")} />
      <Field label="Budget of this key in dollars" hint="Empty: only those of its user." value={fields.dollars} onChange={set("dollars")} testId="key-dollars" />
      {fields.dollars.trim() !== "" && <WindowSelect value={fields.window} onChange={set("window")} />}
      <MoreFields fields={fields} set={set} />
    </>
  );
}

export function NewKeyDialog({ onClose, onMade }: { onClose: () => void; onMade: (made: MadeKey) => void }) {
  const [fields, setFields] = useState(EMPTY);
  // The same for every attempt: a key whose answer was lost is not made again.
  const [attempt] = useState(newId);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<ErrorBody>();
  const key = newKeyOf(fields);
  const set = (name: keyof Fields) => (value: string) => setFields({ ...fields, [name]: value });
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    if (!key || busy) return;
    setBusy(true);
    createKey(key, attempt)
      .then(onMade)
      .catch((failure: unknown) => {
        setError(errorBody(failure));
        setBusy(false);
      });
  };
  return (
    <Dialog title="Create a key" onClose={onClose} size="small" testId="dialog-new-key">
      <form onSubmit={submit}>
        <div className="dialog-body">
          <KeyFields fields={fields} set={set} />
          {error && <ErrorNote code={error.code} message={error.message} />}
        </div>
        <footer className="dialog-actions">
          <button type="button" className="button" onClick={onClose}>
            Cancel
          </button>
          <button type="submit" className="button primary" data-testid="key-save" disabled={!key || busy}>
            Create key
          </button>
        </footer>
      </form>
    </Dialog>
  );
}
