//! Getting more out of the broker than it was told to give.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::{Attack, Probe, Try, refused, sample};
use crate::facts::{BrokerFacts, Facts, Outcome};

pub(super) const ATTACKS: &[(&str, Probe)] = &[
    ("N06", odd_names),
    ("N07", mismatched_hosts),
    ("N08", server_names),
    ("N09", inward_addresses),
    ("N10", redirects),
    ("N11", relay_chain),
    ("N12", plain_request),
];

/// The gateway's port inside.
const PORT: u16 = 8377;
const PATIENCE: Duration = Duration::from_secs(3);
/// What the scene's servers answer with.
pub(crate) const UPSTREAM: &str = "UPSTREAM";

pub(super) trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

pub(super) fn connect(facts: &Facts) -> io::Result<Box<dyn Stream>> {
    if facts.outside {
        let stream = UnixStream::connect(&facts.gateway)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        return Ok(Box::new(stream));
    }
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, PORT))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(Box::new(stream))
}

/// Everything that comes until the other side is silent or gone; at most 64 KiB.
pub(super) fn answer(stream: &mut dyn Stream, enough: impl Fn(&str) -> bool) -> String {
    let mut all = Vec::new();
    let mut chunk = [0; 4096];
    while all.len() < 64 << 10 {
        match stream.read(&mut chunk) {
            Ok(got) if got > 0 => all.extend_from_slice(&chunk[..got]),
            _ => break,
        }
        if enough(&String::from_utf8_lossy(&all)) {
            break;
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}

fn head_is_whole(text: &str) -> bool {
    text.contains("\r\n\r\n")
}

/// Whether a tunnel stands after `request`.
fn tunnel(facts: &Facts, request: &[u8]) -> io::Result<Box<dyn Stream>> {
    let mut stream = connect(facts)?;
    stream.write_all(request)?;
    let text = answer(&mut *stream, head_is_whole);
    if text.split_whitespace().nth(1) == Some("200") {
        return Ok(stream);
    }
    refused(sample(text.as_bytes()))
}

fn connect_request(target: &[u8]) -> Vec<u8> {
    [b"CONNECT ", target, b" HTTP/1.1\r\nHost: ", target, b"\r\n\r\n"].concat()
}

/// Whether something of a server comes back through a tunnel to `target`, in which `first` is said.
fn reached(facts: &Facts, target: &str, first: &[u8]) -> Try {
    let mut stream = tunnel(facts, &connect_request(target.as_bytes()))?;
    stream.write_all(first)?;
    let text = answer(&mut *stream, |text| text.contains(UPSTREAM));
    if text.contains(UPSTREAM) {
        Ok(sample(text.as_bytes()))
    } else {
        refused("closed")
    }
}

pub(super) fn get(host: &str, header: &str) -> Vec<u8> {
    format!("GET http://{host}/ HTTP/1.1\r\nHost: {header}\r\nConnection: close\r\n\r\n").into_bytes()
}

pub(super) fn fetch(facts: &Facts, request: &[u8], wanted: &str) -> Try {
    let mut stream = connect(facts)?;
    stream.write_all(request)?;
    let text = answer(&mut *stream, |text| text.contains(wanted));
    if text.contains(wanted) {
        Ok(sample(text.as_bytes()))
    } else {
        refused(sample(text.as_bytes()))
    }
}

/// Runs `attempts` when there is a broker; outside only the allowed request, which must go through.
pub(super) fn with_broker(attack: &mut Attack<'_>, attempts: impl FnOnce(&mut Attack<'_>, &BrokerFacts)) {
    let Some(broker) = attack.facts.broker.clone() else {
        attack.push(
            "reach the broker",
            Outcome::Missing,
            false,
            false,
            "no broker answers".to_owned(),
        );
        return;
    };
    if attack.facts.outside {
        let request = get(&broker.allowed, &broker.allowed);
        let facts = attack.facts;
        attack.act("the allowed request", || fetch(facts, &request, UPSTREAM));
        return;
    }
    attempts(attack, &broker);
}

fn odd_names(attack: &mut Attack<'_>) {
    with_broker(attack, |attack, broker| {
        let view = attack.facts;
        let (good, bad) = (&broker.allowed, &broker.unlisted);
        let mut targets: Vec<Vec<u8>> = [
            format!("{bad}:443"),
            format!("{bad}%00.{good}:443"),
            format!("{bad}.:443"),
            format!("{}:443", bad.to_uppercase()),
            format!("{good}@{bad}:443"),
            format!("{good}:443@{bad}:443"),
            format!("{bad}#{good}:443"),
            format!("{bad}/{good}:443"),
            format!("{bad}?{good}:443"),
            format!("{bad}\\{good}:443"),
            format!("{bad} {good}:443"),
            format!("{good}.{bad}:443"),
            format!("x{good}:443"),
            format!("{good}:22"),
            format!("{good}:0"),
            format!("{good}:65979"),
            format!("{good}:443:22"),
            format!("{good}:+22"),
            format!("{good}: 22"),
            "xn--e1afmkfd.xn--p1ai:443".into(),
            "0177.0.0.1:443".into(),
            "0x7f000001:443".into(),
            "2130706433:443".into(),
            "127.1:443".into(),
            "127.0.0.1:443".into(),
            "[::1]:443".into(),
            "[::ffff:127.0.0.1]:443".into(),
            "localhost:443".into(),
            "169.254.169.254:80".into(),
            "[fe80::1%25lo]:443".into(),
        ]
        .into_iter()
        .map(String::into_bytes)
        .collect();
        targets.push([bad.as_bytes(), b"\0.", good.as_bytes(), b":443"].concat());
        targets.push([bad.as_bytes(), b"\xe3\x80\x82", good.as_bytes(), b":443"].concat());
        targets.push([b"\xff.", good.as_bytes(), b":443"].concat());
        for target in targets {
            let name = format!("CONNECT {}", String::from_utf8_lossy(&target).escape_debug());
            attack.act(&name, || {
                tunnel(view, &connect_request(&target)).map(|_| "connected".to_owned())
            });
        }
        for name in [
            [bad.as_bytes(), b"\0.", good.as_bytes()].concat(),
            bad.clone().into_bytes(),
            b"127.0.0.1".to_vec(),
        ] {
            attack.act(
                &format!("SOCKS to {}", String::from_utf8_lossy(&name).escape_debug()),
                || socks(view, &name),
            );
        }
    });
}

pub(super) fn socks(facts: &Facts, name: &[u8]) -> Try {
    let mut stream = connect(facts)?;
    let mut greeting = [0; 2];
    stream.write_all(&[5, 1, 0])?;
    stream.read_exact(&mut greeting)?;
    let length = u8::try_from(name.len()).unwrap_or(255);
    stream.write_all(&[&[5, 1, 0, 3, length], name, &[1, 187]].concat())?;
    let mut reply = [0; 2];
    stream.read_exact(&mut reply)?;
    if reply == [5, 0] {
        Ok("connected".to_owned())
    } else {
        refused(format!("refused with {}", reply[1]))
    }
}

fn mismatched_hosts(attack: &mut Attack<'_>) {
    with_broker(attack, |attack, broker| {
        let view = attack.facts;
        let (good, bad) = (&broker.allowed, &broker.unlisted);
        let seen = format!("host={bad}");
        attack.act("the target allowed, the Host not", || {
            fetch(view, &get(good, bad), &seen)
        });
        attack.act("the Host allowed, the target not", || {
            fetch(view, &get(bad, good), UPSTREAM)
        });
        let two = format!("GET http://{good}/ HTTP/1.1\r\nHost: {good}\r\nHost: {bad}\r\n\r\n");
        attack.act("two Hosts", || fetch(view, two.as_bytes(), &seen));
        let second = format!("GET http://{bad}/ HTTP/1.1\r\nHost: {bad}\r\n\r\n");
        let first = format!("GET http://{good}/ HTTP/1.1\r\nHost: {good}\r\n");
        for (name, between) in [
            ("a second request behind the first", "\r\n".to_owned()),
            (
                "both lengths",
                format!(
                    "Content-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                    5
                ),
            ),
            (
                "two lengths",
                "Content-Length: 0\r\nContent-Length: 40\r\n\r\n".to_owned(),
            ),
            (
                "an odd coding",
                "Transfer-Encoding: xchunked\r\nContent-Length: 0\r\n\r\n".to_owned(),
            ),
            (
                "a folded field",
                "X-A: b\r\n Content-Length: 9\r\n\r\n".to_owned(),
            ),
            (
                "a space before the colon",
                "Content-Length : 0\r\n\r\n".to_owned(),
            ),
        ] {
            let request = format!("{first}{between}{second}");
            attack.act(name, || fetch(view, request.as_bytes(), &seen));
        }
        let inside = format!("GET / HTTP/1.1\r\nHost: {bad}\r\n\r\n");
        attack.act("another Host inside a tunnel to port 80", || {
            let mut stream = tunnel(view, &connect_request(format!("{good}:80").as_bytes()))?;
            stream.write_all(inside.as_bytes())?;
            let text = answer(&mut *stream, |text| text.contains(UPSTREAM));
            if text.contains(&seen) {
                Ok(sample(text.as_bytes()))
            } else {
                refused("closed")
            }
        });
    });
}

/// The first message of a TLS client that names `server`, or names none.
fn client_hello(server: Option<&str>, encrypted: bool) -> Vec<u8> {
    let mut extensions = Vec::new();
    if let Some(server) = server {
        let name = server.as_bytes();
        let length = |extra: usize| u16::try_from(name.len() + extra).unwrap_or(0).to_be_bytes();
        extensions.extend_from_slice(&[&[0, 0][..], &length(5), &length(3), &[0], &length(0), name].concat());
    }
    extensions.extend_from_slice(&[0, 43, 0, 3, 2, 3, 4]);
    if encrypted {
        extensions.extend_from_slice(&[0xfe, 0x0d, 0, 4, 0, 0, 0, 0]);
    }
    let mut body = vec![3, 3];
    body.extend_from_slice(&[7; 32]);
    body.extend_from_slice(&[0, 0, 2, 0x13, 1, 1, 0]);
    body.extend_from_slice(&u16::try_from(extensions.len()).unwrap_or(0).to_be_bytes());
    body.extend_from_slice(&extensions);
    let length = u32::try_from(body.len()).unwrap_or(0).to_be_bytes();
    let handshake = [&[1][..], &length[1..], &body].concat();
    let length = u16::try_from(handshake.len()).unwrap_or(0).to_be_bytes();
    [&[22, 3, 1][..], &length, &handshake].concat()
}

fn server_names(attack: &mut Attack<'_>) {
    with_broker(attack, |attack, broker| {
        let view = attack.facts;
        let (good, bad) = (&broker.allowed, &broker.unlisted);
        let target = format!("{good}:443");
        attack.amount(
            "the name that was asked for",
            reached(view, &target, &client_hello(Some(good), false)).is_ok(),
            "must get through, or the rest shows nothing".to_owned(),
        );
        for (name, hello) in [
            ("another name", client_hello(Some(bad), false)),
            ("no name", client_hello(None, false)),
            ("an address as name", client_hello(Some("127.0.0.1"), false)),
            (
                "a name with a dot behind",
                client_hello(Some(&format!("{bad}.")), false),
            ),
            ("an encrypted name", client_hello(Some(bad), true)),
            ("no TLS at all", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
            ("another protocol", b"SSH-2.0-x\r\n".to_vec()),
        ] {
            attack.act(name, || reached(view, &target, &hello));
        }
        let split = client_hello(Some(bad), false);
        attack.act("another name, a byte at a time", || {
            let mut stream = tunnel(view, &connect_request(target.as_bytes()))?;
            for byte in &split {
                stream.write_all(&[*byte])?;
            }
            let text = answer(&mut *stream, |text| text.contains(UPSTREAM));
            if text.contains(UPSTREAM) {
                Ok(text)
            } else {
                refused("closed")
            }
        });
    });
}

fn inward_addresses(attack: &mut Attack<'_>) {
    with_broker(attack, |attack, broker| {
        let view = attack.facts;
        for name in &broker.inward {
            let target = format!("{name}:443");
            attack.act(&format!("CONNECT {name}"), || {
                tunnel(view, &connect_request(target.as_bytes())).map(|_| "connected".to_owned())
            });
        }
        let target = format!("{}:443", broker.rebinding);
        let hello = client_hello(Some(&broker.rebinding), false);
        let first = reached(view, &target, &hello).is_ok();
        attack.amount(
            "a name whose first answer is good",
            first,
            "must get through".to_owned(),
        );
        attack.act("the same name again", || {
            tunnel(view, &connect_request(target.as_bytes())).map(|_| "connected".to_owned())
        });
    });
}

fn redirects(attack: &mut Attack<'_>) {
    with_broker(attack, |attack, broker| {
        let view = attack.facts;
        let (from, to) = (&broker.redirecting, &broker.unlisted);
        attack.amount(
            "an answer that redirects",
            fetch(view, &get(from, from), "Location:").is_ok(),
            "must be seen, or the rest shows nothing".to_owned(),
        );
        attack.act("the broker follows it", || {
            fetch(view, &get(from, from), &format!("host={to}"))
        });
        attack.act("follow it oneself", || fetch(view, &get(to, to), UPSTREAM));
    });
}

fn relay_chain(attack: &mut Attack<'_>) {
    with_broker(attack, |attack, broker| {
        let view = attack.facts;
        let (good, bad) = (&broker.allowed, &broker.unlisted);
        attack.act("CONNECT through a relay inside", || {
            let relay = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            let port = relay.local_addr()?.port();
            let request = connect_request(format!("{bad}:443").as_bytes());
            let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
            client.write_all(&request)?;
            client.shutdown(Shutdown::Write)?;
            let (mut accepted, _) = relay.accept()?;
            let mut passed = Vec::new();
            accepted.read_to_end(&mut passed)?;
            tunnel(view, &passed).map(|_| "connected".to_owned())
        });
        let inner = connect_request(format!("{bad}:443").as_bytes());
        attack.act("CONNECT inside a tunnel to 443", || {
            reached(view, &format!("{good}:443"), &inner)
        });
        attack.act("CONNECT inside a tunnel to 80", || {
            reached(view, &format!("{good}:80"), &inner)
        });
        let own = [b"CONNECT 127.0.0.1:8377 HTTP/1.1\r\nHost: 127.0.0.1:8377\r\n\r\n".to_vec()].concat();
        attack.act("CONNECT to the broker itself", || {
            tunnel(view, &own).map(|_| "connected".to_owned())
        });
    });
}

/// For a broker whose allow list is empty.
fn plain_request(attack: &mut Attack<'_>) {
    let Some(broker) = attack.facts.broker.clone() else {
        return with_broker(attack, |_, _| {});
    };
    let view = attack.facts;
    let good = broker.allowed;
    attack.act("fetch by name", || fetch(view, &get(&good, &good), UPSTREAM));
    attack.act("CONNECT by name", || {
        tunnel(view, &connect_request(format!("{good}:443").as_bytes())).map(|_| "connected".to_owned())
    });
    attack.act("SOCKS by name", || socks(view, good.as_bytes()));
}
