//! `lodge logs`

use crate::data::DataDir;
use crate::failure::Failure;
use crate::supervise::Role;
use crate::supervise::logfile::tail;
use crate::terminal::{print, println, safe};
use clap::ValueEnum;
use lodge_proto::ErrorCode;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Show what the parts of Lodge have logged.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  lodge logs\n  lodge logs runner -f\n  lodge logs gateway -n 200")]
pub struct Args {
    /// The part; without it, all of them.
    role: Option<RoleName>,
    /// Go on as lines are written.
    #[arg(short, long)]
    follow: bool,
    /// Lines to show of each log.
    #[arg(short = 'n', long, default_value_t = 40, value_name = "LINES")]
    lines: usize,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RoleName {
    Gateway,
    History,
    Runner,
    Backend,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Gateway => Self::Gateway,
            RoleName::History => Self::History,
            RoleName::Runner => Self::Runner,
            RoleName::Backend => Self::Backend,
        }
    }
}

pub fn run(data: &DataDir, args: &Args) -> anyhow::Result<u8> {
    let roles = args
        .role
        .map_or_else(|| Role::ALL.to_vec(), |role| vec![role.into()]);
    let logs: Vec<(Role, PathBuf)> = roles
        .into_iter()
        .map(|role| (role, data.log(role.as_str())))
        .collect();
    if !args.follow && !logs.iter().any(|(_, path)| path.exists()) {
        return Err(Failure::new(ErrorCode::NotFound, "nothing has been logged yet")
            .at(data.logs().display().to_string())
            .mend("lodge up")
            .into());
    }
    let mut followed: Vec<Followed> = logs
        .iter()
        .map(|(role, path)| Followed::at_end(*role, path))
        .collect();
    for (role, path) in &logs {
        if let Ok(text) = tail(path, args.lines) {
            show(*role, logs.len() > 1, &text);
        }
    }
    if args.follow {
        loop {
            std::thread::sleep(Duration::from_millis(200));
            for log in &mut followed {
                show(log.role, logs.len() > 1, &log.read_new());
            }
        }
    }
    Ok(0)
}

fn show(role: Role, named: bool, text: &str) {
    for line in text.lines() {
        if named {
            print(&format!("{:<8} ", role.as_str()));
        }
        println(&safe(line));
    }
}

/// A log that grows, or is replaced when it is rotated.
struct Followed {
    role: Role,
    path: PathBuf,
    inode: u64,
    offset: u64,
}

impl Followed {
    fn at_end(role: Role, path: &Path) -> Self {
        let meta = std::fs::metadata(path).ok();
        let (inode, offset) = meta.map_or((0, 0), |meta| (meta.ino(), meta.len()));
        Self {
            role,
            path: path.to_owned(),
            inode,
            offset,
        }
    }

    /// Whole lines that were added.
    fn read_new(&mut self) -> String {
        let Ok(mut file) = File::open(&self.path) else {
            return String::new();
        };
        if let Ok(meta) = file.metadata()
            && (meta.ino() != self.inode || meta.len() < self.offset)
        {
            (self.inode, self.offset) = (meta.ino(), 0);
        }
        let mut bytes = Vec::new();
        if file.seek(SeekFrom::Start(self.offset)).is_err()
            || file.take(1024 * 1024).read_to_end(&mut bytes).is_err()
        {
            return String::new();
        }
        let whole = bytes
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        self.offset += whole as u64;
        String::from_utf8_lossy(&bytes[..whole]).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_growing_log_is_followed_by_whole_lines_and_across_a_rotation() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("x.log");
        std::fs::write(&path, "old\n").unwrap();
        let mut followed = Followed::at_end(Role::Runner, &path);
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"one\ntw").unwrap();
        assert_eq!(followed.read_new(), "one\n");
        file.write_all(b"o\n").unwrap();
        assert_eq!(followed.read_new(), "two\n");
        std::fs::rename(&path, root.path().join("x.log.1")).unwrap();
        std::fs::write(&path, "new\n").unwrap();
        assert_eq!(followed.read_new(), "new\n");
    }
}
