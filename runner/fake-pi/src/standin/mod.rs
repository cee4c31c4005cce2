//! The least of the other wires: a start, turns that say what the prompt says, and what goes wrong in them.
//!
//! Which one it is, the arguments tell: those that Lodge starts each harness with. A prompt's lines are the same
//! directives as pi's; those that misbehave are known to every wire.

mod lines;
mod opencode;

use crate::Line;
use crate::script::Directive;
use std::io::{self, Write};
use std::sync::mpsc::Receiver;
use std::time::SystemTime;

/// A wire besides pi's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    Codex,
    Claude,
    Acp,
    OpenCode,
}

impl Wire {
    /// The wire that these arguments ask for; `None` is pi's.
    pub(crate) fn of(arguments: &[String]) -> Option<Self> {
        let asks = |word: &str| arguments.iter().any(|argument| argument == word);
        if asks("app-server") {
            Some(Self::Codex)
        } else if asks("--input-format") {
            Some(Self::Claude)
        } else if asks("--acp") {
            Some(Self::Acp)
        } else if asks("serve") {
            Some(Self::OpenCode)
        } else {
            None
        }
    }

    /// Serves until its input ends or a prompt ends the process; answers its exit status.
    pub(crate) fn serve(self, inbox: &Receiver<Line>) -> io::Result<i32> {
        match self {
            Self::OpenCode => opencode::serve(),
            Self::Codex | Self::Claude | Self::Acp => lines::serve(self, inbox),
        }
    }
}

/// What tells this process from those before it: ids may not come again, and have to rise. Milliseconds.
pub(crate) fn era() -> u128 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap_or_default().as_millis()
}

/// Lines that are JSON, and nothing that any wire knows.
pub(crate) const SHAPES: [&str; 14] = [
    "[]",
    "42",
    "null",
    "true",
    "\"text\"",
    "{}",
    "{\"type\":7}",
    "{\"type\":null,\"message\":[]}",
    "{\"method\":{},\"params\":3}",
    "{\"id\":{\"a\":1},\"result\":[[]]}",
    "{\"jsonrpc\":2,\"id\":null,\"error\":\"no\"}",
    "{\"method\":\"session/update\",\"params\":{\"update\":[]}}",
    "{\"method\":\"item/started\",\"params\":{\"item\":{\"type\":[]}}}",
    "{\"type\":\"response\",\"id\":[],\"status\":\"many\"}",
];

/// What of a directive concerns the stream of bytes.
pub(crate) enum Odd {
    /// One line, without its end.
    Line(Vec<u8>),
    /// The beginning of a line, after which the process ends.
    Torn(Vec<u8>, i32),
    Exit(i32),
}

/// What goes wrong at this directive; nothing where it says something.
pub(crate) fn odd(directive: &Directive) -> Vec<Odd> {
    match directive {
        Directive::Garbage => vec![Odd::Line(b"this is no JSON {".to_vec())],
        Directive::InvalidUtf8 => vec![Odd::Line(b"{\"type\":\"\xff\xfe\"}".to_vec())],
        Directive::Shapes => SHAPES
            .iter()
            .map(|line| Odd::Line(line.as_bytes().to_vec()))
            .collect(),
        Directive::BigLine { bytes } => vec![Odd::Line(big_line(*bytes))],
        Directive::Torn { code } => vec![Odd::Torn(b"{\"type\":\"mess".to_vec(), *code)],
        Directive::Exit { code } => vec![Odd::Exit(*code)],
        _ => Vec::new(),
    }
}

/// One line of this length that no wire knows.
fn big_line(bytes: usize) -> Vec<u8> {
    let (head, tail) = ("{\"x\":\"", "\"}");
    let mut line = head.as_bytes().to_vec();
    line.resize(bytes.saturating_sub(tail.len()).max(head.len()), b'x');
    line.extend_from_slice(tail.as_bytes());
    line
}

/// Writes what goes wrong; the exit status where the process is to end.
pub(crate) fn misbehave(out: &mut impl Write, odd: &Odd) -> io::Result<Option<i32>> {
    match odd {
        Odd::Line(line) => {
            out.write_all(line)?;
            out.write_all(b"\n")?;
            Ok(None)
        }
        Odd::Torn(part, code) => {
            out.write_all(part)?;
            out.flush()?;
            Ok(Some(*code))
        }
        Odd::Exit(code) => Ok(Some(*code)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_tell_the_wire() {
        let of = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            Wire::of(&words)
        };
        assert_eq!(of(&["app-server"]), Some(Wire::Codex));
        assert_eq!(of(&["-p", "--input-format", "stream-json"]), Some(Wire::Claude));
        assert_eq!(of(&["--acp"]), Some(Wire::Acp));
        assert_eq!(of(&["serve", "--port", "0"]), Some(Wire::OpenCode));
        assert_eq!(of(&["--mode", "rpc"]), None);
    }

    #[test]
    fn a_big_line_has_its_length() {
        assert_eq!(big_line(100).len(), 100);
        assert!(serde_json::from_slice::<serde_json::Value>(&big_line(100)).is_ok());
    }
}
