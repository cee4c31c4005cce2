//! Control groups (version 2) where they are delegated: hard limits for memory, processes and CPU, and a sure kill.
//!
//! Not run on a machine with a delegated group so far: the plan is tested as data, the executor on a made-up tree.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::policy::Limits;
use crate::size::Bytes;

const ROOT: &str = "/sys/fs/cgroup";
/// What has to be delegated for the limits to be held.
const NEEDED: [&str; 2] = ["memory", "pids"];
/// What is used in addition where it is delegated.
const WELCOME: [&str; 2] = ["cpu", "io"];
/// Names of the groups made here.
const PREFIX: &str = "lodge-";
/// An empty group younger than this may be one whose process has not entered it yet.
const GRACE: Duration = Duration::from_mins(1);

/// A group below which this process may make groups with the needed controllers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Delegation {
    pub base: PathBuf,
    pub controllers: Vec<String>,
}

/// One file of a group and what is written to it, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    pub file: &'static str,
    pub value: String,
}

/// The delegated group of this process; `None` when there is none.
pub fn detect() -> Option<Delegation> {
    detect_in(Path::new(ROOT), &fs::read_to_string("/proc/self/cgroup").ok()?)
}

/// The parent comes first: a group with processes in it, such as this process's own, cannot hand controllers on.
fn detect_in(root: &Path, own: &str) -> Option<Delegation> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let own = root.join(path);
    let parent = own.parent().filter(|parent| parent.starts_with(root));
    parent.into_iter().chain([own.as_path()]).find_map(delegated)
}

fn delegated(base: &Path) -> Option<Delegation> {
    let words = |file: &str| {
        let text = fs::read_to_string(base.join(file)).ok()?;
        Some(text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    };
    let available = words("cgroup.controllers")?;
    if !NEEDED
        .iter()
        .all(|need| available.iter().any(|have| have == need))
    {
        return None;
    }
    for file in ["cgroup.procs", "cgroup.subtree_control"] {
        OpenOptions::new().write(true).open(base.join(file)).ok()?;
    }
    let handed_on = words("cgroup.subtree_control")?;
    for name in NEEDED.iter().chain(&WELCOME) {
        let wanted = available.iter().any(|have| have == name) && !handed_on.iter().any(|have| have == name);
        let done = !wanted || write(base, "cgroup.subtree_control", &format!("+{name}")).is_ok();
        if !done && NEEDED.contains(name) {
            return None;
        }
    }
    Some(Delegation {
        base: base.to_owned(),
        controllers: words("cgroup.subtree_control")?,
    })
}

/// What a sandbox's group is set to. `pids.max` counts guest init and bwrap's own two processes too.
pub fn plan(limits: &Limits, controllers: &[String]) -> Vec<Setting> {
    let has = |name: &str| controllers.iter().any(|have| have == name);
    let mut settings = Vec::new();
    let mut set = |file, value: String| settings.push(Setting { file, value });
    if let Some(count) = limits.processes.filter(|_| has("pids")) {
        set("pids.max", count.saturating_add(3).to_string());
    }
    if let Some(Bytes(bytes)) = limits.memory.filter(|_| has("memory")) {
        set("memory.max", bytes.to_string());
        // Else the limit would only move the rest to disk.
        set("memory.swap.max", "0".to_owned());
        // One process out of memory ends them all: half a tree is of no use.
        set("memory.oom.group", "1".to_owned());
    }
    if has("cpu") {
        // Below everything that serves people.
        set("cpu.weight", "50".to_owned());
    }
    if has("io") {
        set("io.weight", "default 50".to_owned());
    }
    settings
}

/// A group with its limits set, empty until a process enters it.
#[derive(Debug)]
pub struct Group {
    path: PathBuf,
}

impl Group {
    /// Makes and sets one. A file that cannot be written fails the whole, but those of weights, which are no limits.
    pub fn create(delegation: &Delegation, limits: &Limits) -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{count}", std::process::id());
        let path = delegation.base.join(name);
        fs::create_dir(&path)?;
        let group = Self { path };
        for Setting { file, value } in plan(limits, &delegation.controllers) {
            match write(&group.path, file, &value) {
                Err(error) if !file.ends_with(".weight") => {
                    let _ = fs::remove_dir(&group.path);
                    return Err(error);
                }
                _ => {}
            }
        }
        Ok(group)
    }

    /// The file a process writes `0` to in order to enter.
    pub fn entrance(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }

    /// Kills whatever is in it.
    pub fn kill(&self) -> io::Result<()> {
        write(&self.path, "cgroup.kill", "1")
    }
}

