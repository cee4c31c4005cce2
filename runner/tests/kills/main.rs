//! The runner is killed again and again while sessions work: nothing is lost and nothing doubled.
//!
//! The sandbox, the shims and guest init are the real ones; the harness is `lodge-fake-pi`, history and gateway are
//! stand-ins. `LODGE_KILLS` sets the number of kills (default 20), `LODGE_KILLS_SEED` repeats a run.

#![allow(clippy::unwrap_used)]

mod oracle;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod support;

use lodge_proto::command::CommandBody;
use lodge_proto::message::Role;
use lodge_proto::relay::ToClient;
use lodge_proto::{Cursor, Outcome, Part, SessionId};
use oracle::{Log, Score};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::client::{Client, Heard};
use support::rig::{self, Rig};
use support::stubs;
use tokio::time::Instant;

const SESSIONS: usize = 10;
/// Kills of a run that was not asked for more.
const KILLS: u64 = 20;
/// How often a session that is at rest is closed instead of being given a prompt.
const CLOSE_ONE_IN: u64 = 8;
/// Milliseconds between two kills.
const GAP_MS: std::ops::Range<u64> = 10..300;
/// Time without any news after which the run has failed.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often commands that got a temporary refusal are sent again.
const REPEAT: Duration = Duration::from_millis(250);

/// A generator that a seed repeats (xorshift64*).
#[derive(Debug, Clone)]
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number"))
    })
}

/// One session and what it was asked to do.
#[derive(Debug, Default)]
struct Work {
    name: String,
    id: Option<SessionId>,
    log: Log,
    prompts: Vec<String>,
    steers: Vec<String>,
    /// Commands of this session that are not answered.
    asked: Vec<String>,
    steer_next: bool,
}

impl Work {
    /// Everything that was sent has been answered, shown and done.
    fn is_quiet(&self) -> bool {
        let shown = self.log.texts(Role::User);
        let all_shown = self
            .prompts
            .iter()
            .chain(&self.steers)
            .all(|text| shown.contains(text));
        self.log.cursor.is_some() && self.asked.is_empty() && !self.log.turn_open && all_shown
    }

    /// The next thing to ask of this session.
    fn next(&mut self, random: &mut Random, ending: bool) -> Option<CommandBody> {
        let number = self.prompts.len() + self.steers.len();
        let name = format!("{}-{number}", self.name);
        if self.log.turn_open && self.steer_next && self.asked.is_empty() {
            self.steer_next = false;
            self.steers.push(format!("{name} steered"));
            return Some(CommandBody::Steer {
                parts: vec![Part::text(format!("{name} steered"))],
            });
        }
        if ending || !self.is_quiet() {
            return None;
        }
        if number > 0 && random.below(CLOSE_ONE_IN) == 0 {
            // The next prompt starts the harness again: runners are killed in the middle of that, too.
            return Some(CommandBody::SessionClose {});
        }
        let script = match random.below(5) {
            0 => format!("burst {} {}", 50 + random.below(200), 40),
            1 => format!("tool {}", 1 + random.below(3)),
            2 => format!("think {}", 1 + random.below(30)),
            _ => format!("stream {} {}", 5 + random.below(60), 1 + random.below(8)),
        };
        let text = format!("{name}\n{script}\n{name} done");
        self.steer_next = random.below(3) == 0;
        self.prompts.push(text.clone());
        Some(CommandBody::Prompt {
            parts: vec![Part::text(text)],
        })
    }
}

/// All sessions, and the client that serves them.
#[derive(Debug)]
struct Run {
    client: Client,
    history: stubs::History,
    work: Vec<Work>,
    random: Random,
    news: Instant,
}

impl Run {
    fn cursors(&self) -> BTreeMap<SessionId, Option<Cursor>> {
        self.work
            .iter()
            .filter_map(|work| Some((work.id?, work.log.cursor)))
            .collect()
    }

