//! Acknowledged means stored: many writers, full disks, failing disks, and kill -9.
#![allow(clippy::unwrap_used)]

mod support;

use lodge_history::{
    MessageQuery, OpenError, Options, SqliteStore, Store, StoreError, TurnQuery, backup, verify,
};
use lodge_proto::{SessionId, TurnId};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use support::{open, owner, write};

/// Names the directory for a test that runs again as a child process of itself.
const CHILD: &str = "LODGE_HISTORY_TEST_CHILD";

fn child_directory() -> Option<PathBuf> {
    std::env::var_os(CHILD).map(PathBuf::from)
}

/// The command that runs `test` of this binary as a child with `directory`, behind `wrapper`.
fn child(wrapper: &[&str], test: &str, directory: &Path) -> Command {
    let this = std::env::current_exe().unwrap();
    let mut words = wrapper
        .iter()
        .map(|w| std::ffi::OsString::from(*w))
        .collect::<Vec<_>>();
    words.push(this.into());
    let mut command = Command::new(&words[0]);
    command
        .args(&words[1..])
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD, directory);
    command
}

async fn write_turns(store: Arc<SqliteStore>, count: u64, acknowledged: impl Fn(SessionId, TurnId) + Send) {
    let session_id = SessionId::new();
    for from in 0..count {
        let turn_id = TurnId::new();
        store
            .append_turn(&owner("ada"), write(session_id, turn_id, from, &["some words"]))
            .await
            .unwrap();
        acknowledged(session_id, turn_id);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_writers_share_commits() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    let store = Arc::new(open(&path));
    let writers: Vec<_> = (0..64)
        .map(|_| tokio::spawn(write_turns(Arc::clone(&store), 20, |_, _| {})))
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    // Fewer than one commit for every second turn; usually it is one for thirty.
    assert!(
        store.batches() < 640,
        "{} commits for 1280 turns",
        store.batches()
    );
    store.close().await;
    let report = verify(&path).unwrap();
    assert_eq!((report.sessions, report.turns, report.messages), (64, 1280, 1280));
}

#[tokio::test]
async fn a_backup_is_whole_while_writers_write_and_never_replaces_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    let copy = directory.path().join("copy.db");
    let store = Arc::new(open(&path));
    write_turns(Arc::clone(&store), 50, |_, _| {}).await;
    let (from, to) = (path.clone(), copy.clone());
    let copying = tokio::task::spawn_blocking(move || backup(&from, &to));
    write_turns(Arc::clone(&store), 50, |_, _| {}).await;
    let report = copying.await.unwrap().unwrap();
    assert!((50..=100).contains(&report.turns), "{report:?}");
    assert_eq!(report, verify(&copy).unwrap());
    assert!(
        backup(&path, &copy)
            .unwrap_err()
            .to_string()
            .contains("exists already")
    );
    store.close().await;
    // A backup opens as a database.
    let restored = open(&copy);
    write_turns(Arc::new(restored), 1, |_, _| {}).await;
}

#[tokio::test]
async fn a_database_at_its_limit_refuses_and_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options {
        max_database_bytes: Some(1 << 20),
    };
    let store = SqliteStore::open(&directory.path().join("history.db"), &options).unwrap();
    let (small, big) = (SessionId::new(), "incompressible words ".repeat(5000));
    let texts: Vec<&str> = vec![&big; 20];
    store
        .append_turn(&owner("ada"), write(small, TurnId::new(), 0, &["first"]))
        .await
        .unwrap();
    // Both are in one batch or in two: the small one passes all the same.
    let too_much = SessionId::new();
    let ada = owner("ada");
    let (refused, passed) = tokio::join!(
        store.append_turn(&ada, write(too_much, TurnId::new(), 0, &texts)),
        store.append_turn(&ada, write(small, TurnId::new(), 1, &["second"])),
    );
    assert!(matches!(refused, Err(StoreError::Full)), "{refused:?}");
    assert_eq!(passed.unwrap().message_version, 2);
    assert!(matches!(
        store.get_session(&ada, too_much).await,
        Err(StoreError::NoSession { .. })
    ));
    store
        .append_turn(&ada, write(small, TurnId::new(), 2, &["third"]))
        .await
        .unwrap();
}

