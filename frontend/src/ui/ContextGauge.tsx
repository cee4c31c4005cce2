import { formatCost, formatTokens } from "../lib/format";
import type { SessionModel } from "../state/model";

const RADIUS = 7;
const LENGTH = 2 * Math.PI * RADIUS;

function Ring({ share }: { share: number }) {
  const level = share > 0.9 ? "high" : share > 0.7 ? "raised" : "normal";
  return (
    <svg width="18" height="18" viewBox="0 0 18 18" className={`ring ring-${level}`} aria-hidden="true">
      <circle cx="9" cy="9" r={RADIUS} className="ring-ground" />
      <circle cx="9" cy="9" r={RADIUS} className="ring-value" strokeDasharray={`${share * LENGTH} ${LENGTH}`} transform="rotate(-90 9 9)" />
    </svg>
  );
}

/** How full the context is, and what the session has used so far. */
export function ContextGauge({ model }: { model: SessionModel }) {
  const { usage, contextTokens, info, capabilities } = model;
  const window = capabilities.models.find((known) => known.id === info.model)?.context_window;
  const total = usage.input + usage.output + usage.cache_read + usage.cache_write;
  if (total === 0 && contextTokens === undefined) return null;
  const share = window && contextTokens !== undefined ? Math.min(1, contextTokens / window) : undefined;
  const details = [
    contextTokens === undefined ? undefined : `Context: ${formatTokens(contextTokens)}${window ? ` of ${formatTokens(window)}` : ""} tokens`,
    `Read: ${formatTokens(usage.input)}, cached ${formatTokens(usage.cache_read + usage.cache_write)}`,
    `Written: ${formatTokens(usage.output)}`,
    `Cost: ${formatCost(usage.cost_nanodollars)}`,
  ].filter((line) => line !== undefined);
  return (
    <div className="gauge" title={details.join("\n")} data-testid="usage" role="img" aria-label={details.join(". ")}>
      {share !== undefined && <Ring share={share} />}
      <span>{share === undefined ? formatTokens(contextTokens ?? total) : `${Math.round(share * 100)}%`}</span>
      {usage.cost_nanodollars > 0 && <span className="gauge-cost">{formatCost(usage.cost_nanodollars)}</span>}
    </div>
  );
}
