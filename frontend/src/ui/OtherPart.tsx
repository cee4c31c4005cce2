/** Parts that are neither text nor tool calls; unknown ones are shown as what they are. */
import { Circle, CircleCheck, CircleDot, FileIcon, Paperclip } from "lucide-react";
import { parsePatch } from "../lib/diff";
import { explainReport } from "../lib/errors";
import type { BlobRef, Part, PlanEntry } from "../protocol/generated";
import { DiffView } from "./DiffView";
import { ImagePart } from "./ImagePart";
import { SubAgent } from "./SubAgent";

const PLAN_ICONS = { pending: Circle, in_progress: CircleDot, completed: CircleCheck } as const;

const PLAN_STATES = { pending: "To do", in_progress: "In progress", completed: "Done" } as const;

export function PlanList({ entries }: { entries: readonly PlanEntry[] }) {
  return (
    <ul className="plan">
      {entries.map((entry, index) => {
        const Icon = PLAN_ICONS[entry.status] ?? Circle;
        return (
          <li key={index} className={`plan-${entry.status}`} data-testid="plan-entry" data-status={entry.status}>
            <Icon size={14} aria-hidden />
            <span>
              <span className="visually-hidden">{PLAN_STATES[entry.status] ?? entry.status}: </span>
              {entry.content}
            </span>
          </li>
        );
      })}
    </ul>
  );
}

function Blob({ blob }: { blob: BlobRef }) {
  const name = blob.name ?? blob.media_type;
  return (
    <span className="chip">
      <Paperclip size={12} aria-hidden /> {name}
    </span>
  );
}

interface LimitDetails {
  readonly key?: unknown;
  readonly allowed?: unknown;
  readonly found?: unknown;
}

const isTellable = (value: unknown): value is string | number => typeof value === "string" || typeof value === "number";

/** Which bound of the policy was crossed, and by how much. */
function Limit({ details: { key, allowed, found } }: { details: LimitDetails }) {
  if (!isTellable(key)) return null;
  return (
    <dl className="limit" data-testid="limit-details">
      <dt>Limit</dt>
      <dd>
        <code>{key}</code>
      </dd>
      {isTellable(allowed) && <dt>Allowed</dt>}
      {isTellable(allowed) && <dd>{allowed}</dd>}
      {isTellable(found) && <dt>Found</dt>}
      {isTellable(found) && <dd>{found}</dd>}
    </dl>
  );
}

export function ErrorNote({ code, message, details }: { code: string; message: string; details?: unknown }) {
  const { title, hint, message: said } = explainReport(code, message);
  const limit = code === "limit_exceeded" && typeof details === "object" ? (details as LimitDetails | null) : null;
  return (
    <div className="error-note" role="note" data-code={code}>
      <strong>{title}</strong> <code>{code}</code>
      <p>{said}</p>
      {limit && <Limit details={limit} />}
      <p className="error-hint">
        {hint}
        {code === "budget_exceeded" && (
          <>
            {" "}
            <a href="#/usage" data-testid="see-budgets">
              See your budgets
            </a>
          </>
        )}
      </p>
    </div>
  );
}

export function OtherPart({ part }: { part: Part }) {
  switch (part.type) {
    case "plan":
      return <PlanList entries={part.entries} />;
    case "image":
      return <ImagePart blob={part.blob} alt={part.alt} />;
    case "audio":
    case "video":
    case "attachment":
      return <Blob blob={part.blob} />;
    case "file_ref":
      return (
        <span className="chip">
          <FileIcon size={12} aria-hidden /> {part.path}
        </span>
      );
    case "diff":
      return <DiffView lines={parsePatch(part.patch)} path={part.path} />;
    case "error":
      return <ErrorNote code={part.code} message={part.message} />;
    case "x-claude-subagent":
      return <SubAgent entries={part.entries} truncated={part.truncated === true} />;
    default:
      return (
        <details className="opaque">
          <summary>
            <code>{part.type}</code>
          </summary>
          <pre>{JSON.stringify(part, undefined, 2)}</pre>
        </details>
      );
  }
}
