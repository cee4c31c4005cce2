//! Connections by name from unmodified programs, captured and carried to the gateway.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};

use lodge_guest::client::Output;
use lodge_sandbox::plan::{Mount, Plan};
use support::{DEADLINE, Driven, Session, set_init_env, text};

/// The gateway's end: agrees to names below `allowed.example`, and answers there as a web server.
struct Gateway {
    asked: Arc<Mutex<Vec<String>>>,
}

impl Gateway {
    fn serve(listener: UnixListener) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&asked);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let Ok(connection) = connection else { return };
                let noted = Arc::clone(&noted);
                std::thread::spawn(move || answer(connection, &noted));
            }
        });
        Self { asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("lock").clone()
    }
}

/// The head of a request: its first line.
fn head(reader: &mut impl BufRead) -> Option<String> {
    let mut first = String::new();
    reader.read_line(&mut first).ok().filter(|&got| got > 0)?;
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line).ok().filter(|&got| got > 0)?;
    }
    Some(first.trim_end().to_owned())
}

fn answer(connection: UnixStream, noted: &Mutex<Vec<String>>) {
    let mut writer = connection.try_clone().expect("clone");
    let mut reader = BufReader::new(connection);
    let Some(request) = head(&mut reader) else { return };
    let target = request
        .strip_prefix("CONNECT ")
        .expect("a request for a connection");
    let target = target.strip_suffix(" HTTP/1.1").expect("a version").to_owned();
    noted.lock().expect("lock").push(target.clone());
    if !target.contains("allowed.example:") {
        let _ = writer.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\n\r\nnot so");
        return;
    }
    // In two pieces, and with the first bytes of the other side right behind.
    writer.write_all(b"HTTP/1.1 200 Connection est").expect("write");
    if target.ends_with(":22") {
        writer
            .write_all(b"ablished\r\n\r\nSSH-2.0-banner\r\n")
            .expect("write");
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).expect("read");
        writer.write_all(&rest).expect("write");
        return;
    }
    writer.write_all(b"ablished\r\n\r\n").expect("write");
    while let Some(request) = head(&mut reader) {
        let body = if request.contains("/info/refs") {
            "0123456789012345678901234567890123456789\trefs/heads/main\n".to_owned()
        } else {
            format!("{target} {request}\n")
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let _ = writer.write_all((head + &body).as_bytes());
    }
}

/// A plan in which names are answered and these ports captured, whatever the profile says.
fn with_egress(mut plan: Plan, ports: &str) -> Plan {
    set_init_env(&mut plan, "LODGE_EGRESS_PORTS", ports);
    for mount in &mut plan.mounts {
        if let Mount::Content { at, content } = mount
            && at.ends_with("resolv.conf")
        {
            "nameserver 127.0.0.1\n".clone_into(content);
        }
    }
    // Programs that know of no proxy.
    plan.guest_env
        .retain(|(name, _)| !name.to_ascii_lowercase().ends_with("_proxy"));
    plan
}

fn start(session: &Session, ports: &str) -> (Driven, Gateway) {
    let gateway = Gateway::serve(session.gateway.try_clone().expect("socket"));
    (Driven::start(&with_egress(session.plan(), ports)), gateway)
}

fn run(sandbox: &Driven, argv: &[&str]) -> Output {
    sandbox
        .start_command(argv)
        .wait_with_output(1 << 20, DEADLINE)
        .unwrap_or_else(|error| panic!("{argv:?}: {error}"))
}

#[test]
fn unmodified_programs_reach_names_through_the_gateway() {
    let session = Session::new();
    let (sandbox, gateway) = start(&session, "80,443");
    let url = "http://api.allowed.example/path";
    let expected = "api.allowed.example:80 GET /path HTTP/1.1\n";
    let curl = run(&sandbox, &["curl", "-sS", "--max-time", "20", url]);
    assert_eq!(text(&curl), expected, "{}", String::from_utf8_lossy(&curl.stderr));
    let python = format!("import urllib.request as u; print(u.urlopen('{url}').read().decode(), end='')");
    assert_eq!(text(&run(&sandbox, &["python3", "-c", &python])), expected);
    let node = format!("fetch('{url}').then(r => r.text()).then(t => process.stdout.write(t))");
    let node = run(&sandbox, &["node", "-e", &node]);
    assert_eq!(text(&node), expected, "{}", String::from_utf8_lossy(&node.stderr));
    let git = run(
        &sandbox,
        &["git", "ls-remote", "http://git.allowed.example/repository.git"],
    );
    assert!(text(&git).ends_with("refs/heads/main\n"), "{git:?}");
    let asked = gateway.asked();
    assert!(asked.contains(&"git.allowed.example:80".to_owned()), "{asked:?}");
    assert!(
        asked.iter().all(|target| target.ends_with(".allowed.example:80")),
        "{asked:?}"
    );
}

#[test]
fn what_the_gateway_denies_is_reset_and_not_taken_for_an_answer() {
    let session = Session::new();
    let (sandbox, gateway) = start(&session, "80,443");
    // By the time it comes the program may wait for the connection or for an answer already.
    for (url, reset) in [
        ("http://denied.example/", [7, 56]),
        ("https://denied.example/", [7, 35]),
    ] {
        let curl = run(&sandbox, &["curl", "-sS", url]);
        assert_eq!(text(&curl), "");
        assert!(reset.map(Some).contains(&curl.exit.code), "{url}: {curl:?}");
    }
    assert_eq!(gateway.asked(), ["denied.example:80", "denied.example:443"]);
}