    async fn create_sessions(&mut self) {
        for work in &mut self.work {
            let body = CommandBody::SessionCreate {
                harness: "pi".to_owned(),
                workspace: work.name.clone(),
                model: None,
                thinking_level: None,
                title: None,
                tier: None,
                profile: None,
                limits: None,
            };
            work.asked.push(self.client.command(None, body).await);
        }
    }

    /// Hears once, and asks for what follows from it.
    async fn round(&mut self, ending: bool) {
        let cursors = self.cursors();
        if let Ok(heard) = tokio::time::timeout(REPEAT, self.client.hear(&cursors)).await {
            for heard in heard {
                self.news = Instant::now();
                self.heard(heard).await;
            }
        } else {
            self.client.repeat().await;
        }
        for work in &mut self.work {
            if let Some(body) = work.next(&mut self.random, ending) {
                work.asked.push(self.client.command(work.id, body).await);
            }
        }
    }

    async fn heard(&mut self, heard: Heard) {
        match heard {
            Heard::Answer(id, outcome) => self.answered(&id, outcome).await,
            Heard::Subscribed(id, cursor, verdict) => self.of(id).log.subscribed(cursor, &verdict),
            Heard::Control(control) => {
                assert!(
                    !matches!(*control, ToClient::SubscribeFailed { .. }),
                    "{control:?}"
                );
            }
            Heard::Shown(..) => panic!("nobody opened a terminal"),
            Heard::Event(event) => {
                let history = self.history.clone();
                self.of(event.session_id).log.event(*event, &history);
            }
        }
    }

    fn of(&mut self, id: SessionId) -> &mut Work {
        self.work
            .iter_mut()
            .find(|work| work.id == Some(id))
            .expect("a session of this run")
    }

    async fn answered(&mut self, id: &str, outcome: Outcome) {
        let Some(work) = self
            .work
            .iter_mut()
            .find(|work| work.asked.iter().any(|asked| asked == id))
        else {
            return;
        };
        work.asked.retain(|asked| asked != id);
        match outcome {
            Outcome::Ok(result) if work.id.is_none() => {
                let created = result["id"].as_str();
                let created: SessionId = created.unwrap_or_else(|| panic!("{result}")).parse().unwrap();
                work.id = Some(created);
                self.client.subscribe(created, None).await;
            }
            Outcome::Ok(_) => {}
            Outcome::Error(error) => work.log.score.fault(format!("{id} was refused: {error:?}")),
        }
    }

    fn is_quiet(&self) -> bool {
        self.work.iter().all(Work::is_quiet)
    }

