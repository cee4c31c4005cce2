//! A victim to attack: a home with secrets, another workspace, a repository, services, a process. All of it is made
//! for one check, in a directory of its own, and gone afterwards.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::attack::sys::{call, text};
use crate::facts::{BoundsFacts, FACTS, Facts, Original, PROGRAM};
use crate::listeners::Listeners;

/// Why no scene could be set up.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up {what} for the probes: {source}")]
pub struct SceneError {
    what: String,
    source: io::Error,
}

fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> SceneError {
    let what = what.into();
    move |source| SceneError { what, source }
}

/// Files of the victim's home that hold a canary, and are readable by their owner only.
const SECRETS: &[&str] = &[
    ".ssh/id_ed25519",
    ".aws/credentials",
    ".config/gh/hosts.yml",
    ".netrc",
    ".local/share/keyrings/login.keyring",
    ".gnupg/private-keys-v1.d/key.key",
];

/// Files that run at the victim's next login.
const START_FILES: &[&str] = &[
    ".bashrc",
    ".profile",
    ".zshenv",
    ".profile.d/own.sh",
    ".config/systemd/user/own.service",
    ".config/autostart/own.desktop",
    ".config/cron/tab",
    ".gitconfig",
];

/// Sockets by family, relative to the scene.
const SOCKETS: &[(&str, &[&str])] = &[
    (
        "engine",
        &[
            "run/docker.sock",
            "run/podman/podman.sock",
            "run/containerd/containerd.sock",
            "run/libvirt/libvirt-sock",
        ],
    ),
    (
        "session",
        &[
            "run/bus",
            "run/systemd/private",
            "home/.gnupg/S.gpg-agent",
            "home/.ssh/agent.sock",
        ],
    ),
    (
        "display",
        &["run/.X11-unix/X0", "run/wayland-0", "run/pipewire-0"],
    ),
    (
        "lodge",
        &[
            "run/runner.sock",
            "run/backend-control.sock",
            "run/other-session/gateway.sock",
        ],
    ),
];

/// A scene that stands; dropping it takes everything down.
#[derive(Debug)]
pub struct Scene {
    pub facts: Facts,
    /// What must never come out of a sandbox.
    pub canaries: Vec<String>,
    pub listeners: Listeners,
    victim: Child,
    shared_memory: Vec<(i64, i64)>,
    _root: tempfile::TempDir,
}

impl Scene {
    /// Sets one up below `parent`, with `program` (the static `lodge-probe`) in its workspace.
    pub fn new(parent: &Path, program: &Path, bounds: BoundsFacts) -> Result<Self, SceneError> {
        let root = tempfile::Builder::new()
            .prefix("lodge-scene-")
            .tempdir_in(parent)
            .map_err(failed("a directory"))?;
        let at = root.path().canonicalize().map_err(failed("a directory"))?;
        let token = format!("token{}", random());
        let canary = format!("canary-{}", random());
        let mut facts = Facts {
            token: token.clone(),
            workspace: at.join("workspace"),
            home: at.join("home"),
            private: private(&at),
            other_workspace: at.join("other"),
            gateway: at.join("gw/gateway.sock"),
            abstract_socket: format!("lodge-{token}"),
            sysv_key: i32::from_str_radix(&token[token.len() - 7..], 16).unwrap_or(0x00dd_ba11),
            mq_name: format!("/{token}"),
            bounds,
            root: at.clone(),
            ..Facts::default()
        };
        files(&mut facts, &canary, program).map_err(failed("files"))?;
        let listeners = services(&mut facts).map_err(failed("services"))?;
        let victim = Command::new(at.join("harness/bin/tool"))
            .args(["sleep", "victim"])
            .env("SECRET", &canary)
            .current_dir(&facts.home)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed("a process"))?;
        facts.victim = i32::try_from(victim.id()).unwrap_or(0);
        let shared_memory = shared(&facts).map_err(failed("shared memory"))?;
        Ok(Self {
            facts,
            canaries: vec![canary],
            listeners,
            victim,
            shared_memory,
            _root: root,
        })
    }

    /// Writes the facts down for the program inside and returns where.
    pub fn write_facts(&self) -> Result<PathBuf, SceneError> {
        let path = self.facts.workspace.join(FACTS);
        let text = serde_json::to_vec(&self.facts).map_err(|error| failed("the facts")(error.into()))?;
        fs::write(&path, text).map_err(failed("the facts"))?;
        Ok(path)
    }

    pub fn private_home(&self) -> PathBuf {
        self.facts.root.join("private")
    }

    pub fn harness_root(&self) -> PathBuf {
        self.facts.root.join("harness")
    }

    /// State of the victim's process as the kernel's letter, such as `S`; `None` when it is gone.
    pub fn victim_state(&self) -> Option<char> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.facts.victim)).ok()?;
        stat.rsplit(')').next()?.trim_start().chars().next()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = self.victim.kill();
        let _ = self.victim.wait();
        for &(number, id) in &self.shared_memory {
            // Command 0 removes each kind; of semaphores it comes after a number.
            let _ = call!(number, id, 0, 0);
        }
        let _ = call!(
            libc::SYS_mq_unlink,
            &text(self.facts.mq_name.trim_start_matches('/'))
        );
    }
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// 24 hexadecimal digits.
pub(crate) fn random() -> String {
    let mut bytes = [0_u8; 12];
    let _ = call!(libc::SYS_getrandom, &mut bytes[..], 12, 0);
    hex(&bytes)
}

