import { useState, type ReactNode } from "react";
import { Dialog } from "./Dialog";

interface ConfirmProps {
  readonly title: string;
  readonly action: string;
  readonly children: ReactNode;
  readonly onClose: () => void;
  readonly onConfirm: () => void;
  /** Something is lost by it. */
  readonly danger?: boolean;
}

export function ConfirmDialog({ title, action, children, onClose, onConfirm, danger = true }: ConfirmProps) {
  return (
    <Dialog title={title} onClose={onClose} size="small" testId="dialog-confirm">
      <div className="dialog-body">{children}</div>
      <footer className="dialog-actions">
        <button type="button" className="button" onClick={onClose}>
          Cancel
        </button>
        <button type="button" className={danger ? "button danger" : "button primary"} data-testid="confirm" onClick={onConfirm}>
          {action}
        </button>
      </footer>
    </Dialog>
  );
}

interface PromptProps {
  readonly title: string;
  readonly label: string;
  readonly value: string;
  readonly action: string;
  readonly multiline?: boolean;
  readonly onClose: () => void;
  readonly onSubmit: (value: string) => void;
}

export function PromptDialog({ title, label, value, action, multiline = false, onClose, onSubmit }: PromptProps) {
  const [text, setText] = useState(value);
  const field = {
    className: "field",
    value: text,
    onChange: (event: { target: { value: string } }) => setText(event.target.value),
  };
  return (
    <Dialog title={title} onClose={onClose} size="small">
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (text.trim() !== "") onSubmit(text.trim());
        }}
      >
        <div className="dialog-body">
          <label className="labelled">
            <span>{label}</span>
            {multiline ? <textarea rows={5} {...field} /> : <input maxLength={200} {...field} />}
          </label>
        </div>
        <footer className="dialog-actions">
          <button type="button" className="button" onClick={onClose}>
            Cancel
          </button>
          <button type="submit" className="button primary" disabled={text.trim() === ""}>
            {action}
          </button>
        </footer>
      </form>
    </Dialog>
  );
}
