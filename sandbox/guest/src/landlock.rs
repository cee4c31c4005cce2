//! The second wall behind the mounts: what is not granted stays closed even if a mount was wrong.

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, PathFdError, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};
use lodge_guest::walls::Landlock;

/// The newest interface whose rights are used; on older kernels the ones they know.
const NEWEST: ABI = ABI::V6;

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
    let status = created()?
        .add_rules(path_beneath_rules(&rules.read, AccessFs::from_read(NEWEST)))?
        .add_rules(path_beneath_rules(&rules.write, AccessFs::from_all(NEWEST)))?
        // The root holds nothing but mount points; listing it tells no more than the mounts do.
        .add_rule(PathBeneath::new(PathFd::new("/")?, AccessFs::ReadDir))?
        .restrict_self()?;
    if status.ruleset == RulesetStatus::NotEnforced {
        Err(LandlockError::Absent)
    } else {
        Ok(())
    }
}

fn created() -> Result<RulesetCreated, RulesetError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()
}
