//! A shim under test: its launch, a runner's connection, and a stand-in for guest init.

pub(crate) mod guest;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use lodge_guest::mux;
use lodge_shim::client;
use lodge_shim::journal::{Id, Kind, Reader};
use lodge_shim::launch::{LaunchSpec, Limits};
use lodge_shim::stream::{FromStream, StreamExit};
use lodge_shim::wire::{Decoder, ErrorReply, Hello, HelloReply, ToRunner, ToShim, WIRE_VERSION};
use tempfile::TempDir;

/// Nothing here takes that long; a test that waits longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// A record that outlives its buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owned {
    pub(crate) seq: u64,
    pub(crate) kind: Kind,
    pub(crate) flags: u8,
    pub(crate) body: Vec<u8>,
}

impl Owned {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// What a runner hears.
#[derive(Debug)]
pub(crate) enum Heard {
    Record(Owned),
    Hello(HelloReply),
    Error(ErrorReply),
    Fenced,
    Closed,
    Silence,
    Opened(u64, u32),
    Refused(u64, String),
    Output(u32, Vec<u8>),
    StreamExit(StreamExit),
}

impl Heard {
    fn stream(news: &FromStream<'_>) -> Self {
        match news {
            FromStream::Opened { tag, stream } => Self::Opened(*tag, *stream),
            FromStream::Refused { tag, reason } => Self::Refused(*tag, (*reason).to_owned()),
            FromStream::Output { stream, bytes, .. } => Self::Output(*stream, bytes.to_vec()),
            FromStream::Exit { exit, .. } => Self::StreamExit(exit.clone()),
        }
    }
}

pub(crate) struct Session {
    pub(crate) dir: TempDir,
    pub(crate) shim: Option<Child>,
}

impl Session {
    pub(crate) fn new() -> Self {
        Self::in_dir(TempDir::new().unwrap())
    }

    pub(crate) fn in_dir(dir: TempDir) -> Self {
        Self { dir, shim: None }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.path().join("journal")
    }

    /// Starts a shim and waits until it is ready.
    pub(crate) fn start(&mut self, spec: &LaunchSpec) {
        let mut child = spawn(self.path(), spec);
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "ready\n", "{:?}", child.wait());
        self.shim = Some(child);
    }

    pub(crate) fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(self.shim.as_ref().unwrap())
    }

    pub(crate) fn kill(&mut self) {
        let mut shim = self.shim.take().unwrap();
        shim.kill().unwrap();
        shim.wait().unwrap();
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut shim = self.shim.take().unwrap();
        wait_gone(rustix::process::Pid::from_child(&shim));
        shim.wait().unwrap()
    }

    pub(crate) fn attach(&self, fence: u64, from_seq: u64) -> Runner {
        let mut runner = Runner::connect(self.path());
        runner.say(&ToShim::Hello(Hello {
            version: WIRE_VERSION,
            fence,
            from_seq,
        }));
        runner
    }

    /// Everything in the journal, which must be without a gap.
    pub(crate) fn records(&self) -> Vec<Owned> {
        let mut reader = Reader::oldest(&self.journal()).unwrap();
        let mut found: Vec<Owned> = Vec::new();
        while let Some(record) = reader.next().unwrap() {
            found.push(own(&record));
        }
        assert!(found.windows(2).all(|pair| pair[0].seq + 1 == pair[1].seq));
        found
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(mut shim) = self.shim.take() {
            let _ = shim.kill();
            let _ = shim.wait();
        }
    }
}

pub(crate) fn spawn(dir: &Path, spec: &LaunchSpec) -> Child {
    let mut child = Command::new(env!("CARGO_BIN_EXE_lodge-shim"))
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(&serde_json::to_vec(spec).unwrap())
        .unwrap();
    child
}

