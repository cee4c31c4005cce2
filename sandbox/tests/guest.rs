//! Guest init in a real sandbox: commands, streams, signals, the end.

mod support;

use std::io::Read;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Stdio;

use lodge_guest::client::Client;
use lodge_guest::mux::{Exit, Kind, Start, Started};
use lodge_sandbox::plan::{Access, Mount, Source};
use lodge_sandbox::policy::{Nesting, Policy, Profile};
use support::{DEADLINE, Guest, Session, bwrap, compiled, eventually, processes_with};

#[test]
fn a_harness_that_echoes_gets_its_input_and_gives_it_back_intact() {
    let session = Session::new();
    let mut guest = session.start();
    guest.start_command(1, &["cat"]);
    let sent: Vec<u8> = (0..3_000_000u32).flat_map(u32::to_le_bytes).collect();
    let mut writer = guest.mux.try_clone().unwrap();
    let wire = {
        let mut wire = Vec::new();
        for chunk in sent.chunks(100_000) {
            lodge_guest::mux::encode_into(Kind::Stdin, 1, chunk, &mut wire).unwrap();
        }
        lodge_guest::mux::encode_into(Kind::Stdin, 1, &[], &mut wire).unwrap();
        wire
    };
    let feeder = std::thread::spawn(move || std::io::Write::write_all(&mut writer, &wire));
    let outcome = guest.finish(1);
    feeder.join().unwrap().unwrap();
    assert_eq!(outcome.code(), Some(0));
    assert!(
        outcome.stdout == sent,
        "{} of {} bytes came back",
        outcome.stdout.len(),
        sent.len()
    );
}

#[test]
fn ten_megabytes_of_output_arrive_before_the_exit_and_intact() {
    let session = Session::new();
    let mut guest = session.start();
    let outcome = guest.sh("seq 1 1500000; echo done >&2");
    let expected = (1..=1_500_000).fold(String::new(), |text, n| text + &n.to_string() + "\n");
    assert!(expected.len() > 10_000_000);
    assert!(
        outcome.text() == expected,
        "{} of {} bytes",
        outcome.stdout.len(),
        expected.len()
    );
    assert_eq!(outcome.stderr, b"done\n");
}

#[test]
fn exit_codes_and_signals_are_told_apart() {
    let session = Session::new();
    let mut guest = session.start();
    assert_eq!(
        guest.sh("exit 42").exit,
        Some(Exit {
            code: Some(42),
            signal: None
        })
    );
    assert_eq!(
        guest.sh("kill -KILL $$").exit,
        Some(Exit {
            code: None,
            signal: Some(9)
        })
    );
    // A real-time signal, which has no name.
    assert_eq!(
        guest.sh("kill -40 $$").exit,
        Some(Exit {
            code: None,
            signal: Some(40)
        })
    );
}

