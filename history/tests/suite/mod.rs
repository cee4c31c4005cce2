//! The promises of a store about what it keeps and how it is read.
#![allow(clippy::unwrap_used)]

pub(crate) mod searching;

use crate::support::{owner, session, turn, write};
use lodge_history::{
    MessageQuery, Owner, Page, SearchQuery, SearchText, SessionQuery, Store, StoreError, TurnQuery,
};
use lodge_proto::history::{AppendTurnResponse, Message};
use lodge_proto::{SessionId, TurnId};

pub(crate) fn ada() -> Owner {
    owner("ada")
}

pub(crate) fn messages(session_id: SessionId) -> MessageQuery {
    MessageQuery {
        session_id,
        from: None,
        limit: 100,
        backwards: false,
    }
}

pub(crate) fn search(query: &str) -> SearchQuery {
    SearchQuery {
        text: SearchText::parse(query).unwrap(),
        limit: 100,
        session_id: None,
        ranked: false,
    }
}

pub(crate) async fn found(store: &impl Store, by: &Owner, query: SearchQuery) -> Vec<String> {
    store
        .search(by, query)
        .await
        .unwrap()
        .into_iter()
        .map(|hit| hit.snippet)
        .collect()
}

pub(crate) async fn append(
    store: &impl Store,
    id: SessionId,
    from: u64,
    texts: &[&str],
) -> AppendTurnResponse {
    store
        .append_turn(&ada(), write(id, TurnId::new(), from, texts))
        .await
        .unwrap()
}

pub(crate) async fn a_turn_is_read_as_it_was_written(store: &impl Store) {
    let (id, turn_id) = (SessionId::new(), TurnId::new());
    let request = turn(id, turn_id, 0, &["hello", ""]);
    let answer = store
        .append_turn(&ada(), request.clone().try_into().unwrap())
        .await
        .unwrap();
    assert_eq!(
        answer,
        AppendTurnResponse {
            message_version: 2,
            already_stored: false
        }
    );
    let page = store.list_messages(&ada(), messages(id)).await.unwrap();
    assert_eq!(
        page,
        Page {
            items: request.messages,
            next: None
        }
    );
    let query = TurnQuery {
        session_id: id,
        from: 0,
        limit: 10,
    };
    let turns = store.list_turns(&ada(), query).await.unwrap();
    assert_eq!(
        turns,
        Page {
            items: vec![request.turn.unwrap()],
            next: None
        }
    );
    let mut expected = request.session.unwrap();
    (expected.message_count, expected.turn_count) = (2, 1);
    assert_eq!(store.get_session(&ada(), id).await.unwrap(), expected);
}

pub(crate) async fn the_first_write_of_a_turn_wins(store: &impl Store) {
    let (id, turn_id) = (SessionId::new(), TurnId::new());
    store
        .append_turn(&ada(), write(id, turn_id, 0, &["first"]))
        .await
        .unwrap();
    append(store, id, 1, &["later"]).await;
    let before = store.get_session(&ada(), id).await.unwrap();
    for texts in [&["first"][..], &["another", "content"], &[]] {
        let again = store
            .append_turn(&ada(), write(id, turn_id, 7, texts))
            .await
            .unwrap();
        assert_eq!(
            again,
            AppendTurnResponse {
                message_version: 1,
                already_stored: true
            }
        );
    }
    assert_eq!(store.get_session(&ada(), id).await.unwrap(), before);
    let texts: Vec<String> = list(store, messages(id))
        .await
        .into_iter()
        .map(|m| m.text)
        .collect();
    assert_eq!(texts, ["first", "later"]);
}

pub(crate) async fn list(store: &impl Store, query: MessageQuery) -> Vec<Message> {
    store.list_messages(&ada(), query).await.unwrap().items
}