/// Runs in a child with a tiny file system of its own.
#[tokio::test]
async fn full_disk_child() {
    let Some(directory) = child_directory() else {
        return;
    };
    let store = open(&directory.join("history.db"));
    let (ada, id) = (owner("ada"), SessionId::new());
    store
        .append_turn(&ada, write(id, TurnId::new(), 0, &["before"]))
        .await
        .unwrap();
    let ballast = directory.join("ballast");
    let mut file = std::fs::File::create(&ballast).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    let turn_id = TurnId::new();
    let mut stored = 1;
    let text = "words ".repeat(2000);
    // The log may have pages left from before: they fill up first.
    let refused = loop {
        match store
            .append_turn(&ada, write(id, TurnId::new(), stored, &[&text]))
            .await
        {
            Ok(answer) => stored = answer.message_version,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, StoreError::Full), "{refused:?}");
    let query = MessageQuery {
        session_id: id,
        from: None,
        limit: 500,
        backwards: false,
    };
    assert_eq!(
        store.list_messages(&ada, query).await.unwrap().items.len() as u64,
        stored
    );
    std::fs::remove_file(&ballast).unwrap();
    drop(file);
    let answer = store
        .append_turn(&ada, write(id, turn_id, stored, &[&text]))
        .await
        .unwrap();
    assert_eq!(answer.message_version, stored + 1);
    store.close().await;
    assert_eq!(
        verify(&directory.join("history.db")).unwrap().messages,
        stored + 1
    );
    println!("full disk survived");
}

#[test]
fn a_full_disk_refuses_and_the_service_goes_on_when_there_is_space() {
    let directory = tempfile::tempdir().unwrap();
    let mount = "mount -t tmpfs -o size=4m none \"$LODGE_HISTORY_TEST_CHILD\" && exec \"$0\" \"$@\"";
    let wrapper = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        mount,
    ];
    let output = child(&wrapper, "full_disk_child", directory.path()).output();
    let output = output.expect("needs `unshare` (package util-linux) and user namespaces");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("full disk survived"),
        "{output:?}"
    );
}

/// Runs in a child whose files cannot grow: the write fails with another error than "no space".
#[tokio::test]
async fn failing_disk_child() {
    let Some(directory) = child_directory() else {
        return;
    };
    let store = open(&directory.join("history.db"));
    let (ada, id, text) = (owner("ada"), SessionId::new(), "words ".repeat(2000));
    let mut stored = 0;
    let refused = loop {
        match store
            .append_turn(&ada, write(id, TurnId::new(), stored, &[&text]))
            .await
        {
            Ok(answer) => stored = answer.message_version,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, StoreError::Stopped), "{refused:?}");
    println!("failed: {}", store.failed().await);
    println!("acknowledged {stored}");
}

#[tokio::test]
async fn a_failing_disk_ends_the_writer_and_loses_nothing_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let limit = "trap '' XFSZ; ulimit -f 2048; exec \"$0\" \"$@\"";
    let output = child(&["sh", "-c", limit], "failing_disk_child", directory.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("failed: the history database failed"), "{output:?}");
    let acknowledged = text
        .lines()
        .find_map(|l| l.strip_prefix("acknowledged "))
        .unwrap()
        .parse::<u64>()
        .unwrap();
    assert!(acknowledged > 0);
    let path = directory.path().join("history.db");
    open(&path).close().await;
    assert_eq!(verify(&path).unwrap().messages, acknowledged);
}

