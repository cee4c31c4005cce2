//! The check: every probe inside, what came of it outside, and the same act where nothing forbids it.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lodge_guest::client::{ClientError, Output};
use lodge_guest::mux::Exit;
use lodge_sandbox::findings::{Baseline, Finding, FindingKind};
use lodge_sandbox::launch::Tools;
use lodge_sandbox::policy::{Policy, Profile, Tier};
use lodge_sandbox::size::Bytes;

use crate::attack;
use crate::broker::Broker;
use crate::facts::{BoundsFacts, FACTS, GuestReport, PROGRAM};
use crate::judge::{self, Evidence, Found};
use crate::launcher;
use crate::report::{Control, Report, Row, shown};
use crate::stage::{Ran, Sandbox, Set, StageError, parse_report, with_names};
use crate::table::{PROBES, Probe, Wanted};
use crate::upstream::Upstream;
use crate::watch::Watch;

/// What is to be checked, and with what.
pub struct Options<'a> {
    pub tier: Tier,
    pub profile: Profile,
    pub tools: Tools,
    /// The static `lodge-probe`, which runs inside.
    pub program: PathBuf,
    /// Only these probes; empty means all.
    pub ids: Vec<String>,
    /// Where scenes are made; the system's temporary directory if `None`.
    pub scene_parent: Option<PathBuf>,
    /// The egress broker; without one the probes of the broker cannot be tried.
    pub broker: Option<&'a dyn Broker>,
    /// How an operator's log view shows text of a guest.
    pub show: &'a dyn Fn(&str) -> String,
    /// Called after each probe.
    pub progress: Option<&'a dyn Fn(&Row)>,
}

impl std::fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("tier", &self.tier)
            .field("profile", &self.profile)
            .finish_non_exhaustive()
    }
}

/// Why there is no report at all.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// An id that is in no table.
    #[error("there is no probe {id}")]
    Unknown { id: String },
    /// The program that runs inside is not there.
    #[error("{} is not there: {source}; run scripts/build-guest", path.display())]
    Program { path: PathBuf, source: std::io::Error },
}

/// The bounds that the probes of amounts run under: small, so that reaching them is quick.
pub(crate) const TIGHT: BoundsFacts = BoundsFacts {
    processes: 200,
    memory: 192 << 20,
    tmp: 24 << 20,
    disk: 64 << 20,
    file_size: 24 << 20,
    output: 32 << 20,
    open_files: 256,
    cpu_seconds: 2,
};

/// Probes that meet those bounds, each in a sandbox of its own.
const BOUNDED: &[&str] = &[
    "P26", "R01", "R02", "R03", "R04", "R05", "R06", "R07", "R08", "R09", "R10", "N17",
];

/// Time for a command after an attack: a busy machine's emulated guest may still be counting what the attack left.
const ALIVE_LIMIT: Duration = Duration::from_mins(1);

/// How long one attack may take inside.
const ATTACK_LIMIT: Duration = Duration::from_secs(90);

/// Runs the probes.
pub fn check(options: &Options<'_>) -> Result<Report, CheckError> {
    if let Some(id) = options.ids.iter().find(|id| crate::table::find(id).is_none()) {
        return Err(CheckError::Unknown { id: id.clone() });
    }
    std::fs::metadata(&options.program).map_err(|source| CheckError::Program {
        path: options.program.clone(),
        source,
    })?;
    let mut check = Check::new(options);
    // A descriptor without close-on-exec, as a careless library would leave it: no sandbox may get it.
    let careless = std::fs::File::open("/etc/passwd").ok();
    if let Some(file) = &careless {
        let _ = rustix::io::fcntl_setfd(file, rustix::io::FdFlags::empty());
    }
    check.warm_up();
    let mut rows = Vec::new();
    for probe in PROBES {
        if options.ids.is_empty() || options.ids.iter().any(|id| id == probe.id) {
            let row = check.probe(&probe);
            if let Some(progress) = options.progress {
                progress(&row);
            }
            rows.push(row);
        }
    }
    Ok(Report {
        tier: options.tier.name().to_owned(),
        profile: options.profile.name().to_owned(),
        uid: rustix::process::getuid().as_raw(),
        rows,
    })
}

/// A check that runs.
pub(crate) struct Check<'a> {
    pub(crate) options: &'a Options<'a>,
    /// The profile's policy, with the scene's names.
    pub(crate) policy: Policy,
    /// What stands between two probes, when the last one left it as it was.
    stage: Option<(Set, Sandbox)>,
}

/// A result before it is compared.
pub(crate) type Verdict = (Found, String, Control);

impl<'a> Check<'a> {
    fn new(options: &'a Options<'a>) -> Self {
        let mut policy = with_names(Policy::of(options.profile));
        policy.tier = options.tier;
        policy.minimum_tier = policy.minimum_tier.min(options.tier);
        Self {
            options,
            policy,
            stage: None,
        }
    }

