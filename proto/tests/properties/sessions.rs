//! Strategies for sessions, commands and the controls of the relay.

use super::places;
use super::strategies::{
    answer, cursor, error, id, made, message, part, phase, plan_entry, request, small, status, text, usage,
    value,
};
use lodge_proto::command::{CommandBody, HarnessInfo, Installing, WorkspaceInfo};
use lodge_proto::limits::SessionLimits;
use lodge_proto::relay::{Actor, ClientFrame, Hello, Rights, ToClient, ToRelay, ToRunner, Verdict};
use lodge_proto::session::{
    Capabilities, CommandInfo, MessageAnchor, ModeInfo, ModelInfo, QueueEntry, QueueState, RunningTool,
    SessionInfo, SessionState, Tier,
};
use lodge_proto::{Command, Outcome, Response, SessionId};
use proptest::collection::btree_map;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::Union;
use std::collections::BTreeMap;

pub(crate) fn tier() -> BoxedStrategy<Tier> {
    select(vec![Tier::Process, Tier::Container, Tier::Microvm]).boxed()
}

fn limits() -> BoxedStrategy<SessionLimits> {
    made!(SessionLimits {
        budget_nanodollars: of(any::<u64>()),
        models: small(text()),
        providers: small(text()),
        requests_per_minute: of(any::<u32>()),
        tokens_per_minute: of(any::<u32>()),
        concurrent_requests: of(any::<u32>()),
    })
}

pub(crate) fn info() -> BoxedStrategy<SessionInfo> {
    let head = (
        id(),
        text(),
        text(),
        of(text()),
        text(),
        (tier(), of(text()), of(limits())),
        status(),
        of(text()),
    );
    let n = any::<u64>;
    let tail = (of(text()), of(id()), small(id()), any::<bool>(), n(), n(), n());
    (head, tail)
        .prop_map(
            |(
                (id, title, harness, harness_version, workspace, (tier, profile, limits), status, model),
                tail,
            )| {
                let (
                    thinking_level,
                    parent,
                    shares_workspace_with,
                    needs_input,
                    created_at,
                    updated_at,
                    message_count,
                ) = tail;
                SessionInfo {
                    id,
                    title,
                    harness,
                    harness_version,
                    workspace,
                    tier,
                    profile,
                    limits,
                    status,
                    model,
                    thinking_level,
                    parent,
                    shares_workspace_with,
                    needs_input,
                    created_at,
                    updated_at,
                    message_count,
                }
            },
        )
        .boxed()
}

fn model() -> BoxedStrategy<ModelInfo> {
    made!(ModelInfo {
        id: text(),
        name: text(),
        provider: text(),
        context_window: of(any::<u64>()),
        reasoning: any::<bool>(),
    })
}

pub(crate) fn capabilities() -> BoxedStrategy<Capabilities> {
    let mode = made!(ModeInfo {
        id: text(),
        name: text(),
        description: of(text())
    });
    (any::<[bool; 13]>(), small(model()), small(text()), small(mode))
        .prop_map(|(can, models, thinking_levels, modes)| Capabilities {
            steer: can[0],
            follow_up: can[1],
            queue: can[2],
            abort: can[3],
            abort_retry: can[4],
            fork: can[5],
            fork_at_message: can[12],
            compact: can[6],
            resume: can[7],
            images: can[8],
            plan: can[9],
            permissions: can[10],
            set_title: can[11],
            models,
            thinking_levels,
            modes,
        })
        .boxed()
}

pub(crate) fn queue_entry() -> BoxedStrategy<QueueEntry> {
    let state = select(vec![
        QueueState::Waiting,
        QueueState::Steering,
        QueueState::Uncertain,
    ]);
    made!(QueueEntry {
        id: id(),
        state,
        parts: small(part()),
        created_at: any::<u64>()
    })
}

pub(crate) fn command_info() -> BoxedStrategy<CommandInfo> {
    made!(CommandInfo {
        name: text(),
        description: of(text())
    })
}

fn running_tool() -> BoxedStrategy<RunningTool> {
    made!(RunningTool {
        tool_call_id: id(),
        name: text(),
        input: value(),
        output: small(part()),
        started_at: any::<u64>(),
    })
}

