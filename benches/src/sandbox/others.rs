//! What Lodge is measured against: a bare process, bwrap alone, the sandboxes of others.

use super::lodge::Scene;
use super::{Resident, Row, pss_of_tree, timed};
use anyhow::Context;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const TRUE: &str = "/bin/true";

/// What the README of the sandbox-runtime shows: secrets named, the working directory writable, no network.
const SRT_SETTINGS: &str = r#"{
  "network": { "allowedDomains": [], "deniedDomains": [] },
  "filesystem": {
    "denyRead": ["~/.ssh", "~/.aws", "~/.config/gh", "~/.gnupg", "~/.netrc"],
    "allowWrite": ["."],
    "denyWrite": [".env"]
  }
}"#;

pub(super) fn rows(scene: &Scene, foreign: &Path) -> Vec<Row> {
    let begins = |name, every, begin: anyhow::Result<Begin>| match begin {
        Ok(begin) => Row::new(name, every, move || begin.timed(&[TRUE])),
        Err(error) => Row::absent(name, &error),
    };
    let mut rows = vec![
        Row::new("bare process", 1, || timed(&mut Command::new(TRUE))),
        Row::new("bwrap alone, the same binds", 1, scene.bwrap_alone(TRUE)),
        begins("codex sandbox", 3, codex(foreign)),
        begins(
            "codex sandbox, started through npm's script",
            5,
            codex_npm(foreign),
        ),
        begins("sandbox-runtime (srt)", 5, srt(foreign)),
    ];
    let docker = Docker::new(scene).map_err(|error| format!("{error:#}"));
    for (name, every, warm) in [
        ("docker run --network none", 5, false),
        ("docker exec, warm container", 3, true),
    ] {
        rows.push(match &docker {
            Ok(docker) if warm => {
                let docker = docker.clone();
                let mut running = None;
                Row::new(name, every, move || {
                    let running = match &mut running {
                        Some(running) => running,
                        none => none.insert(docker.warm()?),
                    };
                    running.exec_true()
                })
            }
            Ok(docker) => {
                let docker = docker.clone();
                Row::new(name, every, move || docker.run_true())
            }
            Err(error) => Row::absent(name, &anyhow::anyhow!("{error}")),
        });
    }
    rows
}

pub(super) fn resident(scene: &Scene, foreign: &Path) -> Vec<Resident> {
    let sleeping = |begin: anyhow::Result<Begin>| asleep(begin?.command(&["/bin/sleep", "60"]));
    vec![
        Resident::new("codex sandbox", || sleeping(codex(foreign))),
        Resident::new("sandbox-runtime (srt)", || sleeping(srt(foreign))),
        Resident::new("docker run (containerd-shim and process)", || {
            Docker::new(scene)?.warm()?.shim_pss()
        }),
    ]
}

/// How a sandbox of others begins: what stands before the command, and its environment.
#[derive(Debug, Clone)]
struct Begin {
    argv: Vec<OsString>,
    environment: Vec<(&'static str, OsString)>,
    /// Where its program is; the directory that it may write.
    directory: PathBuf,
}

impl Begin {
    fn command(&self, argv: &[&str]) -> Command {
        let mut command = Command::new(&self.argv[0]);
        command
            .args(&self.argv[1..])
            .args(argv)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.directory);
        command
    }

    fn timed(&self, argv: &[&str]) -> anyhow::Result<Duration> {
        timed(&mut self.command(argv))
    }
}

/// The program itself: what npm puts on the path is a script that starts it.
fn codex(foreign: &Path) -> anyhow::Result<Begin> {
    let vendor = foreign.join("node_modules/@openai");
    let packages = std::fs::read_dir(&vendor).context("codex is not installed: scripts/install-foreign")?;
    let mut programs = packages.flatten().filter_map(|package| {
        let vendored = std::fs::read_dir(package.path().join("vendor")).ok()?;
        let mut programs = vendored.flatten().map(|target| target.path().join("bin/codex"));
        programs.find(|program| program.exists())
    });
    let program = programs.next().context("codex came without its program")?;
    codex_with(foreign, &program)
}

fn codex_npm(foreign: &Path) -> anyhow::Result<Begin> {
    codex_with(foreign, &installed(foreign, "codex")?)
}

