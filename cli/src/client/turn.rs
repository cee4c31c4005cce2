//! Following one session through one turn, across restarts of the runner.

use super::link::{Incoming, Link, is_lost};
use super::{command, local_actor};
use crate::failure::Failure;
use lodge_proto::event::TurnOutcome;
use lodge_proto::relay::{ToClient, Verdict};
use lodge_proto::session::{SessionState, SessionStatus};
use lodge_proto::{
    Command, CommandBody, Cursor, ErrorBody, ErrorCode, Event, EventBody, Part, SessionId, TurnId,
};
use std::path::PathBuf;
use std::time::Duration;

/// How long a lost runner is looked for.
const RECONNECT_WITHIN: Duration = Duration::from_secs(30);
/// After the end of the turn: how long its `agent.idle` may take.
const IDLE_WITHIN: Duration = Duration::from_secs(5);

/// A session that is followed.
#[derive(Debug)]
pub struct Follower {
    socket: PathBuf,
    link: Link,
    session: SessionId,
    cursor: Cursor,
    /// A command that has to be sent again when the runner was lost: its id makes that harmless.
    unanswered: Option<Command>,
    turn: Option<TurnId>,
    ended: Option<(TurnOutcome, Option<ErrorBody>)>,
    /// What follows the end of a turn was seen too.
    settled: bool,
}

/// One step of a followed turn.
#[derive(Debug)]
pub enum Step {
    /// An event, with its JSON exactly as received.
    Event { event: Box<Event>, json: String },
    /// The numbers do not go on from where we were; here is the state instead.
    Jump {
        reason: Option<String>,
        state: Box<SessionState>,
    },
    /// A command was refused; the turn goes on.
    Refused(ErrorBody),
    /// The turn is over.
    Done {
        outcome: TurnOutcome,
        error: Option<ErrorBody>,
    },
}

impl Follower {
    /// Subscribes to a session: from its first event where `whole`, else from now on.
    pub async fn subscribe(
        socket: PathBuf,
        link: Link,
        session: SessionId,
        whole: bool,
    ) -> anyhow::Result<Self> {
        let cursor = Cursor { epoch: 0, seq: 0 };
        let mut follower = Self {
            socket,
            link,
            session,
            cursor,
            unanswered: None,
            turn: None,
            ended: None,
            settled: false,
        };
        follower.cursor = follower.subscribe_at(None).await?.0;
        if whole {
            // The epoch is known only now; the second subscription takes the place of the first.
            let body = CommandBody::SessionUnsubscribe {};
            follower.link.call(&command(Some(session), body)).await?;
            let first = Cursor {
                epoch: follower.cursor.epoch,
                seq: 0,
            };
            let (_, verdict) = follower.subscribe_at(Some(first)).await?;
            follower.cursor = first;
            if !matches!(verdict, Verdict::Ok {}) {
                return Err(Failure::new(
                    ErrorCode::Internal,
                    "the first events of a new session are missing",
                )
                .into());
            }
        }
        Ok(follower)
    }

    async fn subscribe_at(&mut self, cursor: Option<Cursor>) -> anyhow::Result<(Cursor, Verdict)> {
        self.link
            .call(&command(
                Some(self.session),
                CommandBody::SessionSubscribe { cursor },
            ))
            .await?;
        loop {
            let Incoming::Control(control) = self.link.next().await? else {
                continue;
            };
            match *control {
                ToClient::Subscribed {
                    session_id,
                    cursor,
                    verdict,
                } if session_id == self.session => {
                    return Ok((cursor, verdict));
                }
                ToClient::SubscribeFailed { session_id, error } if session_id == self.session => {
                    return Err(error.into());
                }
                _ => {}
            }
        }
    }

    /// Sends a prompt; it is durable when this returns.
    pub async fn prompt(&mut self, parts: Vec<Part>) -> anyhow::Result<()> {
        let prompt = command(Some(self.session), CommandBody::Prompt { parts });
        match self.link.call(&prompt).await {
            Err(error) if is_lost(&error) => self.unanswered = Some(prompt),
            other => drop(other?),
        }
        Ok(())
    }

    /// Sends a command whose effect shows in the events.
    pub async fn tell(&mut self, body: CommandBody) -> anyhow::Result<()> {
        let told = command(Some(self.session), body);
        match self.link.send(&told).await {
            Err(error) if is_lost(&error) => {
                self.unanswered = Some(told);
                Ok(())
            }
            other => other,
        }
    }

