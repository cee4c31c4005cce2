//! Commands that are carried out inside a session's sandbox: files, Git, terminals.

use super::Hub;
use super::commands::finish;
use crate::conns::{ConnId, ReplyPort};
use crate::guest::Streams;
use crate::session::{Answering, Request};
use crate::shared::Shared;
use crate::{files, git, terminal};
use lodge_proto::command::CommandBody;
use lodge_proto::relay::Rights;
use lodge_proto::workspace::FileListing;
use lodge_proto::{ErrorBody, ErrorCode, SessionId};
use lodge_sandbox::placeholder;
use lodge_shim::stream::Terminal as Live;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::oneshot;

type Result<T> = std::result::Result<T, ErrorBody>;
/// The sandbox of a session, once it runs.
type Sandbox = oneshot::Receiver<Result<Streams>>;

fn needs_session() -> ErrorBody {
    ErrorBody::new(ErrorCode::InvalidArgument, "this command needs a session_id")
}

async fn running(sandbox: Sandbox) -> Result<Streams> {
    sandbox.await.unwrap_or_else(|_| {
        Err(ErrorBody::new(
            ErrorCode::Unavailable,
            "the session is being reopened; try again",
        ))
    })
}

impl Hub {
    /// Asks a session for its sandbox; where none runs, its harness is started as for a prompt.
    async fn sandbox(&mut self, session: Option<SessionId>) -> Result<(SessionId, Sandbox)> {
        let session = session.ok_or_else(needs_session)?;
        let (reply, sandbox) = oneshot::channel();
        self.ask(session, Request::Sandbox { reply }).await?;
        Ok((session, sandbox))
    }

    /// Waits until a session's task knows its shim: terminals of before a restart are there then.
    async fn opened(&mut self, session: Option<SessionId>) -> Result<(SessionId, oneshot::Receiver<()>)> {
        let session = session.ok_or_else(needs_session)?;
        let (reply, opened) = oneshot::channel();
        self.ask(session, Request::Opened { reply }).await?;
        Ok((session, opened))
    }

    /// Looks at files and Git.
    pub(super) async fn look_inside(
        &mut self,
        session: Option<SessionId>,
        body: CommandBody,
        reply: ReplyPort,
    ) {
        let (session, sandbox) = match self.sandbox(session).await {
            Ok(found) => found,
            Err(error) => return reply.send(Err(error)),
        };
        let workspace = self
            .sessions
            .get(&session)
            .map(|entry| PathBuf::from(&entry.row.info.workspace));
        let state = self.shared.config.sandbox_state();
        tokio::spawn(async move {
            let result = async {
                let streams = running(sandbox).await?;
                let CommandBody::FileList { path } = body else {
                    return look(&streams, body).await;
                };
                let listing = files::list(&streams, path).await?;
                Ok(json!(without_stand_ins(listing, state, workspace).await))
            };
            reply.send(result.await);
        });
    }

    /// Commands on terminals that are open.
    pub(super) async fn on_terminals(
        &mut self,
        session: Option<SessionId>,
        body: CommandBody,
        reply: ReplyPort,
    ) {
        let (session, opened) = match self.opened(session).await {
            Ok(found) => found,
            Err(error) => return reply.send(Err(error)),
        };
        let terminals = self.shared.terminals.clone();
        tokio::spawn(async move {
            // A task that ended has no terminals, which is what the client is told then.
            let _ = opened.await;
            match body {
                CommandBody::TerminalAttach { terminal_id } => {
                    let info = terminals.info(session, terminal_id);
                    let (outbox, channel) = (reply.outbox.clone(), reply.channel);
                    let known = info.is_ok();
                    // The answer goes ahead of what it announces.
                    reply.send(info.map(|info| json!(info)));
                    if known {
                        let _ = terminals.watch(session, terminal_id, &outbox, channel);
                    }
                }
                CommandBody::TerminalResize {
                    terminal_id,
                    rows,
                    cols,
                } => {
                    let resized = terminals.resize(session, terminal_id, rows, cols);
                    reply.send(resized.map(|()| json!({})));
                }
                _ => reply.send(Ok(json!({ "terminals": terminals.list(session) }))),
            }
        });
    }

