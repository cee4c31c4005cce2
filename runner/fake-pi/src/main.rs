//! A harness that speaks pi's RPC wire (0.84.4 and later) and does what the prompt says, the same every time. Started as
//! another harness is, it speaks the least of that one's wire (see [`standin`]).
//!
//! Each line of a prompt is one directive (see [`script`]); a line that is none is repeated word by word. What it
//! receives and says is appended to a truth file, so that a test can check that every input arrived exactly once
//! and that nothing it said was lost: `$FAKE_PI_TRUTH`, else `truth.jsonl` in `$HOME`.

mod conversation;
mod fake;
mod requests;
mod script;
mod standin;
mod truth;
mod wire;

use std::io::BufRead as _;
use std::sync::mpsc;

/// A line of standard input, or `None` at its end.
type Line = Option<Vec<u8>>;

/// Exit status where standard input or output fail.
const BROKEN: i32 = 74;

fn main() {
    let (sender, inbox) = mpsc::channel();
    std::thread::spawn(move || read_lines(&sender));
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--version") {
        println!("0.87.1");
        return;
    }
    if let Some(wire) = standin::Wire::of(&arguments) {
        end(wire.serve(&inbox));
    }
    end(fake::Fake::start(arguments, inbox).and_then(|mut fake| fake.serve()))
}

fn end(served: std::io::Result<i32>) -> ! {
    match served {
        Ok(code) => std::process::exit(code),
        Err(error) => {
            eprintln!("lodge-fake-pi: {error}");
            std::process::exit(BROKEN);
        }
    }
}

fn read_lines(sender: &mpsc::Sender<Line>) {
    let mut input = std::io::stdin().lock();
    loop {
        let mut line = Vec::new();
        match input.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => {
                let _ = sender.send(None);
                return;
            }
            Ok(_) => {
                if sender.send(Some(line)).is_err() {
                    return;
                }
            }
        }
    }
}