/// Removes the groups made here whose processes are gone.
pub fn sweep(delegation: &Delegation) -> io::Result<()> {
    for entry in fs::read_dir(&delegation.base)? {
        let entry = entry?;
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        if ours && is_over(&entry.path()) {
            // Fails when a process entered meanwhile, and rightly so.
            let _ = fs::remove_dir(entry.path());
        }
    }
    Ok(())
}

fn is_over(group: &Path) -> bool {
    let events = fs::read_to_string(group.join("cgroup.events")).unwrap_or_default();
    let empty = events.lines().any(|line| line == "populated 0");
    let made = fs::metadata(group).and_then(|meta| meta.modified());
    let age = made.map(|made| SystemTime::now().duration_since(made).unwrap_or_default());
    empty && age.is_ok_and(|age| age >= GRACE)
}

fn write(group: &Path, file: &str, value: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(group.join(file))?;
    file.write_all(value.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Policy, Profile};

    fn tree(controllers: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("temporary directory");
        let base = root.path().join("user.slice/lodge.service");
        fs::create_dir_all(base.join("runner")).expect("groups");
        for (file, text) in [
            ("cgroup.controllers", controllers),
            ("cgroup.subtree_control", "memory pids"),
            ("cgroup.procs", ""),
        ] {
            fs::write(base.join(file), text).expect("file");
        }
        root
    }

    const OWN: &str = "12:pids:/old\n0::/user.slice/lodge.service/runner\n";

    #[test]
    fn a_parent_with_the_controllers_is_delegated() {
        let root = tree("cpuset memory pids");
        let found = detect_in(root.path(), OWN).expect("a delegation");
        assert_eq!(found.base, root.path().join("user.slice/lodge.service"));
        assert_eq!(found.controllers, ["memory", "pids"]);
        assert_eq!(detect_in(tree("cpu memory").path(), OWN), None);
        assert_eq!(detect_in(root.path(), "5:pids:/x\n"), None);
        assert_eq!(detect_in(root.path(), "0::/\n"), None);
    }

    #[test]
    fn the_plan_is_the_limits() {
        let limits = Policy::of(Profile::Strict).limits;
        let all = ["pids", "memory", "cpu", "io"].map(str::to_owned);
        let lines: Vec<String> = plan(&limits, &all)
            .into_iter()
            .map(|set| format!("{} = {}", set.file, set.value))
            .collect();
        assert_eq!(
            lines,
            [
                "pids.max = 259",
                "memory.max = 2147483648",
                "memory.swap.max = 0",
                "memory.oom.group = 1",
                "cpu.weight = 50",
                "io.weight = default 50"
            ]
        );
        assert_eq!(plan(&Limits::default(), &["pids".to_owned()]), []);
    }

    #[test]
    fn a_limit_that_cannot_be_set_leaves_no_group() {
        let root = tree("memory pids");
        let delegation = detect_in(root.path(), OWN).expect("a delegation");
        // On a plain file system a fresh directory holds no files to write to.
        let limits = Policy::of(Profile::Strict).limits;
        Group::create(&delegation, &limits).expect_err("no pids.max");
        let left = fs::read_dir(&delegation.base).expect("listing").flatten();
        assert_eq!(
            left.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX))
                .count(),
            0
        );
    }

    #[test]
    fn a_group_is_killed_and_swept_when_it_is_empty_and_old() {
        let root = tree("memory pids");
        let delegation = detect_in(root.path(), OWN).expect("a delegation");
        let group = Group::create(&delegation, &Limits::default()).expect("a group");
        assert_eq!(group.entrance(), group.path.join("cgroup.procs"));
        group.kill().expect_err("there is no cgroup.kill yet");
        fs::write(group.path.join("cgroup.kill"), "").expect("file");
        group.kill().expect("killed");
        assert_eq!(
            fs::read_to_string(group.path.join("cgroup.kill")).expect("file"),
            "1"
        );
        fs::write(group.path.join("cgroup.events"), "populated 0\nfrozen 0\n").expect("file");
        assert!(!is_over(&group.path), "it is too young");
        let old = SystemTime::now() - GRACE * 2;
        let directory = fs::File::open(&group.path).expect("directory");
        directory.set_modified(old).expect("time");
        assert!(is_over(&group.path));
        fs::write(group.path.join("cgroup.events"), "populated 1\n").expect("file");
        directory.set_modified(old).expect("time");
        assert!(!is_over(&group.path));
    }
}
