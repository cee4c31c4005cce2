//! Looking at the state: snapshots for clients, and what is to be done.

use super::state::{Core, Wants};
use super::{SNAPSHOT_VERSION, SessionFold};
use crate::harness::AnyAdapter;
use lodge_proto::input::InputRequest;
use lodge_proto::message::{Message, Role};
use lodge_proto::part::Part;
use lodge_proto::session::{RunningTool, SessionInfo, SessionState, SessionStatus};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A fold's state as it is stored between turns.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    version: u32,
    fold: SessionFold,
}

impl SessionFold {
    /// The state as bytes, for the store.
    pub fn to_snapshot(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&Stored {
            version: SNAPSHOT_VERSION,
            fold: self.clone(),
        })
    }

    /// A stored state; `None` where another version wrote it.
    pub fn from_snapshot(bytes: &[u8]) -> Option<Self> {
        let stored: Stored = serde_json::from_slice(bytes).ok()?;
        (stored.version == SNAPSHOT_VERSION).then_some(stored.fold)
    }

    /// What is to be done for this session.
    pub fn wants(&self) -> Wants<'_> {
        let core = &self.core;
        Wants {
            inputs: if core.running { &core.inputs } else { &[] },
            timers: &core.timers,
            persist: core.persisting.as_ref(),
            kill: core.kill && core.running,
            approvals: core.approvals.unkept(),
            network: core.network.answers(),
            has_network: !core.network.is_idle(),
        }
    }

    /// The session's row in the list.
    pub fn info(&self) -> SessionInfo {
        self.core.info()
    }

    /// Everything a client needs to show the session now.
    pub fn state(&self) -> SessionState {
        let core = &self.core;
        let first = core
            .tail
            .front()
            .map_or(core.message_count, |message| message.index);
        SessionState {
            session: core.info(),
            capabilities: core.capabilities.clone(),
            phase: core.phase,
            turn_id: core.turn.as_ref().map(|turn| turn.id),
            persisting: core.persisting.is_some(),
            messages: core.tail.iter().cloned().collect(),
            has_older: first > 0,
            streaming: core.streaming(),
            running_tools: core
                .tools
                .iter()
                .map(|tool| RunningTool {
                    tool_call_id: tool.id,
                    name: tool.name.clone(),
                    input: tool.input.clone(),
                    output: if tool.output.is_empty() {
                        vec![]
                    } else {
                        vec![Part::text(tool.output.clone())]
                    },
                    started_at: tool.started_at,
                })
                .collect(),
            requests: core.all_requests().cloned().collect(),
            queue: core.queue.iter().map(|queued| queued.entry.clone()).collect(),
            plan: core.plan.clone(),
            commands: core.commands.clone(),
            mode: core.mode.clone(),
            usage: core.usage,
            context_tokens: core.context_tokens,
            last_error: core.last_error.clone(),
            findings: core.seen.findings.clone(),
            findings_truncated: core.seen.findings_truncated,
            network: core.seen.network.clone(),
        }
    }

    /// Whether a harness process is there, as far as the journal says.
    pub fn is_running(&self) -> bool {
        self.core.running
    }

    /// Status of the session.
    pub fn status(&self) -> SessionStatus {
        self.core.status
    }

    /// What the harness keeps of the conversation, where it is known: the adapter's own name for it.
    pub fn native_session(&self) -> Option<String> {
        self.adapter.native_session()
    }

    /// The adapter, for what is not part of the fold (launch files).
    pub fn adapter(&self) -> &AnyAdapter {
        &self.adapter
    }

    /// With what the session was created.
    pub fn created(&self) -> Option<&super::Created> {
        self.core.created.as_ref()
    }

    /// Marks the records as those of a recorded transcript.
    pub fn read_transcript(&mut self) {
        self.core.transcript = true;
    }
}

/// Parts at the indices the harness gave them, so that later deltas find theirs.
fn aligned(parts: &BTreeMap<u32, Part>) -> Vec<Part> {
    let end = parts.keys().next_back().map_or(0, |last| last + 1);
    (0..end)
        .map(|index| parts.get(&index).cloned().unwrap_or_else(|| Part::text("")))
        .collect()
}

impl Core {
    /// Open questions of the harness, and about connections.
    fn all_requests(&self) -> impl Iterator<Item = &InputRequest> {
        let of_harness = self.requests.iter().map(|open| &open.request);
        of_harness.chain(self.network.requests())
    }

    fn streaming(&self) -> Vec<Message> {
        self.open_messages
            .iter()
            .map(|open| Message {
                id: open.id,
                session_id: self.session,
                turn_id: self.turn.as_ref().map_or_else(Default::default, |turn| turn.id),
                index: self.message_count,
                role: open.role,
                sender: None,
                parts: aligned(&open.parts),
                model: open.model.clone(),
                provider: None,
                harness: self.harness().to_owned(),
                stop_reason: None,
                usage: None,
                created_at: open.started_at,
                version: 1,
            })
            .filter(|message| message.role != Role::System)
            .collect()
    }

    pub(super) fn info(&self) -> SessionInfo {
        let (created, launch) = (self.created.as_ref(), self.launch.as_ref());
        SessionInfo {
            id: self.session,
            title: self.title.clone(),
            harness: self.harness().to_owned(),
            harness_version: launch
                .map(|launch| launch.harness_version.clone())
                .filter(|version| !version.is_empty()),
            workspace: created
                .map(|created| created.workspace.clone())
                .unwrap_or_default(),
            tier: launch
                .and_then(|launch| launch.tier)
                .or_else(|| created.map(|created| created.tier))
                .unwrap_or_default(),
            profile: launch
                .and_then(|launch| launch.profile.clone())
                .or_else(|| created.and_then(|created| created.profile.clone())),
            limits: created.and_then(|created| created.wish.limits.clone()),
            status: self.status,
            model: self.model.clone(),
            thinking_level: self.thinking_level.clone(),
            parent: created
                .and_then(|created| created.fork.as_ref())
                .and_then(|fork| fork.parent),
            shares_workspace_with: self.shares_workspace_with.clone(),
            needs_input: self.all_requests().next().is_some(),
            created_at: self.created_at,
            updated_at: self.updated_at,
            message_count: self.message_count,
        }
    }
}
