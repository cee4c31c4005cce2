//! The first message of TLS, read as far as the server's name.
//!
//! Encrypted client hellos are refused. What they hide is the very name that is checked here: a guest that is allowed
//! one name of a large host could reach every other name there. Browsers offer a meaningless one of these to every
//! server (that is its purpose: nobody can tell), so in a guest they have to be told not to; the manual says how.

use super::name::{Host, HostName, NameError};

/// Bytes within which the name has to come.
const MAX_BYTES: usize = 64 << 10;
/// Longest client hello.
const MAX_HELLO: usize = 32 << 10;
const RECORD_HEADER: usize = 5;
const MAX_RECORD: usize = 16 << 10;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;
/// Its name in earlier drafts.
const ENCRYPTED_SERVER_NAME: u16 = 0xffce;

/// Why a connection is not taken for TLS to the right server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    #[error("this is not TLS")]
    NotTls,
    #[error("the client hello is malformed")]
    Malformed,
    #[error("the client hello is longer than {MAX_HELLO} bytes")]
    TooLong,
    #[error("the client hello names no server")]
    NoName,
    #[error("the server's name: {0}")]
    Name(NameError),
    #[error("the client hello names another server than the connection is for")]
    OtherName,
    #[error("encrypted client hellos are not passed: they hide the server's name")]
    Encrypted,
}

/// How far the reading got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// At least so many bytes are needed from the start of the connection.
    Need(usize),
    /// The hello is there.
    Hello(ClientHello),
}

/// What a client hello says about its server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientHello {
    pub name: Option<HostName>,
}

/// Reads the start of one connection, as often as more of it is there; what was read is not read again.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    /// Where the next record begins.
    at: usize,
    /// The handshake message, out of the records before.
    hello: Vec<u8>,
}

impl Reader {
    /// Whether `bytes`, which are all of the connection from its start, are a client hello for `host`; `Ok(false)`
    /// while more are needed.
    pub fn check(&mut self, bytes: &[u8], host: &Host) -> Result<bool, TlsError> {
        match (self.read(bytes)?, host) {
            (Progress::Need(_), _) => Ok(false),
            (Progress::Hello(ClientHello { name: Some(name) }), Host::Name(wanted)) if name == *wanted => {
                Ok(true)
            }
            (Progress::Hello(ClientHello { name: None }), Host::Name(_)) => Err(TlsError::NoName),
            // An address has no name to be compared with; it was allowed as exactly this one.
            (Progress::Hello(ClientHello { name: None }), Host::Address(_)) => Ok(true),
            (Progress::Hello(_), _) => Err(TlsError::OtherName),
        }
    }

    /// Reads a client hello, which may be spread over several records. To be given all bytes of the connection, and
    /// not to be called again after a hello or an error.
    pub fn read(&mut self, bytes: &[u8]) -> Result<Progress, TlsError> {
        loop {
            let rest = bytes.get(self.at..).unwrap_or_default();
            match (rest.first(), rest.get(1)) {
                (Some(&kind), _) if kind != HANDSHAKE => return Err(TlsError::NotTls),
                (_, Some(&major)) if major != 3 => return Err(TlsError::NotTls),
                _ => {}
            }
            let Some(header) = rest.get(..RECORD_HEADER) else {
                return need(self.at + RECORD_HEADER);
            };
            let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
            if length == 0 || length > MAX_RECORD {
                return Err(TlsError::Malformed);
            }
            let end = self.at + RECORD_HEADER + length;
            // Also of what is there already: how the bytes came makes no difference.
            if end > MAX_BYTES {
                return Err(TlsError::TooLong);
            }
            let Some(fragment) = bytes.get(self.at + RECORD_HEADER..end) else {
                return need(end);
            };
            self.hello.extend_from_slice(fragment);
            self.at = end;
            if let Some(body) = whole(&self.hello)? {
                return parse(body).map(Progress::Hello);
            }
        }
    }
}

/// [`Reader::check`] of bytes that are all there.
pub fn check(bytes: &[u8], host: &Host) -> Result<bool, TlsError> {
    Reader::default().check(bytes, host)
}

/// [`Reader::read`] of bytes that are all there.
pub fn read(bytes: &[u8]) -> Result<Progress, TlsError> {
    Reader::default().read(bytes)
}

fn need(bytes: usize) -> Result<Progress, TlsError> {
    if bytes > MAX_BYTES {
        return Err(TlsError::TooLong);
    }
    Ok(Progress::Need(bytes))
}

