//! What every store promises, as tests against the trait. A second store joins by one more `contract!` line.
#![allow(clippy::unwrap_used)]

mod suite;
mod support;

use lodge_history::{MessageQuery, SearchQuery, SearchText, SqliteStore, Store};
use lodge_proto::SessionId;
use proptest::prelude::*;
use suite::searching::*;
use suite::*;

/// A store on a fresh database, and what keeps that database alive.
trait Fresh: Store + Sized {
    type Guard;
    fn fresh() -> (Self, Self::Guard);
}

impl Fresh for SqliteStore {
    type Guard = tempfile::TempDir;

    fn fresh() -> (Self, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        (support::open(&directory.path().join("history.db")), directory)
    }
}

macro_rules! contract {
    ($module:ident, $store:ty, [$($test:ident),* $(,)?]) => {
        mod $module {
            $(
                #[tokio::test]
                async fn $test() {
                    let (store, _guard) = <$store as super::Fresh>::fresh();
                    super::$test(&store).await;
                }
            )*
        }
    };
}

contract!(
    sqlite,
    lodge_history::SqliteStore,
    [
        a_turn_is_read_as_it_was_written,
        the_first_write_of_a_turn_wins,
        indexes_continue_without_a_gap,
        a_refused_turn_leaves_nothing,
        a_message_id_is_used_once,
        a_deleted_session_is_gone_for_good,
        an_old_update_changes_nothing,
        owners_never_meet,
        sessions_come_newest_first_in_pages,
        turns_come_in_pages,
        a_page_ends_early_when_it_is_large,
        words_and_code_are_found,
        searches_are_newest_first_unless_ranked,
        no_query_is_a_syntax_error,
    ]
);

/// Reads all messages of a session in pages of `limit`, as a list of pages.
async fn pages(store: &impl Store, session_id: SessionId, limit: usize, backwards: bool) -> Vec<Vec<u64>> {
    let (mut pages, mut from) = (Vec::new(), None);
    loop {
        let query = MessageQuery {
            session_id,
            from,
            limit,
            backwards,
        };
        let page = store.list_messages(&ada(), query).await.unwrap();
        pages.push(page.items.iter().map(|m| m.index).collect());
        from = page.next;
        if from.is_none() {
            return pages;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn pages_in_both_directions_hold_every_message_once(
        turns in prop::collection::vec(0_usize..6, 0..8),
        limit in 1_usize..9,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (store, _guard) = SqliteStore::fresh();
            let (id, mut count) = (SessionId::new(), 0);
            append(&store, id, 0, &[]).await;
            for turn in turns {
                count = append(&store, id, count, &vec!["x"; turn]).await.message_version;
            }
            let all: Vec<u64> = (0..count).collect();
            let forwards = pages(&store, id, limit, false).await;
            assert_eq!(forwards.concat(), all);
            let mut backwards = pages(&store, id, limit, true).await;
            backwards.reverse();
            assert_eq!(backwards.concat(), all);
            assert!(forwards.iter().chain(&backwards).all(|page| page.len() <= limit));
            assert_eq!(forwards.len(), backwards.len());
        });
    }

    #[test]
    fn any_query_gives_an_answer(query in "\\PC{1,40}", ranked: bool) {
        let Ok(text) = SearchText::parse(&query) else { return Ok(()) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (store, _guard) = SqliteStore::fresh();
            append(&store, SessionId::new(), 0, &["some text"]).await;
            store.search(&ada(), SearchQuery { text, limit: 5, session_id: None, ranked }).await.unwrap();
        });
    }
}
