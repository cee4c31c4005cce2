//! Clients of a gateway: closed loops over connections that stay open. Written by hand on sockets for the same reason
//! as the model; the answers are read to their end and only counted.

use crate::clock::now_ns;
use crate::marker;
use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;

/// Not counted at the beginning of a run: connections are made, caches filled.
const WARM_UP: Duration = Duration::from_millis(300);
/// Streams begin over this long, so that their chunks do not come all at once.
const SPREAD: Duration = Duration::from_secs(1);

/// What is to be done.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Spec {
    pub(super) targets: Vec<Target>,
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
    /// Of a request's body.
    pub(super) bytes: usize,
    pub(super) connections: usize,
    pub(super) work: Work,
}

/// Where a connection goes; they are used in turn.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Target {
    pub(super) at: Address,
    pub(super) key: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Address {
    Tcp(std::net::SocketAddr),
    Unix(PathBuf),
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) enum Work {
    /// Whole answers, one after the other, for so many seconds.
    Requests { seconds: f64 },
    /// So many short streams, one after the other; the time to the first marker of each.
    FirstChunk { count: u64 },
    /// One stream a connection, cut off when it is late by as much again as it should take.
    Streams { chunks: u64, period_us: u64 },
}

/// What was seen. Times are in nanoseconds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Outcome {
    /// Requests, or chunks.
    pub(super) done: u64,
    /// Requests with those of the warm-up.
    pub(super) all: u64,
    /// Chunks that should have come.
    pub(super) wanted: u64,
    pub(super) seconds: f64,
    pub(super) p50: u64,
    pub(super) p99: u64,
    /// The first thing that went wrong.
    pub(super) problem: Option<String>,
    pub(super) problems: u64,
}

#[derive(Default)]
struct Seen {
    times: Vec<u64>,
    all: u64,
    problem: Option<String>,
    problems: u64,
}

type Record = Arc<Mutex<Seen>>;

/// Does it and says what was seen on standard output.
pub(super) async fn run(file: &Path) -> anyhow::Result<()> {
    let spec: Spec = serde_json::from_slice(&std::fs::read(file)?)?;
    let record: Record = Arc::default();
    let begun = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    for index in 0..spec.connections {
        let (spec, record) = (spec.clone(), Arc::clone(&record));
        clients.spawn(async move {
            if let Err(error) = client(&spec, index, begun, &record).await {
                let mut seen = record.lock().unwrap_or_else(PoisonError::into_inner);
                seen.problems += 1;
                seen.problem.get_or_insert_with(|| format!("{error:#}"));
            }
        });
    }
    let limit = match spec.work {
        Work::Requests { seconds } => WARM_UP + Duration::from_secs_f64(seconds + 10.0),
        Work::FirstChunk { .. } => Duration::from_mins(1),
        Work::Streams { chunks, period_us } => Duration::from_micros(chunks * period_us) * 2 + SPREAD * 2,
    };
    let _late = tokio::time::timeout(limit, async { while clients.join_next().await.is_some() {} }).await;
    clients.abort_all();
    let seen = std::mem::take(&mut *record.lock().unwrap_or_else(PoisonError::into_inner));
    println!(
        "{}",
        serde_json::to_string(&outcome(&spec, seen, begun.elapsed()))?
    );
    Ok(())
}

fn outcome(spec: &Spec, mut seen: Seen, took: Duration) -> Outcome {
    seen.times.sort_unstable();
    let at = |share: usize| {
        seen.times
            .get(seen.times.len() * share / 100)
            .copied()
            .unwrap_or(0)
    };
    let done = seen.times.len() as u64;
    let (wanted, seconds) = match spec.work {
        Work::Requests { seconds } => (done, seconds),
        Work::FirstChunk { count } => (count, took.as_secs_f64()),
        Work::Streams { chunks, .. } => (chunks * spec.connections as u64, took.as_secs_f64()),
    };
    Outcome {
        done,
        all: seen.all,
        wanted,
        seconds,
        p50: at(50),
        p99: at(99),
        problem: seen.problem,
        problems: seen.problems,
    }
}

