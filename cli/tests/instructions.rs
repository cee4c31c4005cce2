//! A project's text for agents reaches the model through every harness, also those that trust the workspace with nothing.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Lodge, repository, stderr};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};

const TEXT: &str = "the password of this project is mellon";

/// A provider that keeps what it is asked and refuses everything.
fn provider() -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = Arc::default();
    let keep = Arc::clone(&heard);
    // It ends with the test's process.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let keep = Arc::clone(&keep);
            std::thread::spawn(move || refuse(stream, &keep));
        }
    });
    (port, heard)
}

fn refuse(stream: TcpStream, heard: &Mutex<Vec<String>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    heard
        .lock()
        .unwrap()
        .push(String::from_utf8_lossy(&body).into_owned());
    let answer = r#"{"error":{"type":"invalid_request_error","message":"no"}}"#;
    let head = "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\n";
    let length = answer.len();
    write!(reader.get_mut(), "{head}content-length: {length}\r\n\r\n{answer}").ok()
}

/// What the model is asked when `harness` works where there is this file.
fn asked(harness: &str, kind: &str, file: &str) {
    let lodge = Lodge::new();
    let cache = repository().join("target/test-data/harness-cache");
    lodge_runner::harness::install::testing::share(&cache, &lodge.data(), harness).unwrap();
    let (port, heard) = provider();
    let (config, key) = (lodge.data().join("config"), lodge.root().join("key"));
    std::fs::create_dir_all(&config).unwrap();
    std::fs::write(&key, "no-secret").unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let (path, key) = (
        if kind == "openai_compatible" { "/v1" } else { "" },
        key.display(),
    );
    let responses = if kind == "openai_compatible" {
        "responses = true\n"
    } else {
        ""
    };
    let text = format!(
        "[[provider]]\nname = \"p\"\nkind = \"{kind}\"\nbase_url = \"http://127.0.0.1:{port}{path}\"\nkey_file = \"{key}\"\n\
         {responses}models = [{{ id = \"gemini-2.5-pro\" }}]\n"
    );
    std::fs::write(config.join("lodge.toml"), text).unwrap();
    let workspace = lodge.folder("work");
    std::fs::write(workspace.join(file), TEXT).unwrap();
    let folder = workspace.to_str().unwrap();
    let output = lodge.run(&["chat", "--harness", harness, "--workspace", folder, "hello"]);
    assert!(!output.status.success(), "every request was refused");
    let heard = heard.lock().unwrap();
    assert!(!heard.is_empty(), "no model was asked: {}", stderr(&output));
    assert!(
        heard.iter().any(|body| body.contains(TEXT)),
        "{harness} does not say what is in {file}"
    );
}

#[test]
fn pi_reads_it() {
    asked("pi", "openai_compatible", "AGENTS.md");
}

#[test]
fn codex_reads_it() {
    asked("codex", "openai_compatible", "AGENTS.md");
}

#[test]
fn claude_reads_its_own_and_that_of_all() {
    asked("claude", "anthropic", "CLAUDE.md");
    asked("claude", "anthropic", "AGENTS.md");
}

#[test]
fn gemini_reads_its_own_and_that_of_all() {
    asked("gemini", "gemini", "GEMINI.md");
    asked("gemini", "gemini", "AGENTS.md");
}

#[test]
fn opencode_reads_it() {
    asked("opencode", "openai_compatible", "AGENTS.md");
    asked("opencode-acp", "openai_compatible", "AGENTS.md");
}
