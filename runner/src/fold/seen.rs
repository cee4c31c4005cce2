//! What was found and reached so far, for snapshots: the events that told of it are not in them.

use super::network::Access;
use lodge_proto::event::NetworkDecision;
use lodge_proto::workspace::{Finding, NetworkPlace, NetworkSummary, SeenFinding};
use serde::{Deserialize, Serialize};

/// Findings kept.
pub(super) const MAX_FINDINGS: usize = 500;
/// Places kept; a guest that scans must not grow the state without bound.
pub(super) const MAX_PLACES: usize = 200;

/// What clients would otherwise have to have seen themselves.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Seen {
    pub(super) findings: Vec<SeenFinding>,
    /// The last findings were cut.
    pub(super) findings_truncated: bool,
    pub(super) network: NetworkSummary,
}

impl Seen {
    /// What is found again replaces what was said of it before.
    pub(super) fn found(&mut self, items: &[Finding], truncated: bool, at: u64) {
        let key = |finding: &Finding| (finding.kind, finding.path.clone());
        let again: std::collections::HashSet<_> = items.iter().map(key).collect();
        self.findings.retain(|seen| !again.contains(&key(&seen.finding)));
        self.findings.extend(items.iter().map(|finding| SeenFinding {
            finding: finding.clone(),
            at,
        }));
        let surplus = self.findings.len().saturating_sub(MAX_FINDINGS);
        self.findings.drain(..surplus);
        self.findings_truncated = truncated;
    }

    /// Adds connections to their place, which becomes the first.
    pub(super) fn accessed(&mut self, access: &Access, at: u64) {
        let connections = u64::from(access.connections);
        match access.decision {
            NetworkDecision::Allowed => self.network.allowed += connections,
            NetworkDecision::Denied => self.network.denied += connections,
            NetworkDecision::Asked => {}
        }
        let places = &mut self.network.places;
        let is_there = |place: &NetworkPlace| place.host == access.host && place.port == access.port;
        let is_same = |place: &NetworkPlace| {
            is_there(place) && place.decision == access.decision && place.rule == access.rule
        };
        let known = places.iter().position(is_same).map(|index| places.remove(index));
        // A question that was answered is told by its answer.
        places.retain(|place| !(is_there(place) && place.decision == NetworkDecision::Asked));
        let of_known = |value: fn(&NetworkPlace) -> u64| known.as_ref().map_or(0, value);
        let place = NetworkPlace {
            host: access.host.clone(),
            port: access.port,
            decision: access.decision,
            rule: access.rule.clone(),
            reason: access.reason.clone(),
            connections: of_known(|place| place.connections) + connections,
            sent_bytes: of_known(|place| place.sent_bytes).saturating_add(access.sent),
            received_bytes: of_known(|place| place.received_bytes).saturating_add(access.received),
            last_at: at,
        };
        places.insert(0, place);
        places.truncate(MAX_PLACES);
    }
}
