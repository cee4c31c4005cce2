/** How the gateway and its accounts with the providers are: what is left alone, why, and what is left of the quotas. */
import { RefreshCw } from "lucide-react";
import { useState } from "react";
import { useClient } from "../../app/context";
import { formatWhen } from "../../lib/format";
import type { ErrorBody } from "../../protocol/generated";
import { errorBody } from "../../protocol/wire";
import { ErrorNote } from "../OtherPart";
import { useCountdown } from "../useCountdown";
import { AccountActions, AddAccount, Aliases } from "./AccountForms";
import { Meter } from "./Meter";
import { gatewayHealth, listAccounts, reloadConfig, testProvider, type Account, type QuotaWindow, type Tested } from "./operations";
import { showSetup, type SetAccount } from "./setup";
import { useLoaded } from "./useLoaded";
import { usePolled } from "./usePolled";

const EVERY_MS = 5_000;

const STATES: Readonly<Record<string, { readonly word: string; readonly why: string }>> = {
  well: { word: "Well", why: "" },
  trial: { word: "On trial", why: "It failed before; the next answer decides." },
  limited: { word: "Limited", why: "The provider asked to slow down." },
  failing: { word: "Failing", why: "The provider cannot be reached, or answers with errors." },
  refused: { word: "Refused", why: "The provider refused the key. Is it still good?" },
  disabled: { word: "Out of use", why: "An administrator took it out of use." },
};

function Pause({ until }: { until: number }) {
  const seconds = useCountdown(until) ?? 0;
  return <> Left alone for {seconds < 120 ? `${seconds} s` : `${Math.ceil(seconds / 60)} min`}; other accounts are used.</>;
}

function Quota({ window, of }: { window: QuotaWindow; of: string }) {
  return (
    <li>
      <span className="quota-words">
        <span>{window.name}</span>
        <span className="muted">
          {window.words}
          {window.resetsAt !== undefined && window.resetsAt > Date.now() && `, full again ${formatWhen(window.resetsAt, Date.now())}`}
        </span>
      </span>
      {window.usedPercent !== undefined && <Meter label={`Used of ${window.name} of ${of}`} used={window.usedPercent} held={0} />}
    </li>
  );
}

interface ItemProps {
  readonly account: Account;
  readonly tested: Tested | undefined;
  /** As it is set up; `undefined`: not known yet. */
  readonly set: SetAccount | undefined;
  readonly onChanged: () => void;
}

function AccountItem({ account, tested, set, onChanged }: ItemProps) {
  const state = STATES[account.state] ?? { word: account.state, why: "" };
  const name = account.account === "default" ? account.provider : `${account.provider}/${account.account}`;
  return (
    <li className="account-item" data-testid="account" data-account={name}>
      <div className="account-head">
        <strong>{name}</strong>
        <span className={`state state-${account.state}`} data-testid="account-state">
          {state.word}
        </span>
      </div>
      {(state.why !== "" || account.pausedUntil !== undefined) && (
        <p className="muted">
          {state.why}
          {account.pausedUntil !== undefined && <Pause until={account.pausedUntil} />}
        </p>
      )}
      {tested && (
        <p className={tested.ok ? "outcome" : "outcome refused"} data-testid="account-test">
          {tested.ok ? "The test went well: it " : "The test failed: "}
          {tested.words}
        </p>
      )}
      {account.windows.length > 0 && (
        <ul className="quotas">
          {account.windows.map((window) => (
            <Quota key={window.name} window={window} of={name} />
          ))}
        </ul>
      )}
      {set && <AccountActions account={set} onChanged={onChanged} />}
    </li>
  );
}

function useTests() {
  const client = useClient();
  const [tested, setTested] = useState<Readonly<Record<string, Tested>>>({});
  const [busy, setBusy] = useState(false);
  const test = async (providers: readonly string[]) => {
    setBusy(true);
    for (const provider of providers) {
      try {
        const results = await testProvider(provider);
        setTested((before) => ({ ...before, ...Object.fromEntries(results.map((result) => [`${provider}/${result.account}`, result])) }));
      } catch (failure) {
        client.reportError(errorBody(failure));
      }
    }
    setBusy(false);
  };
  return { tested, busy, test: (providers: readonly string[]) => void test(providers) };
}

