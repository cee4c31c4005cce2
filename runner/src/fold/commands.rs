//! Commands of clients, as they come out of the journal.

use super::approvals;
use super::cx::Cx;
use super::network;
use super::record::{JournalCommand, Queued, Reply};
use super::state::ReplyTo;
use super::turn;
use crate::harness::{Answer, AnyAdapter};
use lodge_proto::command::CommandBody;
use lodge_proto::ids::{QueueId, RequestId};
use lodge_proto::input::{InputAnswer, InputKind};
use lodge_proto::message::Sender;
use lodge_proto::part::Part;
use lodge_proto::session::{QueueState, SessionStatus};
use lodge_proto::{ErrorBody, ErrorCode};
use serde_json::{Value, json};

type Handled = Result<Answer, ErrorBody>;

pub(super) fn apply(cx: &mut Cx<'_>, adapter: &mut AnyAdapter, command: &JournalCommand) {
    let reply_to = ReplyTo {
        account: command.sender.account.clone(),
        client_id: command.client_id.clone(),
    };
    let result = match handle(cx, adapter, command) {
        Ok(Answer::Now(value)) => Ok(value),
        Ok(Answer::Later(native_id)) => {
            cx.core.deferred.insert(native_id, reply_to);
            return;
        }
        Err(error) => Err(error),
    };
    cx.out.replies.push(Reply {
        account: reply_to.account,
        client_id: reply_to.client_id,
        result,
    });
}

/// A command that was read from the inputs of a recorded transcript: nobody waits for its answer.
pub(super) fn apply_foreign(cx: &mut Cx<'_>, adapter: &mut AnyAdapter, body: CommandBody) {
    let sender = Sender {
        account: "transcript".to_owned(),
        name: "transcript".to_owned(),
    };
    let command = JournalCommand {
        sender,
        client_id: String::new(),
        body,
    };
    if let Err(error) = handle(cx, adapter, &command) {
        cx.warn(error.message);
    }
}

