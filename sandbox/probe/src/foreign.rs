//! The same attacks in sandboxes of others, for comparison.
//!
//! Each runs with the settings that its own documentation shows first, hardened by nothing of ours. What belongs to
//! starting, ending and configuring a sandbox of Lodge, or to its broker, is not tried there.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use lodge_sandbox::findings::shown;
use serde::{Deserialize, Serialize};

use crate::attack;
use crate::check::{TIGHT, limited};
use crate::facts::{FACTS, PROGRAM};
use crate::judge::{Evidence, Found, control, judge};
use crate::scene::Scene;
use crate::stage::parse_report;
use crate::table::{Judge, PROBES, Probe, Wanted};
use crate::watch::Watch;

/// A sandbox to compare with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Foreign {
    /// No sandbox at all: which attacks work on this machine.
    None,
    /// bwrap as its manual page and many programs use it: everything read-only, the workspace writable.
    NaiveBwrap,
    /// `codex sandbox` with `workspace-write`.
    Codex { program: PathBuf },
    /// `srt` with the settings of its README.
    SandboxRuntime { program: PathBuf },
    /// `docker run -v`.
    Docker { host: String, image: String },
}

impl Foreign {
    pub fn title(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::NaiveBwrap => "naive bwrap",
            Self::Codex { .. } => "codex",
            Self::SandboxRuntime { .. } => "srt",
            Self::Docker { .. } => "docker -v",
        }
    }

    /// The command before the command.
    fn prefix(&self, scene: &Scene) -> io::Result<Vec<OsString>> {
        let workspace = &scene.facts.workspace;
        let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        let place = |path: &Path| path.as_os_str().to_owned();
        Ok(match self {
            Self::None => Vec::new(),
            Self::NaiveBwrap => {
                let mut all = words(&[
                    "bwrap",
                    "--unshare-all",
                    "--die-with-parent",
                    "--ro-bind",
                    "/",
                    "/",
                ]);
                all.extend(words(&["--dev", "/dev", "--proc", "/proc", "--bind"]));
                all.extend([
                    place(workspace),
                    place(workspace),
                    "--chdir".into(),
                    place(workspace),
                ]);
                all
            }
            Self::Codex { program } => {
                let mut all = vec![place(program)];
                all.extend(words(&[
                    "sandbox",
                    "-c",
                    "sandbox_mode=\"workspace-write\"",
                    "--",
                ]));
                all
            }
            Self::SandboxRuntime { program } => {
                let settings = scene.facts.root.join("srt.json");
                fs::write(&settings, SRT_SETTINGS)?;
                vec![place(program), "--settings".into(), place(&settings)]
            }
            Self::Docker { host, image } => {
                let mut volume = place(workspace);
                volume.push(":");
                volume.push(workspace);
                let mut all = words(&["docker", "-H", host, "run", "--rm", "-v"]);
                all.extend([volume, "-w".into(), place(workspace), image.into()]);
                all
            }
        })
    }
}

/// What the README of the sandbox-runtime shows: secrets named, the working directory writable, no network.
const SRT_SETTINGS: &str = r#"{
  "network": { "allowedDomains": [], "deniedDomains": [] },
  "filesystem": {
    "denyRead": ["~/.ssh", "~/.aws", "~/.config/gh", "~/.gnupg", "~/.netrc"],
    "allowWrite": ["."],
    "denyWrite": [".env"]
  }
}"#;

/// How long one attack may take: some of these need a third of a second to start.
const LIMIT: Duration = Duration::from_mins(2);

/// One cell of the comparison.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cell", content = "found", rename_all = "snake_case")]
pub enum Cell {
    /// Not tried, because it makes no sense there.
    Absent,
    AsWanted(Found),
    /// Other than wanted, and why.
    Different(Found, String),
}