function Providers() {
  const { value: accounts, error, refresh } = usePolled(listAccounts, EVERY_MS);
  const { value: setup, refresh: refreshSetup } = useLoaded(showSetup);
  const { tested, busy, test } = useTests();
  const providers = [...new Set(accounts?.map((account) => account.provider))];
  const onChanged = () => {
    refresh();
    refreshSetup();
  };
  return (
    <>
      <section className="usage-card" aria-labelledby="accounts-title">
        <header>
          <h2 id="accounts-title">Accounts with providers</h2>
          {providers.length > 0 && (
            <button
              type="button"
              className="button small"
              data-testid="test-accounts"
              disabled={busy}
              onClick={() => {
                test(providers);
                refresh();
              }}
            >
              {busy ? "Testing…" : "Test all"}
            </button>
          )}
          {setup && setup.providers.length > 0 && <AddAccount providers={setup.providers} onChanged={onChanged} />}
        </header>
        {error && <ErrorNote code={error.code} message={error.message} />}
        {!accounts && !error && <p className="muted">Loading…</p>}
        {accounts?.length === 0 && (
          <p className="muted">
            There is none. <a href="#/settings">Add a provider</a> under Settings.
          </p>
        )}
        {accounts && accounts.length > 0 && (
          <>
            <p className="muted">A test asks for the list of models, which is free of charge.</p>
            <ul className="accounts">
              {accounts.map((account) => {
                const name = `${account.provider}/${account.account}`;
                const set = setup?.accounts.find((known) => known.provider === account.provider && known.account === account.account);
                return <AccountItem key={name} account={account} tested={tested[name]} set={set} onChanged={onChanged} />;
              })}
            </ul>
          </>
        )}
      </section>
      {setup && <Aliases aliases={setup.aliases} />}
    </>
  );
}

function useReload(refresh: () => void) {
  const [outcome, setOutcome] = useState<string>();
  const [error, setError] = useState<ErrorBody>();
  const reload = () => {
    setOutcome(undefined);
    reloadConfig()
      .then(
        (needs) => {
          setError(undefined);
          setOutcome(needs.length === 0 ? "The configuration is in force as it is in the file." : `In force, but for ${needs.join(", ")}: that needs a restart.`);
        },
        (failure: unknown) => setError(errorBody(failure)),
      )
      .finally(refresh);
  };
  return { outcome, error, reload };
}

function Gateway() {
  const { value: health, error, refresh } = useLoaded(gatewayHealth);
  const { outcome, error: refused, reload } = useReload(refresh);
  const known = refused ?? (health && health.configError !== "" ? { code: "invalid_argument", message: health.configError } : undefined);
  return (
    <section className="usage-card" aria-labelledby="gateway-title">
      <header>
        <h2 id="gateway-title">Gateway</h2>
        <button type="button" className="button small" data-testid="reload-config" onClick={reload}>
          <RefreshCw size={14} aria-hidden /> Read the configuration again
        </button>
      </header>
      {error && <ErrorNote code={error.code} message={error.message} />}
      {health && (
        <p className="muted" data-testid="gateway-health">
          Version {health.version} serves {health.sessions === 1 ? "one session" : `${health.sessions} sessions`}
          {health.address === "" ? "; keys of people are accepted nowhere." : <>; keys of people are accepted at <code>{health.address}</code>.</>}
        </p>
      )}
      {known && (
        <>
          <ErrorNote code={known.code} message={known.message} />
          <p className="muted">What was in force before still is.</p>
        </>
      )}
      <p role="status" data-testid="reload-outcome">
        {outcome}
      </p>
    </section>
  );
}

export function Accounts() {
  return (
    <>
      <Gateway />
      <Providers />
    </>
  );
}
