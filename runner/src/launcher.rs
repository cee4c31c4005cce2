//! The sandbox of a session, from its policy to a running shim.

use crate::harness::AnyAdapter;
use crate::harness::launch::{GUEST_HOME, HarnessLaunch, KEY_VALUE, KEY_VARIABLE, LaunchContext};
use crate::lease::{Lease, SOCKET};
use crate::shared::{Shared, chain};
use lodge_guest::mux;
use lodge_proto::session::SessionInfo;
use lodge_proto::{ErrorBody, ErrorCode};
use lodge_sandbox::plan::{self, MUX_FD, SessionSpec};
use lodge_sandbox::policy::Policy;
use lodge_sandbox::view::HostView;
use lodge_sandbox::{bwrap, host, workspace};
use lodge_shim::launch::{LaunchSpec, Limits};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Time a new shim has to take connections.
const PATIENCE: Duration = Duration::from_secs(20);
/// The user's own policy, below the data directory.
const USER_POLICY: &str = "config/sandbox.toml";
/// A workspace's policy; it may only narrow.
const WORKSPACE_POLICY: &str = ".lodge/sandbox.toml";
/// Where a fork finds the conversation it goes on from, below its private home.
const FORKED: &str = ".pi/agent/forked.jsonl";

/// Everything for [`spawn`]: the sandbox's descriptors are open.
#[derive(Debug)]
pub struct Start {
    spec: LaunchSpec,
    descriptors: Vec<OwnedFd>,
}

/// Compiles the session's sandbox and writes its harness's files.
pub async fn prepare(
    shared: &Shared,
    info: &SessionInfo,
    context: &LaunchContext,
    lease: &Lease,
) -> Result<Start, ErrorBody> {
    let adapter = AnyAdapter::new(&info.harness).ok_or_else(|| {
        ErrorBody::new(
            ErrorCode::NotFound,
            format!("no harness is named `{}`", info.harness),
        )
    })?;
    let launch = match adapter {
        AnyAdapter::Pi(_) => crate::harness::pi::launch::launch(context),
        AnyAdapter::Claude(_) => crate::harness::claude::launch::launch(context),
        AnyAdapter::Acp(_) => crate::harness::acp::launch::launch(context),
        AnyAdapter::Codex(_) => crate::harness::codex::launch::launch(context),
    };
    let key = lease.key().to_owned();
    let listener = lease.listener().map_err(|error| internal(&error))?;
    let dir = shared.session_dir(info.id);
    let (config, roots) = (shared.config.clone(), context.installed.roots.clone());
    let (id, path) = (info.id, info.workspace.clone());
    let work = move || {
        let workspace = open_workspace(Path::new(&path), &config.roots())?;
        let home = dir.join("home");
        write_files(&home, &launch)?;
        let policy = load_policy(&config, &workspace.path)?;
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
        compile(&policy, &spec, &launch, key, listener)
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| internal(&error))?
}

fn compile(
    policy: &Policy,
    spec: &SessionSpec,
    launch: &HarnessLaunch,
    key: String,
    listener: OwnedFd,
) -> Result<Start, ErrorBody> {
    let bwrap = host::require_process_tier().map_err(|error| sandbox(&error))?;
    let view = HostView::probe(policy, spec).map_err(|error| sandbox(&error))?;
    let plan = plan::plan(policy, spec, &view).map_err(|error| sandbox(&error))?;
    let command = bwrap::compile(&plan, &bwrap).map_err(|error| sandbox(&error))?;
    let argv = command
        .argv
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let mut env = plan.guest_env.clone();
    env.extend(launch.env.iter().map(|(name, value)| {
        let value = if value == KEY_VALUE { &key } else { value };
        (name.clone(), value.clone())
    }));
    env.push((KEY_VARIABLE.to_owned(), key));
    let start = mux::Start {
        argv: launch.argv.clone(),
        env,
        cwd: spec.workspace.to_string_lossy().into_owned(),
        pty: false,
        size: None,
    };
    let fds: Vec<i32> = command.fds.iter().map(AsRawFd::as_raw_fd).collect();
    let listener_fd = listener.as_raw_fd();
    let mut descriptors = command.fds;
    descriptors.push(listener);
    let spec = LaunchSpec {
        argv,
        env: Vec::new(),
        fds,
        mux_fd_in_guest: MUX_FD,
        start,
        listener_fd: Some(listener_fd),
        limits: Limits::default(),
    };
    Ok(Start { spec, descriptors })
}

/// Starts the shim of a session. Blocking.
pub fn spawn(shim: &Path, dir: &Path, start: Start) -> Result<(), ErrorBody> {
    let child = lodge_shim::launch::spawn(shim, dir, &start.spec, start.descriptors, PATIENCE)
        .map_err(|error| ErrorBody::new(ErrorCode::SandboxUnavailable, chain(&error)))?;
    reap(child);
    Ok(())
}

/// Waits for the shim in a thread of its own: it outlives the session's task and must not become a zombie.
fn reap(mut child: std::process::Child) {
    let reaper = std::thread::Builder::new()
        .name("shim-reaper".to_owned())
        .stack_size(64 * 1024);
    if let Err(error) = reaper.spawn(move || drop(child.wait())) {
        tracing::warn!(%error, "a shim will not be reaped");
    }
}

/// Opens a workspace if it may be used.
pub fn open_workspace(path: &Path, roots: &[PathBuf]) -> Result<workspace::Workspace, ErrorBody> {
    use lodge_sandbox::workspace::WorkspaceError;
    workspace::validate(path, roots).map_err(|error| {
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
    })
}

fn load_policy(config: &crate::config::Config, workspace: &Path) -> Result<Policy, ErrorBody> {
    let user = config.data_dir.join(USER_POLICY);
    let own = workspace.join(WORKSPACE_POLICY);
    Policy::load(config.system_policy.as_deref(), Some(&user), Some(&own))
        .map_err(|error| ErrorBody::new(ErrorCode::SandboxDenied, chain(&error)))
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

/// Copies the newest conversation of `parent` into the home of a fork.
pub fn copy_conversation(parent: &Path, fork: &Path, native: Option<&str>) -> Result<(), ErrorBody> {
    let Some(source) = native.and_then(|native| native.strip_prefix(GUEST_HOME)) else {
        return Ok(());
    };
    let source = parent.join("home").join(source.trim_start_matches('/'));
    // The guest owns that tree: only a plain file is copied, never what a link leads to.
    let plain = std::fs::symlink_metadata(&source).is_ok_and(|found| found.is_file());
    let inside = source
        .canonicalize()
        .ok()
        .zip(parent.join("home").canonicalize().ok());
    if !plain || !inside.is_some_and(|(source, home)| source.starts_with(home)) {
        return Ok(());
    }
    let target = fork.join("home").join(FORKED);
    let mut directory = fork.join("home");
    make_dir(&directory)?;
    for component in Path::new(FORKED).parent().into_iter().flat_map(Path::components) {
        directory.push(component);
        make_dir(&directory)?;
    }
    std::fs::copy(&source, &target)
        .map(drop)
        .map_err(|error| internal(&format!("copying the conversation: {error}")))
}

/// The copied conversation of a fork, below its home, if there is one.
pub fn copied_conversation(dir: &Path) -> Option<String> {
    dir.join("home").join(FORKED).is_file().then(|| FORKED.to_owned())
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
