//! Snapshots: a machine whose init waits for its configuration, kept so that the next one need not boot.
//!
//! ```text
//! STATE/snapshots/KEY/{meta.json, device, ram}
//! ```
//!
//! A key names everything a saved state depends on. A snapshot was made without a session: nothing in it is a secret
//! of anybody, and what two machines restored from it must not share comes with their configuration. QEMU never gets
//! at these files: memory is copied once and sealed, see [`super::keeper`].

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use lodge_sandbox::host::Bwrap;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::time::{sleep, timeout};

use super::error::MicrovmError;
use super::machine::{Begin, Descriptors, Machine};
use super::monitor::Monitor;
use super::{host, process, ram, view};

/// Changes when the same machine would be saved in another way.
const FORMAT: u32 = 1;
const META: &str = "meta.json";
const DEVICE: &str = "device";
const RAM: &str = "ram";
/// Snapshots kept; each is some 80 MiB.
const KEPT: usize = 4;
/// How long each try to boot may take on a loaded host that emulates the machine, where it takes some 3 s otherwise. A
/// kernel was seen that stopped early in its boot for no known reason. Together less than a launcher waits for a word.
const BOOTS: [Duration; 2] = [Duration::from_secs(30), Duration::from_secs(80)];
/// From opening the port until init reads from it, generously. Too early costs the restored machine time only.
const SETTLE: Duration = Duration::from_millis(300);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Meta {
    format: u32,
    device_crc32: u32,
    ram: ram::Contents,
}

/// A snapshot on disk.
#[derive(Debug)]
pub(super) struct Snapshot {
    folder: PathBuf,
    meta: Meta,
}

/// Finds the snapshot of `machine`, whose image has `digest`, or makes it; one at a time makes it, the others wait.
pub(super) async fn ready(
    state: &Path,
    machine: &Machine,
    digest: &str,
    wall: &Bwrap,
) -> Result<Snapshot, MicrovmError> {
    let folder = state.join("snapshots").join(key(machine, digest));
    if let Ok(found) = Snapshot::read(&folder) {
        return Ok(found);
    }
    let failed = || MicrovmError::file("prepare", &folder);
    let parent = state.join("snapshots");
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&parent)
        .map_err(failed())?;
    let lock = File::create(parent.join(".lock")).map_err(failed())?;
    let held = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await;
    let _held = held
        .map_err(io::Error::other)
        .and_then(|lock| lock)
        .map_err(failed())?;
    if let Ok(found) = Snapshot::read(&folder) {
        return Ok(found);
    }
    let [first, second] = BOOTS;
    let made = match make(&parent, &folder, machine, wall, first).await {
        Err(error @ MicrovmError::Silent { .. }) => {
            eprintln!("lodge-tier: the machine is started once more: {error}");
            make(&parent, &folder, machine, wall, second).await?
        }
        made => made?,
    };
    forget(&parent, &folder);
    Ok(made)
}

/// Everything that a saved state depends on.
fn key(machine: &Machine, digest: &str) -> String {
    let qemu = &machine.qemu;
    let fds = Descriptors {
        ram: 0,
        console: 0,
        monitor: None,
    };
    let tree = Vec::new();
    let mut parts = machine.plan(Begin::Restored, fds, tree).argv;
    let program = fs::metadata(qemu).map(|meta| (meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec()));
    parts.push(format!("{program:?} {digest} {FORMAT} {}", machine.engine.name()));
    parts.push(processor());
    let mut hash = Sha256::new();
    for part in &parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    super::hexadecimal(&hash.finalize()[..16])
}

/// The host's processor: a state with another's features would not load, and its clock runs at another speed.
fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let told = text.lines().take_while(|line| !line.is_empty()).filter(|line| {
        ["model name", "microcode", "flags"]
            .iter()
            .any(|key| line.starts_with(key))
    });
    told.collect()
}

