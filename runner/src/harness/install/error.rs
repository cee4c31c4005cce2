//! What can go wrong with an installation, and what to do about it.

use lodge_proto::error::{ErrorBody, ErrorCode};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// An installation, a removal or a look-up that failed. Each message says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstallError {
    #[error("there is no harness `{name}`; Lodge knows: {known}")]
    Unknown { name: String, known: String },
    #[error("harness `{name}` is not installed; install it with `lodge harness install {name}`")]
    NotInstalled { name: String },
    #[error(
        "{name} {found} is refused: this Lodge speaks to versions {accepts}; \
         install {pinned} with `lodge harness install {name}`"
    )]
    VersionRefused {
        name: String,
        found: String,
        accepts: String,
        pinned: String,
    },
    #[error(
        "the installation of {name} in {path} is damaged ({reason}); \
         run `lodge harness remove {owner}`, then `lodge harness install {owner}`"
    )]
    Damaged {
        name: String,
        owner: String,
        path: PathBuf,
        reason: String,
    },
    #[error("{name} is not available for the architecture {arch}")]
    Platform { name: String, arch: String },
    #[error("another installation is under way in {path}; wait for its end and try again")]
    Busy { path: PathBuf },
    #[error("the installation was stopped; nothing was left behind")]
    Cancelled,
    #[error(
        "npm is needed to download {name} and is not on the PATH; install it (on Debian: `apt install npm`), or bring \
         the packages from another machine with `lodge harness install {harness} --from DIR`"
    )]
    NpmMissing { name: String, harness: String },
    #[error(
        "npm names no registry that can be reached by http or https; set one with `npm config set registry URL`, or \
         use `--from DIR`"
    )]
    NoRegistry,
    #[error("this program has no way to a package registry; use `lodge harness install`, or `--from DIR`")]
    NoWayOut,
    #[error("{name} is installed in a sandbox, which cannot be had: {reason}; see `lodge doctor`")]
    Sandbox { name: String, reason: String },
    #[error("starting {program}")]
    NpmStart {
        program: PathBuf,
        source: std::io::Error,
    },
    #[error("{name} is in use: sessions run on version {versions}; nothing was removed")]
    InUse { name: String, versions: String },
    #[error("npm could not install {name} ({status}); {hint}. Its last words:\n{lines}")]
    NpmFailed {
        name: String,
        status: String,
        hint: String,
        lines: String,
    },
    #[error(
        "npm did not finish {name} within {seconds} s; check the network and npm's registry setting, then try again"
    )]
    NpmDeadline { name: String, seconds: u64 },
    #[error(
        "{path} holds no copy of {package} {version}; make the directory on a machine with network by \
         `lodge harness install {harness} --cache DIR` of this same Lodge release"
    )]
    CacheMiss {
        path: PathBuf,
        package: String,
        version: String,
        harness: String,
    },
    #[error(
        "{package}: the copy in {path} does not have the hash of the lock file; it was altered or is torn"
    )]
    Integrity { path: PathBuf, package: String },
    #[error("unpacking {package}: {reason}")]
    Archive { package: String, reason: String },
    #[error("the installed {name} does not start ({reason}); nothing was put in place")]
    CheckFailed { name: String, reason: String },
    #[error(
        "the installed {name} calls itself `{found}` where {expected} is pinned; nothing was put in place"
    )]
    CheckVersion {
        name: String,
        expected: String,
        found: String,
    },
    #[error("the embedded dependencies.toml: {reason}")]
    Catalog { reason: String },
    #[error("the embedded lock file of {name}: {reason}")]
    LockFile { name: String, reason: String },
    #[error("the disk that holds {path} is full: make room and try again; nothing was put in place")]
    DiskFull { path: PathBuf },
    #[error("{action} {path}: {source}")]
    Io {
        action: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
}

impl InstallError {
    /// The code of the canonical protocol.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Unknown { .. } | Self::CacheMiss { .. } => ErrorCode::NotFound,
            Self::NotInstalled { .. } | Self::VersionRefused { .. } | Self::Damaged { .. } => {
                ErrorCode::HarnessNotInstalled
            }
            Self::Platform { .. } => ErrorCode::UnsupportedByHarness,
            Self::Busy { .. } => ErrorCode::Busy,
            Self::InUse { .. } => ErrorCode::Conflict,
            Self::NpmDeadline { .. } => ErrorCode::DeadlineExceeded,
            Self::Integrity { .. } | Self::Archive { .. } => ErrorCode::InvalidArgument,
            Self::Sandbox { .. } => ErrorCode::SandboxUnavailable,
            Self::NpmMissing { .. }
            | Self::NoRegistry
            | Self::NoWayOut
            | Self::NpmStart { .. }
            | Self::NpmFailed { .. }
            | Self::Cancelled
            | Self::DiskFull { .. }
            | Self::CheckFailed { .. }
            | Self::CheckVersion { .. } => ErrorCode::Unavailable,
            Self::Catalog { .. } | Self::LockFile { .. } | Self::Io { .. } => ErrorCode::Internal,
        }
    }

    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::DiskFull { path },
            _ => Self::Io { action, path, source },
        }
    }
}

impl From<&InstallError> for ErrorBody {
    fn from(error: &InstallError) -> Self {
        let mut message = error.to_string();
        // `Io` already names its source; this one keeps it apart.
        if let InstallError::NpmStart { source, .. } = error {
            message = format!("{message}: {source}");
        }
        Self::new(error.code(), message)
    }
}

impl From<InstallError> for ErrorBody {
    fn from(error: InstallError) -> Self {
        Self::from(&error)
    }
}
