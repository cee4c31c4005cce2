//! The lattice of policies: narrowing, and the order it stays within.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::layer::{FsLayer, Layer, LimitsLayer, NetLayer, NetMode};
use crate::policy::{Fs, Limits, Loosening, Net, Policy, Tier};

impl Policy {
    /// `self` narrowed by `layer`; an error names the first key that would loosen.
    pub fn tighten(&self, layer: &Layer) -> Result<Self, Loosening> {
        let mut policy = self.clone();
        if let Some(wanted) = layer.profile {
            at_most("profile", &mut policy.profile, wanted)?;
            policy = policy.meet(&Self::of(wanted));
        }
        if let Some(wanted) = layer.nesting {
            at_most("nesting", &mut policy.nesting, wanted)?;
        }
        at_least("tier", &mut policy.tier, layer.tier)?;
        at_least("minimum_tier", &mut policy.minimum_tier, layer.minimum_tier)?;
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
                protect: &self.fs.protect | &other.fs.protect,
                deny: &self.fs.deny | &other.fs.deny,
                tmp_size: self.fs.tmp_size.min(other.fs.tmp_size),
                // Extra roots are the operator's grant, which no profile contains.
                ..self.fs.clone()
            },
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
            (Some(NetMode::Broker), Self::Broker { allow, deny, ports }) => {
                if let Some(wanted) = &layer.allow {
                    subset("net.allow", allow, wanted, names_cover)?;
                }
                deny.extend(layer.deny.iter().flatten().cloned());
                if let Some(wanted) = &layer.ports {
                    subset("net.ports", ports, wanted, BTreeSet::contains)?;
                }
            }
        }
        Ok(())
    }

    fn is_within(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::None, _) => true,
            (Self::Broker { .. }, Self::None) => false,
            (
                Self::Broker { allow, deny, ports },
                Self::Broker {
                    allow: more,
                    deny: less,
                    ports: more_ports,
                },
            ) => {
                allow.iter().all(|name| names_cover(more, name))
                    && deny.is_superset(less)
                    && ports.is_subset(more_ports)
            }
        }
    }
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
        Ok(())
    }

    fn meet(&self, other: &Self) -> Self {
        let mut both = self.clone();
        macro_rules! least {
            ($key:literal, $have:expr, $other:expr) => {
                $have = $have.into_iter().chain($other).min();
            };
        }
        each_limit!(least, both, other);
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

fn at_least(key: &'static str, have: &mut Tier, wanted: Option<Tier>) -> Result<(), Loosening> {
    let wanted = wanted.unwrap_or(*have);
    if wanted < *have {
        return Err(Loosening::new(
            key,
            format!("{wanted:?} isolates less than {have:?}"),
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
