//! The start of a TLS connection: the same reading in however many pieces and records it comes, and only the name of
//! the connection passes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lodge_egress::name::Host;
use lodge_egress::sni::{Progress, Reader, TlsError, check, read};

/// A handshake message in records of `size` bytes.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for part in message.chunks(size) {
        out.extend([22, 3, 1]);
        out.extend(u16::try_from(part.len()).expect("a short record").to_be_bytes());
        out.extend(part);
    }
    out
}

fn read_in_pieces(bytes: &[u8], step: usize) -> Result<Progress, TlsError> {
    let (mut wanted, mut reader) = (0, Reader::default());
    for end in (0..bytes.len()).step_by(step).chain([bytes.len()]) {
        let afresh = read(&bytes[..end]);
        let found = reader.read(&bytes[..end]);
        assert_eq!(found, afresh, "what was read before makes no difference");
        match found {
            Ok(Progress::Need(needed)) => {
                assert!(needed > end, "it waits for what is there");
                assert!(needed >= wanted, "what it waits for does not shrink");
                wanted = needed;
            }
            found => return found,
        }
    }
    Ok(Progress::Need(wanted))
}

fn passes_only_its_own_name(bytes: &[u8], found: &Result<Progress, TlsError>) {
    let wanted = Host::parse(b"a.example").expect("a name");
    let address = Host::parse(b"192.0.2.1").expect("an address");
    let name = match found {
        Ok(Progress::Hello(hello)) => hello.name.as_ref(),
        _ => {
            assert_ne!(check(bytes, &wanted), Ok(true));
            return;
        }
    };
    let is_wanted = name.is_some_and(|name| name.as_str() == "a.example");
    assert_eq!(check(bytes, &wanted) == Ok(true), is_wanted);
    assert_eq!(check(bytes, &address) == Ok(true), name.is_none());
    if let Some(name) = name {
        let own = Host::parse(name.as_str().as_bytes()).expect("a name has one spelling");
        assert_eq!(own.to_string(), name.as_str());
        assert_eq!(check(bytes, &own), Ok(true));
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&step, bytes)) = bytes.split_first() else {
        return;
    };
    let step = usize::from(step) + 1;
    // As bytes of the connection.
    let found = read(bytes);
    assert_eq!(read_in_pieces(bytes, step), found);
    passes_only_its_own_name(bytes, &found);
    // As a handshake message, whose records must not matter.
    let (whole, small) = (records(bytes, 1 << 14), records(bytes, step));
    let found = read(&whole);
    passes_only_its_own_name(&whole, &found);
    match (&found, read(&small)) {
        (Ok(Progress::Need(_)), Ok(Progress::Need(_))) => {}
        // What follows the message is seen, and refused, only where it shares a record with it.
        (Err(TlsError::Malformed), Ok(Progress::Hello(_)) | Err(_)) => {}
        // Headers count too.
        (_, Err(TlsError::TooLong)) if small.len() > 1 << 15 => {}
        (found, small) => assert_eq!(found, &small),
    }
});
