//! What a request may cost at one of the models it may go to.

use std::sync::Arc;
use std::time::SystemTime;

use crate::asked::{self, FETCH};
use crate::dialect::{Dialect, Operation, WireError};
use crate::price::{Asked, Bound, Pricing, ToolBill};
use crate::provider::ProviderSpec;

/// Calls of tools that run at the provider, in one answer, where the request does not say.
const CALLS: u64 = 20;

/// A request as one model gets it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) provider: &'a Arc<ProviderSpec>,
    pub(crate) model: &'a str,
    /// That of the body, which is the provider's.
    pub(crate) dialect: Dialect,
    pub(crate) operation: &'a Operation,
    pub(crate) body: &'a [u8],
    /// As the caller's own body says it.
    pub(crate) asks: &'a asked::Asked,
}

/// What it may cost there.
#[derive(Debug)]
pub(crate) struct Quote {
    pub(super) provider: Arc<ProviderSpec>,
    pub(super) dialect: Dialect,
    pub(super) asked: Asked,
    /// None: nobody knows.
    pub(super) pricing: Option<Pricing>,
    pub(super) bound: Option<Bound>,
}

impl Quote {
    /// Reads what is sent there, and prices it at the most.
    pub(crate) fn of(wanted: Wanted<'_>) -> Result<Self, WireError> {
        let Wanted {
            provider,
            model,
            dialect,
            operation,
            body,
            asks,
        } = wanted;
        let mut asked = Asked::read(dialect, operation, body)?;
        model.clone_into(&mut asked.model);
        asked.tools = tools(provider, asks, &asked, body);
        asked.searches = !asks.tools.is_empty();
        asked.by_reference |= asks.fetches;
        let pricing = Pricing::find(provider, &asked.model, SystemTime::now());
        let bound = pricing
            .as_ref()
            .and_then(|pricing| Bound::of(&asked, provider, pricing));
        Ok(Self {
            provider: Arc::clone(provider),
            dialect,
            asked,
            pricing,
            bound,
        })
    }

    /// The same with a body that asks for less.
    pub(super) fn with_body(&self, operation: &Operation, body: &[u8]) -> Result<Option<Self>, WireError> {
        let read = Asked::read(self.dialect, operation, body)?;
        let asked = Asked {
            output: read.output,
            bytes: read.bytes,
            ..self.asked.clone()
        };
        let Some(pricing) = &self.pricing else {
            return Ok(None);
        };
        Ok(Bound::of(&asked, &self.provider, pricing).map(|bound| Self {
            provider: Arc::clone(&self.provider),
            dialect: self.dialect,
            asked,
            pricing: Some(pricing.clone()),
            bound: Some(bound),
        }))
    }

    /// Why its bound is none.
    pub(super) fn boundless(&self) -> Option<&'static str> {
        match (&self.pricing, self.bound) {
            (Some(Pricing::Free), _) if self.asked.tools == ToolBill::default() => None,
            (None, _) => Some("nobody knows its price; an administrator can set one in the configuration"),
            (Some(_), None) => Some(
                "nothing says how long its answer may be; send a limit of output tokens, or set `max_output` of the \
                 model in the configuration",
            ),
            _ if self.asked.surcharge.is_some() => {
                Some("it asks for a surcharge that nobody knows the price of")
            }
            _ => None,
        }
    }
}

/// What policy says the tools of the request cost; which of them is called how often is the model's choice.
fn tools(provider: &ProviderSpec, asks: &asked::Asked, asked: &Asked, body: &[u8]) -> ToolBill {
    let prices = asks
        .tools
        .iter()
        .filter_map(|tool| provider.provider_tools.price(tool));
    let addresses = || memchr::memmem::find_iter(body, b"://").count() as u64;
    let fetch = provider.provider_tools.price(FETCH).unwrap_or(0);
    ToolBill {
        per_call: prices.max().unwrap_or(0),
        most: if asks.tools.is_empty() {
            0
        } else {
            asked.calls.unwrap_or(CALLS).saturating_mul(asked.answers)
        },
        flat: if asks.fetches {
            addresses().max(1).saturating_mul(fetch)
        } else {
            0
        },
    }
}
