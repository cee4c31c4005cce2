//! The configuration file read again, and how it is seen that it changed.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{Config, ConfigError, Source};

/// Longest configuration file, bytes.
const MAX_FILE: u64 = 1 << 20;

/// A state of the file: another one means that it may say something else. A file that is replaced has another inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    place: (u64, u64),
    length: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The state of a file; none where there is none.
pub(super) fn stamp(file: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(file).ok()?;
    Some(Stamp {
        place: (metadata.dev(), metadata.ino()),
        length: metadata.len(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    })
}

/// The text of the file, empty where there is none, and its state from before it was read: what is written meanwhile has
/// another one.
pub(super) fn read(file: &Path) -> Result<(Option<Stamp>, String), ConfigError> {
    let error = |source| ConfigError::Read {
        file: file.to_owned(),
        source,
    };
    let stamp = stamp(file);
    if stamp.is_some_and(|stamp| stamp.length > MAX_FILE) {
        let what = format!("it has more than {MAX_FILE} bytes");
        return Err(error(std::io::Error::new(ErrorKind::FileTooLarge, what)));
    }
    match std::fs::read_to_string(file) {
        Ok(text) => Ok((stamp, text)),
        Err(source) if source.kind() == ErrorKind::NotFound => Ok((None, String::new())),
        Err(source) => Err(error(source)),
    }
}

impl Config {
    /// The file it was read from.
    pub fn file(&self) -> &Path {
        &self.source.options.file
    }

    /// The configuration as its file is now, with the variables of the start: the environment holds them no more.
    ///
    /// Blocks on the file.
    pub(crate) fn again(&self) -> Result<Self, ConfigError> {
        let Source { options, environment } = &*self.source;
        let (stamp, text) = read(&options.file)?;
        let mut config = Self::parse(options, &text, environment)?;
        config.stamp = stamp;
        Ok(config)
    }

    /// What a text would mean in place of the file, with the variables of the start.
    pub(crate) fn instead(&self, text: &str) -> Result<Self, ConfigError> {
        let Source { options, environment } = &*self.source;
        Self::parse(options, text, environment)
    }

    /// Which state of the file was read; none: there was no file.
    pub(crate) fn stamp(&self) -> Option<Stamp> {
        self.stamp
    }

    /// The state in which the file is now. Blocks on the file.
    pub(crate) fn stamp_now(&self) -> Option<Stamp> {
        stamp(self.file())
    }

    /// Sections that differ from those that a process began with, and that only a restart applies.
    pub(crate) fn needs_restart(&self, started: &Self) -> Vec<String> {
        let addresses = |config: &Self| (config.listen, config.metrics, config.limits, config.seal.clone());
        let mut sections = Vec::new();
        if addresses(self) != addresses(started) {
            sections.push("gateway".to_owned());
        }
        if self.telemetry != started.telemetry {
            sections.push("telemetry".to_owned());
        }
        if format!("{:?}", self.egress) != format!("{:?}", started.egress) {
            sections.push("egress".to_owned());
        }
        sections
    }
}
