//! The sandbox of a session, from its policy to a running shim.

use crate::config::Config;
use crate::fold;
use crate::harness::AnyAdapter;
use crate::harness::conversation;
use crate::harness::install::in_use;
use crate::harness::instructions;
use crate::harness::launch::{HarnessLaunch, KEY_VALUE, KEY_VARIABLE, LaunchContext};
use crate::lease::{Egress, Lease, SOCKET};
use crate::shared::{Shared, chain};
use crate::trust::{Inventory, copy};
use lodge_guest::mux;
use lodge_proto::session::{SessionInfo, Tier};
use lodge_proto::{ErrorBody, ErrorCode};
use lodge_sandbox::files::{PolicyFiles, Wish};
use lodge_sandbox::launch::{self, Tools};
use lodge_sandbox::plan::{self, MUX_FD, SessionSpec};
use lodge_sandbox::policy::{self, Net, Policy, Profile, Unlisted};
use lodge_sandbox::view::HostView;
use lodge_sandbox::{host, workspace};
use lodge_shim::launch::{LaunchSpec, Limits};
use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Time a new shim has to take connections.
const PATIENCE: Duration = Duration::from_secs(20);
/// Time the sandbox itself may take to come up.
const START_CONTAINER: Duration = Duration::from_secs(30);
const START_MICROVM: Duration = Duration::from_mins(2);
/// Time a launcher with an engine may take to remove what it made.
const CLEANUP: Duration = Duration::from_secs(8);
/// Every profile, the loosest first.
pub const PROFILES: [Profile; 3] = [Profile::Minimal, Profile::Development, Profile::Strict];
/// Everything for [`spawn`]: the sandbox's descriptors are open.
#[derive(Debug)]
pub struct Start {
    spec: LaunchSpec,
    descriptors: Vec<OwnedFd>,
    /// What the policy came to.
    pub tier: Tier,
    pub profile: String,
}

/// What a session needs besides its harness.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub info: SessionInfo,
    pub wish: fold::Wish,
}

/// Compiles the session's sandbox and writes its harness's files.
pub async fn prepare(
    shared: &Shared,
    wanted: &Wanted,
    context: &LaunchContext,
    lease: &Lease,
    code: Option<Inventory>,
) -> Result<Start, ErrorBody> {
    let info = &wanted.info;
    let wish = sandbox_wish(&wanted.wish)?;
    let adapter = shared.adapter(&info.harness).ok_or_else(|| {
        ErrorBody::new(
            ErrorCode::NotFound,
            format!("no harness is named `{}`", info.harness),
        )
    })?;
    let mut launch = match adapter {
        AnyAdapter::Pi(_) => crate::harness::pi::launch::launch(context),
        AnyAdapter::Claude(_) => crate::harness::claude::launch::launch(context),
        AnyAdapter::Acp(_) => crate::harness::acp::launch::launch(context),
        AnyAdapter::Codex(_) => crate::harness::codex::launch::launch(context),
        AnyAdapter::OpenCode(_) => crate::harness::opencode::launch::launch(context),
    };
    let key = lease.key().to_owned();
    let listener = lease.listener().map_err(|error| internal(&error))?;
    let dir = shared.session_dir(info.id);
    let (config, roots) = (shared.config.clone(), context.installed.roots.clone());
    // The administrator's programs are not Lodge's to remove.
    let is_own = context.agent.is_none();
    let hidden = crate::harness::launch::hidden(&info.harness, context.agent.as_ref());
    let (id, path, harness) = (info.id, info.workspace.clone(), info.harness.clone());
    let work = move || {
        let held = if is_own {
            in_use::hold(&roots)
        } else {
            Ok(Vec::new())
        };
        let held = held.map_err(|error| crate::shared::harness_error(&error))?;
        let workspace = open_workspace(Path::new(&path), &config)?;
        let home = dir.join("home");
        launch
            .files
            .extend(instructions::of_project(&harness, &workspace.fd));
        write_files(&home, &launch)?;
        crate::harness::acp::home::before_start(&harness, &home);
        let mut policy = load_policy(&config, &workspace.path, wish)?;
        if code.is_none() {
            policy
                .fs
                .deny
                .extend(unshown(&harness, &hidden, &workspace.path)?);
        }
        let shown = show_trusted(&dir, code.as_ref(), &mut policy)?;
        let spec = SessionSpec {
            workspace: workspace.path.clone(),
            private_home: real(&home)?,
            gateway_socket: real(&dir.join("gw"))?.join(SOCKET),
            harness_roots: roots,
            init_binary: real(&config.init_binary)?,
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            session_id: id.to_string(),
        };
        let mut start = compile(
            (&policy, shown),
            &spec,
            &tools(&config, &spec),
            &launch,
            key,
            listener,
        )?;
        // As long as the shim lives, what its harness was started from is not removed.
        start.descriptors.extend(held);
        Ok(start)
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| internal(&error))?
}

