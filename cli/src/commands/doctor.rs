//! `lodge doctor`

mod walls;

use crate::config::Config;
use crate::data::DataDir;
use crate::supervise::lock;
use crate::terminal::{one_line, print_json, println};
use lodge_runner::harness::install::Installer;
use serde::Serialize;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Less free space than this is a problem, bytes.
const MIN_FREE: u64 = 1024 * 1024 * 1024;
/// No clock of a machine that runs this program shows an earlier time: 2026-01-01, UTC seconds.
const EARLIEST: u64 = 1_767_225_600;
/// The oldest Node.js with which the browser UI is built.
const MIN_NODE: (u32, u32) = (20, 19);

/// Say what this machine offers, what is missing, and the exact command that mends it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  lodge doctor\n  lodge doctor --json | jq '.items[] | select(.ok | not)'\n\n\
    Exit status: 0 everything required is there, 1 something required is missing."
)]
pub struct Args {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize)]
struct Item {
    group: &'static str,
    name: String,
    /// Without it Lodge does not work.
    required: bool,
    ok: bool,
    detail: String,
    /// What is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    /// The exact command that mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    /// What the embedded mode does not do.
    note: &'static str,
    items: Vec<Item>,
}

const NOTE: &str = "`lodge up` puts walls around agents. The parts of Lodge run under one user and are not walled off \
    from each other: a guest that escaped its sandbox would have this user's rights.";

pub fn run(data: &DataDir, args: &Args) -> anyhow::Result<u8> {
    let report = examine(data);
    if args.json {
        print_json(&report)?;
    } else {
        show(&report);
    }
    Ok(u8::from(!report.ok))
}

fn examine(data: &DataDir) -> Report {
    let mut items = walls::all(data);
    items.extend(harnesses(data));
    items.extend([node(), npm(), disk(data), clock(), port(data)]);
    Report {
        ok: items.iter().all(|item| item.ok || !item.required),
        note: NOTE,
        items,
    }
}

fn show(report: &Report) {
    let mut group = "";
    for item in &report.items {
        if item.group != group {
            group = item.group;
            println(&format!("\n{group}"));
        }
        let sign = match (item.ok, item.required) {
            (true, _) => "ok     ",
            (false, true) => "MISSING",
            (false, false) => "absent ",
        };
        let what = item.problem.as_deref().unwrap_or(&item.detail);
        println(&format!("  {sign}  {:<18} {}", item.name, one_line(what, 160)));
        if let Some(mend) = &item.mend {
            println(&format!("           to do: {}", one_line(mend, 300)));
        }
    }
    println(&format!("\n{}", report.note));
    println(if report.ok {
        "\nEverything that is required is there."
    } else {
        "\nSomething required is missing."
    });
}

fn good(group: &'static str, name: &str, required: bool, detail: impl Into<String>) -> Item {
    Item {
        group,
        name: name.to_owned(),
        required,
        ok: true,
        detail: detail.into(),
        problem: None,
        mend: None,
    }
}

fn bad(group: &'static str, name: &str, required: bool, problem: impl Into<String>, mend: &str) -> Item {
    let (problem, mend) = (Some(problem.into()), Some(mend.to_owned()));
    Item {
        group,
        name: name.to_owned(),
        required,
        ok: false,
        detail: String::new(),
        problem,
        mend,
    }
}

fn harnesses(data: &DataDir) -> Vec<Item> {
    const GROUP: &str = "harnesses";
    let installer = match Installer::new(data.path()) {
        Ok(installer) => installer,
        Err(error) => {
            return vec![bad(
                GROUP,
                "catalog",
                true,
                error.to_string(),
                "install Lodge again",
            )];
        }
    };
    let item = |harness: lodge_proto::command::HarnessInfo| {
        if harness.installed && harness.problem.is_none() {
            return good(
                GROUP,
                &harness.name,
                false,
                format!("{} {}", harness.title, harness.version),
            );
        }
        let problem = harness
            .problem
            .map_or_else(|| "not installed".to_owned(), |problem| problem.message);
        bad(
            GROUP,
            &harness.name,
            false,
            problem,
            &format!("lodge harness install {}", harness.name),
        )
    };
    // A configuration that cannot be read is told by `lodge up`.
    let agents = Config::read(data)
        .and_then(|config| config.list_agents(data))
        .unwrap_or_default();
    installer
        .list()
        .into_iter()
        .map(item)
        .chain(agents.into_iter().map(configured))
        .collect()
}

