/** Keys for clients outside of Lodge's sessions: one's own to look at, everybody's to change. */
import { Plus } from "lucide-react";
import { useCallback, useState } from "react";
import { useClient } from "../../app/context";
import { newId } from "../../lib/id";
import { errorBody } from "../../protocol/wire";
import { ErrorNote } from "../OtherPart";
import { ConfirmDialog } from "../SmallDialogs";
import { enableKey, listKeys, revokeKey, rotateKey, type Key, type MadeKey, type Whose } from "./data";
import { NewKeyDialog, SecretDialog } from "./KeyDialogs";
import { useLoaded } from "./useLoaded";

type Action = "rotate" | "revoke" | "enable";
type Asked = { readonly what: "rotate" | "revoke"; readonly key: Key; readonly attempt: string };

const day = (ms: number): string => new Date(ms).toLocaleDateString();

function stateOf(key: Key, now: number): string {
  if (key.revoked) return "Revoked";
  if (key.disabled) return "Disabled";
  if (key.expires !== undefined && key.expires <= now) return "Expired";
  if (key.notBefore !== undefined && key.notBefore > now) return `Works from ${day(key.notBefore)}`;
  return key.expires === undefined ? "Works" : `Works until ${day(key.expires)}`;
}

/** What the state leaves out. */
function notesOf(key: Key, now: number): readonly string[] {
  const overlaps = !key.revoked && key.overlapUntil !== undefined && key.overlapUntil > now;
  return overlaps ? [`its old text too, until ${new Date(key.overlapUntil).toLocaleString()}`] : [];
}

/** How long the text before a rotation works on. */
const OVERLAPS = [
  { seconds: 0, label: "at once, with its requests under way" },
  { seconds: 3_600, label: "in an hour" },
  { seconds: 86_400, label: "in a day" },
  { seconds: 7 * 86_400, label: "in a week" },
] as const;

function KeyRow({ keyOf: key, onAsk }: { keyOf: Key; onAsk: ((what: Action) => void) | undefined }) {
  const title = key.name === "" ? key.id : key.name;
  return (
    <tr data-testid="key" data-key={key.id}>
      <th scope="row">
        {title}
        <code className="muted">{key.id}</code>
      </th>
      <td data-label="User">{key.user}</td>
      <td data-label="Models">
        {key.models.length === 0 ? "all" : key.models.join(", ")}
        {key.limits.map((limit) => (
          <small key={limit} className="muted">
            {limit}
          </small>
        ))}
      </td>
      <td data-label="State">
        <span data-testid="key-state">{stateOf(key, Date.now())}</span>
        {notesOf(key, Date.now()).map((note) => (
          <small key={note} className="muted">
            {note}
          </small>
        ))}
      </td>
      {onAsk && (
        <td className="key-actions">
          {!key.revoked && (
            <>
              <button type="button" className="button small" aria-label={`${key.disabled ? "Enable" : "Disable"} ${title}`} onClick={() => onAsk("enable")}>
                {key.disabled ? "Enable" : "Disable"}
              </button>
              <button type="button" className="button small" aria-label={`Rotate ${title}`} onClick={() => onAsk("rotate")}>
                Rotate
              </button>
              <button type="button" className="button small danger" aria-label={`Revoke ${title}`} onClick={() => onAsk("revoke")}>
                Revoke
              </button>
            </>
          )}
        </td>
      )}
    </tr>
  );
}

interface QuestionProps {
  readonly asked: Asked;
  readonly onClose: () => void;
  /** With the seconds in which the old text works on. */
  readonly onConfirm: (overlap: number) => void;
}

