//! A plan as the engine's own words: pure, so that what a container gets can be compared as data.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig, Mount as EngineMount,
    MountBindOptions, MountBindOptionsPropagationEnum, MountType, ResourcesUlimits,
};
use lodge_guest::{mux, walls};
use lodge_sandbox::plan::{Access, Mount, Network, Plan};

use super::engine::{Engine, Make};
use super::error::ContainerError;

/// Where guest init finds its stream.
pub(super) const GUEST_MUX: &str = "/run/lodge/mux.sock";
/// What Docker's own filter allows, without what a guest has no use for (foreign system call tables, socket families,
/// clock, `vmsplice`) and with Landlock, which guest init needs and older engines deny. Guest init loads a second one.
pub(super) const SECCOMP: &str = include_str!("seccomp.json");
const SHM: &str = "/dev/shm";

/// What the plan does not say.
#[derive(Debug, Clone)]
pub(super) struct Site<'a> {
    pub(super) engine: &'a Engine,
    /// The engine's id of the guest image.
    pub(super) image: &'a str,
    /// For every mount of the plan the path that the engine is to bind; `None` where it needs none.
    pub(super) sources: &'a [Option<PathBuf>],
    /// The socket guest init connects to.
    pub(super) mux: &'a Path,
    /// A file with [`SECCOMP`] in it, for engines that want a path.
    pub(super) seccomp: &'a Path,
    pub(super) labels: HashMap<String, String>,
}

/// Who the guest is inside, such that files it writes belong to the user who asked.
struct Who {
    user: String,
    namespace: Option<String>,
}

impl Who {
    fn of(plan: &Plan, engine: &Engine) -> Self {
        let plain = format!("{}:{}", plan.uid, plan.gid);
        match (engine.rootless, engine.make) {
            // Also where the engine maps users by default.
            (false, _) => Self {
                user: plain,
                namespace: Some("host".to_owned()),
            },
            (true, Make::Podman) => Self {
                user: plain,
                namespace: Some(format!("keep-id:uid={},gid={}", plan.uid, plan.gid)),
            },
            // Root of such a container is the ordinary user who runs the engine, and nobody else is.
            (true, Make::Docker) => Self {
                user: "0:0".to_owned(),
                namespace: None,
            },
        }
    }
}

/// The container that holds `plan`.
pub(super) fn compile(plan: &Plan, site: &Site<'_>) -> Result<ContainerCreateBody, ContainerError> {
    if plan.walls.nesting {
        return Err(ContainerError::Nesting);
    }
    let view = View::of(plan, site)?;
    let who = Who::of(plan, site.engine);
    Ok(ContainerCreateBody {
        hostname: Some(plan.hostname.clone()),
        user: Some(who.user.clone()),
        attach_stderr: Some(true),
        open_stdin: Some(false),
        tty: Some(false),
        env: Some(environment(plan)?),
        entrypoint: Some(plan.argv.clone()),
        cmd: Some(Vec::new()),
        image: Some(site.image.to_owned()),
        working_dir: Some("/".to_owned()),
        network_disabled: Some(true),
        labels: Some(site.labels.clone()),
        stop_signal: Some("SIGKILL".to_owned()),
        host_config: Some(host_config(plan, site, view, who)),
        ..ContainerCreateBody::default()
    })
}

