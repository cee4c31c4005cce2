//! The ports init listens on, and the network namespace it may need for them.

use crate::config::Config;
use crate::egress::{self, Egress};
use crate::forwarder::Forwarder;
use crate::main_loop::InitError;
use crate::sys;

/// Leaves the host's network where that is init's part, then listens on everything that `config` wants; `None` when it
/// wants nothing.
pub(crate) fn open(config: &Config) -> Result<Option<Forwarder>, InitError> {
    if config.own_network {
        sys::own_network()?;
    }
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
