import type { HarnessInfo } from "../protocol/generated";

interface Props {
  readonly harnesses: readonly HarnessInfo[];
  readonly value: string;
  readonly onChange: (name: string) => void;
}

function problemOf(harness: HarnessInfo): string | undefined {
  if (harness.problem) return harness.problem.message;
  return harness.installed ? undefined : "Not installed.";
}

function HarnessCard({ harness, chosen, onChoose }: { harness: HarnessInfo; chosen: boolean; onChoose: () => void }) {
  const problem = problemOf(harness);
  const usable = harness.installed && !harness.problem;
  return (
    <label className={`harness${chosen ? " chosen" : ""}${usable ? "" : " disabled"}`} data-testid={`harness-${harness.name}`}>
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
        {problem && (
          <span className="harness-problem">
            {problem}
            {!harness.installed && <code>lodge harness install {harness.name}</code>}
          </span>
        )}
      </span>
    </label>
  );
}

export function HarnessPicker({ harnesses, value, onChange }: Props) {
  return (
    <fieldset className="harnesses">
      <legend>Agent</legend>
      {harnesses.length === 0 && <p className="muted">No agent is known to this server.</p>}
      <div className="harness-grid">
        {harnesses.map((harness) => (
          <HarnessCard
            key={harness.name}
            harness={harness}
            chosen={harness.name === value}
            onChoose={() => onChange(harness.name)}
          />
        ))}
      </div>
    </fieldset>
  );
}
