//! Terminals of the agent that it shows us (version 2): bytes in, text of the tool that names it.

use super::Acp;
use super::wire::{ExitStatus, Patch, TerminalFields};
use crate::fold::Cx;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lodge_proto::part::Part;
use serde::{Deserialize, Serialize};

/// Output of one terminal that is kept for the result, in bytes.
const KEPT: usize = 256 * 1024;

/// What a terminal showed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Terminal {
    text: String,
    /// Bytes of a character that is not complete yet.
    rest: Vec<u8>,
    /// Bytes that are no longer kept.
    dropped: usize,
    exit: Option<ExitStatus>,
}

impl Terminal {
    /// Takes bytes; returns the text they make.
    fn take(&mut self, bytes: &[u8]) -> String {
        self.rest.extend_from_slice(bytes);
        let mut added = String::new();
        loop {
            let error = match std::str::from_utf8(&self.rest) {
                Ok(text) => {
                    added.push_str(text);
                    self.rest.clear();
                    break;
                }
                Err(error) => error,
            };
            let valid = error.valid_up_to();
            added.push_str(&String::from_utf8_lossy(&self.rest[..valid]));
            let Some(wrong) = error.error_len() else {
                self.rest.drain(..valid);
                break;
            };
            added.push(char::REPLACEMENT_CHARACTER);
            self.rest.drain(..valid + wrong);
        }
        self.text.push_str(&added);
        self.trim();
        added
    }

    fn trim(&mut self) {
        if self.text.len() <= 2 * KEPT {
            return;
        }
        let mut from = self.text.len() - KEPT;
        while !self.text.is_char_boundary(from) {
            from += 1;
        }
        self.text.drain(..from);
        self.dropped += from;
    }
}

impl Acp {
    pub(super) fn terminal(&mut self, cx: &mut Cx<'_>, fields: TerminalFields) {
        if self.replaying || !cx.in_turn() {
            return;
        }
        let id = fields.terminal_id;
        let terminal = self.terminals.entry(id.clone()).or_default();
        match fields.exit_status {
            Patch::Stay => {}
            Patch::Clear => terminal.exit = None,
            Patch::Replace(exit) => terminal.exit = Some(exit),
        }
        let Some(output) = fields.output.value() else {
            return;
        };
        let Ok(bytes) = STANDARD.decode(output.data) else {
            return cx.warn("output of a terminal that is not base64");
        };
        *terminal = Terminal {
            exit: terminal.exit.take(),
            ..Terminal::default()
        };
        terminal.take(&bytes);
        let text = terminal.text.clone();
        if let Some(native) = self.running_on(&id) {
            cx.tool_output(&native, &text);
        }
    }

    pub(super) fn terminal_chunk(&mut self, cx: &mut Cx<'_>, id: &str, data: &str) {
        if self.replaying || !cx.in_turn() {
            return;
        }
        match STANDARD.decode(data) {
            Ok(bytes) => self.terminal_bytes(cx, id, &bytes),
            Err(_) => cx.warn("output of a terminal that is not base64"),
        }
    }

    pub(super) fn terminal_bytes(&mut self, cx: &mut Cx<'_>, id: &str, bytes: &[u8]) {
        let added = self.terminals.entry(id.to_owned()).or_default().take(bytes);
        if let Some(native) = self.running_on(id) {
            cx.tool_output_delta(&native, &added);
        }
    }

    /// The running tool that shows this terminal.
    fn running_on(&self, id: &str) -> Option<String> {
        self.tools
            .iter()
            .find(|tool| tool.terminal.as_deref() == Some(id) && tool.started && !tool.ended)
            .map(|tool| tool.native.clone())
    }

    /// A tool runs whose terminal may have spoken before.
    pub(super) fn terminal_catch_up(&mut self, cx: &mut Cx<'_>, native: &str) {
        let terminal = self.tool(native).and_then(|tool| tool.terminal.as_ref());
        if let Some(terminal) = terminal.and_then(|id| self.terminals.get(id)) {
            cx.tool_output_delta(native, &terminal.text);
        }
    }

    /// What the terminal of a tool that is over shows.
    pub(super) fn terminal_parts(&self, id: &str) -> Vec<Part> {
        let Some(terminal) = self.terminals.get(id) else {
            return Vec::new();
        };
        let mut parts = Vec::new();
        if terminal.dropped > 0 {
            parts.push(Part::text(format!(
                "[{} bytes before this are not kept]",
                terminal.dropped
            )));
        }
        if !terminal.text.is_empty() {
            parts.push(Part::text(terminal.text.clone()));
        }
        match &terminal.exit {
            Some(ExitStatus {
                signal: Some(signal), ..
            }) => {
                parts.push(Part::text(format!("[ended by signal {signal}]")));
            }
            Some(ExitStatus {
                exit_code: Some(code),
                ..
            }) if *code != 0 => {
                parts.push(Part::text(format!("[exit code {code}]")));
            }
            _ => {}
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_come_whole_whatever_the_chunks() {
        let mut terminal = Terminal::default();
        let bytes = "aé€𝄞b".as_bytes();
        let told: String = bytes.iter().map(|byte| terminal.take(&[*byte])).collect();
        assert_eq!(told, "aé€𝄞b");
        assert_eq!(terminal.take(&[0xff, b'c']), "\u{fffd}c");
    }

    #[test]
    fn only_the_tail_of_much_output_is_kept() {
        let mut terminal = Terminal::default();
        for _ in 0..40 {
            terminal.take("é".repeat(10_000).as_bytes());
        }
        assert!(terminal.text.len() <= 2 * KEPT);
        assert_eq!(terminal.text.len() + terminal.dropped, 800_000);
    }
}
