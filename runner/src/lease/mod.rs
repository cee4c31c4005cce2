//! Leases of the gateway: a session's virtual key and its guest socket, which belong together.
//!
//! One task owns the connection to the gateway. It renews what is held and, after the gateway was restarted, hands
//! the listeners over again, so that a guest notices nothing but a failed request.

mod connection;
mod keeper;

use keeper::{Held, Job, Keeper};
use lodge_proto::control::{
    Access, EgressAccess, EgressAnswer, EgressPolicy, EgressQuestion, LeaseNarrow, LeaseOpen, LeaseResume,
    Model, lease_reply::Reply, lease_request::Request,
};
use lodge_proto::limits::SessionLimits;
use lodge_proto::{ErrorBody, ErrorCode, SessionId};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Lease time asked for, in seconds.
const TTL_SECONDS: u32 = 60;
/// File in the session's gateway directory that names the lease, for the next runner. It holds no key.
const LEASE_FILE: &str = "lease";
/// File beside it with what the guest may reach, as it was when the guest was started.
const EGRESS_FILE: &str = "egress.json";
/// Name of the guest's socket.
pub const SOCKET: &str = "gateway.sock";

/// What a guest may reach besides models. The default is nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Egress {
    pub allow: Vec<String>,
    pub deny: Vec<String>,
    pub ports: Vec<u16>,
    /// Names on no list: the user is asked.
    pub ask: bool,
}

impl From<&Egress> for EgressPolicy {
    fn from(egress: &Egress) -> Self {
        Self {
            allow: egress.allow.clone(),
            deny: egress.deny.clone(),
            ports: egress.ports.iter().copied().map(u32::from).collect(),
            ask: egress.ask,
        }
    }
}

/// What the gateway says of a lease's guest of its own accord.
#[derive(Debug)]
pub enum Notice {
    /// Something was reached, or was not.
    Access(EgressAccess),
    /// A connection waits for the user.
    Question(EgressQuestion),
    /// This question needs no answer any more.
    Closed(String),
    /// The connection to the gateway was lost, and every question with it.
    Lost,
}

/// Who hears of a lease's notices. Never blocks.
#[derive(Clone)]
pub struct Listener(Arc<dyn Fn(Notice) + Send + Sync>);

impl Listener {
    /// A listener from a function.
    pub fn new(hear: impl Fn(Notice) + Send + Sync + 'static) -> Self {
        Self(Arc::new(hear))
    }

    fn hear(&self, notice: Notice) {
        (self.0)(notice);
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}

/// A lease that is held. Dropping it ends the session's key.
#[derive(Debug)]
pub struct Lease {
    id: String,
    key: String,
    listener: Arc<OwnedFd>,
    models: Vec<Model>,
    jobs: mpsc::UnboundedSender<Job>,
}

impl Lease {
    /// The virtual key; empty on a lease that was resumed (the guest has it).
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Models that the session may use.
    pub fn models(&self) -> &[Model] {
        &self.models
    }

    /// Tells the gateway what the user answered. A question that is closed by now is no error.
    pub fn answer(&self, question: &str, answer: &str) -> impl Future<Output = ()> + Send + use<> {
        let request = Request::Answer(EgressAnswer {
            lease_id: self.id.clone(),
            question_id: question.to_owned(),
            answer: answer.to_owned(),
        });
        let leases = Leases {
            jobs: self.jobs.clone(),
        };
        async move {
            if let Err(error) = leases.ask(request, None).await {
                tracing::warn!(%error, "an answer did not reach the gateway");
            }
        }
    }

    /// The guest's listener, for the shim to keep.
    pub fn listener(&self) -> std::io::Result<OwnedFd> {
        self.listener.as_fd().try_clone_to_owned()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let _ = self.jobs.send(Job::Close {
            lease: std::mem::take(&mut self.id),
        });
    }
}

/// The runner's side of the lease protocol.
#[derive(Debug, Clone)]
pub struct Leases {
    jobs: mpsc::UnboundedSender<Job>,
}

impl Leases {
    /// Starts the task that talks to the gateway at `socket`.
    pub fn start(socket: PathBuf, uid: u32) -> Self {
        let (jobs, queue) = mpsc::unbounded_channel();
        let keeper = Keeper {
            socket,
            uid,
            held: HashMap::new(),
        };
        tokio::spawn(keeper.run(queue));
        Self { jobs }
    }

