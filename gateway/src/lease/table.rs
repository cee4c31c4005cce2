//! The open leases, and their hashes on disk.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lodge_proto::ErrorCode;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::fd;
use super::id::new_id;
use super::narrow::Narrow;
use super::notices::{Notices, Runner};
use crate::caller::Caller;
use crate::clock::Clock;
use crate::egress::decisions::{Answer, Decisions};
use crate::egress::policy::PolicyError;
use crate::egress::{EgressPolicy, Session, Settings, Unlisted};
use crate::guest::Gateway;
use crate::key;
use crate::keys::BadSpec;
use crate::ledger::{LedgerError, Window};
use crate::people::People;
use crate::seal::SealError;
use crate::store::{Store, StoreError, StoredLease};

/// Seconds a lease lives without renewal, where the runner does not say.
const DEFAULT_TTL: u32 = 60;
/// Longest time to live a runner may ask for, seconds.
const MAX_TTL: u32 = 600;
/// How often lapsed leases are looked for.
const SWEEP: Duration = Duration::from_secs(1);
/// How often live leases are noted on disk.
const TOUCH: Duration = Duration::from_mins(10);
/// How long after it was last seen a lapsed lease may be resumed.
const RESUMABLE: Duration = Duration::from_hours(7 * 24);
/// Leases of one owner.
const MAX_LEASES: usize = 1000;
const MAX_SESSION_ID: usize = 64;
const MAX_HARNESS: usize = 64;
/// Connections of one guest at a time.
const MAX_CONNECTIONS: usize = 128;

