//! Commands of clients: checked, claimed, and given to whom they concern.

use super::{Hub, HubMessage, create};
use crate::conns::{ConnId, ReplyPort};
use crate::fold::JournalCommand;
use crate::session::{Answering, Query, Request};
use crate::shared::store_error;
use crate::store::Claim;
use lodge_proto::blob::MAX_PROMPT_IMAGES;
use lodge_proto::command::{Command, CommandBody, MAX_ID_BYTES, WorkspaceInfo};
use lodge_proto::message::Sender;
use lodge_proto::part::Part;
use lodge_proto::relay::{Actor, CommandEnvelope, Rights};
use lodge_proto::{ErrorBody, ErrorCode, Outcome, SessionId};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Longest prompt, in bytes.
const MAX_PROMPT: usize = 4 * 1024 * 1024;
/// Longest title, in characters.
const MAX_TITLE: usize = 200;
/// Sessions on a page of the list when a client does not say, and at most.
const PAGE: usize = 100;
const MAX_PAGE: usize = 500;

type Result<T> = std::result::Result<T, ErrorBody>;

fn invalid(message: impl Into<String>) -> ErrorBody {
    ErrorBody::new(ErrorCode::InvalidArgument, message)
}

impl Hub {
    pub(super) async fn command(&mut self, conn: ConnId, channel: u32, envelope: &CommandEnvelope) {
        let Some(outbox) = self.conns.get(&conn).map(|conn| conn.outbox.clone()) else {
            return;
        };
        let text = envelope.command.get();
        let command: Command = match serde_json::from_str(text) {
            Ok(command) => command,
            Err(error) => {
                let id = id_of(text);
                let error = invalid(format!("the command cannot be read: {error}"));
                return ReplyPort { outbox, channel, id }.send(Err(error));
            }
        };
        let reply = ReplyPort {
            outbox,
            channel,
            id: command.id.clone(),
        };
        if let Err(error) = check(&envelope.actor, &command) {
            return reply.send(Err(error));
        }
        if command.body.is_mutating() {
            self.mutate(&envelope.actor, command, reply).await;
        } else {
            self.look(conn, channel, &envelope.actor.account, command, reply)
                .await;
        }
    }

    async fn look(&mut self, conn: ConnId, channel: u32, account: &str, command: Command, reply: ReplyPort) {
        let query = match command.body {
            CommandBody::SessionList { cursor, limit } => {
                return reply.send(self.list(cursor.as_deref(), limit));
            }
            CommandBody::WorkspaceList {} => return reply.send(Ok(self.workspaces())),
            CommandBody::HarnessList {} => return self.harnesses(reply),
            CommandBody::GetModels {} => return self.models(reply),
            CommandBody::SandboxList {} => return self.choices(reply),
            CommandBody::WorkspaceInspect { workspace, harness } => {
                return self.inspect(account, workspace, harness, reply);
            }
            CommandBody::WorkspaceTrusted {} => return self.trusted(account, reply),
            CommandBody::ApprovalsList {} if command.session_id.is_none() => {
                return self.approvals(account, reply);
            }
            CommandBody::ApprovalsList {} => Query::Approvals,
            body @ (CommandBody::FileList { .. }
            | CommandBody::FileRead { .. }
            | CommandBody::GitStatus {}
            | CommandBody::GitDiff { .. }) => {
                return self.look_inside(command.session_id, body, reply).await;
            }
            body @ (CommandBody::TerminalAttach { .. }
            | CommandBody::TerminalResize { .. }
            | CommandBody::TerminalList {}) => {
                return self.on_terminals(command.session_id, body, reply).await;
            }
            CommandBody::SessionSubscribe { cursor } => {
                if let Some(id) = command.session_id {
                    self.subscribe(conn, channel, id, cursor).await;
                }
                return reply.send(Ok(json!({})));
            }
            CommandBody::SessionUnsubscribe {} => {
                let request = Request::Unsubscribe { conn, channel };
                let result = self.pass(command.session_id, request).await;
                return reply.send(result.map(|()| json!({})));
            }
            CommandBody::GetState {} => Query::State,
            CommandBody::GetMessages { cursor, limit } => Query::Messages { cursor, limit },
            CommandBody::GetCommands {} => Query::Commands,
            CommandBody::GetStats {} => Query::Stats,
            _ => return reply.send(Err(invalid("this command is not known here"))),
        };
        let (outbox, id) = (reply.outbox.clone(), reply.id.clone());
        if let Err(error) = self
            .pass(command.session_id, Request::Query { query, reply })
            .await
        {
            ReplyPort { outbox, channel, id }.send(Err(error));
        }
    }

