//! SOCKS greetings and requests. What is accepted is written again as the same, cut short it is incomplete, and a name
//! is one that `CONNECT` would take too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lodge_egress::name::Host;
use lodge_egress::socks::{self, Request};
use std::net::IpAddr;

fn written(request: &Request) -> Vec<u8> {
    let mut out = vec![socks::VERSION, 1, 0];
    match &request.host {
        Host::Address(IpAddr::V4(address)) => {
            out.push(1);
            out.extend(address.octets());
        }
        Host::Address(IpAddr::V6(address)) => {
            out.push(4);
            out.extend(address.octets());
        }
        Host::Name(name) => {
            out.push(3);
            out.push(u8::try_from(name.as_str().len()).expect("names are short"));
            out.extend(name.as_str().bytes());
        }
    }
    out.extend(request.port.to_be_bytes());
    out
}

fn request(bytes: &[u8]) {
    let Ok(Some(found)) = socks::request(bytes) else {
        return;
    };
    assert!(found.length <= bytes.len() && found.port != 0);
    assert_eq!(
        socks::request(&bytes[..found.length]).as_ref(),
        Ok(&Some(found.clone()))
    );
    for cut in 0..found.length {
        assert_eq!(socks::request(&bytes[..cut]), Ok(None), "cut at {cut}");
    }
    let again = written(&found);
    let expected = Request {
        length: again.len(),
        ..found.clone()
    };
    assert_eq!(socks::request(&again), Ok(Some(expected)));
    if let Host::Name(name) = &found.host {
        let target = format!("{name}:{}", found.port);
        assert_eq!(
            Host::parse_with_port(target.as_bytes()),
            Ok((found.host, found.port))
        );
    }
}

fuzz_target!(|bytes: &[u8]| {
    request(bytes);
    if let Ok(Some(length)) = socks::greeting(bytes) {
        assert!(length <= bytes.len());
        for cut in 0..length {
            assert_eq!(socks::greeting(&bytes[..cut]), Ok(None), "cut at {cut}");
        }
        request(&bytes[length..]);
    }
});
