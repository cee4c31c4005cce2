//! `lodgectl models`: what there is to be used, what it can do and costs; of a key, what it may use.

use super::{connect, refused};
use crate::table;
use crate::terminal::{print_json, println};
use clap::Args;
use lodge_proto::control::{Dialect, ListModelsRequest, Model, ModelPrice};
use lodge_runner::harness::launch;
use serde_json::{Value, json};
use std::path::Path;

/// The harnesses that Lodge starts by itself.
const HARNESSES: [&str; 4] = ["pi", "codex", "claude", "opencode"];

#[derive(Debug, Args)]
pub(super) struct Models {
    /// What this key may use, with what its parents may [default: everything].
    #[arg(long, value_name = "ID")]
    key: Option<String>,
    /// Ask the providers that list their models first; one that does not answer keeps what it listed before.
    #[arg(long)]
    refresh: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Shows the models.
pub(super) async fn models(socket: &Path, models: &Models) -> anyhow::Result<()> {
    let request = ListModelsRequest {
        key: models.key.clone().unwrap_or_default(),
        refresh: models.refresh,
    };
    let answer = connect(socket).await?.list_models(request).await;
    let answer = answer.map_err(|status| refused(&status))?.into_inner();
    for problem in &answer.problems {
        eprintln!("not refreshed: {problem}");
    }
    if models.json {
        return print_json(&answer.models.iter().map(value).collect::<Vec<_>>());
    }
    if answer.models.is_empty() {
        println("no models: `lodgectl provider add NAME` adds some; a key may be narrower than all of them");
        return Ok(());
    }
    let rows: Vec<_> = answer.models.iter().map(row).collect();
    let head = [
        "MODEL",
        "CONTEXT",
        "OUTPUT",
        "CAN",
        "INPUT",
        "CACHED",
        "OUT",
        "HARNESSES",
    ];
    table::print(head, &rows);
    println(
        "Prices are per million tokens. A session with one of the harnesses that are named can use the model.",
    );
    Ok(())
}

fn row(model: &Model) -> [String; 8] {
    let tokens = |count: u64| {
        if count == 0 {
            "?".to_owned()
        } else {
            count.to_string()
        }
    };
    let can = [
        (model.tools, "tools"),
        (model.images, "images"),
        (model.reasoning, "reasoning"),
    ];
    let can: Vec<&str> = can
        .into_iter()
        .filter_map(|(is, what)| is.then_some(what))
        .collect();
    let price = |of: fn(&ModelPrice) -> u64| {
        let price = model.price.as_ref();
        price.map_or_else(|| "?".to_owned(), |price| super::accounts::dollars(of(price)))
    };
    let name = match model.targets.as_slice() {
        [] => launch::model_id(model),
        targets => format!("{} = {}", launch::model_id(model), targets.join(", ")),
    };
    [
        name,
        tokens(model.context_window),
        tokens(model.max_output),
        can.join(" "),
        price(|price| price.input),
        price(|price| price.cache_read),
        price(|price| price.output),
        harnesses(model).join(" "),
    ]
}

/// Those whose sessions can use it.
fn harnesses(model: &Model) -> Vec<&'static str> {
    let fits = |harness: &&str| launch::can_use(harness, None, model);
    HARNESSES.into_iter().filter(fits).collect()
}

fn dialects(codes: &[i32]) -> Vec<&'static str> {
    let name = |code: &i32| match Dialect::try_from(*code).ok()? {
        Dialect::OpenaiChat => Some("openai_chat"),
        Dialect::OpenaiResponses => Some("openai_responses"),
        Dialect::AnthropicMessages => Some("anthropic_messages"),
        Dialect::Gemini => Some("gemini"),
        Dialect::Unspecified => None,
    };
    codes.iter().filter_map(name).collect()
}

/// Numbers that nobody knows are null.
fn value(model: &Model) -> Value {
    let known = |count: u64| (count > 0).then_some(count);
    let price = model.price.as_ref().map(|price| {
        json!({
            "source": price.source, "input": price.input, "cache_read": price.cache_read,
            "cache_write": price.cache_write, "cache_write_1h": price.cache_write_1h, "output": price.output,
        })
    });
    json!({
        "id": model.id, "provider": model.provider, "name": model.name, "targets": model.targets,
        "context_window": known(model.context_window), "max_output": known(model.max_output),
        "tools": model.tools, "images": model.images, "reasoning": model.reasoning, "efforts": model.efforts,
        "dialects": dialects(&model.dialects), "translated": dialects(&model.translated),
        "harnesses": harnesses(model), "nano_usd_per_million_tokens": price, "listed_at": known(model.listed_at),
    })
}