/// Runs in a child until it is killed; says what was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writing_child() {
    let Some(directory) = child_directory() else {
        return;
    };
    let store = Arc::new(open(&directory.join("history.db")));
    let say = |session: SessionId, turn: TurnId| println!("ack {session} {turn}");
    let writers: Vec<_> = (0..8)
        .map(|_| tokio::spawn(write_turns(Arc::clone(&store), u64::MAX, say)))
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
}

/// Lets a child write until it has acknowledged `count` turns, kills it, and returns all it acknowledged.
fn write_and_kill(directory: &Path, count: u32) -> Vec<(SessionId, TurnId)> {
    let mut child = child(&["env"], "writing_child", directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut acknowledged = Vec::new();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).split(b'\n');
    let mut seen = 0;
    while let Some(Ok(line)) = lines.next() {
        let line = String::from_utf8(line).unwrap();
        let words: Vec<&str> = line.rsplitn(3, ' ').collect();
        // The last line may be torn: its turn was stored, but nobody was told.
        if let [turn, session, ack] = words.as_slice()
            && ack.ends_with("ack")
            && turn.len() == 36
        {
            acknowledged.push((session.parse().unwrap(), turn.parse().unwrap()));
            seen += 1;
            if seen == count {
                child.kill().unwrap();
            }
        }
    }
    child.wait().unwrap();
    assert!(seen >= count, "the child ended by itself");
    acknowledged
}

#[tokio::test]
async fn kill_nine_loses_no_acknowledged_turn() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    let mut sessions: HashMap<SessionId, Vec<TurnId>> = HashMap::new();
    for _ in 0..20 {
        let random = uuid::Uuid::new_v4().as_u128() % 120;
        for (session_id, turn_id) in write_and_kill(directory.path(), 1 + u32::try_from(random).unwrap()) {
            sessions.entry(session_id).or_default().push(turn_id);
        }
        // As the killed process left it, with its log not yet moved into the database.
        verify(&path).unwrap();
    }
    let store = open(&path);
    for (session_id, acknowledged) in sessions {
        let query = TurnQuery {
            session_id,
            from: 0,
            limit: 1_000_000,
        };
        let stored = store.list_turns(&owner("ada"), query).await.unwrap().items;
        let stored: Vec<TurnId> = stored.iter().map(|t| t.turn_id.parse().unwrap()).collect();
        assert!(
            stored.starts_with(&acknowledged),
            "{session_id}: {} acknowledged",
            acknowledged.len()
        );
    }
}

#[tokio::test]
async fn a_damaged_file_is_found_after_an_unclean_stop() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    let store = Arc::new(open(&path));
    write_turns(Arc::clone(&store), 300, |_, _| {}).await;
    store.close().await;
    drop(store);
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute("UPDATE state SET clean = 0", []).unwrap();
    let page: i64 = connection
        .query_row(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'sessions_by_update'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    connection
        .pragma_update_and_check(None, "journal_mode", "delete", |_| Ok(()))
        .unwrap();
    drop(connection);
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    let offset = u64::try_from(page - 1).unwrap() * 4096;
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xA5; 4096], offset).unwrap();
    let error = SqliteStore::open(&path, &Options::default()).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
}

#[test]
fn a_file_that_is_not_ours_is_refused_and_stays_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    std::fs::write(
        &path,
        "just some text, certainly longer than one header of a database file".repeat(99),
    )
    .unwrap();
    let before = std::fs::read(&path).unwrap();
    let error = SqliteStore::open(&path, &Options::default()).unwrap_err();
    assert!(matches!(error, OpenError::Sqlite { .. }), "{error:?}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
    let newer = directory.path().join("newer.db");
    drop(open(&newer));
    rusqlite::Connection::open(&newer)
        .unwrap()
        .pragma_update(None, "user_version", 99)
        .unwrap();
    let error = SqliteStore::open(&newer, &Options::default()).unwrap_err();
    assert!(
        matches!(error, OpenError::NewerSchema { found: 99, .. }),
        "{error:?}"
    );
}
