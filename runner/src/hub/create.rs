//! Making and deleting sessions and workspaces.

use super::commands::finish;
use super::usable::check_model;
use super::{Entry, Hub, HubMessage};
use crate::fold::{self, Fork, Note, Origin};
use crate::history::stored;
use crate::launcher;
use crate::session::journal::Own;
use crate::session::port::Local;
use crate::session::{Answering, Request};
use crate::shared::{Shared, random_u32, store_error};
use crate::store::SessionRow;
use lodge_proto::command::CommandBody;
use lodge_proto::history::{AppendTurnRequest, Session, Turn};
use lodge_proto::ids::MessageId;
use lodge_proto::message::{Message, Role};
use lodge_proto::relay::Actor;
use lodge_proto::session::{SessionInfo, SessionStatus, Tier};
use lodge_proto::{ErrorBody, ErrorCode, SessionId};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::oneshot;
use uuid::Uuid;

/// Messages that a fork's first snapshot carries.
const FORK_TAIL: usize = 64;

type Result<T> = std::result::Result<T, ErrorBody>;

/// A session that was made.
#[derive(Debug)]
pub struct Created {
    result: Result<SessionRow>,
    answering: Answering,
}

/// What a new session begins as.
struct Plan {
    id: SessionId,
    account: String,
    created: fold::Created,
    created_at: u64,
    /// Session directory of the conversation that is copied.
    copy: Option<PathBuf>,
}

impl Hub {
    pub(super) fn create(&self, actor: &Actor, body: CommandBody, answering: Answering, since_ms: u64) {
        let (shared, hub) = (Arc::clone(&self.shared), self.sender.clone());
        let account = actor.account.clone();
        tokio::spawn(async move {
            let id = id_of(&account, &answering.client_id, since_ms);
            let result = make(&shared, id, account, since_ms, body).await;
            let _ = hub
                .send(HubMessage::Created(Box::new(Created { result, answering })))
                .await;
        });
    }

    pub(super) async fn fork(
        &mut self,
        parent: Option<SessionId>,
        before: Option<MessageId>,
        answering: Answering,
        since_ms: u64,
    ) {
        let (shared, hub) = (Arc::clone(&self.shared), self.sender.clone());
        let row = parent
            .and_then(|parent| self.sessions.get(&parent))
            .map(|entry| entry.row.clone());
        let Some(row) = row else {
            let error = ErrorBody::new(ErrorCode::NotFound, "no such session");
            return finish(&shared, answering, Err(error));
        };
        let (reply, origin) = oneshot::channel();
        let asked = self.ask(row.info.id, Request::Origin { before, reply }).await;
        tokio::spawn(async move {
            let result = async {
                asked?;
                let origin = origin.await.map_err(|_| reopened())??;
                make_fork(&shared, &row, (before, origin), &answering, since_ms).await
            };
            let result = result.await;
            let _ = hub
                .send(HubMessage::Created(Box::new(Created { result, answering })))
                .await;
        });
    }

    /// Takes a new session into the list, opens it and starts its harness.
    pub(super) async fn created(&mut self, created: Created) {
        let Created { result, answering } = created;
        let row = match result {
            Ok(row) => row,
            Err(error) => return finish(&self.shared, answering, Err(error)),
        };
        let info = row.info.clone();
        self.sessions
            .entry(info.id)
            .or_insert(Entry { row, handle: None });
        let _ = self.ask(info.id, Request::Start { reply: None }).await;
        finish(&self.shared, answering, Ok(json!(info)));
    }
}

fn reopened() -> ErrorBody {
    ErrorBody::new(ErrorCode::Unavailable, "the session is being reopened; try again")
}

/// The id of a session that a command makes: the same when the command comes again.
fn id_of(account: &str, client_id: &str, since_ms: u64) -> SessionId {
    let hash = blake3::hash(format!("session\0{account}\0{client_id}\0{since_ms}").as_bytes());
    let mut random = [0; 10];
    random.copy_from_slice(&hash.as_bytes()[..10]);
    SessionId(uuid::Builder::from_unix_timestamp_millis(since_ms, &random).into_uuid())
}

