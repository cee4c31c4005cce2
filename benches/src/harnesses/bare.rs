//! Harnesses without Lodge: each spoken to directly, in its own words.

use super::latency::FIRST;
use super::launched::Launched;
use crate::clock::now_ns;
use crate::http::{self, Dechunk, Request};
use crate::proc;
use anyhow::{Context, bail, ensure};
use memchr::memmem;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Longest silence of a harness.
const PATIENCE: Duration = Duration::from_mins(1);

/// A harness that runs on its own.
#[derive(Debug)]
pub(super) struct Bare {
    _server: proc::Server,
    stdin: ChildStdin,
    /// Lines and the moment at which each was read.
    lines: Receiver<(u64, Vec<u8>)>,
    wire: Wire,
    requests: u32,
}

/// How it is spoken to.
#[derive(Debug)]
enum Wire {
    Pi,
    Codex {
        thread: String,
    },
    Claude,
    Acp {
        session: String,
    },
    OpenCode {
        address: SocketAddr,
        login: String,
        session: String,
    },
}

impl Bare {
    /// Starts it and opens a conversation.
    pub(super) fn start(harness: &str, launched: &Launched, log: &Path) -> anyhow::Result<Self> {
        let mut command = launched.command();
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(log)?);
        let mut child = command
            .spawn()
            .with_context(|| format!("starting {}", launched.argv[0]))?;
        let stdin = child.stdin.take().context("no standard input")?;
        let stdout = child.stdout.take().context("no standard output")?;
        let server = proc::Server::of(child);
        let (sender, lines) = channel();
        std::thread::spawn(move || read_lines(stdout, &sender));
        let mut bare = Self {
            _server: server,
            stdin,
            lines,
            wire: Wire::Pi,
            requests: 0,
        };
        bare.open(harness, launched)
            .with_context(|| format!("its last words: {}", proc::tail(log)))?;
        Ok(bare)
    }

    fn open(&mut self, harness: &str, launched: &Launched) -> anyhow::Result<()> {
        let workspace = launched.workspace.to_string_lossy().into_owned();
        let info = json!({ "name": "bench", "title": "Bench", "version": "1" });
        self.wire = match harness {
            "pi" => Wire::Pi,
            "claude" => {
                let request = json!({ "subtype": "initialize" });
                self.send(&json!({ "type": "control_request", "request_id": "open", "request": request }))?;
                self.until(|line| has(line, b"\"control_response\""))?;
                Wire::Claude
            }
            "codex" => {
                let capabilities = json!({ "experimentalApi": true, "requestAttestation": false });
                self.call(
                    "initialize",
                    &json!({ "clientInfo": info, "capabilities": capabilities }),
                )?;
                self.send(&json!({ "method": "initialized" }))?;
                let opened = self.call("thread/start", &json!({ "cwd": workspace }))?;
                let thread = opened.pointer("/thread/id").and_then(Value::as_str);
                Wire::Codex {
                    thread: thread.context("a thread without an id")?.to_owned(),
                }
            }
            "gemini" => {
                let capabilities =
                    json!({ "fs": { "readTextFile": false, "writeTextFile": false }, "terminal": false });
                let hello =
                    json!({ "protocolVersion": 1, "clientInfo": info, "clientCapabilities": capabilities });
                self.call("initialize", &hello)?;
                let opened = self.call("session/new", &json!({ "cwd": workspace, "mcpServers": [] }))?;
                let session = opened.get("sessionId").and_then(Value::as_str);
                Wire::Acp {
                    session: session.context("a session without an id")?.to_owned(),
                }
            }
            "opencode" => self.open_server(launched)?,
            other => bail!("nobody here speaks to {other}"),
        };
        Ok(())
    }

    fn open_server(&mut self, launched: &Launched) -> anyhow::Result<Wire> {
        let line = self.until(|line| has(line, b"listening on http://"))?.1;
        let text = String::from_utf8_lossy(&line).into_owned();
        let address = text.rsplit("http://").next().unwrap_or_default();
        let address: SocketAddr = address.trim().parse().with_context(|| text.clone())?;
        let of = |name: &str| launched.variable(name).unwrap_or_default();
        let login = base64(&format!(
            "{}:{}",
            of("OPENCODE_SERVER_USERNAME"),
            of("OPENCODE_SERVER_PASSWORD")
        ));
        let login = format!("Basic {login}");
        let headers = [("Authorization", login.as_str())];
        let answer = http::call(
            address,
            &Request::post("/session", "{\"title\":\"bench\"}").with(&headers),
        )?;
        let session = answer.json()?["id"]
            .as_str()
            .context("a session without an id")?
            .to_owned();
        let mut stream = http::open(address, &Request::get("/event").with(&headers).timeout(PATIENCE))?;
        let (status, head) = http::read_head(&mut stream)?;
        ensure!(status == 200, "no events: {head:.200}");
        let (sender, lines) = channel();
        self.lines = lines;
        std::thread::spawn(move || read_events(stream, &sender));
        Ok(Wire::OpenCode {
            address,
            login,
            session,
        })
    }

    /// One turn: from the prompt to the first piece of the answer's text, in nanoseconds.
    pub(super) fn turn(&mut self, text: &str) -> anyhow::Result<u64> {
        let begun = now_ns();
        self.prompt(text)?;
        let mut first = None;
        loop {
            let (read, line) = self.until(|_| true)?;
            let (delta, end) = self.marks();
            if first.is_none() && has(&line, FIRST) && has(&line, delta) {
                first = Some(read.saturating_sub(begun));
            }
            if has(&line, end) {
                return first.with_context(|| {
                    let line = String::from_utf8_lossy(&line);
                    format!("the turn ended without any text: {line:.600}")
                });
            }
        }
    }

    fn prompt(&mut self, text: &str) -> anyhow::Result<()> {
        self.requests += 1;
        let id = self.requests;
        let content = json!([{ "type": "text", "text": text }]);
        let line = match &self.wire {
            Wire::Pi => json!({ "id": id.to_string(), "type": "prompt", "message": text }),
            Wire::Codex { thread } => {
                json!({ "id": id, "method": "turn/start", "params": { "threadId": thread, "input": content } })
            }
            Wire::Claude => {
                let message = json!({ "role": "user", "content": content });
                json!({ "type": "user", "message": message, "parent_tool_use_id": null })
            }
            Wire::Acp { session } => {
                let params = json!({ "sessionId": session, "prompt": content });
                json!({ "jsonrpc": "2.0", "id": id, "method": "session/prompt", "params": params })
            }
            Wire::OpenCode {
                address,
                login,
                session,
            } => {
                let body = json!({ "parts": content }).to_string();
                let path = format!("/session/{session}/prompt_async");
                let headers = [("Authorization", login.as_str())];
                // Its answer has neither a body nor a length; the events tell.
                let mut stream = http::open(*address, &Request::post(&path, &body).with(&headers))?;
                let (status, head) = http::read_head(&mut stream)?;
                ensure!(status < 300, "the prompt was refused: {head:.200}");
                return Ok(());
            }
        };
        self.send(&line)
    }

    /// What is in the first piece of text, and in the end of a turn.
    fn marks(&self) -> (&'static [u8], &'static [u8]) {
        match &self.wire {
            Wire::Pi => (b"\"text_delta\"", b"{\"type\":\"agent_end\""),
            Wire::Codex { .. } => (b"\"item/agentMessage/delta\"", b"\"turn/completed\""),
            Wire::Claude => (b"\"text_delta\"", b"\"type\":\"result\""),
            Wire::Acp { .. } => (b"\"agent_message_chunk\"", b"\"stopReason\""),
            Wire::OpenCode { .. } => (b"\"message.part.delta\"", b"\"session.idle\""),
        }
    }

    /// A JSON-RPC request and its result.
    fn call(&mut self, method: &str, params: &Value) -> anyhow::Result<Value> {
        self.requests += 1;
        let id = self.requests;
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }))?;
        loop {
            let (_, line) = self.until(|_| true)?;
            let Ok(mut answer) = serde_json::from_slice::<Value>(&line) else {
                continue;
            };
            if answer.get("id") == Some(&id.into()) && answer.get("method").is_none() {
                ensure!(answer.get("error").is_none(), "{method}: {answer}");
                return Ok(answer["result"].take());
            }
        }
    }

    fn send(&mut self, line: &Value) -> anyhow::Result<()> {
        self.stdin.write_all(format!("{line}\n").as_bytes())?;
        Ok(self.stdin.flush()?)
    }

    fn until(&mut self, mut want: impl FnMut(&[u8]) -> bool) -> anyhow::Result<(u64, Vec<u8>)> {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok((read, line)) if want(&line) => return Ok((read, line)),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => bail!("it said nothing for {} s", PATIENCE.as_secs()),
                Err(RecvTimeoutError::Disconnected) => bail!("it ended"),
            }
        }
    }
}

