//! Plain HTTP inside a tunnel: every request on the connection names the host the tunnel is for.

use super::connect::absolute;
use super::head::{Body, Field, Head, HeadError};
use super::name::Host;

/// Bytes kept while the server has not yet said whether it changes the protocol.
const MAX_WAITING: usize = 64 << 10;

/// Follows the requests of one connection; passes what is in order.
#[derive(Debug)]
pub struct HttpGate {
    host: Host,
    port: u16,
    state: State,
    /// Bytes that were not yet passed.
    buffer: Vec<u8>,
    is_first: bool,
}

#[derive(Debug)]
enum State {
    Head,
    Body(Body),
    /// A request for a WebSocket was passed; the answer decides what follows.
    Upgrading,
    Opaque,
}

impl HttpGate {
    /// A connection to `host:port` that has carried nothing yet.
    pub fn new(host: Host, port: u16) -> Self {
        Self {
            host,
            port,
            state: State::Head,
            buffer: Vec::new(),
            is_first: true,
        }
    }

    /// Takes bytes of the guest; appends to `out` what may be passed.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), HeadError> {
        self.buffer.extend_from_slice(bytes);
        while !self.buffer.is_empty() {
            match &mut self.state {
                State::Opaque => {
                    out.append(&mut self.buffer);
                    return Ok(());
                }
                State::Upgrading if self.buffer.len() > MAX_WAITING => return Err(HeadError::Upgrade),
                State::Upgrading => return Ok(()),
                State::Body(body) => {
                    let taken = body.take(&self.buffer)?;
                    out.extend(self.buffer.drain(..taken));
                    if body.is_done() {
                        self.state = State::Head;
                    }
                }
                State::Head => {
                    if !self.head(out)? {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// What the server answered to the request that asked for another protocol.
    pub fn answered(&mut self, status: u16, out: &mut Vec<u8>) -> Result<(), HeadError> {
        if !self.is_upgrading() {
            return Ok(());
        }
        self.state = if status == 101 { State::Opaque } else { State::Head };
        self.feed(&[], out)
    }

    /// Whether the server's answer decides how to go on.
    pub fn is_upgrading(&self) -> bool {
        matches!(self.state, State::Upgrading)
    }

    /// Whether a head has begun and is not there to its end.
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::Head) && !self.buffer.is_empty()
    }

    /// Passes the next head, if it is there.
    fn head(&mut self, out: &mut Vec<u8>) -> Result<bool, HeadError> {
        let Some(head) = Head::parse(&self.buffer)? else {
            return Ok(false);
        };
        check_target(&head, &self.host, self.port)?;
        match head.host(self.port)? {
            Some((host, port)) if host == self.host && port == self.port => {}
            Some(_) => return Err(HeadError::OtherHost),
            None => return Err(HeadError::Host),
        }
        let body = Body::new(head.framing()?);
        let upgrades = self.is_first && is_websocket(&head);
        let next = match (upgrades, body.is_done()) {
            (true, true) => State::Upgrading,
            (true, false) => return Err(HeadError::Upgrade),
            (false, true) => State::Head,
            (false, false) => State::Body(body),
        };
        // Only now that nothing refuses it any more.
        write_head(&head, upgrades, out);
        let length = head.length;
        self.state = next;
        self.is_first = false;
        self.buffer.drain(..length);
        Ok(true)
    }
}

fn check_target(head: &Head<'_>, host: &Host, port: u16) -> Result<(), HeadError> {
    if head.method == b"CONNECT" {
        return Err(HeadError::TargetForm);
    }
    if head.target.starts_with(b"/") || (head.target == b"*" && head.method == b"OPTIONS") {
        return Ok(());
    }
    let (named, named_port, _) = absolute(head.target)?;
    if named != *host || named_port != port {
        return Err(HeadError::OtherHost);
    }
    Ok(())
}

fn is_websocket(head: &Head<'_>) -> bool {
    let mut values = head.values("upgrade");
    let wanted = values
        .next()
        .is_some_and(|value| value.eq_ignore_ascii_case(b"websocket"));
    wanted && values.next().is_none()
}

/// The head as it came, but for offers of HTTP/2: on that no Host would be read.
fn write_head(head: &Head<'_>, upgrades: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(head.method);
    out.push(b' ');
    out.extend_from_slice(head.target);
    out.extend_from_slice(match head.version {
        super::head::Version::Http10 => b" HTTP/1.0\r\n",
        super::head::Version::Http11 => b" HTTP/1.1\r\n",
    });
    let passes = |field: &&Field<'_>| !field.is("http2-settings") && (upgrades || !field.is("upgrade"));
    for Field { name, value } in head.fields.iter().filter(passes) {
        out.extend_from_slice(name);
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn gate() -> HttpGate {
        HttpGate::new(Host::parse(b"a.example").unwrap(), 80)
    }

    fn passed(gate: &mut HttpGate, text: &str) -> Result<String, HeadError> {
        let mut out = Vec::new();
        gate.feed(text.as_bytes(), &mut out)
            .map(|()| String::from_utf8(out).unwrap())
    }

    #[test]
    fn requests_pass_as_they_came() {
        let text = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\nPOST /x HTTP/1.1\r\nHost: a.example:80\r\n\
            Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET http://a.example/y HTTP/1.1\r\nHost: a.example\r\n\r\n";
        assert_eq!(passed(&mut gate(), text).unwrap(), text);
        let mut gate = gate();
        let bytewise: String = text
            .chars()
            .map(|byte| passed(&mut gate, &byte.to_string()).unwrap())
            .collect();
        assert_eq!(bytewise, text);
        assert!(!gate.is_waiting());
    }

    #[test]
    fn nothing_of_a_refused_head_passes() {
        let text =
            "GET /ws HTTP/1.1\r\nHost: a.example\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut out = Vec::new();
        assert_eq!(gate().feed(text.as_bytes(), &mut out), Err(HeadError::Upgrade));
        assert!(out.is_empty(), "{}", String::from_utf8_lossy(&out));
    }

    #[test]
    fn a_second_request_cannot_hide() {
        let first = "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\n\r\nabc";
        for (second, wanted) in [
            ("GET / HTTP/1.1\r\nHost: b.example\r\n\r\n", HeadError::OtherHost),
            (
                "GET http://b.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
                HeadError::OtherHost,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a.example:81\r\n\r\n",
                HeadError::OtherHost,
            ),
            ("GET / HTTP/1.0\r\n\r\n", HeadError::Host),
            (
                "GET / HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n",
                HeadError::Host,
            ),
            (
                "CONNECT b.example:443 HTTP/1.1\r\nHost: a.example\r\n\r\n",
                HeadError::TargetForm,
            ),
            ("\r\nGET / HTTP/1.1\r\nHost: a.example\r\n\r\n", HeadError::Line),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", HeadError::Version),
        ] {
            let mut out = Vec::new();
            let error = gate().feed(format!("{first}{second}").as_bytes(), &mut out);
            assert_eq!(error, Err(wanted), "{second:?}");
            assert_eq!(out, first.as_bytes(), "nothing of the second request was passed");
        }
    }

    #[test]
    fn only_the_servers_word_opens_a_websocket() {
        let ask = "GET /ws HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        let hidden = "GET / HTTP/1.1\r\nHost: b.example\r\n\r\n";
        let mut out = Vec::new();
        let mut accepted = gate();
        assert_eq!(passed(&mut accepted, &format!("{ask}{hidden}")).unwrap(), ask);
        accepted.answered(101, &mut out).unwrap();
        assert_eq!(out, hidden.as_bytes());
        let mut refused = gate();
        assert_eq!(passed(&mut refused, &format!("{ask}{hidden}")).unwrap(), ask);
        assert_eq!(refused.answered(200, &mut out), Err(HeadError::OtherHost));
        let both = ask.replace("Upgrade: w", "HTTP2-Settings: x\r\nUpgrade: w");
        assert_eq!(passed(&mut gate(), &both).unwrap(), ask);
        // HTTP/2 is not offered to the server, and a later request changes nothing.
        let offered = "GET / HTTP/1.1\r\nHost: a.example\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n";
        let mut gate = gate();
        assert_eq!(
            passed(&mut gate, offered).unwrap(),
            "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"
        );
        assert!(passed(&mut gate, ask).is_ok() && !gate.is_upgrading());
        assert_eq!(passed(&mut gate, hidden), Err(HeadError::OtherHost));
    }

    proptest! {
        #[test]
        fn no_bytes_panic_in_any_pieces(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..8)) {
            let (mut gate, mut out) = (gate(), Vec::new());
            for piece in pieces {
                if gate.feed(&piece, &mut out).is_err() {
                    break;
                }
            }
        }

        #[test]
        fn pieces_make_no_difference(cuts in proptest::collection::vec(1usize..40, 0..12), foreign in any::<bool>()) {
            let host = if foreign { "b.example" } else { "a.example" };
            let text = format!("PUT /x HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
            let (mut whole, mut parts) = (Vec::new(), Vec::new());
            let at_once = gate().feed(text.as_bytes(), &mut whole);
            let (mut gate, mut rest, mut result) = (gate(), text.as_bytes(), Ok(()));
            for cut in cuts.into_iter().chain([usize::MAX]) {
                let (piece, left) = rest.split_at(cut.min(rest.len()));
                rest = left;
                result = result.and_then(|()| gate.feed(piece, &mut parts));
            }
            prop_assert_eq!(result.is_ok(), at_once.is_ok());
            prop_assert_eq!(parts, whole);
        }
    }
}
