//! One connection of the lease protocol: length-delimited messages, a descriptor beside the first byte.

use bytes::{Buf, BytesMut};
use lodge_proto::control::{
    EgressNotice, LeaseReply, LeaseRequest, lease_reply::Reply, lease_request::Request,
};
use prost::Message as _;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use std::collections::VecDeque;
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
    /// Bytes that are no whole message yet.
    buffer: BytesMut,
    /// What came while an answer was waited for.
    notices: VecDeque<EgressNotice>,
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
            buffer: BytesMut::new(),
            notices: VecDeque::new(),
        })
    }

    /// The next thing that the gateway says unasked; none when it has closed the connection, or says what it should
    /// not. Nothing is lost when this is dropped.
    pub(super) async fn notice(&mut self) -> Option<EgressNotice> {
        if let Some(notice) = self.notices.pop_front() {
            return Some(notice);
        }
        match self.receive().await {
            Ok(LeaseReply {
                id: 0,
                reply: Some(Reply::Egress(notice)),
            }) => Some(notice),
            Ok(_) => {
                tracing::warn!("the gateway answers what it was not asked");
                None
            }
            Err(_) => None,
        }
    }

    /// What came while answers were waited for.
    pub(super) fn waiting(&mut self) -> Vec<EgressNotice> {
        self.notices.drain(..).collect()
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
            loop {
                let reply = self.receive().await?;
                match reply.reply {
                    Some(Reply::Egress(notice)) if reply.id == 0 => self.notices.push_back(notice),
                    Some(answer) if reply.id == id => return Ok(answer),
                    _ => return Err(Failure::Closed),
                }
            }
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
        loop {
            if let Some(reply) = self.take()? {
                return Ok(reply);
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(Failure::Closed);
            }
        }
    }

    /// The message at the front of what was read, if it is whole.
    fn take(&mut self) -> Result<Option<LeaseReply>, Failure> {
        /// Bytes in which a length is said.
        const LENGTH_BYTES: usize = 10;
        let length = match prost::decode_length_delimiter(&self.buffer[..]) {
            Ok(length) => length,
            Err(_) if self.buffer.len() < LENGTH_BYTES => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if length > MAX_REPLY {
            return Err(Failure::TooLong(length));
        }
        let head = prost::length_delimiter_len(length);
        if self.buffer.len() < head + length {
            return Ok(None);
        }
        self.buffer.advance(head);
        Ok(Some(LeaseReply::decode(self.buffer.split_to(length))?))
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