pub(crate) async fn indexes_continue_without_a_gap(store: &impl Store) {
    let id = SessionId::new();
    assert_eq!(append(store, id, 0, &["a", "b"]).await.message_version, 2);
    for (from, position) in [(0, 0), (1, 0), (3, 0)] {
        let error = store
            .append_turn(&ada(), write(id, TurnId::new(), from, &["x"]))
            .await
            .unwrap_err();
        let StoreError::Index {
            position: p,
            found,
            expected,
        } = error
        else {
            panic!("{error}")
        };
        assert_eq!((p, found, expected), (position, from, 2));
    }
    let mut holed = turn(id, TurnId::new(), 2, &["x", "y"]);
    holed.messages[1].index = 4;
    let error = store
        .append_turn(&ada(), holed.try_into().unwrap())
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            StoreError::Index {
                position: 1,
                found: 4,
                expected: 3
            }
        ),
        "{error}"
    );
    assert_eq!(append(store, id, 2, &["c"]).await.message_version, 3);
    assert_eq!(append(store, id, 3, &[]).await.message_version, 3);
}

pub(crate) async fn a_refused_turn_leaves_nothing(store: &impl Store) {
    let id = SessionId::new();
    store
        .append_turn(&ada(), write(id, TurnId::new(), 5, &["searchable"]))
        .await
        .unwrap_err();
    assert!(matches!(
        store.get_session(&ada(), id).await,
        Err(StoreError::NoSession { .. })
    ));
    assert_eq!(found(store, &ada(), search("searchable")).await, [""; 0]);
}

pub(crate) async fn a_message_id_is_used_once(store: &impl Store) {
    let id = SessionId::new();
    let first = turn(id, TurnId::new(), 0, &["a"]);
    let mut second = turn(id, TurnId::new(), 1, &["b", "c"]);
    second.messages[1]
        .message_id
        .clone_from(&first.messages[0].message_id);
    store
        .append_turn(&ada(), first.try_into().unwrap())
        .await
        .unwrap();
    let error = store
        .append_turn(&ada(), second.try_into().unwrap())
        .await
        .unwrap_err();
    assert!(
        matches!(error, StoreError::MessageExists { position: 1, .. }),
        "{error}"
    );
    assert_eq!(store.get_session(&ada(), id).await.unwrap().message_count, 1);
}

pub(crate) async fn a_deleted_session_is_gone_for_good(store: &impl Store) {
    let (id, other, turn_id) = (SessionId::new(), SessionId::new(), TurnId::new());
    store
        .append_turn(&ada(), write(id, turn_id, 0, &["the secret plan", ""]))
        .await
        .unwrap();
    append(store, other, 0, &["the other plan"]).await;
    store.delete_session(&ada(), id).await.unwrap();
    store.delete_session(&ada(), id).await.unwrap();
    assert_eq!(found(store, &ada(), search("plan")).await, ["the other plan"]);
    assert!(matches!(
        store.get_session(&ada(), id).await,
        Err(StoreError::NoSession { .. })
    ));
    assert!(matches!(
        store.list_messages(&ada(), messages(id)).await,
        Err(StoreError::NoSession { .. })
    ));
    let turns = store
        .list_turns(
            &ada(),
            TurnQuery {
                session_id: id,
                from: 0,
                limit: 1,
            },
        )
        .await;
    assert!(matches!(turns, Err(StoreError::NoSession { .. })));
    // Neither a new turn, nor a repeated one, nor a registration brings it back.
    for turn in [turn_id, TurnId::new()] {
        let refused = store.append_turn(&ada(), write(id, turn, 0, &["x"])).await;
        assert!(matches!(refused, Err(StoreError::NoSession { session_id }) if session_id == id));
    }
    let put = store
        .put_session(&ada(), Some(session(id, 9)).try_into().unwrap())
        .await;
    assert!(matches!(put, Err(StoreError::NoSession { .. })));
    // Deleted before its first turn arrived: the same.
    let early = SessionId::new();
    store.delete_session(&ada(), early).await.unwrap();
    assert!(
        store
            .append_turn(&ada(), write(early, TurnId::new(), 0, &["x"]))
            .await
            .is_err()
    );
}

pub(crate) async fn an_old_update_changes_nothing(store: &impl Store) {
    let id = SessionId::new();
    for time in [50, 40, 60] {
        store
            .put_session(&ada(), Some(session(id, time)).try_into().unwrap())
            .await
            .unwrap();
        let stored = store.get_session(&ada(), id).await.unwrap();
        assert_eq!(stored, session(id, time.max(50)));
    }
}

