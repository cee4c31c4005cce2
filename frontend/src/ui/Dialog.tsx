/** A modal dialog on the browser's own element: focus stays inside, Escape cancels, focus returns at the end. */
import { X } from "lucide-react";
import { useId, useLayoutEffect, useRef, type ReactNode } from "react";

interface Props {
  readonly title: string;
  readonly onClose: () => void;
  readonly children: ReactNode;
  readonly size?: "small" | "medium" | "large";
  readonly testId?: string;
  /** Dialogs that appear by themselves take no key for a button that the user did not aim at. */
  readonly unasked?: boolean;
  readonly className?: string;
}

export function Dialog({ title, onClose, children, size = "medium", testId, unasked = false, className = "" }: Props) {
  const ref = useRef<HTMLDialogElement>(null);
  const heading = useRef<HTMLHeadingElement>(null);
  const titleId = useId();

  // Closed while it is still in the document: only then the browser gives the focus back.
  useLayoutEffect(() => {
    const dialog = ref.current;
    if (!dialog) return;
    dialog.showModal();
    if (unasked) heading.current?.focus();
    return () => dialog.close();
  }, [unasked]);

  return (
    <dialog
      ref={ref}
      className={`dialog dialog-${size} ${className}`}
      aria-labelledby={titleId}
      data-testid={testId}
      onCancel={(event) => {
        event.preventDefault();
        // A question that this dialog asks is a dialog of its own, and its end bubbles.
        if (event.target === ref.current) onClose();
      }}
      onMouseDown={(event) => {
        if (!unasked && event.target === ref.current) onClose();
      }}
    >
      <div className="dialog-frame">
        <header className="dialog-header">
          <h2 id={titleId} ref={heading} tabIndex={-1}>
            {title}
          </h2>
          {!unasked && (
            <button type="button" className="icon-button" aria-label="Close" onClick={onClose}>
              <X size={16} aria-hidden />
            </button>
          )}
        </header>
        {children}
      </div>
    </dialog>
  );
}
