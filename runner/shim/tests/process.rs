//! The shim as a process: nothing lost, nothing doubled, whoever dies.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

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
use lodge_shim::launch::{self, EXIT_LOCKED, EXIT_SPEC, LaunchError};
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

#[test]
fn a_sandbox_that_does_not_come_up_is_recorded_with_its_last_words() {
    let check = |argv: &[&str], expected: &str| {
        let mut session = Session::new();
        let mut spec = script(ECHO);
        spec.argv = argv.iter().map(|&word| word.to_owned()).collect();
        spec.limits.hello_ms = if expected.contains("nothing") { 200 } else { 20_000 };
        session.start(&spec);
        let mut runner = session.attach(1, 1);
        let record = runner.until(Kind::StartFailed);
        let failed: StartFailed = json(&record);
        assert!(failed.error.contains(expected), "{failed:?}");
        runner.ack(record.seq);
        assert!(session.wait().success());
    };
    check(&["/nonexistent/sandbox"], "cannot run /nonexistent/sandbox");
    check(&["/bin/sh", "-c", "echo boom >&2; exit 3"], "exit status 3: boom");
    check(&["/bin/sleep", "1000"], "the guest said nothing");
    check(
        &["/bin/sh", "-c", "head -c 40 /dev/zero >&9; sleep 1000"],
        "the guest's stream is damaged",
    );
}

#[test]
fn a_sandbox_that_dies_does_not_read_as_success() {
    let mut session = Session::new();
    session.start(&script("echo before; read -r go; kill -9 $PPID; sleep 1000"));
    let mut runner = session.attach(1, 1);
    assert_eq!(runner.until(Kind::Out).text(), "before");
    runner.input(1, "go\n");
    let exit: Exit = json(&runner.until(Kind::Exit));
    assert_eq!((exit.code, exit.signal), (None, None));
    assert!(exit.reason.unwrap().contains("sandbox died: signal 9"));
    runner.input(9, "too late\n");
    assert!(matches!(runner.hear(), Heard::Error(error) if error.code == CODE_EXITED));
}

#[test]
fn term_ends_the_tree_and_leaves_a_record() {
    let mut session = Session::new();
    session.start(&script(
        "(trap '' TERM; setsid sleep 1000 & echo $!) ; exec sleep 1000",
    ));
    let mut runner = session.attach(1, 1);
    let started: Started = json(&runner.until(Kind::Started));
    let daemon = runner.until(Kind::Out).text().parse().unwrap();
    rustix::process::kill_process(session.pid(), rustix::process::Signal::TERM).unwrap();
    session.wait();
    wait_gone(rustix::process::Pid::from_raw(started.pid).unwrap());
    wait_gone(rustix::process::Pid::from_raw(daemon).unwrap());
    assert_eq!(session.records().last().unwrap().kind, Kind::Exit);
}

#[test]
fn stop_kills_what_does_not_listen() {
    let mut session = Session::new();
    session.start(&script("trap '' TERM; echo up; while :; do sleep 1; done"));
    let mut runner = session.attach(1, 1);
    runner.until(Kind::Out);
    runner.say(&ToShim::Stop(Stop { grace_ms: 100 }));
    let exit = runner.until(Kind::Exit);
    assert_ne!(json::<Exit>(&exit).code, Some(0));
    runner.ack(exit.seq);
    assert!(session.wait().success());
}

#[test]
fn a_signal_reaches_the_harness() {
    let mut session = Session::new();
    session.start(&script(
        "trap 'echo interrupted; exit 7' INT; echo up; while :; do sleep 0.05; done",
    ));
    let mut runner = session.attach(1, 1);
    runner.until(Kind::Out);
    runner.say(&ToShim::Signal(2));
    assert_eq!(runner.until(Kind::Out).text(), "interrupted");
    assert_eq!(json::<Exit>(&runner.until(Kind::Exit)).code, Some(7));
}

#[test]
fn streams_lines_and_their_oddities_are_kept() {
    let mut session = Session::new();
    let harness =
        r"printf 'cr\r\n\nraw \377\n'; head -c 17000000 /dev/zero | tr '\0' x; echo; echo E >&2; printf end";
    session.start(&script(harness));
    let mut runner = session.attach(1, 1);
    let exit = runner.until(Kind::Exit);
    let records = session.records();
    let out: Vec<_> = records.iter().filter(|record| record.kind == Kind::Out).collect();
    assert_eq!(out[0].body, b"cr\r");
    assert_eq!(out[1].body, b"");
    assert_eq!(out[2].body, b"raw \xff");
    assert_eq!((&out[3].body[..], out[3].flags), (&b"end"[..], FLAG_UNTERMINATED));
    let long = records
        .iter()
        .find(|record| record.kind == Kind::Oversize)
        .unwrap();
    let long: Oversize = json(long);
    assert_eq!(
        (long.stream.as_str(), long.length, long.head.len()),
        ("out", 17_000_000, 4096)
    );
    assert!(
        records
            .iter()
            .any(|record| record.kind == Kind::Err && record.body == b"E")
    );
    assert_eq!(exit.seq, records.last().unwrap().seq);
}

