//! A policy and its plan in a person's words, and the same as data.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::limits::{self, LimitStatus, Means};
use crate::plan::{Access, GUEST_GATEWAY, GUEST_HOME, GUEST_INIT, Mount, Placeholder, Plan, Source};
use crate::policy::{Nesting, Net, Policy, Strength, Unlisted};

/// What a guest may do, and what holds it.
#[derive(Debug, Clone, Serialize)]
pub struct Explanation<'a> {
    pub tier: &'static str,
    pub profile: &'static str,
    pub workspace: &'a Path,
    /// Paths of the host that can be read.
    pub readable: Vec<&'a Path>,
    /// Paths of the host that can be written.
    pub writable: Vec<&'a Path>,
    /// Paths that lie below one of those and look empty.
    pub hidden: Vec<&'a Path>,
    /// Names below the workspace that stay as they are.
    pub protected: Vec<&'a str>,
    /// Those of them that are absent and held by an empty stand-in while the sandbox runs.
    pub placeholders: &'a [Placeholder],
    /// Those of them that a guest can make; they are reported after a turn.
    pub unprotected: &'a [String],
    pub network: &'a Net,
    /// Names of variables taken over from the host, and fixed values.
    pub environment: BTreeMap<&'a str, Option<&'a str>>,
    pub limits: Vec<LimitStatus>,
    /// Limits which nothing holds as well as `limits.require` demands: such a sandbox is not started.
    pub refused: Option<String>,
    pub policy: &'a Policy,
    pub plan: &'a Plan,
}

impl<'a> Explanation<'a> {
    /// Explains `plan`, which `policy` was compiled to, on this machine.
    pub fn new(policy: &'a Policy, plan: &'a Plan) -> Self {
        Self::with(policy, plan, &Means::probe(plan.tier))
    }

    /// The same for a machine with `means`.
    pub fn with(policy: &'a Policy, plan: &'a Plan, means: &Means) -> Self {
        let protected = policy.fs.protect.iter().map(String::as_str);
        let free = |name: &&str| !plan.unprotected.iter().any(|open| open == name);
        let passed = policy.env.pass.iter().map(|name| (name.as_str(), None));
        let set = policy.env.set.iter();
        let set = set.map(|(name, value)| (name.as_str(), Some(value.as_str())));
        Self {
            tier: plan.tier.name(),
            profile: policy.profile.name(),
            workspace: &plan.workspace,
            readable: bound(plan, Access::Read),
            writable: bound(plan, Access::Write),
            hidden: hidden(policy, plan),
            protected: protected.filter(free).collect(),
            placeholders: &plan.placeholders,
            unprotected: &plan.unprotected,
            network: &policy.net,
            environment: passed.chain(set).collect(),
            limits: limits::status(&plan.limits, policy.fs.tmp_size, plan.tier, means),
            refused: limits::require(plan, means).err().map(|error| error.to_string()),
            policy,
            plan,
        }
    }

