//! What a tunnel may carry: on 443 TLS for its name, on 80 HTTP for its name, on other ports these two under the same
//! conditions and anything else as it is.

use super::head::HeadError;
use super::http::HttpGate;
use super::name::Host;
use super::sni::{self, TlsError};

const HTTPS: u16 = 443;
const HTTP: u16 = 80;
/// Of another protocol, within so many bytes it shows that it is not HTTP.
const MAX_FIRST_LINE: usize = 8 << 10;

/// Why a tunnel is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GateError {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Http(#[from] HeadError),
    #[error("the first line is longer than {MAX_FIRST_LINE} bytes")]
    FirstLine,
}

/// Looks at the guest's side of one tunnel.
#[derive(Debug)]
pub struct Gate {
    host: Host,
    port: u16,
    state: State,
    /// Bytes not yet passed; empty once it is known what the connection carries.
    buffer: Vec<u8>,
}

#[derive(Debug)]
enum State {
    /// It is to be seen what is spoken.
    Unknown,
    Tls(sni::Reader),
    Http(Box<HttpGate>),
    Open,
}

impl Gate {
    /// For a tunnel to `host:port`.
    pub fn new(host: Host, port: u16) -> Self {
        let state = match port {
            HTTPS => State::Tls(sni::Reader::default()),
            HTTP => State::Http(Box::new(HttpGate::new(host.clone(), port))),
            _ => State::Unknown,
        };
        Self {
            host,
            port,
            state,
            buffer: Vec::new(),
        }
    }

    /// Takes bytes of the guest; appends to `out` what may be passed.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), GateError> {
        if !bytes.is_empty() && matches!(self.state, State::Unknown) {
            self.buffer.extend_from_slice(bytes);
            let Some(spoken) = spoken(&self.buffer)? else {
                return Ok(());
            };
            self.state = match spoken {
                Spoken::Tls => State::Tls(sni::Reader::default()),
                Spoken::Http => State::Http(Box::new(HttpGate::new(self.host.clone(), self.port))),
                Spoken::Other => State::Open,
            };
            let buffered = std::mem::take(&mut self.buffer);
            return self.feed(&buffered, out);
        }
        match &mut self.state {
            State::Unknown => {}
            State::Open => out.extend_from_slice(bytes),
            State::Http(gate) => gate.feed(bytes, out)?,
            State::Tls(reader) => {
                self.buffer.extend_from_slice(bytes);
                if !self.buffer.is_empty() && reader.check(&self.buffer, &self.host)? {
                    out.append(&mut self.buffer);
                    self.state = State::Open;
                }
            }
        }
        Ok(())
    }

    /// The status of the server's first answer, where it decides what follows.
    pub fn answered(&mut self, status: u16, out: &mut Vec<u8>) -> Result<(), GateError> {
        match &mut self.state {
            State::Http(gate) => Ok(gate.answered(status, out)?),
            _ => Ok(()),
        }
    }

    /// Whether the server's answer decides what follows.
    pub fn awaits_answer(&self) -> bool {
        matches!(&self.state, State::Http(gate) if gate.is_upgrading())
    }

    /// Whether something has begun that is to come to its end soon.
    pub fn is_waiting(&self) -> bool {
        match &self.state {
            State::Unknown | State::Tls(_) => !self.buffer.is_empty(),
            State::Http(gate) => gate.is_waiting(),
            State::Open => false,
        }
    }
}

enum Spoken {
    Tls,
    Http,
    Other,
}

