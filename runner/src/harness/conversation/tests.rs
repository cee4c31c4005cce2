use super::*;
use rusqlite::Connection;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;

fn homes() -> (TempDir, TempDir) {
    (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap())
}

fn write(home: &TempDir, path: &str, text: &str) {
    let path = home.path().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn read(home: &TempDir, path: &str) -> Option<String> {
    fs::read_to_string(home.path().join(path)).ok()
}

#[test]
fn only_the_conversation_is_copied_and_only_for_its_owner() {
    let (from, to) = homes();
    write(&from, ".codex/sessions/2026/11/20/rollout.jsonl", "{}\n{}\n");
    write(&from, ".codex/auth.json", "key");
    write(&from, ".codex/config.toml", "");
    copy("codex", from.path(), to.path()).unwrap();
    let copied = ".codex/sessions/2026/11/20/rollout.jsonl";
    assert_eq!(read(&to, copied).as_deref(), Some("{}\n{}\n"));
    let mode = |path: &str| fs::metadata(to.path().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(copied), mode(".codex/sessions")), (0o600, 0o700));
    assert_eq!(fs::read_dir(to.path().join(".codex")).unwrap().count(), 1);
    assert!(!is_known("gemini") && is_known("opencode-acp"));
}

#[test]
fn a_line_that_is_being_written_is_not_copied() {
    let (from, to) = homes();
    let long = "x".repeat(3 * usize::try_from(BLOCK).unwrap());
    write(&from, ".claude/projects/w/a.jsonl", &format!("whole\n{long}"));
    write(&from, ".claude/projects/w/b.jsonl", "begun");
    write(&from, ".claude/projects/w/a/tool-results/1.txt", "no line feed");
    copy("claude", from.path(), to.path()).unwrap();
    assert_eq!(
        read(&to, ".claude/projects/w/a.jsonl").as_deref(),
        Some("whole\n")
    );
    assert_eq!(read(&to, ".claude/projects/w/b.jsonl").as_deref(), Some(""));
    let result = read(&to, ".claude/projects/w/a/tool-results/1.txt");
    assert_eq!(result.as_deref(), Some("no line feed"));
}

#[test]
fn links_and_pipes_that_the_guest_planted_lead_nowhere() {
    let (from, to) = homes();
    let secret = tempfile::tempdir().unwrap();
    write(&secret, "secret.jsonl", "of the host\n");
    write(&from, ".pi/agent/sessions/w/own.jsonl", "own\n");
    let own = from.path().join(".pi/agent/sessions");
    symlink(secret.path().join("secret.jsonl"), own.join("w/link.jsonl")).unwrap();
    symlink(secret.path(), own.join("linked")).unwrap();
    let made = std::process::Command::new("mkfifo")
        .arg(own.join("w/pipe.jsonl"))
        .status();
    assert!(made.unwrap().success());
    copy("pi", from.path(), to.path()).unwrap();
    let copied: Vec<_> = fs::read_dir(to.path().join(".pi/agent/sessions/w"))
        .unwrap()
        .collect();
    assert_eq!(copied.len(), 1);
    assert!(!to.path().join(".pi/agent/sessions/linked").exists());

    // A link in the way there, and one in place of the database.
    let (from, to) = homes();
    symlink(secret.path(), from.path().join(".codex")).unwrap();
    write(&secret, "sessions/rollout.jsonl", "of the host\n");
    let gone = copy("codex", from.path(), to.path());
    assert!(matches!(gone, Err(CopyError::Gone)), "{gone:?}");
    fs::create_dir_all(from.path().join(".local/share/opencode")).unwrap();
    let database = from.path().join(".local/share/opencode/opencode.db");
    symlink(secret.path().join("secret.jsonl"), database).unwrap();
    let gone = copy("opencode", from.path(), to.path());
    assert!(matches!(gone, Err(CopyError::Gone)), "{gone:?}");
}

#[test]
fn what_is_too_large_is_refused() {
    let (from, to) = homes();
    write(&from, ".codex/sessions/a.jsonl", "");
    let file = File::options()
        .write(true)
        .open(from.path().join(".codex/sessions/a.jsonl"));
    // Sparse: it takes no room, and the size alone is enough to refuse it.
    file.unwrap().set_len(MOST_BYTES + 1).unwrap();
    let refused = copy("codex", from.path(), to.path());
    assert!(matches!(refused, Err(CopyError::TooLarge)), "{refused:?}");
    assert_eq!(
        ErrorBody::from(CopyError::TooLarge).code,
        ErrorCode::LimitExceeded
    );
}

#[test]
fn a_database_that_is_written_to_is_copied_as_it_was_at_one_time() {
    let from = tempfile::tempdir().unwrap();
    let folder = from.path().join(".local/share/opencode");
    fs::create_dir_all(&folder).unwrap();
    let database = Connection::open(folder.join("opencode.db")).unwrap();
    database
        .execute_batch(
            "pragma journal_mode = wal; pragma wal_autocheckpoint = 8; pragma synchronous = off;
             create table a(n integer, filler text); create table b(n integer, filler text);",
        )
        .unwrap();
    let over = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for n in 0..10_000 {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let both = format!(
                    "begin; insert into a values({n}, zeroblob(2000)); insert into b values({n}, zeroblob(2000)); commit;"
                );
                database.execute_batch(&both).unwrap();
                // A turn that goes on writes now and then.
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let mut copied = 0;
        for _ in 0..20 {
            let to = tempfile::tempdir().unwrap();
            match copy("opencode", from.path(), to.path()) {
                Ok(()) => {
                    copied += 1;
                    check(&to.path().join(".local/share/opencode/opencode.db"));
                }
                Err(CopyError::Busy) => {}
                Err(error) => panic!("{error}"),
            }
        }
        over.store(true, Ordering::Relaxed);
        assert!(copied > 0, "never a quiet moment");
    });
}

fn check(database: &Path) {
    let copy = Connection::open(database).unwrap();
    let text = |sql: &str| copy.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap();
    let count = |sql: &str| copy.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(text("pragma integrity_check"), "ok");
    assert_eq!(count("select count(*) from a"), count("select count(*) from b"));
}
