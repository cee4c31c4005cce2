//! From the command line to a shim that listens.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::fs::Mode;
use rustix::process::{
    DumpableBehavior, getpid, getppid, set_child_subreaper, set_dumpable_behavior, setsid, umask,
};

use super::guest::Guest;
use super::log::log;
use super::{Backlog, Inputs, Lines, READ_CHUNK, Server, Shim, ShimError, Streams};
use crate::journal::{Generation, Ids, JournalError, Kind, Recovery, Writer, now_ms};
use crate::launch::{
    EXIT_JOURNAL, EXIT_LOCKED, EXIT_ORPHANED, EXIT_SPEC, EXIT_SYSTEM, EXIT_USAGE, LaunchSpec, READY,
};
use crate::sys;
use crate::wire::{Harness, JOURNAL_NAME};

/// Largest launch specification, in bytes.
const MAX_SPEC: u64 = 16 << 20;
/// Size from which the log is started afresh, in bytes.
const MAX_LOG: u64 = 1 << 20;
const LOG_NAME: &str = "shim.log";
/// How long a journal that another process holds is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
const LOCK_POLL: Duration = Duration::from_millis(5);

/// Why the shim could not be made ready.
#[derive(Debug, thiserror::Error)]
enum SetupError {
    #[error("usage: lodge-shim <session directory> (the launch specification comes on standard input)")]
    Usage,
    #[error("cannot read the launch specification")]
    ReadSpec(#[source] io::Error),
    // The parser's message may quote the text, which holds secrets: only the place is told.
    #[error("the launch specification is malformed at line {line}, column {column}")]
    ParseSpec { line: usize, column: usize },
    #[error("the launch specification is not possible: {0}")]
    Spec(&'static str),
    #[error("cannot {doing}")]
    System {
        doing: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("the runner that started this shim is gone; the next one starts another")]
    Orphaned,
    #[error("cannot use the journal")]
    Journal(#[from] JournalError),
    #[error("cannot write the first record")]
    Record(#[source] serde_json::Error),
}

impl SetupError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Usage => EXIT_USAGE,
            Self::ReadSpec(_) | Self::ParseSpec { .. } | Self::Spec(_) => EXIT_SPEC,
            Self::Journal(JournalError::Locked { .. }) => EXIT_LOCKED,
            Self::Orphaned => EXIT_ORPHANED,
            Self::Journal(_) => EXIT_JOURNAL,
            Self::System { .. } | Self::Record(_) => EXIT_SYSTEM,
        }
    }
}

fn system<E: Into<io::Error>>(doing: &'static str) -> impl FnOnce(E) -> SetupError {
    move |error| SetupError::System {
        doing,
        source: error.into(),
    }
}

/// The whole life of the process `lodge-shim`.
pub fn main() -> ExitCode {
    let shim = match prepare() {
        Ok(shim) => shim,
        Err(error) => {
            report(&error);
            return ExitCode::from(error.exit_code());
        }
    };
    match shim.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            ExitCode::from(EXIT_JOURNAL)
        }
    }
}

fn report(error: &dyn std::error::Error) {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        message = format!("{message}: {inner}");
        source = inner.source();
    }
    log(format_args!("{message}"));
}

/// What the specification says is open.
#[derive(Debug)]
struct Descriptors {
    mux: UnixStream,
    /// The guest's end and everything else the command inherits.
    inherited: Vec<OwnedFd>,
    listener: Option<OwnedFd>,
}

