//! A policy and a session compiled to data: everything a launcher does, in order. A pure function.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use lodge_guest::walls::{self, Landlock, Walls};
use serde::{Deserialize, Serialize};

use crate::control::{control, hide};
use crate::policy::{Limits, Nesting, Net, Policy, Profile, Tier};
use crate::size::Bytes;
use crate::view::{HostView, Kind};

/// Home directory inside every sandbox.
pub const GUEST_HOME: &str = "/home/guest";
/// Guest init inside every sandbox.
pub const GUEST_INIT: &str = "/run/lodge/init";
/// The gateway's socket inside every sandbox.
pub const GUEST_GATEWAY: &str = "/run/lodge/gateway.sock";
/// Port on the guest's loopback that leads to the gateway.
pub const GATEWAY_PORT: u16 = 8377;
/// Number under which guest init inherits its end of the framed stream.
pub const MUX_FD: i32 = 3;
/// User and group of a guest whose runner is root.
const GUEST_ID: u32 = 1000;

/// Where nothing of a user's may be mounted.
const RESERVED: &[&str] = &[
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/proc",
    "/run/lodge",
    "/sbin",
    "/sys",
    "/usr",
];

/// What one session brings. All paths are absolute and free of symbolic links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionSpec {
    /// Mounted read-write at its own path.
    pub workspace: PathBuf,
    /// Mounted read-write as [`GUEST_HOME`].
    pub private_home: PathBuf,
    /// Mounted as [`GUEST_GATEWAY`].
    pub gateway_socket: PathBuf,
    /// Mounted read-only at their own paths.
    pub harness_roots: Vec<PathBuf>,
    /// Mounted read-only as [`GUEST_INIT`].
    pub init_binary: PathBuf,
    /// User and group of the runner.
    pub uid: u32,
    pub gid: u32,
    pub session_id: String,
}

/// Whether a mount may be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    Read,
    Write,
}

/// How a launcher gets hold of the source of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Root-owned system path, by name.
    System,
    /// Opened without following links and mounted by that descriptor; must be a directory.
    Directory,
    /// The same, and must not be a directory.
    File,
}

/// One step of building the file view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mount", rename_all = "snake_case")]
pub enum Mount {
    Bind {
        from: PathBuf,
        at: PathBuf,
        access: Access,
        source: Source,
    },
    Symlink {
        to: PathBuf,
        at: PathBuf,
    },
    /// A file of generated content on the sandbox's own root.
    Content {
        at: PathBuf,
        content: String,
    },
    /// An empty read-only file over an existing or absent one.
    EmptyFile {
        at: PathBuf,
    },
    Tmpfs {
        at: PathBuf,
        size: Bytes,
        mode: u32,
    },
    Proc {
        at: PathBuf,
    },
    Dev {
        at: PathBuf,
    },
    RemountReadOnly {
        at: PathBuf,
    },
}

/// Everything a launcher executes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    pub tier: Tier,
    pub session_id: String,
    /// Where commands start; also one of the mounts.
    pub workspace: PathBuf,
    /// In order. In the process tier the whole view; in the others only what comes on top of the guest image
    /// ([`Mount::Bind`] of what was checked, [`Mount::Content`], [`Mount::EmptyFile`], [`Mount::Tmpfs`]), whose root is
    /// read-only.
    pub mounts: Vec<Mount>,
    /// User and group inside; never 0.
    pub uid: u32,
    pub gid: u32,
    /// Whether user namespaces inside are switched off.
    pub deny_user_namespaces: bool,
    pub hostname: String,
    /// Environment of guest init.
    pub init_env: Vec<(String, String)>,
    /// What every command's environment starts from.
    pub guest_env: Vec<(String, String)>,
    pub argv: Vec<String>,
    /// Walls that guest init raises; also part of `init_env`.
    pub walls: Walls,
    /// Protected names that do not exist and could only be held by leaving files behind in the workspace:
    /// a guest can create them.
    pub unprotected: Vec<String>,
    /// Absent protected names that are made before the start so that they can be held, and removed after the end.
    pub placeholders: Vec<Placeholder>,
    pub network: Network,
    /// What a tier with an engine of its own (Docker, QEMU, cgroup v2) can hold; rlimits and samples are in `walls`.
    pub limits: Limits,
}

