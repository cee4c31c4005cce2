//! Ends, signals, odd output, slow runners and full disks.

use super::*;

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
fn a_shim_whose_session_was_removed_does_not_stay() {
    let mut session = Session::new();
    session.start(&script("exec sleep 1000"));
    let mut runner = session.attach(1, 1);
    let started: Started = json(&runner.until(Kind::Started));
    drop(runner);
    std::fs::remove_dir_all(session.path()).unwrap();
    session.wait();
    wait_gone(rustix::process::Pid::from_raw(started.pid).unwrap());
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
    let name = "faults::a_full_disk_stops_the_harness_and_loses_nothing";
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

#[test]
fn a_shim_whose_runner_died_while_it_came_up_leaves_no_trace() {
    let session = Session::new();
    let mut spec = script(ECHO);
    // This process is its parent.
    spec.runner_pid = Some(std::process::id() + 1);
    let output = spawn(session.path(), &spec).wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(i32::from(EXIT_ORPHANED)));
    assert!(!session.path().join("shim.sock").exists());
    assert!(session.records().is_empty());
    let mut session = session;
    spec.runner_pid = Some(std::process::id());
    session.start(&spec);
    session.attach(1, 1).until(Kind::Started);
}
