//! Which engine, whose it is, and who may use it.

use std::fmt;
use std::io;
use std::os::fd::IntoRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use bollard::{API_DEFAULT_VERSION, Docker};
use lodge_sandbox::launch::EngineHint;
use rustix::fs::{Mode, OFlags};

use super::error::ContainerError;

/// Seconds one call may take; loading an image is the longest.
const CALL_LIMIT: u64 = 300;
/// Longest path of a Unix socket, in bytes.
const MAX_SOCKET_PATH: usize = 100;

/// The program behind the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Make {
    Docker,
    Podman,
}

/// A container engine of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    pub socket: PathBuf,
    /// User the socket belongs to.
    pub owner: u32,
    pub make: Make,
    /// Whether its containers' root is an ordinary user of this machine.
    pub rootless: bool,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let make = match self.make {
            Make::Docker => "Docker",
            Make::Podman => "Podman",
        };
        let kind = if self.rootless { "rootless" } else { "rootful" };
        write!(f, "{make}, {kind}, at {}", self.socket.display())
    }
}

/// Whether user `uid` may have guests in `engine`. In hosted mode a rootful engine in an ordinary user's reach is
/// refused, because its socket is as good as root's password.
pub fn allowed(engine: &Engine, hosted: bool, uid: u32) -> Result<(), ContainerError> {
    let socket = engine.socket.clone();
    if engine.rootless && engine.owner != uid {
        let owner = engine.owner;
        return Err(ContainerError::Foreign { socket, owner, uid });
    }
    if hosted && uid != 0 && !engine.rootless {
        return Err(ContainerError::Rootful { socket });
    }
    Ok(())
}

/// The sockets to try, in order: the one that was named, else the user's own engines, else the system's.
pub fn candidates(hint: &EngineHint, uid: u32) -> Result<Vec<PathBuf>, ContainerError> {
    if let Some(address) = &hint.docker_host {
        return match address.strip_prefix("unix://") {
            Some(path) if path.starts_with('/') => Ok(vec![path.into()]),
            _ => Err(ContainerError::Remote {
                address: address.clone(),
            }),
        };
    }
    let mut sockets = Vec::new();
    if uid != 0 {
        let runtime = hint
            .runtime_dir
            .clone()
            .unwrap_or_else(|| format!("/run/user/{uid}").into());
        sockets.extend([runtime.join("docker.sock"), runtime.join("podman/podman.sock")]);
    }
    sockets.extend(["/var/run/docker.sock", "/run/podman/podman.sock"].map(PathBuf::from));
    Ok(sockets)
}

/// The first engine that answers.
pub async fn connect(hint: &EngineHint, uid: u32) -> Result<(Docker, Engine), ContainerError> {
    let sockets = candidates(hint, uid)?;
    let mut forbidden = None;
    for socket in &sockets {
        match reach(socket) {
            Ok(owner) => return probe(socket, owner).await,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                forbidden.get_or_insert(socket.clone());
            }
            Err(_) => {}
        }
    }
    match forbidden {
        Some(socket) => Err(ContainerError::Forbidden { socket }),
        None => Err(ContainerError::NoEngine {
            tried: sockets
                .iter()
                .map(|socket| socket.display().to_string())
                .collect::<Vec<_>>()
                .join(", "),
        }),
    }
}

/// Tries a socket; the answer is its owner.
fn reach(socket: &Path) -> io::Result<u32> {
    let meta = std::fs::metadata(socket)?;
    if !meta.file_type().is_socket() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    UnixStream::connect(short(socket)?)?;
    Ok(meta.uid())
}

