//! Frames between whoever asked for the machine and guest init in it. Every frame is decoded: the machine is hostile,
//! and what belongs to a gateway connection stays here.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use lodge_guest::mux::{CONNECTIONS, Decoder, Frame, Hello, Kind, VERSION};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::error::{MicrovmError, ProtocolError};
use super::gateway::Gateway;

/// Frames that wait for a slow reader; each holds at most a mebibyte.
const QUEUE: usize = 16;
const CHUNK: usize = 256 << 10;
/// Time that whoever asked has to take what the machine said last.
const LAST_FRAMES: Duration = Duration::from_secs(5);

/// Frames that arrive.
#[derive(Debug)]
pub(super) struct Frames {
    stream: OwnedReadHalf,
    decoder: Decoder,
    chunk: Box<[u8]>,
}

impl Frames {
    fn new(stream: OwnedReadHalf) -> Self {
        Self {
            stream,
            decoder: Decoder::new(),
            chunk: vec![0; CHUNK].into_boxed_slice(),
        }
    }

    /// The next frame; `None` at the stream's end, also at one inside a frame: a killed sender leaves such.
    async fn next(&mut self) -> Result<Option<Frame>, ProtocolError> {
        loop {
            if let Some(frame) = self.decoder.next()? {
                return Ok(Some(frame));
            }
            match self.stream.read(&mut self.chunk).await {
                Ok(0) | Err(_) => return Ok(None),
                Ok(got) => self.decoder.push(&self.chunk[..got]),
            }
        }
    }
}

/// The launcher's end of a machine's stream.
#[derive(Debug)]
pub(super) struct Machine {
    frames: Frames,
    to: OwnedWriteHalf,
    hello: Option<Frame>,
}

impl Machine {
    pub(super) fn new(stream: UnixStream) -> Self {
        let (from, to) = stream.into_split();
        Self {
            frames: Frames::new(from),
            to,
            hello: None,
        }
    }

    pub(super) async fn send(&mut self, frame: &Frame) -> Result<(), MicrovmError> {
        let mut bytes = Vec::new();
        frame.encode_into(&mut bytes).map_err(ProtocolError::from)?;
        let sent = self.to.write_all(&bytes).await;
        sent.map_err(MicrovmError::system("write to the machine's stream"))
    }

    /// Waits for guest init's first frame; `false` when the machine ended instead.
    pub(super) async fn hello(&mut self) -> Result<bool, ProtocolError> {
        let Some(frame) = self.frames.next().await? else {
            return Ok(false);
        };
        if frame.kind != Kind::Hello {
            return Err(ProtocolError::NoHello { kind: frame.kind });
        }
        let Hello { version } = frame.parse()?;
        if version != VERSION {
            return Err(ProtocolError::Version { version });
        }
        self.hello = Some(frame);
        Ok(true)
    }
}

/// Passes frames on until either end ends; what breaks the protocol is an error.
pub(super) async fn pass(
    asker: UnixStream,
    machine: Machine,
    gateway_socket: PathBuf,
) -> Result<(), ProtocolError> {
    let (from_asker, to_asker) = asker.into_split();
    let (asker_queue, for_asker) = mpsc::channel(QUEUE);
    let (vm_queue, for_vm) = mpsc::channel(QUEUE);
    let gateway = Gateway::new(gateway_socket, vm_queue.clone());
    let Machine { frames, to, hello } = machine;
    if let Some(hello) = hello {
        // The queue is empty and its receiver is here.
        let _ = asker_queue.send(hello).await;
    }
    let asker_writer = tokio::spawn(write(to_asker, for_asker));
    let vm_writer = write(to, for_vm);
    let outcome = tokio::select! {
        outcome = from_machine(frames, asker_queue, gateway) => outcome,
        outcome = to_machine(Frames::new(from_asker), vm_queue) => return outcome,
        _ = vm_writer => Ok(()),
    };
    // Its last frames go out before the end is seen: nobody sends to that queue any more.
    let _ = timeout(LAST_FRAMES, asker_writer).await;
    outcome
}

async fn from_machine(
    mut frames: Frames,
    asker: mpsc::Sender<Frame>,
    mut gateway: Gateway,
) -> Result<(), ProtocolError> {
    while let Some(frame) = frames.next().await? {
        if Gateway::concerns(&frame) {
            gateway.take(frame).await?;
        } else if may_come(&frame) {
            if asker.send(frame).await.is_err() {
                break;
            }
        } else {
            let Frame { kind, stream, .. } = frame;
            return Err(ProtocolError::Direction { kind, stream });
        }
    }
    Ok(())
}

async fn to_machine(mut frames: Frames, vm: mpsc::Sender<Frame>) -> Result<(), ProtocolError> {
    while let Some(frame) = frames.next().await? {
        if !may_go(&frame) {
            let Frame { kind, stream, .. } = frame;
            return Err(ProtocolError::Direction { kind, stream });
        }
        if vm.send(frame).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// What guest init may say to whoever asked.
fn may_come(frame: &Frame) -> bool {
    let of_command = matches!(
        frame.kind,
        Kind::Started
            | Kind::StartFailed
            | Kind::Stdout
            | Kind::Stderr
            | Kind::Exit
            | Kind::Limit
            | Kind::Credit
    );
    of_command && frame.stream < CONNECTIONS
}

/// What whoever asked may say to guest init.
fn may_go(frame: &Frame) -> bool {
    let to_command = matches!(
        frame.kind,
        Kind::Start | Kind::Stdin | Kind::Signal | Kind::Resize | Kind::Credit | Kind::Shutdown
    );
    to_command && frame.stream < CONNECTIONS
}

async fn write(mut to: OwnedWriteHalf, mut frames: mpsc::Receiver<Frame>) -> io::Result<()> {
    let mut bytes = Vec::new();
    while let Some(frame) = frames.recv().await {
        bytes.clear();
        let mut next = Some(frame);
        // One write for what has gathered meanwhile.
        while let Some(frame) = next {
            frame.encode_into(&mut bytes).map_err(io::Error::other)?;
            next = if bytes.len() < CHUNK {
                frames.try_recv().ok()
            } else {
                None
            };
        }
        to.write_all(&bytes).await?;
    }
    to.shutdown().await
}

#[cfg(test)]
#[path = "bridge_tests.rs"]
mod tests;