fn host_config(plan: &Plan, site: &Site<'_>, view: View, who: Who) -> HostConfig {
    let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let memory = plan.limits.memory.map(|bytes| signed(bytes.0));
    let broker = matches!(plan.network, Network::Broker { .. });
    HostConfig {
        network_mode: Some("none".to_owned()),
        readonly_rootfs: Some(true),
        privileged: Some(false),
        cap_drop: Some(vec!["ALL".to_owned()]),
        security_opt: Some(vec!["no-new-privileges".to_owned(), seccomp(site)]),
        userns_mode: who.namespace,
        ipc_mode: Some(if view.shm.is_some() { "private" } else { "none" }.to_owned()),
        shm_size: view.shm.map(signed),
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        pids_limit: plan.limits.processes.map(|count| signed(count.saturating_add(1))),
        memory,
        // The same again is no swap.
        memory_swap: memory,
        ulimits: Some(ulimits()),
        oom_kill_disable: None,
        mounts: Some(view.binds),
        tmpfs: Some(view.tmpfs),
        sysctls: broker.then(|| {
            // Guest init has no capability, and answers on ports 53, 80 and 443.
            HashMap::from([("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned())])
        }),
        log_config: Some(HostConfigLogConfig {
            typ: Some("none".to_owned()),
            config: None,
        }),
        auto_remove: Some(true),
        init: (site.engine.make == Make::Docker).then_some(false),
        ..HostConfig::default()
    }
}

/// Without a list of architectures only the engine's own one is let through.
fn seccomp(site: &Site<'_>) -> String {
    if site.engine.make == Make::Podman {
        return format!("seccomp={}", site.seccomp.display());
    }
    let compact: serde_json::Result<serde_json::Value> = serde_json::from_str(SECCOMP);
    let text = compact.map_or_else(|_| SECCOMP.to_owned(), |profile| profile.to_string());
    format!("seccomp={text}")
}

/// Guest init sets the others itself; an engine that is bounded itself could not raise them.
fn ulimits() -> Vec<ResourcesUlimits> {
    vec![ResourcesUlimits {
        name: Some("core".to_owned()),
        soft: Some(0),
        hard: Some(0),
    }]
}

/// Guest init's environment: what the plan says, and where its stream is.
fn environment(plan: &Plan) -> Result<Vec<String>, ContainerError> {
    // The kernel counts a user's processes on the whole machine, there is no user namespace of the container's own;
    // the engine's limit counts those of the container.
    let mut walls = plan.walls.clone();
    walls.limits.processes = None;
    let text = serde_json::to_string(&walls).map_err(|error| ContainerError::Protocol {
        what: error.to_string(),
    })?;
    let mut variables: BTreeMap<&str, &str> = plan
        .init_env
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    variables.remove(mux::ENV_FD);
    variables.insert(mux::ENV_SOCKET, GUEST_MUX);
    variables.insert(walls::ENV, &text);
    Ok(variables
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect())
}

/// The plan's mounts, sorted by where they are: the engine mounts outer ones first.
struct View {
    binds: Vec<EngineMount>,
    tmpfs: HashMap<String, String>,
    shm: Option<u64>,
}

enum Place<'a> {
    Bind { source: &'a Path, read_only: bool },
    Tmpfs { size: u64, mode: u32, read_only: bool },
}

impl View {
    fn of(plan: &Plan, site: &Site<'_>) -> Result<Self, ContainerError> {
        let mut places: BTreeMap<&Path, Place<'_>> = BTreeMap::new();
        for (mount, source) in plan.mounts.iter().zip(site.sources) {
            place(&mut places, mount, source.as_deref())?;
        }
        places.insert(
            Path::new(GUEST_MUX),
            Place::Bind {
                source: site.mux,
                read_only: true,
            },
        );
        let mut view = Self {
            binds: Vec::new(),
            tmpfs: HashMap::new(),
            shm: None,
        };
        for (at, place) in places {
            match place {
                Place::Bind { source, read_only } => view.binds.push(bind(source, at, read_only)),
                Place::Tmpfs { size, .. } if at == Path::new(SHM) => view.shm = Some(size),
                Place::Tmpfs {
                    size,
                    mode,
                    read_only,
                } => {
                    let access = if read_only { "ro" } else { "rw" };
                    let options = format!("{access},exec,nosuid,nodev,size={size},mode={mode:04o}");
                    view.tmpfs.insert(at.display().to_string(), options);
                }
            }
        }
        Ok(view)
    }
}

/// Notes one mount of the plan; the last at a place counts, as it does when mounted one after the other.
fn place<'a>(
    places: &mut BTreeMap<&'a Path, Place<'a>>,
    mount: &'a Mount,
    source: Option<&'a Path>,
) -> Result<(), ContainerError> {
    let unfit = |what: &'static str, at: &Path| {
        Err(ContainerError::Mount {
            what,
            at: at.to_owned(),
        })
    };
    match (mount, source) {
        (Mount::Bind { at, access, .. }, Some(source)) => {
            let read_only = *access == Access::Read;
            places.insert(at, Place::Bind { source, read_only });
        }
        (Mount::Content { at, .. } | Mount::EmptyFile { at }, Some(source)) => {
            places.insert(
                at,
                Place::Bind {
                    source,
                    read_only: true,
                },
            );
        }
        (Mount::Tmpfs { at, size, mode }, _) => {
            let (size, mode) = (size.0, *mode);
            places.insert(
                at,
                Place::Tmpfs {
                    size,
                    mode,
                    read_only: false,
                },
            );
        }
        (Mount::RemountReadOnly { at }, _) => match places.get_mut(at.as_path()) {
            Some(Place::Bind { read_only, .. } | Place::Tmpfs { read_only, .. }) => *read_only = true,
            // The engine makes these, and read-only where it matters.
            None if at == Path::new("/") || at == Path::new("/dev") => {}
            None => return unfit("read-only what is not mounted", at),
        },
        // A convenience of the view, which the read-only root of the image has no room for.
        (Mount::Symlink { .. } | Mount::Proc { .. } | Mount::Dev { .. }, _) => {}
        (Mount::Bind { at, .. } | Mount::Content { at, .. } | Mount::EmptyFile { at }, None) => {
            return unfit("something without a source", at);
        }
    }
    Ok(())
}

fn bind(source: &Path, at: &Path, read_only: bool) -> EngineMount {
    EngineMount {
        typ: Some(MountType::BIND),
        source: Some(source.display().to_string()),
        target: Some(at.display().to_string()),
        read_only: Some(read_only),
        bind_options: Some(MountBindOptions {
            propagation: Some(MountBindOptionsPropagationEnum::RPRIVATE),
            // What is mounted below was not checked, and could not be made read-only by every engine.
            non_recursive: Some(true),
            ..MountBindOptions::default()
        }),
        ..EngineMount::default()
    }
}

#[cfg(test)]
#[path = "compile_tests.rs"]
mod tests;
