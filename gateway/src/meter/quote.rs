//! What a request may cost at one of the models it may go to.

use std::sync::Arc;
use std::time::SystemTime;

use crate::asked::{self, FETCH, Kind};
use crate::dialect::{Action, Dialect, Operation, Stored, WireError};
use crate::price::{Asked, Bound, Pricing, Rates, ToolBill};
use crate::provider::ProviderSpec;

/// Tokens of the largest context window there is at a provider that keeps what was cached.
const LARGEST_CACHE: u64 = 2 << 20;

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
        if let Operation::Stored(stored) = operation {
            return kept(wanted, stored);
        }
        let mut asked = Asked::read(dialect, operation, body)?;
        model.clone_into(&mut asked.model);
        asked.tools = tools(provider, asks, &asked, body);
        // Of what is stored at the provider nobody here knows the size.
        asked.by_reference |= asks.fetches || !asks.objects.is_empty();
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
                "nothing says how long its answer, or what it refers to, may be; send a limit of output tokens, or set \
                 `max_output` and `context_window` of the model in the configuration",
            ),
            (Some(pricing), _) => self.asked.unpriced(pricing),
        }
    }
}

/// What it costs to have something kept at the provider. Whether that is allowed at all was checked before.
fn kept(wanted: Wanted<'_>, stored: &Stored) -> Result<Quote, WireError> {
    let Wanted {
        provider,
        model,
        dialect,
        operation,
        body,
        asks,
    } = wanted;
    let mut asked = Asked::read(dialect, operation, body)?;
    asked.output = Some(0);
    asked.by_reference |= !asks.objects.is_empty() || asks.fetches;
    let price = asks.keeping.map_or(0, |keeping| keeping.price);
    let nothing = Pricing::Configured(Rates::NOTHING);
    let pricing = if (stored.kind, &stored.action) == (Kind::Cache, &Action::Create) {
        // What goes in is read once, at the price of the model.
        model.clone_into(&mut asked.model);
        Pricing::find(provider, model, SystemTime::now())
    } else {
        stored.kind.as_str().clone_into(&mut asked.model);
        Some(nothing.clone())
    };
    let read = pricing.as_ref().unwrap_or(&nothing);
    let bound = Bound::of(&asked, provider, read);
    asked.tools.flat = match stored.kind {
        Kind::Cache => {
            let tokens = match stored.action {
                Action::Create => bound.map_or(LARGEST_CACHE, |bound| bound.input),
                _ => LARGEST_CACHE,
            };
            let seconds = asks.keeping.map_or(0, |keeping| keeping.seconds);
            by_the_hour(price, tokens, seconds)
        }
        _ => price.saturating_mul(asks.memory),
    };
    let bound = pricing
        .as_ref()
        .and_then(|pricing| Bound::of(&asked, provider, pricing));
    Ok(Quote {
        provider: Arc::clone(provider),
        dialect,
        asked,
        pricing,
        bound,
    })
}

/// Of a price for a million tokens and an hour, in nano-dollars.
fn by_the_hour(price: u64, tokens: u64, seconds: u64) -> u64 {
    let all = u128::from(price) * u128::from(tokens) * u128::from(seconds);
    u64::try_from(all.div_ceil(1_000_000 * 3600)).unwrap_or(u64::MAX / 4)
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
        per_call: prices.max().unwrap_or(0).saturating_mul(asks.memory.max(1)),
        most: if asks.tools.is_empty() {
            0
        } else {
            // What policy has set in the body may be more than what the caller asked for.
            asks.calls
                .max(asked.calls.unwrap_or(0))
                .saturating_mul(asked.answers)
        },
        flat: if asks.fetches {
            addresses().max(1).saturating_mul(fetch)
        } else {
            0
        },
    }
}
