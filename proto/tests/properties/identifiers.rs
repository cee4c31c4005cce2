//! Cursors, and identifiers that a fold derives.

use super::strategies::cursor;
use lodge_proto::ids::{Origin, derive_id};
use lodge_proto::{Cursor, SessionId};
use proptest::prelude::*;
use uuid::Uuid;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_cursor_is_read_as_it_was_written(cursor in cursor()) {
        prop_assert_eq!(cursor.to_string().parse::<Cursor>().unwrap(), cursor);
    }

    #[test]
    fn other_texts_are_no_cursors(text in any::<String>()) {
        match text.parse::<Cursor>() {
            Ok(_) => {
                let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
                let (epoch, seq) = text.split_once('.').unwrap();
                prop_assert!(digits(epoch) && digits(seq), "{text}");
            }
            // What was sent is shown, but never at length.
            Err(error) => prop_assert!(error.0.chars().count() <= 64 && text.starts_with(&error.0)),
        }
    }

    #[test]
    fn near_misses_are_no_cursors(
        epoch in any::<u32>(),
        seq in any::<u64>(),
        shape in prop::sample::select(vec![
            "E", "E.", ".S", "E.S.S", "-E.S", "+E.S", "E.+S", "E.-S", " E.S", "E.S ", "E. S", "E,S", "0xE.S", "E.9S999999999999999999",
        ]),
    ) {
        let text = shape.replace('E', &epoch.to_string()).replace('S', &seq.to_string());
        prop_assert!(text.parse::<Cursor>().is_err(), "{text}");
    }

    #[test]
    fn a_derived_id_depends_on_its_origin_alone(
        session in any::<u128>(),
        generation in any::<u64>(),
        record in any::<u64>(),
        time_ms in 0u64..(1 << 48),
        index in any::<u32>(),
    ) {
        let session = SessionId(Uuid::from_u128(session));
        let origin = Origin { session, generation, record, time_ms };
        let id = derive_id(&origin, index);
        prop_assert_eq!(id, derive_id(&origin, index));
        prop_assert_eq!(id.get_version_num(), 7);
        prop_assert_eq!(id.get_variant(), uuid::Variant::RFC4122);
        // Its time is the record's, so that ids sort as records do.
        prop_assert_eq!(id.as_u128() >> 80, u128::from(time_ms));
        let random = |id: Uuid| id.as_u128() & ((1 << 80) - 1);
        let other = SessionId(Uuid::from_u128(!session.0.as_u128()));
        for changed in [
            derive_id(&origin, index.wrapping_add(1)),
            derive_id(&Origin { record: record.wrapping_add(1), ..origin }, index),
            derive_id(&Origin { generation: generation.wrapping_add(1), ..origin }, index),
            derive_id(&Origin { session: other, ..origin }, index),
        ] {
            prop_assert_ne!(random(changed), random(id));
        }
    }
}

#[test]
fn derived_ids_of_later_records_sort_later() {
    let origin = Origin {
        session: SessionId::new(),
        generation: 1,
        record: 1,
        time_ms: 1_000,
    };
    let later = Origin {
        time_ms: 1_001,
        ..origin
    };
    assert!((0..200).all(|index| derive_id(&origin, index) < derive_id(&later, 200 - index)));
}

#[test]
fn a_clock_beyond_48_bits_does_not_panic() {
    let origin = Origin {
        session: SessionId::new(),
        generation: 1,
        record: 1,
        time_ms: u64::MAX,
    };
    assert_eq!(derive_id(&origin, 0).get_version_num(), 7);
}
