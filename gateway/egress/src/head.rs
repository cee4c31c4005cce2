//! Heads of HTTP/1 requests, read strictly: what two readers could understand differently is no request.

use super::name::{Host, NameError};

/// Longest head, bytes.
pub const MAX_HEAD: usize = 16 << 10;
/// Most header fields.
pub const MAX_FIELDS: usize = 100;

/// Why bytes are no request that is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    #[error("the request head is longer than {MAX_HEAD} bytes")]
    TooLong,
    #[error("the request has more than {MAX_FIELDS} header fields")]
    TooManyFields,
    #[error("the request line is malformed")]
    RequestLine,
    #[error("only HTTP/1.0 and HTTP/1.1 are spoken")]
    Version,
    #[error("a line of the head ends or continues in an outdated way")]
    Line,
    #[error("a header field is malformed")]
    Field,
    #[error("the request needs exactly one Host")]
    Host,
    #[error("Host: {0}")]
    HostName(NameError),
    #[error("the target: {0}")]
    Target(NameError),
    #[error("the target has no form that is allowed here")]
    TargetForm,
    #[error("the request names another host than the connection is for")]
    OtherHost,
    #[error("the length of the body is ambiguous")]
    Framing,
    #[error("the chunked body is malformed")]
    Chunk,
    #[error("a second request while the first asked for another protocol")]
    Upgrade,
}

/// Version of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Http10,
    Http11,
}

/// A header field.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    pub name: &'a [u8],
    pub value: &'a [u8],
}

impl Field<'_> {
    /// Whether this is the field of that name.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

/// The head of one request.
#[derive(Clone, Debug)]
pub struct Head<'a> {
    pub method: &'a [u8],
    pub target: &'a [u8],
    pub version: Version,
    pub fields: Vec<Field<'a>>,
    /// Bytes of the head, with its empty line.
    pub length: usize,
}

/// How long the body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Length(u64),
    Chunked,
}

impl<'a> Head<'a> {
    /// The head at the start of `bytes`; `None` while its end is not there.
    pub fn parse(bytes: &'a [u8]) -> Result<Option<Self>, HeadError> {
        if matches!(bytes.first(), Some(b'\r' | b'\n')) {
            return Err(HeadError::Line);
        }
        let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
            return incomplete(bytes).map(|()| None);
        };
        let length = end + 4;
        if length > MAX_HEAD {
            return Err(HeadError::TooLong);
        }
        let mut lines = Lines(&bytes[..end + 2]);
        let (method, target, version) = request_line(lines.next().ok_or(HeadError::RequestLine)??)?;
        let mut fields = Vec::new();
        for line in lines {
            if fields.len() == MAX_FIELDS {
                return Err(HeadError::TooManyFields);
            }
            fields.push(field(line?)?);
        }
        Ok(Some(Self {
            method,
            target,
            version,
            fields,
            length,
        }))
    }

    /// The values of a field, one for each time it stands in the head.
    pub fn values(&self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + '_ {
        let found = self.fields.iter().filter(move |field| field.is(name));
        found.map(|field| field.value)
    }

    /// The one `Host`, if there is any.
    pub fn host(&self, default_port: u16) -> Result<Option<(Host, u16)>, HeadError> {
        let mut values = self.values("host");
        let Some(value) = values.next() else {
            return Ok(None);
        };
        if values.next().is_some() {
            return Err(HeadError::Host);
        }
        Host::parse_with_default(value, default_port)
            .map(Some)
            .map_err(HeadError::HostName)
    }

    /// How long the body is. Both lengths at once, or one of them twice, is an attempt to smuggle.
    pub fn framing(&self) -> Result<Framing, HeadError> {
        let one = |name| -> Result<Option<&[u8]>, HeadError> {
            let mut values = self.values(name);
            let first = values.next();
            match values.next() {
                Some(_) => Err(HeadError::Framing),
                None => Ok(first),
            }
        };
        match (one("content-length")?, one("transfer-encoding")?) {
            (None, None) => Ok(Framing::Length(0)),
            (Some(length), None) => decimal(length).map(Framing::Length),
            (None, Some(encoding))
                if encoding.eq_ignore_ascii_case(b"chunked") && self.version == Version::Http11 =>
            {
                Ok(Framing::Chunked)
            }
            _ => Err(HeadError::Framing),
        }
    }
}

/// Another protocol is known by its first bytes, not when its peer has given up.
fn incomplete(bytes: &[u8]) -> Result<(), HeadError> {
    if bytes.len() > MAX_HEAD {
        return Err(HeadError::TooLong);
    }
    if bytes.first().is_some_and(|byte| !is_token(*byte)) {
        return Err(HeadError::RequestLine);
    }
    let Some(end) = memchr::memchr(b'\n', bytes) else {
        return Ok(());
    };
    let line = bytes[..end].strip_suffix(b"\r").ok_or(HeadError::Line)?;
    request_line(line).map(drop)
}