/// A session whose harness is a shell script, run by the stand-in for guest init.
pub(crate) fn script(text: &str) -> LaunchSpec {
    let own = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
    LaunchSpec {
        argv: vec![own, "--exact".into(), "guest_double".into(), "--nocapture".into()],
        env: Vec::new(),
        fds: Vec::new(),
        mux_fd_in_guest: 9,
        start: mux::Start {
            argv: vec!["/bin/sh".into(), "-c".into(), text.into()],
            env: vec![
                ("PATH".into(), "/usr/bin:/bin".into()),
                ("SECRET".into(), "hush".into()),
            ],
            cwd: "/".into(),
            pty: false,
            size: None,
        },
        command_env: vec![("PATH".into(), "/usr/bin:/bin".into())],
        listener_fd: None,
        runner_pid: None,
        limits: Limits::default(),
    }
}

pub(crate) fn id(number: u128) -> Id {
    number.to_be_bytes()
}

/// Waits until a process that need not be a child is gone.
pub(crate) fn wait_gone(pid: rustix::process::Pid) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let Ok(handle) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else {
        return;
    };
    let patience = Timespec::try_from(PATIENCE).unwrap();
    let ready = poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&patience)).unwrap();
    assert_eq!(ready, 1, "process {pid:?} did not end");
}

pub(crate) struct Runner {
    pub(crate) stream: UnixStream,
    decoder: Decoder,
    bytes: Vec<u8>,
}

fn own(record: &lodge_shim::journal::Record<'_>) -> Owned {
    Owned {
        seq: record.seq,
        kind: record.kind,
        flags: record.flags,
        body: record.body.to_vec(),
    }
}

impl Runner {
    pub(crate) fn connect(dir: &Path) -> Self {
        Self {
            stream: client::connect(dir).unwrap(),
            decoder: Decoder::new(),
            bytes: vec![0; 256 << 10],
        }
    }

    /// Answers whether the shim still listens.
    pub(crate) fn try_say(&mut self, message: &ToShim<'_>) -> bool {
        let mut bytes = Vec::new();
        message.encode_into(&mut bytes).unwrap();
        self.stream.write_all(&bytes).is_ok()
    }

    pub(crate) fn say(&mut self, message: &ToShim<'_>) {
        assert!(self.try_say(message), "the shim hung up");
    }

    pub(crate) fn input(&mut self, number: u128, text: &str) {
        self.say(&ToShim::Input {
            id: id(number),
            bytes: text.as_bytes(),
        });
    }

    pub(crate) fn ack(&mut self, durable: u64) {
        self.try_say(&ToShim::Ack {
            durable,
            prune_before: 0,
        });
    }

    pub(crate) fn hear(&mut self) -> Heard {
        self.hear_within(PATIENCE)
    }

    pub(crate) fn hear_within(&mut self, patience: Duration) -> Heard {
        self.stream.set_read_timeout(Some(patience)).unwrap();
        loop {
            if let Some(frame) = self.decoder.next().unwrap() {
                return match ToRunner::parse(frame).unwrap() {
                    ToRunner::HelloReply(reply) => Heard::Hello(reply),
                    ToRunner::Record(record) => Heard::Record(own(&record)),
                    ToRunner::Fenced => Heard::Fenced,
                    ToRunner::Error(error) => Heard::Error(error),
                    ToRunner::Listener => panic!("nobody asked for the listener"),
                    ToRunner::Stream(news) => Heard::stream(&news),
                };
            }
            match self.stream.read(&mut self.bytes) {
                Ok(0) => return Heard::Closed,
                Ok(count) => self.decoder.push(&self.bytes[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Heard::Silence,
                Err(_) => return Heard::Closed,
            }
        }
    }

    pub(crate) fn hello(&mut self) -> HelloReply {
        match self.hear() {
            Heard::Hello(reply) => reply,
            other => panic!("no hello but {other:?}"),
        }
    }

    /// Reads on until a record of that kind, and answers it.
    pub(crate) fn until(&mut self, kind: Kind) -> Owned {
        loop {
            match self.hear() {
                Heard::Record(record) if record.kind == kind => return record,
                Heard::Record(_) | Heard::Hello(_) => {}
                other => panic!("no {kind:?} but {other:?}"),
            }
        }
    }
}
