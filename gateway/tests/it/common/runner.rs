//! What a runner does: takes leases.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use lodge_proto::control::{
    EgressAnswer, EgressNotice, EgressPolicy, LeaseClose, LeaseGranted, LeaseNarrow, LeaseOpen, LeaseRenew,
    LeaseReply, LeaseRequest, LeaseResume, lease_reply::Reply, lease_request::Request,
};
use prost::Message;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// A connection to the lease socket.
pub(crate) struct Runner {
    stream: UnixStream,
    next: u64,
    /// Bytes that were read and are no whole message.
    rest: Vec<u8>,
    /// What came unasked while an answer was waited for.
    notices: VecDeque<EgressNotice>,
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
        Self::over(lodge_proto::sock::connect(&data.join("run/gateway-lease.sock")).unwrap())
    }

    /// The runner of another Linux user. Where this process may not become one, there is none.
    pub(crate) fn of_uid(data: &Path, uid: u32) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let socket = data.join("run/gateway-lease.sock");
        for (path, mode) in [(data, 0o711), (&data.join("run"), 0o711), (&socket, 0o666)] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        // The uid is that of this one thread, and the socket keeps who connected.
        let connecting = std::thread::spawn(move || {
            let uid = rustix::process::Uid::from_raw(uid);
            rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
            std::os::unix::net::UnixStream::connect(&socket).unwrap()
        });
        Some(Self::over(connecting.join().unwrap()))
    }

    fn over(stream: std::os::unix::net::UnixStream) -> Self {
        stream.set_nonblocking(true).unwrap();
        Self {
            stream: UnixStream::from_std(stream).unwrap(),
            next: 0,
            rest: Vec::new(),
            notices: VecDeque::new(),
        }
    }

    /// Binds a guest's socket and opens a lease for it.
    pub(crate) async fn session(&mut self, data: &Path, name: &str, ttl_seconds: u32) -> Session {
        self.session_with(data, name, ttl_seconds, None).await
    }

    /// The same, with hosts it may reach.
    pub(crate) async fn session_with(
        &mut self,
        data: &Path,
        name: &str,
        ttl_seconds: u32,
        egress: Option<EgressPolicy>,
    ) -> Session {
        self.session_narrowed(data, name, ttl_seconds, (egress, None))
            .await
    }

    /// The same, with less than its user may use.
    pub(crate) async fn session_narrowed(
        &mut self,
        data: &Path,
        name: &str,
        ttl_seconds: u32,
        (egress, narrow): (Option<EgressPolicy>, Option<LeaseNarrow>),
    ) -> Session {
        let socket = data.join(format!("{name}.sock"));
        let listener = lodge_proto::sock::bind(&socket).unwrap();
        let open = LeaseOpen {
            session_id: name.into(),
            harness: "pi".into(),
            ttl_seconds,
            egress,
            narrow,
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
            egress: None,
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
        loop {
            let reply = self.read().await?;
            match reply.reply {
                Some(Reply::Egress(notice)) if reply.id == 0 => self.notices.push_back(notice),
                answer => {
                    assert_eq!(reply.id, self.next);
                    return answer;
                }
            }
        }
    }

    /// The next thing the gateway says unasked.
    pub(crate) async fn notice(&mut self) -> EgressNotice {
        if let Some(notice) = self.notices.pop_front() {
            return notice;
        }
        match self
            .read()
            .await
            .expect("the gateway closed the connection")
            .reply
        {
            Some(Reply::Egress(notice)) => notice,
            other => panic!("not a notice: {other:?}"),
        }
    }

    /// Answers a question; whether it was still open.
    pub(crate) async fn answer(&mut self, lease: &str, question: &str, answer: &str) -> bool {
        let request = EgressAnswer {
            lease_id: lease.to_owned(),
            question_id: question.to_owned(),
            answer: answer.to_owned(),
        };
        match self.call(Request::Answer(request), None).await {
            Reply::Answered(answered) => answered.known,
            other => panic!("not answered: {other:?}"),
        }
    }

    async fn read(&mut self) -> Option<LeaseReply> {
        loop {
            let mut bytes = &self.rest[..];
            if let Ok(reply) = LeaseReply::decode_length_delimited(&mut bytes) {
                self.rest = bytes.to_vec();
                return Some(reply);
            }
            let read = self.stream.read_buf(&mut self.rest);
            if super::soon("an answer of the lease socket", read).await.ok()? == 0 {
                return None;
            }
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
