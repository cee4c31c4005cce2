/** Which agent: those that can be used first, then those that can be installed. */
import { Download, LoaderCircle } from "lucide-react";
import { useState } from "react";
import type { HarnessInfo, Installing } from "../protocol/generated";
import { ConfirmDialog } from "./SmallDialogs";

export const isUsable = (harness: HarnessInfo): boolean => harness.installed && !harness.problem;

/** What can be used first, then by title. */
export function sortedHarnesses(harnesses: readonly HarnessInfo[]): readonly HarnessInfo[] {
  return [...harnesses].sort((a, b) => Number(isUsable(b)) - Number(isUsable(a)) || a.title.localeCompare(b.title));
}

function Progress({ title, installing }: { title: string; installing: Installing }) {
  const { step, done, total } = installing;
  return (
    <span className="harness-progress" data-testid="harness-progress">
      <span role="status">
        <LoaderCircle size={12} className="spin" aria-hidden /> {step.slice(0, 1).toUpperCase() + step.slice(1)}
        {total > 0 && `, ${done} of ${total}`}
      </span>
      <progress aria-label={`Installing ${title}`} {...(total > 0 ? { value: done, max: total } : {})} />
    </span>
  );
}

interface CardProps {
  readonly harness: HarnessInfo;
  readonly chosen: boolean;
  /** Another one is being installed: one at a time. */
  readonly busy: boolean;
  readonly onChoose: () => void;
  readonly onInstall: (name: string) => void;
}

function InstallButton({ harness, busy, onInstall }: Pick<CardProps, "harness" | "busy" | "onInstall">) {
  const [asking, setAsking] = useState(false);
  const { name, title, licence } = harness;
  return (
    <>
      <button
        type="button"
        className="button small"
        data-testid={`install-${name}`}
        disabled={busy}
        title={busy ? "One at a time" : undefined}
        onClick={() => (licence ? setAsking(true) : onInstall(name))}
      >
        <Download size={12} aria-hidden /> {harness.installed ? "Repair" : "Install"}
        <span className="visually-hidden"> {title}</span>
      </button>
      {asking && (
        <ConfirmDialog
          title={`Install ${title}?`}
          action="Accept and install"
          danger={false}
          onClose={() => setAsking(false)}
          onConfirm={() => {
            setAsking(false);
            onInstall(name);
          }}
        >
          <p>{licence}</p>
        </ConfirmDialog>
      )}
    </>
  );
}

function HarnessCard({ harness, chosen, busy, onChoose, onInstall }: CardProps) {
  const usable = isUsable(harness);
  // That it is not installed the button says; why an installation failed is another thing.
  const problem = harness.problem && (harness.installed || harness.problem.code !== "harness_not_installed") ? harness.problem : undefined;
  return (
    <div className={`harness agent${chosen ? " chosen" : ""}${usable ? "" : " disabled"}`} data-installed={harness.installed}>
      <label className="harness-choice" data-testid={`harness-${harness.name}`}>
        <input
          type="radio"
          name="harness"
          className="visually-hidden"
          value={harness.name}
          checked={chosen}
          disabled={!usable}
          onChange={onChoose}
        />
        <span className="harness-mark" aria-hidden="true">
          {harness.title.slice(0, 1)}
        </span>
        <span className="harness-text">
          <span className="harness-title">
            {harness.title} <small>{harness.version}</small>
          </span>
          <span className="harness-about">{harness.description}</span>
          {harness.licence && <span className="harness-licence">{harness.licence}</span>}
          {problem && <span className="harness-problem">{problem.message}</span>}
        </span>
      </label>
      {harness.installing ? (
        <Progress title={harness.title} installing={harness.installing} />
      ) : (
        !usable && (
          <span className="harness-install">
            <InstallButton harness={harness} busy={busy} onInstall={onInstall} />
          </span>
        )
      )}
    </div>
  );
}

interface Props {
  readonly harnesses: readonly HarnessInfo[];
  readonly value: string;
  readonly onChange: (name: string) => void;
  readonly onInstall: (name: string) => void;
}

export function HarnessPicker({ harnesses, value, onChange, onInstall }: Props) {
  const busy = harnesses.some((harness) => harness.installing);
  return (
    <fieldset className="harnesses">
      <legend>Agent</legend>
      {harnesses.length === 0 && <p className="muted">No agent is known to this server.</p>}
      <div className="harness-grid">
        {sortedHarnesses(harnesses).map((harness) => (
          <HarnessCard
            key={harness.name}
            harness={harness}
            chosen={harness.name === value}
            busy={busy}
            onChoose={() => onChange(harness.name)}
            onInstall={onInstall}
          />
        ))}
      </div>
    </fieldset>
  );
}