    /// Opens and closes terminals, writes files.
    pub(super) async fn change_inside(
        &mut self,
        session: Option<SessionId>,
        body: CommandBody,
        answering: Answering,
    ) {
        let shared = Arc::clone(&self.shared);
        if let CommandBody::TerminalClose { terminal_id } = body {
            let opened = self.opened(session).await;
            tokio::spawn(async move {
                let result = async {
                    let (session, opened) = opened?;
                    let _ = opened.await;
                    shared.terminals.close(session, terminal_id)
                };
                let result = result.await.map(|()| json!({}));
                finish(&shared, answering, result);
            });
            return;
        }
        let sandbox = self.sandbox(session).await;
        tokio::spawn(async move {
            match sandbox {
                Ok((session, sandbox)) => change(&shared, session, sandbox, body, answering).await,
                Err(error) => finish(&shared, answering, Err(error)),
            }
        });
    }

    /// What a client typed into a terminal.
    pub(super) fn typed(&self, conn: ConnId, channel: u32, terminal: u32, bytes: &[u8]) {
        let owns = self
            .conns
            .get(&conn)
            .and_then(|conn| conn.clients.get(&channel))
            .is_some_and(|actor| actor.rights >= Rights::Own);
        if owns {
            self.shared.terminals.type_in(conn, channel, terminal, bytes);
        }
    }
}

/// A listing as it would be without a sandbox: what stands for absent control files is not there.
async fn without_stand_ins(
    mut listing: FileListing,
    state: PathBuf,
    workspace: Option<PathBuf>,
) -> FileListing {
    let standing = tokio::task::spawn_blocking(move || {
        workspace.map_or_else(Vec::new, |workspace| placeholder::standing(&state, &workspace))
    });
    let standing = standing.await.unwrap_or_default();
    let folder = PathBuf::from(&listing.path);
    let is_there = |name: &str| {
        let path = folder.join(name);
        !standing.iter().any(|stand_in| path == Path::new(stand_in))
    };
    listing.entries.retain(|entry| is_there(&entry.name));
    listing
}

async fn look(streams: &Streams, body: CommandBody) -> Result<Value> {
    Ok(match body {
        CommandBody::FileRead { path, offset, limit } => {
            json!(files::read(streams, path, offset, limit).await?)
        }
        CommandBody::GitStatus {} => json!(git::status(streams).await?),
        CommandBody::GitDiff { path, staged } => {
            json!(git::diff(streams, path.as_deref(), staged.unwrap_or(false)).await?)
        }
        _ => {
            let message = "this command is not carried out in a sandbox";
            return Err(ErrorBody::new(ErrorCode::Internal, message));
        }
    })
}

async fn change(
    shared: &Arc<Shared>,
    session: SessionId,
    sandbox: Sandbox,
    body: CommandBody,
    answering: Answering,
) {
    let streams = match running(sandbox).await {
        Ok(streams) => streams,
        Err(error) => return finish(shared, answering, Err(error)),
    };
    match body {
        CommandBody::TerminalOpen { rows, cols } => {
            let live = Live {
                id: shared.terminals.free_id(),
                rows,
                cols,
                opened_at: lodge_shim::journal::now_ms(),
            };
            match terminal::start(&streams, live).await {
                Ok(stream) => {
                    let (outbox, channel) = (answering.reply.outbox.clone(), answering.reply.channel);
                    let info = shared.terminals.insert(session, live, stream);
                    finish(shared, answering, Ok(json!(info)));
                    let _ = shared.terminals.watch(session, live.id, &outbox, channel);
                }
                Err(error) => finish(shared, answering, Err(error)),
            }
        }
        CommandBody::FileWrite {
            path,
            text,
            expected_version,
        } => {
            let written = files::write(&streams, path, &text, expected_version).await;
            finish(shared, answering, written.map(|written| json!(written)));
        }
        _ => {
            let message = "this command is not carried out in a sandbox";
            finish(
                shared,
                answering,
                Err(ErrorBody::new(ErrorCode::Internal, message)),
            );
        }
    }
}
