//! Messages that hold a key in clear, printed without it: whoever logs one by mistake logs no key.

use std::fmt::{Debug, Formatter, Result};

use crate::control::{CreateKeyResponse, FinishLoginRequest, LeaseGranted, SetProviderKeyRequest};

impl Debug for SetProviderKeyRequest {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("SetProviderKeyRequest")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .field("base_url", &self.base_url)
            .finish_non_exhaustive()
    }
}

impl Debug for CreateKeyResponse {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("CreateKeyResponse")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl Debug for LeaseGranted {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("LeaseGranted")
            .field("lease_id", &self.lease_id)
            .field("ttl_seconds", &self.ttl_seconds)
            .field("models", &self.models)
            .finish_non_exhaustive()
    }
}

impl Debug for FinishLoginRequest {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("FinishLoginRequest")
            .field("provider", &self.provider)
            .field("account", &self.account)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_printed() {
        let key = || "canary".to_owned();
        let printed = [
            format!(
                "{:?}",
                SetProviderKeyRequest {
                    key: key(),
                    ..SetProviderKeyRequest::default()
                }
            ),
            format!(
                "{:?}",
                CreateKeyResponse {
                    secret: key(),
                    ..CreateKeyResponse::default()
                }
            ),
            format!(
                "{:?}",
                LeaseGranted {
                    virtual_key: key(),
                    ..LeaseGranted::default()
                }
            ),
            format!(
                "{:?}",
                FinishLoginRequest {
                    code: key(),
                    state: key(),
                    ..FinishLoginRequest::default()
                }
            ),
        ];
        for text in printed {
            assert!(text.ends_with("{ .. }") || text.contains(", .. }"), "{text}");
            assert!(!text.contains("canary"), "{text}");
        }
    }
}
