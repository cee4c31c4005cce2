//! What a lease's guest reached or asked for, on its way to the runner that holds the lease.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use lodge_proto::control::{EgressAccess, EgressClosed, EgressNotice, EgressQuestion, egress_notice::Notice};
use tokio::sync::mpsc;

use crate::egress::decisions::{Access, Coalescer, Decisions, Question};

/// Notices that may wait for one runner. Fewer bytes than its socket takes: a runner that is just sending a request of
/// its own never has to read before it can go on.
pub(super) const QUEUE: usize = 256;

/// Where notices for a runner go.
pub(super) type Runner = mpsc::Sender<EgressNotice>;

/// Notices of one lease.
#[derive(Debug)]
pub(super) struct Notices {
    lease_id: String,
    runner: Mutex<Option<Runner>>,
    coalescer: Mutex<Coalescer>,
}

impl Notices {
    pub(super) fn new(lease_id: String) -> Self {
        Self {
            lease_id,
            runner: Mutex::default(),
            coalescer: Mutex::default(),
        }
    }

    fn runner(&self) -> MutexGuard<'_, Option<Runner>> {
        self.runner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another runner, or the same one again, listens from now on.
    pub(super) fn attach(&self, runner: &Runner) {
        *self.runner() = Some(runner.clone());
    }

    /// Whether it was this one that listened; it no longer does.
    pub(super) fn detach(&self, runner: &Runner) -> bool {
        let mut current = self.runner();
        let was = current.as_ref().is_some_and(|held| held.same_channel(runner));
        if was {
            *current = None;
        }
        was
    }

    fn send(&self, notice: Notice) -> bool {
        let notice = EgressNotice {
            lease_id: self.lease_id.clone(),
            notice: Some(notice),
        };
        self.runner()
            .as_ref()
            .is_some_and(|runner| runner.try_send(notice).is_ok())
    }

    /// Sends what may be sent by now. Without a runner it waits, counted together.
    pub(super) fn flush(&self) {
        if self.runner().as_ref().is_none_or(mpsc::Sender::is_closed) {
            return;
        }
        let mut coalescer = self.coalescer.lock().unwrap_or_else(PoisonError::into_inner);
        for access in coalescer.due(Instant::now()) {
            if !self.send(Notice::Access(message(&access))) {
                coalescer.push(access);
            }
        }
    }
}

fn message(access: &Access) -> EgressAccess {
    EgressAccess {
        host: access.host.clone(),
        port: access.port.into(),
        decision: access.outcome.as_str().to_owned(),
        rule: access.rule.clone(),
        reason: access.reason.clone(),
        connections: access.connections,
        sent: access.sent,
        received: access.received,
    }
}

impl Decisions for Notices {
    fn access(&self, access: Access) {
        self.coalescer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(access);
        self.flush();
    }

    fn ask(&self, question: &Question) -> bool {
        self.send(Notice::Question(EgressQuestion {
            id: question.id.clone(),
            host: question.host.clone(),
            port: question.port.into(),
            seconds: question.patience.as_secs().try_into().unwrap_or(u32::MAX),
        }))
    }

    fn closed(&self, question: &str) {
        self.send(Notice::Closed(EgressClosed {
            id: question.to_owned(),
        }));
    }
}
