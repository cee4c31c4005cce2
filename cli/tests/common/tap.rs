//! Between guests and the gateway: a stand-in for the gateway's lease socket that hands the gateway other listeners
//! than the guests', and carries what comes in at the guests' own to those, keeping every byte.

use super::http::{self, Exchange};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// The bytes of one connection of a guest, in both directions.
#[derive(Clone, Default)]
struct Wire {
    sent: Arc<Mutex<Vec<u8>>>,
    answered: Arc<Mutex<Vec<u8>>>,
}

#[derive(Clone)]
pub struct Tap {
    /// Where the gateway's own listeners are bound.
    folder: PathBuf,
    wires: Arc<Mutex<Vec<Wire>>>,
    runners: Arc<AtomicUsize>,
    listeners: Arc<AtomicUsize>,
}

impl Tap {
    /// Takes the place of the lease socket of a running gateway. A runner that is connected stays where it is.
    pub fn insert(data: &Path, folder: PathBuf) -> Self {
        let socket = data.join("run/gateway-lease.sock");
        let behind = data.join("run/behind.sock");
        std::fs::rename(&socket, &behind).unwrap();
        let listener = lodge_proto::sock::bind(&socket).unwrap();
        let tap = Self {
            folder,
            wires: Arc::default(),
            runners: Arc::default(),
            listeners: Arc::default(),
        };
        let taken = tap.clone();
        std::thread::spawn(move || {
            for runner in listener.incoming().flatten() {
                let gateway = lodge_proto::sock::connect(&behind).unwrap();
                taken.runners.fetch_add(1, Ordering::SeqCst);
                let (from, to) = (gateway.try_clone().unwrap(), runner.try_clone().unwrap());
                std::thread::spawn(move || copy(from, to, None));
                let tap = taken.clone();
                std::thread::spawn(move || tap.leases(&runner, &gateway));
            }
        });
        tap
    }

    /// How many runners have come.
    pub fn runners(&self) -> usize {
        self.runners.load(Ordering::SeqCst)
    }

    /// Whether every connection has ended, and with it what is recorded of it.
    pub fn is_still(&self) -> bool {
        let wires = self.wires.lock().unwrap();
        let has_ended = |record: &Arc<Mutex<Vec<u8>>>| Arc::strong_count(record) == 1;
        wires
            .iter()
            .all(|wire| has_ended(&wire.sent) && has_ended(&wire.answered))
    }

    /// What guests sent and got so far. Call it when they have ended: what is under way has no answer yet.
    pub fn exchanges(&self) -> Vec<Exchange> {
        let wires = self.wires.lock().unwrap();
        let exchanges =
            |wire: &Wire| http::exchanges(&wire.sent.lock().unwrap(), &wire.answered.lock().unwrap());
        wires.iter().flat_map(exchanges).collect()
    }

    /// Carries a runner's messages, with a listener of ours in the place of each of its own.
    fn leases(&self, runner: &UnixStream, gateway: &UnixStream) {
        let mut bytes = [0; 4096];
        loop {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut buffers = [IoSliceMut::new(&mut bytes)];
            let received = recvmsg(runner, &mut buffers, &mut control, RecvFlags::CMSG_CLOEXEC);
            let Some(count) = received.ok().map(|found| found.bytes).filter(|count| *count > 0) else {
                let _ = gateway.shutdown(Shutdown::Both);
                return;
            };
            let of_guests = control.drain().flat_map(|message| match message {
                RecvAncillaryMessage::ScmRights(found) => found.collect::<Vec<OwnedFd>>(),
                _ => Vec::new(),
            });
            let ours: Vec<OwnedFd> = of_guests.map(|guest| self.replace(guest.into())).collect();
            send(gateway, &bytes[..count], &ours);
        }
    }

    /// The listener that the gateway gets instead.
    fn replace(&self, guests: UnixListener) -> OwnedFd {
        let number = self.listeners.fetch_add(1, Ordering::SeqCst);
        let path = self.folder.join(format!("{number}.sock"));
        let ours = lodge_proto::sock::bind(&path).unwrap();
        guests.set_nonblocking(false).unwrap();
        let wires = Arc::clone(&self.wires);
        std::thread::spawn(move || {
            for guest in guests.incoming().flatten() {
                let gateway = lodge_proto::sock::connect(&path).unwrap();
                let wire = Wire::default();
                wires.lock().unwrap().push(wire.clone());
                let (from, to) = (guest.try_clone().unwrap(), gateway.try_clone().unwrap());
                std::thread::spawn(move || copy(from, to, Some(&wire.sent)));
                std::thread::spawn(move || copy(gateway, guest, Some(&wire.answered)));
            }
        });
        ours.into()
    }
}

/// Carries bytes until their end, and the end too.
fn copy(mut from: UnixStream, mut to: UnixStream, record: Option<&Mutex<Vec<u8>>>) {
    let mut bytes = vec![0; 64 << 10];
    loop {
        let count = from.read(&mut bytes).unwrap_or(0);
        if let Some(record) = record {
            record.lock().unwrap().extend_from_slice(&bytes[..count]);
        }
        if count == 0 || to.write_all(&bytes[..count]).is_err() {
            let _ = to.shutdown(Shutdown::Write);
            return;
        }
    }
}

fn send(to: &UnixStream, bytes: &[u8], descriptors: &[OwnedFd]) {
    let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    }
    let sent = sendmsg(to, &[IoSlice::new(bytes)], &mut control, SendFlags::empty()).unwrap();
    let mut to = to;
    to.write_all(&bytes[sent..]).unwrap();
}