pub(crate) fn state() -> BoxedStrategy<SessionState> {
    let head = (
        info(),
        capabilities(),
        of(phase()),
        of(id()),
        any::<bool>(),
        small(message()),
        any::<bool>(),
    );
    let middle = (
        small(message()),
        small(running_tool()),
        small(request()),
        small(queue_entry()),
        small(plan_entry()),
    );
    let tail = (
        small(command_info()),
        of(text()),
        usage(),
        of(any::<u64>()),
        of(error()),
    );
    let workspace = (
        small(places::seen_finding()),
        any::<bool>(),
        places::network_summary(),
    );
    (head, middle, tail, workspace)
        .prop_map(|(head, middle, tail, workspace)| {
            let (findings, findings_truncated, network) = workspace;
            let (session, capabilities, phase, turn_id, persisting, messages, has_older) = head;
            let (streaming, running_tools, requests, queue, plan) = middle;
            let (commands, mode, usage, context_tokens, last_error) = tail;
            SessionState {
                session,
                capabilities,
                phase,
                turn_id,
                persisting,
                messages,
                has_older,
                streaming,
                running_tools,
                requests,
                queue,
                plan,
                commands,
                mode,
                usage,
                context_tokens,
                last_error,
                findings,
                findings_truncated,
                network,
            }
        })
        .boxed()
}

pub(crate) fn anchor() -> BoxedStrategy<MessageAnchor> {
    made!(MessageAnchor {
        message_id: id(),
        index: any::<u64>()
    })
}

/// One strategy a command.
pub(crate) fn command_bodies() -> Vec<BoxedStrategy<CommandBody>> {
    [
        session_commands(),
        turn_commands(),
        other_commands(),
        places::commands(),
        super::trust::commands(),
    ]
    .concat()
}

fn session_commands() -> Vec<BoxedStrategy<CommandBody>> {
    vec![
        made!(CommandBody::SessionCreate {
            harness: text(),
            workspace: text(),
            model: of(text()),
            thinking_level: of(text()),
            title: of(text()),
            tier: of(tier()),
            profile: of(text()),
            limits: of(limits()),
        }),
        made!(CommandBody::SessionResume {}),
        made!(CommandBody::SessionClose {}),
        made!(CommandBody::SessionDelete {}),
        made!(CommandBody::SessionFork { message_id: of(id()) }),
        made!(CommandBody::SessionList {
            cursor: of(text()),
            limit: of(any::<u32>())
        }),
        made!(CommandBody::SessionSubscribe { cursor: of(cursor()) }),
        made!(CommandBody::SessionUnsubscribe {}),
    ]
}

fn turn_commands() -> Vec<BoxedStrategy<CommandBody>> {
    let parts = || small(part());
    vec![
        made!(CommandBody::Prompt { parts: parts() }),
        made!(CommandBody::Steer { parts: parts() }),
        made!(CommandBody::FollowUp { parts: parts() }),
        made!(CommandBody::QueueEdit {
            entry_id: id(),
            parts: parts()
        }),
        made!(CommandBody::QueueClear { entry_id: of(id()) }),
        made!(CommandBody::QueueResend { entry_id: id() }),
        made!(CommandBody::Abort {}),
        made!(CommandBody::InputResponse {
            request_id: id(),
            answer: answer()
        }),
    ]
}

fn other_commands() -> Vec<BoxedStrategy<CommandBody>> {
    vec![
        made!(CommandBody::SetModel { model: text() }),
        made!(CommandBody::SetThinkingLevel { level: text() }),
        made!(CommandBody::SetMode { mode: text() }),
        made!(CommandBody::Compact {
            instructions: of(text())
        }),
        made!(CommandBody::AbortRetry {}),
        made!(CommandBody::SetTitle { title: text() }),
        made!(CommandBody::GetState {}),
        made!(CommandBody::GetMessages {
            cursor: of(text()),
            limit: of(any::<u32>())
        }),
        made!(CommandBody::GetModels {}),
        made!(CommandBody::GetCommands {}),
        made!(CommandBody::GetStats {}),
        made!(CommandBody::HarnessList {}),
        made!(CommandBody::HarnessInstall { name: text() }),
        made!(CommandBody::WorkspaceList {}),
        made!(CommandBody::WorkspaceCreate { name: text() }),
    ]
}

