//! opencode: `serve` with our model server; a client reads its server-sent events.

use super::{Peer, TURN, free_port, measure as measure_peer, program};
use crate::http::{self, Request};
use crate::load::Conn;
use crate::mock;
use crate::proc::Server;
use crate::report::{Cells, Sizes};
use anyhow::{Context, ensure};
use serde_json::json;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

struct Opencode {
    server: Server,
    address: SocketAddr,
    native: String,
}

impl Peer for Opencode {
    fn pids(&self) -> Vec<u32> {
        vec![self.server.pid()]
    }

    fn session(&mut self) -> anyhow::Result<()> {
        let answer = http::call(self.address, &Request::post("/session", "{\"title\":\"bench\"}"))?;
        answer.json()?["id"]
            .as_str()
            .context("a session without an id")?
            .clone_into(&mut self.native);
        Ok(())
    }

    fn clients(&mut self, count: usize, after: Option<&str>) -> anyhow::Result<Vec<Conn>> {
        let after: Vec<(&str, &str)> = after.map(|id| ("Last-Event-ID", id)).into_iter().collect();
        let open = |_| {
            let mut stream = http::open(self.address, &Request::get("/event").with(&after))?;
            let (status, head) = http::read_head(&mut stream)?;
            ensure!(status == 200, "no stream: {head:.200}");
            Ok(Conn::events(stream))
        };
        (0..count).map(open).collect()
    }

    fn prompt(&mut self, _: &mut [Conn], text: &str) -> anyhow::Result<()> {
        let body = json!({
            "model": { "providerID": "mock", "modelID": "mock" },
            "parts": [{ "type": "text", "text": text }],
        });
        let (address, path) = (self.address, format!("/session/{}/message", self.native));
        // The answer comes at the end of the turn; the events tell all that is measured.
        std::thread::spawn(move || {
            http::call(address, &Request::post(&path, &body.to_string()).timeout(TURN)).map(drop)
        });
        Ok(())
    }
}

pub fn measure(dir: &Path, peers: &Path, sizes: &Sizes) -> anyhow::Result<Cells> {
    let binary = program(peers, "opencode-linux-x64", "bin/opencode")?;
    let package = peers
        .join("node_modules/@ai-sdk/openai-compatible")
        .canonicalize()?;
    let home = dir.join("opencode");
    let work = home.join("work");
    std::fs::create_dir_all(&work)?;
    let model = mock::openai()?;
    let settings = json!({
        "autoupdate": false,
        "share": "disabled",
        "model": "mock/mock",
        "small_model": "mock/mock",
        "provider": { "mock": {
            "npm": format!("file://{}", package.display()),
            "name": "mock",
            "options": { "baseURL": format!("http://{model}/v1"), "apiKey": "k" },
            "models": { "mock": { "name": "mock", "tool_call": true } },
        } },
    });
    std::fs::write(work.join("opencode.json"), settings.to_string())?;
    let port = free_port()?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut command = Command::new(binary);
    command
        .args(["serve", "--port", &port.to_string()])
        .current_dir(&work);
    command
        .env("HOME", &home)
        .env("OPENCODE_DISABLE_AUTOUPDATE", "1")
        .env("OPENCODE_DISABLE_MODELS_FETCH", "1");
    for name in [
        "XDG_CONFIG_HOME",
        "XDG_DATA_HOME",
        "XDG_CACHE_HOME",
        "XDG_STATE_HOME",
    ] {
        command.env_remove(name);
    }
    // Its first answers may hang while it looks for its network: asked again, it serves.
    let config = Request::get("/config").timeout(Duration::from_secs(1));
    let ready = || http::call(address, &config).is_ok_and(|answer| answer.status == 200);
    let (server, started) = Server::start(&mut command, &home.join("log"), ready)?;
    let mut peer = Opencode {
        server,
        address,
        native: String::new(),
    };
    measure_peer(&mut peer, started, sizes)
}
