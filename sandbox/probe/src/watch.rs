//! What an attack has changed outside, seen from outside.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::listeners::Counts;
use crate::scene::Scene;

/// Directories of the host where an attack might leave its token.
const SHARED: &[&str] = &[
    "/tmp",
    "/var/tmp",
    "/dev/shm",
    "/usr/bin",
    "/usr/local/bin",
    "/usr/local/sbin",
    "/run",
];
/// Control files below the workspace whose content must not be the guest's.
const CONTROL: &[&str] = &[
    ".git/config",
    ".git/hooks",
    ".git/info",
    ".git/config.worktree",
    ".vscode",
    ".idea",
    ".lodge",
    ".envrc",
    ".mcp.json",
    ".claude",
    ".codex",
    ".gemini",
];
/// Bytes of one file that are looked at.
const MAX_READ: u64 = 1 << 20;

/// State of everything outside that a probe might change.
#[derive(Debug)]
pub(crate) struct Watch {
    outside: BTreeMap<PathBuf, Vec<u8>>,
    counts: Counts,
    kernel: Vec<(String, String)>,
    mounts: usize,
    git: Option<u64>,
}

/// Settings of the kernel that belong to the host alone.
fn kernel() -> Vec<(String, String)> {
    [
        "kernel/hostname",
        "kernel/domainname",
        "kernel/core_pattern",
        "kernel/modprobe",
        "net/ipv4/ip_forward",
    ]
    .iter()
    .map(|name| {
        (
            (*name).to_owned(),
            fs::read_to_string(format!("/proc/sys/{name}")).unwrap_or_default(),
        )
    })
    .collect()
}

/// Mounts of the host that have to do with the scene.
pub(crate) fn mounts(scene: &Scene) -> usize {
    let root = scene.facts.root.display().to_string();
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table.lines().filter(|line| line.contains(&root)).count()
}

impl Watch {
    pub(crate) fn begin(scene: &Scene) -> Self {
        Self {
            outside: outside(scene),
            counts: scene.listeners.counts(),
            kernel: kernel(),
            mounts: mounts(scene),
            git: fs::symlink_metadata(scene.facts.workspace.join(".git"))
                .ok()
                .map(|meta| meta.ino()),
        }
    }

    /// What is different now, each in words; `output` is everything that came out of the sandbox.
    pub(crate) fn effects(&self, scene: &Scene, output: &[u8]) -> Vec<String> {
        let mut effects = Vec::new();
        let text = String::from_utf8_lossy(output);
        if scene.canaries.iter().any(|canary| text.contains(canary.as_str())) {
            effects.push("a secret came out".to_owned());
        }
        let now = outside(scene);
        for (path, state) in &now {
            match self.outside.get(path) {
                Some(before) if before == state => {}
                Some(_) => effects.push(format!("{} was changed", path.display())),
                None => effects.push(format!("{} was made", path.display())),
            }
        }
        let gone = self.outside.keys().filter(|path| !now.contains_key(*path));
        effects.extend(gone.map(|path| format!("{} was removed", path.display())));
        effects.extend(shared(&scene.facts.token));
        effects.extend(control(&scene.facts.workspace, &scene.facts.token));
        let git = fs::symlink_metadata(scene.facts.workspace.join(".git"))
            .ok()
            .map(|meta| meta.ino());
        if git != self.git {
            effects.push("the repository was replaced".to_owned());
        }
        effects.extend(
            scene
                .listeners
                .counts()
                .since(&self.counts)
                .into_iter()
                .map(|name| format!("{name} was reached")),
        );
        effects.extend(programs_of_others(&scene.facts.workspace));
        match scene.victim_state() {
            Some('S' | 'R' | 'D') => {}
            state => effects.push(format!("the victim's process is in state {state:?}")),
        }
        let kernel = kernel();
        let changed = kernel
            .iter()
            .zip(&self.kernel)
            .filter(|(now, before)| now != before);
        effects.extend(changed.map(|((name, _), _)| format!("the kernel's {name} was changed")));
        if mounts(scene) > self.mounts {
            effects.push("there are new mounts on the host".to_owned());
        }
        effects
    }
}

/// Everything of the scene that is not the guest's.
fn outside(scene: &Scene) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for name in ["home", "other", "harness", "outside", "run"] {
        walk(&scene.facts.root.join(name), &mut found);
    }
    found
}

fn walk(path: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
    let Ok(meta) = fs::symlink_metadata(path) else {
        return;
    };
    let mut hasher = Sha256::new();
    hasher.update(meta.mode().to_le_bytes());
    hasher.update(meta.ino().to_le_bytes());
    if meta.is_file() {
        hasher.update(start_of(path));
    }
    found.insert(path.to_owned(), hasher.finalize().to_vec());
    if meta.is_dir() {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            walk(&entry.path(), found);
        }
    }
}

fn start_of(path: &Path) -> Vec<u8> {
    let mut content = Vec::new();
    if let Ok(file) = fs::File::open(path) {
        let _ = file.take(MAX_READ).read_to_end(&mut content);
    }
    content
}

/// Names with the token in directories that everybody shares.
fn shared(token: &str) -> Vec<String> {
    let entries = SHARED
        .iter()
        .flat_map(|directory| fs::read_dir(directory).into_iter().flatten().flatten());
    entries
        .map(|entry| entry.path())
        .filter(|path| path.to_string_lossy().contains(token))
        .map(|path| format!("{} was made", path.display()))
        .collect()
}

/// Control files that hold the token or a changed working of git.
fn control(workspace: &Path, token: &str) -> Vec<String> {
    let mut effects = Vec::new();
    for name in CONTROL {
        let mut files = BTreeMap::new();
        walk(&workspace.join(name), &mut files);
        for path in files.keys().filter(|path| path.is_file()) {
            if String::from_utf8_lossy(&start_of(path)).contains(token) {
                effects.push(format!("{} is the guest's", path.display()));
            }
        }
    }
    effects
}

/// Files at the top of the workspace that run with the rights of their owner.
fn programs_of_others(workspace: &Path) -> Vec<String> {
    let entries = fs::read_dir(workspace).into_iter().flatten().flatten();
    let files = entries.filter(|entry| {
        entry
            .metadata()
            .is_ok_and(|meta| meta.is_file() && meta.mode() & 0o6000 != 0)
    });
    files
        .map(|entry| format!("{} runs with the rights of its owner", entry.path().display()))
        .collect()
}