fn codex_with(foreign: &Path, program: &Path) -> anyhow::Result<Begin> {
    // It puts helpers there, and refuses to where everybody can write.
    let home = foreign.join("codex-home");
    std::fs::create_dir_all(&home)?;
    let sandbox = ["sandbox", "-c", "sandbox_mode=\"workspace-write\"", "--"];
    let mut argv = vec![program.canonicalize()?.into_os_string()];
    argv.extend(sandbox.map(OsString::from));
    Ok(Begin {
        argv,
        environment: vec![("CODEX_HOME", home.canonicalize()?.into())],
        directory: workspace(foreign)?,
    })
}

fn srt(foreign: &Path) -> anyhow::Result<Begin> {
    let program = installed(foreign, "srt")?.canonicalize()?;
    let settings = foreign.join("srt-settings.json");
    std::fs::write(&settings, SRT_SETTINGS)?;
    Ok(Begin {
        argv: vec![
            program.into(),
            "--settings".into(),
            settings.canonicalize()?.into(),
        ],
        environment: Vec::new(),
        directory: workspace(foreign)?,
    })
}

fn installed(foreign: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let path = foreign.join("bin").join(name);
    anyhow::ensure!(path.exists(), "{name} is not installed: scripts/install-foreign");
    Ok(path)
}

fn workspace(foreign: &Path) -> anyhow::Result<PathBuf> {
    let path = foreign.join("workspace");
    std::fs::create_dir_all(&path)?;
    Ok(path.canonicalize()?)
}

/// Memory of a program that sleeps inside its sandbox, once it does.
fn asleep(mut command: Command) -> anyhow::Result<u64> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let settled = settled(&mut child);
    let pss = pss_of_tree(child.id());
    child.kill()?;
    child.wait()?;
    settled?;
    Ok(pss)
}

/// Waits until `sleep` runs somewhere below the child.
fn settled(child: &mut Child) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            anyhow::bail!("it ended with {status}");
        }
        if names_below(child.id()).iter().any(|name| name == "sleep") {
            // What the parents still allocate once the command runs.
            std::thread::sleep(Duration::from_millis(300));
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    anyhow::bail!("its command did not start in 10 s")
}

fn names_below(root: u32) -> Vec<String> {
    let mut names = Vec::new();
    let mut open = vec![root];
    while let Some(pid) = open.pop() {
        names.extend(std::fs::read_to_string(format!("/proc/{pid}/comm")).map(|name| name.trim().to_owned()));
        open.extend(super::children(pid));
    }
    names
}

/// Docker's own command line against the engine of this run.
#[derive(Debug, Clone)]
struct Docker {
    image: String,
}

/// A container that sleeps.
struct Warm {
    id: String,
}

/// Where the engine is, is said by `DOCKER_HOST`, to this program too.
fn docker(arguments: &[&str]) -> Command {
    let mut command = Command::new("docker");
    command.args(arguments);
    command
}

impl Docker {
    fn new(scene: &Scene) -> anyhow::Result<Self> {
        let image = scene.engine_image()?;
        Ok(Self { image })
    }

    fn run_true(&self) -> anyhow::Result<Duration> {
        timed(&mut docker(&[
            "run",
            "--rm",
            "--network",
            "none",
            &self.image,
            TRUE,
        ]))
    }

    fn warm(&self) -> anyhow::Result<Warm> {
        let arguments = [
            "run",
            "--rm",
            "-d",
            "--network",
            "none",
            &self.image,
            "/bin/sleep",
            "900",
        ];
        let output = docker(&arguments).output()?;
        anyhow::ensure!(
            output.status.success(),
            "docker run: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(Warm {
            id: String::from_utf8(output.stdout)?.trim().to_owned(),
        })
    }
}

impl Warm {
    fn exec_true(&self) -> anyhow::Result<Duration> {
        timed(&mut docker(&["exec", &self.id, TRUE]))
    }

    /// The shim of this container and what runs below it.
    fn shim_pss(&self) -> anyhow::Result<u64> {
        let format = ["inspect", "--format", "{{.State.Pid}}", &self.id];
        let output = docker(&format).output()?;
        let pid: u32 = String::from_utf8(output.stdout)?.trim().parse()?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let after = stat.rsplit_once(')').context("a strange stat")?.1;
        let parent = after
            .split_ascii_whitespace()
            .nth(1)
            .context("no parent")?
            .parse()?;
        Ok(pss_of_tree(parent))
    }
}

impl Drop for Warm {
    fn drop(&mut self) {
        let _ = docker(&["kill", &self.id]).output();
    }
}
