//! `lodgectl`: what is set up beside the configuration file. Providers, accounts, aliases, policies and prices.

mod account;
mod check;
mod key;
mod price;
mod provider;
mod routes;

pub(super) use account::{AccountCommand, account};
pub(super) use check::check;
pub(super) use price::{Price, price};
pub(super) use provider::{Add, add};
pub(super) use routes::{AliasCommand, PolicyCommand, alias, policy};

use super::{channel, refused};
use crate::terminal::{print_json, println};
use lodge_proto::control::gateway_setup_client::GatewaySetupClient;
use lodge_proto::control::{SetupChanged, ShowSetupRequest, ShowSetupResponse};
use serde_json::Value;
use std::path::Path;
use tonic::transport::Channel;

async fn connect(socket: &Path) -> anyhow::Result<GatewaySetupClient<Channel>> {
    Ok(GatewaySetupClient::new(channel(socket).await?).max_decoding_message_size(16 << 20))
}

async fn shown(socket: &Path) -> anyhow::Result<ShowSetupResponse> {
    let shown = connect(socket).await?.show_setup(ShowSetupRequest {}).await;
    Ok(shown.map_err(|status| refused(&status))?.into_inner())
}

type Answer = Result<tonic::Response<SetupChanged>, tonic::Status>;

/// Says that a change was made: as a sentence, or as what was changed.
fn done(answer: Answer, as_json: bool, text: &str, value: &Value) -> anyhow::Result<()> {
    answer.map_err(|status| refused(&status))?;
    if as_json {
        return print_json(value);
    }
    println(text);
    Ok(())
}

/// Where an entry comes from, and whether another one stands before it.
fn origin(origin: &str, shadowed: bool) -> String {
    match origin {
        "file" => "lodge.toml".to_owned(),
        _ if shadowed => "lodgectl, behind lodge.toml".to_owned(),
        _ => "lodgectl".to_owned(),
    }
}