fn has(line: &[u8], mark: &[u8]) -> bool {
    memmem::find(line, mark).is_some()
}

fn read_lines(from: impl Read, to: &Sender<(u64, Vec<u8>)>) {
    let mut from = BufReader::with_capacity(256 * 1024, from);
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
        if to.send((now_ns(), std::mem::take(&mut line))).is_err() {
            return;
        }
    }
}

/// Lines of server-sent events.
fn read_events(mut from: impl Read, to: &Sender<(u64, Vec<u8>)>) {
    let (mut dechunk, mut plain) = (Dechunk::default(), Vec::new());
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let read = now_ns();
        dechunk.push(&buffer[..count], &mut plain);
        while let Some(at) = memchr::memchr(b'\n', &plain) {
            let line: Vec<u8> = plain.drain(..=at).collect();
            if to.send((read, line)).is_err() {
                return;
            }
        }
    }
}

/// As `Authorization` wants it.
fn base64(text: &str) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let value = chunk
            .iter()
            .fold(0u32, |value, byte| value << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let letter = LETTERS[(value >> (18 - 6 * at) & 63) as usize];
            out.push(if at <= chunk.len() {
                char::from(letter)
            } else {
                '='
            });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn a_login_is_encoded_with_its_padding() {
        assert_eq!(base64("opencode:abc"), "b3BlbmNvZGU6YWJj");
        assert_eq!(base64("a"), "YQ==");
        assert_eq!(base64("ab"), "YWI=");
    }
}