async fn make(
    shared: &Arc<Shared>,
    id: SessionId,
    account: String,
    created_at: u64,
    body: CommandBody,
) -> Result<SessionRow> {
    let CommandBody::SessionCreate {
        harness,
        workspace,
        model,
        thinking_level,
        title,
        tier,
        profile,
        limits,
    } = body
    else {
        return Err(ErrorBody::new(ErrorCode::Internal, "this is no session.create"));
    };
    shared.resolve_harness(&harness).await?;
    if shared.adapter(&harness).is_none() {
        let message = format!("this version has no adapter for the harness `{harness}`");
        return Err(ErrorBody::new(ErrorCode::NotFound, message));
    }
    check_model(shared, &harness, model.as_deref(), limits.as_ref()).await?;
    let workspace = resolve_workspace(shared, &workspace).await?;
    let wish = fold::Wish {
        tier,
        profile,
        limits,
    };
    let (tier, profile) = decide(shared, &workspace, &wish).await?;
    let created = fold::Created {
        session: id,
        harness,
        workspace: workspace.to_string_lossy().into_owned(),
        title,
        model,
        thinking_level,
        tier,
        profile: Some(profile),
        wish,
        fork: None,
    };
    store(
        shared,
        Plan {
            id,
            account,
            created,
            created_at,
            copy: None,
        },
    )
    .await
}

/// The real path of a workspace that a client named, if it may be used.
pub(super) async fn resolve_workspace(shared: &Shared, workspace: &str) -> Result<PathBuf> {
    let config = shared.config.clone();
    let default_root = config.default_root();
    let path = if workspace.starts_with('/') {
        PathBuf::from(workspace)
    } else {
        default_root.join(workspace)
    };
    let opened = tokio::task::spawn_blocking(move || {
        // Made by us on first use; whatever else is missing is an error.
        let _ = std::fs::DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(&default_root);
        launcher::open_workspace(&path, &config)
    });
    let opened = opened
        .await
        .map_err(|error| ErrorBody::new(ErrorCode::Internal, error.to_string()))?;
    opened.map(|workspace| workspace.path)
}

/// The sandbox that a new session will have, or why it cannot have the one that was asked for.
async fn decide(shared: &Arc<Shared>, workspace: &Path, wish: &fold::Wish) -> Result<(Tier, String)> {
    let (shared, workspace, wish) = (Arc::clone(shared), workspace.to_owned(), wish.clone());
    tokio::task::spawn_blocking(move || launcher::decide(&shared.config, &workspace, &wish))
        .await
        .map_err(|error| ErrorBody::new(ErrorCode::Internal, error.to_string()))?
}

