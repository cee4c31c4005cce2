//! Ids of leases.

use std::fmt::Write as _;

use crate::seal::{SealError, random};

/// A printable id that is no secret and says nothing.
pub(super) fn new_id() -> Result<String, SealError> {
    let mut id = "lease-".to_owned();
    for byte in random::<8>()? {
        let _infallible = write!(id, "{byte:02x}");
    }
    Ok(id)
}
