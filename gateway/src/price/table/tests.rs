//! The table beside the crate's own.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use genai_prices::{PriceRequest, ProviderInfo, Usage, UsageKey};
use serde_json::{Map, Value};

use super::*;

/// The table as the crate has it.
fn data() -> Vec<Map<String, Value>> {
    let cargo = std::env::var("CARGO").expect("tests are run by cargo");
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let package = packages.iter().find(|package| package["name"] == "genai-prices");
    let manifest = PathBuf::from(package.unwrap()["manifest_path"].as_str().unwrap());
    let path = manifest.parent().unwrap().join("data/prices.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// What is for people to read, and how answers are read, which this program does itself.
fn without_prose(provider: &mut Map<String, Value>) -> Vec<Value> {
    for field in ["description", "extractors", "price_comments", "pricing_urls"] {
        provider.remove(field);
    }
    let mut models = provider.remove("models").unwrap().as_array().unwrap().clone();
    for model in &mut models {
        let model = model.as_object_mut().unwrap();
        for field in [
            "description",
            "name",
            "price_comments",
            "price_discrepancies",
            "prices_checked",
        ] {
            model.remove(field);
        }
    }
    models
}

fn write_anew() {
    let (mut providers, mut lines) = (String::new(), String::new());
    for mut provider in data() {
        let models = Value::from(without_prose(&mut provider)).to_string();
        let mut entry = Map::new();
        entry.insert("id".into(), provider["id"].clone());
        if let Some(fallbacks) = provider.get("fallback_model_providers") {
            entry.insert("fallbacks".into(), fallbacks.clone());
        }
        entry.insert("at".into(), lines.len().into());
        entry.insert("length".into(), models.len().into());
        entry.insert("head".into(), provider.into());
        writeln!(providers, "{}", Value::from(entry)).unwrap();
        writeln!(lines, "{models}").unwrap();
    }
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/price/table");
    std::fs::write(directory.join("providers.jsonl"), providers).unwrap();
    std::fs::write(directory.join("models.jsonl"), lines).unwrap();
}

/// Usage and tiers that prices differ for.
fn asked() -> Vec<(Usage, Option<&'static str>)> {
    let usage = |input: f64| -> Usage {
        [
            (UsageKey::INPUT_TOKENS, input),
            (UsageKey::CACHE_READ_TOKENS, input / 8.0),
            (UsageKey::CACHE_WRITE_TOKENS, input / 4.0),
            (UsageKey::CACHE_WRITE_1H_TOKENS, input / 8.0),
            (UsageKey::OUTPUT_TOKENS, 4096.0),
            (UsageKey::OUTPUT_REASONING_TOKENS, 1024.0),
            (UsageKey::WEB_SEARCHES, 3.0),
        ]
        .into()
    };
    vec![
        (usage(1024.0), None),
        (usage(1_048_576.0), None),
        (usage(1024.0), Some("priority")),
        (usage(1024.0), Some("flex")),
    ]
}

fn moments() -> [SystemTime; 3] {
    // November 2026 by day and by night, and two years before.
    [1_795_000_000, 1_795_040_000, 1_731_000_000].map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds))
}

/// The prices of a model by every combination, as text: `NaN` and errors compare too.
fn told(table: &Calculator, provider: &str, model: &str) -> Vec<String> {
    let mut told = Vec::new();
    for (usage, tier) in asked() {
        for at in moments() {
            let mut request = PriceRequest::new(model, &usage)
                .with_timestamp(at)
                .with_provider_id(provider);
            if let Some(tier) = tier {
                request = request.with_price_context("service_tier", tier);
            }
            let price = table.calculate(&request);
            told.push(match price {
                Ok(price) => format!("{} {} {}", price.provider_id, price.model_id, price.total_price),
                Err(error) => format!("{:?}", error.kind()),
            });
        }
    }
    told
}

fn same_prices(provider: ProviderInfo<'_>) {
    let id = provider.id();
    let own = prices(id).unwrap_or_else(|| panic!("{id} is not in the table; LODGE_UPDATE=1 writes it anew"));
    let listed = own.find_provider(Some(id), None).unwrap().unwrap();
    let shape = |provider: ProviderInfo<'_>| -> Vec<(String, Option<u64>)> {
        let models = provider.models();
        models
            .map(|model| (model.id().to_owned(), model.context_window()))
            .collect()
    };
    assert_eq!(
        shape(listed),
        shape(provider),
        "{id}; LODGE_UPDATE=1 writes it anew"
    );
    for model in provider.models() {
        let names = [
            model.id().to_owned(),
            format!("{}-20260101", model.id()),
            model.id().to_uppercase(),
        ];
        for name in names {
            let crates = told(Calculator::bundled(), id, &name);
            assert_eq!(
                told(&own, id, &name),
                crates,
                "{id} {name}; LODGE_UPDATE=1 writes it anew"
            );
        }
    }
}

#[test]
fn it_says_what_the_crates_own_says() {
    if std::env::var_os("LODGE_UPDATE").is_some() {
        return write_anew();
    }
    let lines = PROVIDERS.lines().count();
    assert_eq!(
        (entries().count(), Calculator::bundled().providers().count()),
        (lines, lines)
    );
    Calculator::bundled().providers().for_each(same_prices);
    // Models that stand in for a provider's own.
    for (id, model) in [
        ("azure", "claude-sonnet-4-5"),
        ("google", "claude-sonnet-4-5"),
        ("azure", "gpt-5"),
    ] {
        let own = prices(id).unwrap();
        assert_eq!(
            told(&own, id, model),
            told(Calculator::bundled(), id, model),
            "{id} {model}"
        );
    }
}

#[test]
fn an_address_is_of_the_provider_that_the_crate_says() {
    for url in [
        "https://api.openai.com/v1",
        "https://openrouter.ai/api/v1",
        "https://api.groq.com/openai/v1",
        "https://eu.api.mistral.ai/v1",
        "https://me.openai.azure.com/openai/v1",
        "http://127.0.0.1:11434/v1",
        "https://llm.example.org/v1",
    ] {
        let crates = Calculator::bundled().find_provider(None, Some(url)).unwrap();
        let found = find(&Selector::Url(url.to_owned())).map(|(id, _)| id);
        assert_eq!(found, crates.map(ProviderInfo::id), "{url}");
    }
}
