/** Where the user writes. Drafts are kept per session and survive a reload. */
import { ArrowUp, ListPlus, Navigation, Square } from "lucide-react";
import { useCallback, useEffect, useLayoutEffect, useRef, useState, type KeyboardEvent, type RefObject } from "react";
import { useApp, useClient, useHarnessTitle } from "../app/context";
import { load, save } from "../lib/storage";
import type { SessionModel } from "../state/model";
import { isSendKey, matchingCommands, sendState, type BusyChoice, type SendState } from "./composer-logic";
import { AddImages, Thumbnails, useImageTarget } from "./ComposerImages";
import { SlashMenu, useSlashMenu } from "./SlashMenu";
import { isBusy } from "./status";
import { useImages } from "./useImages";

const MAX_HEIGHT_PX = 260;

function useDraft(sessionId: string) {
  const key = `draft.${sessionId}`;
  const [text, setText] = useState(() => load(key) ?? "");
  const change = useCallback(
    (value: string) => {
      setText(value);
      save(key, value);
    },
    [key],
  );
  return { text, change };
}

function useAutosize(field: RefObject<HTMLTextAreaElement | null>, text: string) {
  useLayoutEffect(() => {
    const element = field.current;
    if (!element) return;
    element.style.height = "auto";
    element.style.height = `${Math.min(element.scrollHeight, MAX_HEIGHT_PX)}px`;
  }, [field, text]);
}

function BusyChoicePicker({ value, onChange }: { value: BusyChoice; onChange: (value: BusyChoice) => void }) {
  return (
    <div className="segmented" role="radiogroup" aria-label="While the agent works, Enter">
      {(["steer", "queue"] as const).map((choice) => (
        <button
          key={choice}
          type="button"
          role="radio"
          aria-checked={value === choice}
          data-testid={`choose-${choice}`}
          title={choice === "steer" ? "Join the running turn" : "Wait for its end, then start a turn"}
          onClick={() => onChange(choice)}
        >
          {choice === "steer" ? <Navigation size={12} aria-hidden /> : <ListPlus size={12} aria-hidden />}
          {choice === "steer" ? "Steer" : "Queue"}
        </button>
      ))}
    </div>
  );
}

const hasMouse = (): boolean => window.matchMedia("(pointer: fine)").matches;

interface StopProps {
  readonly model: SessionModel;
  readonly sessionId: string;
  readonly field: RefObject<HTMLTextAreaElement | null>;
}

function StopButton({ model, sessionId, field }: StopProps) {
  const client = useClient();
  const stop = () => {
    void client.attempt({ cmd: "abort" }, sessionId);
    // The button goes with the turn; the focus must not go with it.
    if (hasMouse()) field.current?.focus();
  };
  const stopping = model.info.status === "aborting";
  return (
    <button
      type="button"
      className="button stop"
      data-testid="stop"
      disabled={stopping}
      onClick={stop}
    >
      <Square size={12} aria-hidden fill="currentColor" /> {stopping ? "Stopping…" : "Stop"}
    </button>
  );
}

function hint(state: SendState, connected: boolean): string {
  if (state.reason) return state.reason;
  if (!connected) return "Not connected: what you send leaves as soon as the connection is back.";
  if (state.waits) return "This agent cannot be steered: what you send now is queued and starts the next turn.";
  return "";
}

function placeholder(harness: string, state: SendState): string {
  if (state.kind === "steer") return "Steer the agent while it works";
  if (state.kind === "follow_up") return "Queue a message for after this turn";
  return `Message ${harness}`;
}

/** A device with a mouse gets the cursor at once; on a phone that would pull up the keyboard. */
function useFocusOnOpen(field: RefObject<HTMLTextAreaElement | null>) {
  useEffect(() => {
    if (hasMouse()) field.current?.focus({ preventScroll: true });
  }, [field]);
}

export function Composer({ model, sessionId }: { model: SessionModel; sessionId: string }) {
  const client = useClient();
  const field = useRef<HTMLTextAreaElement>(null);
  const connected = useApp((state) => state.connection === "connected");
  const harness = useHarnessTitle(model.info.harness);
  const { text, change } = useDraft(sessionId);
  const [choice, setChoice] = useState<BusyChoice>(() => (load("busy-choice") === "queue" ? "queue" : "steer"));
  const state = sendState(model, choice);
  const draft = useImages(sessionId);
  const able = model.capabilities.images;
  const target = useImageTarget(able, draft.add);
  const images = able ? draft.ready : [];
  const waits = able ? draft.waits : undefined;
  const canSend = state.kind !== undefined && waits === undefined && (text.trim() !== "" || images.length > 0);
  const slash = useSlashMenu(matchingCommands(model.commands, text), (name) => change(`/${name} `));
  useAutosize(field, text);
  useFocusOnOpen(field);

  const send = () => {
    if (!canSend || state.kind === undefined) return;
    client.prompt(sessionId, state.kind, text, images);
    change("");
    draft.clear();
    field.current?.focus();
  };
  const onKeyDown = (event: KeyboardEvent<HTMLTextAreaElement>) => {
    // eslint-disable-next-line @typescript-eslint/no-deprecated -- some input methods tell of themselves only by code 229
    const { key, keyCode, shiftKey } = event;
    if (slash.onKey(event)) return;
    if (!isSendKey({ key, keyCode, shiftKey, isComposing: event.nativeEvent.isComposing })) return;
    event.preventDefault();
    send();
  };
  const pick = (value: BusyChoice) => {
    setChoice(value);
    save("busy-choice", value);
  };
  const note = waits ?? hint(state, connected);

  return (
    <form
      className={target.over ? "composer drop" : "composer"}
      {...target.handlers}
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      <SlashMenu menu={slash} />
      {able && <Thumbnails images={draft.images} remove={draft.remove} />}
      <textarea
        ref={field}
        data-testid="composer"
        aria-label="Message to the agent"
        aria-describedby="composer-note"
        placeholder={placeholder(harness, state)}
        rows={1}
        value={text}
        onChange={(event) => change(event.target.value)}
        onKeyDown={onKeyDown}
        onPaste={target.onPaste}
        {...slash.fieldProps}
      />
      <div className="composer-bar">
        {able && <AddImages add={draft.add} />}
        <span className="composer-note" id="composer-note">
          {note}
        </span>
        {state.choice && <BusyChoicePicker value={choice} onChange={pick} />}
        {isBusy(model.info.status) && <StopButton model={model} sessionId={sessionId} field={field} />}
        <button type="submit" className="button primary send" data-testid="send" disabled={!canSend} title={state.reason ?? "Enter"}>
          <ArrowUp size={16} aria-hidden /> <span className="send-label">{state.label}</span>
        </button>
      </div>
    </form>
  );
}
