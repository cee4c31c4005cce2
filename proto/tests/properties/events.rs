//! Strategies for events.

use super::strategies::{
    answer, approval_scope, error, error_code, fields, id, made, message, part, phase, plan_entry, request,
    small, status, text, usage, value,
};
use super::{places, sessions};
use lodge_proto::event::{CompactReason, EventBody, NetworkDecision, NotifyLevel, TurnOutcome};
use lodge_proto::{Event, Opaque, Role};
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::Union;

/// One strategy an event that this build knows.
pub(crate) fn event_bodies() -> Vec<BoxedStrategy<EventBody>> {
    [session_events(), stream_events(), tool_events(), state_events()].concat()
}

fn session_events() -> Vec<BoxedStrategy<EventBody>> {
    use TurnOutcome::{Aborted, Completed, Failed, Interrupted};
    let outcome = select(vec![Completed, Aborted, Failed, Interrupted]);
    vec![
        made!(EventBody::SessionCreated {
            session: sessions::info()
        }),
        made!(EventBody::SessionClosed { reason: text() }),
        made!(EventBody::SessionTitleChanged { title: text() }),
        made!(EventBody::SessionCapabilities {
            capabilities: sessions::capabilities()
        }),
        made!(EventBody::SessionHeartbeat { status: status() }),
        made!(EventBody::TurnStarted {}),
        made!(EventBody::TurnEnded {
            outcome,
            usage: usage(),
            error: of(error())
        }),
        made!(EventBody::AgentWorking { phase: phase() }),
        made!(EventBody::AgentIdle {
            message_version: any::<u64>()
        }),
        made!(EventBody::AgentError {
            code: error_code(),
            message: text(),
            recoverable: any::<bool>()
        }),
        made!(EventBody::AgentInputNeeded { request: request() }),
        made!(EventBody::AgentInputResolved {
            request_id: id(),
            answer: answer(),
            remembered: of(approval_scope())
        }),
    ]
}

fn stream_events() -> Vec<BoxedStrategy<EventBody>> {
    let role = select(vec![Role::User, Role::Assistant]);
    let at = any::<u32>;
    vec![
        made!(EventBody::StreamMessageStart {
            message_id: id(),
            role
        }),
        made!(EventBody::StreamTextDelta {
            message_id: id(),
            part_index: at(),
            delta: text()
        }),
        made!(EventBody::StreamThinkingDelta {
            message_id: id(),
            part_index: at(),
            delta: text()
        }),
        made!(EventBody::StreamToolCallStart {
            message_id: id(),
            part_index: at(),
            tool_call_id: id(),
            name: text()
        }),
        made!(EventBody::StreamToolCallDelta {
            message_id: id(),
            part_index: at(),
            tool_call_id: id(),
            delta: text()
        }),
        made!(EventBody::StreamToolCallEnd {
            message_id: id(),
            part_index: at(),
            tool_call_id: id(),
            name: text(),
            input: value(),
        }),
        made!(EventBody::StreamMessageEnd { message: message() }),
        made!(EventBody::StreamMessageDiscarded { message_id: id() }),
        made!(EventBody::StreamResyncRequired {
            from_seq: any::<u64>()
        }),
    ]
}

fn tool_events() -> Vec<BoxedStrategy<EventBody>> {
    use CompactReason::{Manual, Overflow, Threshold};
    let (n, m) = (any::<u64>, any::<u32>);
    let reason = select(vec![Manual, Threshold, Overflow]);
    vec![
        made!(EventBody::ToolStart {
            tool_call_id: id(),
            name: text(),
            input: value()
        }),
        made!(EventBody::ToolProgress {
            tool_call_id: id(),
            name: text(),
            delta: of(text()),
            output: of(small(part())),
        }),
        made!(EventBody::ToolEnd {
            tool_call_id: id(),
            name: text(),
            output: small(part()),
            is_error: any::<bool>(),
            duration_ms: of(n()),
        }),
        made!(EventBody::RetryStart {
            attempt: m(),
            max_attempts: of(m()),
            delay_ms: n(),
            error: error()
        }),
        made!(EventBody::RetryEnd {
            success: any::<bool>(),
            attempt: m()
        }),
        made!(EventBody::CompactStart { reason }),
        made!(EventBody::CompactEnd {
            success: any::<bool>(),
            summary: of(text()),
            error: of(error())
        }),
    ]
}

fn state_events() -> Vec<BoxedStrategy<EventBody>> {
    let level = select(vec![NotifyLevel::Info, NotifyLevel::Warning, NotifyLevel::Error]);
    let decision = select(vec![
        NetworkDecision::Allowed,
        NetworkDecision::Denied,
        NetworkDecision::Asked,
    ]);
    vec![
        made!(EventBody::PlanUpdated {
            entries: small(plan_entry())
        }),
        made!(EventBody::QueueUpdated {
            entries: small(sessions::queue_entry())
        }),
        made!(EventBody::CommandsUpdated {
            commands: small(sessions::command_info())
        }),
        made!(EventBody::ConfigModelChanged { model: text() }),
        made!(EventBody::ConfigThinkingLevelChanged { level: text() }),
        made!(EventBody::ConfigModeChanged { mode: text() }),
        made!(EventBody::UsageUpdated {
            usage: usage(),
            context_tokens: of(any::<u64>())
        }),
        made!(EventBody::WorkspaceFindings {
            items: small(places::finding()),
            truncated: any::<bool>()
        }),
        made!(EventBody::NetworkAccess {
            host: text(),
            port: any::<u16>(),
            decision,
            rule: text(),
            reason: text(),
            connections: any::<u32>(),
            sent_bytes: any::<u64>(),
            received_bytes: any::<u64>()
        }),
        made!(EventBody::Notify {
            level,
            message: text()
        }),
        made!(EventBody::Status {
            status: status(),
            text: of(text()),
            persisting: any::<bool>()
        }),
    ]
}

/// An event that this build does not know.
pub(crate) fn unknown_event() -> BoxedStrategy<EventBody> {
    ("[a-z]{1,6}\\.later_[a-z]{0,6}", fields())
        .prop_map(|(tag, mut fields)| {
            fields.insert("event".to_owned(), tag.into());
            EventBody::Other(Opaque::new(fields).expect("a tag that nobody knows"))
        })
        .boxed()
}

/// An event with this body.
pub(crate) fn event_of(body: BoxedStrategy<EventBody>) -> BoxedStrategy<Event> {
    made!(Event {
        session_id: id(),
        seq: any::<u64>(),
        ts: any::<u64>(),
        turn_id: of(id()),
        body
    })
}

pub(crate) fn event() -> BoxedStrategy<Event> {
    let mut bodies = event_bodies();
    bodies.push(unknown_event());
    event_of(Union::new(bodies).boxed())
}
