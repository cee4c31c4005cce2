//! What peers talk to in place of an agent or a model: both stream markers on the directive `stamp N MICROSECONDS`.

use crate::clock::{now_ns, sleep_until};
use crate::marker;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// The prompt that asks for `events` markers, one each `period`; zero is as fast as possible.
pub fn directive(events: u64, period: Duration) -> String {
    format!("stamp {events} {}", period.as_micros())
}

/// The last directive in a text.
fn find_directive(text: &str) -> Option<(u64, u64)> {
    let at = text.rfind("stamp ")?;
    let mut words = text[at + 6..].split(|c: char| !c.is_ascii_digit());
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

/// Calls `emit` with each marker's text at its time.
fn stream(
    (events, micros): (u64, u64),
    mut emit: impl FnMut(&str) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let begun = now_ns();
    let mut text = String::new();
    for index in 0..events {
        sleep_until(begun + index * micros * 1_000);
        marker::write(&mut text, index);
        emit(&text)?;
    }
    Ok(())
}

/// An ACP agent on standard input and output.
pub fn acp() -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let request: Value = serde_json::from_str(&line?)?;
        let Some(id) = request.get("id").filter(|_| request.get("method").is_some()) else {
            continue;
        };
        let result = match request["method"].as_str().unwrap_or_default() {
            "initialize" => json!({ "protocolVersion": 1, "agentCapabilities": {}, "authMethods": [] }),
            "session/new" => json!({ "sessionId": "mock-session" }),
            "session/prompt" => {
                let text = request["params"]["prompt"].to_string();
                stream(find_directive(&text).unwrap_or((1, 0)), |text| {
                    let line = format!(
                        "{{\"jsonrpc\":\"2.0\",\"method\":\"session/update\",\"params\":{{\"sessionId\":\
                         \"mock-session\",\"update\":{{\"sessionUpdate\":\"agent_message_chunk\",\
                         \"content\":{{\"type\":\"text\",\"text\":\"{text}\"}}}}}}}}\n"
                    );
                    out.write_all(line.as_bytes())?;
                    out.flush()
                })?;
                json!({ "stopReason": "end_turn" })
            }
            _ => json!({}),
        };
        writeln!(out, "{}", json!({ "jsonrpc": "2.0", "id": id, "result": result }))?;
        out.flush()?;
    }
    Ok(())
}

/// A model that speaks OpenAI's chat completions, on a thread for each connection. It lives as long as the process.
pub fn openai() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                // A peer that goes away in the middle is its own affair.
                let _ = converse(stream);
            });
        }
    });
    Ok(address)
}

fn converse(stream: TcpStream) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut out = stream.try_clone()?;
    let mut input = BufReader::new(stream);
    loop {
        let mut length = 0;
        let mut first = String::new();
        if input.read_line(&mut first)? == 0 {
            return Ok(());
        }
        loop {
            let mut line = String::new();
            input.read_line(&mut line)?;
            if line.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse()?;
            }
        }
        let mut body = vec![0; length];
        input.read_exact(&mut body)?;
        answer(
            &mut out,
            &first,
            &serde_json::from_slice(&body).unwrap_or_default(),
        )?;
    }
}

fn answer(out: &mut TcpStream, first: &str, request: &Value) -> anyhow::Result<()> {
    if first.starts_with("GET") {
        return plain(
            out,
            &json!({ "object": "list", "data": [{ "id": "mock", "object": "model" }] }),
        );
    }
    // Agents also ask for titles and the like: those requests have no tools.
    let tools = request
        .get("tools")
        .and_then(Value::as_array)
        .is_some_and(|tools| !tools.is_empty());
    let last = request["messages"].as_array().and_then(|messages| {
        messages
            .iter()
            .rev()
            .find(|message| message["role"] == "user")
            .map(ToString::to_string)
    });
    let asked = last.as_deref().and_then(find_directive).filter(|_| tools);
    if request["stream"] != true {
        let message = json!({ "role": "assistant", "content": "ok" });
        let choices = json!([{ "index": 0, "finish_reason": "stop", "message": message }]);
        return plain(
            out,
            &json!({ "id": "m", "object": "chat.completion", "created": 1, "model": "mock",
            "choices": choices, "usage": usage() }),
        );
    }
    out.write_all(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
    )?;
    match asked {
        Some(asked) => stream(asked, |text| chunk(out, &delta(text)))?,
        None => chunk(out, &delta("ok"))?,
    }
    let choices = json!([{ "index": 0, "delta": {}, "finish_reason": "stop" }]);
    let end = json!({ "id": "m", "object": "chat.completion.chunk", "created": 1, "model": "mock",
        "choices": choices, "usage": usage() });
    chunk(out, &end.to_string())?;
    chunk(out, "[DONE]")?;
    out.write_all(b"0\r\n\r\n")?;
    Ok(())
}

fn usage() -> Value {
    json!({ "prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2 })
}

fn plain(out: &mut TcpStream, body: &Value) -> anyhow::Result<()> {
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    out.write_all((head + &body).as_bytes())?;
    Ok(())
}

fn delta(text: &str) -> String {
    format!(
        "{{\"id\":\"m\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"mock\",\"choices\":\
         [{{\"index\":0,\"delta\":{{\"role\":\"assistant\",\"content\":\"{text}\"}},\"finish_reason\":null}}]}}"
    )
}

fn chunk(out: &mut TcpStream, data: &str) -> std::io::Result<()> {
    let event = format!("data: {data}\n\n");
    out.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_directive_counts() {
        assert_eq!(
            find_directive("title: stamp 1 2\\n stamp 300 1000\"}"),
            Some((300, 1000))
        );
        assert_eq!(find_directive("hello"), None);
        let text = directive(5, Duration::from_millis(20));
        assert_eq!(find_directive(&text), Some((5, 20_000)));
    }
}
