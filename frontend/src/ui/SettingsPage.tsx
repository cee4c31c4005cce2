/** Model providers and their keys, and what was allowed for always. A key goes in and never comes out. */
import { LogOut } from "lucide-react";
import { useCallback, useEffect, useState } from "react";
import { useClient } from "../app/context";
import { api } from "../lib/http";
import { errorBody } from "../protocol/wire";
import type { ErrorBody } from "../protocol/generated";
import { Approvals } from "./Approvals";
import { MenuButton } from "./HomePage";
import { ErrorNote } from "./OtherPart";
import { AddProvider, KeyDialog } from "./ProviderForms";
import { listProviders, removeProviderKey, type Provider } from "./providers";
import { ConfirmDialog } from "./SmallDialogs";
import { TrustedWorkspaces } from "./TrustedWorkspaces";

const SOURCES: Readonly<Record<string, string>> = {
  environment: "Key from the environment",
  file: "Key from a file",
  sealed: "Key entered here, stored sealed",
};

function keyNote(provider: Provider): string {
  if (provider.kind === "demo") return "Scripted, not an AI. Needs no key.";
  return provider.hasKey ? (SOURCES[provider.keySource] ?? "Has a key") : "No key yet";
}

function ProviderRow({ provider, onChanged }: { provider: Provider; onChanged: () => void }) {
  const client = useClient();
  const [dialog, setDialog] = useState<"key" | "remove">();
  const close = () => setDialog(undefined);
  const remove = () => {
    close();
    removeProviderKey(provider.name)
      .then(onChanged)
      .catch((error: unknown) => client.reportError(errorBody(error)));
  };
  return (
    <li className="provider" data-testid={`provider-${provider.name}`}>
      <span className={`dot dot-${provider.hasKey || provider.kind === "demo" ? "idle" : "off"}`} aria-hidden="true" />
      <div className="provider-text">
        <strong>{provider.name}</strong>
        <span className="muted">
          {keyNote(provider)}
          {provider.models > 0 && ` · ${provider.models} ${provider.models === 1 ? "model" : "models"}`}
        </span>
        {provider.baseUrl && <code className="muted ellipsis">{provider.baseUrl}</code>}
      </div>
      {provider.kind !== "demo" && (
        <div className="provider-actions">
          {provider.keySource === "sealed" && (
            <button type="button" className="button small" onClick={() => setDialog("remove")}>
              Remove key
            </button>
          )}
          <button type="button" className="button small" onClick={() => setDialog("key")}>
            {provider.hasKey ? "Replace key" : "Enter key"}
          </button>
        </div>
      )}
      {dialog === "key" && <KeyDialog provider={provider} onClose={close} onSaved={onChanged} />}
      {dialog === "remove" && (
        <ConfirmDialog title={`Remove the key of ${provider.name}?`} action="Remove key" onClose={close} onConfirm={remove}>
          <p>Sessions that use this provider will fail until there is another key.</p>
        </ConfirmDialog>
      )}
    </li>
  );
}

function useProviders() {
  const [providers, setProviders] = useState<readonly Provider[]>();
  const [error, setError] = useState<ErrorBody>();
  const refresh = useCallback(() => {
    listProviders()
      .then((found) => {
        setProviders(found);
        setError(undefined);
      })
      .catch((failure: unknown) => setError(errorBody(failure)));
  }, []);
  useEffect(refresh, [refresh]);
  return { providers, error, refresh };
}

async function logOut(): Promise<void> {
  await api("POST", "/logout").catch(() => undefined);
  window.location.assign("/");
}

export function SettingsPage({ onMenu }: { onMenu: () => void }) {
  const { providers, error, refresh } = useProviders();
  return (
    <div className="page">
      <header className="page-header">
        <MenuButton onMenu={onMenu} />
        <div className="header-title">
          <h1>Settings</h1>
        </div>
        <button type="button" className="button small" onClick={() => void logOut()}>
          <LogOut size={14} aria-hidden /> Log out
        </button>
      </header>
      <div className="settings" tabIndex={0} role="region" aria-label="Settings">
        <section aria-labelledby="providers-title">
          <h2 id="providers-title">Model providers</h2>
          <p className="muted">
            Keys stay with the gateway. Agents get a key of their own that works only inside their sandbox.
          </p>
          {error && <ErrorNote code={error.code} message={error.message} />}
          {providers?.length === 0 && <p className="muted">No provider is configured.</p>}
          <ul className="providers">
            {providers?.map((provider) => <ProviderRow key={provider.name} provider={provider} onChanged={refresh} />)}
          </ul>
          {providers && <AddProvider existing={providers} onSaved={refresh} />}
        </section>
        <Approvals />
        <TrustedWorkspaces />
      </div>
    </div>
  );
}
