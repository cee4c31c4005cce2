//! What a request asks of the provider besides an answer: objects stored in the provider's account, which are
//! everybody's, and tools and fetches that run at the provider, which would be a way out of a sandbox without network.
//!
//! The body is read beside the bytes that are forwarded, and read strictly: what cannot be read the one way a
//! provider could read it is refused.

mod objects;
#[cfg(test)]
mod tests;
mod tools;

use crate::dialect::{Dialect, WireError};

pub use objects::{Kind, Object};
pub use tools::{CALLS, ProviderTools, limited};

/// What of a body decides whether and where it goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Where the body names one; Gemini's is in the path.
    pub model: Option<String>,
    pub stream: bool,
    /// Whether the provider keeps the answer under an id that later requests may name.
    pub keeps: bool,
    /// Whether it wants to go on after the connection is gone.
    pub background: bool,
    /// A prompt stored in the provider's account.
    stored_prompt: bool,
    /// Objects stored at the provider that it refers to.
    pub objects: Vec<Object>,
    /// Tools that run at the provider, as the dialect names them.
    pub tools: Vec<String>,
    /// The most calls of those, all together: as the request says, else [`CALLS`] for each tool, or for all of them where
    /// the dialect has one limit for all.
    pub calls: u64,
    /// GiB of memory of the largest container it asks for, 1 where it does not say.
    pub memory: u64,
    /// What it wants to have kept at the provider for a price.
    pub keeping: Option<Keeping>,
    /// Whether it names anything by a URL that the provider would fetch.
    pub fetches: bool,
}

/// Something that is kept at the provider for a price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keeping {
    /// Nano-dollars, as policy has it: of a container with 1 GiB, or of a million cached tokens and an hour.
    pub price: u64,
    /// For how long.
    pub seconds: u64,
}

/// Policy names a tool of this name where the provider may fetch what a request names by URL.
pub const FETCH: &str = "fetch_url";

/// Reads the body of a request.
pub fn read(dialect: Dialect, body: &[u8]) -> Result<Asked, WireError> {
    let mut asked = tools::read(dialect, body)?;
    let found = objects::find(body).map_err(|error| tools::unreadable(&error))?;
    asked.objects = found.objects;
    asked.fetches = found.fetches;
    asked.memory = found.memory.max(1);
    Ok(asked)
}

impl Asked {
    /// Why a request may not be forwarded, whoever it is from; whose the objects are is checked elsewhere.
    pub fn check(&self, allowed: &ProviderTools) -> Result<(), WireError> {
        if self.background {
            return Err(WireError::forbidden(
                "`background` jobs go on without a session and are not passed on".to_owned(),
            ));
        }
        if self.stored_prompt {
            return Err(WireError::forbidden(
                "`prompt` refers to a prompt stored at the provider, where it is everybody's".to_owned(),
            ));
        }
        if let Some(tool) = self.tools.iter().find(|tool| allowed.price(tool).is_none()) {
            return Err(WireError::forbidden(format!(
                "the tool `{tool}` runs at the provider, outside the sandbox; an administrator can allow it by \
                 naming it with its price under `provider_tools`"
            )));
        }
        if self.fetches && allowed.price(FETCH).is_none() {
            return Err(WireError::forbidden(format!(
                "the provider would fetch what this request names by URL, from outside the sandbox; send the bytes, or \
                 have an administrator name `{FETCH}` under `provider_tools`"
            )));
        }
        Ok(())
    }
}
