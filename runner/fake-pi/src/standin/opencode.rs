//! opencode's server: HTTP with one stream of events. Lines that go wrong are data of that stream.

use super::lines::text;
use super::{Odd, era, odd};
use crate::script::Directive;
use serde_json::{Value, json};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

const SESSION: &str = "ses_standin";
/// Longest head and body of a request that is read, in bytes.
const MAX_REQUEST: u64 = 1 << 20;

#[derive(Debug, Default)]
struct Server {
    /// Whoever listens to events.
    stream: Option<TcpStream>,
    era: u128,
    turns: u64,
}

/// One connection after the other: the bridge's requests are short.
pub(super) fn serve() -> io::Result<i32> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("opencode server listening on http://{}", listener.local_addr()?);
    let mut server = Server {
        era: era(),
        ..Server::default()
    };
    loop {
        let (stream, _) = listener.accept()?;
        let Some((head, body)) = read(&stream)? else {
            continue;
        };
        if let Some(code) = server.request(stream, &head, &body)? {
            return Ok(code);
        }
    }
}

/// First line and body of a request.
fn read(stream: &TcpStream) -> io::Result<Option<(String, Value)>> {
    let mut reader = BufReader::new(stream.take(MAX_REQUEST));
    let mut head = String::new();
    if reader.read_line(&mut head)? == 0 {
        return Ok(None);
    }
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        let line = line.to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or_default();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some((head, serde_json::from_slice(&body).unwrap_or_default())))
}

impl Server {
    fn request(&mut self, mut stream: TcpStream, head: &str, body: &Value) -> io::Result<Option<i32>> {
        let mut words = head.split_whitespace();
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if path == "/event" {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")?;
            self.stream = Some(stream);
            return Ok(None);
        }
        let prompt = path.ends_with("/prompt_async");
        let answer = match (method, path) {
            ("POST", "/session") => json!({ "id": SESSION }),
            ("GET", path) if path == format!("/session/{SESSION}") => json!({ "id": SESSION }),
            ("GET", "/session/status") => json!({}),
            _ => json!([]),
        };
        let answer = answer.to_string();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            answer.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(answer.as_bytes())?;
        drop(stream);
        if prompt {
            return self.turn(&text(&body["parts"]));
        }
        Ok(None)
    }

    fn event(&mut self, kind: &str, mut properties: Value) -> io::Result<()> {
        properties["sessionID"] = SESSION.into();
        self.data(
            json!({ "type": kind, "properties": properties })
                .to_string()
                .as_bytes(),
        )
    }

    fn data(&mut self, data: &[u8]) -> io::Result<()> {
        let Some(stream) = &mut self.stream else {
            return Ok(());
        };
        stream.write_all(b"data: ")?;
        stream.write_all(data)?;
        stream.write_all(b"\n\n")
    }

    fn turn(&mut self, prompt: &str) -> io::Result<Option<i32>> {
        self.turns += 1;
        // They rise with time, and go on rising in the next process.
        let era = self.era;
        let id = |number: u64| format!("msg_{era:016}_{number:06}");
        let (user, answer) = (id(self.turns * 2), id(self.turns * 2 + 1));
        self.event(
            "message.updated",
            json!({ "info": { "id": user, "sessionID": SESSION, "role": "user" } }),
        )?;
        self.part(&user, prompt, 0)?;
        self.event("session.status", json!({ "status": { "type": "busy" } }))?;
        self.assistant(&answer, &user, &json!({ "created": 1 }))?;
        for (index, line) in prompt.lines().enumerate() {
            let directive = Directive::parse(line);
            for odd in odd(&directive) {
                match odd {
                    Odd::Line(line) => self.data(&line)?,
                    Odd::Exit(code) => return Ok(Some(code)),
                    Odd::Torn(part, code) => {
                        if let Some(stream) = &mut self.stream {
                            stream.write_all(b"data: ")?;
                            stream.write_all(&part)?;
                        }
                        return Ok(Some(code));
                    }
                }
            }
            if let Directive::Say { text } = directive {
                self.part(&answer, &text, index)?;
            }
        }
        self.assistant(&answer, &user, &json!({ "created": 1, "completed": 2 }))?;
        self.event("session.status", json!({ "status": { "type": "idle" } }))?;
        Ok(None)
    }

    fn part(&mut self, message: &str, text: &str, index: usize) -> io::Result<()> {
        let part = json!({
            "id": format!("prt_{message}_{index}"), "type": "text", "text": text, "sessionID": SESSION,
            "messageID": message,
        });
        self.event("message.part.updated", json!({ "part": part }))
    }

    fn assistant(&mut self, id: &str, parent: &str, time: &Value) -> io::Result<()> {
        let mut info = json!({
            "id": id, "sessionID": SESSION, "role": "assistant", "parentID": parent, "providerID": "lodge-demo",
            "modelID": "demo", "time": time,
        });
        if time.get("completed").is_some() {
            info["finish"] = "stop".into();
        }
        self.event("message.updated", json!({ "info": info }))
    }
}