#[test]
fn a_signal_reaches_the_whole_process_group() {
    let session = Session::new();
    let mut guest = session.start();
    guest.start_command(5, &["sh", "-c", "sleep 1000 & echo up; wait"]);
    while guest.frame().unwrap().kind != Kind::Stdout {}
    guest.send(Kind::Signal, 5, br#"{"signal":15}"#);
    assert_eq!(
        guest.finish(5).exit,
        Some(Exit {
            code: None,
            signal: Some(15)
        })
    );
    assert!(!guest.sh("cat /proc/[0-9]*/comm").text().contains("sleep"));
}

#[test]
fn what_cannot_be_started_is_answered_and_the_rest_goes_on() {
    let session = Session::new();
    let mut guest = session.start();
    guest.start_command(1, &["/no/such/program"]);
    let frame = guest.frame().unwrap();
    assert_eq!(frame.kind, Kind::StartFailed);
    assert!(String::from_utf8_lossy(&frame.payload).contains("/no/such/program"));
    guest.send(Kind::Start, 2, b"not json");
    assert_eq!(guest.frame().unwrap().kind, Kind::StartFailed);
    assert_eq!(guest.sh("echo fine").text(), "fine\n");
}

#[test]
fn a_grandchild_that_holds_the_pipes_does_not_hold_back_the_exit() {
    let session = Session::new();
    let mut guest = session.start();
    // The daemon writes only after it was told to, which happens after the shell's exit is known.
    guest.start_command(
        3,
        &[
            "sh",
            "-c",
            "mkfifo /tmp/gate; (read go < /tmp/gate; echo late) & echo early",
        ],
    );
    let outcome = guest.finish(3);
    assert_eq!(outcome.code(), Some(0));
    assert_eq!(outcome.text(), "early\n");
    guest.start_command(4, &["sh", "-c", "echo go > /tmp/gate"]);
    let mut late = Vec::new();
    while !late.ends_with(b"\n") {
        let frame = guest.frame().unwrap();
        if frame.stream == 3 && frame.kind == Kind::Stdout {
            late.extend(frame.payload);
        }
    }
    assert_eq!(late, b"late\n");
}

#[test]
fn orphans_are_reaped() {
    let session = Session::new();
    let mut guest = session.start();
    let zombies = "cat /proc/[0-9]*/stat 2>/dev/null | grep -c ') Z '";
    // The control: a zombie that its own parent leaves lying about is seen by the same command.
    let seen = guest.sh(&format!(
        "sh -c 'true & exec sleep 1000' & p=$!; until {zombies}; do :; done; kill $p"
    ));
    assert!(seen.text().ends_with("1\n"), "{}", seen.text());
    guest.sh("for i in $(seq 200); do (true & ) ; done");
    eventually("no zombie is left", || guest.sh(zombies).text() == "0\n");
}

#[test]
fn a_daemon_dies_with_the_sandbox() {
    let session = Session::new();
    let mut guest = session.start();
    let mark = format!("{}.4711", std::process::id());
    guest.sh(&format!(
        "setsid sh -c 'trap \"\" TERM HUP; sleep 1000; : {mark}' >/dev/null 2>&1 </dev/null &"
    ));
    eventually("the daemon runs", || !processes_with(&mark).is_empty());
    guest.mux.shutdown(std::net::Shutdown::Both).unwrap();
    guest.bwrap.wait().unwrap();
    eventually("the daemon is gone", || processes_with(&mark).is_empty());
}

#[test]
fn the_tree_dies_with_its_launcher() {
    let session = Session::new();
    let mut guest = session.start();
    let mark = format!("{}.4712", std::process::id());
    guest.start_command(1, &["sh", "-c", &format!("sleep 1000; : {mark}")]);
    let _: Started = guest.frame().unwrap().parse().unwrap();
    eventually("the command runs", || !processes_with(&mark).is_empty());
    guest.bwrap.kill().unwrap();
    guest.bwrap.wait().unwrap();
    eventually("the tree is gone", || processes_with(&mark).is_empty());
}

#[test]
fn a_shutdown_ends_even_what_ignores_it() {
    let session = Session::new();
    let mut guest = session.start();
    guest.start_command(
        1,
        &["sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done"],
    );
    while guest.frame().unwrap().kind != Kind::Stdout {}
    guest.send(Kind::Shutdown, 0, &[]);
    while guest.frame().is_some() {}
    assert_eq!(guest.bwrap.wait().unwrap().code(), Some(0));
}

#[test]
fn a_damaged_stream_ends_the_sandbox() {
    let session = Session::new();
    let mut guest = session.start();
    std::io::Write::write_all(&mut guest.mux, &[0xff; 64]).unwrap();
    assert!(guest.frame().is_none());
    assert_eq!(guest.bwrap.wait().unwrap().code(), Some(1));
}

#[test]
fn output_waits_for_credit_once_credit_is_used() {
    let session = Session::new();
    let mut guest = session.start();
    guest.start_command(4, &["sh", "-c", "read go; printf 0123456789"]);
    guest.send(Kind::Credit, 4, &4u32.to_le_bytes());
    guest.send(Kind::Stdin, 4, b"go\n");
    let mut got = Vec::new();
    while got.len() < 4 {
        let frame = guest.frame().unwrap();
        if frame.kind == Kind::Stdout {
            got.extend(frame.payload);
        }
    }
    assert_eq!(got, b"0123");
    // Another command's frames pass meanwhile, and none of the first's.
    assert_eq!(guest.sh("echo other").text(), "other\n");
    guest.send(Kind::Credit, 4, &100u32.to_le_bytes());
    assert_eq!(guest.finish(4).stdout, b"456789");
}

#[test]
fn init_started_by_descriptor_paths_works_as_well() {
    let session = Session::new();
    let mut older = bwrap();
    older.bind_fd = false;
    let mut guest = Guest::start(&session.plan(), &older);
    assert_eq!(guest.sh("echo fine").text(), "fine\n");
}

#[test]
fn walls_that_cannot_be_read_end_init_before_anything_runs() {
    let session = Session::new();
    for walls in [
        "{",
        r#"{"seccomp":true,"unknown":1}"#,
        r#"{"nesting":true,"landlock":{"read":[],"write":[]}}"#,
    ] {
        let mut plan = session.plan();
        plan.init_env
            .iter_mut()
            .find(|(name, _)| name == lodge_guest::walls::ENV)
            .unwrap()
            .1 = walls.into();
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let mut command = compiled(&plan, &bwrap());
        let output = command
            .spawn(theirs.into(), Stdio::piped())
            .unwrap()
            .wait_with_output()
            .unwrap();
        let mut said = Vec::new();
        ours.read_to_end(&mut said).unwrap();
        assert_eq!((said, output.status.code()), (Vec::new(), Some(1)), "{walls}");
        assert!(
            String::from_utf8_lossy(&output.stderr).starts_with("lodge-init: "),
            "{walls}"
        );
    }
}

#[test]
fn init_refuses_to_be_anything_but_the_first_process() {
    let output = std::process::Command::new(support::init_binary())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("PID 1"));
}

