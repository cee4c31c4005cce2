//! What a model costs, as it is shown: per million tokens of each class.

use std::time::SystemTime;

use lodge_proto::control::ModelPrice;

use crate::price::Pricing;
use crate::provider::ProviderSpec;
use crate::usage::Usage;

/// Tokens that a price is asked for, and how often that makes a million: a million at once could be priced as a long context.
const SAMPLE: (u64, u64) = (1000, 1000);

/// The price of a model, known or not. Blocks on the price table the first time.
pub(crate) fn price(provider: &ProviderSpec, model: &str) -> ModelPrice {
    let now = SystemTime::now();
    let pricing = Pricing::find(provider, model, now);
    let mut price = shown(provider, model, pricing.as_ref());
    if let Some(Pricing::Configured(_) | Pricing::Entered(_)) = pricing {
        let table = Pricing::table(provider, model, now);
        let table = table.map(|table| shown(provider, model, Some(&table)));
        price.table = table.filter(|table| !costs_the_same(table, &price)).map(Box::new);
    }
    price
}

fn costs_the_same(one: &ModelPrice, other: &ModelPrice) -> bool {
    let figures = |price: &ModelPrice| {
        [
            price.input,
            price.cache_read,
            price.cache_write,
            price.cache_write_1h,
            price.output,
        ]
    };
    figures(one) == figures(other)
}

fn shown(provider: &ProviderSpec, model: &str, pricing: Option<&Pricing>) -> ModelPrice {
    let (tokens, times) = SAMPLE;
    let of = |usage: Usage| {
        let cost = pricing.map(|pricing| pricing.cost(&usage, None));
        cost.map_or(0, |cost| cost.0.saturating_mul(times))
    };
    let usage = Usage::default();
    ModelPrice {
        provider: provider.name.clone(),
        model: model.to_owned(),
        source: pricing.map_or_else(String::new, |pricing| pricing.version().to_owned()),
        input: of(Usage {
            input: tokens,
            ..usage
        }),
        cache_read: of(Usage {
            cache_read: tokens,
            ..usage
        }),
        cache_write: of(Usage {
            cache_write: tokens,
            ..usage
        }),
        cache_write_1h: of(Usage {
            cache_write: tokens,
            cache_write_1h: tokens,
            ..usage
        }),
        output: of(Usage {
            output: tokens,
            ..usage
        }),
        table: None,
    }
}
