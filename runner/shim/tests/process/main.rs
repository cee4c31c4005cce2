//! The shim as a process: nothing lost, nothing doubled, whoever dies.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod faults;
mod streams;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use lodge_shim::client;
use lodge_shim::journal::{
    Exit, FLAG_UNTERMINATED, Generation, Kind, Oversize, StartFailed, Started, Writer,
};
use lodge_shim::launch::{self, EXIT_LOCKED, EXIT_ORPHANED, EXIT_SPEC, LaunchError};
use lodge_shim::wire::{
    CODE_DISK_FULL, CODE_DISK_OK, CODE_EXITED, CODE_INVALID, CODE_RANGE, CODE_VERSION, Hello,
    MIN_WIRE_VERSION, Stop, ToShim, WIRE_VERSION,
};
use support::{Heard, Owned, Session, id, script, spawn, wait_gone};

const ECHO: &str = r#"while read -r line; do echo "got $line"; done; echo bye"#;

/// Not a test of its own: what the sandbox command of the other tests runs.
#[test]
fn guest_double() {
    support::guest::run_if_asked();
}

fn json<T: serde::de::DeserializeOwned>(record: &Owned) -> T {
    serde_json::from_slice(&record.body).unwrap()
}

fn lines(records: &[Owned]) -> Vec<String> {
    records
        .iter()
        .filter(|record| record.kind == Kind::Out)
        .map(Owned::text)
        .collect()
}

#[test]
fn a_session_runs_from_start_to_acknowledged_exit() {
    let mut session = Session::new();
    session.start(&script(ECHO));
    let mut runner = session.attach(1, 1);
    assert_eq!(runner.hello().generation, 1);
    runner.until(Kind::Started);
    runner.input(1, "hello\n");
    assert_eq!(runner.until(Kind::Out).text(), "got hello");
    runner.input(2, "");
    let exit = runner.until(Kind::Exit);
    assert_eq!(
        json::<Exit>(&exit),
        Exit {
            code: Some(0),
            signal: None,
            reason: None
        }
    );
    runner.ack(exit.seq);
    assert!(session.wait().success());
    assert!(!session.path().join("shim.sock").exists());
    let kinds: Vec<_> = session.records().iter().map(|record| record.kind).collect();
    let begin = kinds.iter().position(|kind| *kind == Kind::InBegin).unwrap();
    assert_eq!(kinds[..2], [Kind::Generation, Kind::Started]);
    assert!(kinds[begin..].contains(&Kind::InDone));
}

/// What a runner knows that is killed again and again: its records are its database.
#[derive(Default)]
struct Survivor {
    records: BTreeMap<u64, Owned>,
    doubled: usize,
}

impl Survivor {
    fn next_seq(&self) -> u64 {
        self.records.last_key_value().map_or(1, |(seq, _)| seq + 1)
    }

    fn keep(&mut self, record: Owned) {
        assert_eq!(record.seq, self.next_seq(), "a gap or a repetition");
        self.doubled += usize::from(self.records.insert(record.seq, record).is_some());
    }

    fn is_done(&self, number: u128) -> bool {
        self.records
            .values()
            .any(|record| record.kind == Kind::InDone && record.body == id(number))
    }
}

