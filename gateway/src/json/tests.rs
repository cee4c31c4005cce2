use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn spliced(body: &str, path: &[&str], value: &str) -> String {
    String::from_utf8(set(body.as_bytes(), path, value).unwrap()).unwrap()
}

#[test]
fn a_value_is_replaced_where_it_stands() {
    let body = "{ \"a\" : 1e2,\n\"mod\\u0065l\":\t\"x\\\"y\" , \"z\":12345678901234567890 }";
    assert_eq!(
        spliced(body, &["model"], "\"n\""),
        "{ \"a\" : 1e2,\n\"mod\\u0065l\":\t\"n\" , \"z\":12345678901234567890 }"
    );
    assert_eq!(spliced("{}", &["a", "b"], "1"), r#"{"a":{"b":1}}"#);
    assert_eq!(spliced(" { } ", &["a"], "1"), r#" {"a":1 } "#);
    assert_eq!(
        spliced(r#"{"a":{"b":0,"b":[1]},"a":7}"#, &["a", "b"], "2"),
        r#"{"a":{"b":2,"b":2},"a":{"b":2}}"#
    );
    assert_eq!(spliced(r#"{"x":1 }"#, &["a"], "[]"), r#"{"x":1,"a":[] }"#);
}

#[test]
fn what_is_no_object_is_an_error_and_never_a_panic() {
    for body in [
        "",
        "[]",
        "1",
        "{",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":1",
        "{\"a\":\"\\",
        "{\"a\":{\"b\":1}",
        "{,}",
        "{\"\\ud800\":1}",
    ] {
        assert_eq!(set(body.as_bytes(), &["a", "b"], "1"), Err(NoObject), "{body}");
    }
}

/// Text of any JSON value, written in odd ways.
fn any_value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("-0.0e+10".to_owned()),
        "[1-9][0-9]{0,40}",
        Just(r#""\u00e9\/\"\\}],{\ud83d\ude00""#.to_owned()),
        any::<String>().prop_map(|text| quoted(&text)),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4)
                .prop_map(|items| format!("[ {} ]", items.join(" ,\n"))),
            prop::collection::vec((any_key(), inner), 0..4).prop_map(|fields| written(&fields)),
        ]
    })
}

/// A name, some of them `model` in one spelling or another.
fn any_key() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("\"model\"".to_owned()),
        Just("\"mod\\u0065l\"".to_owned()),
        any::<String>().prop_map(|text| quoted(&text)),
        "[a-z]{0,6}".prop_map(|text| quoted(&text)),
    ]
}

fn written(fields: &[(String, String)]) -> String {
    let fields: Vec<_> = fields
        .iter()
        .map(|(key, value)| format!("{key}\t:  {value}\r\n"))
        .collect();
    format!("{{ {}}}", fields.join(", "))
}

proptest! {
    #[test]
    fn everything_but_the_value_stays_byte_for_byte(fields in prop::collection::vec((any_key(), any_value()), 0..8)) {
        let body = written(&fields);
        let is_model = |key: &str| decoded(key.as_bytes()).unwrap() == "model";
        let mut replaced: Vec<_> = fields.clone();
        for (_, value) in replaced.iter_mut().filter(|(key, _)| is_model(key)) {
            *value = "\"new\"".to_owned();
        }
        let result = spliced(&body, &["model"], "\"new\"");
        if fields.iter().any(|(key, _)| is_model(key)) {
            prop_assert_eq!(&result, &written(&replaced));
        } else {
            // Added, and taken out again it is what it was.
            let comma = if fields.is_empty() { "" } else { "," };
            let added = format!("{comma}\"model\":\"new\"");
            let at = result.rfind(&added).unwrap();
            prop_assert_eq!(format!("{}{}", &result[..at], &result[at + added.len()..]), body);
        }
        let value: Value = serde_json::from_str(&result).unwrap();
        prop_assert_eq!(&value["model"], "new");
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), body in ".{0,64}") {
        let _any = (set(&bytes, &["a", "b"], "1"), fields(&bytes));
        let _any = set(format!("{{{body}").as_bytes(), &["a"], "1");
    }
}
