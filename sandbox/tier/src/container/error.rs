//! Why a container cannot be had.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// How an engine is installed and started.
pub(crate) const INSTALL: &str = "install one with: sudo apt-get install --yes docker.io; and start it with: \
    sudo systemctl start docker (without systemd: sudo sh -c 'dockerd >/var/log/dockerd.log 2>&1 &')";

/// One variant per step that can fail.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// No engine answers.
    #[error("no container engine answers (tried {tried}); {INSTALL}")]
    NoEngine { tried: String },
    /// There is an engine, but not for this user.
    #[error("this user may not talk to the container engine at {}; join its group with: sudo usermod --append --groups docker $USER, or start a rootless engine", socket.display())]
    Forbidden { socket: PathBuf },
    /// A container sees paths of this machine, so its engine has to be on it.
    #[error(
        "DOCKER_HOST is {address:?}; only engines on this machine can be used, at an address unix:///path"
    )]
    Remote { address: String },
    /// A socket that leads to root, in reach of an ordinary user.
    #[error("the container engine at {} runs as root, and whoever reaches it is root: in hosted mode a user needs a rootless engine", socket.display())]
    Rootful { socket: PathBuf },
    /// An engine of another user would hold this user's files.
    #[error("the container engine at {} belongs to user {owner}, not to user {uid}", socket.display())]
    Foreign { socket: PathBuf, owner: u32, uid: u32 },
    #[error(transparent)]
    Image(#[from] lodge_image::ImageError),
    /// The engine has an image of that name with another content.
    #[error(
        "the container engine's image {tag} is not the one that was built; remove it with: docker rmi {tag}"
    )]
    ForeignImage { tag: String },
    /// The engine refused or failed a call.
    #[error("the container engine cannot {action}: {source}")]
    Engine {
        action: &'static str,
        source: bollard::errors::Error,
    },
    #[error("the container engine did not {action} within {} s", patience.as_secs())]
    Slow {
        action: &'static str,
        patience: Duration,
    },
    /// The plan has what a container cannot hold.
    #[error("the container tier cannot mount {what} at {}", at.display())]
    Mount { what: &'static str, at: PathBuf },
    #[error("the container tier has no sandboxes inside the sandbox: set nesting = \"deny\"")]
    Nesting,
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// A path is no longer of the kind it was when the plan was made.
    #[error("{} changed while the sandbox was prepared", path.display())]
    Changed { path: PathBuf },
    /// Run as root, Lodge maps the owner of files; not every file system can.
    #[error("the file system of {} cannot map owners (idmapped mounts: {source}); run Lodge as an ordinary user, or keep workspaces on ext4, xfs or btrfs", path.display())]
    Idmap { path: PathBuf, source: io::Error },
    #[error("cannot {action}: {source}")]
    System { action: &'static str, source: io::Error },
    /// What the engine mounted is not what was checked.
    #[error("the container engine mounted something else at {}: it was exchanged meanwhile, or the engine sees other files than Lodge", at.display())]
    Exchanged { at: PathBuf },
    /// Guest init did not come up.
    #[error("guest init ended before it was ready{}", colon(.said))]
    Ended { said: String },
    #[error("the stream of guest init is damaged: {0}")]
    Mux(#[from] lodge_guest::mux::MuxError),
    /// Guest init said something else than its part of the handshake.
    #[error("guest init does not keep to the protocol: {what}")]
    Protocol { what: String },
}

fn colon(text: &str) -> String {
    match text.trim() {
        "" => String::new(),
        text => format!(": {text}"),
    }
}

impl ContainerError {
    pub(crate) fn engine(action: &'static str) -> impl FnOnce(bollard::errors::Error) -> Self {
        move |source| Self::Engine { action, source }
    }

    pub(crate) fn file(action: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { action, path, source }
    }

    pub(crate) fn system(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { action, source }
    }
}