#[test]
fn only_names_lead_out_and_only_at_the_captured_ports() {
    let session = Session::new();
    let (sandbox, gateway) = start(&session, "80");
    for url in [
        "http://127.0.0.1/",
        "http://127.1.0.77/",
        "http://169.254.169.254/",
        "http://10.0.0.1/",
        "http://[::1]/",
        "http://[fd00:ec2::254]/",
        "http://intranet/",
        "http://api.allowed.example:8081/",
        "http://localhost/",
    ] {
        let output = run(&sandbox, &["curl", "-sS", "-g", "--max-time", "10", url]);
        assert_ne!(output.exit.code, Some(0), "{url}");
        assert_ne!(output.exit.code, Some(28), "{url} is refused at once");
    }
    assert_eq!(gateway.asked(), Vec::<String>::new());
    let control = run(&sandbox, &["curl", "-sS", "http://api.allowed.example/"]);
    assert_eq!(control.exit.code, Some(0), "the control");
}

#[test]
fn the_other_side_may_speak_first_and_half_close_passes() {
    let session = Session::new();
    let (sandbox, _gateway) = start(&session, "22");
    let script = "
import socket
s = socket.create_connection(('host.allowed.example', 22))
f = s.makefile('rb')
print(f.readline().decode().strip())
s.sendall(b'x' * 3000000)
s.shutdown(socket.SHUT_WR)
print(len(f.read()))
";
    assert_eq!(
        text(&run(&sandbox, &["python3", "-c", script])),
        "SSH-2.0-banner\n3000000\n"
    );
}

#[test]
fn names_are_answered_over_both_transports_and_nothing_else_is() {
    let session = Session::new();
    let (sandbox, _gateway) = start(&session, "80");
    let script = "
import socket, struct
def query(name, kind):
    labels = b''.join(bytes([len(l)]) + l for l in name.split(b'.'))
    return b'\\x12\\x34\\x01\\x00\\x00\\x01\\x00\\x00\\x00\\x00\\x00\\x00' + labels + b'\\0' + struct.pack('>HH', kind, 1)
def udp(packet):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(10)
    s.sendto(packet, ('127.0.0.1', 53)); return s.recv(4096)
def tcp(packets):
    s = socket.create_connection(('127.0.0.1', 53)); s.settimeout(10); f = s.makefile('rb')
    s.sendall(b''.join(struct.pack('>H', len(p)) + p for p in packets))
    return [f.read(struct.unpack('>H', f.read(2))[0]) for _ in packets]
a, b = query(b'a.example.org', 1), query(b'b.example.org', 1)
print(socket.inet_ntoa(udp(a)[-4:]), socket.inet_ntoa(udp(b)[-4:]))
print(*(socket.inet_ntoa(r[-4:]) for r in tcp([a, b, a])))
print(*(udp(query(b'a.example.org', k))[3] & 15 for k in (28, 65, 16, 12)), udp(query(b'single', 1))[3] & 15)
udp_socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); udp_socket.sendto(b'garbage', ('127.0.0.1', 53))
print(socket.gethostbyname('a.example.org'))
";
    let output = run(&sandbox, &["python3", "-c", script]);
    assert_eq!(
        text(&output),
        "127.1.0.1 127.1.0.2\n127.1.0.1 127.1.0.2 127.1.0.1\n0 0 5 5 3\n127.1.0.1\n",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_flood_of_connections_out_leaves_room_for_the_model() {
    let session = Session::new();
    let listener = session.gateway.try_clone().unwrap();
    // A gateway that takes its time with every connection by name.
    let server = std::thread::spawn(move || {
        let mut held = Vec::new();
        loop {
            let (mut connection, _) = listener.accept().unwrap();
            let mut first = [0; 4];
            connection.read_exact(&mut first).unwrap();
            if &first != b"CONN" {
                connection.write_all(b"answered").unwrap();
                return held.len();
            }
            held.push(connection);
        }
    });
    let sandbox = Driven::start(&with_egress(session.plan(), "80"));
    let script = "
import socket, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
address = socket.gethostbyname('slow.example.org')
held = []
for _ in range(900):
    s = socket.socket(); s.setblocking(False); s.connect_ex((address, 80)); held.append(s)
s = socket.create_connection(('127.0.0.1', 8377)); s.sendall(b'GET model'); print(s.recv(100).decode())
";
    let output = run(&sandbox, &["python3", "-c", script]);
    assert_eq!(
        text(&output),
        "answered\n",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let held = server.join().unwrap();
    assert!((1..=512).contains(&held), "{held}");
}

#[test]
fn no_privilege_is_left_after_the_ports_were_opened() {
    let session = Session::new();
    let (sandbox, _gateway) = start(&session, "80");
    let status = text(&sandbox.sh("cat /proc/self/status /proc/1/status"));
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        let none = format!("{set}:\t0000000000000000");
        assert_eq!(
            status.matches(&none).count(),
            2,
            "{set} of a command and of init: {status}"
        );
    }
    let ports = "import socket; s = socket.socket(); s.bind(('127.0.0.1', 81))";
    assert_ne!(run(&sandbox, &["python3", "-c", ports]).exit.code, Some(0));
}

#[test]
fn ports_that_are_no_numbers_end_init() {
    let session = Session::new();
    let plan = with_egress(session.plan(), "80,http");
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let child = support::spawn(&plan, theirs.into());
    let output = child.wait_with_output().unwrap();
    let mut said = Vec::new();
    ours.read_to_end(&mut said).unwrap();
    assert_eq!((said, output.status.code()), (Vec::new(), Some(1)));
    assert!(String::from_utf8_lossy(&output.stderr).contains("LODGE_EGRESS_PORTS"));
}
