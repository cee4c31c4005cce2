/** The agent's plan above the composer: open while there is something to do, unless the reader has chosen otherwise. */
import { ChevronRight, ListTodo } from "lucide-react";
import { useState } from "react";
import type { PlanEntry } from "../protocol/generated";
import { PlanList } from "./OtherPart";

export function PlanPanel({ entries }: { entries: readonly PlanEntry[] }) {
  const [chosen, setChosen] = useState<boolean>();
  if (entries.length === 0) return null;
  const done = entries.filter((entry) => entry.status === "completed").length;
  const now = entries.find((entry) => entry.status === "in_progress");
  const open = chosen ?? done < entries.length;
  return (
    <section className="plan-panel" data-testid="plan" aria-label="Plan">
      <button type="button" className="plan-head" aria-expanded={open} onClick={() => setChosen(!open)}>
        <ChevronRight size={14} className={open ? "chevron open" : "chevron"} aria-hidden />
        <ListTodo size={14} aria-hidden />
        <span className="plan-count">
          Plan, {done} of {entries.length} done
        </span>
        {!open && now && <span className="plan-now ellipsis">{now.content}</span>}
      </button>
      {open && <PlanList entries={entries} />}
    </section>
  );
}
