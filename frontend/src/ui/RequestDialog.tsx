/** What the agent asks: a permission, a choice, a yes or no, a line, a text. */
import { use, useState, type SubmitEvent, type ReactNode } from "react";
import { useClient, WorkspaceContext } from "../app/context";
import { splitPatches } from "../lib/diff";
import { cleanTerminal } from "../lib/terminal";
import { below, toolView, type ToolView } from "../lib/tools";
import type { InputAnswer, InputRequest, PermissionChoice, SelectOption } from "../protocol/generated";
import { destinationOf } from "../state/guard";
import { Dialog } from "./Dialog";
import { Markdown } from "./Markdown";
import { NetworkRequest } from "./NetworkRequest";
import { Changes, changesOf, ToolInput } from "./ToolBody";
import { useCountdown } from "./useCountdown";

const CHOICES: Readonly<Record<PermissionChoice, { readonly label: string; readonly className: string }>> = {
  once: { label: "Allow once", className: "button primary" },
  session: { label: "Allow for this session", className: "button" },
  always: { label: "Always allow", className: "button" },
  deny: { label: "Deny", className: "button" },
  deny_and_stop: { label: "Deny and stop", className: "button danger" },
};

interface AnswerProps {
  readonly onAnswer: (answer: InputAnswer) => void;
  readonly busy: boolean;
}

type Permission = Extract<InputRequest, { kind: "permission" }>;

/** A plan that the user is to agree to before the agent goes on. */
function proposedPlan(input: unknown): string | undefined {
  const plan = typeof input === "object" && input !== null && "plan" in input ? input.plan : undefined;
  return typeof plan === "string" && plan !== "" ? plan : undefined;
}

/** What the agent says about its question, without what is shown beside it anyway. */
function wordsOf(words: string, view: ToolView, workspace: string): string {
  const known = (line: string) => below(line, workspace).trim() === view.subject.trim();
  return words.split("\n").filter((line) => view.subject === "" || !known(line)).join("\n").trim();
}

function PermissionWhat({ request }: { request: Permission }) {
  const workspace = use(WorkspaceContext);
  const plan = proposedPlan(request.arguments);
  if (plan !== undefined) return <Markdown text={plan} />;
  const view = toolView(request.tool, request.arguments, workspace);
  const told = splitPatches(request.message ?? "");
  const words = wordsOf(told.words, view, workspace);
  const asked = changesOf(view, []);
  const files = asked.length > 0 ? asked : told.files;
  return (
    <>
      {words !== "" && <p className="prewrap">{cleanTerminal(words)}</p>}
      <div className="permission-what">
        <span className="tool-label">{view.label}</span>
        {view.subject !== "" && <pre className="tool-command">{cleanTerminal(view.subject)}</pre>}
        <Changes files={files} />
        {view.kind !== "bash" && files.length === 0 && <ToolInput view={view} input={request.arguments} />}
      </div>
    </>
  );
}

function PermissionBody({ request, onAnswer, busy }: AnswerProps & { request: Permission }) {
  const allow = request.choices.filter((choice) => !choice.startsWith("deny"));
  const deny = request.choices.filter((choice) => choice.startsWith("deny"));
  const button = (choice: PermissionChoice) => (
    <button
      key={choice}
      type="button"
      disabled={busy}
      className={CHOICES[choice]?.className ?? "button"}
      data-testid={`permission-${choice}`}
      onClick={() => onAnswer({ answer: "permission", choice })}
    >
      {CHOICES[choice]?.label ?? choice}
    </button>
  );
  return (
    <>
      <div className="dialog-body">
        <PermissionWhat request={request} />
      </div>
      <footer className="dialog-actions split">
        <div className="action-group">{deny.map(button)}</div>
        <div className="action-group">{[...allow].reverse().map(button)}</div>
      </footer>
    </>
  );
}

function AnswerForm({ onSubmit, busy, action, children }: { onSubmit: () => void; busy: boolean; action: string; children: ReactNode }) {
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    onSubmit();
  };
  return (
    <form onSubmit={submit}>
      <div className="dialog-body">{children}</div>
      <footer className="dialog-actions">
        <button type="submit" className="button primary" disabled={busy} data-testid="answer-submit">
          {action}
        </button>
      </footer>
    </form>
  );
}

