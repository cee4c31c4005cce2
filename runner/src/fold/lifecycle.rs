//! One record at a time: what each kind does.

use super::approvals;
use super::commands;
use super::cx::Cx;
use super::network;
use super::record::{Created, Exit, Limit, Note, Record, RecordBody, Timer};
use super::state::STDERR_LINES;
use super::trust;
use super::turn;
use crate::harness::AnyAdapter;
use lodge_proto::event::{EventBody, NotifyLevel, TurnOutcome};
use lodge_proto::session::{QueueState, SessionStatus, Tier};
use lodge_proto::{ErrorBody, ErrorCode};
use serde_json::json;
use std::collections::BTreeMap;

/// Time a harness has to answer its first request, from the start of its sandbox in the process tier.
const START_DEADLINE_MS: u64 = 60_000;
/// Bytes kept of one line of standard error.
const STDERR_BYTES: usize = 400;

pub(super) fn apply(cx: &mut Cx<'_>, adapter: &mut AnyAdapter, record: &Record) {
    match &record.body {
        RecordBody::Generation { generation } => new_generation(cx, adapter, *generation),
        RecordBody::Started => started(cx, adapter),
        RecordBody::StartFailed { message } => start_failed(cx, adapter, message),
        RecordBody::Out(line) => adapter.line(cx, line),
        RecordBody::Err(line) => stderr(cx, line),
        RecordBody::Oversize { stream, length } => {
            let message = format!(
                "the harness wrote a line of {length} bytes to {stream}; lines over 16 MiB are dropped"
            );
            cx.agent_error(ErrorCode::HarnessCrashed, message, true);
        }
        RecordBody::InBegin { id, bytes } => in_begin(cx, adapter, id, bytes),
        RecordBody::InDone { id } => cx.core.inputs.retain(|input| input.id != *id),
        RecordBody::Exit(exit) => exited(cx, adapter, exit),
        RecordBody::Limit(limit) => cx.core.limit = Some(limit.clone()),
        RecordBody::Closed { reason } => lost(cx, adapter, reason),
        RecordBody::Cmd(command) => commands::apply(cx, adapter, command),
        RecordBody::Timer(timer) => fired(cx, *timer),
        RecordBody::Note(note) => noted(cx, note),
        RecordBody::Unknown(kind) => cx.warn(format!(
            "journal record {} has the unknown kind {kind}",
            record.seq
        )),
    }
}

fn noted(cx: &mut Cx<'_>, note: &Note) {
    match note {
        Note::Created(created) => created_session(cx, created),
        Note::Launch(launch) => {
            cx.core.launch = Some((**launch).clone());
            cx.core.stopping = None;
        }
        Note::LaunchFailed { error } => {
            cx.agent_error(error.code, error.message.clone(), true);
            cx.core.last_error = Some(error.clone());
            cx.status(SessionStatus::Failed);
        }
        Note::HistoryAck {
            turn,
            message_version,
        } => turn::acknowledged(cx, *turn, *message_version),
        Note::WorkspaceShared { with } => {
            cx.core.shares_workspace_with.clone_from(with);
            if !with.is_empty() {
                let others = with.len();
                cx.notify(
                    NotifyLevel::Warning,
                    format!(
                        "{others} other open session(s) work in this workspace: both may change its files"
                    ),
                );
            }
        }
        Note::Findings { items, truncated } => {
            let now = cx.now();
            cx.core.seen.found(items, *truncated, now);
            cx.emit(EventBody::WorkspaceFindings {
                items: items.clone(),
                truncated: *truncated,
            });
        }
        Note::ApprovalKept { approval } => approvals::kept(cx, *approval),
        Note::Approvals { given } => approvals::known(cx, given),
        Note::NetworkAccess(access) => network::accessed(cx, access),
        Note::NetworkAsked {
            question,
            host,
            port,
            seconds,
        } => network::asked(cx, question, host, *port, *seconds),
        Note::NetworkClosed { question } => network::closed(cx, question),
        Note::NetworkReset {} => network::reset(cx),
        Note::WorkspaceCode {
            trusted,
            files,
            changed,
            reason,
        } => trust::decided(cx, *trusted, *files, changed, reason.as_deref()),
        Note::InputLost { input, error } => turn::input_lost(cx, input, error),
        Note::Stopping { reason } => {
            cx.core.stopping = Some(reason.clone());
            if cx.core.turn.is_none() && cx.core.running {
                cx.status(SessionStatus::Stopping);
            }
        }
    }
}