async fn client(spec: &Spec, index: usize, begun: Instant, record: &Record) -> anyhow::Result<()> {
    let target = &spec.targets[index % spec.targets.len()];
    let locked = || record.lock().unwrap_or_else(PoisonError::into_inner);
    let note = |time: u64| locked().times.push(time);
    match spec.work {
        Work::Requests { seconds } => {
            let request = request(spec, target, "");
            let mut connection = Connection::open(&target.at).await?;
            let (from, until) = (
                begun + WARM_UP,
                begun + WARM_UP + Duration::from_secs_f64(seconds),
            );
            while Instant::now() < until {
                let sent = now_ns();
                connection.ask(&request, |_, _| {}).await?;
                locked().all += 1;
                let now = Instant::now();
                if now >= from && now < until {
                    note(now_ns() - sent);
                }
            }
        }
        Work::FirstChunk { count } => {
            let request = request(spec, target, "stamp 3 2000");
            let mut connection = Connection::open(&target.at).await?;
            for _ in 0..count {
                let sent = now_ns();
                let mut first = None;
                connection
                    .ask(&request, |now, text| {
                        marker::scan(text, |_, _| first = first.or(Some(now)));
                    })
                    .await?;
                note(first.context("a stream without a marker")? - sent);
            }
        }
        Work::Streams { chunks, period_us } => {
            let request = request(spec, target, &format!("stamp {chunks} {period_us}"));
            let share = u32::try_from(index)? * 1000 / u32::try_from(spec.connections)?;
            tokio::time::sleep_until(begun + SPREAD * share / 1000).await;
            let mut connection = Connection::open(&target.at).await?;
            connection
                .ask(&request, |now, text| {
                    marker::scan(text, |made, _| note(now.saturating_sub(made)));
                })
                .await?;
        }
    }
    Ok(())
}