/// An empty file or directory made on the host, below the workspace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Placeholder {
    /// Relative to the workspace.
    pub name: String,
    pub directory: bool,
}

/// The way out besides the gateway's port, which there always is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum Network {
    None,
    /// Connections by name through the gateway's broker: proxy variables are set, and guest init answers name
    /// queries and captures connections to `ports`.
    Broker {
        ports: BTreeSet<u16>,
    },
}

/// Why no plan can be made.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The policy asks for something that this version does not enforce.
    #[error("policy: {key}: {reason}")]
    Unsupported { key: &'static str, reason: &'static str },
    #[error("{} is not absolute", path.display())]
    Relative { path: PathBuf },
    /// A path would cover, or lie in, a part of the sandbox that is not the user's.
    #[error("{} cannot be used in a sandbox: it collides with {}", path.display(), with.display())]
    Collision { path: PathBuf, with: PathBuf },
    #[error("cannot write the walls down: {0}")]
    Walls(#[from] serde_json::Error),
}

/// Compiles `policy` for one session on a host that looks like `view`.
pub fn plan(policy: &Policy, spec: &SessionSpec, view: &HostView) -> Result<Plan, PlanError> {
    supported(policy)?;
    disjoint(policy, spec)?;
    let uid = if spec.uid == 0 { GUEST_ID } else { spec.uid };
    let gid = if spec.gid == 0 { GUEST_ID } else { spec.gid };
    let mut mounts = system(view);
    mounts.extend(accounts(uid, gid));
    mounts.extend(kernel(policy.fs.tmp_size));
    mounts.push(bind(
        &spec.private_home,
        GUEST_HOME,
        Access::Write,
        Source::Directory,
    ));
    mounts.extend(roots(policy, spec));
    mounts.push(bind(
        &spec.workspace,
        &spec.workspace,
        Access::Write,
        Source::Directory,
    ));
    let (control, unprotected) = control(policy, &spec.workspace, view);
    mounts.extend(control);
    mounts.extend(view.denied.iter().flat_map(|(path, kind)| hide(path, kind)));
    mounts.push(bind(&spec.init_binary, GUEST_INIT, Access::Read, Source::File));
    mounts.push(bind(
        &spec.gateway_socket,
        GUEST_GATEWAY,
        Access::Read,
        Source::File,
    ));
    mounts.push(Mount::RemountReadOnly { at: "/".into() });
    let walls = walls(policy, &mounts);
    Ok(Plan {
        tier: policy.tier,
        session_id: spec.session_id.clone(),
        workspace: spec.workspace.clone(),
        placeholders: Vec::new(),
        network: Network::None,
        limits: policy.limits.clone(),
        uid,
        gid,
        deny_user_namespaces: policy.nesting == Nesting::Deny,
        hostname: "lodge".to_owned(),
        init_env: init_env(&walls)?,
        guest_env: guest_env(policy, spec, view),
        argv: vec![GUEST_INIT.to_owned()],
        walls,
        mounts,
        unprotected,
    })
}

/// A setting that is parsed is enforced or refused.
fn supported(policy: &Policy) -> Result<(), PlanError> {
    let Limits {
        disk,
        output,
        wall_seconds,
        idle_seconds,
        ..
    } = &policy.limits;
    let refusals = [
        (
            policy.profile != Profile::Development,
            "profile",
            "only `development` can be run by this version",
        ),
        (
            policy.tier != Tier::Process,
            "tier",
            "only `process` can be run by this version",
        ),
        (
            policy.net != Net::None,
            "net.mode",
            "the egress broker does not exist in this version",
        ),
        (disk.is_some(), "limits.disk", "not enforced by this version"),
        (output.is_some(), "limits.output", "not enforced by this version"),
        (
            wall_seconds.is_some(),
            "limits.wall_seconds",
            "not enforced by this version",
        ),
        (
            idle_seconds.is_some(),
            "limits.idle_seconds",
            "not enforced by this version",
        ),
    ];
    match refusals.into_iter().find(|(refused, ..)| *refused) {
        Some((_, key, reason)) => Err(PlanError::Unsupported { key, reason }),
        None => Ok(()),
    }
}