impl Snapshot {
    fn read(folder: &Path) -> Result<Self, MicrovmError> {
        let path = folder.join(META);
        let text = fs::read(&path).map_err(MicrovmError::file("read", &path))?;
        let meta: Meta = serde_json::from_slice(&text).map_err(|error| damaged(folder, error.to_string()))?;
        if meta.format != FORMAT {
            return Err(damaged(folder, format!("its format is {}", meta.format)));
        }
        Ok(Self {
            folder: folder.to_owned(),
            meta,
        })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The saved devices, checked, as a descriptor that QEMU reads from.
    pub(super) fn device(&self) -> Result<OwnedFd, MicrovmError> {
        let path = self.folder.join(DEVICE);
        let bytes = fs::read(&path).map_err(MicrovmError::file("read", &path))?;
        if crc32fast::hash(&bytes) != self.meta.device_crc32 {
            return Err(damaged(
                &self.folder,
                "its devices are not what was saved".to_owned(),
            ));
        }
        let fill = || -> io::Result<OwnedFd> {
            let mut file = File::from(ram::allocate(0)?);
            file.write_all(&bytes)?;
            let fd = OwnedFd::from(file);
            rustix::fs::seek(&fd, rustix::fs::SeekFrom::Start(0))?;
            Ok(fd)
        };
        fill().map_err(MicrovmError::system("hold the saved devices"))
    }

    /// Copies the saved memory into `memory`, on another thread; checked as it goes.
    pub(super) async fn fill(&self, memory: &OwnedFd, size: u64) -> Result<(), MicrovmError> {
        let failed = || MicrovmError::system("copy the saved memory");
        let path = self.folder.join(RAM);
        let packed = File::open(&path).map_err(MicrovmError::file("read", &path))?;
        let memory = memory.try_clone().map_err(failed())?;
        let contents = self.meta.ram.clone();
        let filled = tokio::task::spawn_blocking(move || ram::unpack(packed, &contents, &memory, size)).await;
        match filled.map_err(io::Error::other).map_err(failed())? {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
                ) =>
            {
                Err(damaged(
                    &self.folder,
                    "its memory is not what was saved".to_owned(),
                ))
            }
            filled => filled.map_err(failed()),
        }
    }