fn handle(cx: &mut Cx<'_>, adapter: &mut AnyAdapter, command: &JournalCommand) -> Handled {
    let sender = &command.sender;
    match &command.body {
        CommandBody::Prompt { parts } | CommandBody::Steer { parts } => {
            prompt(cx, adapter, parts, sender, true)
        }
        CommandBody::FollowUp { parts } => prompt(cx, adapter, parts, sender, false),
        CommandBody::QueueEdit { entry_id, parts } => {
            require_images(cx, adapter, parts)?;
            queue_edit(cx, *entry_id, parts)
        }
        CommandBody::QueueClear { entry_id } => queue_clear(cx, adapter, *entry_id),
        CommandBody::QueueResend { entry_id } => queue_resend(cx, adapter, *entry_id),
        CommandBody::Abort {} => {
            network::cancel_all(cx);
            turn::abort(cx, adapter);
            done()
        }
        CommandBody::InputResponse { request_id, answer } => answer_request(cx, adapter, *request_id, answer),
        CommandBody::SetModel { model } => set_model(cx, adapter, model),
        CommandBody::SetThinkingLevel { level } => set_thinking_level(cx, adapter, level),
        CommandBody::SetMode { mode } => {
            if !cx.core.capabilities.modes.iter().any(|known| known.id == *mode) {
                return Err(unsupported(cx, "modes"));
            }
            adapter.set_mode(cx, mode)
        }
        CommandBody::Compact { instructions } => {
            require(cx, cx.core.capabilities.compact, "compaction")?;
            require_idle(cx)?;
            adapter.compact(cx, instructions.as_deref())
        }
        CommandBody::AbortRetry {} => {
            require(cx, cx.core.capabilities.abort_retry, "ending a retry")?;
            adapter.abort_retry(cx)
        }
        CommandBody::ApprovalsForget { approval_id } => {
            approvals::forget(cx, *approval_id)?;
            done()
        }
        CommandBody::SetTitle { title } => {
            cx.title(title.trim());
            adapter.set_title(cx, title.trim());
            done()
        }
        other => Err(ErrorBody::new(
            ErrorCode::InvalidArgument,
            format!(
                "`{}` does not belong into a session's journal",
                command_name(other)
            ),
        )),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the arms of `handle` share one type")]
fn done() -> Handled {
    Ok(Answer::Now(json!({})))
}

fn prompt(
    cx: &mut Cx<'_>,
    adapter: &mut AnyAdapter,
    parts: &[Part],
    sender: &Sender,
    steer: bool,
) -> Handled {
    require_images(cx, adapter, parts)?;
    // A steered prompt is known by its text when the harness takes it up: without one it waits for its own turn.
    let steer = steer && parts.iter().any(|part| !matches!(part, Part::Image { .. }));
    if cx.can_begin() {
        let id = QueueId(cx.new_id());
        let entry = lodge_proto::session::QueueEntry {
            id,
            state: QueueState::Waiting,
            parts: parts.to_vec(),
            created_at: cx.now(),
        };
        turn::begin(
            cx,
            adapter,
            Queued {
                entry,
                sender: sender.clone(),
            },
        );
        return Ok(Answer::Now(
            json!({ "disposition": "started", "turn_id": cx.turn() }),
        ));
    }
    if let Some(error) = ended_before(cx) {
        return Err(error);
    }
    let working = cx.core.status == SessionStatus::Working && cx.core.persisting.is_none();
    if steer && working && cx.core.capabilities.steer {
        let id = cx.enqueue(parts.to_vec(), sender.clone(), QueueState::Steering);
        adapter.steer(cx, parts);
        return Ok(Answer::Now(json!({ "disposition": "steering", "entry_id": id })));
    }
    let id = cx.enqueue(parts.to_vec(), sender.clone(), QueueState::Waiting);
    cx.core.queue_held = false;
    Ok(Answer::Now(json!({ "disposition": "queued", "entry_id": id })))
}

/// The harness ended between the decision to give it the prompt and the prompt's record: in the queue it would wait for
/// a harness that nobody starts.
fn ended_before(cx: &Cx<'_>) -> Option<ErrorBody> {
    let crashed = || {
        ErrorBody::new(
            ErrorCode::HarnessCrashed,
            "the harness ended before it could take the prompt; send it again",
        )
    };
    match cx.core.status {
        _ if cx.core.running || cx.core.turn.is_some() => None,
        SessionStatus::Failed => Some(cx.core.last_error.clone().unwrap_or_else(crashed)),
        SessionStatus::Stopped => Some(crashed()),
        _ => None,
    }
}

fn find_entry<'a>(cx: &'a mut Cx<'_>, id: QueueId) -> Result<&'a mut Queued, ErrorBody> {
    cx.core
        .queue
        .iter_mut()
        .find(|queued| queued.id() == id)
        .ok_or_else(|| {
            ErrorBody::new(
                ErrorCode::NotFound,
                format!("no entry {id} waits in the queue; it may have been sent"),
            )
        })
}

fn queue_edit(cx: &mut Cx<'_>, id: QueueId, parts: &[Part]) -> Handled {
    let queued = find_entry(cx, id)?;
    if queued.entry.state == QueueState::Steering {
        return Err(ErrorBody::new(
            ErrorCode::Conflict,
            "this entry was already given to the agent",
        ));
    }
    queued.entry.parts = parts.to_vec();
    cx.queue_changed();
    done()
}

fn queue_clear(cx: &mut Cx<'_>, adapter: &mut AnyAdapter, id: Option<QueueId>) -> Handled {
    if let Some(id) = id {
        let state = find_entry(cx, id)?.entry.state;
        if state == QueueState::Steering {
            return Err(ErrorBody::new(
                ErrorCode::Conflict,
                "this entry was already given to the agent",
            ));
        }
        cx.core.queue.retain(|queued| queued.id() != id);
    } else {
        if cx
            .core
            .queue
            .iter()
            .any(|queued| queued.entry.state == QueueState::Steering)
        {
            adapter.clear_steering(cx);
        }
        cx.core.queue.clear();
    }
    cx.queue_changed();
    done()
}

fn queue_resend(cx: &mut Cx<'_>, adapter: &mut AnyAdapter, id: QueueId) -> Handled {
    let can_begin = cx.can_begin();
    let queued = find_entry(cx, id)?;
    if queued.entry.state == QueueState::Steering {
        return Err(ErrorBody::new(
            ErrorCode::Conflict,
            "this entry was already given to the agent",
        ));
    }
    queued.entry.state = QueueState::Waiting;
    let queued = queued.clone();
    cx.core.queue.retain(|other| other.id() != id);
    if can_begin {
        cx.queue_changed();
        turn::begin(cx, adapter, queued);
    } else {
        cx.core.queue.insert(0, queued);
        cx.core.queue_held = false;
        cx.queue_changed();
    }
    done()
}

fn answer_request(cx: &mut Cx<'_>, adapter: &mut AnyAdapter, id: RequestId, answer: &InputAnswer) -> Handled {
    if let Some(request) = cx.core.network.request(id) {
        if !fits(&request.kind, answer) {
            return Err(unfit());
        }
        network::answer(cx, id, answer);
        return done();
    }
    let Some(at) = cx.core.requests.iter().position(|open| open.request.id == id) else {
        return Err(ErrorBody::new(
            ErrorCode::Conflict,
            "this question was already answered or withdrawn",
        ));
    };
    if !fits(&cx.core.requests[at].request.kind, answer) {
        return Err(unfit());
    }
    let open = cx.core.requests.remove(at);
    approvals::answer(cx, adapter, &open, answer);
    done()
}

fn unfit() -> ErrorBody {
    ErrorBody::new(
        ErrorCode::InvalidArgument,
        "the answer is not of the kind the question asks for",
    )
}

fn fits(kind: &InputKind, answer: &InputAnswer) -> bool {
    match (kind, answer) {
        (_, InputAnswer::Cancelled {})
        | (InputKind::Confirm {}, InputAnswer::Confirmed { .. })
        | (InputKind::Input { .. } | InputKind::Editor { .. }, InputAnswer::Text { .. }) => true,
        (InputKind::Permission { choices, .. }, InputAnswer::Permission { choice }) => {
            choices.contains(choice)
        }
        (InputKind::Select { options, multiple }, InputAnswer::Selected { values }) => {
            (*multiple || values.len() == 1)
                && values
                    .iter()
                    .all(|value| options.iter().any(|option| option.value == *value))
        }
        _ => false,
    }
}

fn set_model(cx: &mut Cx<'_>, adapter: &mut AnyAdapter, model: &str) -> Handled {
    if !cx.core.capabilities.models.iter().any(|known| known.id == model) {
        let known: Vec<&str> = cx
            .core
            .capabilities
            .models
            .iter()
            .map(|model| model.id.as_str())
            .collect();
        return Err(ErrorBody::new(
            ErrorCode::NotFound,
            format!(
                "this session has no model `{model}`; it has: {}",
                known.join(", ")
            ),
        ));
    }
    adapter.set_model(cx, model)
}

fn set_thinking_level(cx: &mut Cx<'_>, adapter: &mut AnyAdapter, level: &str) -> Handled {
    let levels = &cx.core.capabilities.thinking_levels;
    if !levels.iter().any(|known| known == level) {
        let message = if levels.is_empty() {
            "this session's model has no thinking levels".to_owned()
        } else {
            format!("no thinking level `{level}`; there are: {}", levels.join(", "))
        };
        return Err(ErrorBody::new(ErrorCode::InvalidArgument, message));
    }
    adapter.set_thinking_level(cx, level)
}

fn require(cx: &Cx<'_>, can: bool, what: &str) -> Result<(), ErrorBody> {
    if can { Ok(()) } else { Err(unsupported(cx, what)) }
}

/// Images go only to a harness and a model that take them. A harness that has not said yet decides when it does.
fn require_images(cx: &Cx<'_>, adapter: &AnyAdapter, parts: &[Part]) -> Result<(), ErrorBody> {
    if !parts.iter().any(|part| matches!(part, Part::Image { .. })) {
        return Ok(());
    }
    let able = cx.core.capabilities.images || adapter.may_take_images();
    require(cx, able, "images in prompts")?;
    let model = cx.wanted_model().unwrap_or_default();
    let blind = cx
        .launch()
        .is_some_and(|launch| launch.text_models.iter().any(|known| known == model));
    if blind {
        let message = format!("the model {model} takes no images; choose another one");
        return Err(ErrorBody::new(ErrorCode::UnsupportedByHarness, message));
    }
    Ok(())
}

fn unsupported(cx: &Cx<'_>, what: &str) -> ErrorBody {
    ErrorBody::new(
        ErrorCode::UnsupportedByHarness,
        format!("{} has no {what}", cx.core.harness()),
    )
}

fn require_idle(cx: &Cx<'_>) -> Result<(), ErrorBody> {
    if cx.core.persisting.is_some() {
        return Err(ErrorBody::new(
            ErrorCode::Persisting,
            "the last turn is being stored; try again in a moment",
        ));
    }
    if cx.core.turn.is_some() {
        return Err(ErrorBody::new(
            ErrorCode::Busy,
            "a turn is running: wait for its end or abort it first",
        ));
    }
    Ok(())
}

/// The command's name on the wire.
fn command_name(body: &CommandBody) -> String {
    let value = serde_json::to_value(body).unwrap_or(Value::Null);
    value.get("cmd").and_then(Value::as_str).unwrap_or("?").to_owned()
}
