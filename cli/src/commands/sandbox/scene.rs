//! A sandbox as the command line asks for it: policy, plan, and what a session would otherwise bring.

use crate::data::DataDir;
use crate::failure::Failure;
use crate::roles::companion;
use clap::ValueEnum;
use lodge_proto::ErrorCode;
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
    /// Private home and gateway socket; gone with the scene.
    _private: tempfile::TempDir,
}

impl Scene {
    /// Reads the policy and makes the plan; nothing runs yet.
    pub(super) fn new(data: &DataDir, which: &Which) -> anyhow::Result<Self> {
        let workspace = real_directory(&which.workspace)?;
        let policy = policy(data, which, &workspace)?;
        let tools = tools(data)?;
        let private = tempfile::Builder::new()
            .prefix("lodge-sandbox-")
            .tempdir()
            .map_err(|error| unavailable(format!("no private directory can be made: {error}")))?;
        let base = private.path().canonicalize()?;
        let home = base.join("home");
        let gateway_directory = base.join("gw");
        for directory in [&home, &gateway_directory] {
            DirBuilder::new().mode(0o700).create(directory)?;
        }
        let gateway_socket = gateway_directory.join("gateway.sock");
        let gateway = UnixListener::bind(&gateway_socket)?;
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
        let view = HostView::probe(&policy, &spec).map_err(|error| denied(&error, None))?;
        let plan = plan::plan(&policy, &spec, &view).map_err(|error| denied(&error, which.policy.as_deref()))?;
        Ok(Self {
            policy,
            plan,
            tools,
            gateway_socket,
            gateway: Some(gateway),
            _private: private,
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
    files.load(workspace, wish).map_err(|error| {
        let remedy = match &error {
            PolicyError::Loosens { .. } => "tighten it, or loosen the file that stands above",
            _ => "mend that key; examples/config/sandbox.toml explains every key",
        };
        Failure::new(ErrorCode::SandboxDenied, error.to_string())
            .mend(remedy)
            .into()
    })
}

fn real_directory(path: &Path) -> anyhow::Result<PathBuf> {
    match path.canonicalize() {
        Ok(real) if real.is_dir() => Ok(real),
        Ok(_) => Err(
            Failure::new(ErrorCode::InvalidArgument, "the workspace is not a directory")
                .at(path.display().to_string())
                .mend("name an existing directory with --workspace DIR")
                .into(),
        ),
        Err(error) => Err(
            Failure::new(ErrorCode::NotFound, format!("the workspace cannot be used: {error}"))
                .at(path.display().to_string())
                .mend("name an existing directory with --workspace DIR")
                .into(),
        ),
    }
}

fn denied(error: &(impl std::error::Error + ?Sized), file: Option<&Path>) -> anyhow::Error {
    let mut failure = Failure::new(ErrorCode::SandboxDenied, crate::failure::chain(error))
        .mend("lodge sandbox explain shows the policy; docs: sandbox policy");
    if let Some(file) = file {
        failure = failure.at(file.display().to_string());
    }
    failure.into()
}

pub(super) fn unavailable(what: String) -> anyhow::Error {
    Failure::new(ErrorCode::SandboxUnavailable, what)
        .mend("lodge doctor")
        .into()
}
