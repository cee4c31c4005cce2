//! A session as its client sees it: commands, and its whole log, checked event by event.

use super::turn::{Ended, spoken};
use super::world::World;
use crate::client::link::{Incoming, Link};
use crate::client::{command, local_actor};
use anyhow::{anyhow, bail};
use lodge_proto::event::TurnOutcome;
use lodge_proto::ids::MessageId;
use lodge_proto::invariants::Checker;
use lodge_proto::relay::{ToClient, Verdict};
use lodge_proto::session::{Capabilities, SessionInfo, SessionState, SessionStatus, Tier};
use lodge_proto::{CommandBody, Cursor, ErrorBody, Event, EventBody, Part, SessionId, TurnId};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;

/// Where a case connects to on purpose; a harness tries nothing but the gateway.
pub(super) const ON_PURPOSE: &str = "control.example";

/// A session of a case, or of several.
#[derive(Debug)]
pub(super) struct Talk {
    link: Link,
    session: SessionId,
    workspace: PathBuf,
    asks: bool,
    checker: Checker,
    log: Vec<Event>,
    /// Events that [`Talk::until`] has looked at.
    looked: usize,
    capabilities: Capabilities,
    status: SessionStatus,
    deadline: Instant,
}

/// What a prompt came to.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Sent {
    pub(super) disposition: String,
    pub(super) turn_id: Option<TurnId>,
}

impl Talk {
    /// Makes a session and waits until its harness is ready.
    pub(super) async fn open(
        world: &World,
        harness: &str,
        tier: Option<Tier>,
        name: &str,
        deadline: Instant,
    ) -> anyhow::Result<Self> {
        let workspace = world.workspace(name)?;
        let mut talk = Self::new(world, SessionId::default(), workspace, deadline).await?;
        let body = CommandBody::SessionCreate {
            harness: harness.to_owned(),
            workspace: talk.workspace.display().to_string(),
            model: None,
            thinking_level: None,
            title: None,
            tier,
            profile: None,
            limits: None,
        };
        let created = talk.ask(None, body, "the session").await?;
        talk.session = serde_json::from_value::<SessionInfo>(created)?.id;
        talk.subscribe().await?;
        talk.ready().await?;
        Ok(talk)
    }

    /// Goes on in a copy of this session, where it can be made.
    pub(super) async fn fork(
        &mut self,
        world: &World,
        message_id: Option<MessageId>,
    ) -> anyhow::Result<Result<Self, ErrorBody>> {
        let copied = match self.try_call(CommandBody::SessionFork { message_id }).await? {
            Ok(info) => serde_json::from_value::<SessionInfo>(info)?.id,
            Err(refused) => return Ok(Err(refused)),
        };
        let mut copy = Self::new(world, copied, self.workspace.clone(), self.deadline).await?;
        copy.subscribe().await?;
        copy.ready().await?;
        Ok(Ok(copy))
    }

