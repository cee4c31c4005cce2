import { RotateCw } from "lucide-react";
import { useApp, useClient } from "../app/context";
import { explain } from "../lib/errors";
import type { PendingPrompt } from "../state/app-state";
import { ImagePart } from "./ImagePart";

/** A message that the server has not confirmed yet, or has refused. */
export function PendingRow({ prompt }: { prompt: PendingPrompt }) {
  const client = useClient();
  const connected = useApp((state) => state.connection === "connected");
  const again = () => {
    client.dismissPending(prompt.clientId);
    client.prompt(prompt.sessionId, prompt.kind, prompt.text, prompt.images);
  };
  return (
    <div className="message message-user pending" data-testid="pending">
      <div className="bubble">
        {prompt.text !== "" && <div className="bubble-text">{prompt.text}</div>}
        {prompt.images?.map((blob) => (
          <ImagePart key={blob.hash} blob={blob} />
        ))}
      </div>
      {prompt.error ? (
        <div className="pending-error" role="alert">
          <p>
            <strong>Not sent.</strong> {prompt.error.message} <code>{prompt.error.code}</code>
          </p>
          <p>{explain(prompt.error.code).hint}</p>
          <button type="button" className="link-button" onClick={again}>
            <RotateCw size={12} aria-hidden /> Try again
          </button>
          <button type="button" className="link-button" onClick={() => client.dismissPending(prompt.clientId)}>
            Discard
          </button>
        </div>
      ) : (
        <p className="pending-note">{connected ? "Sending…" : "Will be sent when the connection is back"}</p>
      )}
    </div>
  );
}
