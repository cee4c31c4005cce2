//! Terminals in a sandbox, through the client of the framed stream.

mod support;

use std::time::Instant;

use lodge_guest::client::{ClientError, Command, Event};
use lodge_guest::mux::{Exit, Resize, Start};
use support::{DEADLINE, Driven, Session, text};

fn terminal(sandbox: &Driven, argv: &[&str], size: Option<Resize>) -> Command {
    let start = Start {
        pty: true,
        size,
        ..sandbox.command(argv)
    };
    sandbox.client.start(&start).expect("start")
}

/// Reads until what was read contains `end`, and returns all of it.
fn read_until(command: &Command, end: &str) -> String {
    let mut got = String::new();
    let deadline = Instant::now() + DEADLINE;
    while !got.contains(end) {
        match command.next_event_before(deadline) {
            Some(Event::Stdout(bytes)) => got += &String::from_utf8_lossy(&bytes),
            other => panic!("{other:?} after {got:?}, waiting for {end:?}"),
        }
    }
    got
}

fn exit(command: &Command) -> Exit {
    loop {
        match command.next_event_before(Instant::now() + DEADLINE) {
            Some(Event::Exit(exit)) => return exit,
            Some(Event::Stdout(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_shell_on_a_terminal_is_interactive_and_ends_with_its_input() {
    let session = Session::new();
    let sandbox = Driven::start(&session.plan());
    let shell = terminal(&sandbox, &["sh", "-i"], None);
    shell
        .write(b"tty; test -t 0 && test -t 1 && test -t 2 && echo all-$((40+2))\n")
        .unwrap();
    let said = read_until(&shell, "all-42");
    assert!(said.contains("/dev/pts/"), "{said}");
    // Its own session, with this terminal as the controlling one.
    shell
        .write(b"head -n1 /dev/tty; echo end-$?\nfrom-the-terminal\n")
        .unwrap();
    read_until(&shell, "end-0");
    shell.close_stdin().unwrap();
    assert_eq!(
        exit(&shell),
        Exit {
            code: Some(0),
            signal: None
        }
    );
}

#[test]
fn a_terminal_has_the_size_it_was_given_and_follows_changes() {
    let session = Session::new();
    let sandbox = Driven::start(&session.plan());
    let size = Resize { rows: 33, cols: 111 };
    let script = "trap 'stty size' WINCH; stty size; echo up; while :; do sleep 0.05; done";
    let shell = terminal(&sandbox, &["sh", "-c", script], Some(size));
    assert!(read_until(&shell, "up").contains("33 111"));
    shell.resize(Resize { rows: 50, cols: 200 }).unwrap();
    read_until(&shell, "50 200");
    shell.signal(9).unwrap();
    assert_eq!(exit(&shell).signal, Some(9));
}

#[test]
fn the_interrupt_character_reaches_the_foreground() {
    let session = Session::new();
    let sandbox = Driven::start(&session.plan());
    let sleeper = terminal(&sandbox, &["sh", "-c", "echo up; exec sleep 1000"], None);
    read_until(&sleeper, "up");
    sleeper.write(b"\x03").unwrap();
    assert_eq!(exit(&sleeper).signal, Some(2));
}

#[test]
fn everything_a_terminal_showed_arrives_before_the_exit() {
    let session = Session::new();
    let sandbox = Driven::start(&session.plan());
    let shell = terminal(&sandbox, &["sh", "-c", "seq 1 200000; echo the-last"], None);
    let mut got = Vec::new();
    loop {
        match shell.next_event_before(Instant::now() + DEADLINE) {
            Some(Event::Stdout(bytes)) => got.extend(bytes),
            Some(Event::Exit(exit)) => {
                assert_eq!(exit.code, Some(0));
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    let expected = (1..=200_000).fold(String::new(), |text, n| text + &n.to_string() + "\r\n");
    assert!(
        got == format!("{expected}the-last\r\n").as_bytes(),
        "{} bytes",
        got.len()
    );
}

#[test]
fn what_the_terminal_leaves_behind_does_not_hold_back_its_exit() {
    let session = Session::new();
    let sandbox = Driven::start(&session.plan());
    let shell = terminal(&sandbox, &["sh", "-c", "trap '' HUP; sleep 1000 & echo up"], None);
    assert_eq!(exit(&shell).code, Some(0));
}

#[test]
fn nothing_can_be_typed_into_a_terminal_from_inside() {
    let session = Session::new();
    let sandbox = Driven::start(&session.plan());
    let script = "
import fcntl, sys, termios
for name, request in (('TIOCSTI', termios.TIOCSTI), ('TIOCLINUX', 0x541C), ('TIOCSETD', termios.TIOCSETD)):
    try:
        fcntl.ioctl(0, request, b'\\x00\\x00\\x00\\x00')
        print(name, 'worked')
    except OSError as error:
        print(name, error.errno)
# The control: an ordinary request works on the same descriptor.
print(len(fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8))))
";
    let python = terminal(&sandbox, &["python3", "-c", script], None);
    let said = read_until(&python, "8\r\n");
    for name in ["TIOCSTI", "TIOCLINUX", "TIOCSETD"] {
        assert!(said.contains(&format!("{name} 1\r\n")), "{name}: {said}");
    }
}

#[test]
fn a_client_sees_what_happens_to_its_commands() {
    let session = Session::new();
    let sandbox = Driven::start(&session.plan());
    assert_eq!(text(&sandbox.sh("cat; echo here")), "here\n");
    let failed = sandbox
        .start_command(&["/no/such/program"])
        .wait_with_output(1, DEADLINE);
    assert!(matches!(failed, Err(ClientError::StartFailed(_))), "{failed:?}");
    let long = sandbox
        .start_command(&["yes"])
        .wait_with_output(1 << 20, DEADLINE);
    assert!(matches!(long, Err(ClientError::TooLong { .. })), "{long:?}");
    let endless = sandbox.start_command(&["sleep", "1000"]);
    let echo = sandbox.start_command(&["cat"]);
    // More than fits on the way, so that both directions have to move.
    let sent = vec![b'x'; 12 << 20];
    let got = std::thread::scope(|scope| {
        scope.spawn(|| {
            echo.write(&sent).unwrap();
            echo.close_stdin().unwrap();
        });
        let mut got = 0;
        loop {
            match echo.next_event_before(Instant::now() + DEADLINE) {
                Some(Event::Stdout(bytes)) => got += bytes.len(),
                Some(Event::Exit(_)) => break got,
                other => panic!("{other:?}"),
            }
        }
    });
    assert_eq!(got, sent.len());
    assert_eq!(sandbox.end(), Some(0));
    assert_eq!(
        endless.next_event_before(Instant::now() + DEADLINE),
        Some(Event::Gone)
    );
}

#[test]
fn a_command_nobody_reads_is_held_back_and_others_go_on() {
    let session = Session::new();
    let sandbox = Driven::start(&session.plan());
    let unread = sandbox.start_command(&["sh", "-c", "echo $$ > /tmp/pid; exec seq 1 10000000"]);
    for _ in 0..20 {
        assert_eq!(text(&sandbox.sh("echo fine")), "fine\n");
    }
    // It has not come to its end, and its output was not lost.
    assert_eq!(
        text(&sandbox.sh("kill -0 $(cat /tmp/pid) && echo lives")),
        "lives\n"
    );
    let mut bytes = 0;
    loop {
        match unread.next_event_before(Instant::now() + DEADLINE) {
            Some(Event::Stdout(more)) => bytes += more.len(),
            Some(Event::Exit(exit)) => break assert_eq!(exit.code, Some(0)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(bytes, 78_888_897);
}

#[test]
fn a_shutdown_is_awaited() {
    let session = Session::new();
    let sandbox = Driven::start(&session.plan());
    let gentle = sandbox.start_command(&[
        "sh",
        "-c",
        "exec 2>/dev/null; trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.1; done",
    ]);
    assert_eq!(gentle.next_event(), Event::Stdout(b"up\n".to_vec()));
    let Driven {
        client, mut launcher, ..
    } = sandbox;
    client.shutdown(DEADLINE).unwrap();
    assert_eq!(launcher.wait().unwrap().code(), Some(0));
    assert_eq!(gentle.next_event(), Event::Stdout(b"bye\n".to_vec()));
    assert!(matches!(
        gentle.next_event(),
        Event::Exit(Exit { code: Some(3), .. })
    ));
}
