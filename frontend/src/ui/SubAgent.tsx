/** What a sub-agent did, folded away: its report is the result of the call. */
import { cleanTerminal } from "../lib/terminal";
import { toolView } from "../lib/tools";
import { Mono } from "./Mono";

interface Entry {
  readonly type?: unknown;
  readonly text?: unknown;
  readonly name?: unknown;
  readonly input?: unknown;
  readonly output?: unknown;
}

const asText = (value: unknown): string => (typeof value === "string" ? cleanTerminal(value) : "");

function Step({ entry }: { entry: Entry }) {
  if (entry.type === "tool_call") {
    const view = toolView(asText(entry.name), entry.input);
    return (
      <p className="subagent-call">
        <span className="tool-label">{view.label}</span> <code>{cleanTerminal(view.subject)}</code>
      </p>
    );
  }
  if (entry.type === "tool_result") return <Mono text={asText(entry.output)} label="Output of the sub-agent’s tool" />;
  const text = asText(entry.text);
  return text === "" ? null : <p className="prewrap">{text}</p>;
}

export function SubAgent({ entries, truncated }: { entries: unknown; truncated: boolean }) {
  const steps = Array.isArray(entries) ? (entries as readonly Entry[]) : [];
  if (steps.length === 0) return null;
  return (
    <details className="subagent" data-testid="subagent">
      <summary>What the sub-agent did{truncated && ", cut"}</summary>
      {steps.map((entry, index) => (
        <Step key={index} entry={entry} />
      ))}
    </details>
  );
}
