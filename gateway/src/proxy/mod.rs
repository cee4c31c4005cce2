//! Pass-through to providers: the caller's bytes with another key, the provider's bytes back.

mod client;
mod headers;
mod policy;
mod relay;

pub use client::{TlsError, Upstream};
pub use headers::presented_key;
pub use policy::refusal;
