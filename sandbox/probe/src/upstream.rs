//! Servers that stand for the internet behind the broker: they answer with who was asked for.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::attack::UPSTREAM;
use crate::facts::BrokerFacts;

/// Addresses that stand for public servers.
const GOOD: IpAddr = IpAddr::V4(Ipv4Addr::new(93, 184, 215, 14));
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(93, 184, 215, 15));

/// Names by what they resolve to.
pub(crate) const ALLOWED: &str = "allowed.example.com";
const UNLISTED: &str = "unlisted.example.net";
const REBINDING: &str = "rebinding.example.com";
const REDIRECTING: &str = "redirecting.example.com";
/// Allowed names whose addresses must not be dialled.
const INWARD: &[(&str, &str)] = &[
    ("loopback.example.com", "127.0.0.1"),
    ("loopback6.example.com", "::1"),
    ("private.example.com", "10.1.2.3"),
    ("link-local.example.com", "169.254.169.254"),
    ("carrier.example.com", "100.64.0.1"),
    ("mapped.example.com", "::ffff:127.0.0.1"),
    ("nat64.example.com", "64:ff9b::7f00:1"),
    ("six-to-four.example.com", "2002:7f00:1::1"),
    ("unique-local.example.com", "fd00:ec2::254"),
    ("unspecified.example.com", "0.0.0.0"),
    ("multicast.example.com", "224.0.0.1"),
];

/// The servers; they end when this is dropped.
#[derive(Debug)]
pub(crate) struct Upstream {
    port: u16,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Upstream {
    pub(crate) fn new() -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let stop = Arc::new(AtomicBool::new(false));
        let ended = stop.clone();
        let thread = std::thread::Builder::new()
            .name("upstream".into())
            .spawn(move || {
                for stream in listener.incoming() {
                    if ended.load(Ordering::SeqCst) {
                        break;
                    }
                    if let Ok(stream) = stream {
                        let _ = std::thread::Builder::new().spawn(move || answer(stream));
                    }
                }
            })?;
        Ok(Self {
            port,
            stop,
            thread: Some(thread),
        })
    }

    /// Names as the broker's resolver knows them.
    pub(crate) fn names() -> Vec<(String, Vec<Vec<IpAddr>>)> {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let mut names = vec![
            (ALLOWED.to_owned(), vec![vec![GOOD]]),
            (UNLISTED.to_owned(), vec![vec![OTHER]]),
            (REBINDING.to_owned(), vec![vec![GOOD], vec![loopback]]),
            (REDIRECTING.to_owned(), vec![vec![GOOD]]),
        ];
        let inward = INWARD
            .iter()
            .filter_map(|(name, address)| Some(((*name).to_owned(), vec![vec![address.parse().ok()?]])));
        names.extend(inward);
        names
    }

    /// Names that the policy allows.
    pub(crate) fn allow() -> Vec<String> {
        let fixed = [ALLOWED, REBINDING, REDIRECTING].into_iter();
        fixed
            .chain(INWARD.iter().map(|(name, _)| *name))
            .map(str::to_owned)
            .collect()
    }

    pub(crate) fn reroute(&self) -> Vec<(SocketAddr, SocketAddr)> {
        let here = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), self.port);
        let pairs = [GOOD, OTHER]
            .into_iter()
            .flat_map(|address| [80, 443].map(|port| SocketAddr::new(address, port)));
        pairs.map(|address| (address, here)).collect()
    }

    pub(crate) fn facts(own_key: String, foreign_key: String) -> BrokerFacts {
        BrokerFacts {
            allowed: ALLOWED.to_owned(),
            unlisted: UNLISTED.to_owned(),
            inward: INWARD.iter().map(|(name, _)| (*name).to_owned()).collect(),
            rebinding: REBINDING.to_owned(),
            redirecting: REDIRECTING.to_owned(),
            foreign_key,
            own_key,
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Answers every request on a connection with its Host; what is no request, with the mark alone.
fn answer(mut stream: TcpStream) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let mut waiting = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(got) = stream.read(&mut chunk) {
        if got == 0 {
            return;
        }
        waiting.extend_from_slice(&chunk[..got]);
        let text = String::from_utf8_lossy(&waiting).into_owned();
        if !text.starts_with("GET ") {
            let _ = stream.write_all(format!("{UPSTREAM} raw").as_bytes());
            return;
        }
        let Some(end) = text.find("\r\n\r\n") else {
            continue;
        };
        let reply = reply(&text[..end]);
        if stream.write_all(reply.as_bytes()).is_err() {
            return;
        }
        waiting.drain(..(end + 4).min(waiting.len()));
    }
}

fn reply(head: &str) -> String {
    let host = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("host").then(|| value.trim().to_owned())
    });
    let host = host.unwrap_or_default();
    if host == REDIRECTING {
        return format!("HTTP/1.1 302 Found\r\nLocation: http://{UNLISTED}/\r\nContent-Length: 0\r\n\r\n");
    }
    let body = format!("{UPSTREAM} host={host}");
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}