    fn describe(&self) -> String {
        let lines = self.work.iter().filter(|work| !work.is_quiet()).map(|work| {
            format!(
                "{} {:?}: asked {:?}, turn open {}, sent {:?} {:?}, shown {:?}; {:?}; last {:?}",
                work.name,
                work.log.cursor,
                work.asked,
                work.log.turn_open,
                work.prompts.last(),
                work.steers.last(),
                work.log.texts(Role::User).last(),
                work.log.score.faults,
                work.log.last
            )
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// Starts runners and kills them, the last one excepted.
async fn kill_runners(
    rig: Arc<Rig>,
    kills: u64,
    mut random: Random,
    done: Arc<AtomicBool>,
) -> tokio::process::Child {
    for _ in 0..kills {
        let mut runner = rig.spawn_runner();
        let gap = GAP_MS.start + random.below(GAP_MS.end - GAP_MS.start);
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(gap)) => {}
            status = runner.wait() => panic!("the runner ended by itself: {status:?}\n{}", rig.log_tail()),
        }
        runner.kill().await.unwrap();
    }
    done.store(true, Ordering::Relaxed);
    rig.spawn_runner()
}

async fn soak(kills: u64, seed: u64) {
    let rig = Arc::new(Rig::new());
    let history = stubs::History::serve(&rig.data().join("run/history.sock"));
    let _leases = stubs::Leases::serve(&rig.data().join("run/gateway-lease.sock"));
    let names = (0..SESSIONS).map(|number| format!("s{number}"));
    for name in names.clone() {
        std::fs::create_dir(rig.data().join("workspaces").join(name)).unwrap();
    }
    let mut run = Run {
        client: Client::patient(rig.data().join("run/runner.sock")),
        history: history.clone(),
        work: names
            .map(|name| Work {
                name,
                ..Work::default()
            })
            .collect(),
        random: Random(seed | 1),
        news: Instant::now(),
    };
    let done = Arc::new(AtomicBool::new(false));
    let killer = tokio::spawn(kill_runners(
        Arc::clone(&rig),
        kills,
        Random(!seed | 1),
        Arc::clone(&done),
    ));
    run.create_sessions().await;
    while !(done.load(Ordering::Relaxed) && run.is_quiet()) {
        run.round(done.load(Ordering::Relaxed)).await;
        let faults: Vec<&String> = run.work.iter().flat_map(|work| &work.log.score.faults).collect();
        assert!(
            faults.is_empty(),
            "seed {seed}: {faults:?}\n{}\n{}",
            run.describe(),
            rig.log_tail()
        );
        let silent = run.news.elapsed() > PATIENCE;
        assert!(
            !silent,
            "no news for {PATIENCE:?}; seed {seed}\n{}\n{}",
            run.describe(),
            rig.log_tail()
        );
    }
    let runner = killer.await.unwrap();
    judge(&mut run, &rig, kills, seed);
    clear(&mut run, &rig, runner).await;
}

fn judge(run: &mut Run, rig: &Rig, kills: u64, seed: u64) {
    let mut total = Score::default();
    let (mut events, mut turns) = (0, 0);
    for work in &mut run.work {
        let id = work.id.unwrap();
        let truth = rig.session_home(id).join("truth.jsonl");
        work.log
            .judge(&work.prompts, &work.steers, &truth, &run.history.messages(id));
        events += work.log.events;
        turns += work.log.turns;
        total.lost += work.log.score.lost;
        total.doubled += work.log.score.doubled;
        for fault in &work.log.score.faults {
            total.fault(format!("{}: {fault}", work.name));
        }
    }
    for fault in run.history.faults() {
        total.fault(fault);
    }
    println!(
        "{kills} kills, {SESSIONS} sessions: {events} events, {} lost, {} doubled ({turns} turns, seed {seed})",
        total.lost, total.doubled
    );
    let sound = total.lost == 0 && total.doubled == 0 && total.faults.is_empty();
    assert!(
        sound,
        "seed {seed}:\n{}\n{}",
        total.faults.join("\n"),
        rig.log_tail()
    );
    assert!(
        turns >= SESSIONS as u64,
        "every session did something, {turns} turns in all"
    );
}

/// Deletes the sessions: nothing of them stays behind.
async fn clear(run: &mut Run, rig: &Rig, mut runner: tokio::process::Child) {
    for work in &mut run.work {
        work.asked
            .push(run.client.command(work.id, CommandBody::SessionDelete {}).await);
    }
    run.news = Instant::now();
    while run.work.iter().any(|work| !work.asked.is_empty()) {
        run.round(true).await;
        assert!(
            run.news.elapsed() < PATIENCE,
            "deleting takes too long\n{}",
            rig.log_tail()
        );
    }
    let refused: Vec<&String> = run.work.iter().flat_map(|work| &work.log.score.faults).collect();
    assert!(refused.is_empty(), "{refused:?}");
    runner.kill().await.unwrap();
    assert!(
        rig.all_gone(Duration::from_secs(10)).await,
        "left behind: {:?}",
        rig.processes()
    );
}

/// The program that the soak starts and kills; as a test of its own it has nothing to do.
#[test]
fn runner_process() {
    rig::be_runner();
}

#[tokio::test]
async fn kills_at_random_moments_lose_nothing_and_double_nothing() {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let seed = number("LODGE_KILLS_SEED", u64::from(now.subsec_nanos()));
    soak(number("LODGE_KILLS", KILLS), seed).await;
}
