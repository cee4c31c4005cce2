//! A Lodge that runs, and a browser's way into it.

use super::Programs;
use crate::http::{self, Request};
use crate::load::Conn;
use crate::proc::{self, Server};
use crate::{marker, ws};
use anyhow::{Context, ensure};
use memchr::memmem;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// All four roles.
#[derive(Debug)]
pub struct Lodge {
    pub backend: Server,
    pub runner: Server,
    pub gateway: Server,
    pub history: Server,
    address: SocketAddr,
    cookie: String,
    pub data: PathBuf,
    commands: u32,
}

/// Processes of one session, outside and inside its sandbox.
#[derive(Debug)]
pub struct Guest {
    /// With their names; the harness is not among them.
    pub processes: Vec<(u32, String)>,
}

impl Guest {
    /// Of a session by its id.
    pub fn of(session: &str) -> anyhow::Result<Self> {
        let directory = format!("sessions/{session}");
        let shim = proc::with_argument(&directory)
            .into_iter()
            .find(|(_, name)| name == "lodge-shim")
            .context("the session has no shim")?;
        let mut processes = vec![shim];
        let inside = proc::descendants(processes[0].0);
        processes.extend(inside.into_iter().filter(|(_, name)| name != "lodge-fake-pi"));
        Ok(Self { processes })
    }

    pub fn pids(&self) -> Vec<u32> {
        self.processes.iter().map(|(pid, _)| *pid).collect()
    }
}

/// The processes of one session, by what they are.
#[derive(Debug, Default)]
pub struct Parts {
    pub shim: Vec<u32>,
    /// bwrap and guest init.
    pub init: Vec<u32>,
    /// The harness, its first process first.
    pub harness: Vec<u32>,
}

impl Parts {
    /// Of a session by its id.
    pub fn of(session: &str) -> anyhow::Result<Self> {
        let directory = format!("sessions/{session}");
        let shim = proc::with_argument(&directory)
            .into_iter()
            .find(|(_, name)| name == "lodge-shim")
            .context("the session has no shim")?;
        let mut parts = Self {
            shim: vec![shim.0],
            ..Self::default()
        };
        for (pid, name) in proc::descendants(shim.0) {
            match name.as_str() {
                // Guest init has the name that it has in the sandbox.
                "bwrap" | "init" | "lodge-init" => parts.init.push(pid),
                _ => parts.harness.push(pid),
            }
        }
        Ok(parts)
    }
}

/// When a new session did what, after the command was sent.
#[derive(Debug, Clone, Copy)]
pub struct Creation {
    pub answered: Duration,
    pub first_event: Duration,
    pub ready: Duration,
}

fn directory(path: &Path) -> anyhow::Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("making {}", path.display()))
}

impl Lodge {
    /// With the scripted harness.
    pub fn start(dir: &Path, programs: &Programs) -> anyhow::Result<Self> {
        let harness = dir.join("fake/lodge-fake-pi");
        directory(&dir.join("fake"))?;
        fs::copy(programs.dir.join("lodge-fake-pi"), &harness).context("lodge-fake-pi is not built")?;
        fs::set_permissions(&harness, fs::Permissions::from_mode(0o755))?;
        let data = dir.join("data");
        directory(&data.join("harness"))?;
        Self::serve(data, programs, Some(&harness))
    }

    /// With the harnesses that are installed in another data directory.
    pub fn start_installed(dir: &Path, programs: &Programs, installed: &Path) -> anyhow::Result<Self> {
        let data = dir.join("data");
        directory(&data)?;
        for name in ["harness", "runtime"] {
            std::os::unix::fs::symlink(installed.join(name), data.join(name))?;
        }
        Self::serve(data, programs, None)
    }

