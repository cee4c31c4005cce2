//! One way to start a sandbox of any tier: a plan becomes a command whose descriptor [`MUX_FD`](crate::plan::MUX_FD)
//! is the framed stream.
//!
//! In the process tier that command is bwrap itself. In the others it is `lodge-tier`, one process a sandbox that
//! drives the engine and passes the frames on; what it should do reaches it through a descriptor, never its arguments.

use std::ffi::OsString;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::bwrap::{self, PARKED, SandboxCommand, memory};
use crate::cgroup::{self, Delegation, Group};
use crate::error::SandboxError;
use crate::host;
use crate::limits::{self, Means};
use crate::placeholder;
use crate::plan::Plan;
use crate::policy::Tier;

/// What launchers need besides the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tools {
    /// The `lodge-tier` binary.
    pub tier_binary: PathBuf,
    /// Static guest init, for what is built from it (snapshots).
    pub init_binary: PathBuf,
    /// Lodge's own state of the sandboxes: guest images, kernels, snapshots, pools; mode 0700.
    pub state: PathBuf,
}

/// Where the user's container engine is, as the environment of whoever asks says; `lodge-tier` starts without one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineHint {
    /// `DOCKER_HOST`.
    pub docker_host: Option<String>,
    /// `XDG_RUNTIME_DIR`.
    pub runtime_dir: Option<PathBuf>,
}

impl EngineHint {
    pub fn from_env() -> Self {
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            docker_host: text("DOCKER_HOST"),
            runtime_dir: text("XDG_RUNTIME_DIR").map(PathBuf::from),
        }
    }
}

/// What `lodge-tier run --request-fd N` reads, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TierRequest {
    pub plan: Plan,
    pub tools: Tools,
    /// The session's gateway socket on the host.
    pub gateway_socket: PathBuf,
    pub engine: EngineHint,
    /// Whether this machine serves people who must not reach each other or root.
    #[serde(default)]
    pub hosted: bool,
}

/// The command that starts `plan`'s sandbox. Absent control files of the workspace are made now; after the sandbox's
/// end [`placeholder::sweep`] removes them.
pub fn compile(plan: &Plan, tools: &Tools, gateway_socket: &Path) -> Result<SandboxCommand, SandboxError> {
    limits::require(plan, &Means::probe(plan.tier))?;
    let hold = placeholder::acquire(&tools.state, &plan.workspace, &plan.placeholders)?;
    // What a killed launcher left goes at the latest when the next sandbox starts, unless that one needs it too.
    placeholder::remove_unused(&tools.state)?;
    let mut command = command(plan, tools, gateway_socket)?;
    // Its number must not be one that a spawner gives to something else.
    let parked = rustix::io::fcntl_dupfd_cloexec(&hold, PARKED);
    command.hold = Some(parked.map_err(|errno| SandboxError::Placeholder {
        path: plan.workspace.clone(),
        source: errno.into(),
    })?);
    Ok(command)
}

/// A shell that enters a fresh cgroup and becomes the command; its process id stays the same.
fn in_a_group(
    delegation: &Delegation,
    plan: &Plan,
    argv: Vec<OsString>,
) -> Result<Vec<OsString>, SandboxError> {
    let failed = |source| SandboxError::Cgroup {
        base: delegation.base.clone(),
        source,
    };
    cgroup::sweep(delegation).map_err(failed)?;
    let group = Group::create(delegation, &plan.limits).map_err(failed)?;
    Ok(through(&group.entrance(), argv))
}

fn through(entrance: &Path, argv: Vec<OsString>) -> Vec<OsString> {
    let shell = ["/bin/sh", "-c", "echo 0 > \"$0\" && exec \"$@\""].map(OsString::from);
    let entrance = entrance.as_os_str().to_owned();
    shell.into_iter().chain([entrance]).chain(argv).collect()
}

fn command(plan: &Plan, tools: &Tools, gateway_socket: &Path) -> Result<SandboxCommand, SandboxError> {
    if plan.tier == Tier::Process {
        let mut command = bwrap::compile(plan, &host::require_process_tier()?)?;
        if let Some(delegation) = cgroup::detect() {
            command.argv = in_a_group(&delegation, plan, command.argv)?;
        }
        return Ok(command);
    }
    let request = TierRequest {
        plan: plan.clone(),
        tools: tools.clone(),
        gateway_socket: gateway_socket.to_owned(),
        engine: EngineHint::from_env(),
        hosted: false,
    };
    let text = serde_json::to_vec(&request).map_err(|source| SandboxError::Content {
        what: "the request".to_owned(),
        source: source.into(),
    })?;
    let packed = memory("the request", &text)?;
    let argv = vec![
        tools.tier_binary.clone().into(),
        "run".into(),
        "--request-fd".into(),
        packed.as_raw_fd().to_string().into(),
    ];
    Ok(SandboxCommand {
        argv,
        fds: vec![packed],
        hold: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_enters_its_group_and_keeps_its_process_id() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let entrance = dir.path().join("cgroup.procs");
        let argv = ["/bin/sh", "-c", "echo $$"].map(OsString::from).into();
        let words = through(&entrance, argv);
        let mut command = std::process::Command::new(&words[0]);
        let child = command
            .args(&words[1..])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("a shell");
        let id = child.id();
        let output = child.wait_with_output().expect("its end");
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{id}\n"));
        assert_eq!(std::fs::read_to_string(&entrance).expect("the entrance"), "0\n");
        let missing = through(Path::new("/nonexistent/x"), vec!["/bin/true".into()]);
        let status = std::process::Command::new(&missing[0])
            .args(&missing[1..])
            .stderr(std::process::Stdio::null())
            .status();
        assert!(
            !status.expect("a status").success(),
            "it does not run outside its group"
        );
    }
}
