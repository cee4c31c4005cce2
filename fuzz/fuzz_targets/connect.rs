//! Requests to the broker. What is accepted has one reading: cut short it is incomplete, written again it is the same,
//! and the head that goes to the server names the host that was decided on.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lodge_egress::connect::{Request, parse};
use lodge_egress::head::{Framing, Head, MAX_FIELDS, MAX_HEAD};
use lodge_egress::name::Host;
use std::net::IpAddr;

/// As it stands in a request.
fn authority(host: &Host, port: u16) -> String {
    match host {
        Host::Address(IpAddr::V6(address)) => format!("[{address}]:{port}"),
        host => format!("{host}:{port}"),
    }
}

fn tunnel(host: &Host, port: u16) {
    let named = authority(host, port);
    assert_eq!(named, named.to_ascii_lowercase());
    for head in [
        format!("CONNECT {named} HTTP/1.1\r\n\r\n"),
        format!("CONNECT {named} HTTP/1.1\r\nHost: {named}\r\n\r\n"),
    ] {
        let again = Request::Tunnel {
            host: host.clone(),
            port,
            length: head.len(),
        };
        assert_eq!(parse(head.as_bytes()), Ok(Some(again)));
    }
}

fn forward(host: &Host, port: u16, sent: &[u8], framing: Framing) {
    let head = Head::parse(sent).expect("it is a head").expect("to its end");
    assert_eq!(head.length, sent.len(), "one head and nothing behind it");
    assert_eq!(head.host(80), Ok(Some((host.clone(), port))));
    assert_eq!(
        head.framing(),
        Ok(framing),
        "the server sees the body that is passed"
    );
    assert!(head.target.starts_with(b"/"), "the server is no proxy");
    assert_eq!(head.values("connection").collect::<Vec<_>>(), [b"close"]);
    for kept in [
        "proxy-authorization",
        "upgrade",
        "http2-settings",
        "te",
        "trailer",
    ] {
        assert_eq!(head.values(kept).count(), 0, "{kept}");
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(Some(request)) = parse(bytes) else {
        return;
    };
    let length = match &request {
        Request::Tunnel { host, port, length } => {
            tunnel(host, *port);
            *length
        }
        Request::Forward {
            host,
            port,
            head,
            framing,
            length,
        } => {
            // One that grew over a bound with the fields that are added is sent all the same, and cannot be read here.
            let fields = head.split(|byte| *byte == b'\n').count() - 3;
            if head.len() <= MAX_HEAD && fields <= MAX_FIELDS {
                forward(host, *port, head, *framing);
            }
            *length
        }
    };
    assert!(length <= bytes.len() && bytes[..length].ends_with(b"\r\n\r\n"));
    assert_eq!(
        parse(&bytes[..length]).as_ref(),
        Ok(&Some(request)),
        "what follows says nothing"
    );
    for cut in [length / 4, length / 2, length - 1] {
        assert_eq!(parse(&bytes[..cut]), Ok(None), "cut at {cut}");
    }
});
