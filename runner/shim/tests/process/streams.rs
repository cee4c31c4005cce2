//! Commands and terminals beside the harness, and bounds that are crossed.

use super::*;
use lodge_shim::journal::Limit;
use lodge_shim::stream::{MAX_STREAMS, StartStream, StreamExit, Terminal, ToStream, WINDOW};

fn start(tag: u64, script: &str, terminal: Option<Terminal>) -> ToShim<'static> {
    ToShim::Stream(ToStream::Start {
        tag,
        start: StartStream {
            argv: vec!["/bin/sh".into(), "-c".into(), script.into()],
            env: vec![("GREETING".into(), "hello".into())],
            terminal,
        },
    })
}

const TERMINAL: Option<Terminal> = Some(Terminal {
    id: 77,
    rows: 24,
    cols: 80,
    opened_at: 5,
});

/// A session whose harness waits, and its runner.
fn session() -> (Session, support::Runner) {
    let mut session = Session::new();
    session.start(&script("exec cat"));
    let mut runner = session.attach(1, 1);
    runner.until(Kind::Started);
    (session, runner)
}

/// The output of a stream up to its exit, without the journal's records between.
fn output(runner: &mut support::Runner, credit: bool) -> (Vec<u8>, StreamExit) {
    let mut bytes = Vec::new();
    loop {
        match runner.hear() {
            Heard::Output(stream, more) => {
                if credit {
                    let count = u32::try_from(more.len()).unwrap();
                    runner.say(&ToShim::Stream(ToStream::Credit { stream, bytes: count }));
                }
                bytes.extend(more);
            }
            Heard::StreamExit(exit) => return (bytes, exit),
            Heard::Record(_) | Heard::Opened(..) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_command_gets_its_environment_input_and_status_and_leaves_no_record() {
    let (session, mut runner) = session();
    let head = session.records().len();
    runner.say(&start(
        9,
        "read -r line; echo \"$GREETING $line $SECRET\"; exit 3",
        None,
    ));
    assert!(matches!(runner.hear(), Heard::Opened(9, 2)));
    runner.say(&ToShim::Stream(ToStream::Input {
        stream: 2,
        bytes: b"you\n",
    }));
    let (bytes, exit) = output(&mut runner, true);
    assert_eq!(
        bytes, b"hello you \n",
        "the harness's own variables are not for commands"
    );
    assert_eq!((exit.code, exit.signal), (Some(3), None));
    assert_eq!(session.records().len(), head, "nothing of it is journalled");
}

#[test]
fn commands_die_with_their_runner_and_terminals_do_not() {
    let (session, mut runner) = session();
    runner.say(&start(1, "echo $$; exec sleep 1000", None));
    assert!(matches!(runner.hear(), Heard::Opened(1, 2)));
    let Heard::Output(2, pid) = runner.hear() else {
        panic!()
    };
    let pid = String::from_utf8(pid).unwrap().trim().parse().unwrap();
    runner.say(&start(
        2,
        "echo shown; read -r line; echo \"got $line\"",
        TERMINAL,
    ));
    assert!(matches!(runner.hear(), Heard::Opened(2, 3)));
    assert!(matches!(runner.hear(), Heard::Output(3, bytes) if bytes == b"shown\n"));
    drop(runner);
    wait_gone(rustix::process::Pid::from_raw(pid).unwrap());
    let mut runner = session.attach(2, 1);
    let hello = runner.hello();
    assert_eq!(hello.terminals.len(), 1);
    assert_eq!(
        (hello.terminals[0].stream, hello.terminals[0].terminal.id),
        (3, 77)
    );
    assert!(matches!(runner.hear(), Heard::Output(3, bytes) if bytes == b"shown\n"));
    runner.say(&ToShim::Stream(ToStream::Input {
        stream: 3,
        bytes: b"back\n",
    }));
    let (bytes, exit) = output(&mut runner, true);
    assert_eq!((bytes.as_slice(), exit.code), (&b"got back\n"[..], Some(0)));
}

#[test]
fn a_previous_releases_runner_hears_nothing_of_streams() {
    let (session, mut runner) = session();
    runner.say(&start(1, "echo shown; exec cat", TERMINAL));
    assert!(matches!(runner.hear(), Heard::Opened(1, 2)));
    assert!(matches!(runner.hear(), Heard::Output(..)));
    let mut older = support::Runner::connect(session.path());
    older.say(&ToShim::Hello(Hello {
        version: MIN_WIRE_VERSION,
        fence: 2,
        from_seq: 1,
    }));
    assert_eq!(older.hello().version, MIN_WIRE_VERSION);
    older.until(Kind::Started);
    older.input(1, "x\n");
    assert_eq!(older.until(Kind::Out).text(), "x");
}

#[test]
fn there_is_a_bound_to_how_many() {
    let (_session, mut runner) = session();
    for tag in 0..MAX_STREAMS as u64 {
        runner.say(&start(tag, "exec sleep 1000", None));
        assert!(matches!(runner.hear(), Heard::Opened(..)));
    }
    runner.say(&start(999, "true", None));
    assert!(matches!(runner.hear(), Heard::Refused(999, reason) if reason.contains("run already")));
    runner.say(&ToShim::Stream(ToStream::Signal { stream: 2, signal: 9 }));
    let (_, exit) = output(&mut runner, true);
    assert_eq!(exit.signal, Some(9));
    runner.say(&start(1000, "true", None));
    assert!(matches!(runner.hear(), Heard::Opened(1000, _)));
}

#[test]
fn a_terminal_keeps_the_end_of_its_output() {
    let (session, mut runner) = session();
    let many = "head -c 1000000 /dev/zero | tr '\\0' 'x'; echo END; exec cat";
    runner.say(&start(1, many, TERMINAL));
    let mut seen = 0;
    while seen < 1_000_004 {
        if let Heard::Output(stream, bytes) = runner.hear() {
            seen += bytes.len();
            let bytes = u32::try_from(bytes.len()).unwrap();
            runner.say(&ToShim::Stream(ToStream::Credit { stream, bytes }));
        }
    }
    drop(runner);
    let mut runner = session.attach(2, 1);
    runner.hello();
    let mut replay = Vec::new();
    while replay.len() < WINDOW as usize {
        match runner.hear() {
            Heard::Output(_, bytes) => replay.extend(bytes),
            Heard::Record(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(replay.len(), WINDOW as usize);
    assert!(replay.ends_with(b"xEND\n"));
}

#[test]
fn a_crossed_bound_is_journalled_before_the_end() {
    let (mut session, mut runner) = session();
    runner.say(&start(1, "exec cat", TERMINAL));
    assert!(matches!(runner.hear(), Heard::Opened(1, 2)));
    // The stand-in for init reports a bound when it is asked to resize.
    runner.say(&ToShim::Stream(ToStream::Resize {
        stream: 2,
        rows: 1,
        cols: 1,
    }));
    let mut limit = None;
    let exit = loop {
        match runner.hear() {
            Heard::Record(record) if record.kind == Kind::Limit => limit = Some(json::<Limit>(&record)),
            Heard::Record(record) if record.kind == Kind::Exit => break record.seq,
            Heard::Record(_) | Heard::StreamExit(_) => {}
            other => panic!("{other:?}"),
        }
    };
    let limit = limit.expect("the bound is told before the end");
    assert_eq!(
        (limit.key.as_str(), limit.allowed, limit.found),
        ("limits.memory", 10, 20)
    );
    runner.ack(exit);
    assert!(session.wait().success());
}
