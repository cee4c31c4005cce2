/** Accounts beside a provider's own key: added, taken out of use, removed; and what aliases stand for. */
import { Plus } from "lucide-react";
import { useState, type SubmitEvent } from "react";
import { useClient } from "../../app/context";
import type { ErrorBody } from "../../protocol/generated";
import { errorBody } from "../../protocol/wire";
import { Dialog } from "../Dialog";
import { ErrorNote } from "../OtherPart";
import { ConfirmDialog } from "../SmallDialogs";
import { addAccount, enableAccount, removeAccount, type SetAccount, type SetAlias } from "./setup";

interface AddProps {
  readonly providers: readonly string[];
  readonly onChanged: () => void;
}

function AddDialog({ providers, onChanged, onClose }: AddProps & { onClose: () => void }) {
  const [provider, setProvider] = useState(providers[0] ?? "");
  const [name, setName] = useState("");
  const [key, setKey] = useState("");
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<ErrorBody>();
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    setBusy(true);
    addAccount(provider, name.trim(), key.trim()).then(
      () => {
        onChanged();
        onClose();
      },
      (failure: unknown) => {
        setError(errorBody(failure));
        setBusy(false);
      },
    );
  };
  return (
    <Dialog title="Add an account" onClose={onClose} size="small" testId="dialog-account">
      <form onSubmit={submit}>
        <div className="dialog-body">
          <label className="labelled">
            <span>Provider</span>
            <select className="field" value={provider} onChange={(event) => setProvider(event.target.value)}>
              {providers.map((known) => (
                <option key={known}>{known}</option>
              ))}
            </select>
          </label>
          <label className="labelled">
            <span>Name</span>
            <input className="field" value={name} placeholder="team" data-testid="account-name" onChange={(event) => setName(event.target.value)} />
            <small className="muted">Lower-case letters, digits and hyphens.</small>
          </label>
          <label className="labelled">
            <span>API key</span>
            <input className="field" type="password" autoComplete="off" data-testid="account-key" value={key} onChange={(event) => setKey(event.target.value)} />
            <small className="muted">Stored sealed and never shown again.</small>
          </label>
          {error && <ErrorNote code={error.code} message={error.message} />}
        </div>
        <footer className="dialog-actions">
          <button type="button" className="button" onClick={onClose}>
            Cancel
          </button>
          <button type="submit" className="button primary" data-testid="account-save" disabled={busy || name.trim() === "" || key.trim() === ""}>
            Add the account
          </button>
        </footer>
      </form>
    </Dialog>
  );
}

export function AddAccount(props: AddProps) {
  const [open, setOpen] = useState(false);
  return (
    <>
      <button type="button" className="button small" data-testid="add-account" onClick={() => setOpen(true)}>
        <Plus size={14} aria-hidden /> Add an account
      </button>
      {open && <AddDialog {...props} onClose={() => setOpen(false)} />}
    </>
  );
}

/** What can be done with an account; nothing with one of the configuration file. */
export function AccountActions({ account, onChanged }: { account: SetAccount; onChanged: () => void }) {
  const client = useClient();
  const [confirming, setConfirming] = useState(false);
  if (account.isOfFile) return <small className="muted">In lodge.toml</small>;
  const doing = (change: Promise<void>) => {
    change.then(onChanged, (failure: unknown) => client.reportError(errorBody(failure)));
  };
  const name = `${account.provider}/${account.account}`;
  return (
    <span className="account-actions">
      <button type="button" className="button small" data-testid="account-enable" onClick={() => doing(enableAccount(account, account.disabled))}>
        {account.disabled ? "Use again" : "Take out of use"}
      </button>
      {account.account !== "default" && (
        <button type="button" className="button small" data-testid="account-remove" onClick={() => setConfirming(true)}>
          Remove
        </button>
      )}
      {confirming && (
        <ConfirmDialog
          title={`Remove ${name}?`}
          action="Remove"
          onClose={() => setConfirming(false)}
          onConfirm={() => {
            setConfirming(false);
            doing(removeAccount(account));
          }}
        >
          Its key is forgotten. Requests under way end as they began; others go through the accounts that are left.
        </ConfirmDialog>
      )}
    </span>
  );
}

/** What names stand for. They are changed with `lodgectl alias` or in the file. */
export function Aliases({ aliases }: { aliases: readonly SetAlias[] }) {
  if (aliases.length === 0) return null;
  return (
    <section className="usage-card" aria-labelledby="aliases-title">
      <header>
        <h2 id="aliases-title">Aliases</h2>
      </header>
      <p className="muted">Names that stand for models, in the order in which they are tried. They are set with lodgectl or in lodge.toml.</p>
      <ul className="accounts">
        {aliases.map((alias) => (
          <li key={`${alias.provider}/${alias.name}`} className="account-item" data-testid="alias">
            <div className="account-head">
              <strong>
                {alias.provider}/{alias.name}
              </strong>
              <small className="muted">{alias.isOfFile ? "In lodge.toml" : "Set with lodgectl"}</small>
            </div>
            <p className="muted">{alias.targets.join(", then ")}</p>
          </li>
        ))}
      </ul>
    </section>
  );
}
