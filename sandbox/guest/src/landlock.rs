//! The second wall behind the mounts: what is not granted stays closed even if a mount was wrong.

use std::path::Path;

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
    let (settings, write): (Vec<&str>, Vec<&str>) = outermost(&rules.write, &[])
        .into_iter()
        .partition(|path| is_process_files(path));
    let mut read = outermost(&rules.read, &write);
    read.extend(settings);
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

/// The paths without those that a rule for another of them, or for one of `others`, covers already: each rule opens
/// its path, which takes several questions to the host where that shares its files with a machine.
fn outermost<'a>(paths: &'a [String], others: &[&str]) -> Vec<&'a str> {
    let covers = |outer: &str, path: &str| outer != path && Path::new(path).starts_with(outer);
    let mut kept: Vec<&str> = paths.iter().map(String::as_str).collect();
    kept.sort_unstable();
    kept.dedup();
    let all = kept.clone();
    kept.retain(|path| {
        let mut outer = all.iter().chain(others);
        !others.contains(path) && !outer.any(|outer| covers(outer, path))
    });
    kept
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

#[cfg(test)]
mod tests {
    use super::outermost;

    #[test]
    fn only_the_outermost_paths_get_rules() {
        let paths = ["/w/.git/hooks", "/w", "/w", "/wide", "/tmp"].map(str::to_owned);
        assert_eq!(outermost(&paths, &[]), ["/tmp", "/w", "/wide"]);
        assert_eq!(outermost(&paths, &["/w"]), ["/tmp", "/wide"]);
        let all = ["/", "/etc/passwd", "/w"].map(str::to_owned);
        assert_eq!(outermost(&all, &["/w"]), ["/"]);
    }
}
