//! What Lodge is measured against: a bare process, bwrap alone, the sandboxes of others.

use super::lodge::Scene;
use super::{Resident, Row, pss_of_tree, timed};
use anyhow::Context;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const TRUE: &str = "/bin/true";

pub(super) fn rows(scene: &Scene, engine: Option<&Path>, foreign: &Path) -> Vec<Row> {
    let bare = || timed(Path::new(TRUE), &[], &[]);
    let mut rows = vec![
        Row::new("bare process", 1, bare),
        Row::new("bwrap alone, the same binds", 1, scene.bwrap_alone(TRUE)),
    ];
    rows.push(match codex(foreign) {
        Ok(codex) => Row::new("codex sandbox", 3, move || timed(&codex, &["sandbox", "linux", TRUE], &[])),
        Err(error) => Row::absent("codex sandbox", &error),
    });
    rows.push(match srt(foreign) {
        Ok(srt) => Row::new("sandbox-runtime (srt)", 5, move || timed(&srt, &[TRUE], &[])),
        Err(error) => Row::absent("sandbox-runtime (srt)", &error),
    });
    match Docker::new(scene, engine) {
        Ok(docker) => {
            let run = docker.clone();
            rows.push(Row::new("docker run --network none", 5, move || run.run_true()));
            rows.push(match docker.warm() {
                Ok(warm) => Row::new("docker exec, warm container", 3, move || warm.exec_true()),
                Err(error) => Row::absent("docker exec, warm container", &error),
            });
        }
        Err(error) => {
            rows.push(Row::absent("docker run --network none", &error));
            rows.push(Row::absent("docker exec, warm container", &error));
        }
    }
    rows
}

pub(super) fn resident(scene: &Scene, engine: Option<&Path>, foreign: &Path) -> Vec<Resident> {
    let sleeping = |program: anyhow::Result<PathBuf>, arguments: &[&str]| {
        let mut command = Command::new(program?);
        command.args(arguments);
        asleep(command)
    };
    let docker = || {
        let docker = Docker::new(scene, engine)?;
        let warm = docker.warm()?;
        warm.shim_pss()
    };
    vec![
        Resident {
            name: "codex sandbox",
            pss_kib: sleeping(codex(foreign), &["sandbox", "linux", "/bin/sleep", "60"]),
        },
        Resident {
            name: "sandbox-runtime (srt)",
            pss_kib: sleeping(srt(foreign), &["/bin/sleep 60"]),
        },
        Resident {
            name: "docker run (containerd-shim and process)",
            pss_kib: docker(),
        },
    ]
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

fn codex(foreign: &Path) -> anyhow::Result<PathBuf> {
    installed(foreign, "codex")
}

fn srt(foreign: &Path) -> anyhow::Result<PathBuf> {
    installed(foreign, "srt")
}

fn installed(foreign: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let path = foreign.join("bin").join(name);
    anyhow::ensure!(path.exists(), "{name} is not installed: scripts/install-foreign");
    Ok(path)
}

/// Docker's own command line against the engine of this run.
#[derive(Debug, Clone)]
struct Docker {
    socket: String,
    image: String,
}

/// A container that sleeps.
struct Warm {
    docker: Docker,
    id: String,
}

impl Docker {
    fn new(scene: &Scene, engine: Option<&Path>) -> anyhow::Result<Self> {
        let socket = engine.context("no engine: name its socket with --engine; scripts/engine start")?;
        Ok(Self {
            socket: format!("unix://{}", socket.display()),
            image: scene.engine_image()?,
        })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.env("DOCKER_HOST", &self.socket).args(arguments);
        command
    }

    fn run_true(&self) -> anyhow::Result<Duration> {
        let arguments = ["run", "--rm", "--network", "none", &self.image, TRUE];
        timed(Path::new("docker"), &arguments, &[("DOCKER_HOST", &self.socket)])
    }

    fn warm(&self) -> anyhow::Result<Warm> {
        let arguments = ["run", "--rm", "-d", "--network", "none", &self.image, "/bin/sleep", "900"];
        let output = self.command(&arguments).output()?;
        anyhow::ensure!(
            output.status.success(),
            "docker run: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(Warm {
            docker: self.clone(),
            id: String::from_utf8(output.stdout)?.trim().to_owned(),
        })
    }
}

impl Warm {
    fn exec_true(&self) -> anyhow::Result<Duration> {
        let socket = [("DOCKER_HOST", self.docker.socket.as_str())];
        timed(Path::new("docker"), &["exec", &self.id, TRUE], &socket)
    }

    /// The shim of this container and what runs below it.
    fn shim_pss(&self) -> anyhow::Result<u64> {
        let format = ["inspect", "--format", "{{.State.Pid}}", &self.id];
        let output = self.docker.command(&format).output()?;
        let pid: u32 = String::from_utf8(output.stdout)?.trim().parse()?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let after = stat.rsplit_once(')').context("a strange stat")?.1;
        let parent = after.split_ascii_whitespace().nth(1).context("no parent")?.parse()?;
        Ok(pss_of_tree(parent))
    }
}

impl Drop for Warm {
    fn drop(&mut self) {
        let _ = self.docker.command(&["kill", &self.id]).output();
    }
}
