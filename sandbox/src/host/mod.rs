//! What this machine offers for walls, each item tried and not guessed.

pub mod engine;
mod kvm;
mod tiers;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::cgroup;
use crate::error::SandboxError;
use crate::limits::Means;
use crate::policy::Tier;
use crate::sys;
use crate::view;

use engine::{Engine, Reach};
pub use tiers::{Notice, usable};

/// The oldest bubblewrap that can do what the process tier needs.
const MINIMUM_BWRAP: (u32, u32) = (0, 8);
const INSTALL_BWRAP: &str = "sudo apt-get install --yes bubblewrap";
const INSTALL_QEMU: &str = "sudo apt-get install --yes qemu-system-x86";

/// The bubblewrap of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bwrap {
    pub path: PathBuf,
    pub version: String,
    /// Whether it mounts by descriptor itself (`--bind-fd`).
    pub bind_fd: bool,
}

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    pub name: &'static str,
    /// Without it no guest is started in the process tier.
    pub required: bool,
    pub ok: bool,
    /// What was found, for a person.
    pub detail: String,
    /// What is wrong and the exact command that mends it; `None` when `ok`.
    pub problem: Option<String>,
    pub mend: Option<String>,
}

/// Everything that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostReport {
    pub items: Vec<Item>,
}

/// What a probe found: a detail, or a problem and what mends it.
type Finding = Result<String, (String, String)>;

impl HostReport {
    /// Tries everything; takes some tens of milliseconds.
    pub fn probe() -> Self {
        let bwrap = find_bwrap();
        let namespaces = match &bwrap {
            Ok(bwrap) => try_namespaces(bwrap),
            Err((problem, mend)) => Err((format!("not tried: {problem}"), mend.clone())),
        };
        Self {
            items: vec![
                item(
                    "bwrap",
                    true,
                    bwrap.map(|b| format!("{} {}", b.path.display(), b.version)),
                ),
                item("user namespaces", true, namespaces),
                item("landlock", true, landlock()),
                item("seccomp", true, seccomp()),
                item("process limit", false, process_limit()),
                item("cgroup delegation", false, delegation()),
                item(
                    "container engine",
                    false,
                    container_engine().map(|engine| describe(&engine)),
                ),
                item("qemu", false, qemu()),
                item("kvm", false, kvm()),
            ],
        }
    }
}

/// The bubblewrap to use, or the first wall that is missing.
///
/// What was found is remembered while the program stays the same file: trying it takes some 30 ms, and a wall that
/// goes later shows when the sandbox is started. A missing wall is looked for again each time.
pub fn require_process_tier() -> Result<Bwrap, SandboxError> {
    static FOUND: Mutex<Option<(FileId, Bwrap)>> = Mutex::new(None);
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((id, bwrap)) = &*found
        && file_id(&bwrap.path).as_ref() == Some(id)
    {
        return Ok(bwrap.clone());
    }
    let bwrap = try_process_tier()?;
    *found = file_id(&bwrap.path).map(|id| (id, bwrap.clone()));
    Ok(bwrap)
}

/// Device, inode, and time of change.
type FileId = (u64, u64, i64, i64);

fn file_id(path: &Path) -> Option<FileId> {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.dev(), meta.ino(), meta.ctime(), meta.ctime_nsec()))
}

fn try_process_tier() -> Result<Bwrap, SandboxError> {
    let missing = |wall| move |(problem, mend)| SandboxError::MissingWall { wall, problem, mend };
    let bwrap = find_bwrap().map_err(missing("bubblewrap"))?;
    try_namespaces(&bwrap).map_err(missing("user namespaces"))?;
    landlock().map_err(missing("Landlock"))?;
    seccomp().map_err(missing("seccomp"))?;
    Ok(bwrap)
}

fn item(name: &'static str, required: bool, finding: Finding) -> Item {
    let ok = finding.is_ok();
    let (detail, problem, mend) = match finding {
        Ok(detail) => (detail, None, None),
        Err((problem, mend)) => (String::new(), Some(problem), Some(mend)),
    };
    Item {
        name,
        required,
        ok,
        detail,
        problem,
        mend,
    }
}

fn problem<T>(what: impl Into<String>, mend: impl Into<String>) -> Result<T, (String, String)> {
    Err((what.into(), mend.into()))
}

/// The system's own path comes first: on some distributions only that one is allowed namespaces.
fn find_bwrap() -> Result<Bwrap, (String, String)> {
    let Some(path) = find_program("bwrap") else {
        return problem("bubblewrap (bwrap) is not installed", INSTALL_BWRAP);
    };
    let run = |option: &str| match run(Command::new(&path).arg(option)) {
        Ok(output) => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Err(error) => problem(format!("{} does not run: {error}", path.display()), INSTALL_BWRAP),
    };
    let version = run("--version")?
        .trim()
        .trim_start_matches("bubblewrap ")
        .to_owned();
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    if (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) < MINIMUM_BWRAP {
        let (major, minor) = MINIMUM_BWRAP;
        return problem(
            format!("bubblewrap {version} is older than {major}.{minor}"),
            INSTALL_BWRAP,
        );
    }
    let bind_fd = run("--help")?.contains("--ro-bind-fd");
    Ok(Bwrap {
        path,
        version,
        bind_fd,
    })
}

fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = [PathBuf::from("/usr/bin")]
        .into_iter()
        .chain(std::env::split_paths(&path));
    folders
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

fn run(command: &mut Command) -> io::Result<Output> {
    command.stdin(Stdio::null()).output()
}