async fn make_fork(
    shared: &Arc<Shared>,
    parent: &SessionRow,
    (before, origin): (Option<MessageId>, Origin),
    answering: &Answering,
    since_ms: u64,
) -> Result<SessionRow> {
    let id = id_of(&answering.account, &answering.client_id, since_ms);
    let all = shared.history.all(parent.info.id).await?;
    let kept = match before {
        None => all,
        Some(before) => {
            let at = all
                .iter()
                .position(|message| message.id == before && message.role == Role::User);
            let at = at.ok_or_else(|| {
                let message = "a fork begins before a finished user message of this session; this is none";
                ErrorBody::new(ErrorCode::InvalidArgument, message)
            })?;
            all.into_iter().take(at).collect()
        }
    };
    let user_messages = kept.iter().filter(|message| message.role == Role::User).count();
    let is_part = before.is_some() || origin.in_turn;
    let keep_user_messages = is_part.then(|| u32::try_from(user_messages).unwrap_or(u32::MAX));
    // From before the first message there is nothing to go on from.
    let source = origin.source.filter(|_| !is_part || user_messages > 0);
    let messages = copy_messages(shared, parent, id, &kept, since_ms).await?;
    let info = &parent.info;
    let copy = source.is_some().then(|| shared.session_dir(info.id));
    let created = fold::Created {
        session: id,
        harness: info.harness.clone(),
        workspace: info.workspace.clone(),
        title: Some(format!("{} (fork)", info.title)),
        model: info.model.clone(),
        thinking_level: info.thinking_level.clone(),
        tier: info.tier,
        profile: info.profile.clone(),
        // The fork is walled in and bounded no less than what it goes on from.
        wish: fold::Wish {
            tier: Some(info.tier),
            profile: info.profile.clone(),
            limits: info.limits.clone(),
        },
        fork: Some(Fork {
            parent: Some(info.id),
            keep_user_messages,
            message_count: messages.len() as u64,
            messages: messages.iter().rev().take(FORK_TAIL).rev().cloned().collect(),
            source,
        }),
    };
    // Before there is a fork, so that no crash leaves one without its images.
    let copied = shared.store.copy_blob_uses(parent.info.id, id).await;
    copied.map_err(|error| store_error(&error))?;
    store(
        shared,
        Plan {
            id,
            account: parent.account.clone(),
            created,
            created_at: since_ms,
            copy,
        },
    )
    .await
}

/// Writes the kept messages into history as those of the new session, under new ids.
async fn copy_messages(
    shared: &Shared,
    parent: &SessionRow,
    id: SessionId,
    kept: &[Message],
    now: u64,
) -> Result<Vec<Message>> {
    let mut turns: BTreeMap<u64, Vec<Message>> = BTreeMap::new();
    let mut first_of = std::collections::HashMap::new();
    let mut copies = Vec::with_capacity(kept.len());
    for message in kept {
        let first = *first_of.entry(message.turn_id).or_insert(message.index);
        let copy = Message {
            id: derived(id, message.id.0).into(),
            session_id: id,
            turn_id: derived(id, message.turn_id.0).into(),
            ..message.clone()
        };
        turns.entry(first).or_default().push(copy.clone());
        copies.push(copy);
    }
    let session = Session {
        session_id: id.to_string(),
        title: format!("{} (fork)", parent.info.title),
        harness: parent.info.harness.clone(),
        workspace: parent.info.workspace.clone(),
        created_at: i64::try_from(now).unwrap_or(i64::MAX),
        updated_at: i64::try_from(now).unwrap_or(i64::MAX),
        parent_session_id: parent.info.id.to_string(),
        ..Session::default()
    };
    for messages in turns.values() {
        let times = messages
            .iter()
            .map(|message| i64::try_from(message.created_at).unwrap_or(i64::MAX));
        let (first, last) = (times.clone().min().unwrap_or(1), times.max().unwrap_or(1));
        let turn = Turn {
            turn_id: messages
                .first()
                .map(|message| message.turn_id.to_string())
                .unwrap_or_default(),
            started_at: first,
            ended_at: last,
            outcome: "completed".to_owned(),
            ..Turn::default()
        };
        let messages = messages.iter().map(stored).collect();
        let request = AppendTurnRequest {
            session: Some(session.clone()),
            turn: Some(turn),
            messages,
        };
        shared.history.append_copy(request).await?;
    }
    Ok(copies)
}

/// The id of a copy: the same when the fork is made again, of the time of the original.
fn derived(session: SessionId, original: Uuid) -> Uuid {
    let mut hasher = blake3::Hasher::new();
    hasher.update(session.0.as_bytes());
    hasher.update(original.as_bytes());
    let mut bytes = *original.as_bytes();
    bytes[6..].copy_from_slice(&hasher.finalize().as_bytes()[..10]);
    uuid::Builder::from_bytes(bytes)
        .with_version(uuid::Version::SortRand)
        .with_variant(uuid::Variant::RFC4122)
        .into_uuid()
}

