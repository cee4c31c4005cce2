//! The second wall behind the mounts: what is not granted stays closed even if a mount was wrong.

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, PathFdError, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};
use lodge_guest::walls::Landlock;
use nix::sys::statfs::{PROC_SUPER_MAGIC, statfs};

use crate::sys;

/// The newest interface whose rights are used; on older kernels the ones they know.
const NEWEST: ABI = ABI::V6;
/// The version of the interface that can confine signals and abstract sockets.
const SCOPES_SINCE: i64 = 6;

#[derive(Debug, thiserror::Error)]
pub(crate) enum LandlockError {
    #[error("landlock: {0}")]
    Rules(#[from] RulesetError),
    #[error("landlock: {0}")]
    Path(#[from] PathFdError),
    #[error("landlock is not active; boot with `lsm=` containing landlock (Linux 5.13 or later)")]
    Absent,
}

/// Restricts this process and everything it starts. Needs `no_new_privs`.
pub(crate) fn restrict(rules: &Landlock) -> Result<(), LandlockError> {
    // The settings of the kernel lie among the files of processes, and some belong to the machine: a guest of root
    // is their owner. Nothing below a writable path can be denied again, so no file of processes may be written.
    let (settings, write): (Vec<&String>, Vec<&String>) =
        rules.write.iter().partition(|path| is_process_files(path));
    let read = rules.read.iter().chain(settings);
    let status = created(sys::landlock_abi())?
        .add_rules(path_beneath_rules(read, AccessFs::from_read(NEWEST)))?
        .add_rules(path_beneath_rules(write, AccessFs::from_all(NEWEST)))?
        // The root holds nothing but mount points; listing it tells no more than the mounts do.
        .add_rule(PathBeneath::new(PathFd::new("/")?, AccessFs::ReadDir))?
        .restrict_self()?;
    if status.ruleset == RulesetStatus::NotEnforced {
        Err(LandlockError::Absent)
    } else {
        Ok(())
    }
}

fn is_process_files(path: &str) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == PROC_SUPER_MAGIC)
}

/// What the kernel knows is demanded, so that no part of it is left out in silence; what it is too old for is not.
fn created(abi: i64) -> Result<RulesetCreated, RulesetError> {
    let newest = if abi >= SCOPES_SINCE {
        CompatLevel::HardRequirement
    } else {
        CompatLevel::BestEffort
    };
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))?
        .set_compatibility(newest)
        .handle_access(AccessFs::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()
}