/// What of the workspace is there and must not be shown to this harness.
fn unshown(harness: &str, names: &[String], workspace: &Path) -> Result<Vec<PathBuf>, ErrorBody> {
    let mut found = Vec::new();
    for name in names {
        let path = workspace.join(name);
        match std::fs::symlink_metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(internal(&format!("{}: {error}", path.display()))),
            // What a link leads to is not hidden by hiding the link, and a link cannot be covered.
            Ok(meta) if meta.is_symlink() => {
                let message = format!(
                    "the workspace's `{name}` is a symbolic link: {harness} would run what it leads to, and it cannot be \
                     hidden; remove it"
                );
                return Err(ErrorBody::new(ErrorCode::SandboxDenied, message));
            }
            Ok(_) => found.push(path),
        }
    }
    Ok(found)
}

/// Copies what the user trusts, and protects its places: the guest sees the copy there, which nobody changes.
fn show_trusted(
    dir: &Path,
    code: Option<&Inventory>,
    policy: &mut Policy,
) -> Result<BTreeMap<String, PathBuf>, ErrorBody> {
    let Some(code) = code else {
        copy::remove(dir).map_err(|error| internal(&error))?;
        return Ok(BTreeMap::new());
    };
    let shown = copy::write(&real(dir)?, code).map_err(|error| internal(&error))?;
    let names = shown.iter().map(|shown| shown.name.clone());
    policy.fs.protect.extend(names);
    Ok(shown.into_iter().map(|shown| (shown.name, shown.copy)).collect())
}

/// The policy, and by what it shows protected names.
type Walls<'a> = (&'a Policy, BTreeMap<String, PathBuf>);

fn compile(
    (policy, checked): Walls<'_>,
    spec: &SessionSpec,
    tools: &Tools,
    harness: &HarnessLaunch,
    key: String,
    listener: OwnedFd,
) -> Result<Start, ErrorBody> {
    let mut view = HostView::probe(policy, spec).map_err(|error| sandbox(&error))?;
    view.checked = checked;
    let plan = plan::plan(policy, spec, &view).map_err(|error| sandbox(&error))?;
    let command = launch::compile(&plan, tools, &spec.gateway_socket).map_err(|error| sandbox(&error))?;
    let argv = command
        .argv
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let mut env = plan.guest_env.clone();
    env.extend(harness.env.iter().map(|(name, value)| {
        let value = if value == KEY_VALUE { &key } else { value };
        (name.clone(), value.clone())
    }));
    env.push((KEY_VARIABLE.to_owned(), key));
    let start = mux::Start {
        argv: harness.argv.clone(),
        env,
        cwd: spec.workspace.to_string_lossy().into_owned(),
        pty: false,
        size: None,
    };
    let fds: Vec<i32> = command.fds.iter().map(AsRawFd::as_raw_fd).collect();
    let listener_fd = listener.as_raw_fd();
    let mut descriptors = command.fds;
    descriptors.push(listener);
    // The shim keeps it open as long as it lives: it is not among those that its command inherits.
    descriptors.extend(command.hold);
    let spec = LaunchSpec {
        argv,
        env: Vec::new(),
        fds,
        mux_fd_in_guest: MUX_FD,
        start,
        command_env: plan.guest_env,
        listener_fd: Some(listener_fd),
        runner_pid: Some(std::process::id()),
        limits: limits(plan.tier),
    };
    Ok(Start {
        spec,
        descriptors,
        tier: wire_tier(policy.tier),
        profile: policy.profile.name().to_owned(),
    })
}

fn limits(tier: policy::Tier) -> Limits {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let mut limits = Limits::default();
    match tier {
        policy::Tier::Process => {}
        policy::Tier::Container => limits.hello_ms = millis(START_CONTAINER),
        policy::Tier::Microvm => limits.hello_ms = millis(START_MICROVM),
    }
    if tier != policy::Tier::Process {
        limits.cleanup_ms = millis(CLEANUP);
    }
    limits
}

fn tools(config: &Config, spec: &SessionSpec) -> Tools {
    Tools {
        tier_binary: config.tier_binary.clone(),
        init_binary: spec.init_binary.clone(),
        state: config.sandbox_state(),
    }
}

