//! One connection of the lease protocol: length-delimited messages, a descriptor beside the first byte.

use lodge_proto::control::{LeaseReply, LeaseRequest, lease_reply::Reply, lease_request::Request};
use prost::Message as _;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::UnixStream;

/// Longest reply: a list of models.
const MAX_REPLY: usize = 4 * 1024 * 1024;
/// Time the gateway has to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why a request was not answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("connecting: {0}")]
    Connect(#[source] lodge_proto::sock::SockError),
    #[error("sending or receiving: {0}")]
    Io(#[from] std::io::Error),
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    Timeout,
    #[error("the connection ended")]
    Closed,
    #[error("an answer that is none: {0}")]
    Decode(#[from] prost::DecodeError),
    #[error("an answer of {0} bytes is over the limit")]
    TooLong(usize),
}

#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    next_id: u64,
}

impl Connection {
    /// Connects; the peer must run as `uid`.
    pub(super) fn open(socket: &Path, uid: u32) -> Result<Self, Failure> {
        let stream = lodge_proto::sock::connect(socket).map_err(Failure::Connect)?;
        lodge_proto::sock::require_peer(&stream, uid).map_err(Failure::Connect)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream: UnixStream::from_std(stream)?,
            next_id: 1,
        })
    }

    /// Returns when the gateway has closed the connection: it never speaks unasked.
    pub(super) async fn ended(&self) {
        // Readiness may be left over from the answer before: only a read tells.
        while self.stream.readable().await.is_ok() {
            match self.stream.try_read(&mut [0]) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                _ => return,
            }
        }
    }

    /// Sends a request and waits for its answer.
    pub(super) async fn ask(
        &mut self,
        request: Request,
        listener: Option<&std::sync::Arc<OwnedFd>>,
    ) -> Result<Reply, Failure> {
        let id = self.next_id;
        self.next_id += 1;
        let bytes = LeaseRequest {
            id,
            request: Some(request),
        }
        .encode_length_delimited_to_vec();
        let exchange = async {
            self.send(&bytes, listener.map(AsRef::as_ref)).await?;
            let reply = self.receive().await?;
            if reply.id != id {
                return Err(Failure::Closed);
            }
            reply.reply.ok_or(Failure::Closed)
        };
        tokio::time::timeout(TIMEOUT, exchange)
            .await
            .map_err(|_| Failure::Timeout)?
    }

    async fn send(&mut self, bytes: &[u8], descriptor: Option<&OwnedFd>) -> Result<(), Failure> {
        let mut sent = 0;
        while sent < bytes.len() {
            self.stream.writable().await?;
            let attach = descriptor.filter(|_| sent == 0);
            let written = self.stream.try_io(Interest::WRITABLE, || {
                send_some(&self.stream, &bytes[sent..], attach)
            });
            match written {
                Ok(count) => sent += count,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn receive(&mut self) -> Result<LeaseReply, Failure> {
        let mut length = 0usize;
        for shift in (0..35).step_by(7) {
            let byte = self.stream.read_u8().await?;
            length |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        if length > MAX_REPLY {
            return Err(Failure::TooLong(length));
        }
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).await?;
        Ok(LeaseReply::decode(bytes.as_slice())?)
    }
}

fn send_some(stream: &UnixStream, bytes: &[u8], descriptor: Option<&OwnedFd>) -> std::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = descriptor.map(|descriptor| [descriptor.as_fd()]);
    if let Some(descriptors) = &descriptors {
        control.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    Ok(rustix::net::sendmsg(
        stream,
        &[IoSlice::new(bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?)
}
