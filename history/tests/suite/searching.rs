//! The promises of a store about searching.

use super::{ada, append, found, search};
use lodge_history::{SearchQuery, SearchText, Store};
use lodge_proto::SessionId;

pub(crate) async fn words_and_code_are_found(store: &impl Store) {
    let (id, other) = (SessionId::new(), SessionId::new());
    let prose = "The builders were running their Größe tests";
    let code = "fn open_database(path: &Path) -> io::Result<()> { a.b?; }";
    append(store, id, 0, &[prose, code, "東京都に住んでいます"]).await;
    append(store, other, 0, &["running elsewhere"]).await;
    for query in [
        "builder",
        "RUN tests",
        "grosse tests OR",
        "größe",
        "\"running their\"",
    ] {
        let expected: &[&str] = if query.contains("OR") || query == "grosse tests OR" {
            &[]
        } else {
            &[prose]
        };
        assert_eq!(found(store, &ada(), search(query)).await, expected, "{query}");
    }
    for query in [
        "pen_data",
        "io::Result",
        "&Path)",
        "a.b?;",
        "OPEN_DATABASE(",
        "atabas",
    ] {
        let hits = found(store, &ada(), search(query)).await;
        assert_eq!(hits.len(), 1, "{query}: {hits:?}");
    }
    assert_eq!(
        found(store, &ada(), search("京都に")).await,
        ["東京都に住んでいます"]
    );
    let within = SearchQuery {
        session_id: Some(other),
        ..search("running")
    };
    assert_eq!(found(store, &ada(), within.clone()).await, ["running elsewhere"]);
    let ranked = SearchQuery {
        ranked: true,
        ..within
    };
    assert_eq!(found(store, &ada(), ranked).await, ["running elsewhere"]);
}

pub(crate) async fn searches_are_newest_first_unless_ranked(store: &impl Store) {
    let id = SessionId::new();
    let long = format!("apple and {}", "much else ".repeat(50));
    append(store, id, 0, &["apple apple apple", &long, "no fruit"]).await;
    let newest = found(store, &ada(), search("apple")).await;
    assert!(
        newest[0].starts_with("apple and") && newest[1] == "apple apple apple",
        "{newest:?}"
    );
    let ranked = found(
        store,
        &ada(),
        SearchQuery {
            ranked: true,
            ..search("apple")
        },
    )
    .await;
    assert_eq!(ranked[0], "apple apple apple");
    assert_eq!(ranked.len(), 2);
    let one = found(
        store,
        &ada(),
        SearchQuery {
            limit: 1,
            ..search("apple")
        },
    )
    .await;
    assert_eq!(one.len(), 1);
}

pub(crate) async fn no_query_is_a_syntax_error(store: &impl Store) {
    append(
        store,
        SessionId::new(),
        0,
        &["text: \"quoted\" AND NOT (this) OR that* ^x NEAR(a b, 2) {c} -d"],
    )
    .await;
    let garbage = [
        "\"", "*", "^", "(", ")", "AND", "OR NOT", "NEAR(", "text:", "{x}", "-", "a:b", "a AND", "\"a",
        "a\"b\"c", "'", "''", "';--", "\\", "+", "a + b", "\u{0}", "\u{fffd}", "🦀", "%", "x*y", "^a",
        "col : x", "()", "~!@#", "\u{301}", "a\u{0}\"",
    ];
    for query in garbage {
        let Ok(text) = SearchText::parse(query) else {
            continue;
        };
        for ranked in [false, true] {
            let query = SearchQuery {
                text: text.clone(),
                limit: 5,
                session_id: None,
                ranked,
            };
            store
                .search(&ada(), query)
                .await
                .unwrap_or_else(|e| panic!("{text:?}: {e:?}"));
        }
    }
    for literal in ["NOT (this)", "that*", "text:", "NEAR(a"] {
        assert_eq!(found(store, &ada(), search(literal)).await.len(), 1, "{literal}");
    }
}
