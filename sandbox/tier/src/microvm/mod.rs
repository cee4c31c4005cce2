//! The microVM tier: QEMU inside the process tier's wall, with no network device.
//!
//! `lodge-tier` stays between whoever asked for the sandbox and the machine: it decodes every frame of guest init and
//! makes the gateway connections that the guest opens. When either end ends, QEMU is killed; when `lodge-tier` is, the
//! wall takes QEMU with it. A machine starts from a snapshot where there is one, else it boots.

mod bridge;
mod clock;
mod console;
mod error;
mod gateway;
mod host;
mod keeper;
mod machine;
mod monitor;
mod process;
mod ram;
mod snapshot;
mod view;

#[cfg(test)]
mod plan_tests;

use std::fmt::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lodge_guest::mux::{Configure, Frame, Kind, Share};
use lodge_sandbox::host::Bwrap;
use lodge_sandbox::plan::{Mount, Plan};
use serde_json::json;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{sleep, timeout};

pub use error::{MicrovmError, ProtocolError};
pub use keeper::keep;

use crate::request::Job;
use bridge::Machine as Link;
use machine::{Begin, Machine};
use monitor::Monitor;
use process::{Process, tokio_stream};
use snapshot::Snapshot;

/// How long a boot, and a start from a snapshot, may take on a loaded host that emulates the machine.
const BOOT: Duration = Duration::from_mins(3);
const RESTORE: Duration = Duration::from_mins(1);
/// How soon it is noticed that whoever asked has gone while the machine starts.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Runs one sandbox until either end of its stream ends, or TERM or INT comes.
pub async fn run(job: Job) -> Result<(), MicrovmError> {
    let on = |kind| signal(kind).map_err(MicrovmError::system("wait for signals"));
    let (mut term, mut int): (Signal, Signal) = (on(SignalKind::terminate())?, on(SignalKind::interrupt())?);
    tokio::select! {
        outcome = serve(job) => outcome,
        _ = term.recv() => Ok(()),
        _ = int.recv() => Ok(()),
    }
}

async fn serve(job: Job) -> Result<(), MicrovmError> {
    let Job { request, mux } = job;
    let asker = tokio_stream(mux).map_err(MicrovmError::system("use the framed stream"))?;
    let start = Start::new(&request.plan, &request.tools.state)?;
    let (process, link) = tokio::select! {
        started = start.anyhow() => started?,
        () = gone(&asker) => return Ok(()),
    };
    let outcome = bridge::pass(asker, link, request.gateway_socket.clone()).await;
    drop(process);
    Ok(outcome?)
}

/// Returns when whoever asked is there no more, also while bytes of theirs are unread.
async fn gone(asker: &UnixStream) {
    loop {
        match asker.ready(Interest::READABLE).await {
            Ok(ready) if !ready.is_read_closed() => sleep(LOOK_AGAIN).await,
            _ => return,
        }
    }
}

/// Everything a start needs.
struct Start<'a> {
    plan: &'a Plan,
    state: &'a std::path::Path,
    machine: Machine,
    image: String,
    tree: Vec<Mount>,
    shares: Vec<Share>,
    wall: Bwrap,
}

impl<'a> Start<'a> {
    fn new(plan: &'a Plan, state: &'a std::path::Path) -> Result<Self, MicrovmError> {
        let image = lodge_image::current(state)?;
        let view = view::divide(&plan.mounts)?;
        Ok(Self {
            plan,
            state,
            machine: host::machine(plan, state, &image)?,
            image: image.manifest.digest,
            tree: view.tree,
            shares: view.shares,
            wall: host::wall(state)?,
        })
    }

    /// From the snapshot; where that does not work, from the beginning.
    async fn anyhow(&self) -> Result<(Process, Link), MicrovmError> {
        match snapshot::ready(self.state, &self.machine, &self.image, &self.wall).await {
            Ok(snapshot) => match self.restored(&snapshot).await {
                Ok(started) => return Ok(started),
                Err(error) => {
                    eprintln!("lodge-tier: the machine boots, its snapshot was of no use: {error}");
                    snapshot.discard();
                }
            },
            Err(error) => eprintln!("lodge-tier: the machine boots, it has no snapshot: {error}"),
        }
        self.cold().await
    }

