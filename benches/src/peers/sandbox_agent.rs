//! sandbox-agent: `server` with our ACP agent in the place of its mock; a client reads server-sent events.

use super::{Peer, TURN, free_port, measure as measure_peer, program};
use crate::http::{self, Request};
use crate::load::Conn;
use crate::proc::Server;
use crate::report::{Cells, Sizes};
use anyhow::{Context, ensure};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

struct SandboxAgent {
    server: Server,
    address: SocketAddr,
    work: String,
    sessions: u32,
    /// The agent's name for the session.
    native: String,
}

impl SandboxAgent {
    fn path(&self) -> String {
        format!("/v1/acp/bench{}?agent=mock", self.sessions)
    }

    fn call(&self, method: &str, params: &Value) -> anyhow::Result<Value> {
        let body = json!({ "jsonrpc": "2.0", "id": method, "method": method, "params": params }).to_string();
        let answer = http::call(self.address, &Request::post(&self.path(), &body))?;
        ensure!(
            answer.status == 200,
            "{method}: status {}: {}",
            answer.status,
            answer.json()?
        );
        Ok(answer.json()?["result"].take())
    }
}

impl Peer for SandboxAgent {
    fn pids(&self) -> Vec<u32> {
        vec![self.server.pid()]
    }

    fn session(&mut self) -> anyhow::Result<()> {
        self.sessions += 1;
        self.call(
            "initialize",
            &json!({ "protocolVersion": 1, "clientCapabilities": {} }),
        )?;
        let session = self.call("session/new", &json!({ "cwd": self.work, "mcpServers": [] }))?;
        session["sessionId"]
            .as_str()
            .context("a session without an id")?
            .clone_into(&mut self.native);
        Ok(())
    }

    fn clients(&mut self, count: usize, after: Option<&str>) -> anyhow::Result<Vec<Conn>> {
        let path = self.path();
        let after: Vec<(&str, &str)> = after.map(|id| ("Last-Event-ID", id)).into_iter().collect();
        let open = |_| {
            let mut headers = vec![("Accept", "text/event-stream")];
            headers.extend_from_slice(&after);
            let mut stream = http::open(self.address, &Request::get(&path).with(&headers))?;
            let (status, head) = http::read_head(&mut stream)?;
            ensure!(status == 200, "no stream: {head:.200}");
            Ok(Conn::events(stream))
        };
        (0..count).map(open).collect()
    }

    fn prompt(&mut self, _: &mut [Conn], text: &str) -> anyhow::Result<()> {
        let params = json!({ "sessionId": self.native, "prompt": [{ "type": "text", "text": text }] });
        let body = json!({ "jsonrpc": "2.0", "id": "p", "method": "session/prompt", "params": params });
        let (address, path) = (self.address, self.path());
        // The answer comes at the end of the turn; the events tell all that is measured.
        std::thread::spawn(move || {
            http::call(address, &Request::post(&path, &body.to_string()).timeout(TURN)).map(drop)
        });
        Ok(())
    }
}

pub fn measure(dir: &Path, peers: &Path, sizes: &Sizes) -> anyhow::Result<Cells> {
    let binary = program(peers, "@sandbox-agent/cli-linux-x64", "bin/sandbox-agent")?;
    let home = dir.join("sandbox-agent");
    let agents = home.join("data/sandbox-agent/bin/agent_processes");
    let work = home.join("work");
    std::fs::create_dir_all(&agents)?;
    std::fs::create_dir_all(&work)?;
    // npm does not keep the mode where install scripts are off.
    std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(0o755))?;
    let mock = agents.join("mock-acp");
    let own = std::env::current_exe()?;
    std::fs::write(&mock, format!("#!/bin/sh\nexec '{}' mock-acp\n", own.display()))?;
    std::fs::set_permissions(&mock, std::fs::Permissions::from_mode(0o755))?;
    let port = free_port()?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut command = Command::new(binary);
    command.args(["server", "--no-token", "--no-telemetry", "-p", &port.to_string()]);
    command
        .env("HOME", &home)
        .env("XDG_DATA_HOME", home.join("data"))
        .current_dir(&work);
    let ready = || http::call(address, &Request::get("/v1/health")).is_ok();
    let (server, started) = Server::start(&mut command, &home.join("log"), ready)?;
    let work = work.to_string_lossy().into_owned();
    let mut peer = SandboxAgent {
        server,
        address,
        work,
        sessions: 0,
        native: String::new(),
    };
    measure_peer(&mut peer, started, sizes)
}
