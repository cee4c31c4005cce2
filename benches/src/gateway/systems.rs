//! The gateways, each as a process on the first core.

use super::load::{Address, Target};
use crate::proc::Server;
use anyhow::{Context, ensure};
use lodge_gateway::ledger::{Ledger, Window};
use lodge_gateway::money::Nanos;
use lodge_proto::SessionId;
use lodge_runner::lease::{Egress, Lease, Leases, Listener};
use std::ffi::OsStr;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Sessions of Lodge that share the load: a session's socket takes 128 connections.
const SESSIONS: usize = 50;

/// What all of them are started with.
#[derive(Debug)]
pub(super) struct Scene {
    /// Of this run; removed at its end.
    pub(super) dir: PathBuf,
    pub(super) peers: PathBuf,
    pub(super) model: SocketAddr,
    /// Programs are bound to these cores, where there are two.
    pub(super) cores: Option<(&'static str, &'static str)>,
    /// Programs go before everything else on their core.
    pub(super) first: bool,
}

impl Scene {
    /// A program that runs on the gateways' core.
    fn command(&self, program: &Path) -> Command {
        self.on_core(self.cores.map(|cores| cores.0), program)
    }

    /// A part of this program, on the core of clients and model.
    pub(super) fn part(&self, args: &[&str]) -> anyhow::Result<Command> {
        let mut command = self.on_core(self.cores.map(|cores| cores.1), &std::env::current_exe()?);
        command.arg("gateway-part").args(args);
        Ok(command)
    }

    fn on_core(&self, core: Option<&str>, program: &Path) -> Command {
        let mut words: Vec<&OsStr> = Vec::new();
        if self.first {
            words.extend(["chrt", "--rr", "5"].map(OsStr::new));
        }
        if let Some(core) = core {
            words.extend(["taskset", "-c", core].map(OsStr::new));
        }
        words.push(program.as_os_str());
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        command
    }
}

/// A gateway that serves.
#[derive(Debug)]
pub(super) struct System {
    /// None: the model itself.
    pub(super) server: Option<Server>,
    pub(super) targets: Vec<Target>,
    pub(super) path: &'static str,
    pub(super) headers: Vec<(String, String)>,
    /// Ends with this value.
    _sessions: Option<Sessions>,
}

impl System {
    fn new(server: Option<Server>, target: Target) -> Self {
        Self {
            server,
            targets: vec![target],
            path: "/v1/chat/completions",
            headers: Vec::new(),
            _sessions: None,
        }
    }

    /// The model without anything in between.
    pub(super) fn direct(scene: &Scene) -> Self {
        Self::new(None, tcp(scene.model))
    }
}

fn tcp(address: SocketAddr) -> Target {
    Target {
        at: Address::Tcp(address),
        key: "sk-bench".to_owned(),
    }
}

fn free_port() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn accepts(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_ok()
}

/// The plain proxy, asked over a Unix socket or over TCP.
pub(super) fn plain(scene: &Scene, over_unix: bool) -> anyhow::Result<System> {
    let socket = scene.dir.join(format!("plain-{over_unix}.sock"));
    let mut command = scene.command(&std::env::current_exe()?);
    command.args([
        "gateway-part",
        "plain",
        "--upstream",
        &scene.model.to_string(),
        "--socket",
    ]);
    let server = Server::start_ready(command.arg(&socket))?;
    let port = server.said.parse().context("the plain proxy's port")?;
    let unix = Target {
        at: Address::Unix(socket),
        key: "sk-bench".to_owned(),
    };
    Ok(if over_unix {
        System::new(Some(server), unix)
    } else {
        System::new(Some(server), tcp(port))
    })
}

#[derive(Debug)]
struct Sessions {
    _leases: Vec<Lease>,
    _runtime: tokio::runtime::Runtime,
}

/// Lodge's gateway, as the runner uses it: leases, and a socket and a key for each session. With a budget, in
/// nano-dollars, every reservation is on the disk before its request is sent.
pub(super) fn lodge(scene: &Scene, budget: Option<u64>) -> anyhow::Result<System> {
    let name = if budget.is_some() { "bounded" } else { "lodge" };
    let data = scene.dir.join(name);
    let private = |path: &Path| fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    for part in ["config", "run", "gateway"] {
        private(&data.join(part))?;
    }
    if let Some(nanos) = budget {
        limit(&data.join("gateway/ledger"), nanos)?;
    }
    let key = data.join("provider-key");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&key)?;
    std::io::Write::write_all(&mut file, b"sk-provider")?;
    let configuration = format!(
        "[[provider]]\nname = \"openai\"\nkind = \"openai\"\nbase_url = \"http://{}\"\nkey_file = \"{}\"\n\
         [[provider.models]]\nid = \"gpt-4o-mini\"\n",
        scene.model,
        key.display()
    );
    fs::write(data.join("config/lodge.toml"), configuration)?;
    let mut command = scene.command(&std::env::current_exe()?);
    command.args(["role", "gateway", "--data"]).arg(&data);
    command.stderr(fs::File::create(scene.dir.join(format!("{name}.log")))?);
    let server = Server::start_ready(&mut command)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let (leases, targets) = runtime.block_on(sessions(&data))?;
    Ok(System {
        server: Some(server),
        targets,
        path: "/openai/v1/chat/completions",
        headers: Vec::new(),
        _sessions: Some(Sessions {
            _leases: leases,
            _runtime: runtime,
        }),
    })
}