    async fn ask(&self, request: Request, hold: Option<Held>) -> Result<Reply, ErrorBody> {
        let (reply, answer) = oneshot::channel();
        let gone = || ErrorBody::new(ErrorCode::Unavailable, "the gateway does not answer");
        self.jobs
            .send(Job::Ask {
                request: Box::new(request),
                hold: hold.map(Box::new),
                reply,
            })
            .map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Binds the session's guest socket anew and asks for a key.
    pub async fn open(
        &self,
        session_dir: &Path,
        (session, harness): (SessionId, &str),
        (egress, limits): (Egress, Option<&SessionLimits>),
        notices: Listener,
    ) -> Result<Lease, ErrorBody> {
        let dir = session_dir.join("gw");
        match std::fs::DirBuilder::new().mode(0o700).create(&dir) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(system(&error)),
            _ => {}
        }
        let listener = lodge_proto::sock::bind(&dir.join(SOCKET)).map_err(|error| system(&error))?;
        let text = serde_json::to_vec(&egress).map_err(|error| system(&error))?;
        let lease = self
            .open_on(listener.into(), (session, harness), (egress, limits), notices)
            .await?;
        std::fs::write(dir.join(EGRESS_FILE), text).map_err(|error| system(&error))?;
        std::fs::write(dir.join(LEASE_FILE), &lease.id).map_err(|error| system(&error))?;
        Ok(lease)
    }

    /// Asks for a key for whoever connects to `listener`. The gateway keeps the limits with the lease: whoever resumes it
    /// has the same.
    pub async fn open_on(
        &self,
        listener: OwnedFd,
        (session, harness): (SessionId, &str),
        (egress, limits): (Egress, Option<&SessionLimits>),
        notices: Listener,
    ) -> Result<Lease, ErrorBody> {
        let held = Held {
            session,
            listener: Arc::new(listener),
            egress,
            notices,
        };
        let request = Request::Open(LeaseOpen {
            session_id: session.to_string(),
            harness: harness.to_owned(),
            ttl_seconds: TTL_SECONDS,
            egress: Some((&held.egress).into()),
            narrow: limits.map(narrow),
        });
        self.granted(request, held).await
    }

    /// Goes on with the lease of a session whose shim outlived the runner.
    pub async fn resume(
        &self,
        session_dir: &Path,
        session: SessionId,
        notices: Listener,
    ) -> Result<Lease, ErrorBody> {
        let unavailable =
            |error: &dyn std::fmt::Display| ErrorBody::new(ErrorCode::Unavailable, error.to_string());
        let gw = session_dir.join("gw");
        let lease_id = std::fs::read_to_string(gw.join(LEASE_FILE)).map_err(|error| unavailable(&error))?;
        let dir = session_dir.to_owned();
        let listener = tokio::task::spawn_blocking(move || {
            lodge_shim::client::fetch_listener(&dir, Duration::from_secs(5))
        })
        .await
        .map_err(|error| unavailable(&error))?
        .map_err(|error| unavailable(&error))?;
        let held = Held {
            session,
            listener: Arc::new(listener),
            egress: stored_egress(&gw),
            notices,
        };
        let request = Request::Resume(LeaseResume {
            session_id: session.to_string(),
            lease_id,
            egress: Some((&held.egress).into()),
        });
        self.granted(request, held).await
    }

    async fn granted(&self, request: Request, held: Held) -> Result<Lease, ErrorBody> {
        let listener = Arc::clone(&held.listener);
        let Reply::Granted(granted) = self.ask(request, Some(held)).await? else {
            return Err(ErrorBody::new(
                ErrorCode::Internal,
                "the gateway answered something else",
            ));
        };
        Ok(Lease {
            id: granted.lease_id,
            key: granted.virtual_key,
            listener,
            models: granted.models,
            jobs: self.jobs.clone(),
        })
    }

    /// Models that a session of this runner would get.
    pub async fn models(&self) -> Result<Vec<Model>, ErrorBody> {
        match self
            .ask(
                Request::Models(lodge_proto::control::ListModelsRequest::default()),
                None,
            )
            .await?
        {
            Reply::Models(list) => Ok(list.models),
            _ => Err(ErrorBody::new(
                ErrorCode::Internal,
                "the gateway answered something else",
            )),
        }
    }
}

/// A session's bounds, as the gateway enforces them.
fn narrow(limits: &SessionLimits) -> LeaseNarrow {
    LeaseNarrow {
        access: Some(Access {
            models: limits.models.clone(),
            providers: limits.providers.clone(),
            ..Access::default()
        }),
        budget: limits.budget_nanodollars.unwrap_or(0),
        on_limit: String::new(),
        rpm: limits.requests_per_minute.unwrap_or(0),
        tpm: limits.tokens_per_minute.unwrap_or(0),
        concurrency: limits.concurrent_requests.unwrap_or(0),
    }
}

/// What the guest of a session was started with. Where that cannot be read it reaches nothing.
fn stored_egress(gw: &Path) -> Egress {
    let read = std::fs::read(gw.join(EGRESS_FILE));
    let stored = read.ok().and_then(|text| serde_json::from_slice(&text).ok());
    stored.unwrap_or_else(|| {
        tracing::warn!("what the guest may reach is not known any more: it reaches models only");
        Egress::default()
    })
}

fn system(error: &dyn std::fmt::Display) -> ErrorBody {
    ErrorBody::new(
        ErrorCode::Internal,
        format!("the session's gateway socket: {error}"),
    )
}
