//! `lodgectl price`: what models cost, and prices of one's own.

use super::{connect, done};
use crate::admin::{accounts, ops};
use crate::failure::Failure;
use clap::{Args, Subcommand};
use lodge_proto::ErrorCode;
use lodge_proto::control::{PriceSetup, PutPriceRequest, RemovePriceRequest};
use serde_json::json;
use std::path::Path;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(in crate::admin) struct Price {
    /// A model's id or `PROVIDER/MODEL` [default: every model that is listed].
    model: Option<String>,
    /// Only the prices of the configuration and of administrators that differ from the table's, with both.
    #[arg(long)]
    diff: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    command: Option<PriceCommand>,
}

#[derive(Debug, Subcommand)]
pub(in crate::admin) enum PriceCommand {
    /// Say what a model costs, in dollars per million tokens. What is left out costs what its class does.
    Set(Set),
    /// Forget a price: the one of the price table holds again.
    Remove {
        #[arg(value_name = "PROVIDER/MODEL")]
        model: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(in crate::admin) struct Set {
    #[arg(value_name = "PROVIDER/MODEL")]
    model: String,
    /// Such as `2` or `0.25usd`.
    #[arg(long, value_name = "USD", value_parser = accounts::amount)]
    input: u64,
    #[arg(long, value_name = "USD", value_parser = accounts::amount)]
    output: u64,
    /// Input that comes from the provider's cache [default: as input].
    #[arg(long, value_name = "USD", value_parser = accounts::amount)]
    cache_read: Option<u64>,
    /// Input that is written to the cache [default: 1.25 times the input].
    #[arg(long, value_name = "USD", value_parser = accounts::amount)]
    cache_write: Option<u64>,
    /// The same for an hour [default: twice the input].
    #[arg(long, value_name = "USD", value_parser = accounts::amount)]
    cache_write_1h: Option<u64>,
    /// [default: as output].
    #[arg(long, value_name = "USD", value_parser = accounts::amount)]
    reasoning: Option<u64>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn named(text: &str) -> anyhow::Result<(String, String)> {
    let named = text
        .split_once('/')
        .filter(|(of, model)| !of.is_empty() && !model.is_empty());
    let (provider, model) = named.ok_or_else(|| {
        Failure::new(ErrorCode::InvalidArgument, format!("`{text}` names no provider"))
            .mend("write PROVIDER/MODEL; lodgectl price shows those that are listed")
    })?;
    Ok((provider.to_owned(), model.to_owned()))
}

/// Shows prices, or changes one.
pub(in crate::admin) async fn price(socket: &Path, price: &Price) -> anyhow::Result<()> {
    match &price.command {
        None => ops::price(socket, price.model.as_deref(), price.diff, price.json).await,
        Some(PriceCommand::Set(set)) => {
            let (provider, model) = named(&set.model)?;
            let value = json!({
                "provider": provider, "model": model,
                "nano_usd_per_million_tokens": { "input": set.input, "output": set.output },
            });
            let request = PutPriceRequest {
                price: Some(PriceSetup {
                    provider,
                    model,
                    input: set.input,
                    output: set.output,
                    cache_read: set.cache_read,
                    cache_write: set.cache_write,
                    cache_write_1h: set.cache_write_1h,
                    reasoning: set.reasoning,
                    ..PriceSetup::default()
                }),
            };
            let answer = connect(socket).await?.put_price(request).await;
            let text = format!("the price of {} is set", set.model);
            done(answer, set.json, &text, &value)
        }
        Some(PriceCommand::Remove {
            model: named_as,
            json,
        }) => {
            let (provider, model) = named(named_as)?;
            let value = json!({ "provider": provider, "model": model, "removed": true });
            let request = RemovePriceRequest { provider, model };
            let answer = connect(socket).await?.remove_price(request).await;
            let text = format!("the price of {named_as} is that of the price table again");
            done(answer, *json, &text, &value)
        }
    }
}