pub(crate) async fn owners_never_meet(store: &impl Store) {
    let (grace, id, turn_id) = (owner("grace"), SessionId::new(), TurnId::new());
    store
        .append_turn(&ada(), write(id, turn_id, 0, &["common word"]))
        .await
        .unwrap();
    assert!(matches!(
        store.get_session(&grace, id).await,
        Err(StoreError::NoSession { .. })
    ));
    assert!(store.list_messages(&grace, messages(id)).await.is_err());
    let all = SessionQuery {
        after: None,
        limit: 10,
    };
    assert_eq!(store.list_sessions(&grace, all.clone()).await.unwrap().items, []);
    assert_eq!(found(store, &grace, search("common")).await, [""; 0]);
    // The same ids under another owner are other things.
    let answer = store
        .append_turn(&grace, write(id, turn_id, 0, &["her own word"]))
        .await
        .unwrap();
    assert!(!answer.already_stored);
    store.delete_session(&grace, id).await.unwrap();
    assert_eq!(store.list_sessions(&ada(), all).await.unwrap().items.len(), 1);
    assert_eq!(found(store, &ada(), search("word")).await, ["common word"]);
    assert_eq!(found(store, &ada(), search("\"mon wo\"")).await, ["common word"]);
    assert_eq!(found(store, &grace, search("word")).await, [""; 0]);
}

pub(crate) async fn sessions_come_newest_first_in_pages(store: &impl Store) {
    let mut expected = Vec::new();
    for time in [5, 9, 7, 7, 7, 1, 8] {
        let id = SessionId::new();
        store
            .put_session(&ada(), Some(session(id, time)).try_into().unwrap())
            .await
            .unwrap();
        expected.push((time, id.to_string()));
    }
    expected.sort();
    expected.reverse();
    for limit in 1..=8 {
        let (mut listed, mut after) = (Vec::new(), None);
        loop {
            let page = store
                .list_sessions(&ada(), SessionQuery { after, limit })
                .await
                .unwrap();
            assert!(page.items.len() <= limit);
            listed.extend(page.items.into_iter().map(|s| (s.updated_at, s.session_id)));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(listed, expected, "pages of {limit}");
    }
}

pub(crate) async fn turns_come_in_pages(store: &impl Store) {
    let id = SessionId::new();
    let mut expected = Vec::new();
    for from in 0..5 {
        let request = turn(id, TurnId::new(), from, &["x"]);
        expected.push(request.turn.clone().unwrap());
        store
            .append_turn(&ada(), request.try_into().unwrap())
            .await
            .unwrap();
    }
    let first = store
        .list_turns(
            &ada(),
            TurnQuery {
                session_id: id,
                from: 0,
                limit: 3,
            },
        )
        .await
        .unwrap();
    assert_eq!(
        first,
        Page {
            items: expected[..3].to_vec(),
            next: Some(3)
        }
    );
    let rest = store
        .list_turns(
            &ada(),
            TurnQuery {
                session_id: id,
                from: 3,
                limit: 3,
            },
        )
        .await
        .unwrap();
    assert_eq!(
        rest,
        Page {
            items: expected[3..].to_vec(),
            next: None
        }
    );
}

pub(crate) async fn a_page_ends_early_when_it_is_large(store: &impl Store) {
    let id = SessionId::new();
    for from in 0..3 {
        let mut request = turn(id, TurnId::new(), from, &["x"]);
        request.messages[0].json = format!("{{\"a\":\"{}\"}}", "x".repeat(9 << 20)).into_bytes();
        store
            .append_turn(&ada(), request.try_into().unwrap())
            .await
            .unwrap();
    }
    for (backwards, indexes, next) in [(false, [0, 1], 2), (true, [1, 2], 1)] {
        let query = MessageQuery {
            backwards,
            ..messages(id)
        };
        let page = store.list_messages(&ada(), query).await.unwrap();
        assert_eq!(page.items.iter().map(|m| m.index).collect::<Vec<_>>(), indexes);
        assert_eq!(page.next, Some(next));
    }
}
