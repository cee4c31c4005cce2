use super::*;

fn change(target: &str) -> Change {
    Change {
        actor: Actor {
            uid: 1000,
            pid: 42,
            name: "ann".into(),
        },
        action: "budget.set",
        target: target.into(),
        detail: serde_json::json!({ "window": "day" }),
    }
}

#[tokio::test]
async fn entries_come_latest_first_over_restarts_with_what_became_of_them() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.db");
    let audit = Audit::open(&path).unwrap();
    audit.begin(change("a")).await.unwrap().end("ok", "").await;
    audit
        .begin(change("b\n"))
        .await
        .unwrap()
        .end("InvalidArgument", "x")
        .await;
    let _killed_in_the_middle = audit.begin(change("c")).await.unwrap();
    drop(audit);
    let audit = Audit::open(&path).unwrap();
    let all = audit.list(0, 0, "").await.unwrap();
    let shown: Vec<_> = all
        .iter()
        .map(|entry| (entry.serial, entry.target.as_str(), entry.outcome.as_deref()))
        .collect();
    assert_eq!(
        shown,
        [
            (3, "c", None),
            (2, "b", Some("InvalidArgument")),
            (1, "a", Some("ok"))
        ]
    );
    assert_eq!(
        (
            all[0].uid,
            all[0].pid,
            all[0].actor.as_str(),
            all[0].detail.as_str()
        ),
        (1000, 42, "ann", r#"{"window":"day"}"#)
    );
    let page = audit.list(3, 1, "").await.unwrap();
    assert_eq!(page.iter().map(|entry| entry.serial).collect::<Vec<_>>(), [2]);
}

#[tokio::test]
async fn nothing_is_changed_or_removed_whoever_asks() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.db");
    let audit = Audit::open(&path).unwrap();
    audit.begin(change("a")).await.unwrap().end("ok", "").await;
    let other = Connection::open(&path).unwrap();
    for sql in [
        "DELETE FROM change",
        "UPDATE change SET actor = 'nobody'",
        "DELETE FROM outcome",
        "UPDATE outcome SET outcome = 'ok'",
    ] {
        let error = other.execute(sql, []).unwrap_err().to_string();
        assert!(error.contains("append-only"), "{sql}: {error}");
    }
    assert_eq!(audit.list(0, 0, "").await.unwrap().len(), 1);
}

#[test]
fn a_newer_audit_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.db");
    drop(Audit::open(&path).unwrap());
    let other = Connection::open(&path).unwrap();
    other.execute_batch("PRAGMA user_version = 9").unwrap();
    assert!(matches!(
        Audit::open(&path),
        Err(AuditError::Version { found: 9, .. })
    ));
}

#[test]
fn texts_are_bounded() {
    assert_eq!(shortened(&"ä".repeat(2000)).len(), MAX_TEXT);
    assert_eq!(shortened("a\u{1b}[2Jb\n"), "a[2Jb");
}
