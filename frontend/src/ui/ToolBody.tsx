import { useState } from "react";
import { diffLines, parsePatch, type DiffLine } from "../lib/diff";
import { cleanTerminal } from "../lib/terminal";
import { outputText, type ToolView } from "../lib/tools";
import type { Part } from "../protocol/generated";
import { CopyButton } from "./CopyButton";
import { DiffView } from "./DiffView";
import { OtherPart } from "./OtherPart";

const MAX_LINES = 200;

/** Monospaced text, cut to a length that a page can bear; live output keeps its end, finished output its start. */
export function Mono({ text, live = false, label, testId }: { text: string; live?: boolean; label: string; testId?: string }) {
  const [all, setAll] = useState(false);
  const lines = text.replace(/\n+$/, "").split("\n");
  const cut = !all && lines.length > MAX_LINES;
  const shown = cut ? (live ? lines.slice(-MAX_LINES) : lines.slice(0, MAX_LINES)) : lines;
  return (
    <div className="mono">
      <pre tabIndex={0} data-testid={testId} aria-label={label} role="group">
        {shown.join("\n")}
      </pre>
      <div className="mono-tools">
        <CopyButton text={text} label={`Copy ${label.toLowerCase()}`} />
      </div>
      {cut && (
        <button type="button" className="link-button" onClick={() => setAll(true)}>
          Show all {lines.length} lines
        </button>
      )}
    </div>
  );
}

function diffOf(view: ToolView, output: readonly Part[]): readonly DiffLine[] | undefined {
  const patch = output.find((part) => part.type === "diff");
  if (patch) return parsePatch(patch.patch);
  if (view.edits.length > 0) {
    return view.edits.flatMap(({ before, after }, index): DiffLine[] => [
      ...(index > 0 ? [{ kind: "hunk" as const, text: "⋯" }] : []),
      ...diffLines(before, after),
    ]);
  }
  return view.patch ? parsePatch(view.patch) : undefined;
}

function pretty(input: unknown): string {
  if (typeof input === "string") return cleanTerminal(input);
  return cleanTerminal(JSON.stringify(input, undefined, 2) ?? "");
}

function isEmpty(input: unknown): boolean {
  if (input === undefined || input === null || input === "") return true;
  return typeof input === "object" && Object.keys(input).length === 0;
}

/** What was asked of the tool. */
export function ToolInput({ view, input }: { view: ToolView; input: unknown }) {
  if (typeof input === "string") return isEmpty(input) ? null : <pre className="tool-raw">{pretty(input)}</pre>;
  if (view.kind === "bash") {
    return view.subject.includes("\n") ? <pre className="tool-command">{cleanTerminal(view.subject)}</pre> : null;
  }
  if (view.kind === "write" && view.content !== undefined) {
    return <Mono text={cleanTerminal(view.content)} label="Content" />;
  }
  if (view.kind === "read" || isEmpty(input)) return null;
  return <pre className="tool-raw">{pretty(input)}</pre>;
}

interface Props {
  readonly view: ToolView;
  readonly input: unknown;
  readonly output: readonly Part[];
  readonly messageId: string | undefined;
  readonly live: boolean;
}

export function ToolBody({ view, input, output, messageId, live }: Props) {
  const diff = diffOf(view, output);
  const text = outputText(output);
  const others = output.filter((part) => !["text", "thinking", "error", "diff"].includes(part.type));
  return (
    <div className="tool-body">
      {diff ? <DiffView lines={diff} /> : <ToolInput view={view} input={input} />}
      {/* The result is a message of its own in the log; its id stays findable. */}
      <div className="tool-result" data-testid={messageId ? "message-tool" : undefined} data-message-id={messageId}>
        {text !== "" && <Mono text={text} live={live} label="Output" testId="tool-output" />}
        {others.map((part, index) => (
          <OtherPart key={index} part={part} />
        ))}
        {text === "" && others.length === 0 && messageId && !diff && <p className="tool-empty">No output</p>}
      </div>
    </div>
  );
}
