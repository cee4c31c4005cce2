//! The journal under arbitrary appends, cuts and damage.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use lodge_shim::journal::{HEADER_LEN, Ids, JournalError, Kind, Reader, Writer};
use proptest::prelude::*;
use tempfile::TempDir;

type Entry = (u64, u8, Vec<u8>);

fn read_all(dir: &Path) -> (Vec<Entry>, Option<JournalError>) {
    let mut found = Vec::new();
    let mut reader = match Reader::oldest(dir) {
        Ok(reader) => reader,
        Err(error) => return (found, Some(error)),
    };
    loop {
        match reader.next() {
            Ok(Some(record)) => found.push((record.seq, record.kind.into(), record.body.to_vec())),
            Ok(None) => return (found, None),
            Err(error) => return (found, Some(error)),
        }
    }
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = entries
        .filter(|path| path.extension().is_some_and(|ext| ext == "log"))
        .collect();
    found.sort();
    found
}

/// Writes bodies as records from 1 on, each batch with one commit.
fn write(dir: &Path, limit: u64, bodies: &[Vec<u8>], batch: usize) -> Vec<Entry> {
    let (mut writer, _) = Writer::open_with_limit(dir, limit).unwrap();
    let mut expected = Vec::new();
    for chunk in bodies.chunks(batch.max(1)) {
        for body in chunk {
            let position = writer.stage(Kind::Out, 0, &[body], 7).unwrap();
            expected.push((position.seq, u8::from(Kind::Out), body.clone()));
        }
        writer.commit().unwrap();
    }
    expected
}

