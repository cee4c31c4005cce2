//! The guest's name server: what it answers, and that nothing a guest sends confuses it.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use lodge_guest::dns::{Name, POOL, Pool, QueryError, Wanted, parse_query, serve};
use proptest::prelude::*;

const A: u16 = 1;
const NOW: Duration = Duration::from_secs(1000);

fn question(labels: &[&[u8]], kind: u16, class: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in labels {
        bytes.push(u8::try_from(label.len()).expect("a short label"));
        bytes.extend(*label);
    }
    bytes.push(0);
    bytes.extend(kind.to_be_bytes());
    bytes.extend(class.to_be_bytes());
    bytes
}

fn query(name: &str, kind: u16) -> Vec<u8> {
    let labels: Vec<&[u8]> = name.split('.').map(str::as_bytes).collect();
    let mut packet = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    packet.extend(question(&labels, kind, 1));
    packet
}

/// Response code and address of the answer to an A query.
fn resolve(pool: &mut Pool, name: &str) -> (u8, Option<Ipv4Addr>) {
    let packet = query(name, A);
    let answer = serve(&packet, pool, NOW).expect("an answer");
    assert_eq!(answer[..2], [0x12, 0x34]);
    assert_eq!(answer[2] & 0x80, 0x80);
    assert_eq!(answer[12..packet.len()], packet[12..], "the question is repeated");
    let record = &answer[packet.len()..];
    let address = record.last_chunk::<4>().map(|octets| Ipv4Addr::from(*octets));
    assert_eq!(record.len(), usize::from(answer[7]) * 16);
    (answer[3] & 0xf, address)
}

fn name(text: &str) -> Name {
    let query = parse_query(&query(text, A)).expect("a query");
    query.name.expect("a name")
}

#[test]
fn every_name_gets_an_address_of_its_own_and_keeps_it() {
    let mut pool = Pool::new(100);
    let (code, first) = resolve(&mut pool, "pypi.org");
    assert_eq!((code, first.unwrap().octets()[..2].to_vec()), (0, POOL.to_vec()));
    let (_, second) = resolve(&mut pool, "crates.io");
    assert_ne!(first, second);
    assert_eq!(resolve(&mut pool, "PyPI.org").1, first, "case does not matter");
    assert_eq!(pool.acquire(first.unwrap(), NOW).unwrap().as_str(), "pypi.org");
}

#[test]
fn an_answer_is_what_a_resolver_expects_byte_by_byte() {
    let packet = query("a.bc", A);
    let answer = serve(&packet, &mut Pool::new(1), NOW).unwrap();
    let mut expected = vec![0x12, 0x34, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
    expected.extend(&packet[12..]);
    expected.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 127, 1, 0, 1]);
    assert_eq!(answer, expected);
}

#[test]
fn other_records_do_not_exist_or_are_refused() {
    let mut pool = Pool::new(10);
    let mut code = |kind: u16| {
        let answer = serve(&query("pypi.org", kind), &mut pool, NOW).unwrap();
        assert_eq!(answer[7], 0, "no record of type {kind}");
        answer[3] & 0xf
    };
    for (kind, wanted) in [
        (28, 0),
        (64, 0),
        (65, 0),
        (2, 5),
        (5, 5),
        (12, 5),
        (15, 5),
        (16, 5),
        (33, 5),
        (255, 5),
    ] {
        assert_eq!(code(kind), wanted, "type {kind}");
    }
}

#[test]
fn names_that_cannot_be_connected_to_do_not_exist() {
    let mut pool = Pool::new(10);
    let long = format!("{}.org", "a.".repeat(130));
    for bad in [
        "intranet",
        "169.254.169.254",
        "0x7f.0x1",
        "1.2.3.0xff",
        "-a.org",
        "a-.org",
        "a_b.org",
        "a b.org",
        "a\0b.org",
        "a%00.org",
        "\u{fc}ber.de",
    ] {
        assert_eq!(resolve(&mut pool, bad), (3, None), "{bad:?}");
    }
    assert!(matches!(
        parse_query(&query(&long, A)),
        Err(QueryError::Malformed { .. })
    ));
    assert_eq!(resolve(&mut pool, "localhost"), (0, Some(Ipv4Addr::LOCALHOST)));
    assert_eq!(
        resolve(&mut pool, "app.localhost"),
        (0, Some(Ipv4Addr::LOCALHOST))
    );
    assert_eq!(resolve(&mut pool, "xn--ber-goa.de").0, 0);
}

