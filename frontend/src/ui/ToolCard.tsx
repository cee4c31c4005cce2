/** A tool call with its outcome: what was asked, what came of it, how long it took. */
import {
  Bot,
  Check,
  ChevronRight,
  FilePen,
  FilePlus2,
  FileText,
  Globe,
  ListTodo,
  LoaderCircle,
  Search,
  SquareTerminal,
  Wrench,
  X,
} from "lucide-react";
import { memo, use, useState } from "react";
import { WorkspaceContext } from "../app/context";
import { formatDuration } from "../lib/format";
import { cleanTerminal } from "../lib/terminal";
import { toolView, type ToolKind } from "../lib/tools";
import type { Part } from "../protocol/generated";
import type { ToolRun } from "../state/model";
import type { ToolResult } from "../state/rows";
import { ToolBody } from "./ToolBody";

export type ToolState = "writing" | "waiting" | "running" | "done" | "error" | "none";

interface Props {
  readonly name: string;
  readonly input: unknown;
  readonly result: ToolResult | undefined;
  readonly run: ToolRun | undefined;
  readonly duration: number | undefined;
  readonly streaming: boolean;
  readonly turnRuns: boolean;
}

const ICONS = { bash: SquareTerminal, read: FileText, write: FilePlus2, edit: FilePen, search: Search, web: Globe, plan: ListTodo, agent: Bot, other: Wrench } as const;

const STATE_LABELS: Readonly<Record<ToolState, string>> = {
  writing: "being written",
  waiting: "waiting",
  running: "running",
  done: "done",
  error: "failed",
  none: "no result",
};

function stateOf({ result, run, streaming, turnRuns, input }: Props): ToolState {
  if (result) return result.isError ? "error" : "done";
  if (run?.ended) return run.isError ? "error" : "done";
  if (run) return "running";
  if (streaming && typeof input === "string") return "writing";
  return turnRuns ? "waiting" : "none";
}

/** Reading is quiet; what runs, changes files or fails is shown. */
function opensByItself(kind: ToolKind, state: ToolState): boolean {
  if (state === "error") return true;
  return kind === "bash" || kind === "edit" || kind === "write" || kind === "agent";
}

function StateIcon({ state }: { state: ToolState }) {
  if (state === "done") return <Check size={14} className="tool-ok" aria-hidden />;
  if (state === "error") return <X size={14} className="tool-bad" aria-hidden />;
  if (state === "none") return null;
  return <LoaderCircle size={14} className="spin" aria-hidden />;
}

export const ToolCard = memo(function ToolCard(props: Props) {
  const { name, input, result, run, duration } = props;
  const [chosen, setChosen] = useState<boolean>();
  const known = run && typeof input === "string" ? (run.input ?? input) : input;
  const view = toolView(name, known, use(WorkspaceContext));
  const state = stateOf(props);
  const open = chosen ?? opensByItself(view.kind, state);
  const output: readonly Part[] = result?.output ?? run?.output ?? [];
  const Icon = ICONS[view.kind];
  const subject = cleanTerminal(view.subject.split("\n", 1)[0] ?? "");
  return (
    <section className={`tool tool-${state}`} data-testid="tool-card" data-tool={name} data-state={state}>
      <button type="button" className="tool-head" aria-expanded={open} onClick={() => setChosen(!open)}>
        <ChevronRight size={14} className={open ? "chevron open" : "chevron"} aria-hidden />
        <Icon size={14} aria-hidden />
        <span className="tool-label">{view.label}</span>
        {/* A space keeps the words apart where the card is read as plain text. */} <code className="tool-subject">{subject}</code>
        <span className="visually-hidden">, {STATE_LABELS[state]}</span>
        {duration !== undefined && duration >= 100 && (
          <span className="tool-time" data-label={formatDuration(duration)} aria-hidden="true" />
        )}
        <StateIcon state={state} />
      </button>
      {open && (
        <ToolBody view={view} input={known} output={output} messageId={result?.messageId} live={state === "running"} />
      )}
    </section>
  );
});
