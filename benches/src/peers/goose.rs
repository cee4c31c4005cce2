//! goose: `serve`, ACP over a WebSocket, with our model server.

use super::{Peer, free_port, measure as measure_peer, program};
use crate::load::Conn;
use crate::proc::Server;
use crate::report::{Cells, Sizes};
use crate::{mock, ws};
use anyhow::{Context, ensure};
use serde_json::{Value, json};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

struct Goose {
    server: Server,
    address: SocketAddr,
    work: String,
    native: String,
    /// The session's connection, until it is given out.
    conn: Option<Conn>,
}

fn ask(conn: &mut Conn, method: &str, params: &Value) -> anyhow::Result<Value> {
    let request = json!({ "jsonrpc": "2.0", "id": method, "method": method, "params": params });
    conn.send(&request.to_string())?;
    let mut answer = conn.wait_for(|text| {
        let value: Value = serde_json::from_slice(text).ok()?;
        (value["id"] == method).then_some(value)
    })?;
    ensure!(answer.get("error").is_none(), "{method}: {answer}");
    Ok(answer["result"].take())
}

impl Peer for Goose {
    fn pids(&self) -> Vec<u32> {
        vec![self.server.pid()]
    }

    fn session(&mut self) -> anyhow::Result<()> {
        let stream = ws::connect(self.address, "/acp", &[("X-Secret-Key", "k")])?;
        let mut conn = Conn::websocket(stream);
        ask(
            &mut conn,
            "initialize",
            &json!({ "protocolVersion": 1, "clientCapabilities": {} }),
        )?;
        let session = ask(
            &mut conn,
            "session/new",
            &json!({ "cwd": self.work, "mcpServers": [] }),
        )?;
        session["sessionId"]
            .as_str()
            .context("a session without an id")?
            .clone_into(&mut self.native);
        self.conn = Some(conn);
        Ok(())
    }

    fn clients(&mut self, count: usize, _: Option<&str>) -> anyhow::Result<Vec<Conn>> {
        ensure!(count == 1, "one client only");
        Ok(vec![self.conn.take().context("no session")?])
    }

    fn alone(&self) -> Option<&'static str> {
        Some("the stream belongs to one connection, and ends with it")
    }

    fn prompt(&mut self, conns: &mut [Conn], text: &str) -> anyhow::Result<()> {
        let params = json!({ "sessionId": self.native, "prompt": [{ "type": "text", "text": text }] });
        let request = json!({ "jsonrpc": "2.0", "id": "p", "method": "session/prompt", "params": params });
        conns[0].send(&request.to_string())
    }
}

pub fn measure(dir: &Path, peers: &Path, sizes: &Sizes) -> anyhow::Result<Cells> {
    let binary = program(peers, "@aaif/goose-binary-linux-x64", "bin/goose")?;
    let home = dir.join("goose");
    let work = home.join("work");
    std::fs::create_dir_all(&work)?;
    let model = mock::openai()?;
    let port = free_port()?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut command = Command::new(binary);
    command
        .args(["serve", "--port", &port.to_string()])
        .current_dir(&work);
    command
        .env("HOME", &home)
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("XDG_DATA_HOME");
    let settings = [
        ("GOOSE_PROVIDER", "openai"),
        ("GOOSE_MODEL", "mock"),
        ("GOOSE_MODE", "auto"),
        ("GOOSE_DISABLE_KEYRING", "1"),
        ("GOOSE_DISABLE_SESSION_NAMING", "true"),
        ("GOOSE_SERVER__SECRET_KEY", "k"),
        ("OPENAI_API_KEY", "k"),
    ];
    command
        .envs(settings)
        .env("OPENAI_HOST", format!("http://{model}"));
    let ready = || TcpStream::connect(address).is_ok();
    let (server, started) = Server::start(&mut command, &home.join("log"), ready)?;
    let work = work.to_string_lossy().into_owned();
    let mut peer = Goose {
        server,
        address,
        work,
        native: String::new(),
        conn: None,
    };
    measure_peer(&mut peer, started, sizes)
}
