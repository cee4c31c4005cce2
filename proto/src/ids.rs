//! Typed identifiers. All are UUIDv7, so that they sort by time of creation.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use ts_rs::TS;
use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, TS)]
        #[serde(transparent)]
        #[ts(type = "string")]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new random identifier of the present moment.
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(s: &str) -> Result<Self, Self::Err> {
                s.parse().map(Self)
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }
    };
}

id!(/// A session: one conversation with one harness in one workspace.
    SessionId);
id!(/// A turn: one prompt and all that the agent does in answer.
    TurnId);
id!(/// A durable message.
    MessageId);
id!(/// A tool call, minted by Lodge; the harness's own id stays inside its adapter.
    ToolCallId);
id!(/// A question of the agent to its user.
    RequestId);
id!(/// An entry of the prompt queue.
    QueueId);

/// Where in a journal an identifier is made: the inputs of [`derive_id`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    pub session: SessionId,
    /// Generation of the shim that wrote the record.
    pub generation: u64,
    /// Number of the journal record.
    pub record: u64,
    /// Time of the record, UTC milliseconds.
    pub time_ms: u64,
}

/// The identifier that a fold gives to the `index`-th thing it makes from one record.
///
/// It is a UUIDv7 whose time is the record's and whose random bits are a hash of the origin, so that a replay
/// of the same journal arrives at the same identifiers.
pub fn derive_id(origin: &Origin, index: u32) -> Uuid {
    let mut hasher = blake3::Hasher::new();
    hasher.update(origin.session.0.as_bytes());
    hasher.update(&origin.generation.to_le_bytes());
    hasher.update(&origin.record.to_le_bytes());
    hasher.update(&index.to_le_bytes());
    let mut random = [0u8; 10];
    random.copy_from_slice(&hasher.finalize().as_bytes()[..10]);
    uuid::Builder::from_unix_timestamp_millis(origin.time_ms, &random).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_ids_are_version_7_repeatable_and_distinct() {
        let origin = Origin {
            session: SessionId::new(),
            generation: 1,
            record: 9,
            time_ms: 1_700_000_000_000,
        };
        let id = derive_id(&origin, 0);
        assert_eq!(id.get_version_num(), 7);
        assert_eq!(id, derive_id(&origin, 0));
        assert_ne!(id, derive_id(&origin, 1));
        assert_ne!(id, derive_id(&Origin { record: 10, ..origin }, 0));
        assert_ne!(
            id,
            derive_id(
                &Origin {
                    generation: 2,
                    ..origin
                },
                0
            )
        );
    }
}
