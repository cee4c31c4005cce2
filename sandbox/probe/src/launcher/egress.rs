//! Brokers that are set up in another way than the scene's usual one.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::check::{Check, Verdict};
use crate::judge::{Found, judge};
use crate::report::Control;
use crate::stage::{Set, StageError};
use crate::table::Wanted;

const NO_BROKER: &str = "no broker answers";

/// An empty list lets nothing through.
pub(super) fn empty_list(check: &mut Check<'_>) -> Verdict {
    if check.options.broker.is_none() {
        return (
            Found::Untested,
            NO_BROKER.to_owned(),
            Control::Fails(NO_BROKER.to_owned()),
        );
    }
    let control = check.control("N06");
    let run = || -> Result<Verdict, StageError> {
        let set = Set::new(check.options, crate::facts::BoundsFacts::default(), &[])?;
        let sandbox = set.start(&check.policy, &check.options.tools)?;
        let evidence = check.attack("N12", &set, &sandbox)?;
        let (found, detail) = judge(Wanted::Denied, &evidence);
        Ok((found, detail, control.clone()))
    };
    run().unwrap_or_else(|error| (Found::Untested, error.to_string(), control))
}

/// Keys of others, keys that are no longer valid, keys in what was logged.
pub(super) fn keys(check: &mut Check<'_>) -> Verdict {
    if check.options.broker.is_none() {
        return (
            Found::Untested,
            NO_BROKER.to_owned(),
            Control::Fails(NO_BROKER.to_owned()),
        );
    }
    let control = check.control("N15");
    let run = || -> Result<Verdict, StageError> {
        let mut set = check.set()?;
        let sandbox = set.start(&check.policy, &check.options.tools)?;
        let evidence = check.attack("N15", &set, &sandbox)?;
        let (found, detail) = judge(Wanted::Denied, &evidence);
        if found != Found::Denied {
            return Ok((found, detail, control.clone()));
        }
        let Some(session) = set.broker.as_mut() else {
            return Ok((Found::Untested, NO_BROKER.to_owned(), control.clone()));
        };
        let (key, foreign) = (session.key(), session.foreign_key());
        session.revoke();
        let log = session.log();
        let answer = ask(&set, &key)?;
        if answer.split_whitespace().nth(1) == Some("200") {
            return Ok((
                Found::Open,
                "a revoked key is still taken".to_owned(),
                control.clone(),
            ));
        }
        let keys = [&key, &foreign].into_iter().chain(&set.scene.canaries);
        if keys.into_iter().any(|key| log.contains(key.as_str())) {
            return Ok((Found::Open, "a key is in the log".to_owned(), control.clone()));
        }
        Ok((Found::Denied, detail, control.clone()))
    };
    run().unwrap_or_else(|error| (Found::Untested, error.to_string(), control))
}

/// The gateway's answer on its socket; empty when it hangs up.
fn ask(set: &Set, key: &str) -> std::io::Result<String> {
    let Ok(mut stream) = UnixStream::connect(&set.spec.gateway_socket) else {
        return Ok(String::new());
    };
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    let request = format!(
        "GET /demo/v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\r\n"
    );
    if stream.write_all(request.as_bytes()).is_err() {
        return Ok(String::new());
    }
    let mut answer = Vec::new();
    let _ = stream.take(1 << 16).read_to_end(&mut answer);
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
