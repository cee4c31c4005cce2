//! Starting a session's harness: everything around it first, then its shim.

use super::actor::{Actor, Internal};
use super::journal::Own;
use super::link::Link;
use super::port::{Local, Port};
use super::trusting::{self, Decided};
use crate::fold::{Launch, Note, Source};
use crate::harness::launch::LaunchContext;
use crate::launcher::{self, Start, Wanted};
use crate::lease::Listener;
use crate::shared::Shared;
use crate::store::SessionRow;
use lodge_proto::session::SessionStatus;
use lodge_proto::{ErrorBody, ErrorCode};
use lodge_shim::journal::JournalError;
use std::sync::Arc;
use std::time::Duration;

/// Time the shim that ends has to let go of the journal.
const HANDOVER: Duration = Duration::from_secs(5);
const HANDOVER_POLL: Duration = Duration::from_millis(20);
/// Pause between attempts to resume a lease.
const LEASE_PAUSE: Duration = Duration::from_secs(1);

/// All that a shim needs, with the lease it will use.
#[derive(Debug)]
pub(super) struct Prepared {
    start: Start,
    lease: crate::lease::Lease,
    launch: Launch,
    code: Option<Note>,
}

/// What is known of the session before its harness starts.
struct Before {
    wanted: Wanted,
    native_session: Option<String>,
    forked_from: Option<Source>,
    resume: bool,
    row: SessionRow,
}

/// Gets together all that the shim needs.
async fn prepare(shared: &Arc<Shared>, before: Before, notices: Listener) -> Result<Prepared, ErrorBody> {
    let Before {
        wanted,
        native_session,
        forked_from,
        resume,
        row,
    } = before;
    let info = &wanted.info;
    let Decided { code, note } = trusting::decide(shared, &row).await?;
    let installed = shared.resolve_harness(&info.harness).await?;
    let egress = launcher::egress(shared, &wanted).await?;
    let dir = shared.session_dir(info.id);
    let lease = shared
        .leases
        .open(
            &dir,
            (info.id, &info.harness),
            (egress, wanted.wish.limits.as_ref()),
            notices,
        )
        .await?;
    let agent = shared.config.agents.get(&info.harness).cloned();
    let wanted_model = info.model.as_deref();
    let usable = crate::harness::launch::usable(&info.harness, agent.as_ref(), lease.models(), wanted_model);
    let models = crate::harness::launch::model_infos(&usable);
    // Of an agent of the administrator's Lodge knows none.
    let harness_version = match &agent {
        Some(_) => String::new(),
        None => installed.version.to_string(),
    };
    let context = LaunchContext {
        session: info.id,
        installed,
        agent,
        workspace: info.workspace.clone().into(),
        native_session,
        models: lease.models().to_vec(),
        model: info.model.clone(),
        thinking_level: info.thinking_level.clone(),
        ask_permissions: shared.config.ask_permissions,
        trusted: trusting::names(code.as_ref()),
        forked_from,
    };
    let start = launcher::prepare(shared, &wanted, &context, &lease, code).await?;
    let launch = Launch {
        harness_version,
        models,
        text_models: crate::harness::launch::text_models(&usable),
        resume,
        ask_permissions: shared.config.ask_permissions,
        tier: Some(start.tier),
        profile: Some(start.profile.clone()),
    };
    Ok(Prepared {
        start,
        lease,
        launch,
        code: note,
    })
}

impl Actor {
    /// Begins to start the harness, if it neither runs nor starts.
    pub(super) fn start_harness(&mut self) {
        let running = self.fold.is_running() || self.fold.status() == SessionStatus::Starting;
        if self.launching || (running && matches!(self.port, Port::Shim(_))) {
            return;
        }
        self.launching = true;
        let (shared, internal) = (Arc::clone(&self.shared), self.internal.clone());
        let info = self.fold.info();
        let wanted = Wanted {
            wish: self
                .fold
                .created()
                .map(|created| created.wish.clone())
                .unwrap_or_default(),
            info: info.clone(),
        };
        let native_session = self.fold.native_session();
        let fork = self.fold.created().and_then(|created| created.fork.as_ref());
        let before = Before {
            resume: native_session.is_some() || info.message_count > 0,
            forked_from: fork.and_then(|fork| fork.source.clone()),
            native_session,
            row: self.row.clone(),
            wanted,
        };
        let notices = self.listener();
        tokio::spawn(async move {
            let prepared = prepare(&shared, before, notices).await;
            let _ = internal.send(Internal::Prepared(Box::new(prepared)));
        });
    }

