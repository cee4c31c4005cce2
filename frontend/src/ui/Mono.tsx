import { useState } from "react";
import { CopyButton } from "./CopyButton";

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