/// What begins like this; `None` while it is open. Where in doubt it is HTTP, which is then read strictly.
fn spoken(bytes: &[u8]) -> Result<Option<Spoken>, GateError> {
    match bytes {
        [22] => return Ok(None),
        [22, 3, ..] => return Ok(Some(Spoken::Tls)),
        _ => {}
    }
    // Servers skip empty lines before a request.
    let start = bytes
        .iter()
        .position(|byte| !b"\r\n".contains(byte))
        .unwrap_or(bytes.len());
    let rest = &bytes[start..];
    let line_end = rest
        .iter()
        .position(|byte| !(byte.is_ascii_graphic() || *byte == b' ' || *byte == b'\t'));
    match line_end {
        None if bytes.len() > MAX_FIRST_LINE => Err(GateError::FirstLine),
        None => Ok(None),
        // Also when all of it came at once.
        Some(end) if start + end > MAX_FIRST_LINE => Err(GateError::FirstLine),
        Some(end) if is_request_line(&rest[..end]) => Ok(Some(Spoken::Http)),
        Some(_) => Ok(Some(Spoken::Other)),
    }
}

fn is_request_line(line: &[u8]) -> bool {
    line.to_ascii_uppercase()
        .windows(5)
        .any(|window| window == b"HTTP/")
}

#[cfg(test)]
mod tests {
    use super::super::sni::tests::client_hello;
    use super::*;
    use proptest::prelude::*;

    fn through(port: u16, bytes: &[u8]) -> Result<Vec<u8>, GateError> {
        let mut gate = Gate::new(Host::parse(b"a.example").unwrap(), port);
        let mut out = Vec::new();
        for byte in bytes {
            gate.feed(&[*byte], &mut out)?;
        }
        Ok(out)
    }

    #[test]
    fn each_port_carries_what_it_should() {
        let request = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n".as_slice();
        let foreign = b"GET / HTTP/1.1\r\nHost: b.example\r\n\r\n".as_slice();
        let (hello, other) = (client_hello("a.example"), client_hello("b.example"));
        let ssh = b"SSH-2.0-OpenSSH_9.2 x\r\n\0\0\x01".as_slice();
        assert_eq!(through(443, &hello).unwrap(), hello);
        assert_eq!(through(443, &other), Err(GateError::Tls(TlsError::OtherName)));
        assert_eq!(through(443, request), Err(GateError::Tls(TlsError::NotTls)));
        assert_eq!(through(443, ssh), Err(GateError::Tls(TlsError::NotTls)));
        assert_eq!(through(80, request).unwrap(), request);
        assert_eq!(through(80, foreign), Err(GateError::Http(HeadError::OtherHost)));
        assert!(through(80, &hello).is_err());
        assert!(through(80, ssh).is_err());
        for port in [22, 8443] {
            assert_eq!(through(port, ssh).unwrap(), ssh);
            assert_eq!(through(port, b"\0\x01binary").unwrap(), b"\0\x01binary");
            assert_eq!(through(port, &hello).unwrap(), hello);
            assert_eq!(through(port, &other), Err(GateError::Tls(TlsError::OtherName)));
            assert_eq!(through(port, foreign), Err(GateError::Http(HeadError::OtherHost)));
            for trick in ["\r\n", "\n\n"] {
                let hidden = [trick.as_bytes(), foreign].concat();
                assert_eq!(through(port, &hidden), Err(GateError::Http(HeadError::Line)));
            }
            assert!(through(port, b"GET / http/1.1\nHost: b.example\n\n").is_err());
            assert!(through(port, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").is_err());
            let endless = vec![b'a'; MAX_FIRST_LINE + 2];
            assert_eq!(through(port, &endless), Err(GateError::FirstLine));
            let ended = [endless.as_slice(), b"\r\n"].concat();
            let mut gate = Gate::new(Host::parse(b"a.example").unwrap(), port);
            assert_eq!(gate.feed(&ended, &mut Vec::new()), Err(GateError::FirstLine));
        }
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(port in prop::sample::select(vec![80u16, 443, 22]), bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut out = Vec::new();
            let at_once = Gate::new(Host::parse(b"a.example").unwrap(), port).feed(&bytes, &mut out);
            let bytewise = through(port, &bytes);
            prop_assert_eq!(at_once.is_ok(), bytewise.is_ok());
            if let Ok(bytewise) = bytewise {
                prop_assert_eq!(bytewise, out);
            }
        }
    }
}
