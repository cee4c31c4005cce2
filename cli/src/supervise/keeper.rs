//! The life of one role: it is started again when it ends by itself, later each time, and given up when it
//! crashes again and again.

use super::Role;
use super::child::{self, Running, Spec};
use super::state::{Health, RoleState, StateFile};
use crate::failure::Failure;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LAST_BACKOFF: Duration = Duration::from_secs(5);
/// So many crashes within [`CRASH_WINDOW`] end the whole.
const MAX_CRASHES: usize = 10;
const CRASH_WINDOW: Duration = Duration::from_mins(1);

/// Watches one role.
#[derive(Debug)]
pub struct Keeper {
    role: Role,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Keeper {
    /// Starts a role, waits until it serves, and watches it from then on. A role that crashes again and again is
    /// reported once to `report`.
    pub async fn start(spec: Spec, state: StateFile, report: mpsc::Sender<Failure>) -> Result<Self, Failure> {
        let role = spec.role;
        let mut life = Life {
            spec,
            state,
            crashes: Crashes::default(),
            restarts: 0,
        };
        let running = life.launch().await?;
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(async move {
            if let Err(failure) = life.run(running, stopped).await {
                let _ = report.send(failure).await;
            }
        });
        Ok(Self { role, stop, task })
    }

    pub const fn role(&self) -> Role {
        self.role
    }

    /// Stops the role and waits for its end.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        let _ = self.task.await;
    }
}

struct Life {
    spec: Spec,
    state: StateFile,
    crashes: Crashes,
    restarts: u32,
}

impl Life {
    async fn launch(&mut self) -> Result<Running, Failure> {
        self.tell(Health::Starting, None);
        let running = child::start(&self.spec, |pid| self.tell(Health::Starting, Some(pid))).await?;
        self.tell(Health::Ready, Some(running.pid));
        Ok(running)
    }

    async fn run(mut self, first: Running, mut stop: watch::Receiver<bool>) -> Result<(), Failure> {
        let mut current = Some(first);
        loop {
            let how = match current.take() {
                Some(mut running) => tokio::select! {
                    how = running.wait() => how,
                    () = asked(&mut stop) => {
                        self.tell(Health::Stopping, Some(running.pid));
                        running.stop(self.spec.role.grace()).await;
                        return Ok(());
                    }
                },
                None => "did not start".to_owned(),
            };
            self.restarts += 1;
            let Some(pause) = self.crashes.add(Instant::now()) else {
                let what = format!(
                    "crashed {MAX_CRASHES} times within {} s ({how})",
                    CRASH_WINDOW.as_secs()
                );
                return Err(child::with_log(&self.spec, &what));
            };
            tracing::warn!(
                role = self.spec.role.as_str(),
                how,
                ?pause,
                "a role ended; starting it again"
            );
            self.tell(Health::Restarting, None);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = asked(&mut stop) => return Ok(()),
            }
            current = tokio::select! {
                started = self.launch() => started.inspect_err(|failure| tracing::warn!(%failure, "restart")).ok(),
                // Dropping a start kills what it started.
                () = asked(&mut stop) => return Ok(()),
            };
        }
    }

    fn tell(&self, health: Health, pid: Option<u32>) {
        let (role, restarts) = (self.spec.role, self.restarts);
        self.state.update(|state| {
            state.roles.insert(
                role,
                RoleState {
                    health,
                    pid,
                    restarts,
                },
            );
        });
    }
}

/// Resolves when the role has to stop, also when its keeper is gone.
async fn asked(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// When a role crashed of late.
#[derive(Debug, Default)]
struct Crashes(VecDeque<Instant>);

impl Crashes {
    /// Counts a crash; returns how long to wait, or nothing when there were too many.
    fn add(&mut self, now: Instant) -> Option<Duration> {
        while self
            .0
            .front()
            .is_some_and(|first| now.duration_since(*first) > CRASH_WINDOW)
        {
            self.0.pop_front();
        }
        self.0.push_back(now);
        if self.0.len() > MAX_CRASHES {
            return None;
        }
        let doublings = u32::try_from(self.0.len() - 1).unwrap_or(u32::MAX);
        Some(
            FIRST_BACKOFF
                .saturating_mul(2u32.saturating_pow(doublings))
                .min(LAST_BACKOFF),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::{Kind, State};
    use super::*;

    #[test]
    fn the_pause_grows_to_its_limit_and_old_crashes_are_forgotten() {
        let mut crashes = Crashes::default();
        let start = Instant::now();
        let pauses: Vec<_> = (0..MAX_CRASHES).map(|_| crashes.add(start).unwrap()).collect();
        assert_eq!(pauses[0], FIRST_BACKOFF);
        assert_eq!(*pauses.last().unwrap(), LAST_BACKOFF);
        assert!(pauses.is_sorted());
        assert_eq!(crashes.add(start), None);
        assert_eq!(crashes.add(start + CRASH_WINDOW * 2), Some(FIRST_BACKOFF));
    }

    #[tokio::test]
    async fn a_killed_role_is_started_again_and_stop_ends_it() {
        let root = tempfile::tempdir().unwrap();
        let args = vec!["-c".into(), "echo ready; exec sleep 100".into()];
        let spec = Spec {
            role: Role::History,
            program: "/bin/sh".into(),
            args,
            log: root.path().join("history.log"),
        };
        let state = StateFile::new(root.path().join("lodge.json"), State::new(Kind::Call));
        let (report, _failures) = mpsc::channel(1);
        let keeper = Keeper::start(spec, state.clone(), report).await.unwrap();
        let pid = |state: &StateFile| {
            let role = state.get().roles[&Role::History].clone();
            (role.health == Health::Ready).then_some(role.pid).flatten()
        };
        let first = pid(&state).unwrap();
        let raw = rustix::process::Pid::from_raw(i32::try_from(first).unwrap()).unwrap();
        rustix::process::kill_process(raw, rustix::process::Signal::KILL).unwrap();
        let again = async {
            loop {
                match pid(&state) {
                    Some(second) if second != first => return second,
                    _ => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        let second = tokio::time::timeout(Duration::from_secs(20), again)
            .await
            .unwrap();
        assert_eq!(state.get().roles[&Role::History].restarts, 1);
        keeper.stop().await;
        let raw = rustix::process::Pid::from_raw(i32::try_from(second).unwrap()).unwrap();
        assert!(rustix::process::test_kill_process(raw).is_err(), "still there");
    }
}
