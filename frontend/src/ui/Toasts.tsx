/** Notices: information goes by itself, problems stay until they are read. */
import { AlertTriangle, Info, OctagonAlert, X } from "lucide-react";
import { useEffect } from "react";
import { useApp, useClient } from "../app/context";
import { sessionHref, useRoute } from "../app/route";
import type { Toast } from "../state/app-state";

const ICONS = { info: Info, warning: AlertTriangle, error: OctagonAlert } as const;
const LIFETIME_MS = { info: 5_000, warning: 10_000, error: 20_000 } as const;

function ToastCard({ toast }: { toast: Toast }) {
  const client = useClient();
  const Icon = ICONS[toast.level];
  const route = useRoute();
  const isOpen = route.page === "session" && route.id === toast.sessionId;
  useEffect(() => {
    const timer = setTimeout(() => client.dismissToast(toast.id), LIFETIME_MS[toast.level]);
    return () => clearTimeout(timer);
  }, [client, toast]);
  return (
    <li className={`toast toast-${toast.level}`} data-testid="toast">
      <Icon size={16} aria-hidden />
      <div className="toast-body">
        <p title={toast.message}>{toast.message}</p>
        {toast.hint && <p className="toast-hint">{toast.hint}</p>}
        <p className="toast-meta">
          {toast.code && <code>{toast.code}</code>}
          {toast.sessionId && !isOpen && <a href={sessionHref(toast.sessionId)}>Open session</a>}
        </p>
      </div>
      <button type="button" className="icon-button small" aria-label="Dismiss" onClick={() => client.dismissToast(toast.id)}>
        <X size={14} aria-hidden />
      </button>
    </li>
  );
}

export function Toasts() {
  const toasts = useApp((state) => state.toasts);
  return (
    <section aria-label="Notices" aria-live="polite" className="toasts">
      {toasts.length > 0 && (
        <ul>
          {toasts.map((toast) => (
            <ToastCard key={toast.id} toast={toast} />
          ))}
        </ul>
      )}
    </section>
  );
}