#[test]
fn a_runner_killed_at_random_moments_loses_and_doubles_nothing() {
    const INPUTS: u128 = 60;
    let harness = r#"while read -r line; do echo "got $line"; i=0
        while [ $i -lt 20 ]; do echo "tick $line $i"; i=$((i+1)); done; done"#;
    let mut session = Session::new();
    session.start(&script(harness));
    let mut survivor = Survivor::default();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move |bound: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % bound
    };
    let mut kills = 0;
    for number in 1..=INPUTS {
        while !survivor.is_done(number) {
            let mut runner = session.attach(1 + kills / 10, survivor.next_seq());
            // Whatever it did before, it sends again what it does not know to be done.
            runner.input(number, &format!("{number}\n"));
            for _ in 0..next(40) {
                match runner.hear_within(Duration::from_millis(50)) {
                    Heard::Record(record) => survivor.keep(record),
                    Heard::Hello(_) => {}
                    Heard::Silence => break,
                    other => panic!("{other:?}"),
                }
            }
            if next(2) == 0 {
                runner.ack(survivor.next_seq() - 1);
            }
            kills += 1;
        }
    }
    let mut runner = session.attach(u64::MAX, survivor.next_seq());
    runner.input(u128::MAX, "");
    while survivor
        .records
        .last_key_value()
        .is_none_or(|(_, record)| record.kind != Kind::Exit)
    {
        match runner.hear() {
            Heard::Record(record) => survivor.keep(record),
            Heard::Hello(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(kills >= 60, "{kills}");
    assert_eq!(survivor.doubled, 0);
    let all: Vec<_> = survivor.records.values().cloned().collect();
    let expected: Vec<_> = (1..=INPUTS)
        .flat_map(|n| {
            std::iter::once(format!("got {n}")).chain((0..20).map(move |i| format!("tick {n} {i}")))
        })
        .collect();
    assert_eq!(lines(&all), expected);
    assert_eq!(
        session.records(),
        all,
        "the journal and what the runner heard are the same"
    );
}

#[test]
fn the_highest_fence_wins_and_an_equal_one_replaces() {
    let mut session = Session::new();
    session.start(&script(ECHO));
    let mut first = session.attach(5, 1);
    first.hello();
    let mut second = session.attach(5, 1);
    second.hello();
    expect_fenced(&mut first);
    let mut third = session.attach(6, 1);
    third.hello();
    expect_fenced(&mut second);
    expect_fenced(&mut session.attach(5, 1));
    third.input(1, "still served\n");
    assert_eq!(third.until(Kind::Out).text(), "got still served");
}

fn expect_fenced(runner: &mut support::Runner) {
    loop {
        match runner.hear() {
            Heard::Record(_) => {}
            Heard::Fenced => break,
            other => panic!("not fenced but {other:?}"),
        }
    }
    assert!(matches!(runner.hear(), Heard::Closed));
}

#[test]
fn only_the_own_and_the_previous_version_are_spoken() {
    let mut session = Session::new();
    session.start(&script(ECHO));
    for version in [MIN_WIRE_VERSION, WIRE_VERSION] {
        let mut runner = support::Runner::connect(session.path());
        runner.say(&ToShim::Hello(Hello {
            version,
            fence: 1,
            from_seq: 1,
        }));
        assert_eq!(runner.hello().version, version);
    }
    let mut runner = support::Runner::connect(session.path());
    runner.say(&ToShim::Hello(Hello {
        version: WIRE_VERSION + 1,
        fence: 1,
        from_seq: 1,
    }));
    assert!(matches!(runner.hear(), Heard::Error(error) if error.code == CODE_VERSION));
    let mut runner = session.attach(1, 1_000_000);
    assert!(matches!(runner.hear(), Heard::Error(error) if error.code == CODE_RANGE));
}

#[test]
fn a_killed_shim_takes_the_harness_along_and_its_successor_continues_the_journal() {
    let mut session = Session::new();
    session.start(&script(ECHO));
    let mut runner = session.attach(1, 1);
    let started: Started = json(&runner.until(Kind::Started));
    runner.input(1, "one\n");
    runner.until(Kind::InDone);
    session.kill();
    wait_gone(rustix::process::Pid::from_raw(started.pid).unwrap());
    let before = session.records();

    session.start(&script(ECHO));
    let mut runner = session.attach(2, before.len() as u64 + 1);
    let reply = runner.hello();
    assert_eq!(reply.generation, 2);
    let generation = runner.until(Kind::Generation);
    assert_eq!(generation.seq, before.len() as u64 + 1);
    assert_eq!(json::<Generation>(&generation).generation, 2);
    runner.input(1, "one\n");
    runner.input(2, "two\n");
    assert_eq!(
        runner.until(Kind::Out).text(),
        "got two",
        "the known input is not delivered again"
    );
    assert!(lines(&before).len() <= 1);
}

#[test]
fn a_second_shim_of_a_session_is_refused() {
    let mut session = Session::new();
    session.start(&script(ECHO));
    let program = Path::new(env!("CARGO_BIN_EXE_lodge-shim"));
    let refused = launch::spawn(
        program,
        session.path(),
        &script(ECHO),
        Vec::new(),
        Duration::from_secs(20),
    );
    let Err(LaunchError::Refused { code, message }) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(code, Some(i32::from(EXIT_LOCKED)));
    assert!(message.contains("held by another process"), "{message}");
    session.attach(1, 1).hello();
}

/// Its runner is killed while it starts, and somebody still has a copy of the journal's lock: it comes up all the same.
#[test]
fn a_shim_whose_runner_died_before_it_was_ready_is_found_by_the_next() {
    let mut session = Session::new();
    let lock = Writer::open(&session.journal()).unwrap();
    let mut shim = spawn(session.path(), &script(ECHO));
    drop((shim.stdout.take(), shim.stderr.take()));
    drop(lock);
    let deadline = Instant::now() + Duration::from_secs(20);
    while let Err(error) = client::connect(session.path()) {
        assert_eq!(shim.try_wait().unwrap(), None, "the shim ended");
        assert!(Instant::now() < deadline, "{error}");
        std::thread::sleep(Duration::from_millis(2));
    }
    session.shim = Some(shim);
    let mut runner = session.attach(1, 1);
    runner.hello();
    runner.until(Kind::Started);
    runner.input(1, "hello\n");
    assert_eq!(runner.until(Kind::Out).text(), "got hello");
}

#[test]
fn an_impossible_specification_is_refused_without_quoting_it() {
    let session = Session::new();
    let mut spec = script(ECHO);
    spec.argv.clear();
    let refused = spawn(session.path(), &spec).wait_with_output().unwrap();
    assert_eq!(refused.status.code(), Some(i32::from(EXIT_SPEC)));
    assert!(!String::from_utf8_lossy(&refused.stderr).contains("hush"));
    assert!(!format!("{spec:?}").contains("hush"));
}

#[test]
fn appended_records_come_back_once() {
    let mut session = Session::new();
    session.start(&script(ECHO));
    let mut runner = session.attach(1, 1);
    for (kind, number, sync) in [
        (Kind::Cmd, 1, true),
        (Kind::Cmd, 1, true),
        (Kind::Timer, 2, false),
        (Kind::Note, 3, true),
    ] {
        runner.say(&ToShim::Append {
            kind,
            sync,
            id: id(number),
            bytes: b"own",
        });
    }
    let note = runner.until(Kind::Note);
    assert_eq!(note.body, [&id(3)[..], b"own"].concat());
    let records = session.records();
    assert_eq!(
        records.iter().filter(|record| record.kind == Kind::Cmd).count(),
        1
    );
    // A shim's own kinds are not the runner's to write.
    let mut bytes = Vec::new();
    ToShim::Append {
        kind: Kind::Exit,
        sync: false,
        id: id(4),
        bytes: b"",
    }
    .encode_into(&mut bytes)
    .unwrap();
    std::io::Write::write_all(&mut runner.stream, &bytes).unwrap();
    let refusal = loop {
        match runner.hear() {
            Heard::Record(_) => {}
            Heard::Error(error) => break error,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refusal.code, CODE_INVALID);
    assert!(matches!(runner.hear(), Heard::Closed));
}