/// Sets a budget for the user that the sessions are of, before the gateway has the ledger.
fn limit(ledger: &Path, nanos: u64) -> anyhow::Result<()> {
    let user = format!("user:{}", lodge_proto::sock::own_uid());
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let ledger = Ledger::open(ledger)?;
    runtime.block_on(ledger.set_budget(&user, Window::Total, Some(Nanos(nanos))))?;
    Ok(())
}

async fn sessions(data: &Path) -> anyhow::Result<(Vec<Lease>, Vec<Target>)> {
    let all = Leases::start(data.join("run/gateway-lease.sock"), lodge_proto::sock::own_uid());
    let (mut leases, mut targets) = (Vec::new(), Vec::new());
    for index in 0..SESSIONS {
        let dir = data.join(format!("session-{index}"));
        fs::create_dir(&dir)?;
        let deaf = Listener::new(|_| {});
        let session = (SessionId::new(), "bench");
        let opened = all.open(&dir, session, (Egress::default(), None), deaf).await;
        let lease = opened.map_err(|error| anyhow::anyhow!("a lease: {}", error.message))?;
        targets.push(Target {
            at: Address::Unix(dir.join("gw/gateway.sock")),
            key: lease.key().to_owned(),
        });
        leases.push(lease);
    }
    Ok((leases, targets))
}

pub(super) fn nginx(scene: &Scene) -> anyhow::Result<System> {
    let address = free_port()?;
    let dir = scene.dir.join("nginx");
    fs::create_dir_all(&dir)?;
    let configuration = format!(
        "daemon off; worker_processes 1; pid {dir}/pid; error_log {dir}/error.log;\n\
         events {{ worker_connections 8192; }}\n\
         http {{ access_log off; client_max_body_size 64m; client_body_temp_path {dir}; proxy_temp_path {dir};\n\
         fastcgi_temp_path {dir}; uwsgi_temp_path {dir}; scgi_temp_path {dir};\n\
         keepalive_requests 100000000;\n\
         upstream model {{ server {model}; keepalive 2048; keepalive_requests 100000000; }}\n\
         server {{ listen {address}; location / {{ proxy_pass http://model; proxy_http_version 1.1;\n\
         proxy_set_header Connection \"\"; proxy_set_header Authorization \"Bearer sk-provider\";\n\
         proxy_buffering off; proxy_request_buffering off; }} }} }}\n",
        dir = dir.display(),
        model = scene.model,
    );
    let file = dir.join("nginx.conf");
    fs::write(&file, configuration)?;
    let installed = scene.peers.join("nginx/usr/sbin/nginx");
    let program = if installed.exists() {
        installed
    } else {
        "nginx".into()
    };
    let mut command = scene.command(&program);
    // The worker gives up root's rights where it has them, and with them the files of this directory.
    if lodge_proto::sock::own_uid() == 0 {
        command.args(["-g", "user root;"]);
    }
    command.arg("-c").arg(&file).arg("-p").arg(&dir);
    let (server, _) = Server::start(&mut command, &dir.join("log"), || accepts(address))?;
    Ok(System::new(Some(server), tcp(address)))
}

pub(super) fn litellm(scene: &Scene) -> anyhow::Result<System> {
    let address = free_port()?;
    let program = scene.peers.join("litellm/bin/litellm");
    ensure!(program.exists(), "it is not installed");
    let file = scene.dir.join("litellm.yaml");
    let configuration = format!(
        "model_list:\n  - model_name: gpt-4o-mini\n    litellm_params:\n      model: openai/gpt-4o-mini\n      \
         api_base: http://{}/v1\n      api_key: sk-provider\ngeneral_settings:\n  master_key: sk-bench\n",
        scene.model
    );
    fs::write(&file, configuration)?;
    let mut command = scene.command(&program);
    command
        .env("LITELLM_MODE", "PRODUCTION")
        .env("LITELLM_LOG", "ERROR")
        .env("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        .args(["--host", "127.0.0.1", "--num_workers", "1", "--port"])
        .arg(address.port().to_string())
        .arg("--config")
        .arg(&file)
        .current_dir(&scene.dir);
    let (server, _) = Server::start(&mut command, &scene.dir.join("litellm.log"), || accepts(address))?;
    Ok(System::new(Some(server), tcp(address)))
}

/// It serves on all interfaces and has no option for that; a preload keeps it on the loopback.
const PRELOAD: &str = "const net = require('net');\n\
    const listen = net.Server.prototype.listen;\n\
    net.Server.prototype.listen = function (first, ...rest) {\n\
    const port = typeof first === 'object' && first !== null ? first.port : first;\n\
    const done = rest.find((one) => typeof one === 'function');\n\
    return listen.call(this, { port, host: '127.0.0.1' }, done);\n};\n";

pub(super) fn portkey(scene: &Scene) -> anyhow::Result<System> {
    let address = free_port()?;
    let package = scene.peers.join("portkey/node_modules/@portkey-ai/gateway");
    let program = package.join("build/start-server.js").canonicalize();
    let program = program.context("it is not installed")?;
    let preload = scene.dir.join("loopback.cjs");
    fs::write(&preload, PRELOAD)?;
    let mut command = scene.command(Path::new("node"));
    command
        .env("NODE_ENV", "production")
        .arg("--require")
        .arg(&preload)
        .arg(program)
        .args(["--headless", &format!("--port={}", address.port())]);
    let (server, _) = Server::start(&mut command, &scene.dir.join("portkey.log"), || accepts(address))?;
    let mut system = System::new(Some(server), tcp(address));
    let host = format!("http://{}/v1", scene.model);
    system.headers = vec![
        ("x-portkey-provider".to_owned(), "openai".to_owned()),
        ("x-portkey-custom-host".to_owned(), host),
    ];
    Ok(system)
}
