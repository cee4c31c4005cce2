//! The lattice of policies: narrowing, and the order it stays within.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::layer::{FsLayer, Layer, LimitsLayer, NetLayer, NetMode};
use crate::policy::{Fs, Limits, Loosening, Net, Policy, Unlisted};

impl Policy {
    /// `self` narrowed by `layer`; an error names the first key that would loosen.
    pub fn tighten(&self, layer: &Layer) -> Result<Self, Loosening> {
        let mut policy = self.clone();
        if let Some(wanted) = layer.profile {
            at_most("profile", &mut policy.profile, wanted)?;
            // The profile above may have been opened further by its file: naming it again asks for nothing.
            if wanted != self.profile {
                policy = policy.meet(&Self::of(wanted));
            }
        }
        if let Some(wanted) = layer.nesting {
            at_most("nesting", &mut policy.nesting, wanted)?;
        }
        let (tier, minimum) = (layer.tier, layer.minimum_tier);
        at_least("tier", "isolates", &mut policy.tier, tier)?;
        at_least("minimum_tier", "isolates", &mut policy.minimum_tier, minimum)?;
        policy.fs.tighten(&layer.fs)?;
        policy.net.tighten(&layer.net)?;
        if let Some(wanted) = &layer.env.pass {
            subset("env.pass", &mut policy.env.pass, wanted, |have, name| {
                have.contains(name)
            })?;
        }
        if let Some(wanted) = &layer.env.set {
            let foreign = wanted
                .iter()
                .find(|(name, value)| policy.env.set.get(*name) != Some(*value));
            if let Some((name, _)) = foreign {
                return Err(Loosening::new(
                    "env.set",
                    format!("{name} does not have this value above"),
                ));
            }
            policy.env.set.clone_from(wanted);
        }
        policy.limits.tighten(&layer.limits)?;
        policy.origins.extend(layer.origins().clone());
        policy.consistent()
    }

    /// The greatest policy that is no looser than either.
    fn meet(&self, other: &Self) -> Self {
        Self {
            profile: self.profile.min(other.profile),
            tier: self.tier.max(other.tier),
            minimum_tier: self.minimum_tier.max(other.minimum_tier),
            nesting: self.nesting.min(other.nesting),
            fs: Fs {
                home: self.fs.home && other.fs.home,
                protect: &self.fs.protect | &other.fs.protect,
                deny: &self.fs.deny | &other.fs.deny,
                tmp_size: self.fs.tmp_size.min(other.fs.tmp_size),
                // Extra roots are the operator's grant, which no profile contains.
                ..self.fs.clone()
            },
            net: self.net.meet(&other.net),
            limits: self.limits.meet(&other.limits),
            ..self.clone()
        }
    }

    /// Whether `self` allows nothing that `other` does not.
    pub fn is_within(&self, other: &Self) -> bool {
        let covered = |mine: &BTreeSet<PathBuf>, theirs: &BTreeSet<PathBuf>| {
            mine.iter().all(|path| covers(theirs, path))
        };
        self.profile <= other.profile
            && self.tier >= other.tier
            && self.minimum_tier >= other.minimum_tier
            && self.nesting <= other.nesting
            && self.fs.home <= other.fs.home
            && covered(&self.fs.read, &other.fs.read)
            && covered(&self.fs.write, &other.fs.write)
            && self.fs.deny.is_superset(&other.fs.deny)
            && self.fs.protect.is_superset(&other.fs.protect)
            && self.fs.tmp_size <= other.fs.tmp_size
            && self.net.is_within(&other.net)
            && self.env.pass.is_subset(&other.env.pass)
            && self
                .env
                .set
                .iter()
                .all(|(name, value)| other.env.set.get(name) == Some(value))
            && self.limits.meet(&other.limits) == self.limits
    }
}

impl Fs {
    fn tighten(&mut self, layer: &FsLayer) -> Result<(), Loosening> {
        if let Some(wanted) = layer.home {
            at_most("fs.home", &mut self.home, wanted)?;
        }
        if let Some(wanted) = &layer.read {
            subset("fs.read", &mut self.read, wanted, |have, path| covers(have, path))?;
        }
        if let Some(wanted) = &layer.write {
            subset("fs.write", &mut self.write, wanted, |have, path| {
                covers(have, path)
            })?;
        }
        self.deny.extend(layer.deny.iter().flatten().cloned());
        self.protect.extend(layer.protect.iter().flatten().cloned());
        if let Some(wanted) = layer.tmp_size {
            at_most("fs.tmp_size", &mut self.tmp_size, wanted)?;
        }
        Ok(())
    }
}

impl Net {
    fn tighten(&mut self, layer: &NetLayer) -> Result<(), Loosening> {
        match (layer.mode, &mut *self) {
            (None, _) | (Some(NetMode::None), Self::None) => {}
            (Some(NetMode::None), _) => *self = Self::None,
            (Some(NetMode::Broker), Self::None) => {
                return Err(Loosening::new("net.mode", "there is no network above".into()));
            }
            (
                Some(NetMode::Broker),
                Self::Broker {
                    allow,
                    deny,
                    ports,
                    unlisted,
                },
            ) => {
                if let Some(wanted) = &layer.allow {
                    subset("net.allow", allow, wanted, names_cover)?;
                }
                deny.extend(layer.deny.iter().flatten().cloned());
                if let Some(wanted) = &layer.ports {
                    subset("net.ports", ports, wanted, BTreeSet::contains)?;
                }
                if let Some(wanted) = layer.unlisted {
                    at_most("net.unlisted", unlisted, wanted)?;
                }
            }
        }
        Ok(())
    }