/// The body of the handshake message, when all of it is there and nothing else.
fn whole(hello: &[u8]) -> Result<Option<&[u8]>, TlsError> {
    if hello.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Err(TlsError::NotTls);
    }
    let [_, high, middle, low, body @ ..] = hello else {
        return Ok(None);
    };
    let length = usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low);
    if length > MAX_HELLO {
        return Err(TlsError::TooLong);
    }
    match body.len() {
        there if there < length => Ok(None),
        there if there == length => Ok(Some(body)),
        _ => Err(TlsError::Malformed),
    }
}

fn parse(body: &[u8]) -> Result<ClientHello, TlsError> {
    let mut reader = Fields(body);
    reader.bytes(2 + 32)?;
    let session = reader.short()?;
    let suites = reader.long()?;
    let compression = reader.short()?;
    if session.len() > 32 || suites.is_empty() || suites.len() % 2 != 0 || compression.is_empty() {
        return Err(TlsError::Malformed);
    }
    let mut hello = ClientHello { name: None };
    if reader.0.is_empty() {
        return Ok(hello);
    }
    let mut extensions = Fields(reader.long()?);
    if !reader.0.is_empty() {
        return Err(TlsError::Malformed);
    }
    let mut seen = Vec::new();
    while !extensions.0.is_empty() {
        let kind = extensions.number()?;
        let content = extensions.long()?;
        if seen.contains(&kind) {
            return Err(TlsError::Malformed);
        }
        seen.push(kind);
        match kind {
            SERVER_NAME => hello.name = Some(server_name(content)?),
            ENCRYPTED_CLIENT_HELLO | ENCRYPTED_SERVER_NAME => return Err(TlsError::Encrypted),
            _ => {}
        }
    }
    Ok(hello)
}

/// The list of names, which has one.
fn server_name(content: &[u8]) -> Result<HostName, TlsError> {
    const HOST_NAME: u8 = 0;
    let mut outer = Fields(content);
    let mut list = Fields(outer.long()?);
    let kind = list.bytes(1)?;
    let name = list.long()?;
    if !outer.0.is_empty() || !list.0.is_empty() || kind != [HOST_NAME] {
        return Err(TlsError::Malformed);
    }
    HostName::parse(name).map_err(TlsError::Name)
}

