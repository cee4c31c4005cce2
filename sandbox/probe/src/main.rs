//! The program inside: `lodge-probe run ID FACTS` makes one attack and prints what came of it as one JSON line.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use lodge_probe::attack;
use lodge_probe::facts::Facts;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["run", id, facts] => run(id, facts),
        ["start", request] => start(request),
        // What a setuid copy of this program became.
        ["euid"] => {
            println!("{}", rustix::process::geteuid().as_raw());
            ExitCode::SUCCESS
        }
        // A process that should not outlive its sandbox; it ends by itself in case it does.
        ["sleep", ..] => {
            std::thread::sleep(Duration::from_mins(2));
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("usage: lodge-probe run ID FACTS");
            ExitCode::from(2)
        }
    }
}

/// Starts the sandbox of a request and ends it again: for a host on which that should not be possible.
fn start(request: &str) -> ExitCode {
    match lodge_probe::try_start(request.as_ref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            ExitCode::from(1)
        }
    }
}

fn run(id: &str, facts: &str) -> ExitCode {
    let read = || -> std::io::Result<Facts> { Ok(serde_json::from_slice(&std::fs::read(facts)?)?) };
    let facts = match read() {
        Ok(facts) => facts,
        Err(error) => {
            eprintln!("cannot read {facts}: {error}");
            return ExitCode::from(2);
        }
    };
    let Some(report) = attack::run(id, &facts) else {
        eprintln!("there is no attack {id}");
        return ExitCode::from(2);
    };
    let mut line = serde_json::to_vec(&report).unwrap_or_default();
    line.push(b'\n');
    match std::io::stdout().lock().write_all(&line) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(1),
    }
}
