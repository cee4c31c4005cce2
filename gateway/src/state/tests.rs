use super::*;

#[tokio::test]
async fn what_was_written_is_there_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    let (state, loaded) = State::open(&path).unwrap();
    assert!(loaded.objects.is_empty() && loaded.accounts.is_empty() && loaded.tokens.is_empty());
    let object = |serial, owner: &str, id: &str| StoredObject {
        serial,
        provider: "p".into(),
        account: "default".into(),
        owner: owner.into(),
        id: id.into(),
        kind: "response".into(),
    };
    let account = |state: &str| StoredAccount {
        provider: "p".into(),
        account: "default".into(),
        state: state.into(),
    };
    state.put_object(object(1, "a", "resp_1"));
    state.put_object(object(2, "b", "resp_1"));
    state.put_object(object(3, "b", "resp_2"));
    state.put_object(object(4, "b", "resp_3"));
    state.remove_object(3);
    state.put_account(account("{}"));
    state.put_account(account("{\"x\":1}"));
    let token = StoredToken {
        provider: "p".into(),
        account: "o".into(),
        sealed: vec![1, 2],
    };
    state.put_token(token.clone()).await.unwrap();
    drop(state);
    let (_state, loaded) = State::open(&path).unwrap();
    assert_eq!(
        loaded.objects,
        [object(1, "a", "resp_1"), object(4, "b", "resp_3")]
    );
    assert_eq!(loaded.accounts, [account("{\"x\":1}")]);
    assert_eq!(loaded.tokens, [token]);
}

#[test]
fn what_an_older_program_wrote_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    drop(State::open(&path).unwrap());
    // As version 1 was.
    Connection::open(&path)
        .unwrap()
        .execute_batch(
            "INSERT INTO object (serial, provider, account, owner, id) VALUES (7, 'p', 'a', 'o', 'resp_1');
             ALTER TABLE object DROP COLUMN kind; PRAGMA user_version = 1;",
        )
        .unwrap();
    for _ in 0..2 {
        let (_state, loaded) = State::open(&path).unwrap();
        let known: Vec<_> = loaded
            .objects
            .iter()
            .map(|object| (object.serial, object.id.as_str(), object.kind.as_str()))
            .collect();
        assert_eq!(known, [(7, "resp_1", "")]);
    }
}

#[test]
fn a_newer_schema_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    drop(State::open(&path).unwrap());
    Connection::open(&path)
        .unwrap()
        .execute_batch("PRAGMA user_version = 9")
        .unwrap();
    assert!(matches!(
        State::open(&path),
        Err(StateError::Version { found: 9, .. })
    ));
}