#[test]
fn a_runner_that_does_not_acknowledge_stops_the_harness_and_loses_nothing() {
    const LINES: usize = 200_000;
    let mut session = Session::new();
    let mut spec = script(&format!("seq 1 {LINES}"));
    spec.limits.unacked_bytes = 1 << 20;
    spec.limits.segment_bytes = 256 << 10;
    session.start(&spec);
    let mut runner = session.attach(1, 1);
    let mut seen = Vec::new();
    let mut last = 0;
    let mut stops = 0;
    loop {
        match runner.hear_within(Duration::from_millis(700)) {
            Heard::Record(record) if record.kind == Kind::Exit => break,
            Heard::Record(record) => {
                last = record.seq;
                if record.kind == Kind::Out {
                    seen.push(record.text());
                }
                if stops > 0 && last % 1000 == 0 {
                    runner.say(&ToShim::Ack {
                        durable: last,
                        prune_before: last,
                    });
                }
            }
            Heard::Silence => {
                assert!(
                    stops > 0 || (10_000..100_000).contains(&seen.len()),
                    "after {} lines",
                    seen.len()
                );
                stops += 1;
                assert!(stops < 50, "it does not go on");
                runner.ack(last);
            }
            Heard::Hello(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(stops > 0, "it never stopped");
    assert_eq!(seen.len(), LINES);
    assert!(
        seen.iter()
            .enumerate()
            .all(|(at, line)| *line == (at + 1).to_string())
    );
    assert!(session.records()[0].seq > 1, "acknowledged segments were pruned");
}

#[test]
fn the_gateway_listener_is_kept_and_not_given_to_the_guest() {
    let mut session = Session::new();
    let path = session.path().join("gateway.sock");
    let listener: OwnedFd = UnixListener::bind(&path).unwrap().into();
    let number = listener.as_raw_fd();
    let socket = std::fs::read_link(format!("/proc/self/fd/{number}")).unwrap();
    let mut spec = script("readlink /proc/$PPID/fd/* | sort | uniq; echo end");
    // The number is the test process's: the guest's own must be another.
    spec.listener_fd = Some(number);
    spec.mux_fd_in_guest = number + 1;
    let program = Path::new(env!("CARGO_BIN_EXE_lodge-shim"));
    let patience = Duration::from_secs(20);
    session.shim = Some(launch::spawn(program, session.path(), &spec, vec![listener], patience).unwrap());
    let mut runner = session.attach(1, 1);
    let first = runner.until(Kind::Out).text();
    assert_ne!(
        first,
        socket.to_str().unwrap(),
        "the guest holds the gateway listener"
    );
    let fetched: OwnedFd = client::fetch_listener(session.path(), Duration::from_secs(10)).unwrap();
    let _caller = UnixStream::connect(&path).unwrap();
    UnixListener::from(fetched).accept().unwrap();
}

/// Where the inner half of the next test finds its small disk.
const SMALL_DISK: &str = "LODGE_TEST_SMALL_DISK";

#[test]
fn a_full_disk_stops_the_harness_and_loses_nothing() {
    if let Ok(dir) = std::env::var(SMALL_DISK) {
        return fill_the_disk(Path::new(&dir));
    }
    let dir = tempfile::TempDir::new().unwrap();
    let own = std::env::current_exe().unwrap();
    let name = "a_full_disk_stops_the_harness_and_loses_nothing";
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c"])
        .arg(r#"mount -t tmpfs -o size=8m none "$1" && exec "$2" --exact "$3" --nocapture"#)
        .arg("sh")
        .args([dir.path().as_os_str(), own.as_os_str(), name.as_ref()])
        .env(SMALL_DISK, dir.path())
        .output()
        .expect("this test needs `unshare` (Debian: apt install util-linux)");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(String::from_utf8_lossy(&output.stdout).contains("the disk was full"));
}

fn fill_the_disk(dir: &Path) {
    const LINES: usize = 400_000;
    let mut session = Session::in_dir(tempfile::TempDir::new_in(dir).unwrap());
    let mut spec = script(&format!("seq 1 {LINES}"));
    spec.limits.segment_bytes = 256 << 10;
    session.start(&spec);
    let mut runner = session.attach(1, 1);
    let (mut full, mut room, mut seen, mut last) = (0, 0, 0, 0);
    let mut silences = 0;
    loop {
        match runner.hear_within(Duration::from_millis(700)) {
            Heard::Record(record) if record.kind == Kind::Exit => break,
            Heard::Record(record) => {
                assert_eq!(record.seq, last + 1);
                last = record.seq;
                if record.kind == Kind::Out {
                    seen += 1;
                    assert_eq!(record.text(), seen.to_string());
                }
            }
            Heard::Error(error) if error.code == CODE_DISK_FULL => full += 1,
            Heard::Error(error) if error.code == CODE_DISK_OK => room += 1,
            Heard::Silence if silences < 40 => {
                // Only when it has everything does it let go of what fills the disk.
                silences += 1;
                runner.say(&ToShim::Ack {
                    durable: last,
                    prune_before: last,
                });
            }
            Heard::Hello(_) => {}
            other => panic!(
                "{other:?}: {:?}",
                std::fs::read_to_string(session.path().join("shim.log"))
            ),
        }
    }
    assert_eq!(seen, LINES);
    assert!(full > 0 && full == room, "{full} {room}");
    println!("the disk was full {full} times");
}