    fn meet(&self, other: &Self) -> Self {
        let (Some(mine), Some(theirs)) = (self.broker(), other.broker()) else {
            return Self::None;
        };
        let common = |some: &BTreeSet<String>, covering: &BTreeSet<String>| {
            let covered = some.iter().filter(|name| names_cover(covering, name));
            covered.cloned().collect::<BTreeSet<_>>()
        };
        Self::Broker {
            allow: &common(mine.allow, theirs.allow) | &common(theirs.allow, mine.allow),
            deny: mine.deny | theirs.deny,
            ports: mine.ports & theirs.ports,
            unlisted: mine.unlisted.min(theirs.unlisted),
        }
    }

    fn is_within(&self, other: &Self) -> bool {
        match (self.broker(), other.broker()) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(mine), Some(theirs)) => {
                mine.allow.iter().all(|name| names_cover(theirs.allow, name))
                    && mine.deny.is_superset(theirs.deny)
                    && mine.ports.is_subset(theirs.ports)
                    && mine.unlisted <= theirs.unlisted
            }
        }
    }

    fn broker(&self) -> Option<Broker<'_>> {
        match self {
            Self::None => None,
            Self::Broker {
                allow,
                deny,
                ports,
                unlisted,
            } => Some(Broker {
                allow,
                deny,
                ports,
                unlisted: *unlisted,
            }),
        }
    }
}

/// The fields of [`Net::Broker`].
struct Broker<'a> {
    allow: &'a BTreeSet<String>,
    deny: &'a BTreeSet<String>,
    ports: &'a BTreeSet<u16>,
    unlisted: Unlisted,
}

/// Whether `name` or a wildcard above it (`*.example.org` for `a.example.org`) is in the list.
fn names_cover(have: &BTreeSet<String>, name: &String) -> bool {
    let bare = name.strip_prefix("*.").unwrap_or(name);
    let mut parents = bare.match_indices('.').map(|(at, _)| format!("*{}", &bare[at..]));
    have.contains(name) || parents.any(|wildcard| have.contains(&wildcard))
}

fn covers(roots: &BTreeSet<PathBuf>, path: &Path) -> bool {
    roots.iter().any(|root| path.starts_with(root))
}

/// Applies one operation to every limit, with its key.
macro_rules! each_limit {
    ($apply:ident, $limits:expr, $layer:expr) => {
        $apply!("limits.processes", $limits.processes, $layer.processes);
        $apply!("limits.memory", $limits.memory, $layer.memory);
        $apply!("limits.file_size", $limits.file_size, $layer.file_size);
        $apply!("limits.open_files", $limits.open_files, $layer.open_files);
        $apply!(
            "limits.cpu_seconds",
            $limits.cpu_seconds,
            $layer.cpu_seconds
        );
        $apply!("limits.disk", $limits.disk, $layer.disk);
        $apply!("limits.output", $limits.output, $layer.output);
        $apply!(
            "limits.wall_seconds",
            $limits.wall_seconds,
            $layer.wall_seconds
        );
        $apply!(
            "limits.idle_seconds",
            $limits.idle_seconds,
            $layer.idle_seconds
        );
    };
}

impl Limits {
    pub(crate) fn replace(&mut self, layer: &LimitsLayer) {
        macro_rules! set {
            ($key:literal, $have:expr, $wanted:expr) => {
                $have = $wanted.or($have);
            };
        }
        each_limit!(set, self, layer);
        self.require = layer.require.unwrap_or(self.require);
    }

    fn tighten(&mut self, layer: &LimitsLayer) -> Result<(), Loosening> {
        macro_rules! lower {
            ($key:literal, $have:expr, $wanted:expr) => {
                if let Some(wanted) = $wanted {
                    at_most($key, $have.get_or_insert(wanted), wanted)?;
                }
            };
        }
        each_limit!(lower, self, layer);
        at_least("limits.require", "holds", &mut self.require, layer.require)
    }

    fn meet(&self, other: &Self) -> Self {
        let mut both = self.clone();
        macro_rules! least {
            ($key:literal, $have:expr, $other:expr) => {
                $have = $have.into_iter().chain($other).min();
            };
        }
        each_limit!(least, both, other);
        both.require = both.require.max(other.require);
        both
    }
}

fn at_most<T: Ord + std::fmt::Debug>(key: &'static str, have: &mut T, wanted: T) -> Result<(), Loosening> {
    if wanted > *have {
        return Err(Loosening::new(key, format!("{wanted:?} is more than {have:?}")));
    }
    *have = wanted;
    Ok(())
}

fn at_least<T: Ord + Copy + std::fmt::Debug>(
    key: &'static str,
    does: &str,
    have: &mut T,
    wanted: Option<T>,
) -> Result<(), Loosening> {
    let wanted = wanted.unwrap_or(*have);
    if wanted < *have {
        return Err(Loosening::new(
            key,
            format!("{wanted:?} {does} less than {have:?}"),
        ));
    }
    *have = wanted;
    Ok(())
}

fn subset<T: Ord + Clone + std::fmt::Debug>(
    key: &'static str,
    have: &mut BTreeSet<T>,
    wanted: &BTreeSet<T>,
    covers: impl Fn(&BTreeSet<T>, &T) -> bool,
) -> Result<(), Loosening> {
    if let Some(foreign) = wanted.iter().find(|item| !covers(have, item)) {
        return Err(Loosening::new(key, format!("{foreign:?} is not allowed above")));
    }
    have.clone_from(wanted);
    Ok(())
}
