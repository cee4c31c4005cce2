//! The `genai-prices` table, by provider: only the prices of providers that are used are ever in memory.
//!
//! The crate's own table takes 17 MiB and all providers there are; of one provider it is a tenth of that. What is
//! beside this file is the crate's data without its prose: one line a provider in `providers.jsonl`, with the place of
//! its models in `models.jsonl`. A test holds it against the crate's own table, and writes it anew with `LODGE_UPDATE=1`.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use genai_prices::Calculator;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Selector;

const PROVIDERS: &str = include_str!("providers.jsonl");
const MODELS: &str = include_str!("models.jsonl");
/// Addresses whose provider is remembered; they are those of the configuration.
const MAX_ADDRESSES: usize = 256;

/// A provider without its models.
#[derive(Deserialize)]
struct Entry {
    id: &'static str,
    /// As the crate reads it.
    #[serde(borrow)]
    head: &'static RawValue,
    /// Whose models are looked through after its own.
    #[serde(default, borrow)]
    fallbacks: Vec<&'static str>,
    /// Where its models are, bytes.
    at: usize,
    length: usize,
}

/// What was read so far.
#[derive(Default)]
struct Known {
    providers: HashMap<&'static str, Arc<Calculator>>,
    addresses: HashMap<String, Option<&'static str>>,
}

static KNOWN: LazyLock<RwLock<Known>> = LazyLock::new(RwLock::default);

/// A provider's id in the table, and its prices; none where the table does not know it.
pub(super) fn find(selector: &Selector) -> Option<(&'static str, Arc<Calculator>)> {
    let (id, read) = {
        let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
        let id = match selector {
            Selector::Id(id) => Some(Some(*id)),
            Selector::Url(url) => known.addresses.get(url).copied(),
        };
        let read = id.flatten().and_then(|id| known.providers.get(id).cloned());
        (id, read)
    };
    let id = match (id, selector) {
        (Some(id), _) => id?,
        (None, Selector::Id(id)) => id,
        (None, Selector::Url(url)) => {
            let id = at_address(url);
            let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
            if known.addresses.len() >= MAX_ADDRESSES {
                known.addresses.clear();
            }
            known.addresses.insert(url.clone(), id);
            id?
        }
    };
    if let Some(read) = read {
        return Some((id, read));
    }
    let prices = Arc::new(prices(id)?);
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    Some((id, Arc::clone(known.providers.entry(id).or_insert(prices))))
}

fn entries() -> impl Iterator<Item = Entry> {
    // A test reads every line.
    PROVIDERS
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
}

/// Of one provider, and of those whose models stand in for its own.
fn prices(id: &str) -> Option<Calculator> {
    let all: Vec<Entry> = entries().collect();
    let own = all.iter().find(|entry| entry.id == id)?;
    let needed = all
        .iter()
        .filter(|entry| entry.id == id || own.fallbacks.contains(&entry.id));
    let whole: Option<Vec<String>> = needed
        .map(|entry| {
            let head = entry.head.get().strip_suffix('}')?;
            let models = MODELS.get(entry.at..entry.at + entry.length)?;
            Some(format!("{head},\"models\":{models}}}"))
        })
        .collect();
    Calculator::from_json(format!("[{}]", whole?.join(","))).ok()
}

/// Which provider an address is of. The patterns are read for it, and forgotten again.
fn at_address(url: &str) -> Option<&'static str> {
    let all: Vec<Entry> = entries().collect();
    let heads: Vec<&str> = all.iter().map(|entry| entry.head.get()).collect();
    let heads = Calculator::from_json(format!("[{}]", heads.join(","))).ok()?;
    let found = heads.find_provider(None, Some(url)).ok()??.id().to_owned();
    all.iter().find(|entry| entry.id == found).map(|entry| entry.id)
}
