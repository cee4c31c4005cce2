//! One way to start a sandbox of any tier: a plan becomes a command whose descriptor [`MUX_FD`](crate::plan::MUX_FD)
//! is the framed stream.
//!
//! In the process tier that command is bwrap itself. In the others it is `lodge-tier`, one process a sandbox that
//! drives the engine and passes the frames on; what it should do reaches it through a descriptor, never its arguments.

use std::os::fd::AsRawFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::bwrap::{self, SandboxCommand, memory};
use crate::error::SandboxError;
use crate::host;
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

/// What `lodge-tier run --request-fd N` reads, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TierRequest {
    pub plan: Plan,
    pub tools: Tools,
    /// The session's gateway socket on the host.
    pub gateway_socket: PathBuf,
}

/// The command that starts `plan`'s sandbox.
pub fn compile(
    plan: &Plan,
    tools: &Tools,
    gateway_socket: &std::path::Path,
) -> Result<SandboxCommand, SandboxError> {
    if plan.tier == Tier::Process {
        return bwrap::compile(plan, &host::require_process_tier()?);
    }
    let request = TierRequest {
        plan: plan.clone(),
        tools: tools.clone(),
        gateway_socket: gateway_socket.to_owned(),
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
    })
}