/// Head and body of the request that a connection sends again and again.
fn request(spec: &Spec, target: &Target, directive: &str) -> Vec<u8> {
    let stream = if directive.is_empty() {
        ""
    } else {
        ",\"stream\":true"
    };
    let fixed = format!(
        "{{\"model\":\"gpt-4o-mini\"{stream},\"max_tokens\":1000,\"messages\":[{{\"role\":\"user\",\"content\":\" {directive}\"}}]}}"
    );
    let padding = "lodge ".repeat(spec.bytes.saturating_sub(fixed.len()) / 6);
    let body = fixed.replacen("\" ", &format!("\"{padding} "), 1);
    let mut head = format!(
        "POST {} HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\nauthorization: Bearer {}\r\n\
         content-length: {}\r\n",
        spec.path,
        target.key,
        body.len()
    );
    for (name, value) in &spec.headers {
        // Writing to a string cannot fail.
        let _ = write!(head, "{name}: {value}\r\n");
    }
    (head + "\r\n" + &body).into_bytes()
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

struct Connection {
    stream: Box<dyn Stream>,
    bytes: Vec<u8>,
}

impl Connection {
    async fn open(address: &Address) -> anyhow::Result<Self> {
        let stream: Box<dyn Stream> = match address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
            Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
        };
        Ok(Self {
            stream,
            bytes: Vec::with_capacity(16 << 10),
        })
    }

    async fn more(&mut self) -> anyhow::Result<u64> {
        let count = self.stream.read_buf(&mut self.bytes).await?;
        ensure!(count > 0, "the gateway closed the connection");
        Ok(now_ns())
    }

    /// Sends a request and reads the answer to its end. `each` gets whole lines of it with the time of their reading.
    async fn ask(&mut self, request: &[u8], mut each: impl FnMut(u64, &[u8])) -> anyhow::Result<()> {
        self.stream.write_all(request).await?;
        let mut now = self.more().await?;
        let end = loop {
            if let Some(end) = memchr::memmem::find(&self.bytes, b"\r\n\r\n") {
                break end;
            }
            now = self.more().await?;
        };
        let head = std::str::from_utf8(&self.bytes[..end])?.to_ascii_lowercase();
        self.bytes.drain(..end + 4);
        if !head.starts_with("http/1.1 200") {
            let _ = self.more().await;
            let body = String::from_utf8_lossy(&self.bytes);
            let body: String = body.chars().take(200).collect();
            bail!("{} {body}", head.lines().next().unwrap_or_default());
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        if let Some(length) = length {
            let length: usize = length.trim().parse()?;
            while self.bytes.len() < length {
                self.more().await?;
            }
            self.bytes.drain(..length);
            return Ok(());
        }
        ensure!(
            head.contains("transfer-encoding: chunked"),
            "an answer without a length"
        );
        let mut lines = Vec::new();
        while !self.take_chunks(&mut lines)? {
            deliver(&mut lines, now, &mut each);
            now = self.more().await?;
        }
        deliver(&mut lines, now, &mut each);
        Ok(())
    }

    /// Moves the data of all whole chunks that are there; whether the last one was among them.
    fn take_chunks(&mut self, lines: &mut Vec<u8>) -> anyhow::Result<bool> {
        let mut at = 0;
        let mut is_over = false;
        while let Some(line) = memchr::memmem::find(&self.bytes[at..], b"\r\n") {
            let size = std::str::from_utf8(&self.bytes[at..at + line])?;
            let size = usize::from_str_radix(size.trim(), 16).context("the size of a chunk")?;
            let begin = at + line + 2;
            let Some(data) = self.bytes.get(begin..begin + size + 2) else {
                break;
            };
            lines.extend_from_slice(&data[..size]);
            at = begin + size + 2;
            if size == 0 {
                is_over = true;
                break;
            }
        }
        self.bytes.drain(..at);
        Ok(is_over)
    }
}

fn deliver(lines: &mut Vec<u8>, now: u64, each: &mut impl FnMut(u64, &[u8])) {
    if let Some(end) = memchr::memrchr(b'\n', lines) {
        each(now, &lines[..end]);
        lines.drain(..=end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(bytes: usize) -> Spec {
        Spec {
            targets: vec![Target {
                at: Address::Unix("x".into()),
                key: "k".into(),
            }],
            path: "/v1/chat/completions".into(),
            headers: vec![],
            bytes,
            connections: 1,
            work: Work::FirstChunk { count: 1 },
        }
    }

    #[test]
    fn a_body_is_json_of_the_wanted_size() {
        for bytes in [200, 100_000] {
            let spec = spec(bytes);
            let request = request(&spec, &spec.targets[0], "stamp 3 2000");
            let text = String::from_utf8(request).unwrap();
            let (_, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(body.len() > bytes - 10 && body.len() <= bytes, "{}", body.len());
            let value: serde_json::Value = serde_json::from_str(body).unwrap();
            assert!(
                value["messages"][0]["content"]
                    .as_str()
                    .unwrap()
                    .ends_with(" stamp 3 2000")
            );
        }
    }

    #[tokio::test]
    async fn chunks_are_taken_whole_wherever_they_are_cut() {
        let (stream, _other) = UnixStream::pair().unwrap();
        let mut connection = Connection {
            stream: Box::new(stream),
            bytes: Vec::new(),
        };
        let mut lines = Vec::new();
        let wire = b"5\r\nhello\r\n1\r\n\n\r\n0\r\n\r\n";
        for (index, byte) in wire.iter().enumerate() {
            connection.bytes.push(*byte);
            assert_eq!(
                connection.take_chunks(&mut lines).unwrap(),
                index == wire.len() - 1
            );
        }
        assert_eq!(lines, b"hello\n");
    }
}
