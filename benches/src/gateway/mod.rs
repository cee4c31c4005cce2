//! What a gateway costs: Lodge's beside a plain proxy, nginx, Portkey and `LiteLLM`, in rounds that take all of them in
//! turn. The gateways have one core, clients and model the other.

mod load;
mod model;
mod plain;
mod report;
mod systems;

use crate::proc::{self, CpuMeter, Server};
use anyhow::{Context, ensure};
use load::{Outcome, Spec, Work};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use systems::{Scene, System};

/// What is measured.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Shorter and only once: for trying it.
    #[arg(long)]
    quick: bool,
    /// Where the table goes.
    #[arg(long, value_name = "FILE", default_value = "benches/GATEWAY.md")]
    out: PathBuf,
    /// Where benches/gateway put the gateways of others.
    #[arg(long, value_name = "DIR", default_value = "target/bench-peers")]
    peers: PathBuf,
    /// Where the data of the run goes; removed at its end.
    #[arg(long, default_value = "target/bench-work")]
    work: PathBuf,
    /// Only gateways whose name holds one of these; nothing is written then.
    #[arg(long, value_name = "TEXT", value_delimiter = ',')]
    only: Vec<String>,
    /// Gateways, clients and model go before other work of the machine (`SCHED_RR`). Needs the right to that.
    #[arg(long)]
    first: bool,
}

/// No round is begun that would end after this.
const LONGEST: Duration = Duration::from_mins(10);

/// A part of the measurement as a process of its own.
#[derive(Debug, clap::Subcommand)]
pub enum Part {
    /// The model behind the gateways.
    Model,
    /// The plain proxy.
    Plain(Plain),
    /// Clients, as a file says.
    Load { file: PathBuf },
}

/// Arguments of the plain proxy.
#[derive(Debug, clap::Args)]
pub struct Plain {
    #[command(flatten)]
    args: plain::Args,
}

/// Serves or drives, until done or killed.
pub fn part(part: &Part) -> anyhow::Result<()> {
    raise_limit();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match part {
            Part::Model => model::serve().await,
            Part::Plain(plain) => plain::serve(&plain.args).await,
            Part::Load { file } => load::run(file).await,
        }
    })
}

/// A thousand streams are two thousand descriptors.
fn raise_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // Where it may not be raised, the connections that fail say so.
    let _ = setrlimit(Resource::Nofile, raised);
}

/// What is asked of every gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    /// One request after the other.
    Alone,
    Small,
    Medium,
    Large,
    FirstChunk,
    Streams100,
    Streams1000,
}

impl Ask {
    const ALL: [Self; 7] = [
        Self::Alone,
        Self::Small,
        Self::FirstChunk,
        Self::Streams100,
        Self::Streams1000,
        // Last: what an allocator keeps of large bodies is no cost of streams.
        Self::Medium,
        Self::Large,
    ];

    /// Bytes of a request, connections, and what they do.
    fn shape(self, quick: bool) -> (usize, usize, Work) {
        let seconds = if quick { 1.0 } else { 2.0 };
        let requests = Work::Requests { seconds };
        // 20 chunks a second each, and 10.
        let chunks = if quick { 2 } else { 4 };
        match self {
            Self::Alone => (200, 1, requests),
            Self::Small => (200, 32, requests),
            Self::Medium => (100_000, 32, requests),
            Self::Large => (500_000, 8, requests),
            Self::FirstChunk => (
                200,
                1,
                Work::FirstChunk {
                    count: if quick { 20 } else { 100 },
                },
            ),
            Self::Streams100 => (
                200,
                100,
                Work::Streams {
                    chunks: chunks * 20,
                    period_us: 50_000,
                },
            ),
            Self::Streams1000 => (
                200,
                1_000,
                Work::Streams {
                    chunks: chunks * 10,
                    period_us: 100_000,
                },
            ),
        }
    }
}

/// One answer of one gateway.
#[derive(Debug, Clone)]
struct Run {
    ask: Ask,
    seen: Outcome,
    /// Of the gateway's processes.
    cpu: Duration,
    took: Duration,
    /// The most of its processes together at any one time, KiB.
    rss: u64,
}

/// Resident memory of a gateway that has answered and has nothing to do, KiB.
#[derive(Debug, Clone, Copy, Default)]
struct Idle {
    all: u64,
    /// Of no file.
    own: u64,
}

/// A column of the table.
#[derive(Debug)]
struct Column {
    title: String,
    idle: Idle,
    runs: Vec<Run>,
    problem: Option<String>,
    system: Option<System>,
}

/// Runs it all and writes the table.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let begun = Instant::now();
    let load_before = proc::load();
    std::fs::create_dir_all(&args.work)?;
    let dir = tempfile::tempdir_in(args.work.canonicalize()?).context("a directory for the run")?;
    proc::end_with_everything(dir.path(), Duration::from_mins(40))?;
    let mut scene = Scene {
        dir: dir.path().to_owned(),
        // Some of them are started in a directory of their own.
        peers: args.peers.canonicalize().unwrap_or_else(|_| args.peers.clone()),
        model: ([127, 0, 0, 1], 0).into(),
        cores: std::thread::available_parallelism()
            .is_ok_and(|cores| cores.get() > 1)
            .then_some(("0", "1")),
        first: args.first,
    };
    let model = Server::start_ready(&mut scene.part(&["model"])?)?;
    scene.model = model.said.parse().context("the model's address")?;
    let mut columns = start(&scene, &args.only);
    let rounds = if args.quick { 1 } else { 3 };
    let first = Instant::now();
    for round in 0..rounds {
        let so_far = first.elapsed();
        if round > 0 && so_far + so_far / round > LONGEST {
            eprintln!(
                "bench: {round} rounds took {} s; no other is begun",
                so_far.as_secs()
            );
            break;
        }
        for ask in Ask::ALL {
            eprintln!(
                "bench: round {} of {rounds}, {ask:?} ({} s so far)",
                round + 1,
                begun.elapsed().as_secs()
            );
            for column in &mut columns {
                turn(&scene, column, ask, args.quick);
            }
        }
    }
    let text = report::markdown(
        (args.quick, args.first),
        &load_before,
        &columns,
        &versions(args),
        begun.elapsed(),
    );
    if args.only.is_empty() {
        std::fs::write(&args.out, &text).with_context(|| format!("writing {}", args.out.display()))?;
    }
    println!("{text}");
    Ok(())
}

