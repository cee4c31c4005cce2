//! What the broker knows of one session: its policy, what it has used, what was asked.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::decisions::{Access, Answer, Decisions, Outcome};
use super::dial::{DialError, Resolver, dial};
use super::meter::Meter;
use super::name::Host;
use super::policy::{EgressPolicy, Verdict};
use super::questions::{AskError, Questions};

/// Bounds of every session, and the operator's exceptions.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Local services that may be dialled where the session's policy allows them too.
    pub allow_private: Vec<(Host, u16)>,
    /// Connections of one session at a time; more are refused.
    pub connections: usize,
    /// Bytes a second of one session, both directions together.
    pub rate: u64,
    /// Bytes of one session in all, both directions together.
    pub bytes: u64,
    /// A connection on which nothing moves is closed after this.
    pub idle: Duration,
    pub resolver: Resolver,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            allow_private: Vec::new(),
            connections: 96,
            rate: 64 << 20,
            bytes: 64 << 30,
            idle: Duration::from_mins(10),
            resolver: Resolver::default(),
        }
    }
}

/// Why a guest does not get a connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("{}", denial(.rule, *.why))]
    Denied { rule: String, why: Option<AskError> },
    #[error("{0}")]
    Dial(#[source] DialError),
    #[error("this session has {0} connections already")]
    Busy(usize),
}

fn denial(rule: &str, why: Option<AskError>) -> String {
    match (rule, why) {
        (_, Some(why)) => why.to_string(),
        ("ports", None) => "the session's policy does not allow this port".to_owned(),
        ("unlisted", None) => "the session's policy does not allow this host".to_owned(),
        ("address", None) => "the session's policy allows no address but those it names".to_owned(),
        (rule, None) => format!("the session's policy says: {rule}"),
    }
}

/// One session as the broker sees it.
#[derive(Debug)]
pub struct Session {
    pub(super) settings: Arc<Settings>,
    policy: Mutex<Arc<EgressPolicy>>,
    connections: Arc<Semaphore>,
    pub(super) meter: Meter,
    questions: Questions,
    decisions: Arc<dyn Decisions>,
}

/// A connection that was allowed.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) server: TcpStream,
    pub(super) rule: String,
    pub(super) permit: OwnedSemaphorePermit,
}

impl Session {
    /// A session that may reach what `policy` says.
    pub fn new(settings: Arc<Settings>, policy: EgressPolicy, decisions: Arc<dyn Decisions>) -> Self {
        Self {
            policy: Mutex::new(Arc::new(policy)),
            connections: Arc::new(Semaphore::new(settings.connections)),
            meter: Meter::new(settings.rate, settings.bytes),
            questions: Questions::new(Arc::clone(&decisions)),
            settings,
            decisions,
        }
    }

    /// Another policy from now on. What is open stays open.
    pub fn set_policy(&self, policy: EgressPolicy) {
        *self.policy.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
    }

    fn policy(&self) -> Arc<EgressPolicy> {
        Arc::clone(&self.policy.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The user's answer to a question; `false` where it is closed.
    pub fn answer(&self, question: &str, answer: Answer) -> bool {
        self.questions.answer(question, answer)
    }

    /// Nobody is there any more to answer: what waits is refused.
    pub fn withdraw_questions(&self) {
        self.questions.withdraw_all();
    }

    /// Decides, asks where that is to be, resolves, checks and dials. Tells what was decided.
    pub(super) async fn open(&self, host: &Host, port: u16) -> Result<Opened, Refusal> {
        let result = self.try_open(host, port).await;
        let (outcome, rule, reason) = match &result {
            Ok(opened) => (Outcome::Allowed, opened.rule.clone(), String::new()),
            Err(refusal @ Refusal::Denied { rule, .. }) => {
                (Outcome::Denied, rule.clone(), refusal.to_string())
            }
            Err(refusal @ Refusal::Dial(DialError::Address(_))) => {
                (Outcome::Denied, "addresses".to_owned(), refusal.to_string())
            }
            Err(refusal @ Refusal::Busy(_)) => {
                (Outcome::Denied, "connections".to_owned(), refusal.to_string())
            }
            // It was allowed; the network had nothing to connect it to.
            Err(refusal @ Refusal::Dial(_)) => (Outcome::Allowed, String::new(), refusal.to_string()),
        };
        self.tell(host, port, outcome, rule, reason);
        result
    }

    async fn try_open(&self, host: &Host, port: u16) -> Result<Opened, Refusal> {
        let busy = |_| Refusal::Busy(self.settings.connections);
        let permit = Arc::clone(&self.connections).try_acquire_owned().map_err(busy)?;
        let rule = self.admit(host, port).await?;
        let is_private = self
            .settings
            .allow_private
            .iter()
            .any(|(private, at)| private == host && *at == port);
        let server = dial(&self.settings.resolver, host, port, is_private).await;
        Ok(Opened {
            server: server.map_err(Refusal::Dial)?,
            rule,
            permit,
        })
    }

    /// The rule by which `host:port` may be reached. Nothing is resolved before.
    async fn admit(&self, host: &Host, port: u16) -> Result<String, Refusal> {
        let decision = self.policy().decide(host, port);
        let denied = |rule, why| Err(Refusal::Denied { rule, why });
        match decision.verdict {
            Verdict::Allow => return Ok(decision.rule),
            Verdict::Deny => return denied(decision.rule, None),
            Verdict::Ask => {}
        }
        let asking = || self.tell(host, port, Outcome::Asked, decision.rule.clone(), String::new());
        if let Err(error) = self.questions.ask(host, port, asking).await {
            return denied("ask".to_owned(), Some(error));
        }
        // The user may have taken his time: what holds now counts.
        let now = self.policy().decide(host, port);
        match now.verdict {
            Verdict::Deny => denied(now.rule, None),
            Verdict::Allow | Verdict::Ask => Ok("ask".to_owned()),
        }
    }

    /// Tells that a connection began, or did not.
    pub(super) fn tell(&self, host: &Host, port: u16, outcome: Outcome, rule: String, reason: String) {
        self.decisions.access(Access {
            host: host.to_string(),
            port,
            outcome,
            rule,
            reason,
            // One that is asked for begins when it is allowed.
            connections: u32::from(outcome != Outcome::Asked),
            sent: 0,
            received: 0,
        });
    }

    /// Tells what went through a connection that ended.
    pub(super) fn tell_end(&self, host: &Host, port: u16, rule: String, sent: u64, received: u64) {
        self.decisions.access(Access {
            host: host.to_string(),
            port,
            outcome: Outcome::Allowed,
            rule,
            reason: String::new(),
            connections: 0,
            sent,
            received,
        });
    }

    /// Tells of a request that names no host.
    pub(super) fn tell_malformed(&self, reason: String) {
        self.decisions.access(Access {
            host: "(malformed)".to_owned(),
            port: 0,
            outcome: Outcome::Denied,
            rule: "request".to_owned(),
            reason,
            connections: 1,
            sent: 0,
            received: 0,
        });
    }
}
