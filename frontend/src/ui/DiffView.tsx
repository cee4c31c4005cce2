import { memo } from "react";
import type { DiffLine } from "../lib/diff";

const SIGNS = { add: "+", remove: "−", context: " ", hunk: " " } as const;
const NAMES = { add: "added", remove: "removed", context: undefined, hunk: undefined } as const;
const MAX_LINES = 400;

interface Props {
  readonly lines: readonly DiffLine[];
  /** The file, where what is around does not name it. */
  readonly path?: string | undefined;
}

/** A unified diff. The sign is text too, so that colour is not all that tells the lines apart. */
export const DiffView = memo(function DiffView({ lines, path }: Props) {
  const shown = lines.slice(0, MAX_LINES);
  return (
    <div className="diff" tabIndex={0} role="group" aria-label={path ? `Changes of ${path}` : "Changes"}>
      {path && <div className="diff-file">{path}</div>}
      {shown.map((line, index) => (
        <div key={index} className={`diff-line diff-${line.kind}`}>
          <span className="diff-sign" aria-label={NAMES[line.kind]} role={NAMES[line.kind] ? "img" : undefined}>
            {SIGNS[line.kind]}
          </span>
          <code>{line.text}</code>
        </div>
      ))}
      {lines.length > MAX_LINES && <div className="diff-more">{lines.length - MAX_LINES} more lines</div>}
    </div>
  );
});
