//! What a runner does: takes leases.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use lodge_proto::control::{
    LeaseClose, LeaseGranted, LeaseOpen, LeaseRenew, LeaseReply, LeaseRequest, LeaseResume,
    lease_reply::Reply, lease_request::Request,
};
use prost::Message;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// A connection to the lease socket.
pub(crate) struct Runner {
    stream: UnixStream,
    next: u64,
}

/// A guest's socket and its key.
pub(crate) struct Session {
    pub(crate) name: String,
    pub(crate) socket: PathBuf,
    /// Kept, as a shim does, so that it can be handed over again.
    pub(crate) listener: UnixListener,
    pub(crate) lease: LeaseGranted,
}

impl Runner {
    pub(crate) fn connect(data: &Path) -> Self {
        let stream = lodge_proto::sock::connect(&data.join("run/gateway-lease.sock")).unwrap();
        stream.set_nonblocking(true).unwrap();
        Self {
            stream: UnixStream::from_std(stream).unwrap(),
            next: 0,
        }
    }

    /// Binds a guest's socket and opens a lease for it.
    pub(crate) async fn session(&mut self, data: &Path, name: &str, ttl_seconds: u32) -> Session {
        let socket = data.join(format!("{name}.sock"));
        let listener = lodge_proto::sock::bind(&socket).unwrap();
        let open = LeaseOpen {
            session_id: name.into(),
            harness: "pi".into(),
            ttl_seconds,
        };
        let Reply::Granted(lease) = self.call(Request::Open(open), Some(&listener)).await else {
            panic!("no lease for {name}");
        };
        Session {
            name: name.into(),
            socket,
            listener,
            lease,
        }
    }

    pub(crate) async fn resume(&mut self, session: &Session) -> Reply {
        let resume = LeaseResume {
            session_id: session.name.clone(),
            lease_id: session.lease.lease_id.clone(),
        };
        self.call(Request::Resume(resume), Some(&session.listener)).await
    }

    /// The ids that are not open.
    pub(crate) async fn renew(&mut self, ids: &[&str]) -> Vec<String> {
        let lease_ids = ids.iter().map(|id| (*id).to_owned()).collect();
        let Reply::Renewed(renewed) = self.call(Request::Renew(LeaseRenew { lease_ids }), None).await else {
            panic!("not renewed");
        };
        renewed.unknown_lease_ids
    }

    pub(crate) async fn close(&mut self, session: &Session) {
        let close = LeaseClose {
            lease_id: session.lease.lease_id.clone(),
        };
        assert!(matches!(
            self.call(Request::Close(close), None).await,
            Reply::Closed(_)
        ));
    }

    pub(crate) async fn call(&mut self, request: Request, descriptor: Option<&UnixListener>) -> Reply {
        self.try_call(request, descriptor)
            .await
            .expect("the gateway closed the connection")
    }

    /// None where the gateway closes the connection instead of answering.
    pub(crate) async fn try_call(
        &mut self,
        request: Request,
        descriptor: Option<&UnixListener>,
    ) -> Option<Reply> {
        self.next += 1;
        let bytes = LeaseRequest {
            id: self.next,
            request: Some(request),
        }
        .encode_length_delimited_to_vec();
        // The descriptor goes with the first byte, the rest apart: the gateway must put them together.
        let (first, rest) = match descriptor {
            Some(_) => bytes.split_at(1),
            None => bytes.split_at(0),
        };
        if let Some(descriptor) = descriptor {
            self.stream.writable().await.ok()?;
            send_with(&self.stream, first, descriptor);
        }
        self.stream.write_all(rest).await.ok()?;
        let reply = self.read().await?;
        assert_eq!(reply.id, self.next);
        reply.reply
    }

    async fn read(&mut self) -> Option<LeaseReply> {
        let mut bytes = Vec::new();
        loop {
            if let Ok(reply) = LeaseReply::decode_length_delimited(&bytes[..]) {
                return Some(reply);
            }
            let byte = super::soon("an answer of the lease socket", self.stream.read_u8())
                .await
                .ok()?;
            bytes.push(byte);
        }
    }
}

fn send_with(stream: &UnixStream, bytes: &[u8], descriptor: &UnixListener) {
    let descriptors = [descriptor.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    let sent = sendmsg(stream, &[IoSlice::new(bytes)], &mut control, SendFlags::empty()).unwrap();
    assert_eq!(sent, bytes.len());
}