    async fn new(
        world: &World,
        session: SessionId,
        workspace: PathBuf,
        deadline: Instant,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            link: Link::connect(&world.socket(), local_actor()).await?,
            session,
            workspace,
            asks: world.asks,
            checker: Checker::new(),
            log: Vec::new(),
            looked: 0,
            capabilities: Capabilities::default(),
            status: SessionStatus::Starting,
            deadline,
        })
    }

    /// From the first event. The epoch is known only after a first subscription.
    async fn subscribe(&mut self) -> anyhow::Result<()> {
        let (cursor, _) = self.subscribed(None).await?;
        self.call(CommandBody::SessionUnsubscribe {}).await?;
        let first = Cursor {
            epoch: cursor.epoch,
            seq: 0,
        };
        match self.subscribed(Some(first)).await? {
            (_, Verdict::Ok {}) => Ok(()),
            _ => bail!("the first events of a new session are missing"),
        }
    }

    async fn subscribed(&mut self, cursor: Option<Cursor>) -> anyhow::Result<(Cursor, Verdict)> {
        self.call(CommandBody::SessionSubscribe { cursor }).await?;
        loop {
            if let Incoming::Control(control) = self.incoming("the subscription").await?
                && let ToClient::Subscribed {
                    session_id,
                    cursor,
                    verdict,
                } = *control
                && session_id == self.session
            {
                return Ok((cursor, verdict));
            }
        }
    }

    async fn ready(&mut self) -> anyhow::Result<()> {
        let mut said = String::new();
        let status = self
            .until("the harness to be ready", |event| match &event.body {
                EventBody::AgentError { message, .. } => {
                    said.clone_from(message);
                    None
                }
                EventBody::Status { status, .. } => match status {
                    SessionStatus::Idle | SessionStatus::Failed | SessionStatus::Stopped => Some(*status),
                    _ => None,
                },
                _ => None,
            })
            .await?;
        if status != SessionStatus::Idle {
            bail!("the harness did not start: {said}");
        }
        Ok(())
    }

    /// Until when the case at hand may wait.
    pub(super) const fn set_deadline(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }

    pub(super) const fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    pub(super) const fn session(&self) -> SessionId {
        self.session
    }

    pub(super) fn workspace(&self) -> &Path {
        &self.workspace
    }

    pub(super) fn log(&self) -> &[Event] {
        &self.log
    }

    /// A file of the workspace, if it is there.
    pub(super) fn file(&self, name: &str) -> Option<String> {
        let bytes = std::fs::read(self.workspace.join(name)).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    async fn incoming(&mut self, what: &str) -> anyhow::Result<Incoming> {
        match tokio::time::timeout_at(self.deadline, self.link.next()).await {
            Ok(incoming) => incoming,
            Err(_) => Err(late(what)),
        }
    }

    async fn ask(
        &mut self,
        session: Option<SessionId>,
        body: CommandBody,
        what: &str,
    ) -> anyhow::Result<Value> {
        let command = command(session, body);
        match tokio::time::timeout_at(self.deadline, self.link.call(&command)).await {
            Ok(answer) => answer,
            Err(_) => Err(late(&format!("the answer to the command for {what}"))),
        }
    }

    /// A command of this session, answered.
    pub(super) async fn call(&mut self, body: CommandBody) -> anyhow::Result<Value> {
        let what = serde_json::to_value(&body)?;
        let what = what["cmd"].as_str().unwrap_or("it").to_owned();
        self.ask(Some(self.session), body, &what).await
    }

    /// The same, where it may be refused.
    pub(super) async fn try_call(&mut self, body: CommandBody) -> anyhow::Result<Result<Value, ErrorBody>> {
        match self.call(body).await {
            Ok(value) => Ok(Ok(value)),
            Err(error) => match error.downcast::<ErrorBody>() {
                Ok(refused) => Ok(Err(refused)),
                Err(error) => Err(error),
            },
        }
    }

    /// What the session is now, besides its events.
    pub(super) async fn state(&mut self) -> anyhow::Result<SessionState> {
        Ok(serde_json::from_value(
            self.call(CommandBody::GetState {}).await?,
        )?)
    }

    /// The next event of the session.
    async fn event(&mut self, what: &str) -> anyhow::Result<()> {
        loop {
            match self.incoming(what).await? {
                Incoming::Event { session, json, .. } if session == self.session => {
                    return self.take(serde_json::from_str(&json)?);
                }
                Incoming::Control(control) if matches!(&*control, ToClient::Subscribed { session_id, .. } if *session_id == self.session) =>
                {
                    bail!("events were folded although this client reads all the time");
                }
                _ => {}
            }
        }
    }

    fn take(&mut self, event: Event) -> anyhow::Result<()> {
        let checked = self.checker.event(&event);
        let mut tried = None;
        match &event.body {
            EventBody::SessionHeartbeat { .. } => return Ok(()),
            EventBody::SessionCapabilities { capabilities } => self.capabilities = capabilities.clone(),
            EventBody::Status { status, .. } => self.status = *status,
            EventBody::NetworkAccess { host, port, .. } if host != ON_PURPOSE => {
                tried = Some(format!("{host}:{port}"));
            }
            _ => {}
        }
        let unasked = !self.asks
            && matches!(&event.body, EventBody::AgentInputNeeded { .. })
            && self.status != SessionStatus::Aborting;
        self.log.push(event);
        checked.map_err(|violation| anyhow!("the log breaks a rule: {violation}"))?;
        if let Some(place) = tried {
            bail!("the harness tried to reach {place}");
        }
        if unasked {
            bail!("the harness asks although this session is not to ask");
        }
        Ok(())
    }

    /// Waits for an event in which `pick` finds something, beginning after the one that was found last.
    pub(super) async fn until<T>(
        &mut self,
        what: &str,
        mut pick: impl FnMut(&Event) -> Option<T>,
    ) -> anyhow::Result<T> {
        loop {
            while let Some(event) = self.log.get(self.looked) {
                self.looked += 1;
                if let Some(found) = pick(event) {
                    return Ok(found);
                }
            }
            self.event(what).await?;
        }
    }

    /// Sends a prompt.
    pub(super) async fn prompt(&mut self, text: &str) -> anyhow::Result<Sent> {
        let parts = vec![Part::text(text)];
        Ok(serde_json::from_value(
            self.call(CommandBody::Prompt { parts }).await?,
        )?)
    }

    /// Sends a prompt that begins a turn; returns the turn.
    pub(super) async fn begin(&mut self, text: &str) -> anyhow::Result<TurnId> {
        let sent = self.prompt(text).await?;
        match sent.turn_id {
            Some(turn) if sent.disposition == "started" => Ok(turn),
            _ => bail!("an idle session answered a prompt with `{}`", sent.disposition),
        }
    }

    /// Waits for the end of a turn, and until the session is idle.
    pub(super) async fn end(&mut self, turn: TurnId) -> anyhow::Result<Ended> {
        let (outcome, error, usage) = self
            .until("the turn to end", |event| match &event.body {
                EventBody::TurnEnded {
                    outcome,
                    error,
                    usage,
                } if event.turn_id == Some(turn) => Some((*outcome, error.clone(), *usage)),
                _ => None,
            })
            .await?;
        self.until("the session to be idle", |event| {
            matches!(event.body, EventBody::AgentIdle { .. }).then_some(())
        })
        .await?;
        let events = self.log.iter().filter(|event| event.turn_id == Some(turn));
        Ok(Ended {
            outcome,
            error,
            usage,
            events: events.cloned().collect(),
        })
    }

    /// The same; `None` where it has not ended after `limit`.
    pub(super) async fn end_within(
        &mut self,
        turn: TurnId,
        limit: Duration,
    ) -> anyhow::Result<Option<Ended>> {
        match tokio::time::timeout(limit, self.end(turn)).await {
            Ok(ended) => Ok(Some(ended?)),
            Err(_) => Ok(None),
        }
    }

    /// Waits until the session would take a prompt, whatever it does by itself.
    pub(super) async fn settle(&mut self) -> anyhow::Result<()> {
        while self.status != SessionStatus::Idle || self.state().await?.persisting {
            self.event("the session to be idle").await?;
        }
        self.looked = self.log.len();
        Ok(())
    }

    /// A whole turn, however it ends.
    pub(super) async fn turn(&mut self, text: &str) -> anyhow::Result<Ended> {
        let turn = self.begin(text).await?;
        self.end(turn).await
    }

    /// A whole turn that completes.
    pub(super) async fn complete(&mut self, text: &str) -> anyhow::Result<Ended> {
        let ended = self.turn(text).await?;
        ended.require(TurnOutcome::Completed)?;
        Ok(ended)
    }

    /// A prompt that is answered shows that the session is of use.
    pub(super) async fn still_works(&mut self, word: &str) -> anyhow::Result<()> {
        let ended = self.complete(&format!("say {word}")).await?;
        if !ended.answer().contains(word) {
            bail!(
                "the prompt after it was answered with {}",
                spoken(&ended.answer())
            );
        }
        Ok(())
    }

    /// Ends the session: nothing of its log may be open.
    pub(super) async fn close(mut self) -> anyhow::Result<()> {
        self.checker
            .finish()
            .map_err(|violation| anyhow!("the log is not complete: {violation}"))?;
        self.call(CommandBody::SessionClose {}).await?;
        Ok(())
    }
}

fn late(what: &str) -> anyhow::Error {
    anyhow!("waited in vain for {what}")
}
