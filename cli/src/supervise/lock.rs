//! One supervisor a data directory: an advisory lock that the kernel frees when its holder dies.

use super::state::State;
use crate::data::DataDir;
use crate::failure::Failure;
use lodge_proto::ErrorCode;
use rustix::fs::FlockOperation;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// The lock of a data directory, held until it is dropped.
#[derive(Debug)]
pub struct DataLock {
    _file: File,
}

impl DataLock {
    /// Takes the lock and writes this process's number into it.
    pub fn take(data: &DataDir) -> Result<Self, Failure> {
        let path = data.lock();
        let mut file = open(&path)?;
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(taken(data, read_pid(&mut file)));
        }
        let written = file
            .set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        written.map_err(|e| unusable(&path, &e))?;
        Ok(Self { _file: file })
    }
}

/// The process that holds the lock, if any does.
pub fn holder(data: &DataDir) -> Result<Option<u32>, Failure> {
    let path = data.lock();
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(unusable(&path, &e)),
    };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(None),
        Err(_) => Ok(Some(read_pid(&mut file).unwrap_or(0))),
    }
}

/// Waits until nobody holds the lock; false when `limit` has passed.
pub async fn wait_free(data: &DataDir, limit: Duration) -> Result<bool, Failure> {
    let end = Instant::now() + limit;
    while holder(data)?.is_some() {
        if Instant::now() >= end {
            return Ok(false);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(true)
}

/// A lock that says "I use the runner of this data directory"; many may hold it.
#[derive(Debug)]
pub struct ClientLock {
    file: File,
}

impl ClientLock {
    /// Takes the lock, after a runner that is just being stopped is gone. Blocks.
    pub fn share(data: &DataDir) -> Result<Self, Failure> {
        let path = data.clients_lock();
        let file = open(&path)?;
        rustix::fs::flock(&file, FlockOperation::LockShared).map_err(|e| unusable(&path, &e.into()))?;
        Ok(Self { file })
    }

    /// Waits until this process is the last client, and keeps others out from then on. Blocks.
    pub fn into_last(self) -> Result<Self, Failure> {
        rustix::fs::flock(&self.file, FlockOperation::LockExclusive).map_err(|e| {
            Failure::new(
                ErrorCode::Internal,
                format!("waiting for other clients of the runner: {e}"),
            )
        })?;
        Ok(self)
    }
}

fn open(path: &Path) -> Result<File, Failure> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|e| unusable(path, &e))
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn unusable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(
        ErrorCode::Unavailable,
        format!("the lock file cannot be used: {error}"),
    )
    .at(path.display().to_string())
    .mend("check owner and free space of the data directory")
}

fn taken(data: &DataDir, pid: Option<u32>) -> Failure {
    let pid = pid.map_or_else(|| "of unknown number".to_owned(), |pid| pid.to_string());
    let at = data.path().display().to_string();
    let url = State::read(&data.state()).and_then(|state| state.url);
    let what = match &url {
        Some(url) => format!("Lodge already runs on this data directory: process {pid}, {url}"),
        None => format!("this data directory is in use by process {pid}"),
    };
    Failure::new(ErrorCode::Busy, what).at(at.clone()).mend(format!(
        "use it (lodge login-link --data {at}), stop it (lodge down --data {at}), or give another --data DIR"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data() -> (tempfile::TempDir, DataDir) {
        let root = tempfile::tempdir().unwrap();
        let data = DataDir::resolve(Some(root.path())).unwrap();
        data.create().unwrap();
        (root, data)
    }

    #[test]
    fn the_second_lock_is_refused_and_names_the_first_holder() {
        let (_root, data) = data();
        assert_eq!(holder(&data).unwrap(), None);
        let first = DataLock::take(&data).unwrap();
        let refused = DataLock::take(&data).unwrap_err();
        assert_eq!(refused.code, ErrorCode::Busy);
        assert!(
            refused.to_string().contains(&std::process::id().to_string()),
            "{refused}"
        );
        assert_eq!(holder(&data).unwrap(), Some(std::process::id()));
        drop(first);
        assert_eq!(holder(&data).unwrap(), None);
        DataLock::take(&data).unwrap();
    }

    #[test]
    fn the_last_client_waits_for_the_others() {
        let (_root, data) = data();
        let other = ClientLock::share(&data).unwrap();
        let own = ClientLock::share(&data).unwrap();
        let (done, waiting) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let last = own.into_last();
            done.send(()).unwrap();
            last
        });
        assert!(
            waiting.recv_timeout(Duration::from_millis(50)).is_err(),
            "did not wait"
        );
        drop(other);
        waiting.recv_timeout(Duration::from_secs(10)).unwrap();
        thread.join().unwrap().unwrap();
    }
}