function Question({ asked, onClose, onConfirm }: QuestionProps) {
  const [overlap, setOverlap] = useState(0);
  const title = asked.key.name === "" ? asked.key.id : asked.key.name;
  return asked.what === "revoke" ? (
    <ConfirmDialog title={`Revoke ${title}?`} action="Revoke" onClose={onClose} onConfirm={() => onConfirm(0)}>
      <p>It ends for good, with its requests under way and the keys that were made below it.</p>
    </ConfirmDialog>
  ) : (
    <ConfirmDialog title={`Rotate ${title}?`} action="Rotate" danger={overlap === 0} onClose={onClose} onConfirm={() => onConfirm(overlap)}>
      <p>It gets a new text, which is shown once.</p>
      <label className="labelled">
        <span>The old text ends</span>
        <select className="field" data-testid="rotate-overlap" value={overlap} onChange={(event) => setOverlap(Number(event.target.value))}>
          {OVERLAPS.map(({ seconds, label }) => (
            <option key={seconds} value={seconds}>
              {label}
            </option>
          ))}
        </select>
      </label>
    </ConfirmDialog>
  );
}

function Table({ keys, onAsk }: { keys: readonly Key[]; onAsk: ((what: Action, key: Key) => void) | undefined }) {
  return (
    <div className="table-scroll" role="region" aria-label="List of keys" tabIndex={0}>
      <table className="usage-table keys-table">
        <thead>
          <tr>
            <th scope="col">Key</th>
            <th scope="col">User</th>
            <th scope="col">Models</th>
            <th scope="col">State</th>
            {onAsk && <th scope="col">Change</th>}
          </tr>
        </thead>
        <tbody>
          {keys.map((key) => (
            <KeyRow key={key.id} keyOf={key} onAsk={onAsk && ((what) => onAsk(what, key))} />
          ))}
        </tbody>
      </table>
    </div>
  );
}

function useChanges(refresh: () => void) {
  const client = useClient();
  const [asked, setAsked] = useState<Asked>();
  const [made, setMade] = useState<MadeKey>();
  const confirm = ({ what, key, attempt }: Asked, overlap: number) => {
    setAsked(undefined);
    const done = what === "rotate" ? rotateKey(key.id, overlap, attempt).then(setMade) : revokeKey(key.id);
    done.then(refresh).catch((failure: unknown) => client.reportError(errorBody(failure)));
  };
  // It can be taken back, so nobody is asked.
  const enable = (key: Key) => {
    enableKey(key.id, key.disabled)
      .then(refresh)
      .catch((failure: unknown) => client.reportError(errorBody(failure)));
  };
  return { asked, setAsked, made, setMade, confirm, enable };
}

export function Keys({ whose }: { whose: Whose }) {
  const load = useCallback(() => listKeys(whose), [whose]);
  const { value: keys, error, refresh } = useLoaded(load);
  const [creating, setCreating] = useState(false);
  const { asked, setAsked, made, setMade, confirm, enable } = useChanges(refresh);
  const ask = (what: Action, key: Key) => (what === "enable" ? enable(key) : setAsked({ what, key, attempt: newId() }));
  return (
    <section className="usage-card" aria-labelledby="keys-title">
      <header>
        <h2 id="keys-title">Keys</h2>
        {whose === "all" && (
          <button type="button" className="button small" data-testid="add-key" onClick={() => setCreating(true)}>
            <Plus size={14} aria-hidden /> Create a key
          </button>
        )}
      </header>
      <p className="muted">For programs outside of Lodge’s sessions. Sessions get keys of their own by themselves.</p>
      {error && <ErrorNote code={error.code} message={error.message} />}
      {!keys && !error && <p className="muted">Loading…</p>}
      {keys?.length === 0 && <p className="muted">There is no key.</p>}
      {keys && keys.length > 0 && <Table keys={keys} onAsk={whose === "all" ? ask : undefined} />}
      {creating && (
        <NewKeyDialog
          onClose={() => setCreating(false)}
          onMade={(key) => {
            setCreating(false);
            setMade(key);
            refresh();
          }}
        />
      )}
      {asked && <Question asked={asked} onClose={() => setAsked(undefined)} onConfirm={(overlap) => confirm(asked, overlap)} />}
      {made && <SecretDialog made={made} onClose={() => setMade(undefined)} />}
    </section>
  );
}