/// The policy's word for a tier, and the protocol's.
pub const fn policy_tier(tier: Tier) -> policy::Tier {
    match tier {
        Tier::Process => policy::Tier::Process,
        Tier::Container => policy::Tier::Container,
        Tier::Microvm => policy::Tier::Microvm,
    }
}

pub const fn wire_tier(tier: policy::Tier) -> Tier {
    match tier {
        policy::Tier::Process => Tier::Process,
        policy::Tier::Container => Tier::Container,
        policy::Tier::Microvm => Tier::Microvm,
    }
}

/// What a client asked for, in the policy's words.
fn sandbox_wish(wish: &fold::Wish) -> Result<Wish, ErrorBody> {
    let profile = wish.profile.as_deref().map(|name| {
        PROFILES
            .into_iter()
            .find(|profile| profile.name() == name)
            .ok_or_else(|| {
                let known = PROFILES.map(Profile::name).join(", ");
                let message = format!("profile: there is no profile `{name}`; there are: {known}");
                ErrorBody::new(ErrorCode::InvalidArgument, message)
            })
    });
    Ok(Wish {
        profile: profile.transpose()?,
        tier: wish.tier.map(policy_tier),
    })
}

/// What the policy of a workspace makes of a wish. Blocking.
pub fn decide(config: &Config, workspace: &Path, wish: &fold::Wish) -> Result<(Tier, String), ErrorBody> {
    let policy = load_policy(config, workspace, sandbox_wish(wish)?)?;
    // Said when the session is made, and not when its harness is started for the first prompt.
    host::usable(policy.tier, &config.sandbox_state()).map_err(|error| sandbox(&error))?;
    Ok((wire_tier(policy.tier), policy.profile.name().to_owned()))
}

/// What the session's guest may reach besides models, as its policy says.
pub async fn egress(shared: &Shared, wanted: &Wanted) -> Result<Egress, ErrorBody> {
    let (config, path) = (shared.config.clone(), wanted.info.workspace.clone());
    let wish = sandbox_wish(&wanted.wish)?;
    let work = move || {
        let workspace = open_workspace(Path::new(&path), &config)?;
        let policy = load_policy(&config, &workspace.path, wish)?;
        Ok(egress_of(&policy.net))
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| internal(&error))?
}

fn egress_of(net: &Net) -> Egress {
    match net {
        Net::None => Egress::default(),
        Net::Broker {
            allow,
            deny,
            ports,
            unlisted,
        } => Egress {
            allow: allow.iter().cloned().collect(),
            deny: deny.iter().cloned().collect(),
            ports: ports.iter().copied().collect(),
            ask: *unlisted == Unlisted::Ask,
        },
    }
}

/// Starts the shim of a session. Blocking.
pub fn spawn(config: &Config, dir: &Path, start: Start) -> Result<(), ErrorBody> {
    let child = lodge_shim::launch::spawn(&config.shim_binary, dir, &start.spec, start.descriptors, PATIENCE)
        .map_err(|error| ErrorBody::new(ErrorCode::SandboxUnavailable, chain(&error)))?;
    reap(child, config.sandbox_state());
    Ok(())
}

/// Waits for the shim in a thread of its own: it outlives the session's task and must not become a zombie. What was
/// put into its workspace for it is taken away then.
fn reap(mut child: std::process::Child, state: PathBuf) {
    let reaper = std::thread::Builder::new()
        .name("shim-reaper".to_owned())
        .stack_size(256 * 1024);
    let work = move || {
        let _ = child.wait();
        sweep(&state);
    };
    if let Err(error) = reaper.spawn(work) {
        tracing::warn!(%error, "a shim will not be reaped");
    }
}

/// Removes what sandboxes that have ended needed in their workspaces. Blocking.
pub fn sweep(state: &Path) {
    if let Err(error) = lodge_sandbox::placeholder::sweep(state) {
        tracing::warn!(error = chain(&error), "sweeping after sandboxes");
    }
}