fn created_session(cx: &mut Cx<'_>, created: &Created) {
    cx.core.created = Some(created.clone());
    cx.core.created_at = cx.now();
    cx.core.updated_at = cx.now();
    cx.core.title = created.title.clone().unwrap_or_default();
    cx.core.model.clone_from(&created.model);
    cx.core.thinking_level.clone_from(&created.thinking_level);
    if let Some(fork) = &created.fork {
        cx.core.message_count = fork.message_count;
        cx.core.user_messages = fork.keep_user_messages.unwrap_or_default();
        for message in &fork.messages {
            cx.core.push_tail(message.clone());
        }
    }
    let session = cx.core.info();
    cx.emit(EventBody::SessionCreated { session });
}

/// A new shim: whatever belonged to the one before is over.
fn new_generation(cx: &mut Cx<'_>, adapter: &mut AnyAdapter, generation: u64) {
    if cx.core.running {
        lost(cx, adapter, "another shim took its place");
    }
    cx.core.generation = generation;
    cx.origin.generation = generation;
    cx.core.inputs.clear();
    cx.core.kill = false;
    cx.core.stderr.clear();
    cx.core.limit = None;
    cx.status(SessionStatus::Starting);
    let deadline = START_DEADLINE_MS + sandbox_start_ms(cx.core.info().tier);
    cx.set_timer(Timer::StartDeadline { generation }, deadline);
}

/// Time that the sandbox itself may take to come up, before its harness does.
const fn sandbox_start_ms(tier: Tier) -> u64 {
    match tier {
        Tier::Process => 0,
        Tier::Container => 30_000,
        Tier::Microvm => 120_000,
    }
}

fn started(cx: &mut Cx<'_>, adapter: &mut AnyAdapter) {
    cx.core.running = true;
    adapter.started(cx);
    // A turn that began while the harness was started anew: its prompt is still to be given.
    if cx.core.turn.is_some() {
        cx.status(SessionStatus::Working);
    }
}

fn start_failed(cx: &mut Cx<'_>, adapter: &mut AnyAdapter, message: &str) {
    let error = limit_error(cx).unwrap_or_else(|| {
        ErrorBody::new(
            ErrorCode::SandboxUnavailable,
            format!("the sandbox could not be started: {message}"),
        )
    });
    // Whoever stops a session while it starts is told of no failure.
    let status = if cx.core.stopping.is_some() {
        SessionStatus::Stopped
    } else {
        SessionStatus::Failed
    };
    end_process(cx, adapter, TurnOutcome::Failed, error, status);
}

fn stderr(cx: &mut Cx<'_>, line: &[u8]) {
    let end = line.len().min(STDERR_BYTES);
    let text = String::from_utf8_lossy(&line[..end]).trim().to_owned();
    if text.is_empty() {
        return;
    }
    if cx.core.stderr.len() == STDERR_LINES {
        cx.core.stderr.pop_front();
    }
    cx.core.stderr.push_back(text);
}

fn in_begin(cx: &mut Cx<'_>, adapter: &mut AnyAdapter, id: &[u8; 16], bytes: &[u8]) {
    if let Some(input) = cx.core.inputs.iter_mut().find(|input| input.id == *id) {
        input.begun = true;
    } else if cx.core.transcript
        && let Some(command) = adapter.foreign_input(cx, bytes)
    {
        commands::apply_foreign(cx, adapter, command);
    }
}

fn exited(cx: &mut Cx<'_>, adapter: &mut AnyAdapter, exit: &Exit) {
    let asked = cx.core.stopping.is_some() || cx.core.kill;
    let how = exit.describe();
    if asked || (exit.code == Some(0) && cx.core.turn.is_none() && cx.core.status != SessionStatus::Starting)
    {
        let error = if cx.core.kill && cx.core.stopping.is_none() {
            turn::crash_error(cx, "did not answer in time and was killed")
        } else {
            let message = format!("the harness was stopped ({how})");
            ErrorBody::new(ErrorCode::HarnessCrashed, message)
        };
        end_process(
            cx,
            adapter,
            TurnOutcome::Interrupted,
            error,
            SessionStatus::Stopped,
        );
    } else {
        gone(cx, adapter, &how);
    }
}

/// The bound that was crossed, as an error, once.
fn limit_error(cx: &mut Cx<'_>) -> Option<ErrorBody> {
    let Limit { key, allowed, found } = cx.core.limit.take()?;
    let message = format!(
        "the sandbox was ended because it crossed {key}: {} is allowed, {} was found; the next prompt resumes the session",
        amount(&key, allowed),
        amount(&key, found),
    );
    let details = json!({ "key": key, "allowed": allowed, "found": found });
    Some(ErrorBody::new(ErrorCode::LimitExceeded, message).with_details(details))
}