    /// The first machine of a version also makes the snapshot that later ones start from, which takes its time on the
    /// host. It is done before the probes begin.
    fn warm_up(&self) {
        if self.options.tier != Tier::Microvm {
            return;
        }
        // What fails here fails again, and is told, in the probes.
        if let Ok(set) = self.set()
            && let Ok(sandbox) = set.start(&self.policy, &self.options.tools)
        {
            launcher::end_with_everything(sandbox, Duration::from_mins(2));
        }
    }

    fn probe(&mut self, probe: &Probe) -> Row {
        let wanted = probe.wanted(&self.policy);
        let (found, detail, control) = if wanted == Wanted::Absent {
            (Found::Absent, String::new(), Control::NotNeeded)
        } else {
            match launcher::find(probe.id) {
                Some(run) => run(self),
                None => self.inside(probe, wanted),
            }
        };
        Row {
            id: probe.id.to_owned(),
            title: probe.title.to_owned(),
            wanted,
            found,
            ok: wanted.accepts(found) && control.is_good(),
            control,
            detail: shown(&detail),
        }
    }

    /// A policy whose bounds are soon met.
    pub(crate) fn tight(&self, id: &str) -> Policy {
        let mut policy = self.policy.clone();
        let limits = &mut policy.limits;
        limits.processes = Some(TIGHT.processes);
        limits.memory = Some(Bytes(TIGHT.memory));
        limits.file_size = Some(Bytes(TIGHT.file_size));
        limits.open_files = Some(TIGHT.open_files);
        limits.disk = Some(Bytes(TIGHT.disk));
        limits.output = Some(Bytes(TIGHT.output));
        if id == "R08" {
            limits.cpu_seconds = Some(TIGHT.cpu_seconds);
        }
        policy.fs.tmp_size = Bytes(TIGHT.tmp);
        policy
    }

    pub(crate) fn set(&self) -> Result<Set, StageError> {
        Set::new(self.options, TIGHT, &Upstream::allow())
    }

    fn stage(&mut self, id: &str) -> Result<(Set, Sandbox), StageError> {
        let fresh = BOUNDED.contains(&id);
        if let Some(stage) = self.stage.take()
            && !fresh
            && !stage.1.ended()
        {
            return Ok(stage);
        }
        let set = self.set()?;
        let policy = if fresh {
            self.tight(id)
        } else {
            self.policy.clone()
        };
        let sandbox = set.start(&policy, &self.options.tools)?;
        Ok((set, sandbox))
    }

    /// A probe whose attack runs inside.
    pub(crate) fn inside(&mut self, probe: &Probe, wanted: Wanted) -> Verdict {
        let control = self.control(probe.id);
        let (set, sandbox) = match self.stage(probe.id) {
            Ok(stage) => stage,
            Err(error) => return (Found::Untested, error.to_string(), control),
        };
        match self.attack(probe.id, &set, &sandbox) {
            Ok(evidence) => {
                let (found, detail) = judge::judge(wanted, &evidence);
                let clean = evidence.effects.is_empty() && found != Found::Open && found != Found::Untested;
                if clean && !BOUNDED.contains(&probe.id) && !sandbox.ended() {
                    self.stage = Some((set, sandbox));
                }
                (found, detail, control)
            }
            Err(error) => (Found::Untested, error.to_string(), control),
        }
    }

    /// Runs one attack in a sandbox that stands.
    pub(crate) fn attack(&self, id: &str, set: &Set, sandbox: &Sandbox) -> Result<Evidence, StageError> {
        let facts = set.scene.write_facts()?;
        let baseline = Baseline::take(&set.scene.facts.workspace, &self.policy.fs.protect);
        let watch = Watch::begin(&set.scene);
        let ran = sandbox.attack(id, &facts, id == "P08", ATTACK_LIMIT);
        set.scene.listeners.settle();
        let mut effects = watch.effects(&set.scene, &ran.output());
        let begin = Instant::now();
        let findings = baseline
            .and_then(|baseline| baseline.changes())
            .unwrap_or_default();
        if id == "R09" && begin.elapsed() > Duration::from_secs(5) {
            effects.push(format!(
                "looking at the workspace took {} ms",
                begin.elapsed().as_millis()
            ));
        }
        if id == "F11" {
            // The effect is known; what counts is whether it is told.
            effects.retain(|effect| !effect.contains("linked-target"));
        }
        let alive = sandbox.run(&["/bin/true"], false, ALIVE_LIMIT);
        // A bound that is measured may be met only now: then it is what ended the sandbox.
        let (ended, bounded) = ran.ended(sandbox.limit());
        if let (false, Err(error)) = (bounded, &alive.result) {
            effects.push(format!("the sandbox did not survive: {error}"));
        }
        Ok(Evidence {
            findings: self.told(id, &findings, &ran),
            report: ran.report(),
            effects,
            ended,
            bounded,
        })
    }