/// Opens a workspace if it may be used.
pub fn open_workspace(path: &Path, config: &Config) -> Result<workspace::Workspace, ErrorBody> {
    use lodge_sandbox::workspace::WorkspaceError;
    let opened = workspace::validate(path, &config.roots()).map_err(|error| {
        let code = match &error {
            WorkspaceError::NotFound { .. } => ErrorCode::NotFound,
            WorkspaceError::NotADirectory { .. } => ErrorCode::InvalidArgument,
            WorkspaceError::OutsideRoots { .. } | WorkspaceError::Symlink { .. } => ErrorCode::SandboxDenied,
            WorkspaceError::Io { .. } => ErrorCode::Internal,
        };
        let mut message = chain(&error);
        if code == ErrorCode::SandboxDenied {
            message.push_str("; start Lodge with `--workspace DIR` to allow another root");
        }
        ErrorBody::new(code, message)
    })?;
    match workspace::off_limits(&opened.path, &config.data_dir) {
        Some(reason) => Err(ErrorBody::new(ErrorCode::SandboxDenied, reason)),
        None => Ok(opened),
    }
}

fn load_policy(config: &Config, workspace: &Path, wish: Wish) -> Result<Policy, ErrorBody> {
    policy_files(config)
        .load(workspace, wish)
        .map_err(|error| ErrorBody::new(ErrorCode::SandboxDenied, chain(&error)))
}

/// Names of a workspace that its policy protects. Blocking.
pub fn protected(config: &Config, workspace: &Path, wish: &fold::Wish) -> Result<Vec<String>, ErrorBody> {
    let policy = load_policy(config, workspace, sandbox_wish(wish)?)?;
    Ok(policy.fs.protect.into_iter().collect())
}

/// Where the policy of this installation lies.
pub fn policy_files(config: &Config) -> PolicyFiles {
    match &config.system_policy {
        Some(system) => PolicyFiles::with_system(system, &config.data_dir),
        None => PolicyFiles::of(&config.data_dir),
    }
}

/// Writes the harness's files into the private home. The guest may have put links there: they are not followed.
fn write_files(home: &Path, launch: &HarnessLaunch) -> Result<(), ErrorBody> {
    make_dir(home)?;
    for file in &launch.files {
        let mut directory = home.to_owned();
        for component in file.path.parent().into_iter().flat_map(Path::components) {
            directory.push(component);
            make_dir(&directory)?;
        }
        let path = home.join(&file.path);
        let temporary = path.with_extension("lodge-new");
        let _ = std::fs::remove_file(&temporary);
        let written = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .and_then(|mut open| std::io::Write::write_all(&mut open, file.contents.as_bytes()))
            .and_then(|()| std::fs::rename(&temporary, &path));
        written.map_err(|error| internal(&format!("writing {}: {error}", path.display())))?;
    }
    Ok(())
}

/// A directory of our own; a link in its place is replaced.
fn make_dir(path: &Path) -> Result<(), ErrorBody> {
    let failed = |error: std::io::Error| internal(&format!("making {}: {error}", path.display()));
    if let Ok(found) = std::fs::symlink_metadata(path) {
        if found.is_dir() {
            return Ok(());
        }
        std::fs::remove_file(path).map_err(failed)?;
    }
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(path)
        .map_err(failed)
}

/// Copies the conversation of the session in `parent` into the home of one that was not started yet. Blocking.
pub fn copy_conversation(harness: &str, parent: &Path, fork: &Path) -> Result<(), ErrorBody> {
    let home = fork.join("home");
    // An attempt that broke off may have left something.
    match lodge_sandbox::remove_tree(&home) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(internal(&format!("{}: {error}", home.display())));
        }
        _ => make_dir(&home)?,
    }
    Ok(conversation::copy(harness, &parent.join("home"), &home)?)
}

fn real(path: &Path) -> Result<PathBuf, ErrorBody> {
    path.canonicalize()
        .map_err(|error| internal(&format!("{}: {error}", path.display())))
}

fn sandbox(error: &(impl std::error::Error + ?Sized)) -> ErrorBody {
    ErrorBody::new(ErrorCode::SandboxUnavailable, chain(error))
}

fn internal(error: &dyn std::fmt::Display) -> ErrorBody {
    ErrorBody::new(ErrorCode::Internal, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_does_not_open_lodges_own_data() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let mut config = Config::new(&root.join("data"), Path::new("/programs"));
        config.workspace_roots = vec![root.clone()];
        for name in ["src", "data/gateway", "data/workspaces/a"] {
            std::fs::create_dir_all(root.join(name)).unwrap();
        }
        for good in ["src", "data/workspaces/a"] {
            assert!(open_workspace(&root.join(good), &config).is_ok(), "{good}");
        }
        for bad in [root.clone(), root.join("data"), root.join("data/gateway")] {
            let error = open_workspace(&bad, &config).unwrap_err();
            assert_eq!(error.code, ErrorCode::SandboxDenied, "{}", bad.display());
            assert!(error.message.contains("data directory"), "{}", error.message);
        }
    }
}
