//! Queries to the guest's name server. An answer belongs to its query, holds an address of the pool or none, and only
//! for a name that the broker would read the same way.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lodge_egress::name::HostName;
use lodge_guest::dns::{MAX_QUERY, POOL, Pool, QueryError, Wanted, parse_query, serve};
use std::net::Ipv4Addr;
use std::time::Duration;

const HEADER: usize = 12;
/// A pointer to the question, type, class, time to live, length, address.
const RECORD: usize = 16;

fn number(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// The address in an answer, read without the server's own code.
fn address(packet: &[u8], reply: &[u8]) -> Option<Ipv4Addr> {
    assert_eq!(reply[..2], packet[..2], "the id of its query");
    assert_eq!(number(reply, 2) & 0xf800, 0x8000, "an answer to a standard query");
    assert_eq!(
        (number(reply, 8), number(reply, 10)),
        (0, 0),
        "no further records"
    );
    let records = usize::from(number(reply, 6));
    if number(reply, 4) == 0 {
        assert_eq!((records, reply.len()), (0, HEADER));
        return None;
    }
    let question = reply.len() - HEADER - RECORD * records;
    assert_eq!(
        reply[HEADER..HEADER + question],
        packet[HEADER..HEADER + question],
        "the question as it came"
    );
    if records == 0 {
        return None;
    }
    assert_eq!((records, number(reply, 2) & 0xf), (1, 0));
    let asked = HEADER + question - 4;
    assert_eq!(
        (number(reply, asked), number(reply, asked + 2)),
        (1, 1),
        "addresses are what was asked for"
    );
    let record = &reply[HEADER + question..];
    assert_eq!(record[..12], [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
    Some(Ipv4Addr::new(record[12], record[13], record[14], record[15]))
}

fn check(packet: &[u8], pool: &mut Pool) {
    let Some(reply) = serve(packet, pool, Duration::ZERO) else {
        assert_eq!(
            parse_query(packet),
            Err(QueryError::NotAQuery),
            "who asks is answered"
        );
        return;
    };
    assert!(packet.len() <= MAX_QUERY && reply.len() <= packet.len().max(HEADER) + RECORD);
    assert_eq!(
        parse_query(&reply),
        Err(QueryError::NotAQuery),
        "no answer is taken for a query"
    );
    let Some(address) = address(packet, &reply) else {
        return;
    };
    let query = parse_query(packet).expect("what could not be read has no address");
    let name = query.name.expect("what is no name has no address");
    assert_eq!(query.wanted, Wanted::Address);
    if name.is_localhost() {
        assert_eq!(address, Ipv4Addr::LOCALHOST);
        return;
    }
    assert_eq!(address.octets()[..2], POOL);
    let host = HostName::parse(name.as_str().as_bytes()).expect("the broker takes the name");
    assert_eq!(host.as_str(), name.as_str());
    let behind = pool.acquire(address, Duration::ZERO);
    assert_eq!(
        behind,
        Some(name),
        "the address leads to the name it was given for"
    );
    pool.release(address, Duration::ZERO);
}

fuzz_target!(|bytes: &[u8]| {
    // Several packets, each after its length, so that the pool is shared and runs out.
    let (mut pool, mut rest) = (Pool::new(4), bytes);
    while let Some((&length, after)) = rest.split_first() {
        let (packet, after) = after.split_at(usize::from(length).min(after.len()));
        check(packet, &mut pool);
        rest = after;
    }
    check(bytes, &mut pool);
});
