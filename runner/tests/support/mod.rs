//! The rig of the tests with real sandboxes: a runner in a process of its own, a relay's client, and stand-ins for
//! history and gateway. Each test program uses a part of it.

pub(crate) mod client;
pub(crate) mod rig;
pub(crate) mod stubs;
