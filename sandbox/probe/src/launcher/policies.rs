//! What must not even start: policies that are wrong, walls that are missing.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use lodge_sandbox::policy::{Layer, Policy, PolicyError, Tier};

use crate::check::{Check, Verdict, limited};
use crate::judge::Found;
use crate::report::Control;
use crate::stage::{StageError, StartRequest, patience};

/// Files that are no policy.
const INVALID: &[&str] = &[
    "",
    "version = 2\n",
    "version = 1\nprofil = \"strict\"\n",
    "version = 1\n[net]\nmode = \"host\"\n",
    "version = 1\n[net]\nmode = \"broker\"\nallow = [\"*\"]\n",
    "version = 1\n[net]\nmode = \"broker\"\nallow = [\"*.com\"]\n",
    "version = 1\n[fs]\nread = [\"relative\"]\n",
    "version = 1\n[fs]\nprotect = [\"../outside\"]\n",
    "version = 1\n[limits]\nprocesses = -1\n",
    "version = 1\n[limits]\nmemory = \"much\"\n",
    "version = 1\ntier = \"none\"\n",
    "version = 1\n[net\nmode = \"none\"",
    "version = 1\n\0",
];

/// Files of a workspace that ask for more.
const LOOSENING: &[&str] = &[
    "version = 1\nprofile = \"minimal\"\n",
    "version = 1\nnesting = \"one_level\"\n",
    "version = 1\n[fs]\nread = [\"/etc\"]\n",
    "version = 1\n[fs]\nwrite = [\"/var/lib\"]\n",
    "version = 1\n[fs]\nprotect = []\n",
    "version = 1\n[fs]\ntmp_size = \"1T\"\n",
    "version = 1\n[net]\nmode = \"broker\"\nallow = [\"evil.example.com\"]\nports = [22]\n",
    "version = 1\n[env]\npass = [\"AWS_SECRET_ACCESS_KEY\"]\n",
    "version = 1\n[limits]\nprocesses = 1000000\n",
];

const GOOD: &str = "version = 1\n[limits]\nprocesses = 10\n";

pub(super) fn invalid(_check: &mut Check<'_>) -> Verdict {
    let file = Path::new("policy.toml");
    let control = match Layer::parse(file, GOOD) {
        Ok(_) => Control::Works("a valid file is taken".to_owned()),
        Err(error) => Control::Fails(error.to_string()),
    };
    for text in INVALID {
        if Layer::parse(file, text)
            .and_then(|layer| base(file, &layer))
            .is_ok()
        {
            return (Found::Open, format!("taken: {text:?}"), control);
        }
    }
    let run = || -> std::io::Result<bool> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("sandbox.toml");
        fs::create_dir(&path)?;
        Ok(Policy::load(Some(&path), None, None).is_ok())
    };
    match run() {
        Ok(false) => (
            Found::Denied,
            format!("{} files refused", INVALID.len() + 1),
            control,
        ),
        Ok(true) => (
            Found::Open,
            "an unreadable file counts as none".to_owned(),
            control,
        ),
        Err(error) => (Found::Untested, error.to_string(), control),
    }
}

fn base(file: &Path, layer: &Layer) -> Result<(), PolicyError> {
    Policy::base(layer)
        .map(drop)
        .map_err(|loosening| PolicyError::Invalid {
            file: file.to_owned(),
            key: loosening.key.to_owned(),
            reason: loosening.reason,
        })
}

pub(super) fn loosening(_check: &mut Check<'_>) -> Verdict {
    let run = || -> std::io::Result<Verdict> {
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("sandbox.toml");
        fs::write(&file, GOOD)?;
        let control = match Policy::load(None, None, Some(&file)) {
            Ok(policy) if policy.limits.processes == Some(10) => {
                Control::Works("tightening is taken".to_owned())
            }
            other => Control::Fails(format!("{other:?}")),
        };
        let usual = Policy::load(None, None, None).map_err(std::io::Error::other)?;
        for text in LOOSENING {
            fs::write(&file, text)?;
            match Policy::load(None, None, Some(&file)) {
                Err(PolicyError::Loosens { .. } | PolicyError::Invalid { .. }) => {}
                // A list that is only added to may be given empty: it changes nothing.
                Ok(policy) if policy.fs.protect == usual.fs.protect && text.contains("protect") => {}
                other => return Ok((Found::Open, format!("{text:?} gave {other:?}"), control)),
            }
        }
        Ok((
            Found::Denied,
            format!("{} files refused", LOOSENING.len()),
            control,
        ))
    };
    run().unwrap_or_else(|error| (Found::Untested, error.to_string(), Control::NotNeeded))
}

