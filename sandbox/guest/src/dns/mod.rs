//! The name server inside the guest: every name gets an address of its own out of a pool of loopback addresses, and
//! no query ever leaves the sandbox. What lies behind a name, and whether it may be reached at all, the broker
//! decides when a connection is made.
//!
//! Pure functions over bytes that a guest sent: nothing here may panic, allocate by a length it was told, or loop
//! on a pointer (names in a question are never compressed, so pointers are refused).

mod name;
mod pool;

use std::net::Ipv4Addr;

pub use name::{Name, NameError};
pub use pool::{POOL, Pool};

/// Longest query that is looked at, in bytes.
pub const MAX_QUERY: usize = 4096;

const HEADER: usize = 12;
const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;
const TYPE_SVCB: u16 = 64;
const TYPE_HTTPS: u16 = 65;
const CLASS_IN: u16 = 1;
/// Seconds an answer may be kept: an address is only good while the pool remembers whose it is.
const TTL: u32 = 1;

const RESPONSE: u16 = 1 << 15;
const OPCODE: u16 = 0b1111 << 11;
const RECURSION_DESIRED: u16 = 1 << 8;
const RECURSION_AVAILABLE: u16 = 1 << 7;

/// What a query asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// An IPv4 address.
    Address,
    /// Something that names never have here: IPv6 addresses and service bindings, which would lead around the pool
    /// or hide the name of a connection.
    Never,
    /// Anything else is not answered: records of free text are a way out for data in other resolvers.
    Other,
}

/// A well-formed query with one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    id: u16,
    recursion_desired: bool,
    /// The question as it came, for the answer: clients compare the case of letters.
    question: Vec<u8>,
    /// The name asked for, or why it is none.
    pub name: Result<Name, NameError>,
    pub wanted: Wanted,
}

/// Why a packet is no query. Those with an id can be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// Not even a header, or an answer: silence is the reply.
    #[error("not a query")]
    NotAQuery,
    #[error("malformed query")]
    Malformed { id: u16 },
    #[error("operation {opcode} is not supported")]
    Operation { id: u16, opcode: u8 },
}

/// What is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    Address(Ipv4Addr),
    /// The name exists, without a record of that type.
    Nothing,
    NoSuchName,
    Refused,
    /// The pool is used up.
    Failure,
}

/// Reads a packet of at most [`MAX_QUERY`] bytes.
pub fn parse_query(packet: &[u8]) -> Result<Query, QueryError> {
    let header = packet
        .first_chunk::<HEADER>()
        .filter(|_| packet.len() <= MAX_QUERY);
    let header = header.ok_or(QueryError::NotAQuery)?;
    let field = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let (id, flags) = (field(0), field(2));
    if flags & RESPONSE != 0 {
        return Err(QueryError::NotAQuery);
    }
    if flags & OPCODE != 0 {
        let opcode = ((flags & OPCODE) >> 11) as u8;
        return Err(QueryError::Operation { id, opcode });
    }
    // One question, no answer; an additional record (EDNS) is allowed and not looked at.
    if (field(4), field(6), field(8)) != (1, 0, 0) {
        return Err(QueryError::Malformed { id });
    }
    let malformed = QueryError::Malformed { id };
    let rest = &packet[HEADER..];
    let (name, used) = name::read(rest).ok_or(malformed)?;
    let &[t0, t1, c0, c1] = rest
        .get(used..)
        .and_then(|rest| rest.first_chunk::<4>())
        .ok_or(malformed)?;
    let (kind, class) = (u16::from_be_bytes([t0, t1]), u16::from_be_bytes([c0, c1]));
    let wanted = match kind {
        _ if class != CLASS_IN => Wanted::Other,
        TYPE_A => Wanted::Address,
        TYPE_AAAA | TYPE_SVCB | TYPE_HTTPS => Wanted::Never,
        _ => Wanted::Other,
    };
    Ok(Query {
        id,
        recursion_desired: flags & RECURSION_DESIRED != 0,
        question: rest[..used + 4].to_vec(),
        name,
        wanted,
    })
}

/// The packet that says `reply` to `query`.
pub fn answer(query: &Query, reply: Reply) -> Vec<u8> {
    let code = match reply {
        Reply::Address(_) | Reply::Nothing => 0,
        Reply::Failure => 2,
        Reply::NoSuchName => 3,
        Reply::Refused => 5,
    };
    let records = u16::from(matches!(reply, Reply::Address(_)));
    let mut flags = RESPONSE | RECURSION_AVAILABLE | code;
    if query.recursion_desired {
        flags |= RECURSION_DESIRED;
    }
    let mut packet = Vec::with_capacity(HEADER + query.question.len() + 16);
    for field in [query.id, flags, 1, records, 0, 0] {
        packet.extend(field.to_be_bytes());
    }
    packet.extend(&query.question);
    if let Reply::Address(address) = reply {
        // The name: a pointer to the question.
        packet.extend([0xc0, HEADER.to_le_bytes()[0]]);
        packet.extend(TYPE_A.to_be_bytes());
        packet.extend(CLASS_IN.to_be_bytes());
        packet.extend(TTL.to_be_bytes());
        packet.extend(4u16.to_be_bytes());
        packet.extend(address.octets());
    }
    packet
}

/// The packet that refuses what could not be read; `None` where silence is better.
pub fn reject(error: QueryError) -> Option<Vec<u8>> {
    let (id, code) = match error {
        QueryError::NotAQuery => return None,
        QueryError::Malformed { id } => (id, 1),
        QueryError::Operation { id, .. } => (id, 4),
    };
    let fields = [id, RESPONSE | code, 0, 0, 0, 0];
    Some(fields.into_iter().flat_map(u16::to_be_bytes).collect())
}

/// The whole server: what to send back for `packet`, with addresses from `pool`.
pub fn serve(packet: &[u8], pool: &mut Pool, now: std::time::Duration) -> Option<Vec<u8>> {
    let query = match parse_query(packet) {
        Ok(query) => query,
        Err(error) => return reject(error),
    };
    let reply = match (&query.name, query.wanted) {
        (_, Wanted::Other) => Reply::Refused,
        (Ok(name), wanted) if name.is_localhost() => match wanted {
            Wanted::Address => Reply::Address(Ipv4Addr::LOCALHOST),
            _ => Reply::Nothing,
        },
        (Err(_), _) => Reply::NoSuchName,
        (Ok(_), Wanted::Never) => Reply::Nothing,
        (Ok(name), Wanted::Address) => pool.address(name, now).map_or(Reply::Failure, Reply::Address),
    };
    Some(answer(&query, reply))
}
