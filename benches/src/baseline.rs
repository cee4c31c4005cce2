//! What a relay costs that does nothing but relay: frames from a Unix socket to WebSockets, by tokio-tungstenite.

use crate::clock::{now_ns, sleep_until};
use crate::load::{self, Bounds, Conn, Seen, Until};
use crate::proc::{CpuMeter, Server, memory};
use crate::report::{Cells, Row, Sizes, nanos, per, rate};
use crate::{marker, ws};
use anyhow::Context;
use futures_util::{SinkExt, StreamExt};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream as BlockingUnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

/// Events a slow client may be behind before it loses some.
const CHANNEL: usize = 1 << 16;

/// When a client's socket is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Flush {
    /// After each event.
    Each,
    /// When nothing more waits.
    Drained,
}

/// Arguments of the relay's process.
#[derive(Debug, clap::Args)]
pub struct RelayArgs {
    #[arg(long)]
    socket: PathBuf,
    #[arg(long)]
    flush: Flush,
}

/// The relay, until it is killed.
pub fn relay(args: &RelayArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let source = UnixListener::bind(&args.socket)?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("ready {}", listener.local_addr()?);
        let (sender, _) = broadcast::channel(CHANNEL);
        let events = sender.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = source.accept().await {
                tokio::spawn(read_source(stream, events.clone()));
            }
        });
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(serve_client(stream, sender.subscribe(), args.flush));
        }
    })
}

async fn read_source(stream: UnixStream, events: broadcast::Sender<Utf8Bytes>) -> std::io::Result<()> {
    let mut stream = tokio::io::BufReader::with_capacity(64 * 1024, stream);
    loop {
        let length = stream.read_u32_le().await?;
        let mut bytes = vec![0; length as usize];
        stream.read_exact(&mut bytes).await?;
        let text = Utf8Bytes::try_from(bytes).map_err(std::io::Error::other)?;
        // Nobody listening is no error.
        let _ = events.send(text);
    }
}

async fn serve_client(
    stream: TcpStream,
    mut events: broadcast::Receiver<Utf8Bytes>,
    flush: Flush,
) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let (mut sink, mut input) = tokio_tungstenite::accept_async(stream).await?.split();
    tokio::spawn(async move { while let Some(Ok(_)) = input.next().await {} });
    loop {
        match events.recv().await {
            Ok(text) => sink.feed(Message::Text(text)).await?,
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return Ok(()),
        }
        if flush == Flush::Drained {
            loop {
                match events.try_recv() {
                    Ok(text) => sink.feed(Message::Text(text)).await?,
                    Err(TryRecvError::Lagged(_)) => {}
                    Err(TryRecvError::Empty | TryRecvError::Closed) => break,
                }
            }
        }
        sink.flush().await?;
    }
}

/// A running relay.
struct Relay {
    server: Server,
    address: SocketAddr,
    socket: PathBuf,
}

impl Relay {
    fn start(dir: &Path, flush: Flush) -> anyhow::Result<Self> {
        let (socket, word) = match flush {
            Flush::Each => (dir.join("each.sock"), "each"),
            Flush::Drained => (dir.join("drained.sock"), "drained"),
        };
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["relay", "--flush", word, "--socket"]).arg(&socket);
        let server = Server::start_ready(&mut command)?;
        let address = server.said.parse().context("the relay's address")?;
        Ok(Self {
            server,
            address,
            socket,
        })
    }

    fn clients(&self, count: usize) -> anyhow::Result<Vec<Conn>> {
        (0..count)
            .map(|_| Ok(Conn::websocket(ws::connect(self.address, "/", &[])?)))
            .collect()
    }

    /// Events to clients; `period` 0 is as fast as possible.
    fn run(&self, clients: usize, events: u64, period: Duration) -> anyhow::Result<(Seen, Duration)> {
        let mut conns = self.clients(clients)?;
        // The relay subscribes a client after its handshake.
        std::thread::sleep(Duration::from_millis(100));
        let cpu = CpuMeter::start(&[self.server.pid()]);
        let socket = self.socket.clone();
        let source = std::thread::spawn(move || emit(&socket, events, period));
        let bounds = Bounds {
            until: Until::Count(events),
            deadline: Duration::from_mins(1),
            quiet: Duration::from_secs(1),
        };
        let seen = load::watch(&mut conns, bounds)?;
        let used = cpu.used();
        source.join().ok().context("the source broke off")??;
        Ok((seen, used))
    }
}

/// Writes events in the shape of Lodge's to the relay.
fn emit(socket: &Path, events: u64, period: Duration) -> anyhow::Result<()> {
    let mut out = BlockingUnixStream::connect(socket)?;
    let (mut text, mut batch) = (String::new(), Vec::new());
    let begun = now_ns();
    let period = u64::try_from(period.as_nanos())?;
    for index in 0..events {
        sleep_until(begun + index * period);
        marker::write(&mut text, index);
        let event = format!(
            "{{\"event\":{{\"session_id\":\"0191a0b0-0000-7000-8000-000000000001\",\"seq\":{index},\
             \"ts\":1700000000000,\"turn_id\":\"0191a0b0-0000-7000-8000-000000000002\",\
             \"event\":\"stream.text_delta\",\"message_id\":\"0191a0b0-0000-7000-8000-000000000003\",\
             \"part_index\":0,\"delta\":\"{text}\"}},\"session\":1}}"
        );
        batch.extend_from_slice(&u32::try_from(event.len())?.to_le_bytes());
        batch.extend_from_slice(event.as_bytes());
        if period > 0 || batch.len() > 16 * 1024 || index + 1 == events {
            out.write_all(&batch)?;
            batch.clear();
        }
    }
    Ok(())
}

/// All rows of one way to flush.
pub fn measure(dir: &Path, flush: Flush, sizes: &Sizes) -> anyhow::Result<Cells> {
    let relay = Relay::start(dir, flush)?;
    let mut cells = Cells::default();
    // First: later connections would take what earlier ones gave back.
    let before = memory(relay.server.pid());
    let idle = relay.clients(sizes.idle_sockets)?;
    std::thread::sleep(Duration::from_millis(300));
    cells.per_item(Row::MemorySocket, before, memory(relay.server.pid()), idle.len());
    drop(idle);
    let (seen, used) = relay.run(1, sizes.slow_events, Duration::from_millis(20))?;
    let each = nanos(per(used, seen.delivered));
    cells.notes.push(format!("CPU at 50 events/s: {each}"));
    cells.latency(Row::Latency50, &seen, sizes.slow_events);
    let (seen, used) = relay.run(1, sizes.fast_events, Duration::from_millis(1))?;
    cells.latency(Row::Latency1000, &seen, sizes.fast_events);
    cells.cpu(Row::Cpu1000, used, &seen);
    for (row, clients, events) in sizes.bursts() {
        let (seen, used) = relay.run(clients, events, Duration::ZERO)?;
        cells.burst(row, &seen, events, used);
    }
    let (seen, used) = relay.run(100, sizes.fast_events, Duration::from_millis(1))?;
    cells.latency(Row::Viewers, &seen, sizes.fast_events);
    cells.cpu(Row::ViewersCpu, used, &seen);
    cells.set(Row::ViewersRate, rate(&seen));
    Ok(cells)
}