fn write(path: &Path, content: &str, mode: u32) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, content)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

fn files(facts: &mut Facts, canary: &str, program: &Path) -> io::Result<()> {
    let (root, home, workspace) = (&facts.root, &facts.home, &facts.workspace);
    for name in SECRETS {
        write(&home.join(name), &format!("{name}: {canary}\n"), 0o600)?;
        facts.secrets.push(home.join(name));
    }
    for name in START_FILES {
        write(&home.join(name), "# empty\n", 0o644)?;
        facts.start_files.push(home.join(name));
    }
    write(&facts.other_workspace.join("notes.txt"), canary, 0o644)?;
    for (name, content) in [
        (".git/HEAD", "ref: refs/heads/main\n"),
        (".git/config", "[core]\n\trepositoryformatversion = 0\n"),
        (".git/info/exclude", "# none\n"),
        (".git/objects/README", ""),
        (".vscode/tasks.json", "{}\n"),
        (".lodge/README", "\n"),
        ("README.md", "a project\n"),
    ] {
        write(&workspace.join(name), content, 0o644)?;
    }
    fs::create_dir_all(workspace.join(".git/hooks"))?;
    for name in ["private", "gw", "scratch", "harness/bin", "run"] {
        fs::create_dir_all(root.join(name))?;
    }
    write(&root.join("outside/linked-target"), "original\n", 0o644)?;
    fs::hard_link(root.join("outside/linked-target"), workspace.join("linked"))?;
    for place in [
        workspace.join(PROGRAM),
        root.join("harness/bin/tool"),
        root.join("harness/bin/agent"),
    ] {
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::copy(program, &place)?;
        fs::set_permissions(&place, fs::Permissions::from_mode(0o755))?;
    }
    let programs = [
        root.join("harness/bin/agent"),
        "/usr/bin/bwrap".into(),
        "/bin/sh".into(),
        "/usr/bin/env".into(),
    ];
    facts.programs = programs.into_iter().filter_map(Original::of).collect();
    Ok(())
}

/// Shadow file and homes of this machine, without what the scene itself lies in.
fn private(scene: &Path) -> Vec<Original> {
    let own = std::env::var_os("HOME").map(PathBuf::from);
    let homes = fs::read_dir("/home")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let all = ["/etc/shadow".into(), "/root".into()]
        .into_iter()
        .chain(own)
        .chain(homes.take(4));
    all.filter(|path| !scene.starts_with(path))
        .filter_map(Original::of)
        .collect()
}

fn services(facts: &mut Facts) -> io::Result<Listeners> {
    let mut listeners = Listeners::default();
    let mut sockets = BTreeMap::new();
    for (family, names) in SOCKETS {
        let paths: Vec<PathBuf> = names.iter().map(|name| facts.root.join(name)).collect();
        for path in &paths {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            listeners.unix(path)?;
        }
        sockets.insert((*family).to_owned(), paths);
    }
    facts.sockets = sockets;
    listeners.abstract_unix(&facts.abstract_socket)?;
    facts.tcp = listeners.tcp4()?;
    facts.tcp6 = listeners.tcp6();
    facts.udp = listeners.udp()?;
    facts.addresses = crate::listeners::own_addresses();
    listeners.abstract_unix(&format!("settle-{}", facts.token))?;
    listeners.start()?;
    Ok(listeners)
}

/// Shared memory, semaphores and queues; each with the call that removes it.
fn shared(facts: &Facts) -> io::Result<Vec<(i64, i64)>> {
    let key = facts.sysv_key;
    let flags = libc::IPC_CREAT | 0o666;
    let made = vec![
        (libc::SYS_shmctl, call!(libc::SYS_shmget, key, 4096, flags)?),
        (libc::SYS_semctl, call!(libc::SYS_semget, key, 1, flags)?),
        (libc::SYS_msgctl, call!(libc::SYS_msgget, key, flags)?),
    ];
    let name = text(facts.mq_name.trim_start_matches('/'));
    let queue = call!(libc::SYS_mq_open, &name, libc::O_CREAT | libc::O_RDWR, 0o666, 0)?;
    drop(crate::attack::sys::own(i32::try_from(queue).unwrap_or(-1)));
    Ok(made)
}