/// An agent of the configuration file.
fn configured(agent: lodge_proto::command::HarnessInfo) -> Item {
    const GROUP: &str = "harnesses";
    match agent.problem {
        None => good(GROUP, &agent.name, false, agent.description),
        Some(problem) => bad(
            GROUP,
            &agent.name,
            false,
            problem.message,
            "mend that [[agent]] in config/lodge.toml",
        ),
    }
}

/// The first line a program prints for `--version`.
fn version_of(program: &str) -> Option<String> {
    let output = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output.status.success().then(|| {
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .next()
            .unwrap_or("")
            .to_owned()
    })
}

fn node() -> Item {
    const MEND: &str = "sudo apt-get install --yes nodejs   (or a newer one from nodejs.org)";
    let (major, minor) = MIN_NODE;
    let Some(version) = version_of("node") else {
        return bad(
            "tools",
            "node",
            false,
            "Node.js is not installed; building the browser UI needs it",
            MEND,
        );
    };
    let mut numbers = version
        .trim_start_matches('v')
        .split('.')
        .map(|part| part.parse().unwrap_or(0));
    if (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= MIN_NODE {
        return good("tools", "node", false, version);
    }
    bad(
        "tools",
        "node",
        false,
        format!("Node.js {version} is older than {major}.{minor}"),
        MEND,
    )
}

fn npm() -> Item {
    if let Some(version) = version_of("npm") {
        return good("tools", "npm", false, version);
    }
    let problem = "npm is not installed; `lodge harness install` needs it unless --from is used";
    bad("tools", "npm", false, problem, "sudo apt-get install --yes npm")
}

fn disk(data: &DataDir) -> Item {
    let existing = existing_parent(data.path());
    let place = existing.display().to_string();
    match rustix::fs::statvfs(&existing) {
        Ok(found) => {
            let free = found.f_bavail.saturating_mul(found.f_frsize);
            let text = format!("{} MiB free in {place}", free / (1024 * 1024));
            if free >= MIN_FREE {
                return good("machine", "disk", true, text);
            }
            bad(
                "machine",
                "disk",
                true,
                text,
                "free at least 1 GiB, or use another disk: lodge up --data DIR",
            )
        }
        Err(error) => bad(
            "machine",
            "disk",
            true,
            format!("{place}: {error}"),
            "use another disk: lodge up --data DIR",
        ),
    }
}

fn existing_parent(path: &Path) -> PathBuf {
    path.ancestors()
        .find(|path| path.exists())
        .map_or_else(|| PathBuf::from("/"), Path::to_owned)
}

fn clock() -> Item {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs();
    if now >= EARLIEST {
        return good("machine", "clock", true, format!("{now} s since 1970, UTC"));
    }
    bad(
        "machine",
        "clock",
        true,
        "the clock shows a time in the past",
        "sudo timedatectl set-ntp true",
    )
}

fn port(data: &DataDir) -> Item {
    if let Ok(Some(pid)) = lock::holder(data) {
        return good(
            "machine",
            "port 8080",
            false,
            format!("Lodge runs on this data directory: process {pid}"),
        );
    }
    match TcpListener::bind(("127.0.0.1", 8080)) {
        Ok(_) => good("machine", "port 8080", false, "free"),
        Err(error) => bad(
            "machine",
            "port 8080",
            false,
            format!("127.0.0.1:8080: {error}"),
            "lodge up --listen 127.0.0.1:8081",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_bad_names_its_remedy_and_only_the_required_decides() {
        let root = tempfile::tempdir().unwrap();
        let report = examine(&DataDir::resolve(Some(root.path())).unwrap());
        for item in &report.items {
            assert_eq!(item.ok, item.problem.is_none(), "{item:?}");
            assert!(
                item.ok || item.mend.as_deref().is_some_and(|mend| !mend.is_empty()),
                "{item:?}"
            );
        }
        assert_eq!(
            report.ok,
            report.items.iter().all(|item| item.ok || !item.required)
        );
    }
}