/// No root of the session may cover a part of the sandbox, and the workspace may hold nothing of Lodge.
fn disjoint(policy: &Policy, spec: &SessionSpec) -> Result<(), PlanError> {
    let Fs { extra, own } = Fs::of(policy, spec);
    for path in own
        .iter()
        .chain(&extra)
        .copied()
        .chain([spec.workspace.as_path()])
    {
        if !path.is_absolute() {
            return Err(PlanError::Relative {
                path: path.to_owned(),
            });
        }
    }
    let collides = |path: &Path, with: &Path| {
        Err(PlanError::Collision {
            path: path.to_owned(),
            with: with.to_owned(),
        })
    };
    for root in extra.into_iter().chain([spec.workspace.as_path()]) {
        if let Some(with) = RESERVED
            .iter()
            .map(Path::new)
            .find(|taken| root.starts_with(taken))
        {
            return collides(root, with);
        }
        let below = RESERVED.iter().chain(&["/tmp", GUEST_HOME]).map(Path::new);
        if let Some(with) = below.into_iter().find(|inside| inside.starts_with(root)) {
            return collides(root, with);
        }
    }
    match own
        .into_iter()
        .find(|path| path.starts_with(&spec.workspace) || spec.workspace.starts_with(path))
    {
        Some(with) => collides(&spec.workspace, with),
        None => Ok(()),
    }
}

/// The paths of a session, apart from the workspace.
struct Fs<'a> {
    /// Mounted at their own paths.
    extra: Vec<&'a Path>,
    /// What a guest must not reach through its workspace.
    own: Vec<&'a Path>,
}

impl<'a> Fs<'a> {
    fn of(policy: &'a Policy, spec: &'a SessionSpec) -> Self {
        let harness = spec.harness_roots.iter().map(PathBuf::as_path);
        let granted = policy
            .fs
            .read
            .iter()
            .chain(&policy.fs.write)
            .map(PathBuf::as_path);
        let own = [&spec.private_home, &spec.gateway_socket, &spec.init_binary].map(PathBuf::as_path);
        Self {
            extra: harness.clone().chain(granted).collect(),
            own: own.into_iter().chain(harness).collect(),
        }
    }
}

pub(crate) fn bind(from: impl AsRef<Path>, at: impl AsRef<Path>, access: Access, source: Source) -> Mount {
    Mount::Bind {
        from: from.as_ref().to_owned(),
        at: at.as_ref().to_owned(),
        access,
        source,
    }
}

fn system(view: &HostView) -> Vec<Mount> {
    let mount = |(path, kind): &(PathBuf, Kind)| match kind {
        Kind::Symlink(to) => Mount::Symlink {
            to: to.clone(),
            at: path.clone(),
        },
        Kind::Directory | Kind::File => bind(path, path, Access::Read, Source::System),
    };
    view.system.iter().map(mount).collect()
}

/// Made-up accounts and resolver: a guest learns no user of the host, and there is no name service.
fn accounts(uid: u32, gid: u32) -> Vec<Mount> {
    let content = |at: &str, content: String| Mount::Content {
        at: at.into(),
        content,
    };
    vec![
        content(
            "/etc/passwd",
            format!(
                "guest:x:{uid}:{gid}:guest:{GUEST_HOME}:/bin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n"
            ),
        ),
        content("/etc/group", format!("guest:x:{gid}:\nnogroup:x:65534:\n")),
        content(
            "/etc/nsswitch.conf",
            "passwd: files\ngroup: files\nhosts: files dns\n".into(),
        ),
        content("/etc/hosts", "127.0.0.1 localhost lodge\n::1 localhost\n".into()),
        content("/etc/resolv.conf", String::new()),
    ]
}