function SelectBody({ options, multiple, onAnswer, busy }: AnswerProps & { options: readonly SelectOption[]; multiple: boolean }) {
  const [chosen, setChosen] = useState<readonly string[]>([]);
  const toggle = (value: string) => {
    if (!multiple) setChosen([value]);
    else setChosen(chosen.includes(value) ? chosen.filter((other) => other !== value) : [...chosen, value]);
  };
  return (
    <AnswerForm busy={busy || (!multiple && chosen.length === 0)} action="Answer" onSubmit={() => onAnswer({ answer: "selected", values: [...chosen] })}>
      <div className="options" role={multiple ? "group" : "radiogroup"} aria-label="Options">
        {options.map((option) => (
          <label key={option.value} className="option">
            <input
              type={multiple ? "checkbox" : "radio"}
              name="option"
              checked={chosen.includes(option.value)}
              onChange={() => toggle(option.value)}
            />
            <span>
              {option.label}
              {option.description && <small>{option.description}</small>}
            </span>
          </label>
        ))}
      </div>
    </AnswerForm>
  );
}

function TextBody({ initial, placeholder, multiline, onAnswer, busy }: AnswerProps & { initial: string; placeholder?: string | undefined; multiline: boolean }) {
  const [text, setText] = useState(initial);
  const props = {
    className: "field",
    "aria-label": "Your answer",
    "data-testid": "answer-text",
    placeholder,
    value: text,
    onChange: (event: { target: { value: string } }) => setText(event.target.value),
  };
  return (
    <AnswerForm busy={busy} action="Answer" onSubmit={() => onAnswer({ answer: "text", text })}>
      {multiline ? <textarea rows={10} {...props} className="field mono-field" /> : <input {...props} />}
    </AnswerForm>
  );
}

function ConfirmBody({ onAnswer, busy }: AnswerProps) {
  const answer = (yes: boolean) => onAnswer({ answer: "confirmed", yes });
  return (
    <footer className="dialog-actions">
      <button type="button" className="button" disabled={busy} data-testid="answer-no" onClick={() => answer(false)}>
        No
      </button>
      <button type="button" className="button primary" disabled={busy} data-testid="answer-yes" onClick={() => answer(true)}>
        Yes
      </button>
    </footer>
  );
}

function Body({ request, ...answer }: AnswerProps & { request: InputRequest }) {
  const destination = destinationOf(request);
  switch (request.kind) {
    case "permission":
      if (destination) {
        const onChoose = (choice: PermissionChoice) => answer.onAnswer({ answer: "permission", choice });
        const { message, choices } = request;
        return <NetworkRequest destination={destination} message={message} choices={choices} busy={answer.busy} onChoose={onChoose} />;
      }
      return <PermissionBody request={request} {...answer} />;
    case "select":
      return <SelectBody options={request.options} multiple={request.multiple ?? false} {...answer} />;
    case "confirm":
      return <ConfirmBody {...answer} />;
    case "input":
      return <TextBody initial="" placeholder={request.placeholder} multiline={false} {...answer} />;
    case "editor":
      return <TextBody initial={request.text ?? ""} multiline {...answer} />;
  }
}

interface Props {
  readonly request: InputRequest;
  /** So many others wait behind it. */
  readonly more?: number;
  readonly sessionId: string;
  readonly onLater: () => void;
}

export function RequestDialog({ request, more = 0, sessionId, onLater }: Props) {
  const client = useClient();
  const [busy, setBusy] = useState(false);
  const left = useCountdown(request.expires_at);
  const onAnswer = (answer: InputAnswer) => {
    setBusy(true);
    // The dialog goes when the log says that the request is resolved; a failure gives the buttons back.
    void client
      .attempt({ cmd: "input_response", request_id: request.id, answer }, sessionId)
      .then((result) => setBusy(result !== undefined));
  };
  const cancel = () => onAnswer({ answer: "cancelled" });
  const network = destinationOf(request) !== undefined;
  const kind = network ? "dialog-network" : request.kind === "permission" ? "dialog-permission" : "dialog-question";
  return (
    <Dialog title={request.title} onClose={cancel} testId={kind} unasked className="request">
      {request.kind !== "permission" && request.message && <p className="dialog-lead prewrap">{request.message}</p>}
      <Body request={request} onAnswer={onAnswer} busy={busy} />
      <div className="request-foot">
        <button type="button" className="link-button" disabled={busy} data-testid="answer-cancel" onClick={cancel}>
          Cancel <kbd>Esc</kbd>
        </button>
        {more > 0 && <span data-testid="more-questions">{more === 1 ? "1 more question follows" : `${more} more questions follow`}</span>}
        {left !== undefined && <span>{network ? `It is denied in ${left} s` : `The agent decides by itself in ${left} s`}</span>}
        <button type="button" className="link-button" onClick={onLater}>
          Read the conversation first
        </button>
      </div>
    </Dialog>
  );
}