/// Reads from the front.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8], TlsError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(TlsError::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u16, TlsError> {
        let bytes = self.bytes(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// Bytes after their length in one byte.
    fn short(&mut self) -> Result<&'a [u8], TlsError> {
        let length = self.bytes(1)?[0];
        self.bytes(length.into())
    }

    /// Bytes after their length in two bytes.
    fn long(&mut self) -> Result<&'a [u8], TlsError> {
        let length = self.number()?;
        self.bytes(length.into())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn vector16(content: &[u8]) -> Vec<u8> {
        let mut out = u16::try_from(content.len()).unwrap().to_be_bytes().to_vec();
        out.extend_from_slice(content);
        out
    }

    fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
        [kind.to_be_bytes().to_vec(), vector16(content)].concat()
    }

    fn named(name: &str) -> Vec<u8> {
        let entry = [vec![0], vector16(name.as_bytes())].concat();
        extension(SERVER_NAME, &vector16(&entry))
    }

    fn hello(extensions: &[u8]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.push(0);
        body.extend(vector16(&[0x13, 0x01]));
        body.extend([1, 0]);
        body.extend(vector16(extensions));
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[CLIENT_HELLO, length[1], length[2], length[3]], body.as_slice()].concat()
    }

    fn records(message: &[u8], size: usize) -> Vec<u8> {
        message
            .chunks(size)
            .flat_map(|part| [vec![HANDSHAKE, 3, 1], vector16(part)].concat())
            .collect()
    }

    /// A client hello for a name, in one record.
    pub(in super::super) fn client_hello(name: &str) -> Vec<u8> {
        records(&hello(&named(name)), MAX_RECORD)
    }

    fn host(name: &str) -> Host {
        Host::parse(name.as_bytes()).unwrap()
    }

    #[test]
    fn the_name_is_the_one_of_the_connection() {
        let a = host("a.example");
        let other = [extension(43, &[2, 3, 4]), named("A.example")].concat();
        assert_eq!(check(&client_hello("a.example"), &a), Ok(true));
        assert_eq!(check(&records(&hello(&other), 100), &a), Ok(true));
        let cases: [(Vec<u8>, TlsError); 8] = [
            (named("b.example"), TlsError::OtherName),
            (named("a.example.b.example"), TlsError::OtherName),
            (vec![], TlsError::NoName),
            (
                [named("a.example"), named("b.example")].concat(),
                TlsError::Malformed,
            ),
            (
                [named("a.example"), extension(ENCRYPTED_CLIENT_HELLO, &[0])].concat(),
                TlsError::Encrypted,
            ),
            (named("a.example."), TlsError::Name(NameError::TrailingDot)),
            (named("a.example\0.b.example"), TlsError::Name(NameError::Nul)),
            (named("127.0.0.1"), TlsError::Name(NameError::Numeric)),
        ];
        for (extensions, wanted) in cases {
            assert_eq!(check(&records(&hello(&extensions), MAX_RECORD), &a), Err(wanted));
        }
        let two = [
            [vec![0], vector16(b"a.example")].concat(),
            [vec![0], vector16(b"b.example")].concat(),
        ]
        .concat();
        let two = extension(SERVER_NAME, &vector16(&two));
        assert_eq!(
            check(&records(&hello(&two), MAX_RECORD), &a),
            Err(TlsError::Malformed)
        );
    }

    #[test]
    fn an_address_has_no_name() {
        let address = host("192.0.2.1");
        assert_eq!(check(&records(&hello(&[]), MAX_RECORD), &address), Ok(true));
        assert_eq!(
            check(&client_hello("a.example"), &address),
            Err(TlsError::OtherName)
        );
    }

    #[test]
    fn other_protocols_are_not_tls() {
        for bytes in [
            b"GET / HTTP/1.1\r\n".as_slice(),
            b"SSH-2.0-x\r\n",
            &[0x16, 2, 0, 0, 5],
            &[0x17, 3, 3, 0, 5],
            &[0x80, 46, 1, 3, 1],
            &[HANDSHAKE, 3, 1, 0, 4, 2, 0, 0, 0],
        ] {
            assert_eq!(read(bytes), Err(TlsError::NotTls), "{bytes:?}");
        }
        assert_eq!(read(&[HANDSHAKE, 3, 1, 0, 0]), Err(TlsError::Malformed));
        assert_eq!(read(&[HANDSHAKE, 3, 1, 0xff, 0xff]), Err(TlsError::Malformed));
        assert_eq!(read(&[HANDSHAKE, 3, 1, 0, 4, 1, 1, 0, 0]), Err(TlsError::TooLong));
        // One byte a record: all of it at once is too long too.
        let spread = records(&hello(&extension(21, &[0; 12_000])), 1);
        assert_eq!(read(&spread), Err(TlsError::TooLong));
        assert_eq!(read(&spread[..MAX_BYTES]), Err(TlsError::TooLong));
        let extra = [hello(&named("a.example")), vec![1]].concat();
        assert_eq!(read(&records(&extra, MAX_RECORD)), Err(TlsError::Malformed));
    }

    proptest! {
        #[test]
        fn records_of_any_size_make_no_difference(size in 1usize..400, cut in any::<prop::sample::Index>()) {
            let bytes = records(&hello(&named("a.example")), size);
            prop_assert_eq!(check(&bytes, &host("a.example")), Ok(true));
            let cut = cut.index(bytes.len());
            match read(&bytes[..cut]) {
                Ok(Progress::Need(needed)) => prop_assert!(needed > cut && needed <= bytes.len()),
                other => prop_assert!(false, "{:?}", other),
            }
            let mut reader = Reader::default();
            for end in (0..cut).chain([bytes.len()]) {
                prop_assert_eq!(reader.check(&bytes[..end], &host("a.example")), Ok(end == bytes.len()));
            }
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = read(&bytes);
            let _ = read(&records(&hello(&bytes), 64));
            let _ = parse(&bytes);
        }

        #[test]
        fn a_flipped_byte_never_makes_another_name_pass(at in any::<prop::sample::Index>(), with in any::<u8>()) {
            let mut bytes = client_hello("a.example");
            let at = at.index(bytes.len());
            bytes[at] = with;
            if let Ok(Progress::Hello(hello)) = read(&bytes) {
                let passes = check(&bytes, &host("a.example")) == Ok(true);
                prop_assert_eq!(passes, hello.name == Some(HostName::parse(b"a.example").unwrap()));
            }
        }
    }
}
