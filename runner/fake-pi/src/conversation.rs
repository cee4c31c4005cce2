//! The session file: the user's messages, so that a conversation can be resumed and forked.

use serde_json::{Value, json};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// A conversation and the file that holds it, one JSON object a line.
#[derive(Debug)]
pub(crate) struct Conversation {
    pub(crate) file: PathBuf,
    pub(crate) id: String,
    pub(crate) name: Option<String>,
    entries: Vec<String>,
}

impl Conversation {
    /// The one that `--session FILE` or `--session-id ID` name.
    pub(crate) fn open(arguments: &[String], agent_dir: &Path) -> std::io::Result<Self> {
        let option = |name: &str| {
            let at = arguments.iter().position(|argument| argument == name)?;
            arguments.get(at + 1).cloned()
        };
        let id = option("--session-id").unwrap_or_else(|| "fake".to_owned());
        let file =
            option("--session").map_or_else(|| agent_dir.join(format!("sessions/{id}.jsonl")), PathBuf::from);
        if let Some(directory) = file.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let entries = text.lines().filter_map(entry_text).collect();
        Ok(Self {
            file,
            id,
            name: None,
            entries,
        })
    }

    /// Appends a message of the user.
    pub(crate) fn push(&mut self, text: &str) -> std::io::Result<()> {
        let mut line = json!({ "id": entry_id(self.entries.len()), "text": text }).to_string();
        line.push('\n');
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.file)?;
        file.write_all(line.as_bytes())?;
        self.entries.push(text.to_owned());
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn fork_messages(&self) -> Value {
        let list: Vec<Value> = (0..)
            .zip(&self.entries)
            .map(|(index, text)| json!({ "entryId": entry_id(index), "text": text }))
            .collect();
        json!({ "messages": list })
    }

    /// Goes on in a new file with what came before `entry`; answers that entry's text.
    pub(crate) fn fork(&mut self, entry: &str) -> std::io::Result<Option<String>> {
        let Some(at) = (0..self.entries.len()).find(|index| entry_id(*index) == entry) else {
            return Ok(None);
        };
        let kept = self.entries[..at].to_vec();
        let text = self.entries[at].clone();
        self.file = self.file.with_extension(format!("{at}.jsonl"));
        std::fs::write(&self.file, "")?;
        self.entries.clear();
        for text in kept {
            self.push(&text)?;
        }
        Ok(Some(text))
    }
}

fn entry_id(index: usize) -> String {
    format!("{index:08x}")
}

fn entry_text(line: &str) -> Option<String> {
    let entry: Value = serde_json::from_str(line).ok()?;
    entry.get("text")?.as_str().map(str::to_owned)
}
