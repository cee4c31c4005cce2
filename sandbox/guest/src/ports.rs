//! The ports init listens on, and the network namespace it may need for them.

use std::io;

use crate::config::Config;
use crate::egress::{self, Egress};
use crate::forwarder::Forwarder;
use crate::main_loop::InitError;
use crate::sys;

/// Listens on everything that `config` wants; `None` when it wants nothing.
pub(crate) fn open(config: &Config) -> Result<Option<Forwarder>, InitError> {
    match bind(config) {
        // A launcher's network namespace may belong to a user namespace in which init is nobody, and then the
        // ports of names are closed to it; one of its own has the same nothing in it.
        Err(InitError::Listen { source, .. })
            if source.kind() == io::ErrorKind::PermissionDenied && sys::administers() =>
        {
            sys::own_network()?;
            bind(config)
        }
        result => result,
    }
}

fn bind(config: &Config) -> Result<Option<Forwarder>, InitError> {
    let Some((port, gateway)) = &config.gateway else {
        return Ok(None);
    };
    let failed = |port| move |source| InitError::Listen { port, source };
    let mut forwarder = Forwarder::new(gateway.clone());
    if let Some(ports) = &config.egress {
        forwarder.answer_names(Egress::listen().map_err(failed(egress::PORT))?);
        for &port in ports {
            forwarder.capture(port).map_err(failed(port))?;
        }
    }
    forwarder.listen(*port).map_err(failed(*port))?;
    Ok(Some(forwarder))
}
