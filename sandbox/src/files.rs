//! Where the policy of a session comes from: which files, in which order, and what a person asks for on top.

use std::path::{Path, PathBuf};

use crate::layer::Layer;
use crate::policy::{Loosening, Policy, PolicyError, Profile, Tier};

/// The operator's policy of a machine with several users; only root can write it.
pub const SYSTEM: &str = "/etc/lodge/sandbox.toml";
/// The policy in a data directory.
pub const DATA: &str = "config/sandbox.toml";
/// The policy in a workspace.
pub const WORKSPACE: &str = ".lodge/sandbox.toml";

/// The files above a workspace. The first of them that exists is the base, which may set anything; every further
/// one, and the workspace's, can only tighten.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyFiles {
    /// The operator's.
    pub system: Option<PathBuf>,
    /// The user's; where there is no operator, the user is one.
    pub user: Option<PathBuf>,
}

/// What a person asks for when a session is made. The profile can only tighten; the tier can be any that is not below
/// the policy's minimum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wish {
    pub profile: Option<Profile>,
    pub tier: Option<Tier>,
}

/// The name under which a wish stands in errors.
const WISH: &str = "the request";

impl PolicyFiles {
    /// The files of a data directory on this machine.
    pub fn of(data_dir: &Path) -> Self {
        Self::with_system(Path::new(SYSTEM), data_dir)
    }

    /// The same with another place of the operator's file.
    pub fn with_system(system: &Path, data_dir: &Path) -> Self {
        let existing = |path: PathBuf| path.symlink_metadata().is_ok().then_some(path);
        let user = existing(data_dir.join(DATA));
        match existing(system.to_owned()) {
            Some(system) => Self {
                system: Some(system),
                user,
            },
            None => Self {
                system: user,
                user: None,
            },
        }
    }

    /// The policy of a session in `workspace`. A profile that is wished for is the base where no file is.
    pub fn load(&self, workspace: &Path, wish: Wish) -> Result<Policy, PolicyError> {
        let own = workspace.join(WORKSPACE);
        let mut policy = match (&self.system, wish.profile) {
            (None, Some(profile)) => Policy::of(profile).under(self.user.as_deref(), Some(&own))?,
            (system, None) => Policy::load(system.as_deref(), self.user.as_deref(), Some(&own))?,
            (system, Some(profile)) => Policy::load(system.as_deref(), self.user.as_deref(), Some(&own))?
                .tighten(&Layer::of_profile(profile))
                .map_err(|Loosening { key, reason }| refused(key, reason))?,
        };
        if let Some(tier) = wish.tier {
            if tier < policy.minimum_tier {
                let reason = format!("{tier:?} is below minimum_tier, {:?}", policy.minimum_tier);
                return Err(refused("tier", reason.to_lowercase()));
            }
            policy.tier = tier;
        }
        Ok(policy)
    }
}

fn refused(key: &'static str, reason: String) -> PolicyError {
    PolicyError::Loosens {
        file: WISH.into(),
        key,
        reason,
    }
}