#[test]
fn init_can_be_told_to_connect_to_a_socket_instead() {
    let session = Session::new();
    let path = session.root.path().canonicalize().unwrap().join("mux.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let mut plan = session.plan();
    let last = plan.mounts.len() - 1;
    plan.mounts.insert(
        last,
        Mount::Bind {
            from: path,
            at: "/run/lodge/mux.sock".into(),
            access: Access::Read,
            source: Source::File,
        },
    );
    plan.init_env.retain(|(name, _)| name != lodge_guest::mux::ENV_FD);
    support::set_init_env(&mut plan, lodge_guest::mux::ENV_SOCKET, "/run/lodge/mux.sock");
    let (_unused, theirs) = UnixStream::pair().unwrap();
    let mut launcher = support::spawn(&plan, theirs.into());
    let (stream, _) = listener.accept().unwrap();
    let client = Client::new(stream.into(), DEADLINE).unwrap();
    let start = Start {
        argv: ["sh", "-c", "echo here; ls /proc/self/fd"]
            .map(String::from)
            .to_vec(),
        env: plan.guest_env,
        cwd: "/tmp".into(),
        pty: false,
        size: None,
    };
    let output = client
        .start(&start)
        .unwrap()
        .wait_with_output(1000, DEADLINE)
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "here\n0\n1\n2\n3\n");
    drop(client);
    assert_eq!(launcher.wait().unwrap().code(), Some(0));
}

#[test]
fn nothing_is_started_while_the_sandbox_ends() {
    let session = Session::new();
    let mut guest = session.start();
    guest.start_command(
        1,
        &["sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done"],
    );
    while guest.frame().unwrap().kind != Kind::Stdout {}
    guest.send(Kind::Shutdown, 0, &[]);
    guest.start_command(2, &["echo", "late"]);
    let answer = loop {
        let frame = guest.frame().unwrap();
        if frame.stream == 2 {
            break frame.kind;
        }
    };
    assert_eq!(answer, Kind::StartFailed);
}

#[test]
fn where_it_is_allowed_a_sandbox_can_hold_another_and_settings_stay_out_of_reach() {
    let session = Session::new();
    let mut policy = Policy::of(Profile::Development);
    policy.nesting = Nesting::OneLevel;
    let mut guest = Guest::start(&session.plan_for(&policy), &bwrap());
    let inner = "bwrap --unshare-user --unshare-pid --ro-bind / / --tmpfs /tmp sh -c 'echo inner; ls /tmp'";
    assert_eq!(guest.sh(inner).text(), "inner\n");
    let setting = "/proc/sys/kernel/core_pattern";
    let write =
        format!("cat {setting} > /tmp/value && echo read; cat /tmp/value > {setting} && echo written");
    assert_eq!(guest.sh(&write).text(), "read\n");
    let inside = format!(
        "bwrap --unshare-user --bind / / --tmpfs /tmp sh -c \"{write}; mount -o remount,rw /proc/sys && echo remounted\""
    );
    assert_eq!(guest.sh(&inside).text(), "read\n");
}
