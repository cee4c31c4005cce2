//! Prices as the request path needs them: looked up in the table once, then a product of numbers.
//!
//! The table finds a model by patterns, which takes longer than all the rest of a request. Where the price of a model is
//! the same for every token of a class, it is read off the table and kept; what grows with the prompt is asked each time.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Selector, by_table};
use crate::usage::Usage;

/// Prices may change at an hour of the day: what was read holds for this many seconds, counted from 1970.
const SLOT: u64 = 300;
/// Models, whose names callers choose: beyond it all are forgotten.
const MAX_MODELS: usize = 512;
/// Prices of one model: tiers and providers.
const MAX_LINES: usize = 16;
/// A provider counts fewer tokens in one request than this; up to it the price must be even.
const MANY: u64 = 8_000_000;

/// Dollars a token of each class: input, read and written cache, written for an hour, output, reasoning, and searches.
type Rates = [f64; CLASSES];
const CLASSES: usize = 7;

#[derive(Debug)]
struct Line {
    provider: Selector,
    tier: Option<String>,
    slot: u64,
    /// None: not even, or not known.
    rates: Option<Rates>,
}

type Lines = HashMap<String, Vec<Arc<Line>>>;

static KNOWN: LazyLock<RwLock<Lines>> = LazyLock::new(RwLock::default);

/// What the table says, in dollars; none where it does not know the model.
pub(super) fn cost(
    provider: &Selector,
    model: &str,
    at: SystemTime,
    tier: Option<&str>,
    usage: &Usage,
) -> Option<f64> {
    let largest = usage.all_input().max(usage.output).max(usage.web_searches);
    if largest > MANY {
        return by_table(provider, model, at, tier, usage);
    }
    let slot = at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()) / SLOT;
    let line = find(provider, model, tier, slot).unwrap_or_else(|| {
        let line = Arc::new(Line {
            provider: provider.clone(),
            tier: tier.map(str::to_owned),
            slot,
            rates: even(&|usage| by_table(provider, model, at, tier, usage)),
        });
        keep(model, Arc::clone(&line));
        line
    });
    match &line.rates {
        Some(rates) => Some(product(rates, usage)),
        None => by_table(provider, model, at, tier, usage),
    }
}

fn find(provider: &Selector, model: &str, tier: Option<&str>, slot: u64) -> Option<Arc<Line>> {
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    let mut lines = known.get(model)?.iter();
    let fits =
        |line: &&Arc<Line>| line.slot == slot && line.tier.as_deref() == tier && line.provider == *provider;
    lines.find(fits).cloned()
}

fn keep(model: &str, line: Arc<Line>) {
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    if known.len() >= MAX_MODELS {
        known.clear();
    }
    let lines = known.entry(model.to_owned()).or_default();
    lines.retain(|other| other.slot == line.slot);
    if lines.len() < MAX_LINES {
        lines.push(line);
    }
}

/// The disjoint classes of a usage, in the order of [`Rates`].
fn classes(usage: &Usage) -> [u64; CLASSES] {
    let hour = usage.cache_write_1h.min(usage.cache_write);
    let thought = usage.reasoning.min(usage.output);
    [
        usage.input,
        usage.cache_read,
        usage.cache_write - hour,
        hour,
        usage.output - thought,
        thought,
        usage.web_searches,
    ]
}

fn of_class(class: usize, count: u64) -> Usage {
    let mut usage = Usage::default();
    match class {
        0 => usage.input = count,
        1 => usage.cache_read = count,
        2 => usage.cache_write = count,
        3 => (usage.cache_write, usage.cache_write_1h) = (count, count),
        4 => usage.output = count,
        5 => (usage.output, usage.reasoning) = (count, count),
        _ => usage.web_searches = count,
    }
    usage
}

#[allow(clippy::cast_precision_loss)] // far below the integers that a float holds exactly
fn product(rates: &Rates, usage: &Usage) -> f64 {
    let counts = classes(usage);
    rates
        .iter()
        .zip(counts)
        .map(|(rate, count)| rate * count as f64)
        .sum()
}

/// The price of each class, if it is the same for few and for many, alone and together.
fn even(table: &dyn Fn(&Usage) -> Option<f64>) -> Option<Rates> {
    const FEW: u64 = 1000;
    let same = |a: f64, b: f64| (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1e-9);
    let mut rates = [0.0; CLASSES];
    let mut all = Usage::default();
    for (class, rate) in rates.iter_mut().enumerate() {
        #[allow(clippy::cast_precision_loss)]
        let each = |count: u64| Some(table(&of_class(class, count))? / count as f64);
        *rate = each(MANY)?;
        if !same(*rate, each(FEW)?) {
            return None;
        }
        let one = of_class(class, FEW);
        all = Usage {
            input: all.input + one.input,
            cache_read: all.cache_read + one.cache_read,
            cache_write: all.cache_write + one.cache_write,
            cache_write_1h: all.cache_write_1h + one.cache_write_1h,
            output: all.output + one.output,
            reasoning: all.reasoning + one.reasoning,
            web_searches: all.web_searches + one.web_searches,
        };
    }
    same(product(&rates, &all), table(&all)?).then_some(rates)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn even_prices_are_the_tables() {
        let at = UNIX_EPOCH + Duration::from_secs(1_795_000_000);
        let provider = Selector::Id("anthropic");
        for tier in [None, Some("priority")] {
            for (input, read, written, hour, output, thought) in
                [(1, 2, 3, 1, 5, 2), (123_456, 0, 654_321, 0, 64_000, 64_000)]
            {
                let usage = Usage {
                    input,
                    cache_read: read,
                    cache_write: written,
                    cache_write_1h: hour,
                    output,
                    reasoning: thought,
                    web_searches: 3,
                };
                let told = by_table(&provider, "claude-sonnet-5-5", at, tier, &usage).unwrap();
                let kept = cost(&provider, "claude-sonnet-5-5", at, tier, &usage).unwrap();
                assert!((told - kept).abs() < 1e-12, "{told} {kept}");
            }
        }
        let table = |usage: &Usage| by_table(&provider, "claude-sonnet-5-5", at, None, usage);
        assert!(even(&table).is_some(), "it is not asked again");
    }

    #[test]
    fn what_grows_with_the_prompt_is_asked_each_time() {
        let stepped = |usage: &Usage| {
            let of = |tokens: u64| product(&[1e-6; CLASSES], &of_class(0, tokens));
            Some(of(usage.input) + of(usage.input.saturating_sub(200_000)))
        };
        assert_eq!(even(&stepped), None);
        assert_eq!(even(&|_| None), None);
    }

    #[test]
    fn a_caller_that_makes_up_names_does_not_fill_memory() {
        for number in 0..2 * MAX_MODELS {
            let line = Line {
                provider: Selector::Id("x"),
                tier: None,
                slot: 0,
                rates: None,
            };
            keep(&format!("made-up-{number}"), Arc::new(line));
        }
        assert!(KNOWN.read().unwrap().len() <= MAX_MODELS);
    }
}
