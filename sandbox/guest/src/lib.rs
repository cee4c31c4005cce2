//! Guest init: PID 1 of every sandbox, and the framed stream it speaks with the shim.
//!
//! The library is what both ends share: the [`mux`] codec (no I/O) and the [`walls`] that init applies to
//! every command before it runs. The binary `lodge-init` is the init itself.

pub mod mux;
pub mod walls;
