/** The agent's reasoning: open while it is being written, folded away when done. */
import { Brain, ChevronRight } from "lucide-react";
import { memo, useState } from "react";
import { Markdown } from "./Markdown";

interface Props {
  readonly text: string;
  readonly redacted: boolean;
  readonly live: boolean;
}

export const Thinking = memo(function Thinking({ text, redacted, live }: Props) {
  const [chosen, setChosen] = useState<boolean>();
  const open = chosen ?? live;
  if (redacted && text.trim() === "") {
    return (
      <p className="thinking-redacted">
        <Brain size={14} aria-hidden /> Thinking, not shown by the provider
      </p>
    );
  }
  return (
    <div className={live ? "thinking live" : "thinking"}>
      <button type="button" className="thinking-toggle" aria-expanded={open} onClick={() => setChosen(!open)}>
        <ChevronRight size={14} className={open ? "chevron open" : "chevron"} aria-hidden />
        <Brain size={14} aria-hidden />
        {live ? "Thinking…" : "Thought"}
      </button>
      {open && (
        <div className="thinking-text">
          <Markdown text={text} />
        </div>
      )}
    </div>
  );
});