fn decimal(digits: &[u8]) -> Result<u64, HeadError> {
    if digits.is_empty() || digits.len() > 18 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(HeadError::Framing);
    }
    Ok(digits
        .iter()
        .fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

/// Lines that end with CR LF and hold neither.
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = Result<&'a [u8], HeadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let Some(end) = memchr::memchr2(b'\r', b'\n', self.0) else {
            self.0 = &[];
            return Some(Err(HeadError::Line));
        };
        let (line, rest) = self.0.split_at(end);
        self.0 = rest.strip_prefix(b"\r\n").unwrap_or_default();
        if !rest.starts_with(b"\r\n") || matches!(line.first(), Some(b' ' | b'\t')) {
            self.0 = &[];
            return Some(Err(HeadError::Line));
        }
        Some(Ok(line))
    }
}

type RequestLine<'a> = (&'a [u8], &'a [u8], Version);

fn request_line(line: &[u8]) -> Result<RequestLine<'_>, HeadError> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(HeadError::RequestLine);
    };
    let is_method = !method.is_empty() && method.len() <= 32 && method.iter().all(|byte| is_token(*byte));
    if !is_method || target.is_empty() || !target.iter().all(u8::is_ascii_graphic) {
        return Err(HeadError::RequestLine);
    }
    let version = match version {
        b"HTTP/1.1" => Version::Http11,
        b"HTTP/1.0" => Version::Http10,
        _ => return Err(HeadError::Version),
    };
    Ok((method, target, version))
}

fn field(line: &[u8]) -> Result<Field<'_>, HeadError> {
    let colon = memchr::memchr(b':', line).ok_or(HeadError::Field)?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    let is_value = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
    if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) || !value.iter().all(is_value) {
        return Err(HeadError::Field);
    }
    Ok(Field { name, value })
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Follows a body to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Bytes that are still to come.
    Length(u64),
    Chunked(Chunk),
}

/// Where in a chunked body we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// In the size, after so many digits.
    Size {
        size: u64,
        digits: u8,
    },
    SizeEnd(u64),
    Data(u64),
    /// After the data: CR, then LF.
    DataCr,
    DataLf,
    /// After the last size: CR, then LF. Trailers are not passed.
    LastCr,
    LastLf,
    Done,
}

impl Body {
    /// A body from its start.
    pub fn new(framing: Framing) -> Self {
        match framing {
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(Chunk::Size { size: 0, digits: 0 }),
        }
    }

    /// Whether all of it was seen.
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(Chunk::Done))
    }

    /// How many of the bytes belong to the body.
    pub fn take(&mut self, bytes: &[u8]) -> Result<usize, HeadError> {
        match self {
            Self::Length(left) => Ok(skip(left, bytes.len())),
            Self::Chunked(chunk) => {
                let mut at = 0;
                while at < bytes.len() && *chunk != Chunk::Done {
                    at += chunk.step(&bytes[at..])?;
                }
                Ok(at)
            }
        }
    }
}

/// Takes at most `available` of what is left.
fn skip(left: &mut u64, available: usize) -> usize {
    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(available);
    *left -= taken as u64;
    taken
}

