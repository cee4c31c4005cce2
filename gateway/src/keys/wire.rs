//! Keys as the control protocol has them.

use lodge_proto::control::{Access as ProtoAccess, VirtualKey};

use super::{Access, KeySpec};

impl From<ProtoAccess> for Access {
    fn from(access: ProtoAccess) -> Self {
        let ProtoAccess {
            models,
            deny_models,
            providers,
            deny_providers,
        } = access;
        Self {
            models,
            deny_models,
            providers,
            deny_providers,
        }
    }
}

impl From<Access> for ProtoAccess {
    fn from(access: Access) -> Self {
        let Access {
            models,
            deny_models,
            providers,
            deny_providers,
        } = access;
        Self {
            models,
            deny_models,
            providers,
            deny_providers,
        }
    }
}

/// What was asked for; what the gateway decides itself is left empty.
impl From<VirtualKey> for KeySpec {
    fn from(key: VirtualKey) -> Self {
        Self {
            name: key.name,
            user: key.user,
            team: key.team,
            org: key.org,
            parent: key.parent,
            access: key.access.map(Access::from).unwrap_or_default(),
            rpm: key.rpm,
            tpm: key.tpm,
            concurrency: key.concurrency,
            not_before: key.not_before,
            expires: key.expires,
            on_limit: key.on_limit,
            log_bodies: key.log_bodies,
            ..Self::default()
        }
    }
}

impl From<KeySpec> for VirtualKey {
    fn from(spec: KeySpec) -> Self {
        Self {
            id: spec.id,
            name: spec.name,
            user: spec.user,
            team: spec.team,
            org: spec.org,
            parent: spec.parent,
            access: Some(spec.access.into()),
            rpm: spec.rpm,
            tpm: spec.tpm,
            concurrency: spec.concurrency,
            not_before: spec.not_before,
            expires: spec.expires,
            created: spec.created,
            revoked: spec.revoked,
            on_limit: spec.on_limit,
            disabled: spec.disabled,
            log_bodies: spec.log_bodies,
            overlap_until: spec.previous.map_or(0, |previous| previous.until),
        }
    }
}
