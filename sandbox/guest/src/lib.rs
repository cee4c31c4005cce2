//! Guest init: PID 1 of every sandbox, and the framed stream it speaks with the shim.
//!
//! The library is what both ends share: the [`mux`] codec (no I/O), a blocking [`client`] of it for the host, and the
//! [`walls`] that init applies to every command before it runs; and init's name server ([`dns`], no I/O either). The
//! binary `lodge-init` is the init itself.

pub mod client;
pub mod dns;
pub mod files;
pub mod mux;
pub mod walls;
