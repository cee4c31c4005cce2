//! What tokens cost: as the configuration says, else as an administrator set it, else by the `genai-prices` table.

mod bound;
mod line;
mod rates;
mod table;

use std::time::SystemTime;

use genai_prices::{PriceRequest, UsageKey};

pub(crate) use bound::Count;
pub use bound::{Asked, Bound, ToolBill};
pub use rates::{MAX_RATE, Rates, Stated};

use crate::money::Nanos;
use crate::provider::{Kind, ProviderSpec, Registry};
use crate::usage::Usage;

/// The table prices come from, as each request records it.
const TABLE: &str = "genai-prices 0.2.1";

/// Reads what the table says of these providers, which the first request to each would wait for: some milliseconds.
pub(crate) fn warm_for(providers: &Registry) {
    for provider in providers.iter().filter(|provider| !provider.is_free()) {
        let _unknown = table::find(&selector(provider));
    }
}

/// The price of one model at one provider at one moment.
#[derive(Clone, Debug)]
pub enum Pricing {
    /// Nobody is billed: the demo model, a server without a key, or one marked free.
    Free,
    /// As the configuration says.
    Configured(Rates),
    /// As an administrator said since.
    Entered(Rates),
    /// As the table says for the moment the request was made.
    Table {
        provider: Selector,
        model: String,
        at: SystemTime,
    },
}

/// How the table finds a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    Id(&'static str),
    Url(String),
}

impl Pricing {
    /// The price of a model; none where nobody knows it.
    pub fn find(provider: &ProviderSpec, model: &str, at: SystemTime) -> Option<Self> {
        if provider.is_free() {
            return Some(Self::Free);
        }
        let listed = provider.models.iter().find(|listed| listed.id == model);
        if let Some(rates) = listed.and_then(|listed| listed.price) {
            return Some(Self::Configured(rates));
        }
        if let Some(rates) = provider.prices.get(model) {
            return Some(Self::Entered(*rates));
        }
        Self::table(provider, model, at)
    }

    /// The price of the table alone; none where it does not know the model.
    pub fn table(provider: &ProviderSpec, model: &str, at: SystemTime) -> Option<Self> {
        let pricing = Self::Table {
            provider: selector(provider),
            model: model.to_owned(),
            at,
        };
        let one = Usage {
            input: 1,
            output: 1,
            ..Usage::default()
        };
        pricing.try_cost(&one, None).map(|_| pricing)
    }

    /// What this usage costs. `tier` is the service tier the provider says it used.
    pub fn cost(&self, usage: &Usage, tier: Option<&str>) -> Nanos {
        // What could be priced once can be priced again; where not, nothing may come out cheap.
        self.try_cost(usage, tier).unwrap_or(Nanos(u64::MAX / 4))
    }

    /// What the request records about where its price came from.
    pub fn version(&self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Configured(_) => "configuration",
            Self::Entered(_) => "administrator",
            Self::Table { .. } => TABLE,
        }
    }

    /// Whether a service tier has a price of its own here. One that the table does not know is priced as if nobody had
    /// asked for it, which would be too little.
    pub(crate) fn knows_tier(&self, tier: Option<&str>) -> bool {
        let Some(tier) = tier else { return true };
        let some = Usage {
            input: 1_000_000,
            output: 1_000_000,
            ..Usage::default()
        };
        match self {
            Self::Free => true,
            Self::Configured(_) | Self::Entered(_) => false,
            Self::Table { .. } => self.try_cost(&some, Some(tier)) != self.try_cost(&some, None),
        }
    }

    /// Whether anything can cost anything.
    pub fn is_free(&self) -> bool {
        matches!(self, Self::Free)
    }

    fn try_cost(&self, usage: &Usage, tier: Option<&str>) -> Option<Nanos> {
        match self {
            Self::Free => Some(Nanos::ZERO),
            Self::Configured(rates) | Self::Entered(rates) => Some(rates.cost(usage)),
            Self::Table { provider, model, at } => {
                line::cost(provider, model, *at, tier, usage).map(Nanos::from_dollars)
            }
        }
    }
}

fn selector(provider: &ProviderSpec) -> Selector {
    match provider.kind {
        Kind::Anthropic => Selector::Id("anthropic"),
        Kind::Openai => Selector::Id("openai"),
        Kind::Gemini => Selector::Id("google"),
        Kind::OpenaiCompatible | Kind::Demo => Selector::Url(provider.base.to_string()),
    }
}

/// In dollars, by the table itself.
fn by_table(
    provider: &Selector,
    model: &str,
    at: SystemTime,
    tier: Option<&str>,
    usage: &Usage,
) -> Option<f64> {
    let counted = counted(usage);
    let (id, prices) = table::find(provider)?;
    let mut request = PriceRequest::new(model, &counted)
        .with_timestamp(at)
        .with_provider_id(id);
    if let Some(tier) = tier {
        request = request.with_price_context("service_tier", tier);
    }
    let price = prices.calculate(&request).ok()?;
    Some(price.total_price)
}

/// In the table's terms: its input is all input, and its cache writes are those of any life time.
fn counted(usage: &Usage) -> genai_prices::Usage {
    // Far below the integers that a float holds exactly.
    #[allow(clippy::cast_precision_loss)]
    let number = |count: u64| count as f64;
    [
        (UsageKey::INPUT_TOKENS, usage.all_input()),
        (UsageKey::CACHE_READ_TOKENS, usage.cache_read),
        (UsageKey::CACHE_WRITE_TOKENS, usage.cache_write),
        (UsageKey::CACHE_WRITE_1H_TOKENS, usage.cache_write_1h),
        (UsageKey::OUTPUT_TOKENS, usage.output),
        (UsageKey::OUTPUT_REASONING_TOKENS, usage.reasoning),
        (UsageKey::WEB_SEARCHES, usage.web_searches),
    ]
    .map(|(key, count)| (key, number(count)))
    .into()
}

/// How many tokens the table says a model takes in; none where it does not know.
pub fn context_window(provider: &ProviderSpec, model: &str) -> Option<u64> {
    let selector = selector(provider);
    if !matches!(selector, Selector::Id(_)) {
        return None;
    }
    let (id, prices) = table::find(&selector)?;
    let found = prices.find_provider(Some(id), None).ok()??;
    found.models().find(|known| known.id() == model)?.context_window()
}

#[cfg(test)]
pub(crate) mod tests;
