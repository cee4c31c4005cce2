//! The two requests a proxy gets: `CONNECT host:port`, and a plain one with a whole URL.

use super::head::{Framing, Head, HeadError, Version};
use super::name::Host;

/// Fields that are for a proxy, or that would leave one request's connection with another meaning.
const DROPPED: &[&str] = &[
    "connection",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
];

/// The port of a URL that names none.
const HTTP: u16 = 80;

/// What a guest asks the broker for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A tunnel; what follows the head belongs into it.
    Tunnel { host: Host, port: u16, length: usize },
    /// One plain request, with the head to send in place of the guest's.
    Forward {
        host: Host,
        port: u16,
        head: Vec<u8>,
        framing: Framing,
        length: usize,
    },
}

/// Reads the request at the start of `bytes`; `None` while its head is incomplete.
pub fn parse(bytes: &[u8]) -> Result<Option<Request>, HeadError> {
    let Some(head) = Head::parse(bytes)? else {
        return Ok(None);
    };
    if head.method == b"CONNECT" {
        tunnel(&head).map(Some)
    } else {
        forward(&head).map(Some)
    }
}

fn tunnel(head: &Head<'_>) -> Result<Request, HeadError> {
    let (host, port) = Host::parse_with_port(head.target).map_err(HeadError::Target)?;
    if head.framing()? != Framing::Length(0) {
        return Err(HeadError::Framing);
    }
    // Some clients leave it out here; one that says something else is lying to somebody.
    if head
        .host(port)?
        .is_some_and(|named| named != (host.clone(), port))
    {
        return Err(HeadError::OtherHost);
    }
    Ok(Request::Tunnel {
        host,
        port,
        length: head.length,
    })
}

fn forward(head: &Head<'_>) -> Result<Request, HeadError> {
    let (host, port, path) = absolute(head.target)?;
    let framing = head.framing()?;
    match head.host(HTTP)? {
        Some(named) if named == (host.clone(), port) => {}
        Some(_) => return Err(HeadError::OtherHost),
        None if head.version == Version::Http10 => {}
        None => return Err(HeadError::Host),
    }
    Ok(Request::Forward {
        head: rewrite(head, &host, port, path),
        host,
        port,
        framing,
        length: head.length,
    })
}

/// Host, port and path of an `http` URL.
pub(super) fn absolute(target: &[u8]) -> Result<(Host, u16, &[u8]), HeadError> {
    const SCHEME: &[u8] = b"http://";
    let Some((scheme, rest)) = target.split_at_checked(SCHEME.len()) else {
        return Err(HeadError::TargetForm);
    };
    // A backslash ends the host for some readers, a fragment is never sent.
    if !scheme.eq_ignore_ascii_case(SCHEME) || rest.iter().any(|byte| b"#\\".contains(byte)) {
        return Err(HeadError::TargetForm);
    }
    let end = rest
        .iter()
        .position(|byte| b"/?".contains(byte))
        .unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let (host, port) = Host::parse_with_default(authority, HTTP).map_err(HeadError::Target)?;
    Ok((host, port, path))
}

/// The head as the server gets it: one request on its connection, so that no second one can hide behind it.
fn rewrite(head: &Head<'_>, host: &Host, port: u16, path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(head.length);
    out.extend_from_slice(head.method);
    out.push(b' ');
    if !path.starts_with(b"/") {
        out.push(b'/');
    }
    out.extend_from_slice(path);
    out.extend_from_slice(match head.version {
        Version::Http10 => b" HTTP/1.0\r\n",
        Version::Http11 => b" HTTP/1.1\r\n",
    });
    let host = match host {
        Host::Address(std::net::IpAddr::V6(address)) => format!("[{address}]"),
        host => host.to_string(),
    };
    let line = match port {
        HTTP => format!("Host: {host}\r\n"),
        port => format!("Host: {host}:{port}\r\n"),
    };
    out.extend_from_slice(line.as_bytes());
    for field in &head.fields {
        if !DROPPED.iter().any(|dropped| field.is(dropped)) {
            out.extend_from_slice(field.name);
            out.extend_from_slice(b": ");
            out.extend_from_slice(field.value);
            out.extend_from_slice(b"\r\n");
        }
    }
    out.extend_from_slice(b"Connection: close\r\n\r\n");
    out
}

