//! The ledger's files as a crash or a bad disk leaves them, through the ledger itself.

use std::path::{Path, PathBuf};

use lodge_gateway::ledger::{Ask, Group, How, Ledger, Reserve};
use lodge_gateway::money::Nanos;
use lodge_gateway::usage::Usage;

fn ask(amount: u64) -> Ask {
    Ask {
        reserve: Reserve {
            scopes: vec!["user:u".into()],
            amount: Nanos(amount),
            user: "u".into(),
            ..Reserve::default()
        },
        boundless: None,
        queue: false,
    }
}

fn journal(directory: &Path) -> PathBuf {
    let entries = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut journals = entries.filter(|path| path.extension().is_some_and(|end| end == "journal"));
    journals.next().unwrap()
}

/// Three requests: one that is settled, one that was answered in part, one that was sent.
async fn written() -> (tempfile::TempDir, String, Vec<u8>) {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(directory.path()).unwrap();
    let settled = ledger.reserve(ask(100)).await.unwrap();
    settled.settle(Nanos(7), Usage::default(), How::Exact);
    let grown = ledger.reserve(ask(20)).await.unwrap();
    grown.progress(Nanos(5));
    let mut sent = ledger.reserve(ask(3000)).await.unwrap();
    sent.mark_sent();
    ledger.flush().await.unwrap();
    let path = journal(directory.path());
    let bytes = std::fs::read(&path).unwrap();
    (
        directory,
        path.file_name().unwrap().to_str().unwrap().to_owned(),
        bytes,
    )
}

/// What a ledger has whose database is new: everything comes from its journal.
async fn spent(name: &str, bytes: &[u8]) -> u64 {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(name), bytes).unwrap();
    let ledger = Ledger::open(directory.path()).unwrap();
    let rows = ledger.usage(Group::User, 0, Vec::new()).await.unwrap();
    rows.first().map_or(0, |row| row.cost.0)
}

/// Where the records begin: each has its length in front.
fn starts(bytes: &[u8]) -> Vec<usize> {
    let mut starts = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        starts.push(at);
        let length = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        at += 16 + usize::try_from(length).unwrap();
    }
    starts
}

#[tokio::test]
async fn a_journal_that_is_torn_at_any_byte_counts_everything_before_it_in_full() {
    let (_directory, name, bytes) = written().await;
    let starts = starts(&bytes);
    // By whole records: reserved, settled, reserved, progress, reserved.
    let known = [0, 100, 7, 7 + 20, 7 + 20, 7 + 20 + 3000];
    assert_eq!(starts.len() + 1, known.len());
    let last = starts[starts.len() - 1];
    // Each byte of the last record, and the edges of all others.
    let edges = starts
        .iter()
        .flat_map(|start| [*start, start + 1, start + 15, start + 17]);
    for length in edges.chain(last..=bytes.len()) {
        let whole = starts.iter().filter(|start| **start <= length).count();
        let whole = if length == bytes.len() { whole } else { whole - 1 };
        assert_eq!(spent(&name, &bytes[..length]).await, known[whole], "{length}");
    }
}

#[tokio::test]
async fn flipped_bits_before_whole_records_stop_the_start_and_are_named() {
    let (_directory, name, bytes) = written().await;
    let starts = starts(&bytes);
    let last = *starts.last().unwrap();
    for at in (0..last).step_by(13) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(&name);
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        std::fs::write(&path, &damaged).unwrap();
        let error = Ledger::open(directory.path()).unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        let start = starts.iter().rfind(|start| **start <= at).unwrap();
        assert!(
            source.contains(&format!("damaged at byte {start},")),
            "{at}: {source}"
        );
        assert!(source.contains(path.to_str().unwrap()), "{source}");
        // Nothing was mended by guessing.
        assert_eq!(std::fs::read(&path).unwrap(), damaged, "{at}");
    }
}
