//! Finding a session again: its shim, or its journal.

use super::Report;
use super::actor::{Actor, Internal};
use super::journal::Own;
use super::link::{Link, LinkError};
use super::log::EventLog;
use super::port::{JOURNAL_NAME, Local, Port};
use crate::fold::{Created, Fork, Note, Output, SessionFold, Wish};
use crate::launcher;
use crate::shared::Shared;
use crate::store::{SNAPSHOTS_KEPT, SessionRow, Snapshot};
use lodge_proto::session::SessionStatus;
use lodge_proto::{ErrorBody, ErrorCode};
use lodge_shim::journal::JournalError;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Time to wait for a shim that holds the journal but does not answer: it may be just ending or just starting.
const LOCK_PATIENCE: Duration = Duration::from_secs(8);
const LOCK_POLL: Duration = Duration::from_millis(50);

/// Opens a session: attaches to its shim, or takes its journal, and replays what the database does not have.
pub(super) async fn open(
    shared: Arc<Shared>,
    mut row: SessionRow,
    handle: u64,
    internal: mpsc::UnboundedSender<Internal>,
    reports: mpsc::UnboundedSender<Report>,
) -> Result<Actor, ErrorBody> {
    let id = row.info.id;
    let dir = shared.session_dir(id);
    if shared.unclean_boot && !matches!(row.info.status, SessionStatus::Stopped | SessionStatus::Failed) {
        // Records that were not synced may be gone, and numbers with them.
        new_epoch(&shared, &mut row).await?;
    }
    let snapshots = shared.store.snapshots(id).await.map_err(internal_error)?;
    let (fold, boundaries) = oldest_usable(&shared, &row, &snapshots)?;
    let log = EventLog::new(row.epoch, fold.seq());
    let mut actor = Actor {
        shared,
        row,
        handle,
        dir,
        fold,
        out: Output::new(),
        log,
        port: Port::Detached,
        unwritten: Vec::new(),
        joined: BTreeMap::new(),
        waiters: HashMap::new(),
        answered: HashMap::new(),
        sent: HashSet::new(),
        filling: None,
        fired: HashSet::new(),
        persisting: None,
        killed: false,
        launching: false,
        awaited: None,
        ending: Vec::new(),
        waiting: Vec::new(),
        lease: None,
        keeping: HashSet::new(),
        told_of_approvals: false,
        told_gateway: std::collections::HashSet::new(),
        baseline: None,
        internal,
        reports,
        told: None,
        boundaries,
        unacknowledged: 0,
        ended: false,
    };
    connect(&mut actor).await?;
    actor.settle_terminals();
    if matches!(actor.port, Port::Shim(_)) {
        actor.load_approvals().await;
        actor.take_baseline();
        actor.resume_lease();
    }
    Ok(actor)
}

/// The oldest snapshot that this version reads, so that cursors of some turns back still find their events.
fn oldest_usable(
    shared: &Shared,
    row: &SessionRow,
    snapshots: &[Snapshot],
) -> Result<(SessionFold, BTreeMap<u64, u64>), ErrorBody> {
    let boundaries = snapshots
        .iter()
        .map(|snapshot| (snapshot.record_seq, snapshot.seq))
        .collect();
    // While there are few of them, the journal still begins with the session.
    let from_the_start = snapshots.len() < SNAPSHOTS_KEPT as usize;
    let fold = snapshots
        .iter()
        .filter(|_| !from_the_start)
        .find_map(|snapshot| SessionFold::from_snapshot(&snapshot.bytes));
    Ok((
        match fold {
            Some(fold) => fold,
            None => fresh(shared, row)?,
        },
        boundaries,
    ))
}

fn fresh(shared: &Shared, row: &SessionRow) -> Result<SessionFold, ErrorBody> {
    let adapter = shared.adapter(&row.info.harness).ok_or_else(|| {
        ErrorBody::new(
            ErrorCode::NotFound,
            format!(
                "this version has no adapter for the harness `{}`, and config/lodge.toml has no [[agent]] of that name",
                row.info.harness
            ),
        )
    })?;
    Ok(SessionFold::new(row.info.id, adapter))
}

async fn new_epoch(shared: &Shared, row: &mut SessionRow) -> Result<(), ErrorBody> {
    row.epoch = crate::shared::random_u32();
    shared
        .store
        .set_epoch(row.info.id, row.epoch)
        .await
        .map_err(internal_error)
}

/// Attaches to the shim; where none lives, takes the journal and closes what the shim left open.
async fn connect(actor: &mut Actor) -> Result<(), ErrorBody> {
    let deadline = tokio::time::Instant::now() + LOCK_PATIENCE;
    loop {
        let from = actor.fold.record_seq() + 1;
        match Link::attach(&actor.dir, actor.shared.generation, from).await {
            Ok(link) => {
                actor.port = Port::Shim(link);
                actor.sent.clear();
                return catch_up(actor).await;
            }
            Err(LinkError::Connect(_)) => {}
            Err(error) => tracing::warn!(%error, "the session's shim"),
        }
        match Local::open(&actor.dir) {
            Ok(local) => return take(actor, local).await,
            Err(JournalError::Locked { .. }) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(LOCK_POLL).await;
            }
            Err(error @ JournalError::Corrupt { .. }) => return lost(actor, &error).await,
            Err(error) => return Err(internal_error(error)),
        }
    }
}

