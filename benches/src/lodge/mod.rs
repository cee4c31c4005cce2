//! Lodge itself.

use crate::report::{Cells, Sizes};
use std::path::{Path, PathBuf};

/// Where its programs are.
#[derive(Debug)]
pub struct Programs {
    pub dir: PathBuf,
    pub init: PathBuf,
}

#[derive(Debug, clap::Args)]
pub struct RoleArgs {
    name: String,
}

pub fn role(_: &RoleArgs) -> anyhow::Result<()> {
    Ok(())
}

pub fn measure(_: &Path, _: &Programs, _: &Sizes) -> anyhow::Result<Cells> {
    anyhow::bail!("not yet")
}
