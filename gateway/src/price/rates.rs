//! Prices an administrator sets.

use serde::Deserialize;
use serde::de::{Deserializer, Error};

use crate::money::Nanos;
use crate::usage::Usage;

const PER: u128 = 1_000_000;
/// Dearest price, nano-dollars per million tokens: $100,000.
pub const MAX_RATE: u64 = 100_000 * 1_000_000_000;

/// Nano-dollars per million tokens of each class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    pub input: u64,
    pub cache_read: u64,
    pub cache_write: u64,
    pub cache_write_1h: u64,
    pub output: u64,
    pub reasoning: u64,
}

/// As the file has it: dollars per million tokens.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    input: f64,
    output: f64,
    cache_read: Option<f64>,
    cache_write: Option<f64>,
    cache_write_1h: Option<f64>,
    reasoning: Option<f64>,
}

impl<'de> Deserialize<'de> for Rates {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Written::deserialize(deserializer)?;
        let nanos = |dollars: f64| {
            let is_price = dollars.is_finite() && (0.0..=100_000.0).contains(&dollars);
            if is_price {
                Ok(Nanos::from_dollars(dollars).0)
            } else {
                Err(D::Error::custom(
                    "a price is dollars per million tokens, from 0 to 100000",
                ))
            }
        };
        let or = |price: Option<f64>| price.map(nanos).transpose();
        Ok(Self::from(Stated {
            input: nanos(written.input)?,
            output: nanos(written.output)?,
            cache_read: or(written.cache_read)?,
            cache_write: or(written.cache_write)?,
            cache_write_1h: or(written.cache_write_1h)?,
            reasoning: or(written.reasoning)?,
        }))
    }
}

/// The prices that somebody stated, in nano-dollars per million tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stated {
    pub input: u64,
    pub output: u64,
    pub cache_read: Option<u64>,
    pub cache_write: Option<u64>,
    pub cache_write_1h: Option<u64>,
    pub reasoning: Option<u64>,
}

impl From<Stated> for Rates {
    /// What is left away costs what its class costs; cache writes for an hour cost twice the input.
    fn from(stated: Stated) -> Self {
        let Stated { input, output, .. } = stated;
        let cache_write = stated.cache_write.unwrap_or(input.saturating_add(input / 4));
        let hour = cache_write.max(input.saturating_mul(2));
        Self {
            input,
            cache_read: stated.cache_read.unwrap_or(input),
            cache_write,
            cache_write_1h: stated.cache_write_1h.unwrap_or(hour),
            output,
            reasoning: stated.reasoning.unwrap_or(output),
        }
    }
}

impl Rates {
    /// Of what is not billed by the token.
    pub(crate) const NOTHING: Self = Self {
        input: 0,
        cache_read: 0,
        cache_write: 0,
        cache_write_1h: 0,
        output: 0,
        reasoning: 0,
    };

    /// Rounded up to a whole nano-dollar.
    pub fn cost(&self, usage: &Usage) -> Nanos {
        let short = usage.cache_write.saturating_sub(usage.cache_write_1h);
        let spoken = usage.output.saturating_sub(usage.reasoning);
        let sum: u128 = [
            (usage.input, self.input),
            (usage.cache_read, self.cache_read),
            (short, self.cache_write),
            (usage.cache_write_1h.min(usage.cache_write), self.cache_write_1h),
            (spoken, self.output),
            (usage.reasoning.min(usage.output), self.reasoning),
        ]
        .iter()
        .map(|&(tokens, rate)| u128::from(tokens) * u128::from(rate))
        .sum();
        Nanos(u64::try_from(sum.div_ceil(PER)).unwrap_or(u64::MAX))
    }
}