    async fn pass(&mut self, id: Option<SessionId>, request: Request) -> Result<()> {
        let id = id.ok_or_else(|| invalid("this command needs a session_id"))?;
        self.ask(id, request).await
    }

    async fn mutate(&mut self, actor: &Actor, command: Command, reply: ReplyPort) {
        let client_id = command.client_id.clone().unwrap_or_default();
        let hash = payload_hash(&command);
        let now = lodge_shim::journal::now_ms();
        let since_ms = match self
            .shared
            .store
            .claim(&actor.account, &client_id, hash, now)
            .await
        {
            Ok(Claim::New { since_ms } | Claim::Pending { since_ms }) => since_ms,
            Ok(Claim::Answered(answer)) => {
                let outcome = serde_json::from_str(&answer).unwrap_or_else(|error| {
                    Outcome::Error(ErrorBody::new(
                        ErrorCode::Internal,
                        format!("the kept answer: {error}"),
                    ))
                });
                return reply.outbox.reply(
                    reply.channel,
                    &lodge_proto::Response {
                        id: reply.id,
                        outcome,
                    },
                );
            }
            Ok(Claim::Conflict) => {
                let message = "this client_id was used before, with another command; choose a new one";
                return reply.send(Err(ErrorBody::new(ErrorCode::Conflict, message)));
            }
            Err(error) => return reply.send(Err(store_error(&error))),
        };
        let answering = Answering {
            reply,
            account: actor.account.clone(),
            client_id,
        };
        self.perform(actor, command, answering, since_ms).await;
    }

    async fn perform(&mut self, actor: &Actor, mut command: Command, answering: Answering, since_ms: u64) {
        let session_id = command.session_id;
        if let Err(error) = self.refer(actor, session_id, &mut command.body).await {
            return finish(&self.shared, answering, Err(error));
        }
        match command.body {
            CommandBody::SessionCreate { .. } => self.create(actor, command.body, answering, since_ms),
            CommandBody::SessionFork { message_id } => {
                self.fork(session_id, message_id, answering, since_ms).await;
            }
            CommandBody::SessionDelete {} => self.delete(session_id, answering).await,
            CommandBody::SessionClose {} => {
                let (done, ended) = oneshot::channel();
                let request = Request::Stop {
                    reason: "closed by the user".to_owned(),
                    done,
                };
                let result = self.pass(session_id, request).await;
                let shared = Arc::clone(&self.shared);
                tokio::spawn(async move {
                    let _ = ended.await;
                    finish(&shared, answering, result.map(|()| json!({})));
                });
            }
            CommandBody::SessionResume {} => {
                self.hand_over(session_id, answering, |answering| Request::Start {
                    reply: Some(answering),
                })
                .await;
            }
            body @ (CommandBody::TerminalOpen { .. }
            | CommandBody::TerminalClose { .. }
            | CommandBody::FileWrite { .. }) => self.change_inside(session_id, body, answering).await,
            CommandBody::HarnessInstall { name } => {
                let result = self.installs.begin(&self.shared.config, &name);
                finish(&self.shared, answering, result.map(|()| json!({})));
            }
            CommandBody::ApprovalsForget { approval_id } if session_id.is_none() => {
                self.forget_approvals(approval_id, answering);
            }
            body @ (CommandBody::WorkspaceTrust { .. } | CommandBody::WorkspaceDistrust { .. }) => {
                self.change_trust(body, answering);
            }
            CommandBody::WorkspaceCreate { name } => {
                let result = create::workspace(&self.shared.config.default_root(), &name);
                finish(&self.shared, answering, result);
            }
            body => {
                let sender = Sender {
                    account: actor.account.clone(),
                    name: actor.name.clone(),
                };
                self.hand_over(session_id, answering, |Answering { reply, client_id, .. }| {
                    Request::Command {
                        command: Box::new(JournalCommand {
                            sender,
                            client_id,
                            body,
                        }),
                        reply,
                    }
                })
                .await;
            }
        }
    }

