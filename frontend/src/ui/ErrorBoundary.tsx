/** Keeps a failure where it happened: one strange message must not take the page with it. */
import { Component, type ReactNode } from "react";

interface Props {
  readonly children: ReactNode;
  readonly fallback: (error: Error, retry: () => void) => ReactNode;
}

export class ErrorBoundary extends Component<Props, { readonly error?: Error }> {
  override state: { readonly error?: Error } = {};

  static getDerivedStateFromError(error: unknown): { error: Error } {
    return { error: error instanceof Error ? error : new Error(String(error)) };
  }

  override render(): ReactNode {
    const { error } = this.state;
    if (!error) return this.props.children;
    return this.props.fallback(error, () => this.setState({ error: undefined }));
  }
}

/** For the page as a whole. */
export function PageFailed({ error }: { error: Error }) {
  return (
    <main className="login">
      <div className="login-card" role="alert">
        <h1>The page failed</h1>
        <p>Your sessions run on; nothing is lost. Load the page again, and if it fails again, report this:</p>
        <pre className="login-command">
          <code>{error.message}</code>
        </pre>
        <button type="button" className="button primary" onClick={() => window.location.reload()}>
          Load again
        </button>
      </div>
    </main>
  );
}

/** For one message of a transcript. */
export function MessageFailed({ messageId, error }: { messageId: string; error: Error }) {
  return (
    <div className="error-note" data-message-id={messageId}>
      <strong>This message cannot be shown.</strong> <code>{error.message}</code>
    </div>
  );
}