/// Directory, journal with its first record, row. Each step may be repeated.
async fn store(shared: &Arc<Shared>, plan: Plan) -> Result<SessionRow> {
    let info = SessionInfo {
        id: plan.id,
        title: plan.created.title.clone().unwrap_or_default(),
        harness: plan.created.harness.clone(),
        harness_version: None,
        workspace: plan.created.workspace.clone(),
        tier: plan.created.tier,
        profile: plan.created.profile.clone(),
        limits: plan.created.wish.limits.clone(),
        status: SessionStatus::Stopped,
        model: plan.created.model.clone(),
        thinking_level: plan.created.thinking_level.clone(),
        parent: plan.created.fork.as_ref().and_then(|fork| fork.parent),
        shares_workspace_with: Vec::new(),
        needs_input: false,
        created_at: plan.created_at,
        updated_at: plan.created_at,
        message_count: plan.created.fork.as_ref().map_or(0, |fork| fork.message_count),
    };
    let row = SessionRow {
        info,
        epoch: random_u32(),
        account: plan.account,
    };
    let dir = shared.session_dir(plan.id);
    let (created, copy) = (plan.created, plan.copy);
    let written = tokio::task::spawn_blocking(move || write_directory(&dir, created, copy.as_deref()));
    written
        .await
        .map_err(|error| ErrorBody::new(ErrorCode::Internal, error.to_string()))??;
    shared
        .store
        .create(&row)
        .await
        .map_err(|error| store_error(&error))?;
    Ok(row)
}

fn write_directory(dir: &Path, created: fold::Created, copy: Option<&Path>) -> Result<()> {
    let failed = |error: &dyn std::fmt::Display| {
        ErrorBody::new(
            ErrorCode::Unavailable,
            format!("making the session's directory: {error}"),
        )
    };
    std::fs::DirBuilder::new()
        .mode(0o700)
        .recursive(true)
        .create(dir)
        .map_err(|error| failed(&error))?;
    let mut journal = match Local::open(dir) {
        Ok(journal) => journal,
        // The command came again while the session already runs.
        Err(lodge_shim::journal::JournalError::Locked { .. }) => return Ok(()),
        Err(error) => return Err(failed(&error)),
    };
    // With its first record the session is there, and its home is the guest's.
    if journal.head() > 0 {
        return Ok(());
    }
    if let Some(parent) = copy {
        launcher::copy_conversation(&created.harness, parent, dir)?;
    }
    let note = Note::Created(Box::new(created));
    journal
        .append(&Own::note_once(&note, "created"))
        .map(drop)
        .map_err(|error| failed(&error))
}

/// A folder below the default root.
pub(super) fn workspace(root: &Path, name: &str) -> Result<Value> {
    let fine = !name.is_empty()
        && name.len() <= 100
        && !name.starts_with('.')
        && name
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ' '));
    if !fine {
        let message = "a workspace's name has 1 to 100 letters, digits, spaces, `-`, `_` or `.`, not beginning with `.`";
        return Err(ErrorBody::new(ErrorCode::InvalidArgument, message));
    }
    let path = root.join(name);
    let made = std::fs::DirBuilder::new()
        .mode(0o700)
        .recursive(true)
        .create(&path);
    made.map_err(|error| {
        ErrorBody::new(
            ErrorCode::Unavailable,
            format!("making {}: {error}", path.display()),
        )
    })?;
    Ok(json!({ "path": path, "name": name, "sessions": [] }))
}

/// Forgets a session in history, in the database and on disk.
pub(super) async fn delete_everywhere(shared: &Shared, id: SessionId) -> Result<()> {
    shared.history.delete(id).await?;
    shared
        .store
        .delete(id)
        .await
        .map_err(|error| store_error(&error))?;
    let dir = shared.session_dir(id);
    let removed = tokio::task::spawn_blocking(move || lodge_sandbox::remove_tree(&dir)).await;
    if let Ok(Err(error)) = removed
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(session = %id, %error, "a deleted session left files behind");
    }
    Ok(())
}
