import { Plus } from "lucide-react";
import { useState, type SubmitEvent } from "react";
import { errorBody } from "../protocol/wire";
import type { ErrorBody } from "../protocol/generated";
import { Dialog } from "./Dialog";
import { ErrorNote } from "./OtherPart";
import { setProviderKey, type KeyInput, type Provider } from "./providers";

const KINDS = [
  { kind: "anthropic", label: "Anthropic" },
  { kind: "openai", label: "OpenAI" },
  { kind: "gemini", label: "Google Gemini" },
  { kind: "openai_compatible", label: "OpenAI-compatible server" },
] as const;

function useSave(onSaved: () => void, onClose: () => void) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<ErrorBody>();
  const save = (name: string, input: KeyInput) => {
    setBusy(true);
    setProviderKey(name, input)
      .then(() => {
        onSaved();
        onClose();
      })
      .catch((failure: unknown) => {
        setError(errorBody(failure));
        setBusy(false);
      });
  };
  return { busy, error, save };
}

function KeyField({ value, onChange, optional = false }: { value: string; onChange: (value: string) => void; optional?: boolean }) {
  return (
    <label className="labelled">
      <span>API key</span>
      <input
        className="field"
        type="password"
        autoComplete="off"
        data-testid="provider-key"
        value={value}
        onChange={(event) => onChange(event.target.value)}
      />
      <small className="muted">
        {optional ? "Empty if the server asks for none. " : ""}Stored sealed and never shown again.
      </small>
    </label>
  );
}

function Actions({ ready, onClose }: { ready: boolean; onClose: () => void }) {
  return (
    <footer className="dialog-actions">
      <button type="button" className="button" onClick={onClose}>
        Cancel
      </button>
      <button type="submit" className="button primary" data-testid="provider-save" disabled={!ready}>
        Save key
      </button>
    </footer>
  );
}

interface KeyDialogProps {
  readonly provider: Provider;
  readonly onClose: () => void;
  readonly onSaved: () => void;
}

export function KeyDialog({ provider, onClose, onSaved }: KeyDialogProps) {
  const [key, setKey] = useState("");
  const { busy, error, save } = useSave(onSaved, onClose);
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    save(provider.name, { key: key.trim(), kind: provider.kind, baseUrl: provider.baseUrl });
  };
  return (
    <Dialog title={`Key of ${provider.name}`} onClose={onClose} size="small" testId="dialog-key">
      <form onSubmit={submit}>
        <div className="dialog-body">
          <KeyField value={key} onChange={setKey} />
          {error && <ErrorNote code={error.code} message={error.message} />}
        </div>
        <Actions ready={key.trim() !== "" && !busy} onClose={onClose} />
      </form>
    </Dialog>
  );
}

interface AddProps {
  readonly existing: readonly Provider[];
  readonly onSaved: () => void;
}

function AddDialog({ existing, onSaved, onClose }: AddProps & { onClose: () => void }) {
  const [kind, setKind] = useState<string>(
    () => KINDS.find((known) => !existing.some((provider) => provider.kind === known.kind))?.kind ?? "anthropic",
  );
  const [name, setName] = useState("");
  const [baseUrl, setBaseUrl] = useState("");
  const [key, setKey] = useState("");
  const { busy, error, save } = useSave(onSaved, onClose);
  const needsUrl = kind === "openai_compatible";
  // A server of one's own may ask for no key.
  const ready = (needsUrl ? baseUrl.trim() !== "" : key.trim() !== "") && !busy;
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    save(name.trim() || kind, { key: key.trim(), kind, ...(needsUrl ? { baseUrl: baseUrl.trim() } : {}) });
  };
  return (
    <Dialog title="Add a provider" onClose={onClose} size="small" testId="dialog-provider">
      <form onSubmit={submit}>
        <div className="dialog-body">
          <label className="labelled">
            <span>Kind</span>
            <select className="field" value={kind} onChange={(event) => setKind(event.target.value)}>
              {KINDS.map((known) => (
                <option key={known.kind} value={known.kind}>
                  {known.label}
                </option>
              ))}
            </select>
          </label>
          <label className="labelled">
            <span>Name</span>
            <input className="field" value={name} placeholder={kind} onChange={(event) => setName(event.target.value)} />
          </label>
          {needsUrl && (
            <label className="labelled">
              <span>Base URL</span>
              <input className="field" type="url" value={baseUrl} placeholder="https://…/v1" onChange={(event) => setBaseUrl(event.target.value)} />
            </label>
          )}
          <KeyField value={key} onChange={setKey} optional={needsUrl} />
          {error && <ErrorNote code={error.code} message={error.message} />}
        </div>
        <Actions ready={ready} onClose={onClose} />
      </form>
    </Dialog>
  );
}

export function AddProvider({ existing, onSaved }: AddProps) {
  const [open, setOpen] = useState(false);
  return (
    <>
      <button type="button" className="button" data-testid="add-provider" onClick={() => setOpen(true)}>
        <Plus size={14} aria-hidden /> Add a provider
      </button>
      {open && <AddDialog existing={existing} onSaved={onSaved} onClose={() => setOpen(false)} />}
    </>
  );
}
