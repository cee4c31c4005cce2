import { diffLines, parsePatch, type DiffLine, type FileDiff } from "../lib/diff";
import { cleanTerminal } from "../lib/terminal";
import { outputText, type ToolView } from "../lib/tools";
import type { Part } from "../protocol/generated";
import { DiffView } from "./DiffView";
import { Mono } from "./Mono";
import { OtherPart, PlanList } from "./OtherPart";

/** The changes that a call made, or would make: as its result has them, else as they were asked for. */
export function changesOf(view: ToolView, output: readonly Part[]): readonly FileDiff[] {
  const made = output.flatMap((part) => (part.type === "diff" ? [{ path: part.path, lines: parsePatch(part.patch) }] : []));
  if (made.length > 0) return made;
  if (view.edits.length === 0) return view.files;
  const lines = view.edits.flatMap(({ before, after }, index): DiffLine[] => [
    ...(index > 0 ? [{ kind: "hunk" as const, text: "⋯" }] : []),
    ...diffLines(before, after),
  ]);
  return [{ path: view.subject, lines }];
}

/** The changes, each under its file where there are several. */
export function Changes({ files }: { files: readonly FileDiff[] }) {
  return files.map((file, index) => <DiffView key={index} lines={file.lines} path={files.length > 1 ? file.path : undefined} />);
}

function pretty(input: unknown): string {
  if (typeof input === "string") return cleanTerminal(input);
  return cleanTerminal(JSON.stringify(input, undefined, 2) ?? "");
}

/** What an agent tells of a call whose arguments it keeps to itself; its card shows it already. */
const TOLD: ReadonlySet<string> = new Set(["title", "locations"]);

function isEmpty(input: unknown): boolean {
  if (input === undefined || input === null || input === "") return true;
  return typeof input === "object" && Object.keys(input).every((key) => TOLD.has(key));
}

/** What a sub-agent is to do. */
function AgentTask({ input }: { input: unknown }) {
  const prompt = typeof input === "object" && input !== null && "prompt" in input ? input.prompt : undefined;
  if (typeof prompt === "string") return <pre className="tool-command">{cleanTerminal(prompt)}</pre>;
  return isEmpty(input) ? null : <pre className="tool-raw">{pretty(input)}</pre>;
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
  if (view.plan.length > 0) return <PlanList entries={view.plan} />;
  if (view.kind === "agent") return <AgentTask input={input} />;
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
  const files = changesOf(view, output);
  const text = outputText(output);
  const others = output.filter((part) => !["text", "thinking", "error", "diff"].includes(part.type));
  return (
    <div className="tool-body">
      {files.length > 0 ? <Changes files={files} /> : <ToolInput view={view} input={input} />}
      {/* The result is a message of its own in the log; its id stays findable. */}
      <div className="tool-result" data-testid={messageId ? "message-tool" : undefined} data-message-id={messageId}>
        {text !== "" && <Mono text={text} live={live} label="Output" testId="tool-output" />}
        {others.map((part, index) => (
          <OtherPart key={index} part={part} />
        ))}
        {text === "" && others.length === 0 && messageId && files.length === 0 && <p className="tool-empty">No output shown</p>}
      </div>
    </div>
  );
}