impl Chunk {
    /// Goes on by at least one byte.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, HeadError> {
        let first = bytes.first().copied().unwrap_or_default();
        *self = match *self {
            Self::Size { size, digits } => match (char::from(first).to_digit(16), first) {
                (Some(digit), _) if digits < 15 => Self::Size {
                    size: size << 4 | u64::from(digit),
                    digits: digits + 1,
                },
                (None, b'\r') if digits > 0 => Self::SizeEnd(size),
                _ => return Err(HeadError::Chunk),
            },
            Self::SizeEnd(0) if first == b'\n' => Self::LastCr,
            Self::SizeEnd(size) if first == b'\n' => Self::Data(size),
            Self::Data(mut left) => {
                let taken = skip(&mut left, bytes.len());
                *self = if left == 0 { Self::DataCr } else { Self::Data(left) };
                return Ok(taken);
            }
            Self::DataCr if first == b'\r' => Self::DataLf,
            Self::DataLf if first == b'\n' => Self::Size { size: 0, digits: 0 },
            Self::LastCr if first == b'\r' => Self::LastLf,
            Self::LastLf if first == b'\n' => Self::Done,
            _ => return Err(HeadError::Chunk),
        };
        Ok(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn error(text: &str) -> HeadError {
        match Head::parse(text.as_bytes()) {
            Err(error) => error,
            Ok(head) => head.unwrap().framing().unwrap_err(),
        }
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        use HeadError::{Field, Framing, Line, RequestLine, Version};
        for (text, wanted) in [
            ("\r\nGET / HTTP/1.1\r\n\r\n", Line),
            ("GET / HTTP/1.1\nHost: a\r\n\r\n", Line),
            ("GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", Line),
            ("GET / HTTP/1.1\r\nA: b\rc\r\n\r\n", Line),
            ("GET  / HTTP/1.1\r\n\r\n", RequestLine),
            ("GET /\r\n\r\n", RequestLine),
            ("GET /\t HTTP/1.1\r\n\r\n", RequestLine),
            ("GET / HTTP/1.1 \r\n\r\n", RequestLine),
            ("G(T / HTTP/1.1\r\n\r\n", RequestLine),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Version),
            ("GET / http/1.1\r\n\r\n", Version),
            ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", Field),
            ("GET / HTTP/1.1\r\n: a\r\n\r\n", Field),
            ("GET / HTTP/1.1\r\nHost\r\n\r\n", Field),
            ("GET / HTTP/1.1\r\nA: \0\r\n\r\n", Field),
            (
                "POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                Framing,
            ),
            (
                "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
                Framing,
            ),
            ("POST / HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\n", Framing),
            ("POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\n", Framing),
            ("POST / HTTP/1.1\r\nContent-Length: \r\n\r\n", Framing),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
                Framing,
            ),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n", Framing),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n",
                Framing,
            ),
            ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Framing),
        ] {
            assert_eq!(error(text), wanted, "{text:?}");
        }
    }

    #[test]
    fn heads_are_bounded() {
        let endless = vec![b'a'; MAX_HEAD + 1];
        assert_eq!(Head::parse(&endless).unwrap_err(), HeadError::TooLong);
        let padded = format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "b".repeat(MAX_HEAD));
        assert_eq!(Head::parse(padded.as_bytes()).unwrap_err(), HeadError::TooLong);
        let fields = "A: b\r\n".repeat(MAX_FIELDS + 1);
        let many = format!("GET / HTTP/1.1\r\n{fields}\r\n");
        assert_eq!(
            Head::parse(many.as_bytes()).unwrap_err(),
            HeadError::TooManyFields
        );
        assert!(Head::parse(b"GET / HTTP/1.1\r\nA: b\r\n").unwrap().is_none());
    }

    #[test]
    fn exactly_one_host() {
        let host = |text: &str| Head::parse(text.as_bytes()).unwrap().unwrap().host(80);
        assert_eq!(
            host("GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n"),
            Err(HeadError::Host)
        );
        assert_eq!(host("GET / HTTP/1.1\r\n\r\n"), Ok(None));
        let found = host("GET / HTTP/1.1\r\nhOsT:  A.example:81\t\r\n\r\n")
            .unwrap()
            .unwrap();
        assert_eq!((found.0.to_string().as_str(), found.1), ("a.example", 81));
        let two = "GET / HTTP/1.1\r\nHost: a.example, b.example\r\n\r\n";
        assert_eq!(host(two), Err(HeadError::HostName(NameError::Character)));
    }

    #[test]
    fn bodies_end_where_they_end() {
        for (framing, body, rest) in [
            (Framing::Length(3), "abc", "GET"),
            (Framing::Length(0), "", "GET"),
            (
                Framing::Chunked,
                "3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n",
                "GET",
            ),
            (Framing::Chunked, "0\r\n\r\n", ""),
        ] {
            let whole = format!("{body}{rest}");
            let mut state = Body::new(framing);
            assert_eq!(state.take(whole.as_bytes()).unwrap(), body.len());
            assert!(state.is_done());
            // The same a byte at a time.
            let mut state = Body::new(framing);
            for byte in body.bytes() {
                assert!(!state.is_done());
                assert_eq!(state.take(&[byte]).unwrap(), 1);
            }
            assert!(state.is_done());
        }
        for body in [
            "\r\n",
            "x\r\n",
            "3;a=b\r\nabc",
            "3\nabc",
            "3\r\nabcd\r\n",
            "0\r\nTrailer: x\r\n\r\n",
            "-1\r\n",
            "ffffffffffffffff\r\n",
        ] {
            assert_eq!(
                Body::new(Framing::Chunked).take(body.as_bytes()),
                Err(HeadError::Chunk),
                "{body:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            if let Ok(Some(head)) = Head::parse(&bytes) {
                let _ = (head.host(80), head.framing());
            }
            let _ = Body::new(Framing::Chunked).take(&bytes);
        }

        #[test]
        fn almost_heads_do_not_panic(text in "(GET|CONNECT) [!-~]{0,40} HTTP/1.[01]\r\n([A-Za-z-]{1,20}: ?[ -~]{0,40}\r?\n){0,5}\r\n") {
            if let Ok(Some(head)) = Head::parse(text.as_bytes()) {
                prop_assert!(head.length <= text.len());
                let _ = (head.host(80), head.framing());
            }
        }
    }
}
