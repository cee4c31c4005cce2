//! The inference side of the gateway: keys of others, the provider's key, and amounts of connections.

use std::fs;
use std::io::{self, Read, Write};

use super::egress::{UPSTREAM, answer, connect, fetch, get, with_broker};
use super::{Attack, Probe, Try, refused, sample};
use crate::facts::Facts;

pub(super) const ATTACKS: &[(&str, Probe)] = &[("N15", foreign_keys), ("N16", provider_key), ("N17", floods)];

fn with_key(facts: &Facts, key: &str) -> Try {
    let mut stream = connect(facts)?;
    let request = format!(
        "GET /demo/v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let text = answer(&mut *stream, |_| false);
    if text.split_whitespace().nth(1) == Some("200") {
        Ok(sample(text.as_bytes()))
    } else {
        refused(sample(text.as_bytes()))
    }
}

fn foreign_keys(attack: &mut Attack<'_>) {
    let Some(broker) = attack.facts.broker.clone() else {
        return with_broker(attack, |_, _| {});
    };
    let view = attack.facts;
    if attack.facts.outside {
        attack.act("this session's key", || with_key(view, &broker.own_key));
        return;
    }
    attack.act("another session's key", || with_key(view, &broker.foreign_key));
    attack.act("no key", || with_key(view, ""));
    attack.act("a made-up key", || with_key(view, "sk-made-up"));
}

fn provider_key(attack: &mut Attack<'_>) {
    if attack.facts.broker.is_none() {
        return with_broker(attack, |_, _| {});
    }
    attack.effect("show the environment", || {
        let all: Vec<String> = std::env::vars()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        Ok(all.join("\n"))
    });
    for pid in super::other_processes() {
        let path = format!("/proc/{pid}/environ");
        attack.effect(&format!("show {path}"), || super::read(&path));
    }
    for directory in ["/run/lodge", "/etc", "/home/guest", "/tmp"] {
        let Ok(entries) = fs::read_dir(directory) else {
            continue;
        };
        for path in entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.is_file())
            .take(40)
        {
            attack.effect(&format!("show {}", path.display()), || super::read(&path));
        }
    }
    let view = attack.facts;
    for request in [
        "GET /demo/v1/nothing",
        "POST /openai/v1/responses",
        "GET /anthropic/v1/messages",
        "TRACE /",
    ] {
        attack.effect(&format!("show the answer to {request}"), || {
            let mut stream = connect(view)?;
            let key = std::env::var("LODGE_API_KEY").unwrap_or_default();
            let rest = format!("Host: localhost\r\nAuthorization: Bearer {key}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            stream.write_all(format!("{request} HTTP/1.1\r\n{rest}").as_bytes())?;
            Ok(answer(&mut *stream, |_| false))
        });
    }
    // What the observer hides in the gateway must never show; that this probe can show something at all is seen here.
    attack.substitute("show what the victim's process knows", || {
        super::read(format!("/proc/{}/environ", view.victim))
    });
}

fn floods(attack: &mut Attack<'_>) {
    let view = attack.facts;
    if attack.facts.broker.is_none() {
        return with_broker(attack, |_, _| {});
    }
    let mut held = Vec::new();
    let goal = if attack.facts.outside { 8 } else { 10_000 };
    while held.len() < goal {
        match connect(view) {
            Ok(stream) => held.push(stream),
            Err(_) => break,
        }
    }
    attack.amount(
        "idle connections",
        held.len() < goal,
        format!("{} of {goal}", held.len()),
    );
    drop(held);
    super::pause(200);
    let header = endless_header(view);
    let bounded = matches!(header, Ok(sent) if sent < ENDLESS);
    attack.amount(
        "a header without end",
        bounded && !attack.facts.outside,
        format!("{header:?} bytes"),
    );
    let broker = attack.facts.broker.clone().unwrap_or_default();
    let after = fetch(view, &get(&broker.allowed, &broker.allowed), UPSTREAM);
    attack.amount("others are served meanwhile", after.is_ok(), format!("{after:?}"));
}

/// More than a broker can want to read of a head, in bytes; after as much as this it is asked whether it has answered.
const LONG: usize = 4 << 20;
/// More than the buffers of all sockets on the way hold together, in bytes.
const ENDLESS: usize = 64 << 20;

/// How many bytes of one header are taken before an answer comes or the connection ends; at most [`ENDLESS`].
fn endless_header(facts: &Facts) -> io::Result<usize> {
    let mut stream = connect(facts)?;
    stream.write_all(b"CONNECT x:443 HTTP/1.1\r\nX-Long: ")?;
    let chunk = [b'a'; 4096];
    let (mut sent, mut asked) = (0, false);
    while sent < ENDLESS {
        match stream.write(&chunk) {
            Ok(got) => sent += got,
            Err(_) => break,
        }
        if sent >= LONG && !asked {
            asked = true;
            // What is still sent after an answer is thrown away: that it is taken says nothing.
            if stream.read(&mut [0; 64]).is_ok() {
                break;
            }
        }
    }
    Ok(sent)
}
