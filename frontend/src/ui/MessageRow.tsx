/** One message of the transcript. */
import { GitFork } from "lucide-react";
import { memo, use, type ReactNode } from "react";
import { useHarnessTitle, WorkspaceContext } from "../app/context";
import type { Message, Part } from "../protocol/generated";
import type { SessionModel } from "../state/model";
import type { ToolResults } from "../state/rows";
import { CopyButton } from "./CopyButton";
import { Markdown } from "./Markdown";
import { OtherPart } from "./OtherPart";
import { Thinking } from "./Thinking";
import { ToolBody } from "./ToolBody";
import { ToolCard } from "./ToolCard";
import { toolView } from "../lib/tools";

interface Props {
  readonly message: Message;
  readonly streaming: boolean;
  readonly continues: boolean;
  readonly results: ToolResults;
  readonly tools: SessionModel["tools"];
  readonly durations: SessionModel["durations"];
  readonly turnRuns: boolean;
  readonly onFork: ((messageId: string) => void) | undefined;
}

const STOP_NOTES: Readonly<Record<string, string>> = {
  aborted: "Stopped",
  interrupted: "Interrupted: what was received is kept",
  max_tokens: "Cut off: the model reached its output limit",
  refusal: "The model declined to answer",
  error: "Ended with an error",
};

const NAMES = { user: "You", assistant: "Agent", system: "System", tool: "Tool result" } as const;

function plainText(parts: readonly Part[]): string {
  return parts.flatMap((part) => (part.type === "text" ? [part.text] : [])).join("\n\n");
}

function AgentPart({ part, index, props }: { part: Part; index: number; props: Props }): ReactNode {
  const { message, streaming, results, tools, durations, turnRuns } = props;
  if (part.type === "text") return part.text === "" ? null : <Markdown text={part.text} />;
  if (part.type === "thinking") {
    const live = streaming && index === message.parts.length - 1;
    return <Thinking text={part.text} redacted={(part.redacted) ?? false} live={live} />;
  }
  if (part.type === "tool_call") {
    const id = part.tool_call_id;
    return (
      <ToolCard
        name={part.name}
        input={part.input}
        result={results.get(id)}
        run={tools[id]}
        duration={durations[id]}
        streaming={streaming}
        turnRuns={turnRuns}
      />
    );
  }
  if (part.type === "tool_result") return <LoneResult name={part.name} output={part.output} />;
  return <OtherPart part={part} />;
}

/** A result whose call is not in the conversation. */
function LoneResult({ name, output }: { name: string; output: readonly Part[] }) {
  const view = toolView(name, undefined, use(WorkspaceContext));
  return <ToolBody view={view} input={undefined} output={output} messageId={undefined} live={false} />;
}

function UserMessage({ message, onFork }: Pick<Props, "message" | "onFork">) {
  const others = message.parts.filter((part) => part.type !== "text");
  const text = plainText(message.parts);
  return (
    <>
      <div className="bubble">
        {text !== "" && <div className="bubble-text">{text}</div>}
        {others.map((part, index) => (
          <OtherPart key={index} part={part} />
        ))}
      </div>
      <div className="message-actions">
        {onFork && (
          <button
            type="button"
            className="icon-button small"
            aria-label="Fork from here"
            title="Fork: a new session that goes on from before this message"
            data-testid="fork"
            onClick={() => onFork(message.id)}
          >
            <GitFork size={14} aria-hidden />
          </button>
        )}
        <CopyButton text={() => plainText(message.parts)} label="Copy message" />
      </div>
    </>
  );
}

function AgentMessage(props: Props) {
  const { message, streaming, continues } = props;
  const note = message.stop_reason ? STOP_NOTES[message.stop_reason] : undefined;
  const text = plainText(message.parts);
  const harness = useHarnessTitle(message.harness);
  // Between tool calls the words are in passing; an answer is worth copying.
  const isAnswer = text !== "" && !streaming && !message.parts.some((part) => part.type === "tool_call");
  return (
    <>
      {!continues && (
        <div className="message-head" aria-hidden="true">
          <span data-label={message.model ? `${harness} · ${message.model}` : harness} />
        </div>
      )}
      {message.parts.map((part, index) => (
        <AgentPart key={index} part={part} index={index} props={props} />
      ))}
      {note && <p className="stop-note">{note}</p>}
      {isAnswer && (
        <div className="message-actions">
          <CopyButton text={text} label="Copy message" />
        </div>
      )}
    </>
  );
}

export const MessageRow = memo(function MessageRow(props: Props) {
  const { message, streaming, onFork } = props;
  return (
    <article
      className={`message message-${message.role}`}
      aria-label={message.role === "user" && message.sender ? message.sender.name : NAMES[message.role]}
      data-testid={`message-${message.role}`}
      data-message-id={message.id}
      data-streaming={streaming || undefined}
    >
      {message.role === "user" ? (
        <UserMessage message={message} onFork={streaming ? undefined : onFork} />
      ) : (
        <AgentMessage {...props} />
      )}
    </article>
  );
});