fn kernel(tmp_size: Bytes) -> Vec<Mount> {
    let tmpfs = |at: &str, mode| Mount::Tmpfs {
        at: at.into(),
        size: tmp_size,
        mode,
    };
    vec![
        Mount::Proc { at: "/proc".into() },
        Mount::Dev { at: "/dev".into() },
        tmpfs("/dev/shm", 0o1777),
        // Else it would be a second scratch space, without a size.
        Mount::RemountReadOnly { at: "/dev".into() },
        tmpfs("/tmp", 0o1777),
        Mount::Symlink {
            to: "/tmp".into(),
            at: "/var/tmp".into(),
        },
    ]
}

fn roots(policy: &Policy, spec: &SessionSpec) -> Vec<Mount> {
    let own = |path: &PathBuf, access| bind(path, path, access, Source::Directory);
    let read: BTreeSet<&PathBuf> = spec.harness_roots.iter().chain(&policy.fs.read).collect();
    let read = read.into_iter().map(|path| own(path, Access::Read));
    read.chain(policy.fs.write.iter().map(|path| own(path, Access::Write)))
        .collect()
}

fn walls(policy: &Policy, mounts: &[Mount]) -> Walls {
    let nesting = policy.nesting != Nesting::Deny;
    let text = |path: &PathBuf| path.to_string_lossy().into_owned();
    let mut paths = Landlock::default();
    for mount in mounts {
        match mount {
            Mount::Bind {
                at,
                access: Access::Write,
                ..
            }
            | Mount::Tmpfs { at, .. }
            | Mount::Proc { at }
            | Mount::Dev { at } => paths.write.push(text(at)),
            Mount::Bind { at, .. } | Mount::Content { at, .. } | Mount::EmptyFile { at } => {
                paths.read.push(text(at));
            }
            Mount::Symlink { .. } | Mount::RemountReadOnly { .. } => {}
        }
    }
    let limits = walls::Limits {
        processes: policy.limits.processes,
        memory: policy.limits.memory.map(|Bytes(bytes)| bytes),
        file_size: policy.limits.file_size.map(|Bytes(bytes)| bytes),
        open_files: policy.limits.open_files,
        cpu_seconds: policy.limits.cpu_seconds,
    };
    Walls {
        limits,
        seccomp: true,
        nesting,
        landlock: (!nesting).then_some(paths),
        bounds: walls::Bounds::default(),
    }
}

fn init_env(walls: &Walls) -> Result<Vec<(String, String)>, PlanError> {
    let pair = |name: &str, value: String| (name.to_owned(), value);
    Ok(vec![
        pair(lodge_guest::mux::ENV_FD, MUX_FD.to_string()),
        pair("LODGE_GATEWAY_SOCK", GUEST_GATEWAY.to_owned()),
        pair("LODGE_GATEWAY_PORT", GATEWAY_PORT.to_string()),
        pair(walls::ENV, serde_json::to_string(walls)?),
    ])
}

fn guest_env(policy: &Policy, spec: &SessionSpec, view: &HostView) -> Vec<(String, String)> {
    let path =
        format!("{GUEST_HOME}/.local/bin:/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin");
    let gateway = format!("http://127.0.0.1:{GATEWAY_PORT}");
    let fixed = [
        ("HOME", GUEST_HOME),
        ("LANG", "C.UTF-8"),
        ("LODGE_GATEWAY_URL", &gateway),
        ("LODGE_SESSION_ID", &spec.session_id),
        ("LOGNAME", "guest"),
        ("PATH", &path),
        ("SHELL", "/bin/sh"),
        ("TERM", "dumb"),
        ("TMPDIR", "/tmp"),
        ("USER", "guest"),
    ];
    // The fixed part comes last: neither a passed nor a set variable may change it.
    let mut env = view.env.clone();
    env.extend(policy.env.set.clone());
    env.extend(fixed.map(|(name, value)| (name.to_owned(), value.to_owned())));
    env.into_iter().collect()
}
