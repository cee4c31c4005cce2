/** What a turn left in the workspace that tools outside of the sandbox may trip over. */
import { FileWarning } from "lucide-react";
import { useId, useState } from "react";
import { findingWords } from "../lib/sandbox";
import { load, save } from "../lib/storage";
import { cleanTerminal } from "../lib/terminal";
import type { FindingKind, SeenFinding } from "../protocol/generated";
import { findingKey } from "../state/guard";

/** Findings up to this moment were put away by the user. They come again only when a turn finds them again. */
function useDismissed(sessionId: string) {
  const key = `findings.${sessionId}`;
  const [until, setUntil] = useState(() => Number(load(key) ?? -1));
  const dismiss = (findings: readonly SeenFinding[]) => {
    const newest = Math.max(...findings.map((finding) => finding.at));
    setUntil(newest);
    save(key, String(newest));
  };
  return { until, dismiss };
}

function Kind({ kind, findings }: { kind: FindingKind; findings: readonly SeenFinding[] }) {
  const first = findings[0];
  if (!first) return null;
  const { title, about } = findingWords(first);
  return (
    <li className="finding-kind" data-testid={`findings-${kind}`}>
      <strong>
        {title} <small>{findings.length}</small>
      </strong>
      <p>{about}</p>
      <ul>
        {findings.map((finding) => (
          <li key={findingKey(finding)} data-testid="finding" data-path={finding.path} data-kind={finding.kind}>
            <code>{cleanTerminal(finding.path)}</code> <span>{cleanTerminal(finding.detail)}</span>
          </li>
        ))}
      </ul>
    </li>
  );
}

interface Props {
  readonly findings: readonly SeenFinding[];
  readonly cut: boolean;
  readonly sessionId: string;
}

export function Findings({ findings, cut, sessionId }: Props) {
  const { until, dismiss } = useDismissed(sessionId);
  const [open, setOpen] = useState(false);
  const listId = useId();
  const shown = findings.filter((finding) => finding.at > until);
  if (shown.length === 0) return null;
  const kinds = [...new Set(shown.map((finding) => finding.kind))];
  return (
    <section className="findings" aria-label="Findings in the workspace" data-testid="findings" data-count={shown.length}>
      <div className="banner banner-warning" role="status">
        <FileWarning size={14} aria-hidden />
        <span>
          The agent’s turn left {shown.length === 1 ? "something" : `${shown.length} things`} in the workspace that your own tools may act on.
          {cut && " There is more than is listed."}
        </span>
        <button type="button" className="button small" aria-expanded={open} aria-controls={listId} data-testid="findings-show" onClick={() => setOpen(!open)}>
          {open ? "Hide" : "Show"}
        </button>
        <button type="button" className="button small" data-testid="findings-dismiss" onClick={() => dismiss(shown)}>
          Dismiss
        </button>
      </div>
      {open && (
        <ul id={listId} className="finding-kinds" tabIndex={0} aria-label="Findings by kind">
          {kinds.map((kind) => (
            <Kind key={kind} kind={kind} findings={shown.filter((finding) => finding.kind === kind)} />
          ))}
        </ul>
      )}
    </section>
  );
}
