//! A sandbox that runs, from its start to the last trace of it.

use super::scene::{Scene, unavailable, unbuildable};
use super::signals::Signals;
use crate::failure::chain;
use crate::terminal::complain;
use lodge_guest::client::Client;
use lodge_sandbox::policy::Tier;
use lodge_sandbox::{host, launch, placeholder};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

/// Time for what is left in a sandbox to end by itself; guest init kills after two seconds.
const SHUTDOWN: Duration = Duration::from_secs(10);
/// Time for a launcher to remove what it made: a container, a machine.
const REMOVAL: Duration = Duration::from_secs(30);

/// How long guest init may take to say hello. A virtual machine that is emulated boots slowly on a loaded host.
const fn patience(tier: Tier) -> Duration {
    Duration::from_secs(match tier {
        Tier::Process => 20,
        Tier::Container => 90,
        Tier::Microvm => 240,
    })
}

/// A sandbox that runs, and the process on the host that it hangs on.
#[derive(Debug)]
pub(super) struct Sandbox {
    pub(super) client: Client,
    launcher: Launcher,
}

/// What has to be ended and cleared away.
#[derive(Debug)]
struct Launcher {
    child: Child,
    /// The lock on what was made in the workspace for it.
    hold: Option<OwnedFd>,
    state: PathBuf,
}

impl Sandbox {
    /// Starts it; a signal that asks for an end hangs up on it.
    pub(super) fn start(scene: &Scene, signals: &Signals) -> anyhow::Result<Self> {
        let mut command = launch::compile(&scene.plan, &scene.tools, &scene.gateway_socket)
            .map_err(|error| unbuildable(&error))?;
        let (ours, theirs) = UnixStream::pair()?;
        signals.starting(ours.try_clone()?);
        let child = command
            .spawn(theirs.into(), Stdio::inherit())
            .map_err(|error| unbuildable(&error))?;
        let launcher = Launcher {
            child,
            hold: command.hold.take(),
            state: scene.tools.state.clone(),
        };
        match Client::new(ours.into(), patience(scene.plan.tier)) {
            Ok(client) => Ok(Self { client, launcher }),
            Err(error) => {
                launcher.end();
                // What the launcher lacked has a name, and a remedy.
                Err(match host::usable(scene.plan.tier, &scene.tools.state) {
                    Err(missing) => unbuildable(&missing),
                    Ok(_) => unavailable(chain(&error)),
                })
            }
        }
    }

    /// Ends what is left in it, and waits until nothing of it is there.
    pub(super) fn end(self) {
        let _ = self.client.shutdown(SHUTDOWN);
        self.launcher.end();
    }
}

impl Launcher {
    /// The stream has ended, which a launcher that starts a machine may not see at once.
    fn end(mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        if !self.ended() {
            lodge_sandbox::spawn::kill(&self.child);
        }
        let _ = self.child.wait();
        drop(self.hold.take());
        if let Err(error) = placeholder::sweep(&self.state) {
            complain(&format!(
                "lodge: stand-ins are left in the workspace: {}",
                chain(&error)
            ));
        }
    }

    fn ended(&self) -> bool {
        let Ok(child) = pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty()) else {
            return false;
        };
        let patience = Timespec::try_from(REMOVAL).ok();
        let mut ready = [PollFd::new(&child, PollFlags::IN)];
        rustix::io::retry_on_intr(|| poll(&mut ready, patience.as_ref())).is_ok_and(|count| count > 0)
    }
}