/// Reads what the shim has written so far, so that the first client sees the present and not a replay.
async fn catch_up(actor: &mut Actor) -> Result<(), ErrorBody> {
    let Port::Shim(link) = &actor.port else {
        return Ok(());
    };
    let head = link.hello.head_seq;
    while actor.fold.record_seq() < head {
        let Port::Shim(link) = &mut actor.port else { break };
        match link.next().await {
            super::link::Incoming::Records(records) => actor.apply(&records),
            super::link::Incoming::DiskFull(_) => {}
            super::link::Incoming::Fenced => {
                return Err(ErrorBody::new(
                    ErrorCode::Conflict,
                    "another runner has this session",
                ));
            }
            super::link::Incoming::Closed => return Box::pin(connect(actor)).await,
        }
    }
    Ok(())
}

/// The journal is ours: replay it and close what its shim left open.
async fn take(actor: &mut Actor, local: Local) -> Result<(), ErrorBody> {
    let from = actor.fold.record_seq() + 1;
    let oldest = local.oldest().map_err(internal_error)?;
    if from < oldest || from > local.head() + 1 {
        let error = format!("records {oldest} to {} are there, {from} is needed", local.head());
        return lost(actor, &error).await;
    }
    let records = match local.read(from) {
        Ok(records) => records,
        Err(error) => return lost(actor, &error).await,
    };
    actor.port = Port::Local(Box::new(local));
    actor.apply(&records);
    close_generation(actor);
    Ok(())
}

fn close_generation(actor: &mut Actor) {
    if actor.fold.is_running() || actor.fold.status() == SessionStatus::Starting {
        actor.append(Own::closed("its process was killed, or the machine stopped"));
    }
}

/// The journal cannot be read: it is set aside, and the session goes on from what history has.
async fn lost(actor: &mut Actor, why: &impl std::fmt::Display) -> Result<(), ErrorBody> {
    tracing::error!(%why, "the session's journal is set aside; history keeps its finished turns");
    let id = actor.row.info.id;
    let journal = actor.dir.join(JOURNAL_NAME);
    let aside = actor.dir.join(format!(
        "{JOURNAL_NAME}.damaged-{}",
        lodge_shim::journal::now_ms()
    ));
    rename(&journal, &aside)?;
    actor
        .shared
        .store
        .drop_snapshots(id)
        .await
        .map_err(internal_error)?;
    let shared = Arc::clone(&actor.shared);
    new_epoch(&shared, &mut actor.row).await?;
    let (message_count, messages) = actor.shared.history.tail(id).await;
    actor.fold = fresh(&shared, &actor.row)?;
    actor.log = EventLog::new(actor.row.epoch, 0);
    actor.boundaries.clear();
    let local = Local::open(&actor.dir).map_err(internal_error)?;
    actor.port = Port::Local(Box::new(local));
    let info = &actor.row.info;
    let created = Created {
        session: id,
        harness: info.harness.clone(),
        workspace: info.workspace.clone(),
        title: Some(info.title.clone()),
        model: info.model.clone(),
        thinking_level: info.thinking_level.clone(),
        tier: info.tier,
        profile: info.profile.clone(),
        // What was asked for is lost with the journal: what it came to is asked for.
        wish: Wish {
            tier: Some(info.tier),
            profile: info.profile.clone(),
            limits: info.limits.clone(),
        },
        fork: Some(Fork {
            parent: info.parent,
            keep_user_messages: None,
            message_count,
            messages,
            source: None,
        }),
    };
    actor.append(Own::note_once(&Note::Created(Box::new(created)), "created"));
    Ok(())
}

fn rename(from: &Path, to: &Path) -> Result<(), ErrorBody> {
    match std::fs::rename(from, to) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(internal_error(error)),
        _ => Ok(()),
    }
}

/// The connection to the shim ended: it is gone, or only the connection is.
pub(super) async fn shim_gone(actor: &mut Actor) {
    let state = actor.shared.config.sandbox_state();
    tokio::task::spawn_blocking(move || launcher::sweep(&state));
    actor.detach();
    if actor.launching {
        // It ends in favour of the one that is being started.
        return actor.settle_terminals();
    }
    if let Err(error) = connect(actor).await {
        tracing::error!(%error, "the session is lost until the runner starts anew");
        actor.ended = true;
    }
    actor.settle_terminals();
}

impl Actor {
    /// After the shim was reached anew, or is gone: takes the terminals it has over, and ends the others.
    pub(super) fn settle_terminals(&mut self) {
        let live = match &mut self.port {
            Port::Shim(link) => std::mem::take(&mut link.terminals),
            Port::Detached | Port::Local(_) => Vec::new(),
        };
        self.shared.terminals.settle(self.row.info.id, live);
    }
}

fn internal_error(error: impl std::fmt::Display) -> ErrorBody {
    ErrorBody::new(ErrorCode::Internal, error.to_string())
}