/// Of the user that all sessions are of, in nano-dollars: never reached, and checked and made durable each time.
const BUDGET: u64 = 1_000_000_000_000_000;

fn start(scene: &Scene, only: &[String]) -> Vec<Column> {
    type Start = fn(&Scene) -> anyhow::Result<System>;
    let all: [(&str, Start); 8] = [
        ("none: the model itself", |scene| Ok(System::direct(scene))),
        ("Lodge", |scene| systems::lodge(scene, None)),
        ("Lodge, hard budget", |scene| systems::lodge(scene, Some(BUDGET))),
        ("plain proxy, Unix socket", |scene| systems::plain(scene, true)),
        ("plain proxy, TCP", |scene| systems::plain(scene, false)),
        ("nginx", systems::nginx),
        ("Portkey", systems::portkey),
        ("LiteLLM", systems::litellm),
    ];
    let wanted = |name: &str| {
        only.is_empty() || name.starts_with("none") || only.iter().any(|part| name.contains(part.as_str()))
    };
    let column = |(title, start): (&str, Start)| {
        eprintln!("bench: starting {title}");
        let started = start(scene).and_then(|system| warmed(scene, system));
        let (system, problem) = match started {
            Ok(system) => (Some(system), None),
            Err(error) => (None, Some(format!("{error:#}"))),
        };
        if let Some(problem) = &problem {
            eprintln!("bench: {title}: {problem}");
        }
        Column {
            title: title.to_owned(),
            idle: system.as_ref().map_or_else(Idle::default, idle),
            runs: Vec::new(),
            problem,
            system,
        }
    };
    all.into_iter()
        .filter(|(name, _)| wanted(name))
        .map(column)
        .collect()
}

/// A few answers that do not count: what is loaded at the first request is loaded.
fn warmed(scene: &Scene, system: System) -> anyhow::Result<System> {
    let outcome = ask(scene, &system, (200, 1, Work::Requests { seconds: 0.5 }))?;
    // The first one may take longer than the measurement.
    ensure!(
        outcome.all > 0,
        "no answer: {}",
        outcome.problem.unwrap_or_default()
    );
    ask(scene, &system, (200, 1, Work::FirstChunk { count: 1 }))?;
    Ok(system)
}

fn turn(scene: &Scene, column: &mut Column, what: Ask, quick: bool) {
    let Some(system) = &column.system else {
        return;
    };
    let pids = pids(system);
    let (meter, begun) = (CpuMeter::start(&pids), Instant::now());
    let is_over = AtomicBool::new(false);
    let (asked, rss) = std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut most = 0;
            while !is_over.load(Ordering::Relaxed) {
                most = most.max(rss(&pids));
                std::thread::sleep(Duration::from_millis(100));
            }
            most
        });
        let asked = ask(scene, system, what.shape(quick));
        is_over.store(true, Ordering::Relaxed);
        (asked, watching.join().unwrap_or(0))
    });
    match asked {
        Ok(seen) => column.runs.push(Run {
            ask: what,
            seen,
            cpu: meter.used(),
            took: begun.elapsed(),
            rss,
        }),
        Err(error) => {
            eprintln!("bench: {}: {error:#}", column.title);
            column.problem = Some(format!("{error:#}"));
        }
    }
}

/// Has clients do it, in a process of their own.
fn ask(
    scene: &Scene,
    system: &System,
    (bytes, connections, work): (usize, usize, Work),
) -> anyhow::Result<Outcome> {
    let spec = Spec {
        targets: system.targets.clone(),
        path: system.path.to_owned(),
        headers: system.headers.clone(),
        bytes,
        connections,
        work,
    };
    let file = scene.dir.join("load.json");
    std::fs::write(&file, serde_json::to_vec(&spec)?)?;
    let output = scene
        .part(&["load"])?
        .arg(&file)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(
        output.status.success(),
        "the clients ended with {}",
        output.status
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn pids(system: &System) -> Vec<u32> {
    let Some(server) = &system.server else {
        return Vec::new();
    };
    let below = proc::descendants(server.pid()).into_iter().map(|(pid, _)| pid);
    std::iter::once(server.pid()).chain(below).collect()
}

/// Resident memory of processes together, KiB.
fn rss(pids: &[u32]) -> u64 {
    pids.iter().map(|pid| proc::resident(*pid).0).sum()
}

fn idle(system: &System) -> Idle {
    let each = pids(system).into_iter().map(proc::resident);
    each.fold(Idle::default(), |sum, (all, own)| Idle {
        all: sum.all + all,
        own: sum.own + own,
    })
}

/// Names and versions of what was compared.
fn versions(args: &Args) -> Vec<(String, String)> {
    let read = |name: &str, file: &Path| {
        let text = std::fs::read_to_string(args.peers.join(file)).unwrap_or_default();
        (name.to_owned(), text.trim().to_owned())
    };
    ["nginx", "portkey", "litellm"]
        .map(|name| read(name, &Path::new(name).join("version")))
        .into()
}