    /// Removes it: the next machine is saved anew.
    pub(super) fn discard(self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn damaged(folder: &Path, reason: String) -> MicrovmError {
    MicrovmError::Snapshot {
        path: folder.to_owned(),
        reason,
    }
}

/// Boots `machine` without a session and saves it.
async fn make(
    parent: &Path,
    folder: &Path,
    machine: &Machine,
    wall: &Bwrap,
    limit: Duration,
) -> Result<Snapshot, MicrovmError> {
    let failed = || MicrovmError::file("write", folder);
    let memory = ram::allocate(machine.size.bytes()).map_err(MicrovmError::system("allocate memory"))?;
    let machine = host::measured(machine);
    let (process, ends) = process::spawn(&machine, Begin::Cold, &memory, view::empty(), (wall, true))?;
    let Some(monitor) = ends.monitor else {
        return Err(MicrovmError::Monitor {
            reason: "there is none".to_owned(),
        });
    };
    let device = ram::allocate(0).map_err(MicrovmError::system("allocate memory"))?;
    let saved = timeout(limit, save(monitor, &device)).await;
    let said = process.console.last_words();
    drop(process);
    match saved {
        Ok(Err(MicrovmError::Monitor { reason })) => Err(MicrovmError::Died {
            said: format!("{reason}; {said}"),
        }),
        Ok(saved) => saved,
        Err(_) => Err(MicrovmError::Silent {
            seconds: limit.as_secs(),
            said,
        }),
    }?;
    let work = parent.join(".new");
    let write = move || -> io::Result<(PathBuf, Meta)> {
        let _ = fs::remove_dir_all(&work);
        fs::DirBuilder::new().mode(0o700).create(&work)?;
        let mut packed = io::BufWriter::with_capacity(1 << 20, File::create(work.join(RAM))?);
        let ram = ram::pack(&memory, &mut packed)?;
        packed.into_inner()?.sync_all()?;
        let mut bytes = Vec::new();
        rustix::fs::seek(&device, rustix::fs::SeekFrom::Start(0))?;
        io::Read::read_to_end(&mut File::from(device), &mut bytes)?;
        fs::write(work.join(DEVICE), &bytes)?;
        let meta = Meta {
            format: FORMAT,
            device_crc32: crc32fast::hash(&bytes),
            ram,
        };
        fs::write(work.join(META), serde_json::to_vec(&meta)?)?;
        Ok((work, meta))
    };
    let written = tokio::task::spawn_blocking(write).await;
    let (work, meta) = written
        .map_err(io::Error::other)
        .and_then(|done| done)
        .map_err(failed())?;
    let _ = fs::remove_dir_all(folder);
    fs::rename(&work, folder).map_err(failed())?;
    Ok(Snapshot {
        folder: folder.to_owned(),
        meta,
    })
}

/// Waits until init waits, then saves the devices; the machine stands still afterwards.
async fn save(monitor: tokio::net::UnixStream, device: &OwnedFd) -> Result<(), MicrovmError> {
    let mut monitor = Monitor::connect(monitor).await?;
    monitor.event("VSERPORT_CHANGE").await?;
    sleep(SETTLE).await;
    share_memory(&mut monitor).await?;
    monitor.give("device", device.as_fd()).await?;
    monitor.execute("migrate", json!({ "uri": "fd:device" })).await?;
    loop {
        let answer = monitor.execute("query-migrate", json!({})).await?;
        match answer["status"].as_str() {
            Some("completed") => return Ok(()),
            Some("failed" | "cancelled") => {
                return Err(MicrovmError::Monitor {
                    reason: format!("the state was not saved: {}", answer["error-desc"]),
                });
            }
            _ => sleep(LOOK_AGAIN).await,
        }
    }
}

/// Memory is a file of its own and not part of the saved state.
pub(super) async fn share_memory(monitor: &mut Monitor) -> Result<(), MicrovmError> {
    let capability = json!({ "capability": "x-ignore-shared", "state": true });
    let arguments = json!({ "capabilities": [capability] });
    monitor
        .execute("migrate-set-capabilities", arguments)
        .await
        .map(drop)
}

/// Removes all snapshots but the youngest.
fn forget(parent: &Path, newest: &Path) {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let mut others: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| path.is_dir() && path != newest)
        .filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path)))
        .collect();
    others.sort();
    let surplus = (others.len() + 1).saturating_sub(KEPT);
    for (_, path) in others.iter().take(surplus) {
        let _ = fs::remove_dir_all(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(folder: &Path) -> Snapshot {
        fs::write(folder.join(DEVICE), "devices").unwrap();
        fs::write(folder.join(RAM), "").unwrap();
        let meta = Meta {
            format: FORMAT,
            device_crc32: crc32fast::hash(b"devices"),
            ram: ram::Contents::default(),
        };
        fs::write(folder.join(META), serde_json::to_vec(&meta).unwrap()).unwrap();
        Snapshot::read(folder).unwrap()
    }

    #[test]
    fn damaged_files_are_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        assert!(Snapshot::read(folder).is_err());
        let snapshot = saved(folder);
        assert!(snapshot.device().is_ok());
        fs::write(folder.join(DEVICE), "Devices").unwrap();
        assert!(matches!(snapshot.device(), Err(MicrovmError::Snapshot { .. })));
        for text in [
            "",
            "{}",
            r#"{"format":0,"device_crc32":0,"ram":{"stretches":[],"crc32":0}}"#,
        ] {
            fs::write(folder.join(META), text).unwrap();
            assert!(
                matches!(Snapshot::read(folder), Err(MicrovmError::Snapshot { .. })),
                "{text}"
            );
        }
    }

    #[tokio::test]
    async fn memory_with_more_than_was_saved_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let snapshot = saved(folder.path());
        let memory = ram::allocate(4096).unwrap();
        snapshot.fill(&memory, 4096).await.unwrap();
        fs::write(folder.path().join(RAM), "x").unwrap();
        let refused = snapshot.fill(&memory, 4096).await;
        assert!(
            matches!(refused, Err(MicrovmError::Snapshot { .. })),
            "{refused:?}"
        );
    }

    #[test]
    fn old_snapshots_go_and_the_newest_stays() {
        let parent = tempfile::tempdir().unwrap();
        let parent = parent.path();
        let names = ["a", "b", "c", "d", "e", "f"];
        for name in names {
            fs::create_dir(parent.join(name)).unwrap();
        }
        forget(parent, &parent.join("c"));
        assert!(parent.join("c").exists());
        assert_eq!(fs::read_dir(parent).unwrap().count(), KEPT);
    }
}