/// Why a lease was not given, resumed or closed.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    #[error("{0} must be 1 to {1} characters of letters, digits, `-`, `_` and `.`")]
    Name(&'static str, usize),
    #[error("ttl_seconds must be at most {MAX_TTL}")]
    Ttl,
    #[error("the message needs exactly one descriptor: the guest's listener")]
    NoListener,
    #[error("the descriptor is not a listening Unix stream socket: {0}")]
    Listener(&'static str),
    #[error("preparing the guest's listener")]
    Adopt(#[source] std::io::Error),
    #[error("no such lease")]
    Unknown,
    #[error("a request of an unknown kind")]
    Request,
    #[error("an answer is `once`, `session`, `deny` or `cancel`")]
    Answer,
    #[error("egress.{0}")]
    Egress(#[from] PolicyError),
    #[error("narrow.{0}")]
    Narrow(#[from] BadSpec),
    #[error("setting the session's budget")]
    Ledger(#[from] LedgerError),
    #[error("{MAX_LEASES} leases are open already")]
    TooMany,
    #[error("making a key")]
    Key(#[from] SealError),
    #[error("storing the lease")]
    Store(#[from] StoreError),
    #[error("storing the lease was interrupted")]
    Interrupted,
}

impl LeaseError {
    /// The code of the canonical protocol.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Name(..)
            | Self::Ttl
            | Self::NoListener
            | Self::Listener(_)
            | Self::Request
            | Self::Answer
            | Self::Narrow(_)
            | Self::Egress(_) => ErrorCode::InvalidArgument,
            Self::Unknown => ErrorCode::NotFound,
            Self::TooMany => ErrorCode::RateLimited,
            Self::Adopt(_) | Self::Key(_) | Self::Store(_) | Self::Ledger(_) | Self::Interrupted => {
                ErrorCode::Internal
            }
        }
    }
}

/// A session's right to use models through its own socket.
#[derive(Debug)]
pub struct Lease {
    pub id: String,
    pub session_id: String,
    /// The uid of the runner that holds it.
    pub owner: u32,
    pub harness: String,
    key_hash: blake3::Hash,
    ttl: Duration,
    clock: Arc<dyn Clock>,
    /// Milliseconds of the boot clock.
    expires: AtomicU64,
    /// Cancelled when the lease ends: every connection of the guest is cut.
    pub(crate) ended: CancellationToken,
    /// Cancelled when another listener takes the place of the one served.
    listener: Mutex<CancellationToken>,
    pub(super) connections: Arc<Semaphore>,
    /// Who its requests are from, but for what is known of its user.
    caller: Caller,
    /// What the guest may reach, and has reached.
    pub(crate) egress: Session,
    notices: Arc<Notices>,
}

impl Lease {
    fn new(stored: &StoredLease, ttl: Duration, gateway: &Gateway, policy: EgressPolicy) -> Arc<Self> {
        let settings: Arc<Settings> = Arc::clone(&gateway.egress);
        let notices = Arc::new(Notices::new(stored.id.clone()));
        let decisions: Arc<dyn Decisions> = Arc::clone(&notices) as Arc<dyn Decisions>;
        let ended = CancellationToken::new();
        let narrow = Narrow::stored(&stored.narrow);
        let caller = Caller {
            id: stored.id.clone(),
            session: stored.session_id.clone(),
            base: Arc::new(narrow.base(stored)),
            user: String::new(),
            owner: session_scope(stored.owner, &stored.session_id),
            scopes: Vec::new(),
            gates: Vec::new(),
            line: Vec::new(),
            access: Some(Arc::new(narrow.access)),
            on_limit: narrow.on_limit,
            right: ended.clone(),
            ended: ended.clone(),
            bodies: gateway.room.of_caller(),
        };
        let lease = Self {
            id: stored.id.clone(),
            session_id: stored.session_id.clone(),
            owner: stored.owner,
            harness: stored.harness.clone(),
            key_hash: stored.key_hash.into(),
            ttl,
            clock: Arc::clone(&gateway.leases.clock),
            expires: AtomicU64::new(0),
            listener: Mutex::new(ended.child_token()),
            ended,
            connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            caller,
            egress: Session::new(settings, policy, decisions),
            notices,
        };
        lease.renew();
        Arc::new(lease)
    }

    /// Whether this is the key of this lease.
    pub fn accepts(&self, presented: blake3::Hash) -> bool {
        self.key_hash == presented
    }

    /// Whether it was not narrowed to less than that model.
    pub(super) fn permits(&self, provider: &str, model: &str) -> bool {
        self.caller.permits(provider, model)
    }

    /// Who its requests are from, at this moment.
    pub(crate) fn caller(&self, people: &People) -> Caller {
        let mut caller = self.caller.clone();
        caller.look_up(people);
        caller
    }

    /// Stops serving the listener there is; the token says when the next one is replaced in its turn.
    pub(super) fn replace_listener(&self) -> CancellationToken {
        let next = self.ended.child_token();
        let mut current = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *current, next.clone()).cancel();
        next
    }

    /// Notices go to this runner from now on. Questions that another one was asked are void.
    fn attach(&self, runner: &Runner) {
        self.notices.attach(runner);
        self.egress.withdraw_questions();
        self.notices.flush();
    }

    fn renew(&self) {
        self.expires
            .store(millis(self.clock.since_boot() + self.ttl), Ordering::Relaxed);
    }

    fn has_lapsed(&self) -> bool {
        self.expires.load(Ordering::Relaxed) < millis(self.clock.since_boot())
    }
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}

/// A lease as granted.
#[derive(Debug)]
pub struct Granted {
    pub lease: Arc<Lease>,
    /// Only where it is new.
    pub key: Option<Zeroizing<String>>,
    pub ttl_seconds: u32,
}

/// All open leases.
#[derive(Debug)]
pub struct Leases {
    open: Mutex<HashMap<String, Arc<Lease>>>,
    store: Arc<Store>,
    boot_id: String,
    clock: Arc<dyn Clock>,
}

impl Leases {
    /// None open; those on disk wait to be resumed. Blocks on the database.
    pub fn load(store: Arc<Store>, clock: Arc<dyn Clock>) -> Result<Self, LeaseError> {
        let boot_id = clock.boot_id().map_err(LeaseError::Adopt)?;
        let since = clock.since_boot().saturating_sub(RESUMABLE).as_secs();
        store.prune_leases(&boot_id, since)?;
        Ok(Self {
            open: Mutex::default(),
            store,
            boot_id,
            clock,
        })
    }

    fn open_leases(&self) -> MutexGuard<'_, HashMap<String, Arc<Lease>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.open_leases().len()
    }

    /// Mints a key for a session and serves its listener. An earlier lease of the session ends.
    pub async fn open(
        &self,
        gateway: &Arc<Gateway>,
        owner: u32,
        request: &lodge_proto::control::LeaseOpen,
        (listener, runner): (Option<OwnedFd>, &Runner),
    ) -> Result<Granted, LeaseError> {
        check_name("session_id", &request.session_id, MAX_SESSION_ID)?;
        check_name("harness", &request.harness, MAX_HARNESS)?;
        let ttl_seconds = match request.ttl_seconds {
            0 => DEFAULT_TTL,
            seconds @ 1..=MAX_TTL => seconds,
            _ => return Err(LeaseError::Ttl),
        };
        let policy = egress_policy(request.egress.as_ref())?;
        let narrow = Narrow::wanted(request.narrow.as_ref())?;
        let listener = fd::adopt(listener)?;
        if self
            .open_leases()
            .values()
            .filter(|lease| lease.owner == owner)
            .count()
            >= MAX_LEASES
        {
            return Err(LeaseError::TooMany);
        }
        let key = key::mint()?;
        let stored = StoredLease {
            id: new_id()?,
            owner,
            session_id: request.session_id.clone(),
            harness: request.harness.clone(),
            key_hash: gateway.hasher.hash(&key).into(),
            boot_id: self.boot_id.clone(),
            seen: self.clock.since_boot().as_secs(),
            narrow: narrow.to_json(),
        };
        if let Some(limit) = narrow.budget {
            let scope = session_scope(owner, &request.session_id);
            gateway.ledger.narrow_budget(&scope, Window::Total, limit).await?;
        }
        let row = stored.clone();
        self.blocking(move |store| store.put_lease(&row)).await?;
        let lease = self.admit(gateway, &stored, ttl_seconds, policy);
        lease.attach(runner);
        super::server::listen(gateway, &lease, listener);
        Ok(Granted {
            lease,
            key: Some(key),
            ttl_seconds,
        })
    }

    /// Serves the listener of a session whose key is known: after a restart of the gateway or of the runner.
    pub async fn resume(
        &self,
        gateway: &Arc<Gateway>,
        owner: u32,
        request: &lodge_proto::control::LeaseResume,
        (listener, runner): (Option<OwnedFd>, &Runner),
    ) -> Result<Granted, LeaseError> {
        let policy = egress_policy(request.egress.as_ref())?;
        let listener = fd::adopt(listener)?;
        let id = request.lease_id.clone();
        let stored = self
            .blocking(move |store| store.lease(&id))
            .await?
            .ok_or(LeaseError::Unknown)?;
        let is_its_own = stored.owner == owner && stored.session_id == request.session_id;
        if !is_its_own || stored.boot_id != self.boot_id {
            return Err(LeaseError::Unknown);
        }
        let open = self.open_leases().get(&stored.id).cloned();
        let lease = match open {
            Some(lease) => {
                lease.renew();
                lease.egress.set_policy(policy);
                lease
            }
            None => self.admit(gateway, &stored, DEFAULT_TTL, policy),
        };
        lease.attach(runner);
        let ttl_seconds = lease.ttl.as_secs().try_into().unwrap_or(DEFAULT_TTL);
        super::server::listen(gateway, &lease, listener);
        Ok(Granted {
            lease,
            key: None,
            ttl_seconds,
        })
    }

    /// Puts a lease among the open ones; whatever the session had before ends.
    fn admit(
        &self,
        gateway: &Gateway,
        stored: &StoredLease,
        ttl_seconds: u32,
        policy: EgressPolicy,
    ) -> Arc<Lease> {
        let lease = Lease::new(stored, Duration::from_secs(ttl_seconds.into()), gateway, policy);
        let mut open = self.open_leases();
        open.retain(|_, other| {
            let replaced = other.owner == lease.owner && other.session_id == lease.session_id;
            if replaced {
                other.ended.cancel();
            }
            !replaced
        });
        open.insert(lease.id.clone(), Arc::clone(&lease));
        lease
    }

    /// Prolongs leases; returns those that are not open, which the runner may resume.
    pub fn renew(&self, owner: u32, ids: Vec<String>) -> Vec<String> {
        let open = self.open_leases();
        ids.into_iter()
            .filter(|id| {
                match open
                    .get(id)
                    .filter(|lease| lease.owner == owner && !lease.has_lapsed())
                {
                    Some(lease) => {
                        lease.renew();
                        false
                    }
                    None => true,
                }
            })
            .collect()
    }

    /// A user's answer to a question of a lease's guest; `false` where it is closed by now.
    pub fn answer(
        &self,
        owner: u32,
        answer: &lodge_proto::control::EgressAnswer,
    ) -> Result<bool, LeaseError> {
        let word: Answer = answer.answer.parse().map_err(|_| LeaseError::Answer)?;
        let open = self.open_leases().get(&answer.lease_id).cloned();
        let lease = open.filter(|lease| lease.owner == owner);
        Ok(lease.is_some_and(|lease| lease.egress.answer(&answer.question_id, word)))
    }

    /// A runner's connection ended: whoever waits for an answer from there waits in vain.
    pub(super) fn detach(&self, runner: &Runner) {
        let open: Vec<_> = self.open_leases().values().cloned().collect();
        for lease in open {
            if lease.notices.detach(runner) {
                lease.egress.withdraw_questions();
            }
        }
    }

    /// Ends a lease for good: its key never works again, its streams are cut. Closing an unknown one is no error.
    pub async fn close(&self, owner: u32, id: &str) -> Result<(), LeaseError> {
        let lease_id = id.to_owned();
        let stored = self.blocking(move |store| store.lease(&lease_id)).await?;
        if stored.is_some_and(|stored| stored.owner != owner) {
            return Err(LeaseError::Unknown);
        }
        // Cut first: a full disk must not keep a key alive.
        if let Some(lease) = self.open_leases().remove(id) {
            lease.ended.cancel();
        }
        let lease_id = id.to_owned();
        self.blocking(move |store| store.remove_lease(&lease_id)).await
    }

    /// Cuts everything, for the end of the process; the leases stay resumable.
    pub fn cut_all(&self) {
        for lease in self.open_leases().drain() {
            lease.1.ended.cancel();
        }
    }

    /// Looks for lapsed leases until dropped.
    pub async fn sweep(&self) {
        let mut ticks = tokio::time::interval(SWEEP);
        let mut touched = self.clock.since_boot();
        loop {
            ticks.tick().await;
            self.lapse();
            let now = self.clock.since_boot();
            if now.saturating_sub(touched) >= TOUCH {
                touched = now;
                let ids: Vec<String> = self.open_leases().keys().cloned().collect();
                if let Err(error) = self
                    .blocking(move |store| store.touch_leases(&ids, now.as_secs()))
                    .await
                {
                    tracing::warn!(%error, "noting live leases");
                }
            }
        }
    }

    fn lapse(&self) {
        self.open_leases().retain(|id, lease| {
            lease.notices.flush();
            if lease.has_lapsed() {
                tracing::info!(lease = id, session = lease.session_id, "lease lapsed");
                lease.ended.cancel();
                return false;
            }
            true
        });
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, LeaseError> {
        let store = Arc::clone(&self.store);
        let done = tokio::task::spawn_blocking(move || work(&store)).await;
        Ok(done.map_err(|_| LeaseError::Interrupted)??)
    }
}

/// What a runner wants its guest to be allowed; nothing where it says nothing.
fn egress_policy(wanted: Option<&lodge_proto::control::EgressPolicy>) -> Result<EgressPolicy, PolicyError> {
    let Some(wanted) = wanted else {
        return Ok(EgressPolicy::default());
    };
    let unlisted = if wanted.ask { Unlisted::Ask } else { Unlisted::Deny };
    EgressPolicy::new(&wanted.allow, &wanted.deny, &wanted.ports, unlisted)
}

/// Whose budget a session's is. Its owner is in it: another user's session of that name is another session.
pub(super) fn session_scope(owner: u32, session: &str) -> String {
    format!("session:{owner}/{session}")
}

fn check_name(field: &'static str, text: &str, max: usize) -> Result<(), LeaseError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_good = !text.is_empty() && text.len() <= max && text.bytes().all(plain);
    if is_good {
        Ok(())
    } else {
        Err(LeaseError::Name(field, max))
    }
}
