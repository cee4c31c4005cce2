//! `lodge up`

use crate::commands::login_link;
use crate::config::{Config, roots};
use crate::data::DataDir;
use crate::failure::Failure;
use crate::roles;
use crate::signals::Asked;
use crate::supervise::{Plan, Supervisor};
use crate::terminal::try_print;
use lodge_proto::ErrorCode;
use std::io::IsTerminal;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

/// Start Lodge and open it in the browser; Ctrl-C stops it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  lodge up\n  lodge up --listen 127.0.0.1:9000 --workspace ~/src --no-open\n  \
    lodge up --data /tmp/try --seconds 60       a Lodge for one minute\n\n\
    Agents may work in workspaces/ of the data directory and below every --workspace.\n\
    Without a provider in config/lodge.toml the scripted demo model answers."
)]
pub struct Args {
    /// Address of the web interface [default: 127.0.0.1:8080, or `backend.listen` in config/lodge.toml].
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Agents may also work below this directory; may be given more than once.
    #[arg(long, value_name = "DIR")]
    workspace: Vec<PathBuf>,
    /// Agents ask before their tools run; otherwise the sandbox alone is the wall.
    #[arg(long)]
    ask_permissions: bool,
    /// Do not open a browser.
    #[arg(long)]
    no_open: bool,
    /// Stop after so many seconds.
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
}

pub async fn run(data: &DataDir, args: &Args) -> anyhow::Result<u8> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .with_max_level(tracing::Level::WARN)
        .init();
    let mut stop = Until::new(args.seconds)?;
    let plan = plan(data, args)?;
    for problem in roles::sandbox_problems() {
        say(&format!("warning: {problem}"));
    }
    let mut supervisor = tokio::select! {
        started = Supervisor::start(&plan) => started?,
        () = stop.over() => return Ok(0),
    };
    let ended = serve(&plan, args, &mut supervisor, &mut stop).await;
    tokio::select! {
        () = supervisor.stop() => {}
        _ = stop.asked.to_stop() => {}
    }
    ended.map(|()| 0)
}

fn plan(data: &DataDir, args: &Args) -> Result<Plan, Failure> {
    data.create()?;
    let config = Config::read(data)?;
    let listen = args.listen.unwrap_or(config.backend.listen);
    if !listen.ip().is_loopback() {
        return Err(Failure::new(
            ErrorCode::InvalidArgument,
            "without TLS Lodge listens on loopback only",
        )
        .at(format!("--listen {listen}"))
        .mend("listen on 127.0.0.1 and reach it through an SSH tunnel or a reverse proxy with TLS"));
    }
    if let Some(value) = &config.backend.trusted_proxy {
        let what = format!("[backend] trusted_proxy = \"{value}\": proxies are not supported yet");
        return Err(Failure::new(ErrorCode::InvalidArgument, what)
            .at(data.config().display().to_string())
            .mend("remove the key"));
    }
    let mut workspaces = roots(&config.workspaces)?;
    workspaces.extend(roots(&args.workspace)?);
    config.check_agents(data, &workspaces)?;
    // The owner of the directory is asked first: its answer says more than "in use".
    let listen = if crate::supervise::lock::holder(data)?.is_none() {
        free_port(listen)?
    } else {
        listen
    };
    Ok(Plan {
        data: data.clone(),
        listen: Some(listen),
        workspaces,
        ask_permissions: args.ask_permissions,
    })
}

/// Checks that the port is free. Port 0 becomes a number here, which a restarted backend takes again.
fn free_port(listen: SocketAddr) -> Result<SocketAddr, Failure> {
    match TcpListener::bind(listen).and_then(|listener| listener.local_addr()) {
        Ok(address) => Ok(address),
        Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => {
            let other = SocketAddr::new(listen.ip(), 0);
            Err(Failure::new(
                ErrorCode::Busy,
                format!(
                    "port {} of {} is in use by another program",
                    listen.port(),
                    listen.ip()
                ),
            )
            .at(format!("--listen {listen}"))
            .mend(format!(
                "stop that program, or choose another port: lodge up --listen {other} takes any free one"
            )))
        }
        Err(e) => Err(Failure::new(
            ErrorCode::InvalidArgument,
            format!("this address cannot be listened on: {e}"),
        )
        .at(format!("--listen {listen}"))),
    }
}

async fn serve(
    plan: &Plan,
    args: &Args,
    supervisor: &mut Supervisor,
    stop: &mut Until,
) -> anyhow::Result<()> {
    let url = login_link::fetch(&plan.data).await?;
    let base = url
        .split('#')
        .next()
        .unwrap_or(&url)
        .trim_end_matches("/login")
        .to_owned();
    supervisor.state().update(|state| state.url = Some(base));
    say(&format!("Lodge is ready: {url}"));
    say("The link works once, for five minutes. Another: lodge login-link. Ctrl-C stops Lodge.");
    if !args.no_open {
        open_browser(&url);
    }
    tokio::select! {
        failure = supervisor.failed() => Err(failure.into()),
        () = stop.over() => Ok(()),
    }
}

/// Tells whoever listens; Lodge runs on when nobody does.
fn say(line: &str) {
    let _ = try_print(&format!("{line}\n"));
}

/// Opens the link where there is a screen; that it cannot be opened is no error, the link was printed.
fn open_browser(url: &str) {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if is_set("CI") || !(is_set("DISPLAY") || is_set("WAYLAND_DISPLAY")) {
        return;
    }
    let mut command = tokio::process::Command::new("xdg-open");
    command
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _ = command.spawn();
}

/// When to stop: somebody asks, or the time that was given is over.
struct Until {
    asked: Asked,
    end: Option<tokio::time::Instant>,
}

impl Until {
    fn new(seconds: Option<u64>) -> anyhow::Result<Self> {
        let end = seconds.and_then(|n| tokio::time::Instant::now().checked_add(Duration::from_secs(n)));
        Ok(Self {
            asked: Asked::new()?,
            end,
        })
    }

    async fn over(&mut self) {
        let end = self.end;
        let time = async {
            match end {
                Some(end) => tokio::time::sleep_until(end).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.asked.to_stop() => {}
            () = time => {}
        }
    }
}