    fn serve(data: PathBuf, programs: &Programs, harness: Option<&Path>) -> anyhow::Result<Self> {
        for name in ["", "run", "config", "workspaces/bench", "logs"] {
            directory(&data.join(name))?;
        }
        let start = |name: &str| -> anyhow::Result<Server> {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["role", name, "--data"]).arg(&data);
            if name == "runner" {
                command
                    .arg("--programs")
                    .arg(&programs.dir)
                    .arg("--init")
                    .arg(&programs.init);
                if let Some(harness) = harness {
                    command.arg("--harness").arg(harness);
                }
            }
            let log = data.join("logs").join(format!("{name}.log"));
            command.stderr(File::create(&log)?);
            Server::start_ready(&mut command).with_context(|| proc::tail(&log))
        };
        let gateway = start("gateway")?;
        let history = start("history")?;
        let runner = start("runner")?;
        let backend = start("backend")?;
        let address = backend.said.parse().context("the backend's address")?;
        let mut lodge = Self {
            backend,
            runner,
            gateway,
            history,
            address,
            cookie: String::new(),
            data,
            commands: 0,
        };
        lodge.log_in()?;
        Ok(lodge)
    }

    fn log_in(&mut self) -> anyhow::Result<()> {
        let socket = self.data.join("run/backend-control.sock");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let link = runtime.block_on(lodge_backend::control::login_link(&socket, None))?;
        let token = link
            .url
            .split_once("#token=")
            .context("a link without a token")?
            .1;
        let body = json!({ "token": token }).to_string();
        let origin = self.origin();
        let headers = [("Origin", origin.as_str())];
        let answer = http::call(
            self.address,
            &Request::post("/api/v1/login", &body).with(&headers),
        )?;
        ensure!(answer.status == 200, "the login: {}", answer.json()?);
        let cookie = answer.header("set-cookie").context("a login without a cookie")?;
        cookie
            .split(';')
            .next()
            .unwrap_or_default()
            .clone_into(&mut self.cookie);
        Ok(())
    }

    fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A WebSocket that was welcomed.
    pub fn browser(&self) -> anyhow::Result<Conn> {
        let origin = self.origin();
        let headers = [("Origin", origin.as_str()), ("Cookie", self.cookie.as_str())];
        let answer = http::call(self.address, &Request::get("/api/v1/page-token").with(&headers))?;
        let token = answer.json()?["token"]
            .as_str()
            .context("no page token")?
            .to_owned();
        let protocols = format!("lodge.v1, token.{token}");
        let headers = [
            headers[0],
            headers[1],
            ("Sec-WebSocket-Protocol", protocols.as_str()),
        ];
        let mut conn = Conn::websocket(ws::connect(self.address, "/api/v1/ws", &headers)?);
        conn.wait_for(|text| memmem::find(text, b"\"welcome\"").map(drop))?;
        Ok(conn)
    }

    /// Clients that show a session.
    pub fn viewers(&self, session: &str, count: usize) -> anyhow::Result<Vec<Conn>> {
        let view = |_| {
            let mut conn = self.browser()?;
            show(&mut conn, session, None)?;
            conn.wait_for(|text| memmem::find(text, b"\"subscribed\"").map(drop))?;
            Ok(conn)
        };
        (0..count).map(view).collect()
    }

    /// Sends a command, and gives its id.
    pub fn send(&mut self, conn: &mut Conn, mut command: Value) -> anyhow::Result<String> {
        self.commands += 1;
        let id = format!("bench-{}", self.commands);
        command["id"] = id.clone().into();
        command["client_id"] = id.clone().into();
        conn.send(&command.to_string())?;
        Ok(id)
    }

    /// Sends a command and waits for its result.
    pub fn call(&mut self, conn: &mut Conn, command: Value) -> anyhow::Result<Value> {
        let id = self.send(conn, command)?;
        let mut response = conn.wait_for(|text| response_to(text, &id))?;
        ensure!(
            response.get("error").is_none(),
            "a command was refused: {response}"
        );
        Ok(response["ok"].take())
    }

    pub fn prompt(&mut self, conn: &mut Conn, session: &str, text: &str) -> anyhow::Result<()> {
        let parts = json!([{ "type": "text", "text": text }]);
        self.send(
            conn,
            json!({ "session_id": session, "cmd": "prompt", "parts": parts }),
        )
        .map(drop)
    }

    /// A new session, when its harness waits for a prompt.
    pub fn create(&mut self) -> anyhow::Result<(String, Creation)> {
        self.create_of("pi")
    }

    /// The same, of any harness that is installed.
    pub fn create_of(&mut self, harness: &str) -> anyhow::Result<(String, Creation)> {
        let mut conn = self.browser()?;
        let begun = Instant::now();
        let command = json!({ "cmd": "session.create", "harness": harness, "workspace": "bench" });
        let result = self.call(&mut conn, command)?;
        let answered = begun.elapsed();
        let session = result["id"]
            .as_str()
            .with_context(|| format!("a session without an id: {result}"))?
            .to_owned();
        show(&mut conn, &session, None)?;
        let mut ready = None;
        let mut watch = |text: &[u8]| {
            ready = ready.or_else(|| is_ready(text).then(|| begun.elapsed()));
            memmem::find(text, b"\"subscribed\"").map(drop)
        };
        conn.wait_for(&mut watch)?;
        let first_event = begun.elapsed();
        let ready = match ready {
            Some(ready) => ready,
            None => conn.wait_for(|text| is_ready(text).then(|| begun.elapsed()))?,
        };
        Ok((
            session,
            Creation {
                answered,
                first_event,
                ready,
            },
        ))
    }

    /// How many marked events are in the messages that history gives page by page.
    pub fn in_history(&mut self, session: &str) -> anyhow::Result<u64> {
        let mut conn = self.browser()?;
        let mut found = BTreeSet::new();
        let mut cursor = Value::Null;
        loop {
            let mut command = json!({ "session_id": session, "cmd": "get_messages", "limit": 20 });
            if !cursor.is_null() {
                command["cursor"] = cursor;
            }
            let mut page = self.call(&mut conn, command)?;
            marker::scan(page["messages"].to_string().as_bytes(), |_, index| {
                found.insert(index);
            });
            cursor = page["next_cursor"].take();
            if cursor.is_null() {
                return Ok(found.len() as u64);
            }
        }
    }

    /// Ends a session and forgets it.
    pub fn delete(&mut self, session: &str) -> anyhow::Result<()> {
        let mut conn = self.browser()?;
        self.call(
            &mut conn,
            json!({ "session_id": session, "cmd": "session.delete" }),
        )
        .map(drop)
    }
}