/// A path that fits into a socket's address. The descriptor it may go through stays open.
fn short(socket: &Path) -> io::Result<PathBuf> {
    let (Some(folder), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Ok(socket.to_owned());
    };
    if socket.as_os_str().as_bytes().len() <= MAX_SOCKET_PATH {
        return Ok(socket.to_owned());
    }
    let folder = rustix::fs::open(folder, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    Ok(Path::new("/proc/self/fd")
        .join(folder.into_raw_fd().to_string())
        .join(name))
}

async fn probe(socket: &Path, owner: u32) -> Result<(Docker, Engine), ContainerError> {
    let path = short(socket).map_err(ContainerError::file("reach", socket))?;
    let docker = Docker::connect_with_unix(&path.to_string_lossy(), CALL_LIMIT, API_DEFAULT_VERSION)
        .map_err(ContainerError::engine("be reached"))?
        .negotiate_version()
        .await
        .map_err(ContainerError::engine("agree on a version"))?;
    let version = docker
        .version()
        .await
        .map_err(ContainerError::engine("tell its version"))?;
    let parts = version.components.unwrap_or_default();
    let podman = parts.iter().any(|part| part.name.starts_with("Podman"));
    // A socket of root's is a rootful engine's, whatever it says of itself.
    let rootless = owner != 0 && says_rootless(&docker).await?;
    let engine = Engine {
        socket: socket.to_owned(),
        owner,
        make: if podman { Make::Podman } else { Make::Docker },
        rootless,
    };
    Ok((docker, engine))
}

async fn says_rootless(docker: &Docker) -> Result<bool, ContainerError> {
    let info = docker
        .info()
        .await
        .map_err(ContainerError::engine("describe itself"))?;
    let options = info.security_options.unwrap_or_default();
    Ok(options.iter().any(|option| {
        option
            .split(',')
            .any(|part| part == "name=rootless" || part == "rootless")
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn engine(owner: u32, rootless: bool) -> Engine {
        Engine {
            socket: "/x/docker.sock".into(),
            owner,
            make: Make::Docker,
            rootless,
        }
    }

    #[test]
    fn hosted_mode_refuses_a_rootful_socket_in_a_users_reach_by_name() {
        let (rootful, own, other) = (engine(0, false), engine(1000, true), engine(1001, true));
        assert!(allowed(&rootful, false, 1000).is_ok());
        assert!(allowed(&rootful, true, 0).is_ok());
        let error = allowed(&rootful, true, 1000).unwrap_err();
        assert!(matches!(error, ContainerError::Rootful { .. }));
        assert!(
            error.to_string().contains("/x/docker.sock runs as root"),
            "{error}"
        );
        for hosted in [false, true] {
            assert!(allowed(&own, hosted, 1000).is_ok());
            assert!(matches!(
                allowed(&other, hosted, 1000),
                Err(ContainerError::Foreign { owner: 1001, .. })
            ));
        }
        // A socket of an ordinary user whose engine runs as root all the same.
        assert!(matches!(
            allowed(&engine(1000, false), true, 1000),
            Err(ContainerError::Rootful { .. })
        ));
    }

    #[test]
    fn the_users_own_engines_come_first() {
        let hint = EngineHint {
            docker_host: None,
            runtime_dir: Some("/run/user/7".into()),
        };
        let all = candidates(&hint, 7).unwrap();
        assert_eq!(all[0], Path::new("/run/user/7/docker.sock"));
        assert_eq!(all.last().unwrap(), Path::new("/run/podman/podman.sock"));
        assert_eq!(candidates(&hint, 0).unwrap().len(), 2);
    }

    #[test]
    fn only_engines_of_this_machine_can_be_named() {
        let hint = |address: &str| EngineHint {
            docker_host: Some(address.into()),
            runtime_dir: None,
        };
        assert_eq!(
            candidates(&hint("unix:///a/b"), 7).unwrap(),
            [PathBuf::from("/a/b")]
        );
        for bad in ["tcp://host:2375", "ssh://x", "unix://relative", "/plain"] {
            assert!(
                matches!(candidates(&hint(bad), 7), Err(ContainerError::Remote { .. })),
                "{bad}"
            );
        }
    }

    #[tokio::test]
    async fn without_an_engine_the_way_to_one_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("docker.sock");
        let hint = EngineHint {
            docker_host: Some(format!("unix://{}", socket.display())),
            runtime_dir: None,
        };
        let error = connect(&hint, 7).await.unwrap_err().to_string();
        assert!(error.contains("sudo apt-get install --yes docker.io"), "{error}");
        assert!(error.contains("dockerd"), "{error}");
    }
}
