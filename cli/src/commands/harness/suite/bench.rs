//! Where a case runs: which Lodge, which session, until when.

use super::cases::Case;
use super::report::{CaseReport, Observed, Outcome};
use super::talk::Talk;
use super::world::World;
use lodge_proto::session::Tier;
use std::time::Duration;
use tokio::time::Instant;

/// After so many starts in a row that came to nothing no further one is tried.
const MOST_FAILED_STARTS: u32 = 2;
/// How long the end of a session may take.
const END_WITHIN: Duration = Duration::from_secs(30);
/// How much longer a case may take where the sandbox has an engine or a machine to start.
const OTHER_TIER: Duration = Duration::from_mins(1);

/// How a case came out, where it did not fail.
#[derive(Debug)]
pub(super) enum Verdict {
    Ok,
    /// With something worth to be known.
    Noted(String),
    Unsupported(String),
}

pub(super) type Done = anyhow::Result<Verdict>;

/// An error and its causes on one line.
pub(super) fn reason(error: &anyhow::Error) -> String {
    let error: &(dyn std::error::Error + 'static) = error.as_ref();
    crate::failure::chain(error)
}

/// Runs cases one after the other.
#[derive(Debug)]
pub(super) struct Bench<'a> {
    pub(super) quiet: &'a World,
    /// The one in which tools ask; only where a case needs it.
    pub(super) asking: Option<&'a World>,
    pub(super) harness: &'a str,
    pub(super) tier: Option<Tier>,
    pub(super) observed: Observed,
    pub(super) version: Option<String>,
    /// The session of the cases that leave one as it was.
    shared: Option<Talk>,
    deadline: Instant,
    sessions: usize,
    /// Starts in a row that came to nothing.
    failed_starts: u32,
    lane: &'static str,
}

impl<'a> Bench<'a> {
    pub(super) fn new(
        quiet: &'a World,
        asking: Option<&'a World>,
        (harness, tier): (&'a str, Option<Tier>),
        lane: &'static str,
    ) -> Self {
        Self {
            quiet,
            asking,
            harness,
            tier,
            observed: Observed::default(),
            version: None,
            shared: None,
            deadline: Instant::now(),
            sessions: 0,
            failed_starts: 0,
            lane,
        }
    }

    /// Runs a case within its time.
    pub(super) async fn run(&mut self, case: Case) -> CaseReport {
        let begin = Instant::now();
        let slower = if matches!(self.tier, None | Some(Tier::Process)) {
            Duration::ZERO
        } else {
            OTHER_TIER
        };
        self.deadline = begin + case.within() + slower;
        let done = case.run(self).await;
        let (result, detail) = match done {
            Ok(Verdict::Ok) => (Outcome::Ok, String::new()),
            Ok(Verdict::Noted(note)) => (Outcome::Ok, note),
            Ok(Verdict::Unsupported(why)) => (Outcome::Unsupported, why),
            Err(error) => {
                // What a failed case left is no ground for the next.
                self.shared = None;
                (Outcome::Failed, reason(&error))
            }
        };
        CaseReport {
            case: case.name().to_owned(),
            result,
            detail,
            duration_ms: u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// A session that several cases use, one after the other. It is given back with [`Bench::keep`].
    pub(super) async fn shared(&mut self) -> anyhow::Result<Talk> {
        match self.shared.take() {
            Some(mut talk) => {
                talk.set_deadline(self.deadline);
                Ok(talk)
            }
            None => self.own().await,
        }
    }

    /// Gives a session back that is as good as before.
    pub(super) fn keep(&mut self, talk: Talk) {
        self.shared = Some(talk);
    }

    /// A session for this case alone.
    pub(super) async fn own(&mut self) -> anyhow::Result<Talk> {
        self.open(self.quiet).await
    }

    /// The same where tools ask.
    pub(super) async fn asking(&mut self) -> anyhow::Result<Talk> {
        let world = self
            .asking
            .ok_or_else(|| anyhow::anyhow!("the Lodge in which tools ask was not started"))?;
        self.open(world).await
    }

    /// Another session on the same workspace.
    pub(super) async fn asking_beside(&mut self, talk: &Talk) -> anyhow::Result<Talk> {
        let world = self
            .asking
            .ok_or_else(|| anyhow::anyhow!("the Lodge in which tools ask was not started"))?;
        let name = talk.workspace().file_name().unwrap_or_default();
        let name = name.to_string_lossy();
        Talk::open(world, self.harness, self.tier, &name, self.deadline).await
    }

    /// A session in a Lodge of the case's own, where it may well not start.
    pub(super) async fn beside(&mut self, world: &World) -> anyhow::Result<Talk> {
        self.sessions += 1;
        let name = format!("{}-{}", self.lane, self.sessions);
        Talk::open(world, self.harness, self.tier, &name, self.deadline).await
    }

    async fn open(&mut self, world: &World) -> anyhow::Result<Talk> {
        self.sessions += 1;
        let name = format!("{}-{}", self.lane, self.sessions);
        // Each may have taken all of its case's time.
        anyhow::ensure!(
            self.failed_starts < MOST_FAILED_STARTS,
            "not tried: the harness did not start before"
        );
        self.failed_starts += 1;
        let mut talk = Talk::open(world, self.harness, self.tier, &name, self.deadline).await?;
        self.failed_starts = 0;
        if self.version.is_none() {
            self.version = talk.state().await?.session.harness_version;
            self.observed.capabilities = Some(talk.capabilities().clone());
        }
        Ok(talk)
    }

    /// Ends what is left.
    pub(super) async fn finish(&mut self) -> anyhow::Result<()> {
        if let Some(mut talk) = self.shared.take() {
            talk.set_deadline(Instant::now() + END_WITHIN);
            self.observed.capabilities = Some(talk.capabilities().clone());
            talk.close().await?;
        }
        Ok(())
    }
}