fn prepare() -> Result<Shim, SetupError> {
    let mut arguments = std::env::args_os().skip(1);
    let dir = PathBuf::from(arguments.next().ok_or(SetupError::Usage)?);
    if arguments.next().is_some() {
        return Err(SetupError::Usage);
    }
    let spec = read_spec()?;
    let descriptors = take_descriptors(&spec)?;
    isolate()?;
    let signals = watch_signals()?;
    let journal_dir = dir.join(JOURNAL_NAME);
    let (mut journal, recovery) = open_journal(&journal_dir, spec.limits.segment_bytes)?;
    // From here on a runner that comes finds the journal locked, and waits for the socket.
    stay_only_for(spec.runner_pid)?;
    let ids = Ids::load(&journal_dir)?;
    let generation = recovery.generation.max(ids.generation()) + 1;
    journal.set_generation(generation)?;
    append_generation(&mut journal, generation, recovery.cut)?;
    let server = Server::bind(&dir, descriptors.listener).map_err(system("bind the socket"))?;
    announce(&dir)?;
    let mut shim = Shim {
        journal_dir,
        journal,
        generation,
        limits: spec.limits,
        server,
        inputs: Inputs::new(ids),
        streams: Streams::new(spec.command_env.clone(), spec.start.cwd.clone()),
        backlog: Backlog::default(),
        signals,
        scratch: vec![0; READ_CHUNK].into_boxed_slice(),
        guest: None,
        spec: None,
        harness: Harness::Starting,
        out: Lines::default(),
        err: Lines::default(),
        limit_told: false,
        begun: Vec::new(),
        hello_by: Some(Instant::now() + Duration::from_millis(spec.limits.hello_ms)),
        kill_at: None,
        dead_at: None,
        exit_seq: None,
        linger: Duration::from_millis(spec.limits.linger_ms),
        leave_at: None,
        sync_wanted: false,
        retry_at: None,
        acked: 0,
    };
    shim.launch(spec, descriptors.mux, descriptors.inherited)
        .map_err(|error| match error {
            ShimError::Journal(error) => SetupError::Journal(error),
            ShimError::Encode(error) => SetupError::Record(error),
            ShimError::Poll(error) => system("poll")(error),
        })?;
    Ok(shim)
}

impl Shim {
    /// Starts the sandbox command; a failure is a record, not an error: the runner is served either way.
    fn launch(
        &mut self,
        spec: LaunchSpec,
        mux: UnixStream,
        inherited: Vec<OwnedFd>,
    ) -> Result<(), ShimError> {
        match Guest::spawn(&spec, mux, inherited) {
            Ok(guest) => {
                self.guest = Some(guest);
                self.spec = Some(spec);
                lower_oom_score();
                Ok(())
            }
            Err(error) => {
                let program = spec.argv.first().map_or("", String::as_str);
                self.start_failed(
                    format!("cannot run {program}: {error}"),
                    error.raw_os_error().unwrap_or(0),
                )
            }
        }
    }
}

/// Nothing was promised yet, so nothing is lost by leaving.
fn stay_only_for(runner: Option<u32>) -> Result<(), SetupError> {
    let parent = getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
    match runner {
        Some(runner) if parent != Some(runner) => Err(SetupError::Orphaned),
        _ => Ok(()),
    }
}

/// Takes the journal. Whoever let go of it just now may hold it for another moment: a process that the runner was
/// about to start when it closed the lock has a copy until its exec.
fn open_journal(dir: &Path, segment_bytes: u64) -> Result<(Writer, Recovery), JournalError> {
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match Writer::open_with_limit(dir, segment_bytes) {
            Err(JournalError::Locked { .. }) if Instant::now() < deadline => {
                std::thread::sleep(LOCK_POLL);
            }
            opened => return opened,
        }
    }
}

fn read_spec() -> Result<LaunchSpec, SetupError> {
    let mut text = Vec::new();
    io::stdin()
        .lock()
        .take(MAX_SPEC)
        .read_to_end(&mut text)
        .map_err(SetupError::ReadSpec)?;
    let spec: LaunchSpec = serde_json::from_slice(&text).map_err(|error| SetupError::ParseSpec {
        line: error.line(),
        column: error.column(),
    })?;
    let mut numbers = spec.fds.clone();
    numbers.push(spec.mux_fd_in_guest);
    numbers.extend(spec.listener_fd);
    numbers.sort_unstable();
    if spec.argv.is_empty() {
        return Err(SetupError::Spec("argv is empty"));
    }
    if numbers.first().is_some_and(|number| *number <= 2) {
        return Err(SetupError::Spec(
            "a descriptor number is that of a standard stream",
        ));
    }
    if numbers.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(SetupError::Spec("a descriptor number is used twice"));
    }
    Ok(spec)
}

