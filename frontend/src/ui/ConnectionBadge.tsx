import { useApp } from "../app/context";
import type { ConnectionState } from "../socket/connection";

const LABELS: Readonly<Record<ConnectionState, string>> = {
  connecting: "Connecting…",
  connected: "Connected",
  reconnecting: "Reconnecting…",
  runner_lost: "Runner lost, waiting for it",
  logged_out: "Logged out",
};

const DOTS: Readonly<Record<ConnectionState, string>> = {
  connecting: "working",
  connected: "idle",
  reconnecting: "input",
  runner_lost: "input",
  logged_out: "failed",
};

export function ConnectionBadge() {
  const state = useApp((app) => app.connection);
  const error = useApp((app) => app.connectionError);
  return (
    <div className="connection" role="status" data-testid="connection" data-state={state} title={error?.message}>
      <span className={`dot dot-${DOTS[state]}`} aria-hidden="true" />
      {LABELS[state]}
    </div>
  );
}