    pub(super) async fn prepared(&mut self, prepared: Result<Prepared, ErrorBody>) {
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return self.launch_failed(error).await,
        };
        if !self.ending.is_empty() {
            self.launching = false;
            let error = ErrorBody::new(ErrorCode::Conflict, "the session is being stopped");
            return self.fail_waiting(&error);
        }
        if let Err(error) = self.take_journal().await {
            return self.launch_failed(error).await;
        }
        self.load_approvals().await;
        if let Some(code) = &prepared.code {
            self.append(Own::note(code));
        }
        self.append(Own::note(&Note::Launch(Box::new(prepared.launch))));
        self.lease = Some(prepared.lease);
        self.take_baseline();
        // The shim takes the journal over.
        self.port = Port::Detached;
        let (start, dir, internal) = (prepared.start, self.dir.clone(), self.internal.clone());
        let shared = std::sync::Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || {
            let _ = internal.send(Internal::Spawned(launcher::spawn(&shared.config, &dir, start)));
        });
    }

    /// Waits for the shim before to end, and takes its journal.
    async fn take_journal(&mut self) -> Result<(), ErrorBody> {
        if matches!(self.port, Port::Local(_)) {
            return Ok(());
        }
        if let Port::Shim(link) = &self.port {
            link.stop(Duration::ZERO);
            link.ack(self.fold.record_seq(), 0);
        }
        let deadline = tokio::time::Instant::now() + HANDOVER;
        loop {
            match Local::open(&self.dir) {
                Ok(local) => {
                    let records = local
                        .read(self.fold.record_seq() + 1)
                        .map_err(|error| journal_error(&error))?;
                    self.detach();
                    self.port = Port::Local(Box::new(local));
                    self.apply(&records);
                    return Ok(());
                }
                Err(JournalError::Locked { .. }) if tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(HANDOVER_POLL).await;
                }
                Err(error) => return Err(journal_error(&error)),
            }
        }
    }

    pub(super) async fn spawned(&mut self, spawned: Result<(), ErrorBody>) {
        if let Err(error) = spawned {
            return self.launch_failed(error).await;
        }
        match Link::attach(&self.dir, self.shared.generation, self.fold.record_seq() + 1).await {
            Ok(link) => {
                self.sent.clear();
                self.awaited = Some(link.hello.head_seq);
                self.port = Port::Shim(link);
                self.settle_terminals();
            }
            Err(error) => {
                let message = format!("the new shim cannot be reached: {error}");
                self.launch_failed(ErrorBody::new(ErrorCode::SandboxUnavailable, message))
                    .await;
            }
        }
    }

    /// Whether the harness that is being started runs, or will not: commands that wait for it are decided then. A
    /// virtual machine may take its time, and the session answers meanwhile.
    pub(super) fn decide_start(&mut self) {
        let Some(head) = self.awaited else { return };
        // The shim's first record is before its head: until then the status is that of the harness before.
        let undecided = matches!(
            self.fold.status(),
            SessionStatus::Starting | SessionStatus::Stopped
        );
        let decided = self.fold.is_running() || (self.fold.record_seq() >= head && !undecided);
        if decided || !matches!(self.port, Port::Shim(_)) {
            self.start_is_over();
        }
    }

    /// The start that was awaited is known to have come to something, or to nothing.
    pub(super) fn start_is_over(&mut self) {
        if self.awaited.take().is_some() {
            self.launching = false;
        }
    }

    async fn launch_failed(&mut self, error: ErrorBody) {
        tracing::warn!(code = %error.code, message = error.message, "the harness cannot be started");
        self.launching = false;
        self.lease = None;
        if self.take_journal().await.is_ok() {
            self.append(Own::note(&Note::LaunchFailed { error: error.clone() }));
        }
        self.fail_waiting(&error);
    }

    /// After a restart of the runner: the shim still holds the guest's listener, the gateway may not. Nobody waits
    /// for it: without its lease a guest's model calls wait in the listener's queue.
    pub(super) fn resume_lease(&mut self) {
        // Questions were put to the runner before: the gateway has taken them back.
        self.reset_network();
        if !self.fold.is_running() {
            return;
        }
        let notices = self.listener();
        let (leases, internal) = (self.shared.leases.clone(), self.internal.clone());
        let (dir, id) = (self.dir.clone(), self.row.info.id);
        tokio::spawn(async move {
            loop {
                match leases.resume(&dir, id, notices.clone()).await {
                    Ok(lease) => return drop(internal.send(Internal::Leased(lease))),
                    Err(error) if error.code == ErrorCode::Unavailable && !internal.is_closed() => {
                        tracing::warn!(session = %id, %error, "the session's lease is not resumed yet");
                        tokio::time::sleep(LEASE_PAUSE).await;
                    }
                    Err(error) => {
                        return tracing::error!(session = %id, %error, "the session's lease is lost: its model calls fail");
                    }
                }
            }
        });
    }
}

fn journal_error(error: &JournalError) -> ErrorBody {
    ErrorBody::new(ErrorCode::Unavailable, format!("the session's journal: {error}"))
}
