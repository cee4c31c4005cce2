/** What holds for the session as a whole just now: connection, retry, compaction, limits, findings, demo model. */
import { CloudOff, FlaskConical, Gauge, Minimize2, RotateCw, Users } from "lucide-react";
import { useEffect, useState, type ReactNode } from "react";
import { useApp, useClient } from "../app/context";
import { sessionHref } from "../app/route";
import type { Retry, SessionModel } from "../state/model";
import { Findings } from "./Findings";
import { useCountdown } from "./useCountdown";

function Banner({ kind, icon, children }: { kind: string; icon: ReactNode; children: ReactNode }) {
  return (
    <div className={`banner banner-${kind}`} role="status">
      {icon}
      {children}
    </div>
  );
}

function RetryBanner({ retry, able, sessionId }: { retry: Retry; able: boolean; sessionId: string }) {
  const client = useClient();
  const seconds = useCountdown(retry.startedAt + retry.delayMs) ?? 0;
  return (
    <Banner kind="warning" icon={<RotateCw size={14} aria-hidden />}>
      <span>
        {retry.error.message} Attempt {retry.attempt}
        {retry.maxAttempts ? ` of ${retry.maxAttempts}` : ""} {seconds > 0 ? `in ${seconds} s` : "now"}.
      </span>
      {able && (
        <button
          type="button"
          className="button small"
          onClick={() => void client.attempt({ cmd: "abort_retry" }, sessionId)}
        >
          Stop retrying
        </button>
      )}
    </Banner>
  );
}

/** Restarts that are over in a moment must not make the page jump; the small indicator shows them all the same. */
const BANNER_AFTER_MS = 1_000;

function useLasting<T>(value: T): T {
  const [lasting, setLasting] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setLasting(value), BANNER_AFTER_MS);
    return () => clearTimeout(timer);
  }, [value]);
  return lasting;
}

function ConnectionBanner() {
  const now = useApp((state) => state.connection);
  const lasting = useLasting(now);
  const connection = now === "connected" ? now : lasting;
  const error = useApp((state) => state.connectionError);
  if (connection === "reconnecting") {
    return (
      <Banner kind="warning" icon={<CloudOff size={14} aria-hidden />}>
        <span>The connection is lost and being made again. The agent works on; nothing is missed.</span>
      </Banner>
    );
  }
  if (connection === "runner_lost") {
    return (
      <Banner kind="warning" icon={<CloudOff size={14} aria-hidden />}>
        <span>The runner is restarting. {error?.message}</span>
      </Banner>
    );
  }
  return null;
}

function SharedBanner({ sessionId }: { sessionId: string }) {
  const sessions = useApp((state) => state.sessions);
  const others = (sessions[sessionId]?.shares_workspace_with ?? []).flatMap((id) => sessions[id] ?? []);
  if (others.length === 0) return null;
  return (
    <Banner kind="info" icon={<Users size={14} aria-hidden />}>
      <span>
        {others.length === 1 ? "Another session works" : `${others.length} other sessions work`} in this workspace and may
        change the same files:{" "}
        {others.slice(0, 3).map((other, index) => (
          <span key={other.id}>
            {index > 0 && ", "}
            <a href={sessionHref(other.id)}>{other.title || "Untitled"}</a>
          </span>
        ))}
      </span>
    </Banner>
  );
}

function isDemo(model: SessionModel): boolean {
  const id = model.info.model;
  if (id === undefined) return false;
  return id.startsWith("demo/") || model.capabilities.models.some((known) => known.id === id && known.provider === "demo");
}

export function Banners({ model, sessionId }: { model: SessionModel; sessionId: string }) {
  return (
    <div className="banners">
      <ConnectionBanner />
      {isDemo(model) && (
        <Banner kind="info" icon={<FlaskConical size={14} aria-hidden />}>
          <span data-testid="demo-notice">
            This is Lodge’s demo model, scripted, not an AI. <a href="#/settings">Add a provider key</a> for a real one.
          </span>
        </Banner>
      )}
      <SharedBanner sessionId={sessionId} />
      {model.limit && (
        <Banner kind="warning" icon={<Gauge size={14} aria-hidden />}>
          <span data-testid="limit-notice">
            <strong>A limit of the sandbox was reached.</strong> {model.limit.message}
          </span>
        </Banner>
      )}
      <Findings findings={model.findings} cut={model.findingsCut} sessionId={sessionId} />
      {model.compacting && (
        <Banner kind="info" icon={<Minimize2 size={14} aria-hidden />}>
          <span>The context is being compacted{model.compacting === "manual" ? "" : " because it is nearly full"}.</span>
        </Banner>
      )}
      {model.retry && <RetryBanner retry={model.retry} able={model.capabilities.abort_retry} sessionId={sessionId} />}
    </div>
  );
}
