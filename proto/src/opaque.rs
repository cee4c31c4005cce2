//! Variants that this build does not know, carried unharmed.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use std::marker::PhantomData;

/// Names the tag field of an open enum and the tags this build knows.
pub trait Known {
    /// Field that names the variant.
    const TAG: &'static str;
    /// Tags with a variant of their own: a value with one of these is never opaque.
    const TAGS: &'static [&'static str];
}

/// A JSON object whose tag no variant claims. It is kept whole and written back as it came.
#[derive(Serialize)]
#[serde(transparent)]
pub struct Opaque<K> {
    fields: Map<String, Value>,
    #[serde(skip)]
    known: PhantomData<K>,
}

impl<K: Known> Opaque<K> {
    /// Wraps `fields`; `None` where the tag is missing, no string, or one that this build knows.
    pub fn new(fields: Map<String, Value>) -> Option<Self> {
        match fields.get(K::TAG) {
            Some(Value::String(tag)) if !K::TAGS.contains(&tag.as_str()) => Some(Self {
                fields,
                known: PhantomData,
            }),
            _ => None,
        }
    }

    /// The tag.
    pub fn tag(&self) -> &str {
        self.fields
            .get(K::TAG)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// All fields, the tag among them.
    pub fn fields(&self) -> &Map<String, Value> {
        &self.fields
    }
}

impl<K> Clone for Opaque<K> {
    fn clone(&self) -> Self {
        Self {
            fields: self.fields.clone(),
            known: PhantomData,
        }
    }
}

impl<K> PartialEq for Opaque<K> {
    fn eq(&self, other: &Self) -> bool {
        self.fields == other.fields
    }
}

impl<K> std::fmt::Debug for Opaque<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Opaque").field(&self.fields).finish()
    }
}

impl<'de, K: Known> Deserialize<'de> for Opaque<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = Map::deserialize(deserializer)?;
        Self::new(fields).ok_or_else(|| {
            serde::de::Error::custom(format_args!(
                "field `{}` is missing, or a known variant is malformed",
                K::TAG
            ))
        })
    }
}