    /// What a person is told that bears on this probe.
    fn told(&self, id: &str, findings: &[Finding], ran: &Ran) -> Vec<String> {
        let of = |kinds: &[FindingKind]| {
            let all = findings.iter().filter(|finding| kinds.contains(&finding.kind));
            all.map(ToString::to_string).collect()
        };
        match id {
            "F09" => of(&[
                FindingKind::NestedRepository,
                FindingKind::Hook,
                FindingKind::ControlFile,
            ]),
            "F11" => of(&[FindingKind::HardLink]),
            "F24" => of(&[FindingKind::SpecialFile]),
            "F25" => of(&[FindingKind::NestedRepository, FindingKind::Hook]),
            "P09" => {
                let text = String::from_utf8_lossy(&ran.output()).into_owned();
                text.lines().map(|line| (self.options.show)(line)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The same attack outside, against a scene of its own.
    pub(crate) fn control(&self, id: &str) -> Control {
        if !attack::exists(id) {
            return Control::NotNeeded;
        }
        let run = || -> Result<String, String> {
            let mut set = self.set().map_err(|error| error.to_string())?;
            set.scene.facts.outside = true;
            set.scene.write_facts().map_err(|error| error.to_string())?;
            let watch = Watch::begin(&set.scene);
            let (report, output) = outside(id, &set.scene.facts.workspace)?;
            set.scene.listeners.settle();
            let effects = watch.effects(&set.scene, &output);
            judge::control(report.as_ref(), &effects)
        };
        let result = run();
        sweep_tokens();
        result.into()
    }
}

/// Runs the program without a sandbox, in a session of its own.
pub(crate) fn outside(id: &str, workspace: &Path) -> Result<(Option<GuestReport>, Vec<u8>), String> {
    let mut command = Command::new(workspace.join(PROGRAM));
    command
        .args(["run", id])
        .arg(workspace.join(FACTS))
        .current_dir(workspace)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let output = limited(command, ATTACK_LIMIT).map_err(|error| error.to_string())?;
    Ok((
        parse_report(&output.stdout),
        [output.stdout, output.stderr].concat(),
    ))
}

/// Runs a command to its end or, after `limit`, kills its process group.
pub(crate) fn limited(mut command: Command, limit: Duration) -> Result<Output, ClientError> {
    let failed = |source| ClientError::Stream { source };
    let mut child = command.spawn().map_err(failed)?;
    let group = rustix::process::Pid::from_child(&child);
    let mut pipes = (child.stdout.take(), child.stderr.take());
    let read = |pipe: Option<Box<dyn Read + Send>>| {
        let mut bytes = Vec::new();
        if let Some(pipe) = pipe {
            let _ = pipe.take(64 << 20).read_to_end(&mut bytes);
        }
        bytes
    };
    let out: Option<Box<dyn Read + Send>> = pipes.0.take().map(|pipe| Box::new(pipe) as _);
    let err: Option<Box<dyn Read + Send>> = pipes.1.take().map(|pipe| Box::new(pipe) as _);
    let (sender, receiver) = std::sync::mpsc::channel();
    for (which, pipe) in [(0, out), (1, err)] {
        let sender = sender.clone();
        std::thread::spawn(move || {
            let _ = sender.send((which, read(pipe)));
        });
    }
    let deadline = Instant::now() + limit;
    let status = loop {
        match child.try_wait().map_err(failed)? {
            Some(status) => break status,
            None if Instant::now() > deadline => {
                let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
                let _ = child.wait();
                return Err(ClientError::Timeout { patience: limit });
            }
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    let mut outputs = [Vec::new(), Vec::new()];
    // A process that was left behind may hold the pipes: what it would still say is not waited for.
    for _ in 0..2 {
        if let Ok((which, bytes)) = receiver.recv_timeout(Duration::from_millis(500)) {
            let slot: &mut Vec<u8> = &mut outputs[which];
            *slot = bytes;
        }
    }
    let [stdout, stderr] = outputs;
    let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    Ok(Output {
        stdout,
        stderr,
        exit: Exit {
            code: status.code(),
            signal: std::os::unix::process::ExitStatusExt::signal(&status),
        },
    })
}

/// Removes what the controls have left in directories that everybody shares.
fn sweep_tokens() {
    for directory in ["/tmp", "/var/tmp", "/dev/shm"] {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let mine = name.len() == 29
                && name.starts_with("token")
                && name[5..].bytes().all(|b| b.is_ascii_hexdigit());
            if mine {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}
