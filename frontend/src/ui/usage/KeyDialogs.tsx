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
  readonly models: string;
  readonly rpm: string;
  readonly expires: string;
  readonly dollars: string;
  readonly window: Window;
}

const EMPTY: Fields = { user: "", name: "", models: "", rpm: "", expires: "", dollars: "", window: "month" };

/** The key that the fields describe; `undefined` where they describe none. */
export function newKeyOf(fields: Fields): NewKey | undefined {
  const limit = fields.dollars.trim() === "" ? undefined : parseDollars(fields.dollars);
  const rpm = fields.rpm.trim() === "" ? 0 : Number(fields.rpm);
  // A key works until its last day is over here.
  const expires = fields.expires === "" ? 0 : Math.floor(new Date(`${fields.expires}T23:59:59`).getTime() / 1_000);
  if (fields.user.trim() === "" || (fields.dollars.trim() !== "" && limit === undefined)) return undefined;
  if (!Number.isInteger(rpm) || rpm < 0 || rpm > 0xffff_ffff || !Number.isFinite(expires)) return undefined;
  return {
    user: fields.user.trim(),
    name: fields.name.trim(),
    models: fields.models.split(/[\s,]+/).filter((pattern) => pattern !== ""),
    rpm,
    expires,
    budgets: limit === undefined ? [] : [{ window: fields.window, limit: limit.toString() }],
  };
}

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
          <Field label="User" hint="Whose key it is: it counts in the budgets of this user." value={fields.user} onChange={set("user")} testId="key-user" />
          <Field label="Name" hint="For people, such as “laptop”." value={fields.name} onChange={set("name")} testId="key-name" />
          <Field label="Models" hint="* stands for any characters; empty: all." placeholder="claude-*, gpt-5*" value={fields.models} onChange={set("models")} />
          <Field label="Requests a minute" hint="Empty: any number." value={fields.rpm} onChange={set("rpm")} />
          <Field label="Last day" hint="Empty: it never expires." type="date" value={fields.expires} onChange={set("expires")} />
          <Field label="Budget of this key in dollars" hint="Empty: only those of its user." value={fields.dollars} onChange={set("dollars")} testId="key-dollars" />
          {fields.dollars.trim() !== "" && <WindowSelect value={fields.window} onChange={set("window")} />}
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