    async fn cold(&self) -> Result<(Process, Link), MicrovmError> {
        let memory = self.memory()?;
        let machine = host::measured(&self.machine);
        let wall = (&self.wall, false);
        let (process, ends) = process::spawn(&machine, Begin::Cold, &memory, self.tree.clone(), wall)?;
        let link = self.configure(&process, Link::new(ends.stream), BOOT).await?;
        Ok((process, link))
    }

    async fn restored(&self, snapshot: &Snapshot) -> Result<(Process, Link), MicrovmError> {
        let size = self.machine.size.bytes();
        let kept = keeper::ask(snapshot.folder(), size);
        let fresh = kept.is_none();
        let memory = kept.map_or_else(|| self.memory(), Ok)?;
        let device = snapshot.device()?;
        let wall = (&self.wall, true);
        let (process, ends) =
            process::spawn(&self.machine, Begin::Restored, &memory, self.tree.clone(), wall)?;
        let load = async {
            let monitor = ends.monitor.ok_or_else(|| MicrovmError::Monitor {
                reason: "there is none".to_owned(),
            })?;
            // QEMU maps the memory and does not look at it before it loads the devices.
            let fill = async {
                if fresh {
                    snapshot.fill(&memory, size).await?;
                    keeper::seal(&memory).map_err(MicrovmError::system("seal the machine's memory"))?;
                }
                Ok::<(), MicrovmError>(())
            };
            let (filled, monitor) = tokio::join!(fill, Monitor::connect(monitor));
            filled?;
            let mut monitor = monitor?;
            snapshot::share_memory(&mut monitor).await?;
            monitor.give("device", device.as_fd()).await?;
            let uri = json!({ "uri": "fd:device" });
            monitor.execute("migrate-incoming", uri).await.map(drop)
        };
        match timeout(RESTORE, load).await {
            Ok(loaded) => loaded?,
            Err(_) => return Err(silent(&process, RESTORE)),
        }
        let link = self.configure(&process, Link::new(ends.stream), RESTORE).await?;
        if fresh && let Err(error) = keeper::leave(snapshot.folder(), &memory) {
            eprintln!("lodge-tier: the machine's memory is not kept for the next one: {error}");
        }
        Ok((process, link))
    }

    fn memory(&self) -> Result<OwnedFd, MicrovmError> {
        let memory = ram::allocate(self.machine.size.bytes());
        memory.map_err(MicrovmError::system("allocate the machine's memory"))
    }

    /// Tells guest init what it is and waits for its hello.
    async fn configure(
        &self,
        process: &Process,
        mut link: Link,
        limit: Duration,
    ) -> Result<Link, MicrovmError> {
        let frame = configuration(self.plan, &self.shares)?;
        let hello = async {
            link.send(&frame).await?;
            Ok(link.hello().await?)
        };
        match timeout(limit, hello).await {
            Ok(Ok(true)) => Ok(link),
            Ok(Ok(false)) => Err(died(process).await),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(silent(process, limit)),
        }
    }
}

fn configuration(plan: &Plan, shares: &[Share]) -> Result<Frame, MicrovmError> {
    let mut entropy = [0; 64];
    let filled = rustix::rand::getrandom(&mut entropy[..], rustix::rand::GetRandomFlags::empty());
    filled.map_err(|errno| MicrovmError::system("get random bytes")(errno.into()))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let configure = Configure {
        env: plan.init_env.clone(),
        clock_ns: u64::try_from(now.as_nanos()).unwrap_or(u64::MAX),
        entropy: hexadecimal(&entropy),
        hostname: plan.hostname.clone(),
        uid: plan.uid,
        gid: plan.gid,
        mounts: shares.to_vec(),
    };
    Ok(Frame::json(Kind::Configure, 0, &configure).map_err(ProtocolError::from)?)
}

async fn died(process: &Process) -> MicrovmError {
    // What it said last is still under way through its console.
    sleep(LOOK_AGAIN).await;
    MicrovmError::Died {
        said: process.console.last_words(),
    }
}

fn silent(process: &Process, limit: Duration) -> MicrovmError {
    MicrovmError::Silent {
        seconds: limit.as_secs(),
        said: process.console.last_words(),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