impl Drop for Lodge {
    fn drop(&mut self) {
        self.backend.stop(Duration::from_secs(3));
        // It ends its sessions first.
        self.runner.stop(Duration::from_secs(10));
        self.history.stop(Duration::from_secs(3));
        self.gateway.stop(Duration::from_secs(3));
    }
}

/// Says hello: the client shows this session and stands at `cursor`.
pub fn show(conn: &mut Conn, session: &str, cursor: Option<&str>) -> anyhow::Result<()> {
    let mut cursors = serde_json::Map::new();
    cursors.insert(session.to_owned(), cursor.map_or(Value::Null, Into::into));
    conn.send(&json!({ "hello": { "version": 1, "cursors": cursors } }).to_string())
}

fn response_to(text: &[u8], id: &str) -> Option<Value> {
    memmem::find(text, id.as_bytes())?;
    let mut frame: Value = serde_json::from_slice(text).ok()?;
    (frame["response"]["id"] == id).then(|| frame["response"].take())
}

/// Whether a frame says that the session waits for a prompt.
fn is_ready(text: &[u8]) -> bool {
    let Ok(frame) = serde_json::from_slice::<Value>(text) else {
        return false;
    };
    let (event, state) = (&frame["event"], &frame["control"]["state"]);
    (event["event"] == "status" && event["status"] == "idle") || state["session"]["status"] == "idle"
}