fn bodies() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn what_was_written_is_read_back_from_any_record(bodies in bodies(), batch in 1usize..5, limit in 1u64..400) {
        let dir = TempDir::new().unwrap();
        let expected = write(dir.path(), limit, &bodies, batch);
        let (found, error) = read_all(dir.path());
        prop_assert!(error.is_none(), "{error:?}");
        prop_assert_eq!(&found, &expected);
        for seq in 1..=bodies.len() as u64 {
            let mut reader = Reader::from_seq(dir.path(), seq).unwrap();
            prop_assert_eq!(reader.next().unwrap().unwrap().seq, seq);
            let position = reader.position();
            let mut again = Reader::from_position(dir.path(), position).unwrap();
            prop_assert_eq!(again.next().unwrap().map(|r| r.seq), reader.next().unwrap().map(|r| r.seq));
        }
    }

    #[test]
    fn a_cut_anywhere_leaves_a_prefix_that_the_writer_continues(bodies in bodies()) {
        let dir = TempDir::new().unwrap();
        let expected = write(dir.path(), u64::MAX, &bodies, 3);
        let path = segments(dir.path()).remove(0);
        let whole = fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let (found, error) = read_all(dir.path());
            prop_assert!(error.is_none(), "cut at {cut}: {error:?}");
            prop_assert_eq!(&found[..], &expected[..found.len()], "cut at {}", cut);
            let (mut writer, recovery) = Writer::open(dir.path()).unwrap();
            prop_assert_eq!(recovery.head_seq, found.len() as u64);
            let position = writer.append(Kind::Note, 0, b"after", 8).unwrap();
            prop_assert_eq!(position.seq, found.len() as u64 + 1);
            drop(writer);
            let (after, error) = read_all(dir.path());
            prop_assert!(error.is_none(), "cut at {cut}: {error:?}");
            prop_assert_eq!(after.len(), found.len() + 1);
        }
    }

    #[test]
    fn a_flipped_byte_is_noticed_and_everything_before_it_is_intact(
        bodies in bodies(), at in any::<prop::sample::Index>(), bit in 0u8..8,
    ) {
        let dir = TempDir::new().unwrap();
        let expected = write(dir.path(), u64::MAX, &bodies, 3);
        let path = segments(dir.path()).remove(0);
        let mut bytes = fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        fs::write(&path, &bytes).unwrap();
        let (found, error) = read_all(dir.path());
        prop_assert_eq!(&found[..], &expected[..found.len()]);
        let Some(JournalError::Corrupt { offset, seq, .. }) = error else {
            panic!("byte {at} was flipped and nobody noticed: {error:?}");
        };
        prop_assert_eq!(seq, found.len() as u64 + 1);
        prop_assert!(offset <= at as u64);
        // A writer may only take the very last record for torn.
        match Writer::open(dir.path()) {
            Ok((_, recovery)) => prop_assert_eq!(recovery.head_seq, expected.len() as u64 - 1),
            Err(JournalError::Corrupt { seq, .. }) => prop_assert_eq!(seq, found.len() as u64 + 1),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_missing_segment_is_corruption_and_not_the_end() {
    let dir = TempDir::new().unwrap();
    let bodies = vec![vec![b'x'; 100]; 10];
    write(dir.path(), 200, &bodies, 1);
    let files = segments(dir.path());
    assert!(files.len() >= 3, "{files:?}");
    fs::remove_file(&files[1]).unwrap();
    let (found, error) = read_all(dir.path());
    assert!(matches!(error, Some(JournalError::Corrupt { .. })), "{error:?}");
    assert_eq!(found.len(), 2);
}

#[test]
fn a_reader_follows_a_journal_that_grows_and_rotates() {
    let dir = TempDir::new().unwrap();
    let mut reader = Reader::from_seq(dir.path(), 1).unwrap();
    let (mut writer, _) = Writer::open_with_limit(dir.path(), 300).unwrap();
    for seq in 1..=50u64 {
        assert!(reader.next().unwrap().is_none());
        writer.append(Kind::Out, 0, &seq.to_le_bytes(), seq).unwrap();
        let record = reader.next().unwrap().unwrap();
        assert_eq!((record.seq, record.body), (seq, &seq.to_le_bytes()[..]));
    }
    assert!(segments(dir.path()).len() > 3);
}

#[test]
fn pruning_drops_whole_segments_and_their_ids() {
    let dir = TempDir::new().unwrap();
    let (mut writer, _) = Writer::open_with_limit(dir.path(), 300).unwrap();
    for number in 0..40u8 {
        writer.append(Kind::InBegin, 0, &[number; 40], 1).unwrap();
    }
    let first = writer.prune(20).unwrap();
    assert!(first > 1 && first <= 20, "{first}");
    assert!(
        matches!(Reader::from_seq(dir.path(), 1), Err(JournalError::Pruned { first: f, .. }) if f == first)
    );
    let (left, error) = read_all(dir.path());
    assert!(error.is_none());
    assert_eq!(left.len() as u64, 41 - first);
    let ids = Ids::load(dir.path()).unwrap();
    assert!(ids.contains(&[39; 16]));
    assert!(!ids.contains(&[0; 16]));
    assert_eq!(
        writer.prune(u64::MAX).unwrap(),
        Reader::oldest(dir.path()).unwrap().next_seq()
    );
    drop(writer);
    assert_eq!(
        Writer::open(dir.path()).unwrap().1.head_seq,
        40,
        "the last segment stays"
    );
}

#[test]
fn only_one_writer_at_a_time_and_its_generation_is_remembered() {
    let dir = TempDir::new().unwrap();
    let (mut writer, recovery) = Writer::open(dir.path()).unwrap();
    assert_eq!(recovery.generation, 0);
    writer.set_generation(41).unwrap();
    assert!(matches!(
        Writer::open(dir.path()),
        Err(JournalError::Locked { .. })
    ));
    drop(writer);
    assert_eq!(Writer::open(dir.path()).unwrap().1.generation, 41);
}

#[test]
fn an_unknown_kind_is_carried() {
    let dir = TempDir::new().unwrap();
    let (mut writer, _) = Writer::open(dir.path()).unwrap();
    writer.append(Kind::Unknown(200), 3, b"new", 1).unwrap();
    let mut reader = Reader::oldest(dir.path()).unwrap();
    let record = reader.next().unwrap().unwrap();
    assert_eq!(
        (record.kind, record.flags, record.raw.len()),
        (Kind::Unknown(200), 3, HEADER_LEN + 3)
    );
}

#[test]
fn a_reader_that_asks_for_the_future_is_told_where_the_journal_ends() {
    let dir = TempDir::new().unwrap();
    write(dir.path(), u64::MAX, &vec![Vec::new(); 3], 1);
    assert!(Reader::from_seq(dir.path(), 4).is_ok());
    let refused = Reader::from_seq(dir.path(), 5);
    assert!(
        matches!(refused, Err(JournalError::Ahead { wanted: 5, next: 4 })),
        "{refused:?}"
    );
}
