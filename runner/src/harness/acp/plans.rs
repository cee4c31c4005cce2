//! Plans and lists of things to do.

use super::Acp;
use super::messages::extension;
use super::wire::{list, text};
use crate::fold::Cx;
use lodge_proto::part::{PlanEntry, PlanStatus};
use serde_json::Value;

/// Entries as version 1 and 2 and the to-do tools of agents write them.
pub(super) fn entries(list: &[Value]) -> Vec<PlanEntry> {
    list.iter()
        .filter_map(|entry| {
            Some(PlanEntry {
                content: text(entry, "content")?.to_owned(),
                status: match text(entry, "status") {
                    Some("in_progress") => PlanStatus::InProgress,
                    Some("completed" | "cancelled") => PlanStatus::Completed,
                    _ => PlanStatus::Pending,
                },
                priority: text(entry, "priority").map(str::to_owned),
            })
        })
        .collect()
}

impl Acp {
    /// A plan by its id; version 1 has one without.
    pub(super) fn plan(&mut self, cx: &mut Cx<'_>, id: &str, list: &[Value]) {
        if self.replaying {
            return;
        }
        self.plans.insert(id.to_owned(), entries(list));
        self.show_plans(cx);
    }

    pub(super) fn plan_update(&mut self, cx: &mut Cx<'_>, plan: &Value) {
        let id = text(plan, "id")
            .or_else(|| text(plan, "planId"))
            .unwrap_or_default();
        if plan.get("entries").is_some_and(Value::is_array) {
            self.plan(cx, id, list(plan, "entries"));
        } else {
            self.strange(cx, extension("x-acp-plan", "plan", plan.clone()));
        }
    }

    pub(super) fn plan_removed(&mut self, cx: &mut Cx<'_>, id: &str) {
        self.plans.remove(id);
        self.show_plans(cx);
    }

    fn show_plans(&self, cx: &mut Cx<'_>) {
        // No agent says beforehand whether its model has a tool for it.
        cx.capabilities(|can| can.plan = true);
        cx.plan(self.plans.values().flatten().cloned().collect());
    }
}
