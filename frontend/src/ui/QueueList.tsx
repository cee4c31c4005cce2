/** Prompts that wait: they can be changed or taken back; an uncertain one is sent again only by the user. */
import { Pencil, RotateCw, Trash2 } from "lucide-react";
import { useState } from "react";
import { useClient } from "../app/context";
import type { QueueEntry, QueueState } from "../protocol/generated";
import type { SessionModel } from "../state/model";
import { PromptDialog } from "./SmallDialogs";

const STATES: Readonly<Record<QueueState, string>> = {
  waiting: "Queued",
  steering: "Steering",
  uncertain: "Uncertain",
};

function textOf(entry: QueueEntry): string {
  return entry.parts.flatMap((part) => (part.type === "text" ? [part.text] : [])).join("\n");
}

function Entry({ entry, sessionId }: { entry: QueueEntry; sessionId: string }) {
  const client = useClient();
  const [editing, setEditing] = useState(false);
  const text = textOf(entry);
  const others = entry.parts.filter((part) => part.type !== "text");
  const images = others.filter((part) => part.type === "image").length;
  return (
    <li className={`queue-entry queue-${entry.state}`} data-testid="queue-entry" data-state={entry.state}>
      <span className="queue-state">{STATES[entry.state] ?? entry.state}</span>
      <span className="queue-text ellipsis" title={text}>
        {text}
      </span>
      {images > 0 && <span className="queue-images">{images === 1 ? "1 image" : `${images} images`}</span>}
      {entry.state === "uncertain" && (
        <button
          type="button"
          className="button small"
          title="It may or may not have reached the agent before the connection to it broke"
          onClick={() => void client.attempt({ cmd: "queue.resend", entry_id: entry.id }, sessionId)}
        >
          <RotateCw size={12} aria-hidden /> Send again
        </button>
      )}
      {entry.state === "waiting" && (
        <button type="button" className="icon-button small" aria-label="Edit" onClick={() => setEditing(true)}>
          <Pencil size={14} aria-hidden />
        </button>
      )}
      <button
        type="button"
        className="icon-button small"
        aria-label="Remove from the queue"
        onClick={() => void client.attempt({ cmd: "queue.clear", entry_id: entry.id }, sessionId)}
      >
        <Trash2 size={14} aria-hidden />
      </button>
      {editing && (
        <PromptDialog
          title="Edit queued message"
          label="Message"
          value={text}
          action="Save"
          multiline
          onClose={() => setEditing(false)}
          onSubmit={(value) => {
            setEditing(false);
            void client.attempt({ cmd: "queue.edit", entry_id: entry.id, parts: [{ type: "text", text: value }, ...others] }, sessionId);
          }}
        />
      )}
    </li>
  );
}

export function QueueList({ model, sessionId }: { model: SessionModel; sessionId: string }) {
  if (model.queue.length === 0) return null;
  return (
    <ul className="queue" aria-label="Queued messages">
      {model.queue.map((entry) => (
        <Entry key={entry.id} entry={entry} sessionId={sessionId} />
      ))}
    </ul>
  );
}