/// An amount of a policy's bound, for people.
fn amount(key: &str, value: u64) -> String {
    if key.ends_with("_seconds") {
        return format!("{value} s");
    }
    if matches!(key, "limits.processes" | "limits.open_files") {
        return value.to_string();
    }
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let Some((bits, unit)) = units.into_iter().find(|(bits, _)| value >> bits > 0) else {
        return format!("{value} bytes");
    };
    // Tenths, cut off: what is above a bound is never shown as the bound.
    let tenths = (u128::from(value) * 10) >> bits;
    match tenths % 10 {
        0 => format!("{} {unit}", tenths / 10),
        tenth => format!("{}.{tenth} {unit}", tenths / 10),
    }
}

/// The harness ended without having been asked to.
fn gone(cx: &mut Cx<'_>, adapter: &mut AnyAdapter, how: &str) {
    if let Some(error) = limit_error(cx) {
        cx.agent_error(error.code, error.message.clone(), false);
        cx.core.last_error = Some(error.clone());
        return end_process(cx, adapter, TurnOutcome::Failed, error, SessionStatus::Stopped);
    }
    let error = turn::crash_error(cx, how);
    unasked(cx, adapter, error);
}

/// The harness went down with its shim: it is not to blame, and its last words say nothing about it.
fn lost(cx: &mut Cx<'_>, adapter: &mut AnyAdapter, why: &str) {
    let message = format!("{} was interrupted: {why}", cx.core.harness());
    unasked(cx, adapter, ErrorBody::new(ErrorCode::HarnessCrashed, message));
}

fn unasked(cx: &mut Cx<'_>, adapter: &mut AnyAdapter, error: ErrorBody) {
    let was_starting = cx.core.status == SessionStatus::Starting && cx.core.turn.is_none();
    let status = if was_starting {
        SessionStatus::Failed
    } else {
        SessionStatus::Stopped
    };
    if cx.core.turn.is_none() && cx.core.running {
        cx.agent_error(error.code, error.message.clone(), true);
        cx.core.last_error = Some(error.clone());
    }
    end_process(cx, adapter, TurnOutcome::Interrupted, error, status);
}

/// Everything that ends with a harness process.
fn end_process(
    cx: &mut Cx<'_>,
    adapter: &mut AnyAdapter,
    outcome: TurnOutcome,
    error: ErrorBody,
    status: SessionStatus,
) {
    cx.core.running = false;
    cx.core.kill = false;
    // What waits does not start a harness again by itself: one that dies at once would do so for ever.
    cx.core.queue_held = true;
    for (_, reply) in std::mem::take(&mut cx.core.deferred) {
        cx.out.replies.push(super::Reply {
            account: reply.account,
            client_id: reply.client_id,
            result: Err(error.clone()),
        });
    }
    turn::prompt_uncertain(cx);
    let mut uncertain = false;
    for queued in &mut cx.core.queue {
        if queued.entry.state == QueueState::Steering {
            queued.entry.state = QueueState::Uncertain;
            uncertain = true;
        }
    }
    if uncertain {
        cx.queue_changed();
    }
    cx.core.inputs.clear();
    let deadlines = std::mem::take(&mut cx.core.timers);
    drop::<BTreeMap<Timer, u64>>(deadlines);
    network::reset(cx);
    adapter.gone(cx);
    cx.turn_done(outcome, Some(error.clone()));
    if cx.core.turn.is_none() && cx.core.persisting.is_none() {
        cx.withdraw(|_| true);
        if status == SessionStatus::Failed {
            cx.agent_error(error.code, error.message.clone(), true);
            cx.core.last_error = Some(error);
        }
        cx.status(status);
    }
    if let Some(reason) = cx.core.stopping.take() {
        cx.emit(EventBody::SessionClosed { reason });
    }
}

fn fired(cx: &mut Cx<'_>, timer: Timer) {
    if cx.core.timers.remove(&timer).is_none() {
        return;
    }
    match timer {
        Timer::AbortDeadline { turn } if cx.turn() == Some(turn) && cx.core.persisting.is_none() => {
            cx.notify(
                NotifyLevel::Warning,
                "the harness did not stop when asked and was killed; the next prompt resumes it",
            );
            cx.core.kill = true;
        }
        Timer::StartDeadline { generation } if generation == cx.core.generation => {
            cx.notify(
                NotifyLevel::Error,
                "the harness did not answer in time and was killed",
            );
            cx.core.kill = true;
        }
        Timer::AbortDeadline { .. } | Timer::StartDeadline { .. } => {}
    }
}