pub(crate) fn command() -> BoxedStrategy<Command> {
    let body = Union::new(command_bodies());
    made!(Command {
        id: text(),
        session_id: of(id()),
        client_id: of(text()),
        body
    })
}

pub(crate) fn response() -> BoxedStrategy<Response> {
    let outcome = prop_oneof![value().prop_map(Outcome::Ok), error().prop_map(Outcome::Error)];
    made!(Response { id: text(), outcome })
}

pub(crate) fn harness() -> BoxedStrategy<HarnessInfo> {
    made!(HarnessInfo {
        name: text(),
        title: text(),
        description: text(),
        installed: any::<bool>(),
        version: text(),
        licence: of(text()),
        problem: of(error()),
        installing: of(installing()),
    })
}

fn installing() -> BoxedStrategy<Installing> {
    made!(Installing {
        step: text(),
        done: any::<u32>(),
        total: any::<u32>()
    })
}

pub(crate) fn workspace() -> BoxedStrategy<WorkspaceInfo> {
    made!(WorkspaceInfo {
        path: text(),
        name: text(),
        sessions: small(id())
    })
}

fn cursors() -> BoxedStrategy<BTreeMap<SessionId, Option<lodge_proto::Cursor>>> {
    btree_map(id(), of(cursor()), 0..4).boxed()
}

pub(crate) fn hello() -> BoxedStrategy<Hello> {
    made!(Hello {
        version: any::<u32>(),
        cursors: cursors()
    })
}

pub(crate) fn client_frame() -> BoxedStrategy<ClientFrame> {
    prop_oneof![
        hello().prop_map(|hello| ClientFrame::Hello { hello }),
        command().prop_map(|command| ClientFrame::Command(Box::new(command))),
    ]
    .boxed()
}

fn verdict() -> BoxedStrategy<Verdict> {
    let state = || state().prop_map(Box::new);
    Union::new(vec![
        made!(Verdict::Ok {}),
        made!(Verdict::Snapshot { state: state() }),
        made!(Verdict::Gap {
            reason: text(),
            state: state()
        }),
    ])
    .boxed()
}

pub(crate) fn to_client() -> BoxedStrategy<ToClient> {
    Union::new(vec![
        made!(ToClient::Welcome {
            version: any::<u32>(),
            account: text(),
            name: text()
        }),
        made!(ToClient::Subscribed {
            session_id: id(),
            cursor: cursor(),
            verdict: verdict()
        }),
        made!(ToClient::SubscribeFailed {
            session_id: id(),
            error: error()
        }),
        made!(ToClient::SessionChanged {
            session: info().prop_map(Box::new)
        }),
        made!(ToClient::SessionRemoved { session_id: id() }),
        made!(ToClient::RunnerLost { error: error() }),
        made!(ToClient::RunnerReady {}),
        made!(ToClient::TerminalClosed {
            session_id: id(),
            terminal_id: any::<u32>(),
            exit: places::terminal_exit()
        }),
        made!(ToClient::TerminalLagged {
            terminal_id: any::<u32>()
        }),
        made!(ToClient::Rejected { error: error() }),
    ])
    .boxed()
}

pub(crate) fn actor() -> BoxedStrategy<Actor> {
    made!(Actor {
        account: text(),
        name: text(),
        rights: select(vec![Rights::View, Rights::Own])
    })
}

pub(crate) fn to_runner() -> BoxedStrategy<ToRunner> {
    Union::new(vec![
        made!(ToRunner::Hello {
            version: any::<u32>()
        }),
        made!(ToRunner::Attach { actor: actor() }),
        made!(ToRunner::Detach {}),
        made!(ToRunner::Subscribe { cursors: cursors() }),
        made!(ToRunner::Resync { session_id: id() }),
        made!(ToRunner::TerminalDetach {
            terminal_id: any::<u32>()
        }),
        made!(ToRunner::BlobPut { actor: actor() }),
        made!(ToRunner::BlobGet {
            actor: actor(),
            hash: text()
        }),
    ])
    .boxed()
}

pub(crate) fn to_relay() -> BoxedStrategy<ToRelay> {
    Union::new(vec![
        made!(ToRelay::Hello {
            version: any::<u32>(),
            runner_epoch: any::<u64>()
        }),
        made!(ToRelay::Join { session_id: id() }),
        made!(ToRelay::Leave {}),
    ])
    .boxed()
}