    /// Gives a claimed command to its session; where there is none, the claim is given back.
    async fn hand_over(
        &mut self,
        id: Option<SessionId>,
        answering: Answering,
        request: impl FnOnce(Answering) -> Request,
    ) {
        let back = Answering {
            reply: answering.reply.clone(),
            account: answering.account.clone(),
            client_id: answering.client_id.clone(),
        };
        if let Err(error) = self.pass(id, request(answering)).await {
            finish(&self.shared, back, Err(error));
        }
    }

    fn list(&self, cursor: Option<&str>, limit: Option<u32>) -> Result<Value> {
        let Ok(before) = cursor.map(str::parse::<SessionId>).transpose() else {
            return Err(invalid("cursor: this is none that `session.list` gave"));
        };
        let limit = limit.map_or(PAGE, |limit| limit as usize).clamp(1, MAX_PAGE);
        // Ids sort by time of creation: the newest first.
        let mut rows = self
            .sessions
            .iter()
            .rev()
            .filter(|(id, _)| before.is_none_or(|before| **id < before))
            .map(|(_, entry)| &entry.row.info);
        let page: Vec<_> = rows.by_ref().take(limit).collect();
        let next = rows.next().and(page.last()).map(|info| info.id);
        Ok(json!({ "sessions": page, "next_cursor": next }))
    }

    fn workspaces(&self) -> Value {
        let mut found = Vec::new();
        let default_root = self.shared.config.default_root();
        for entry in std::fs::read_dir(&default_root).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                found.push(entry.path());
            }
        }
        found.extend(self.shared.config.workspace_roots.iter().cloned());
        let list: Vec<WorkspaceInfo> = found
            .into_iter()
            .map(|path| {
                let text = path.to_string_lossy().into_owned();
                let open = self
                    .sessions
                    .values()
                    .filter(|entry| entry.row.info.workspace == text);
                WorkspaceInfo {
                    name: path
                        .file_name()
                        .map(|name| name.to_string_lossy().into_owned())
                        .unwrap_or_default(),
                    sessions: open.map(|entry| entry.row.info.id).collect(),
                    path: text,
                }
            })
            .collect();
        json!({ "workspaces": list, "default_root": default_root })
    }

    fn harnesses(&self, reply: ReplyPort) {
        let (shared, installs) = (Arc::clone(&self.shared), self.installs.clone());
        tokio::task::spawn_blocking(move || {
            let listed = installs.list(&shared.config);
            reply.send(listed.map(|harnesses| json!({ "harnesses": harnesses })));
        });
    }

    fn choices(&self, reply: ReplyPort) {
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || {
            reply.send(Ok(json!(super::choices::choices(&shared.config))));
        });
    }

    fn models(&self, reply: ReplyPort) {
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            let models = shared.leases.models().await;
            reply.send(models.and_then(|models| super::choices::models(&shared.config, &models)));
        });
    }

    /// Ends the session's task and harness, then forgets it in history, on disk and in the list.
    async fn delete(&mut self, id: Option<SessionId>, answering: Answering) {
        let (done, ended) = oneshot::channel();
        if let Err(error) = self.pass(id, Request::Discard { done }).await {
            return finish(&self.shared, answering, Err(error));
        }
        let Some(id) = id else { return };
        self.deleting.insert(id);
        let (shared, hub) = (Arc::clone(&self.shared), self.sender.clone());
        tokio::spawn(async move {
            let _ = ended.await;
            let result = create::delete_everywhere(&shared, id).await;
            let _ = hub.send(HubMessage::Deleted(id, result.is_ok())).await;
            finish(&shared, answering, result.map(|()| json!({})));
        });
    }
}

