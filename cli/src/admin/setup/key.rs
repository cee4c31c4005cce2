//! Keys as they come in: from standard input or a file, never from the command line.

use crate::failure::Failure;
use lodge_proto::ErrorCode;
use std::io::{IsTerminal, Read};
use std::path::Path;

/// Longest key, bytes.
const MAX_KEY: u64 = 16 * 1024;

/// The key in a file, or on standard input where none is named.
pub(super) fn read(file: Option<&Path>, command: &str) -> anyhow::Result<String> {
    let mut key = String::new();
    if let Some(file) = file {
        let unreadable = |error: std::io::Error| {
            Failure::new(
                ErrorCode::InvalidArgument,
                format!("the key cannot be read: {error}"),
            )
            .at(file.display().to_string())
            .mend("name a file that holds the key and nothing else")
        };
        let opened = std::fs::File::open(file).map_err(unreadable)?;
        opened
            .take(MAX_KEY)
            .read_to_string(&mut key)
            .map_err(unreadable)?;
    } else {
        let input = std::io::stdin();
        if input.is_terminal() {
            eprintln!("Type the key, then Ctrl-D:");
        }
        input.lock().take(MAX_KEY).read_to_string(&mut key)?;
    }
    let key = key.trim();
    if key.is_empty() {
        let place = if file.is_some() {
            "in the file"
        } else {
            "on standard input"
        };
        let failure = Failure::new(ErrorCode::InvalidArgument, format!("no key was given {place}"));
        return Err(failure.mend(format!("{command} < FILE")).into());
    }
    Ok(key.to_owned())
}