/// Takes over the inherited descriptors, before anything else is opened: the numbers are the runner's choice.
fn take_descriptors(spec: &LaunchSpec) -> Result<Descriptors, SetupError> {
    let open = sys::set_inheritance(&spec.fds).map_err(system("list the open descriptors"))?;
    if open.contains(&spec.mux_fd_in_guest) {
        return Err(SetupError::Spec("the number for the mux is in use"));
    }
    let adopted: io::Result<Vec<_>> = spec.fds.iter().map(|number| sys::adopt(*number)).collect();
    let mut inherited = adopted.map_err(system("take over an inherited descriptor"))?;
    let listener = spec.listener_fd.map(sys::adopt).transpose();
    let listener = listener.map_err(system("take over the gateway listener"))?;
    let (own, guest) = UnixStream::pair().map_err(system("make the guest's stream"))?;
    let own = clear_of(own, spec.mux_fd_in_guest).map_err(system("make the guest's stream"))?;
    let guest = sys::place(guest.into(), spec.mux_fd_in_guest).map_err(system("place the guest's stream"))?;
    inherited.push(guest);
    Ok(Descriptors {
        mux: own,
        inherited,
        listener,
    })
}

/// The shim's own end must not sit on the number the guest's end is to have.
fn clear_of(stream: UnixStream, number: i32) -> io::Result<UnixStream> {
    use std::os::fd::AsRawFd;
    if stream.as_raw_fd() == number {
        stream.try_clone()
    } else {
        Ok(stream)
    }
}

/// Cuts the process loose from the runner's session and from whoever would look into its memory.
fn isolate() -> Result<(), SetupError> {
    setsid().map_err(system("start a session of its own"))?;
    umask(Mode::RWXG | Mode::RWXO);
    set_child_subreaper(Some(getpid())).map_err(system("adopt orphans"))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(system("forbid core dumps"))
}

fn watch_signals() -> Result<SignalFd, SetupError> {
    let mut mask = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        mask.add(signal);
    }
    mask.thread_block().map_err(system("block signals"))?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
        .map_err(system("watch signals"))
}

fn append_generation(journal: &mut Writer, generation: u64, cut: u64) -> Result<(), SetupError> {
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let body = Generation {
        generation,
        pid: std::process::id(),
        boot_id: boot_id.trim().to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        cut,
    };
    let body = serde_json::to_vec(&body).map_err(SetupError::Record)?;
    journal.append(Kind::Generation, 0, &body, now_ms())?;
    Ok(())
}

/// Says `ready` and lets go of the runner's pipes; standard error becomes the session's log.
fn announce(dir: &Path) -> Result<(), SetupError> {
    let path = dir.join(LOG_NAME);
    let fresh = fs::metadata(&path).is_ok_and(|meta| meta.len() > MAX_LOG);
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o600);
    let log = options.open(path).map_err(system("open the log"))?;
    if fresh {
        log.set_len(0).map_err(system("empty the log"))?;
    }
    let null = File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(system("open /dev/null"))?;
    let mut stdout = io::stdout().lock();
    if let Err(error) = writeln!(stdout, "{READY}").and_then(|()| stdout.flush()) {
        // The runner died while it started this shim: the next one finds the socket.
        super::log::log(format_args!("nobody heard that the shim is ready: {error}"));
    }
    rustix::stdio::dup2_stdin(&null).map_err(system("let go of standard input"))?;
    rustix::stdio::dup2_stdout(&null).map_err(system("let go of standard output"))?;
    rustix::stdio::dup2_stderr(&log).map_err(system("send standard error to the log"))
}

/// The harness is to be killed before its shim. Only a privileged process may ask for that.
fn lower_oom_score() {
    let _ = fs::write("/proc/self/oom_score_adj", "-500");
}