/// Keeps the answer and sends it. A failure is not kept: the same command may be tried again.
pub(super) fn finish(shared: &crate::shared::Shared, answering: Answering, result: Result<Value>) {
    match &result {
        Ok(value) => {
            if let Ok(text) = serde_json::to_string(&Outcome::Ok(value.clone())) {
                shared
                    .store
                    .answer(&answering.account, &answering.client_id, text);
            }
        }
        Err(_) => shared.store.unclaim(&answering.account, &answering.client_id),
    }
    answering.reply.send(result);
}

/// The rules that hold for every command, whoever relays it.
fn check(actor: &Actor, command: &Command) -> Result<()> {
    if command.id.is_empty() || command.id.len() > MAX_ID_BYTES {
        return Err(invalid(format!("id must have 1 to {MAX_ID_BYTES} bytes")));
    }
    if command.body.needs_ownership() && actor.rights < Rights::Own {
        return Err(ErrorBody::new(
            ErrorCode::Forbidden,
            "you may only look at this session",
        ));
    }
    if command.body.is_mutating() {
        match &command.client_id {
            None => return Err(invalid("a command that changes something needs a client_id")),
            Some(id) if id.is_empty() || id.len() > MAX_ID_BYTES => {
                return Err(invalid(format!("client_id must have 1 to {MAX_ID_BYTES} bytes")));
            }
            Some(_) => {}
        }
    }
    if command.body.needs_session() && command.session_id.is_none() {
        return Err(invalid("this command needs a session_id"));
    }
    match &command.body {
        CommandBody::Prompt { parts }
        | CommandBody::Steer { parts }
        | CommandBody::FollowUp { parts }
        | CommandBody::QueueEdit { parts, .. } => check_parts(parts),
        CommandBody::SetTitle { title } if title.chars().count() > MAX_TITLE => {
            Err(invalid(format!("a title has at most {MAX_TITLE} characters")))
        }
        _ => Ok(()),
    }
}

fn check_parts(parts: &[Part]) -> Result<()> {
    let mut bytes = 0;
    let mut said = false;
    let mut images = 0;
    for part in parts {
        match part {
            Part::Text { text } => {
                bytes += text.len();
                said |= !text.trim().is_empty();
            }
            Part::FileRef { path, .. } => {
                bytes += path.len();
                said = true;
            }
            Part::Image { blob, alt } => {
                super::images::check(blob, alt.as_deref())?;
                bytes += alt.as_ref().map_or(0, String::len);
                images += 1;
                said = true;
            }
            _ => {
                return Err(invalid(
                    "a prompt is made of `text`, `file_ref` and `image` parts",
                ));
            }
        }
    }
    if !said {
        return Err(invalid("the prompt is empty"));
    }
    if images > MAX_PROMPT_IMAGES {
        return Err(invalid(format!(
            "a prompt has at most {MAX_PROMPT_IMAGES} images, this one has {images}"
        )));
    }
    if bytes > MAX_PROMPT {
        return Err(invalid(format!(
            "a prompt has at most {MAX_PROMPT} bytes, this one has {bytes}"
        )));
    }
    Ok(())
}

/// What must be equal when a client id comes again.
fn payload_hash(command: &Command) -> [u8; 32] {
    let payload = json!({ "session_id": command.session_id, "body": command.body });
    *blake3::hash(payload.to_string().as_bytes()).as_bytes()
}

/// The id of a command that could not be read otherwise.
fn id_of(text: &str) -> String {
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    value
        .get("id")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .chars()
        .take(MAX_ID_BYTES)
        .collect()
}
