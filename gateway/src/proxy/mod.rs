//! Pass-through to providers: the caller's bytes with another key, the provider's bytes back.

mod client;
mod headers;
mod relay;

pub(crate) use client::Attempt;
pub use client::{TlsError, Upstream};
pub use headers::presented_key;
pub(crate) use headers::response as response_headers;