    /// What happens next. Cancelling loses nothing but a reconnection under way.
    pub async fn next(&mut self) -> anyhow::Result<Step> {
        loop {
            let received = match self.ended.clone() {
                None => self.link.next().await,
                Some((outcome, error)) if self.settled => return Ok(Step::Done { outcome, error }),
                Some((outcome, error)) => match tokio::time::timeout(IDLE_WITHIN, self.link.next()).await {
                    Ok(Ok(incoming)) => Ok(incoming),
                    _ => return Ok(Step::Done { outcome, error }),
                },
            };
            let step = match received {
                Ok(incoming) => self.take(incoming).await?,
                Err(error) if is_lost(&error) => self.reconnect(error).await?,
                Err(error) => return Err(error),
            };
            if let Some(step) = step {
                return Ok(step);
            }
        }
    }

    async fn take(&mut self, incoming: Incoming) -> anyhow::Result<Option<Step>> {
        match incoming {
            Incoming::Event {
                session,
                seq,
                epoch,
                json,
            } if session == self.session && seq > 0 => self.event(seq, epoch, json).await,
            Incoming::Control(control) => match *control {
                ToClient::Subscribed {
                    session_id,
                    cursor,
                    verdict,
                } if session_id == self.session => Ok(self.jump(cursor, verdict)),
                ToClient::SessionRemoved { session_id } if session_id == self.session => {
                    Err(Failure::new(ErrorCode::NotFound, "the session was deleted").into())
                }
                _ => Ok(None),
            },
            Incoming::Refused(error) => Ok(Some(Step::Refused(error))),
            Incoming::Event { .. } => Ok(None),
        }
    }

    async fn event(&mut self, seq: u64, epoch: u32, json: String) -> anyhow::Result<Option<Step>> {
        if epoch == self.cursor.epoch && seq <= self.cursor.seq {
            return Ok(None);
        }
        if epoch != self.cursor.epoch || seq != self.cursor.seq + 1 {
            let (cursor, verdict) = self.subscribe_at(Some(self.cursor)).await?;
            return Ok(self.jump(cursor, verdict));
        }
        self.cursor.seq = seq;
        let event: Event = serde_json::from_str(&json)
            .map_err(|e| Failure::new(ErrorCode::Internal, format!("event {seq} cannot be read: {e}")))?;
        match &event.body {
            EventBody::TurnStarted {} if self.turn.is_none() => self.turn = event.turn_id,
            EventBody::TurnEnded { outcome, error, .. } if event.turn_id == self.turn => {
                self.ended = Some((*outcome, error.clone()));
            }
            body => self.settled = self.ended.is_some() && is_settled(body),
        }
        Ok(Some(Step::Event {
            event: Box::new(event),
            json,
        }))
    }

    /// The server answered with a state instead of the missed events.
    fn jump(&mut self, cursor: Cursor, verdict: Verdict) -> Option<Step> {
        let (reason, state) = match verdict {
            Verdict::Ok {} => return None,
            Verdict::Snapshot { state } => (None, state),
            Verdict::Gap { reason, state } => (Some(reason), state),
        };
        self.cursor = cursor;
        if self.turn.is_some() && state.turn_id != self.turn && !state.persisting {
            // The turn ended in what was missed.
            let error = state.last_error.clone();
            let outcome = if error.is_some() {
                TurnOutcome::Failed
            } else {
                TurnOutcome::Completed
            };
            self.ended = Some((outcome, error));
            self.settled = true;
        }
        Some(Step::Jump { reason, state })
    }

    async fn reconnect(&mut self, first: anyhow::Error) -> anyhow::Result<Option<Step>> {
        let end = tokio::time::Instant::now() + RECONNECT_WITHIN;
        let mut last = first;
        while tokio::time::Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(100)).await;
            match self.attach_again().await {
                Ok(step) => return Ok(step),
                Err(error) if is_lost(&error) => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    async fn attach_again(&mut self) -> anyhow::Result<Option<Step>> {
        self.link = Link::connect(&self.socket, local_actor()).await?;
        let (cursor, verdict) = self.subscribe_at(Some(self.cursor)).await?;
        let step = self.jump(cursor, verdict);
        if let Some(again) = self.unanswered.take()
            && let Err(error) = self.link.call(&again).await
        {
            if is_lost(&error) {
                self.unanswered = Some(again);
            }
            return Err(error);
        }
        Ok(step)
    }
}

/// Whether nothing more is to come for a turn that has ended.
const fn is_settled(body: &EventBody) -> bool {
    match body {
        EventBody::AgentIdle { .. } | EventBody::SessionClosed { .. } => true,
        EventBody::Status { status, .. } => matches!(status, SessionStatus::Stopped | SessionStatus::Failed),
        _ => false,
    }
}