/// Whether a probe can be tried in a sandbox that is not ours.
fn applies(probe: &Probe) -> bool {
    let launcher =
        matches!(probe.judge, Judge::Launcher) || matches!(probe.id, "M03" | "N15" | "N16" | "N17" | "P23");
    let broker = matches!(probe.id, "N06" | "N07" | "N08" | "N09" | "N10" | "N11");
    // The gateway's socket, findings and views are Lodge's own.
    let own = matches!(probe.id, "I06" | "I08" | "F25" | "P09");
    attack::exists(probe.id) && !launcher && !broker && !own && !probe.id.starts_with('V')
}

/// Tries one probe; `parent` is where the scene is made, `program` the static `lodge-probe`.
pub fn run(foreign: &Foreign, probe: &Probe, parent: &Path, program: &Path) -> Cell {
    if !applies(probe) {
        return Cell::Absent;
    }
    let result = attempt(foreign, probe, parent, program);
    match result {
        Ok((found, detail)) if probe.wanted[0].accepts(found) => {
            drop(detail);
            Cell::AsWanted(found)
        }
        Ok((found, detail)) => Cell::Different(found, shown(detail.as_ref())),
        Err(error) => Cell::Different(Found::Untested, shown(error.as_ref())),
    }
}

fn attempt(
    foreign: &Foreign,
    probe: &Probe,
    parent: &Path,
    program: &Path,
) -> Result<(Found, String), String> {
    let failed = |error: io::Error| error.to_string();
    let mut scene = Scene::new(parent, program, TIGHT).map_err(|error| error.to_string())?;
    let outside = *foreign == Foreign::None;
    scene.facts.outside = outside;
    scene.facts.modest = true;
    let facts = scene.write_facts().map_err(|error| error.to_string())?;
    let watch = Watch::begin(&scene);
    let mut words = foreign.prefix(&scene).map_err(failed)?;
    words.push(scene.facts.workspace.join(PROGRAM).into());
    words.extend(["run".into(), probe.id.into(), facts.into()]);
    let (first, rest) = words.split_first().ok_or("an empty command")?;
    let state = scene.facts.root.join("codex");
    fs::create_dir(&state).map_err(failed)?;
    let mut command = Command::new(first);
    command
        .args(rest)
        .current_dir(&scene.facts.workspace)
        .env("HOME", &scene.facts.home)
        .env("CODEX_HOME", &state)
        // As in the shell of somebody who has keys.
        .env("AWS_SECRET_ACCESS_KEY", &scene.canaries[0])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    // As a careless caller would leave it.
    let careless = fs::File::open("/etc/passwd").map_err(failed)?;
    let _ = rustix::io::fcntl_setfd(&careless, rustix::io::FdFlags::empty());
    let output = limited(command, LIMIT).map_err(|error| error.to_string())?;
    drop(careless);
    scene.listeners.settle();
    let all = [&output.stdout[..], &output.stderr[..]].concat();
    let effects = watch.effects(&scene, &all);
    debug_assert!(scene.facts.workspace.join(FACTS).exists());
    let report = parse_report(&output.stdout);
    if outside {
        return Ok(match control(report.as_ref(), &effects) {
            Ok(detail) if probe.wanted[0] == Wanted::Allowed => (Found::Allowed, detail),
            Ok(detail) => (Found::Open, detail),
            Err(why) => (Found::Untested, why),
        });
    }
    let killed = output.exit.signal.is_some() || output.exit.code.is_some_and(|code| code > 128);
    if probe.id == "P27" && report.is_none() && killed {
        return Ok((Found::Open, "the signals reached whoever started it".to_owned()));
    }
    let bounded = report.is_none() && killed;
    let said: String = String::from_utf8_lossy(&output.stderr)
        .chars()
        .take(300)
        .collect();
    let evidence = Evidence {
        report,
        effects,
        findings: Vec::new(),
        ended: Some(format!("{:?} {said}", output.exit)),
        bounded,
    };
    Ok(judge(probe.wanted[0], &evidence))
}

/// All probes of one sandbox, in the order of the table.
pub fn column(foreign: &Foreign, parent: &Path, program: &Path) -> Vec<Cell> {
    PROBES
        .iter()
        .map(|probe| run(foreign, probe, parent, program))
        .collect()
}
