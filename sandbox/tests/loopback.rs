//! The loopback of a guest and the gateway behind it.

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use support::Session;

#[test]
fn the_host_loopback_is_out_of_reach() {
    let session = Session::new();
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    TcpStream::connect(("127.0.0.1", port)).expect("the control: the host reaches it");
    let mut guest = session.start();
    for address in ["127.0.0.1", "169.254.169.254", "10.0.2.2"] {
        let script = format!("exec 3<>/dev/tcp/{address}/{port}");
        assert_ne!(
            guest.run(1, &["bash", "-c", &script]).code(),
            Some(0),
            "{address}"
        );
    }
    let gateway = guest.run(1, &["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8377"]);
    assert_eq!(gateway.code(), Some(0), "the control: the gateway's port is open");
    assert_eq!(
        guest
            .sh("cat /proc/net/dev | tail -n +3 | cut -d: -f1")
            .text()
            .trim(),
        "lo"
    );
}

/// A client that sends everything, ends its half, and prints what comes back.
const HALF_CLOSE: &str = r#"
use IO::Socket::INET;
my $s = IO::Socket::INET->new("127.0.0.1:8377") or die $!;
print $s "0123456789" x 300000; $s->flush; shutdown($s, 1);
local $/; print <$s>;
"#;

#[test]
fn the_gateway_answers_through_its_socket_after_half_close() {
    let session = Session::new();
    let gateway = session.gateway.try_clone().unwrap();
    let server = std::thread::spawn(move || {
        let (mut connection, _) = gateway.accept().unwrap();
        let mut request = Vec::new();
        connection.read_to_end(&mut request).unwrap();
        connection.write_all(&request).unwrap();
    });
    let mut guest = session.start();
    let outcome = guest.run(1, &["perl", "-e", HALF_CLOSE]);
    assert_eq!(
        outcome.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&outcome.stderr)
    );
    assert!(
        outcome.text() == "0123456789".repeat(300_000),
        "{} bytes",
        outcome.stdout.len()
    );
    server.join().unwrap();
}

#[test]
fn a_client_that_leaves_is_noticed_by_the_gateway() {
    let session = Session::new();
    let gateway = session.gateway.try_clone().unwrap();
    let mut guest = session.start();
    guest.start_command(
        1,
        &[
            "bash",
            "-c",
            "exec 3<>/dev/tcp/127.0.0.1/8377; echo hello >&3; exec sleep 1000",
        ],
    );
    let (mut connection, _) = gateway.accept().unwrap();
    connection.set_read_timeout(Some(support::DEADLINE)).unwrap();
    let mut request = [0; 6];
    connection.read_exact(&mut request).unwrap();
    assert_eq!(&request, b"hello\n");
    guest.send(lodge_guest::mux::Kind::Signal, 1, br#"{"signal":9}"#);
    assert_eq!(connection.read(&mut request).unwrap(), 0);
}

#[test]
fn many_connections_at_once_are_all_served() {
    let session = Session::new();
    let gateway = session.gateway.try_clone().unwrap();
    let server = std::thread::spawn(move || {
        for _ in 0..300 {
            gateway.accept().unwrap().0.write_all(b"x").unwrap();
        }
    });
    let mut guest = session.start();
    let client = "exec 3<>/dev/tcp/127.0.0.1/8377; read -n1 x <&3; test $x = x && echo served";
    let script = format!("for i in $(seq 300); do bash -c '{client}' & done; wait");
    assert_eq!(
        guest.run(1, &["bash", "-c", &script]).text(),
        "served\n".repeat(300)
    );
    server.join().unwrap();
}
