//! How well each limit is held, as data: by the kernel, by measuring, or not at all.

use serde::Serialize;

use crate::cgroup::{self, Delegation};
use crate::error::SandboxError;
use crate::host::engine::{self, Engine};
use crate::plan::{Mount, Plan};
use crate::policy::{Limits, Strength, Tier};
use crate::size::Bytes;

/// How a limit is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Held {
    /// Nothing holds it: a sandbox that sets it is refused.
    Absent,
    /// Measured about once a second; the sandbox is killed beyond it.
    Sampled,
    /// It cannot be crossed.
    Hard,
}

impl Held {
    pub fn name(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Sampled => "sampled",
            Self::Hard => "hard",
        }
    }
}

/// One limit of a tier on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LimitStatus {
    /// Dotted, as in a policy file.
    pub key: &'static str,
    /// Bytes, seconds or a count; `None` when the policy sets no bound.
    pub value: Option<u64>,
    pub how: Held,
    /// What holds it.
    pub by: String,
    /// What would hold it better, if anything would.
    pub mend: Option<String>,
}

/// What this machine has to hold limits with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Means {
    /// Guests run under the number of the real root, whose processes the kernel does not count.
    pub root: bool,
    /// Whether a PID namespace has a highest number of its own (Linux 6.14).
    pub pid_ceiling: bool,
    pub cgroup: Option<Delegation>,
    /// The engine that the container tier would use.
    pub engine: Option<Engine>,
}

/// The kernel that made the highest process id a matter of each PID namespace.
const PID_CEILING_SINCE: (u32, u32) = (6, 14);

impl Means {
    /// Looks at this machine; talks to an engine only for the container tier.
    pub fn probe(tier: Tier) -> Self {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            root: rustix::process::getuid().is_root(),
            pid_ceiling: kernel_version(&release) >= PID_CEILING_SINCE,
            cgroup: cgroup::detect(),
            engine: (tier == Tier::Container).then(|| engine::find().ok()).flatten(),
        }
    }
}

fn kernel_version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut next = || numbers.next().and_then(|text| text.parse().ok()).unwrap_or(0);
    (next(), next())
}

/// Every limit there is, in the order of the policy's keys.
pub fn status(limits: &Limits, tmp_size: Bytes, tier: Tier, means: &Means) -> Vec<LimitStatus> {
    let bytes = |size: Option<Bytes>| size.map(|Bytes(bytes)| bytes);
    let hard = |key, value, by: &str| LimitStatus {
        key,
        value,
        how: Held::Hard,
        by: by.to_owned(),
        mend: None,
    };
    let init = "guest init, which every byte passes";
    vec![
        processes(limits.processes, tier, means),
        memory(bytes(limits.memory), tier, means),
        hard("limits.file_size", bytes(limits.file_size), "RLIMIT_FSIZE"),
        hard(
            "limits.open_files",
            limits.open_files,
            "RLIMIT_NOFILE of each process",
        ),
        hard(
            "limits.cpu_seconds",
            limits.cpu_seconds,
            "RLIMIT_CPU of each process",
        ),
        LimitStatus {
            key: "limits.disk",
            value: bytes(limits.disk),
            how: Held::Sampled,
            by: "guest init, which measures and kills".to_owned(),
            mend: Some("unset limits.disk, or keep the workspace on a file system of its own".to_owned()),
        },
        hard("limits.output", bytes(limits.output), init),
        hard("limits.wall_seconds", limits.wall_seconds, "guest init's clock"),
        hard("limits.idle_seconds", limits.idle_seconds, "guest init's clock"),
        hard("fs.tmp_size", Some(tmp_size.0), "the size of the tmpfs"),
    ]
}

fn processes(value: Option<u64>, tier: Tier, means: &Means) -> LimitStatus {
    let engine = means
        .engine
        .as_ref()
        .is_some_and(|engine| engine.limits_processes);
    let (how, by, mend) = match tier {
        Tier::Microvm => (Held::Hard, "RLIMIT_NPROC in the machine's own kernel", None),
        Tier::Container if engine => (Held::Hard, "the engine's cgroup (pids.max)", None),
        Tier::Process if means.cgroup.is_some() => (Held::Hard, "a cgroup of its own (pids.max)", None),
        _ if !means.root => (Held::Hard, "RLIMIT_NPROC in its user namespace", None),
        _ if means.pid_ceiling => (
            Held::Hard,
            "the highest process id of its PID namespace, 300 above it",
            None,
        ),
        _ => (
            Held::Sampled,
            "guest init, which counts and kills: the kernel does not count processes of root",
            Some("run Lodge as an ordinary user, or in a delegated cgroup"),
        ),
    };
    LimitStatus {
        key: "limits.processes",
        value,
        how,
        by: by.to_owned(),
        mend: mend.map(str::to_owned),
    }
}