pub(super) fn odd_paths(check: &mut Check<'_>) -> Verdict {
    let run = || -> Result<Verdict, StageError> {
        let mut refusals = Vec::new();
        let mut control = Control::NotNeeded;
        let cases = [
            "real",
            "absent",
            "link",
            "behind-link",
            "/proc/self/root",
            "/dev/fd/0/..",
            "workspace-link",
        ];
        for case in cases {
            let mut set = check.set()?;
            let root = set.scene.facts.root.clone();
            fs::create_dir(root.join("real"))?;
            symlink(root.join("real"), root.join("link"))?;
            symlink(&root, root.join("up"))?;
            let mut policy = check.policy.clone();
            match case {
                "workspace-link" => {
                    symlink(&set.spec.workspace, root.join("workspace-link"))?;
                    set.spec.workspace = root.join("workspace-link");
                }
                "behind-link" => drop(policy.fs.read.insert(root.join("up/real"))),
                "/proc/self/root" => {
                    let below = root.strip_prefix("/").unwrap_or(&root).join("real");
                    policy.fs.read.insert(Path::new(case).join(below));
                }
                "/dev/fd/0/.." => drop(policy.fs.read.insert(case.into())),
                name => drop(policy.fs.read.insert(root.join(name))),
            }
            match (case, set.start(&policy, &check.options.tools)) {
                ("real", Ok(sandbox)) => {
                    sandbox.end();
                    control = Control::Works("a real directory is taken".to_owned());
                }
                ("real", Err(error)) => control = Control::Fails(error.to_string()),
                (_, Ok(_)) => return Ok((Found::Open, format!("{case} is taken"), control)),
                (_, Err(error)) => refusals.push(format!("{case}: {error}")),
            }
        }
        Ok((Found::Refused, refusals.join("; "), control))
    };
    run().unwrap_or_else(|error| (Found::Untested, error.to_string(), Control::NotNeeded))
}

/// What a host without the wall must be told, in any of these words.
fn names_of_wall(tier: Tier) -> &'static [&'static str] {
    match tier {
        Tier::Process => &["bwrap", "bubblewrap"],
        Tier::Container => &["Docker", "docker", "Podman", "engine"],
        Tier::Microvm => &["QEMU", "qemu"],
    }
}

/// Starts the sandbox on a host that is made to look as if the wall were not there.
pub(super) fn missing_wall(check: &mut Check<'_>) -> Verdict {
    let tier = check.options.tier;
    let run = || -> Result<Verdict, StageError> {
        let set = check.set()?;
        let request = StartRequest {
            plan: set.plan(&check.policy)?,
            tools: check.options.tools.clone(),
            gateway_socket: set.spec.gateway_socket.clone(),
        };
        let file = set.scene.facts.root.join("request.json");
        fs::write(&file, serde_json::to_vec(&request).map_err(std::io::Error::from)?)?;
        let start = |hidden: bool| -> Result<(bool, String), StageError> {
            let mut command = if hidden {
                without(tier, &check.options.program)
            } else {
                Command::new(&check.options.program)
            };
            command.arg("start").arg(&file);
            command
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            let output = limited(command, patience(tier)).map_err(|source| StageError::Client {
                source,
                stderr: String::new(),
            })?;
            let text = [&output.stdout[..], &output.stderr[..]].concat();
            Ok((
                output.exit.code == Some(0),
                String::from_utf8_lossy(&text).trim().to_owned(),
            ))
        };
        let control = match start(false)? {
            (true, _) => Control::Works("it starts when everything is there".to_owned()),
            (false, text) => Control::Fails(text),
        };
        let (started, text) = start(true)?;
        let named = names_of_wall(tier).iter().any(|name| text.contains(name));
        Ok(match (started, named) {
            (true, _) => (Found::Open, "started without its wall".to_owned(), control),
            (false, true) => (Found::Denied, text, control),
            (false, false) => (
                Found::Open,
                format!("refused, but the reason is not named: {text}"),
                control,
            ),
        })
    };
    run().unwrap_or_else(|error| (Found::Untested, error.to_string(), Control::NotNeeded))
}

/// Runs `program` where the wall of `tier` cannot be seen.
fn without(tier: Tier, program: &Path) -> Command {
    let mut command = Command::new("bwrap");
    command.args(["--dev-bind", "/", "/", "--die-with-parent"]);
    for path in hidden_paths(tier) {
        command.args(["--ro-bind", "/dev/null", path]);
    }
    command
        .env("DOCKER_HOST", "unix:///nonexistent")
        .env("CONTAINER_HOST", "unix:///nonexistent")
        .arg("--")
        .arg(program);
    command
}

/// Programs and sockets without which there is no sandbox of that tier.
fn hidden_paths(tier: Tier) -> Vec<&'static str> {
    let all: &[&str] = match tier {
        Tier::Process => &["/usr/bin/bwrap", "/usr/local/bin/bwrap"],
        Tier::Container => &["/run/docker.sock", "/run/podman/podman.sock"],
        Tier::Microvm => &["/usr/bin/qemu-system-x86_64", "/usr/bin/qemu-system-aarch64"],
    };
    all.iter()
        .copied()
        .filter(|path| Path::new(path).exists())
        .collect()
}
