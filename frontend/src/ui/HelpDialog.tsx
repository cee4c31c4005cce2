import { Dialog } from "./Dialog";

const KEYS: readonly (readonly [string, string])[] = [
  ["Ctrl K or N", "New session"],
  ["J / K", "Next / previous session"],
  ["/", "Write a message"],
  ["Enter", "Send"],
  ["Shift Enter", "New line"],
  ["Esc", "Close a dialog, cancel a question"],
  ["?", "This help"],
];

export function HelpDialog({ onClose }: { onClose: () => void }) {
  return (
    <Dialog title="Keyboard" onClose={onClose} size="small">
      <dl className="keys">
        {KEYS.map(([key, what]) => (
          <div key={key}>
            <dt>
              <kbd>{key}</kbd>
            </dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
    </Dialog>
  );
}
