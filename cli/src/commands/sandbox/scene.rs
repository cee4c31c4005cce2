//! A sandbox as the command line asks for it: policy, plan, and what a session would otherwise bring.

use super::workspace;
use crate::data::DataDir;
use crate::failure::{Failure, chain};
use crate::roles::companion;
use clap::ValueEnum;
use lodge_proto::ErrorCode;
use lodge_sandbox::SandboxError;
use lodge_sandbox::files::{PolicyFiles, Wish};
use lodge_sandbox::launch::Tools;
use lodge_sandbox::plan::{self, Plan, SessionSpec};
use lodge_sandbox::policy::{Policy, PolicyError, Profile, Tier};
use lodge_sandbox::view::HostView;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Which sandbox is meant.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Which {
    /// Directory the guest works in.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(super) workspace: PathBuf,
    /// Default set of rules; a policy file that stands above can only be narrowed by it.
    #[arg(long, value_enum)]
    pub(super) profile: Option<ProfileName>,
    /// What the guest runs in [default: the policy's].
    #[arg(long, value_enum)]
    pub(super) tier: Option<TierName>,
    /// The operator's policy, instead of config/sandbox.toml in the data directory.
    #[arg(long, value_name = "FILE")]
    pub(super) policy: Option<PathBuf>,
}

/// How what the command line asks for is called in errors of a policy.
const WISH: &str = "the request";

/// A profile on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProfileName {
    /// The loosest: the home is readable too, without its secrets.
    Minimal,
    /// The workspace, system files, registries and git hosts.
    Development,
    /// The workspace only, no network, a microVM.
    Strict,
}

/// A tier on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TierName {
    /// Namespaces, Landlock and seccomp on this kernel.
    Process,
    /// A container of Docker or Podman.
    Container,
    /// A virtual machine with a kernel of its own.
    Microvm,
}

impl From<ProfileName> for Profile {
    fn from(name: ProfileName) -> Self {
        match name {
            ProfileName::Minimal => Self::Minimal,
            ProfileName::Development => Self::Development,
            ProfileName::Strict => Self::Strict,
        }
    }
}

impl From<TierName> for Tier {
    fn from(name: TierName) -> Self {
        match name {
            TierName::Process => Self::Process,
            TierName::Container => Self::Container,
            TierName::Microvm => Self::Microvm,
        }
    }
}

/// Everything that is there before a sandbox starts.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) policy: Policy,
    pub(super) plan: Plan,
    pub(super) tools: Tools,
    pub(super) gateway_socket: PathBuf,
    /// The guest's only way out; whoever serves it takes it.
    pub(super) gateway: Option<UnixListener>,
}

impl Scene {
    /// Reads the policy and makes the plan; nothing runs yet. `private` is an empty directory for the guest's home and
    /// the gateway's socket.
    pub(super) fn new(data: &DataDir, which: &Which, private: &Path) -> anyhow::Result<Self> {
        let workspace = workspace::real(&which.workspace, data)?;
        let policy = policy(data, which, &workspace)?;
        let tools = tools(data)?;
        let base = private.canonicalize()?;
        let home = base.join("home");
        let gateway_directory = base.join("gw");
        for directory in [&home, &gateway_directory] {
            DirBuilder::new().mode(0o700).create(directory)?;
        }
        let gateway_socket = gateway_directory.join("gateway.sock");
        let gateway = lodge_proto::sock::bind(&gateway_socket)?;
        let spec = SessionSpec {
            workspace,
            private_home: home,
            gateway_socket: gateway_socket.clone(),
            harness_roots: Vec::new(),
            init_binary: tools.init_binary.clone(),
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            session_id: "sandbox-run".to_owned(),
        };
        let view = HostView::probe(&policy, &spec).map_err(|error| denied(&error))?;
        let plan = plan::plan(&policy, &spec, &view).map_err(|error| denied(&error))?;
        Ok(Self {
            policy,
            plan,
            tools,
            gateway_socket,
            gateway: Some(gateway),
        })
    }
}

/// The programs and the state directory of this installation.
pub(super) fn tools(data: &DataDir) -> anyhow::Result<Tools> {
    Ok(Tools {
        tier_binary: companion("lodge-tier")?,
        init_binary: companion("lodge-init")?.canonicalize()?,
        state: data.path().join("sandbox"),
    })
}

fn policy(data: &DataDir, which: &Which, workspace: &Path) -> anyhow::Result<Policy> {
    let mut files = PolicyFiles::of(data.path());
    if let Some(file) = &which.policy {
        if !file.is_file() {
            return Err(Failure::new(ErrorCode::NotFound, "there is no such policy file")
                .at(file.display().to_string())
                .mend("name an existing file; examples/config/sandbox.toml explains every key")
                .into());
        }
        files.system = Some(file.clone());
    }
    let wish = Wish {
        profile: which.profile.map(Profile::from),
        tier: which.tier.map(Tier::from),
    };
    files
        .load(workspace, wish)
        .map_err(|error| refused(&error).into())
}

/// A policy that cannot be used. It names its file and key itself.
pub(in crate::commands) fn refused(error: &PolicyError) -> Failure {
    let remedy = match error {
        PolicyError::Read { .. } => "make it a readable file; examples/config/sandbox.toml is one",
        PolicyError::Invalid { .. } => "mend that key; examples/config/sandbox.toml explains every key",
        PolicyError::Loosens { file, .. } if file.as_os_str() == WISH => {
            "ask for less, or loosen the policy; lodge sandbox explain shows it"
        }
        PolicyError::Loosens { .. } => "tighten it, or loosen the file that stands above",
    };
    Failure::new(ErrorCode::SandboxDenied, chain(error)).mend(remedy)
}

fn denied(error: &(impl std::error::Error + ?Sized)) -> anyhow::Error {
    Failure::new(ErrorCode::SandboxDenied, chain(error))
        .mend("mend what is named; lodge sandbox explain shows the whole policy")
        .into()
}

/// A sandbox that cannot be made here, and what the error itself says is to be done.
pub(super) fn unbuildable(error: &SandboxError) -> anyhow::Error {
    let (what, mend) = match error {
        SandboxError::MissingWall { wall, problem, mend } => {
            (format!("{wall} is missing: {problem}"), mend.as_str())
        }
        SandboxError::Limit { key, how, by, mend } => (
            format!("limits.require: {key} is only {how} here ({by})"),
            mend.as_str(),
        ),
        error => (chain(error), ""),
    };
    let mend = if mend.is_empty() { "lodge doctor" } else { mend };
    Failure::new(ErrorCode::SandboxUnavailable, what)
        .mend(mend)
        .into()
}

pub(super) fn unavailable(what: String) -> anyhow::Error {
    Failure::new(ErrorCode::SandboxUnavailable, what)
        .mend("lodge doctor")
        .into()
}