    /// Lines for a terminal, without a line break at their ends.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![
            format!(
                "A guest in {} under profile {}, tier {}.",
                self.workspace.display(),
                self.profile,
                self.tier
            ),
            String::new(),
        ];
        let paths = |paths: &[&Path]| paths.iter().map(|path| path.display().to_string()).collect();
        list(&mut lines, "It can write", paths(&self.writable));
        lines.push(format!(
            "  and {GUEST_HOME} (a home of its own), /tmp, /dev/shm ({} each, gone at the end)",
            amount("bytes", self.policy.fs.tmp_size.0)
        ));
        list(&mut lines, "It can read", paths(&self.readable));
        list(&mut lines, "Hidden from it", paths(&self.hidden));
        self.names(&mut lines);
        self.ways_out(&mut lines);
        let mut environment = Vec::new();
        for (name, value) in &self.environment {
            environment.push(value.map_or_else(
                || format!("{name} (the host's)"),
                |value| format!("{name}={value}"),
            ));
        }
        list(&mut lines, "Variables besides the usual ones", environment);
        self.bounds(&mut lines);
        lines
    }

    fn names(&self, lines: &mut Vec<String>) {
        let stand_in = |name: &str| {
            let held = self
                .placeholders
                .iter()
                .any(|held| held.name == name || name.starts_with(&format!("{}/", held.name)));
            if held {
                " (absent: an empty stand-in while it runs)"
            } else {
                ""
            }
        };
        let names = self.protected.iter();
        list(
            lines,
            "Cannot be changed in the workspace",
            names.map(|name| format!("{name}{}", stand_in(name))).collect(),
        );
        list(
            lines,
            "Protected, but absent and not held: a guest can make them, and that is reported",
            self.unprotected.to_vec(),
        );
    }

    fn ways_out(&self, lines: &mut Vec<String>) {
        let Net::Broker {
            allow,
            deny,
            ports,
            unlisted,
        } = self.network
        else {
            lines.push("Network: none, but the models through Lodge's gateway".to_owned());
            return;
        };
        if ports.is_empty() {
            lines.push(
                "Network: none but the models: net.ports names no port, so no host can be reached".to_owned(),
            );
            return;
        }
        let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
        let others = match unlisted {
            Unlisted::Deny => "refused",
            Unlisted::Ask => "a person is asked",
        };
        lines.push(format!(
            "Network: by name through Lodge's gateway, ports {}; any other host: {others}",
            ports.join(", ")
        ));
        list(lines, "  Allowed hosts", allow.iter().cloned().collect());
        list(lines, "  Denied hosts", deny.iter().cloned().collect());
    }

    fn bounds(&self, lines: &mut Vec<String>) {
        lines.push("Limits".to_owned());
        for limit in &self.limits {
            let key = limit.key.trim_start_matches("limits.");
            let Some(value) = limit.value else {
                lines.push(format!("  {key:<14}  no bound"));
                continue;
            };
            let amount = amount(unit(limit.key), value);
            lines.push(format!(
                "  {key:<14}  {amount:<12}  {:<7}  {}",
                limit.how.name(),
                limit.by
            ));
        }
        if self.policy.limits.require == Strength::Hard {
            lines.push("  Every limit that is set has to be hard.".to_owned());
        }
        lines.extend(
            self.refused
                .iter()
                .map(|why| format!("It would not be started: {why}")),
        );
        lines.push(match self.policy.nesting {
            Nesting::Deny => "Sandboxes inside the sandbox: none".to_owned(),
            Nesting::OneLevel => "Sandboxes inside the sandbox: allowed, so Landlock stays off".to_owned(),
        });
    }
}

/// Host paths that are mounted for their content; what Lodge itself brings is not among them.
fn bound(plan: &Plan, wanted: Access) -> Vec<&Path> {
    let own = [GUEST_HOME, GUEST_INIT, GUEST_GATEWAY].map(Path::new);
    let inside = |path: &Path| path != plan.workspace && path.starts_with(&plan.workspace);
    let found = plan.mounts.iter().filter_map(|mount| match mount {
        Mount::Bind {
            from,
            at,
            access,
            source,
        } if *access == wanted && from == at => Some((at.as_path(), *source)),
        _ => None,
    });
    found
        .filter(|(path, _)| !own.contains(path) && !inside(path))
        .filter(|(path, source)| *source != Source::System || !path.starts_with("/etc"))
        .map(|(path, _)| path)
        .collect()
}

/// What the policy denies and the plan covers.
fn hidden<'a>(policy: &'a Policy, plan: &Plan) -> Vec<&'a Path> {
    let covered = |path: &&PathBuf| {
        let by_init = plan.walls.covered.iter().any(|at| Path::new(at) == *path);
        by_init
            || plan.mounts.iter().any(|mount| match mount {
                Mount::Tmpfs { at, .. } | Mount::EmptyFile { at } => at == *path,
                _ => false,
            })
    };
    let denied = policy.fs.deny.iter().filter(covered);
    denied.map(PathBuf::as_path).collect()
}

fn list(lines: &mut Vec<String>, title: &str, items: Vec<String>) {
    if !items.is_empty() {
        lines.push(format!("{title}:"));
        lines.extend(items.into_iter().map(|item| format!("  {item}")));
    }
}

fn unit(key: &str) -> &'static str {
    match key {
        "limits.processes" | "limits.open_files" => "",
        key if key.ends_with("_seconds") => "seconds",
        _ => "bytes",
    }
}

fn amount(unit: &str, value: u64) -> String {
    match unit {
        "bytes" => {
            let shift = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
            let whole = shift
                .into_iter()
                .find(|(bits, _)| value >= 1 << bits && value.is_multiple_of(1 << bits));
            whole.map_or_else(
                || format!("{value} bytes"),
                |(bits, name)| format!("{} {name}", value >> bits),
            )
        }
        "seconds" => {
            let span = [(86_400, "days"), (3600, "hours"), (60, "minutes")];
            let whole = span
                .into_iter()
                .find(|(length, _)| value >= *length && value.is_multiple_of(*length));
            whole.map_or_else(
                || format!("{value} seconds"),
                |(length, name)| format!("{} {name}", value / length),
            )
        }
        _ => value.to_string(),
    }
}