#[cfg(test)]
mod tests {
    use super::super::name::NameError;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tunnels_to_plain_names_only() {
        let parse = |target: &str, fields: &str| {
            let text = format!("CONNECT {target} HTTP/1.1\r\n{fields}\r\n");
            parse(text.as_bytes()).map(|request| match request {
                Some(Request::Tunnel { host, port, .. }) => format!("{host}:{port}"),
                other => panic!("{other:?}"),
            })
        };
        assert_eq!(
            parse("PyPI.org:443", "Host: pypi.org:443\r\n").unwrap(),
            "pypi.org:443"
        );
        assert_eq!(
            parse("pypi.org:443", "Host: pypi.org\r\n").unwrap(),
            "pypi.org:443"
        );
        assert_eq!(parse("pypi.org:443", "").unwrap(), "pypi.org:443");
        for (target, fields, wanted) in [
            ("pypi.org", "", HeadError::Target(NameError::NoPort)),
            ("pypi.org.:443", "", HeadError::Target(NameError::TrailingDot)),
            (
                "pypi.org%00.evil.com:443",
                "",
                HeadError::Target(NameError::Percent),
            ),
            ("u@pypi.org:443", "", HeadError::Target(NameError::UserInfo)),
            ("0x7f000001:443", "", HeadError::Target(NameError::Numeric)),
            ("2130706433:443", "", HeadError::Target(NameError::Numeric)),
            ("pypi.org:0443", "", HeadError::Target(NameError::Port)),
            ("https://pypi.org:443", "", HeadError::Target(NameError::Port)),
            ("pypi.org:443", "Host: evil.com\r\n", HeadError::OtherHost),
            ("pypi.org:443", "Host: pypi.org:80\r\n", HeadError::OtherHost),
            (
                "pypi.org:443",
                "Host: pypi.org\r\nHost: pypi.org\r\n",
                HeadError::Host,
            ),
            ("pypi.org:443", "Content-Length: 5\r\n", HeadError::Framing),
            (
                "pypi.org:443",
                "Transfer-Encoding: chunked\r\n",
                HeadError::Framing,
            ),
        ] {
            assert_eq!(parse(target, fields), Err(wanted), "{target} {fields:?}");
        }
        let nul = b"CONNECT pypi.org\0.evil.com:443 HTTP/1.1\r\n\r\n";
        assert_eq!(super::parse(nul), Err(HeadError::RequestLine));
    }

    #[test]
    fn a_plain_request_is_made_anew() {
        let text = "POST http://A.example:8080/x?y HTTP/1.1\r\nHost: a.example:8080\r\nProxy-Authorization: secret\r\n\
            Connection: keep-alive, content-length\r\nUpgrade: h2c\r\nAccept: */*\r\nContent-Length: 2\r\n\r\nok";
        let Some(Request::Forward {
            head,
            framing,
            length,
            ..
        }) = parse(text.as_bytes()).unwrap()
        else {
            panic!("not forwarded")
        };
        assert_eq!(framing, Framing::Length(2));
        assert_eq!(&text.as_bytes()[length..], b"ok");
        assert_eq!(
            String::from_utf8(head).unwrap(),
            "POST /x?y HTTP/1.1\r\nHost: a.example:8080\r\nAccept: */*\r\nContent-Length: 2\r\nConnection: close\r\n\r\n"
        );
        let Some(Request::Forward { head, .. }) = parse(b"GET http://a.example?q HTTP/1.0\r\n\r\n").unwrap()
        else {
            panic!("not forwarded")
        };
        assert_eq!(
            head,
            b"GET /?q HTTP/1.0\r\nHost: a.example\r\nConnection: close\r\n\r\n"
        );
    }

    #[test]
    fn url_and_host_agree() {
        for (target, fields, wanted) in [
            ("http://a.example/", "Host: b.example\r\n", HeadError::OtherHost),
            (
                "http://a.example/",
                "Host: a.example:81\r\n",
                HeadError::OtherHost,
            ),
            ("http://a.example/", "", HeadError::Host),
            (
                "http://a.example/",
                "Host: a.example\r\nHost: b.example\r\n",
                HeadError::Host,
            ),
            ("https://a.example/", "Host: a.example\r\n", HeadError::TargetForm),
            ("ftp://a.example/", "Host: a.example\r\n", HeadError::TargetForm),
            ("/path", "Host: a.example\r\n", HeadError::TargetForm),
            ("*", "Host: a.example\r\n", HeadError::TargetForm),
            (
                "http://a.example/#x",
                "Host: a.example\r\n",
                HeadError::TargetForm,
            ),
            (
                "http://b.example@a.example/",
                "Host: a.example\r\n",
                HeadError::Target(NameError::UserInfo),
            ),
            (
                "http://a.example\\@b.example/",
                "Host: a.example\r\n",
                HeadError::TargetForm,
            ),
            (
                "http://a.example/",
                "Host: a.example\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n",
                HeadError::Framing,
            ),
        ] {
            let text = format!("GET {target} HTTP/1.1\r\n{fields}\r\n");
            let found = parse(text.as_bytes());
            assert_eq!(found, Err(wanted), "{target}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn what_is_forwarded_reads_back_as_the_same_request(
            name in "[a-z]{1,10}\\.example", port in 1u16.., path in "/[a-z]{0,10}", value in "[!-9;-~]{1,20}",
        ) {
            let text = format!("GET http://{name}:{port}{path} HTTP/1.1\r\nHost: {name}:{port}\r\nX-A: {value}\r\n\r\n");
            let Some(Request::Forward { head, .. }) = parse(text.as_bytes()).unwrap() else { panic!("not forwarded") };
            let again = Head::parse(&head).unwrap().unwrap();
            prop_assert_eq!(again.length, head.len());
            prop_assert_eq!(again.target, path.as_bytes());
            let (host, found) = again.host(80).unwrap().unwrap();
            prop_assert_eq!((host.to_string(), found), (name, port));
        }
    }
}
