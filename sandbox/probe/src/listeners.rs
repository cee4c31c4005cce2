//! Services of the scene: they accept whoever comes and count.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How often a listener looks whether it should end, in nanoseconds.
const LOOK: i64 = 20_000_000;

enum Socket {
    Unix(UnixListener),
    Tcp(TcpListener),
    Udp(UdpSocket),
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(socket) => socket.as_fd(),
            Self::Tcp(socket) => socket.as_fd(),
            Self::Udp(socket) => socket.as_fd(),
        }
    }
}

/// One who came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts(pub Vec<(String, usize)>);

impl Counts {
    /// Names of those that were reached since `before`.
    pub fn since(&self, before: &Self) -> Vec<String> {
        let pairs = self.0.iter().zip(&before.0);
        pairs
            .filter(|((_, now), (_, then))| now > then)
            .map(|((name, _), _)| name.clone())
            .collect()
    }
}

/// All of a scene's listeners, served by one thread.
#[derive(Default)]
pub struct Listeners {
    sockets: Vec<Socket>,
    names: Vec<String>,
    hits: Arc<Vec<AtomicUsize>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listeners")
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

impl Listeners {
    fn add(&mut self, name: String, socket: Socket) {
        self.names.push(name);
        self.sockets.push(socket);
    }

    /// A Unix socket at `path`, which may be longer than such an address: it is bound by a descriptor of its
    /// directory.
    pub(crate) fn unix(&mut self, path: &Path) -> io::Result<()> {
        let listener = bind_long(path)?;
        listener.set_nonblocking(true)?;
        self.add(path.display().to_string(), Socket::Unix(listener));
        Ok(())
    }

    pub(crate) fn abstract_unix(&mut self, name: &str) -> io::Result<()> {
        let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)?;
        listener.set_nonblocking(true)?;
        self.add(format!("@{name}"), Socket::Unix(listener));
        Ok(())
    }

    pub(crate) fn tcp4(&mut self) -> io::Result<u16> {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        self.add(format!("TCP port {port}"), Socket::Tcp(listener));
        Ok(port)
    }

    /// 0 on a host without IPv6.
    pub(crate) fn tcp6(&mut self) -> u16 {
        let Ok(listener) = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)) else {
            return 0;
        };
        let _ = listener.set_nonblocking(true);
        let port = listener.local_addr().map_or(0, |address| address.port());
        self.add(format!("TCP port {port} over IPv6"), Socket::Tcp(listener));
        port
    }

    pub(crate) fn udp(&mut self) -> io::Result<u16> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.set_nonblocking(true)?;
        let port = socket.local_addr()?.port();
        self.add(format!("UDP port {port}"), Socket::Udp(socket));
        Ok(port)
    }

    /// Waits until everything that has arrived so far is counted.
    pub(crate) fn settle(&self) {
        let Some(last) = self.hits.last() else { return };
        let before = last.load(Ordering::SeqCst);
        let reach = |name: &String| {
            let address = SocketAddr::from_abstract_name(name.trim_start_matches('@'))?;
            std::os::unix::net::UnixStream::connect_addr(&address)
        };
        let _connection = self.names.last().map(reach);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(2);
        while last.load(Ordering::SeqCst) == before && std::time::Instant::now() < deadline {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    pub(crate) fn start(&mut self) -> io::Result<()> {
        self.hits = Arc::new(self.sockets.iter().map(|_| AtomicUsize::new(0)).collect());
        let (sockets, hits, stop) = (
            std::mem::take(&mut self.sockets),
            self.hits.clone(),
            self.stop.clone(),
        );
        let serve = move || serve(&sockets, &hits, &stop);
        self.thread = Some(
            std::thread::Builder::new()
                .name("listeners".into())
                .spawn(serve)?,
        );
        Ok(())
    }

    /// How often each was reached, but for the last one, which is for [`Self::settle`].
    pub fn counts(&self) -> Counts {
        let scene = self.names.len().saturating_sub(1);
        let all = self.names.iter().take(scene).cloned().zip(self.hits.iter());
        Counts(
            all.map(|(name, hits)| (name, hits.load(Ordering::SeqCst)))
                .collect(),
        )
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(sockets: &[Socket], hits: &[AtomicUsize], stop: &AtomicBool) {
    let patience = Timespec {
        tv_sec: 0,
        tv_nsec: LOOK,
    };
    while !stop.load(Ordering::SeqCst) {
        let mut waiting: Vec<PollFd<'_>> = sockets
            .iter()
            .map(|socket| PollFd::new(socket, PollFlags::IN))
            .collect();
        if !poll(&mut waiting, Some(&patience)).is_ok_and(|ready| ready > 0) {
            continue;
        }
        let ready: Vec<bool> = waiting.iter().map(|entry| !entry.revents().is_empty()).collect();
        for ((socket, hit), _) in sockets.iter().zip(hits).zip(ready).filter(|(_, ready)| *ready) {
            if take(socket) {
                hit.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}

/// Takes one connection or message; the connection is closed at once.
fn take(socket: &Socket) -> bool {
    match socket {
        Socket::Unix(socket) => socket.accept().is_ok(),
        Socket::Tcp(socket) => socket.accept().is_ok(),
        Socket::Udp(socket) => socket.recv(&mut [0; 64]).is_ok(),
    }
}

/// Binds a Unix socket whose path may be long.
pub(crate) fn bind_long(path: &Path) -> io::Result<UnixListener> {
    use rustix::fs::{Mode, OFlags};
    use std::os::fd::AsRawFd;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::other("a socket needs a directory and a name"));
    };
    let directory: OwnedFd = rustix::fs::open(
        parent,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    UnixListener::bind(Path::new(&format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name))
}

/// Addresses of this host besides loopback, as its own routing would choose them; at most 8.
pub(crate) fn own_addresses() -> Vec<IpAddr> {
    let mut all = Vec::new();
    // Nothing is sent: connecting a datagram socket only chooses a route.
    for (bind, target) in [
        ("0.0.0.0:0", "192.0.2.1:9"),
        ("0.0.0.0:0", "10.255.255.1:9"),
        ("[::]:0", "[2001:db8::1]:9"),
    ] {
        let found = UdpSocket::bind(bind).and_then(|socket| {
            socket.connect(target)?;
            socket.local_addr()
        });
        if let Ok(address) = found
            && !address.ip().is_loopback()
            && !all.contains(&address.ip())
        {
            all.push(address.ip());
        }
    }
    all
}