fn memory(value: Option<u64>, tier: Tier, means: &Means) -> LimitStatus {
    let engine = means.engine.as_ref().is_some_and(|engine| engine.limits_memory);
    let (how, by) = match tier {
        Tier::Microvm => (Held::Hard, "the memory of the machine"),
        Tier::Container if engine => (Held::Hard, "the engine's cgroup (memory.max)"),
        Tier::Process if means.cgroup.is_some() => (Held::Hard, "a cgroup of its own (memory.max)"),
        _ => (
            Held::Sampled,
            "guest init, which measures and kills; RLIMIT_DATA for one process",
        ),
    };
    let mend = "run Lodge as a systemd service with Delegate=yes and DelegateSubgroup=, or take tier microvm";
    LimitStatus {
        key: "limits.memory",
        value,
        how,
        by: by.to_owned(),
        mend: (how != Held::Hard).then(|| mend.to_owned()),
    }
}

/// Size of `/tmp` in a plan.
pub(crate) fn tmp_size(plan: &Plan) -> Bytes {
    let size = |mount: &Mount| match mount {
        Mount::Tmpfs { at, size, .. } if at.as_os_str() == "/tmp" => Some(*size),
        _ => None,
    };
    plan.mounts.iter().find_map(size).unwrap_or(Bytes(0))
}

/// Refuses a plan with a limit that nothing holds, or not as well as its policy demands.
pub fn require(plan: &Plan, means: &Means) -> Result<(), SandboxError> {
    let enough = match plan.limits.require {
        Strength::Sampled => Held::Sampled,
        Strength::Hard => Held::Hard,
    };
    let found = status(&plan.limits, tmp_size(plan), plan.tier, means);
    match found
        .into_iter()
        .find(|limit| limit.value.is_some() && limit.how < enough)
    {
        Some(limit) => Err(SandboxError::Limit {
            key: limit.key,
            how: limit.how.name(),
            by: limit.by,
            mend: limit.mend.unwrap_or_default(),
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Policy, Profile};

    fn how(tier: Tier, means: &Means, key: &str) -> Held {
        let limits = Policy::of(Profile::Development).limits;
        let found = status(&limits, Bytes(1), tier, means);
        found
            .iter()
            .find(|limit| limit.key == key)
            .map(|limit| limit.how)
            .expect("a status")
    }

    #[test]
    fn what_holds_processes_and_memory_depends_on_the_machine() {
        let user = Means::default();
        let root = Means {
            root: true,
            ..Means::default()
        };
        let newer = Means {
            pid_ceiling: true,
            ..root.clone()
        };
        let delegated = Means {
            cgroup: Some(Delegation::default()),
            ..root.clone()
        };
        for (tier, means, processes, memory) in [
            (Tier::Process, &user, Held::Hard, Held::Sampled),
            (Tier::Process, &root, Held::Sampled, Held::Sampled),
            (Tier::Process, &newer, Held::Hard, Held::Sampled),
            (Tier::Process, &delegated, Held::Hard, Held::Hard),
            (Tier::Microvm, &root, Held::Hard, Held::Hard),
            (Tier::Container, &user, Held::Hard, Held::Sampled),
        ] {
            assert_eq!(
                how(tier, means, "limits.processes"),
                processes,
                "{tier:?} {means:?}"
            );
            assert_eq!(how(tier, means, "limits.memory"), memory, "{tier:?} {means:?}");
        }
    }

    #[test]
    fn every_limit_of_a_policy_has_a_status() {
        let limits = Policy::of(Profile::Strict).limits;
        let table = serde_json::to_value(&limits).expect("json");
        let keys = table.as_object().expect("a table").keys();
        let found = status(&limits, Bytes(1), Tier::Process, &Means::default());
        for key in keys.filter(|key| *key != "require") {
            let key = format!("limits.{key}");
            let limit = found.iter().find(|limit| limit.key == key);
            assert!(limit.is_some_and(|limit| limit.value.is_some()), "{key}");
        }
    }

    #[test]
    fn kernel_releases_are_compared_as_numbers() {
        assert_eq!(kernel_version("6.18.44-fc-v657\n"), (6, 18));
        assert!(kernel_version("6.9.1") < PID_CEILING_SINCE);
        assert_eq!(kernel_version(""), (0, 0));
    }
}