#[test]
fn what_is_no_query_is_not_answered_as_one() {
    let good = query("pypi.org", A);
    assert!(parse_query(&good).is_ok());
    let mut response = good.clone();
    response[2] |= 0x80;
    assert_eq!(parse_query(&response), Err(QueryError::NotAQuery));
    assert_eq!(
        serve(&response, &mut Pool::new(1), NOW),
        None,
        "no answer to an answer"
    );
    let mut update = good.clone();
    update[2] = 5 << 3;
    assert!(matches!(
        parse_query(&update),
        Err(QueryError::Operation { opcode: 5, .. })
    ));
    let mut two = good.clone();
    two[5] = 2;
    assert!(matches!(
        parse_query(&two),
        Err(QueryError::Malformed { id: 0x1234 })
    ));
    let mut pointer = good[..12].to_vec();
    pointer.extend([0xc0, 12, 0, 1, 0, 1]);
    assert!(matches!(parse_query(&pointer), Err(QueryError::Malformed { .. })));
    for cut in 0..good.len() {
        assert!(parse_query(&good[..cut]).is_err(), "{cut}");
    }
    assert_eq!(parse_query(&good).unwrap().wanted, Wanted::Address);
}

#[test]
fn an_address_in_use_never_changes_its_name() {
    let mut pool = Pool::new(2);
    let first = pool.address(&name("a.org"), NOW).unwrap();
    assert!(pool.acquire(first, NOW).is_some());
    let second = pool.address(&name("b.org"), NOW).unwrap();
    assert_eq!(pool.address(&name("c.org"), NOW), None, "both are fresh");
    let later = NOW + Duration::from_secs(400);
    assert_eq!(
        pool.address(&name("c.org"), later),
        Some(second),
        "b is given up, a is in use"
    );
    let much_later = later + Duration::from_secs(400);
    assert_eq!(pool.address(&name("c.org"), much_later), Some(second));
    assert_eq!(pool.address(&name("d.org"), much_later), None);
    pool.release(first, much_later);
    let end = much_later + Duration::from_secs(400);
    pool.address(&name("c.org"), end);
    assert_eq!(pool.address(&name("d.org"), end), Some(first), "now it is free");
}

proptest! {
    #[test]
    fn no_packet_makes_it_stumble(packet in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = serve(&packet, &mut Pool::new(4), NOW);
    }

    #[test]
    fn no_damaged_query_makes_it_stumble(at in 0usize..40, byte in any::<u8>(), cut in 0usize..40) {
        let mut packet = query("registry.npmjs.org", A);
        let length = packet.len();
        packet[at % length] = byte;
        packet.truncate(length - cut % length);
        if let Some(answer) = serve(&packet, &mut Pool::new(4), NOW) {
            prop_assert_eq!(&answer[..2], &packet[..2]);
            prop_assert!(answer[2] & 0x80 != 0);
        }
    }

    #[test]
    fn names_that_are_accepted_are_plain(labels in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..20), 1..6)) {
        let labels: Vec<&[u8]> = labels.iter().map(Vec::as_slice).collect();
        let mut packet = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        packet.extend(question(&labels, A, 1));
        if let Ok(name) = parse_query(&packet).unwrap().name {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-".contains(c);
            prop_assert!(name.as_str().chars().all(plain));
            prop_assert!(name.as_str().parse::<Ipv4Addr>().is_err());
        }
    }

    /// Against a model that remembers everything: what is in use keeps its name, and no two names share an address.
    #[test]
    fn the_pool_never_mixes_names_up(steps in prop::collection::vec((0u8..3, 0u8..8, 0u64..200), 1..200)) {
        let mut pool = Pool::new(4);
        let mut now = Duration::ZERO;
        let mut held: Vec<(Ipv4Addr, Name)> = Vec::new();
        let mut known: HashMap<Ipv4Addr, Name> = HashMap::new();
        for (act, which, wait) in steps {
            now += Duration::from_secs(wait);
            let wanted = name(&format!("n{which}.org"));
            match act {
                0 => if let Some(address) = pool.address(&wanted, now) {
                    prop_assert!(held.iter().all(|(at, name)| *at != address || *name == wanted));
                    known.insert(address, wanted);
                },
                1 => if let Some(&address) = known.keys().nth(usize::from(which) % known.len().max(1)) {
                    let name = pool.acquire(address, now).unwrap();
                    prop_assert_eq!(&name, &known[&address]);
                    held.push((address, name));
                },
                _ => if let Some((address, _)) = held.pop() {
                    pool.release(address, now);
                },
            }
            let addresses: HashSet<_> = known.keys().collect();
            prop_assert!(addresses.len() <= 4);
        }
    }
}