/// Makes all the namespaces that a sandbox has, and runs something in them.
fn try_namespaces(bwrap: &Bwrap) -> Finding {
    let mut command = Command::new(&bwrap.path);
    command.args([
        "--unshare-all",
        "--unshare-user",
        "--disable-userns",
        "--uid",
        "1000",
        "--gid",
        "1000",
    ]);
    // Not the whole root: mounts below it may come and go meanwhile, those of other sandboxes among them.
    for path in view::SYSTEM.iter().map(Path::new) {
        match fs::read_link(path) {
            Ok(to) => command.arg("--symlink").arg(to).arg(path),
            Err(_) => command.arg("--ro-bind-try").arg(path).arg(path),
        };
    }
    command.args(["--proc", "/proc", "--dev", "/dev", "--", "/bin/true"]);
    match run(&mut command) {
        Ok(output) if output.status.success() => Ok("made and entered".into()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            problem(
                format!("bwrap cannot make its namespaces: {said}"),
                mend_namespaces(),
            )
        }
        Err(error) => problem(format!("bwrap does not run: {error}"), INSTALL_BWRAP),
    }
}

fn mend_namespaces() -> String {
    for (setting, bad, good) in [
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
        ("kernel/unprivileged_userns_clone", "0", "1"),
        ("user/max_user_namespaces", "0", "15000"),
    ] {
        let value = fs::read_to_string(Path::new("/proc/sys").join(setting));
        if value.is_ok_and(|value| value.trim() == bad) {
            return format!("sudo sysctl -w {}={good}", setting.replace('/', "."));
        }
    }
    "start the container that Lodge runs in with --security-opt seccomp=unconfined \
     --security-opt apparmor=unconfined --security-opt systempaths=unconfined"
        .into()
}

fn landlock() -> Finding {
    match sys::landlock_abi() {
        Some(abi) => Ok(format!("interface version {abi}")),
        None => problem(
            "the kernel does not offer Landlock (Linux 5.13 or later, switched on at boot)",
            "add landlock to lsm= on the kernel's command line and reboot",
        ),
    }
}

fn seccomp() -> Finding {
    match fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail") {
        Ok(actions) if actions.split_whitespace().any(|action| action == "errno") => Ok("filters".into()),
        _ => problem(
            "the kernel does not offer seccomp filters",
            "use a kernel with CONFIG_SECCOMP_FILTER=y",
        ),
    }
}

fn process_limit() -> Finding {
    let Means {
        root,
        pid_ceiling,
        cgroup,
        ..
    } = Means::probe(Tier::Process);
    match (root, pid_ceiling || cgroup.is_some()) {
        (false, _) => Ok("RLIMIT_NPROC".into()),
        (true, true) => Ok("for the real root: the PID namespace's highest id, or a cgroup".into()),
        (true, false) => problem(
            "this kernel does not apply a process limit to guests of the real root (Linux 6.14 does)",
            "run Lodge as an ordinary user",
        ),
    }
}

fn delegation() -> Finding {
    match cgroup::detect() {
        Some(found) => Ok(format!(
            "{} ({})",
            found.base.display(),
            found.controllers.join(" ")
        )),
        None => problem(
            "no cgroup (version 2) with memory and pids is delegated: memory is sampled in the process tier",
            "run Lodge as a systemd service with Delegate=yes and DelegateSubgroup=lodge",
        ),
    }
}

fn kvm() -> Finding {
    let Some(qemu) = find_program(&qemu_name()) else {
        return problem("not tried: QEMU is not installed", INSTALL_QEMU);
    };
    match kvm::try_out(&qemu) {
        Ok(()) => Ok("usable: a machine was made and ran".into()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => problem(
            format!("/dev/kvm: {error}"),
            "sudo usermod --append --groups kvm \"$USER\", then log in again",
        ),
        Err(error) => problem(
            format!("/dev/kvm: {error}; virtual machines are emulated, which is slower"),
            "switch virtualisation on in the firmware, or nested virtualisation in the hypervisor",
        ),
    }
}

/// The QEMU of the microVM tier.
pub fn emulator() -> Result<PathBuf, SandboxError> {
    find_program(&qemu_name()).ok_or_else(|| SandboxError::MissingWall {
        wall: "QEMU",
        problem: "QEMU is not installed".to_owned(),
        mend: INSTALL_QEMU.to_owned(),
    })
}

/// Whether machines can be virtualised and need not be emulated; to find out, one is made, which takes some 50 ms.
pub fn virtualisation() -> Result<(), String> {
    kvm().map(drop).map_err(|(problem, _)| problem)
}

fn container_engine() -> Result<Engine, (String, String)> {
    let mend = "sudo apt-get install --yes podman && systemctl --user enable --now podman.socket";
    engine::find().or_else(|what| problem(what, mend))
}

fn describe(engine: &Engine) -> String {
    let whose = match engine.reach {
        Reach::Rootless => "the user's own, rootless",
        Reach::Rootful => "runs as root: whoever reaches its socket is root",
    };
    format!(
        "{} {} at {}, {whose}",
        engine.kind,
        engine.version,
        engine.socket.display()
    )
}

fn qemu_name() -> String {
    format!("qemu-system-{}", std::env::consts::ARCH)
}

fn qemu() -> Finding {
    let Some(path) = find_program(&qemu_name()) else {
        return problem("QEMU is not installed", INSTALL_QEMU);
    };
    match run(Command::new(&path).arg("--version")) {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            Ok(text.lines().next().unwrap_or_default().to_owned())
        }
        Err(error) => problem(format!("{} does not run: {error}", path.display()), INSTALL_QEMU),
    }
}
