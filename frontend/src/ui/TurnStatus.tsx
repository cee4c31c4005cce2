import type { SessionModel } from "../state/model";
import { activityLabel, dotKind } from "./status";

/** What the agent is doing now. Screen readers hear of ends and questions through the page's live region instead. */
export function TurnStatus({ model }: { model: SessionModel }) {
  const { status } = model.info;
  return (
    <div
      className={`turn-status status-${status}`}
      data-testid="turn-status"
      data-status={status}
      data-persisting={model.persisting || undefined}
      data-phase={model.phase}
    >
      <span className={`dot dot-${dotKind({ ...model.info, needs_input: model.requests.length > 0 })}`} aria-hidden="true" />
      {activityLabel(model)}
      {(status === "working" || status === "aborting" || status === "starting") && <span className="ellipsis-dots" aria-hidden="true" />}
    </div>
  );
}
