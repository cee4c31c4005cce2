//! The lease protocol: length-delimited messages on a Unix socket, listeners beside them as descriptors.

use std::collections::VecDeque;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use lodge_proto::control::{
    EgressAnswered, EgressNotice, LeaseClosed, LeaseError as ErrorMessage, LeaseGranted, LeaseRenewed,
    LeaseReply, LeaseRequest, ListModelsResponse, lease_reply::Reply, lease_request::Request,
};
use prost::Message;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

use super::notices::{QUEUE, Runner};
use super::table::Granted;
use super::{Lease, LeaseError};
use crate::accept::accept;
use crate::guest::{self, Gateway};
use crate::models;

/// Longest message, in bytes.
const MAX_MESSAGE: usize = 64 << 10;
/// Descriptors that may wait for the rest of their message.
const MAX_DESCRIPTORS: usize = 4;
/// Leases in one renewal.
const MAX_RENEWAL: usize = 1000;

/// Why a runner's connection was given up.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error("reading from the runner")]
    Read(#[source] std::io::Error),
    #[error("writing to the runner")]
    Write(#[source] std::io::Error),
    #[error("a message of {0} bytes is longer than {MAX_MESSAGE}")]
    TooLong(usize),
    #[error("a message that is none")]
    Decode(#[source] prost::DecodeError),
    #[error("descriptors were sent that no message asks for")]
    Descriptors,
    #[error("the user of this uid was removed")]
    Removed,
}

/// Serves runners until dropped. Peers of another uid are refused, but for those of people who are known by name.
pub async fn serve(gateway: Arc<Gateway>, listener: UnixListener) {
    loop {
        let stream = accept(&listener).await;
        let known = lodge_proto::sock::peer_uid(&stream).ok();
        let permitted = known.filter(|uid| gateway.may_hold_leases(*uid));
        let Some(owner) = guest::permitted_peer(&stream, permitted.unwrap_or(gateway.peer_uid)) else {
            continue;
        };
        let gateway = Arc::clone(&gateway);
        tokio::spawn(async move {
            // The leases of a runner that goes away live on until they lapse.
            let (runner, notices) = mpsc::channel(QUEUE);
            let conversed = converse(&gateway, owner, stream, &runner, notices).await;
            gateway.leases.detach(&runner);
            if let Err(error) = conversed {
                tracing::warn!(
                    owner,
                    error = crate::causes(&error),
                    "closing a runner's connection"
                );
            }
        });
    }
}

/// Serves a guest's listener until the lease ends or another listener takes its place.
pub(super) fn listen(gateway: &Arc<Gateway>, lease: &Arc<Lease>, listener: UnixListener) {
    let replaced = lease.replace_listener();
    let (gateway, lease) = (Arc::clone(gateway), Arc::clone(lease));
    tokio::spawn(async move {
        loop {
            let permit = tokio::select! {
                () = replaced.cancelled() => return,
                permit = Arc::clone(&lease.connections).acquire_owned() => permit,
            };
            let Ok(permit) = permit else { return };
            let stream = tokio::select! {
                () = replaced.cancelled() => return,
                () = gateway.stopping.cancelled() => return,
                stream = accept(&listener) => stream,
            };
            // Over all guests: what one cannot have, it must not take from the others by waiting.
            let Ok(shared) = Arc::clone(&gateway.guest_connections).try_acquire_owned() else {
                tracing::warn!(
                    session = lease.session_id,
                    "too many connections of guests; refusing one"
                );
                continue;
            };
            let (gateway, lease) = (Arc::clone(&gateway), Arc::clone(&lease));
            tokio::spawn(async move {
                guest::serve_connection(gateway, lease, stream).await;
                drop((permit, shared));
            });
        }
    });
}

async fn converse(
    gateway: &Arc<Gateway>,
    owner: u32,
    mut stream: UnixStream,
    runner: &Runner,
    mut notices: mpsc::Receiver<EgressNotice>,
) -> Result<(), ConnectionError> {
    let mut reader = Reader::default();
    loop {
        let (id, reply) = tokio::select! {
            request = reader.next(&stream) => {
                let Some(request) = request? else { return Ok(()) };
                if !gateway.may_hold_leases(owner) {
                    return Err(ConnectionError::Removed);
                }
                (request.id, reply(gateway, owner, request, &mut reader.descriptors, runner).await)
            }
            Some(notice) = notices.recv() => (0, Reply::Egress(notice)),
        };
        let bytes = LeaseReply {
            id,
            reply: Some(reply),
        }
        .encode_length_delimited_to_vec();
        stream.write_all(&bytes).await.map_err(ConnectionError::Write)?;
    }
}

async fn reply(
    gateway: &Arc<Gateway>,
    owner: u32,
    request: LeaseRequest,
    descriptors: &mut VecDeque<OwnedFd>,
    runner: &Runner,
) -> Reply {
    match answer(gateway, owner, request, descriptors, runner).await {
        Ok(reply) => reply,
        Err(error) => {
            if error.code() == lodge_proto::ErrorCode::Internal {
                tracing::error!(owner, error = crate::causes(&error), "a lease failed");
            }
            Reply::Error(ErrorMessage {
                code: error.code().to_string(),
                message: error.to_string(),
            })
        }
    }
}

async fn answer(
    gateway: &Arc<Gateway>,
    owner: u32,
    request: LeaseRequest,
    descriptors: &mut VecDeque<OwnedFd>,
    runner: &Runner,
) -> Result<Reply, LeaseError> {
    let leases = &gateway.leases;
    Ok(match request.request {
        Some(Request::Open(open)) => granted(
            gateway,
            leases
                .open(gateway, owner, &open, (descriptors.pop_front(), runner))
                .await?,
        ),
        Some(Request::Resume(resume)) => granted(
            gateway,
            leases
                .resume(gateway, owner, &resume, (descriptors.pop_front(), runner))
                .await?,
        ),
        Some(Request::Renew(renew)) => {
            let mut ids = renew.lease_ids;
            ids.truncate(MAX_RENEWAL);
            Reply::Renewed(LeaseRenewed {
                unknown_lease_ids: leases.renew(owner, ids),
            })
        }
        Some(Request::Close(close)) => {
            leases.close(owner, &close.lease_id).await?;
            Reply::Closed(LeaseClosed {})
        }
        Some(Request::Models(_)) => Reply::Models(ListModelsResponse {
            models: models::usable(&gateway.providers.current()),
            problems: Vec::new(),
        }),
        Some(Request::Answer(answer)) => Reply::Answered(EgressAnswered {
            known: leases.answer(owner, &answer)?,
        }),
        None => return Err(LeaseError::Request),
    })
}

fn granted(gateway: &Gateway, granted: Granted) -> Reply {
    let mut models = models::usable(&gateway.providers.current());
    // What it was narrowed to is all that its harness is to offer.
    models.retain(|model| granted.lease.permits(&model.provider, &model.id));
    Reply::Granted(LeaseGranted {
        lease_id: granted.lease.id.clone(),
        virtual_key: granted.key.map_or_else(String::new, |key| key.to_string()),
        ttl_seconds: granted.ttl_seconds,
        models,
    })
}

/// Reads messages and the descriptors that come with them.
#[derive(Default)]
struct Reader {
    buffer: BytesMut,
    /// In the order in which they came; a message takes its own from the front.
    descriptors: VecDeque<OwnedFd>,
}

impl Reader {
    /// The next message; none at the end of the stream.
    async fn next(&mut self, stream: &UnixStream) -> Result<Option<LeaseRequest>, ConnectionError> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            // A message begins with its descriptor, so between messages none may be left over.
            if self.buffer.is_empty() && !self.descriptors.is_empty() {
                return Err(ConnectionError::Descriptors);
            }
            let read = stream.async_io(Interest::READABLE, || self.receive(stream)).await;
            if read.map_err(ConnectionError::Read)? == 0 {
                return Ok(None);
            }
            if self.descriptors.len() > MAX_DESCRIPTORS {
                return Err(ConnectionError::Descriptors);
            }
        }
    }

    fn take(&mut self) -> Result<Option<LeaseRequest>, ConnectionError> {
        let length = match prost::decode_length_delimiter(&self.buffer[..]) {
            Ok(length) => length,
            Err(_) if self.buffer.len() < 10 => return Ok(None),
            Err(error) => return Err(ConnectionError::Decode(error)),
        };
        if length > MAX_MESSAGE {
            return Err(ConnectionError::TooLong(length));
        }
        let head = prost::length_delimiter_len(length);
        if self.buffer.len() < head + length {
            return Ok(None);
        }
        self.buffer.advance(head);
        let message = self.buffer.split_to(length);
        LeaseRequest::decode(message)
            .map(Some)
            .map_err(ConnectionError::Decode)
    }

    fn receive(&mut self, stream: &UnixStream) -> std::io::Result<usize> {
        let mut bytes = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut buffers = [IoSliceMut::new(&mut bytes)];
        let received = recvmsg(stream, &mut buffers, &mut control, RecvFlags::CMSG_CLOEXEC)?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.descriptors.extend(descriptors);
            }
        }
        self.buffer.extend_from_slice(&bytes[..received.bytes]);
        Ok(received.bytes)
    }
}
