//! `lodgectl audit`, `requests`, `price` and `metrics`, and keys that are enabled and disabled.

use super::{channel, moment, refused};
use crate::table;
use crate::terminal::{print_json, println};
use clap::{Args, Subcommand};
use lodge_proto::control::gateway_ops_client::GatewayOpsClient;
use lodge_proto::control::{
    AuditEntry, CancelRequestRequest, EnableKeyRequest, ListAuditRequest, ListLiveRequest, ListPricesRequest,
    LiveRequest, MetricsRequest, ModelPrice,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tonic::transport::Channel;

/// Between two looks at what is under way.
const PACE: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
pub(super) struct Audit {
    /// Only entries before this one.
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "SERIAL")]
    before: u64,
    /// How many [default: 100; at most 1000].
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "N")]
    limit: u32,
    /// Only entries that have this text in who, action, what, detail or outcome.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    search: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Requests {
    #[command(subcommand)]
    command: Option<RequestCommand>,
    /// Go on until interrupted: a line for each request that begins, changes its cost, or ends.
    #[arg(long)]
    live: bool,
    /// Print JSON; with `--live`, an object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum RequestCommand {
    /// End a request: its client is told so and stops, and what came through is paid for.
    Cancel {
        /// As `lodgectl requests` lists it.
        id: u64,
    },
}

async fn connect(socket: &Path) -> anyhow::Result<GatewayOpsClient<Channel>> {
    Ok(GatewayOpsClient::new(channel(socket).await?).max_decoding_message_size(16 << 20))
}

/// Shows who changed what.
pub(super) async fn audit(socket: &Path, audit: &Audit) -> anyhow::Result<()> {
    let request = ListAuditRequest {
        before: audit.before,
        limit: audit.limit,
        search: audit.search.clone(),
    };
    let answer = connect(socket).await?.list_audit(request).await;
    let entries = answer.map_err(|status| refused(&status))?.into_inner().entries;
    if audit.json {
        return print_json(&entries.iter().map(entry_value).collect::<Vec<_>>());
    }
    let row = |entry: &AuditEntry| {
        let who = match entry.actor.as_str() {
            "" => format!("uid {}", entry.uid),
            actor => format!("{actor} (uid {})", entry.uid),
        };
        let result = format!("{} {}", entry.outcome, entry.result);
        [
            entry.serial.to_string(),
            moment::shown_exactly(entry.at / 1000),
            who,
            entry.action.clone(),
            entry.target.clone(),
            entry.detail.clone(),
            result.trim_end().to_owned(),
        ]
    };
    let rows: Vec<_> = entries.iter().map(row).collect();
    table::print(["ENTRY", "AT", "WHO", "ACTION", "OF", "DETAIL", "OUTCOME"], &rows);
    Ok(())
}

fn entry_value(entry: &AuditEntry) -> Value {
    let detail: Value = serde_json::from_str(&entry.detail).unwrap_or_default();
    json!({
        "serial": entry.serial, "at": entry.at, "uid": entry.uid, "pid": entry.pid, "actor": entry.actor,
        "action": entry.action, "target": entry.target, "detail": detail, "outcome": entry.outcome,
        "result": entry.result,
    })
}

/// Shows what is under way; with `--live`, until interrupted.
pub(super) async fn requests(socket: &Path, requests: &Requests) -> anyhow::Result<()> {
    let mut client = connect(socket).await?;
    if let Some(RequestCommand::Cancel { id }) = requests.command {
        let cancelled = client.cancel_request(CancelRequestRequest { id }).await;
        cancelled.map_err(|status| refused(&status))?;
        println(&format!("the request {id} is ended"));
        return Ok(());
    }
    let mut known: BTreeMap<u64, LiveRequest> = BTreeMap::new();
    loop {
        let answer = client.list_live(ListLiveRequest {}).await;
        let listed = answer.map_err(|status| refused(&status))?.into_inner().requests;
        if !requests.live {
            return snapshot(&listed, requests.json);
        }
        let now: BTreeMap<u64, LiveRequest> = listed.into_iter().map(|live| (live.id, live)).collect();
        for (what, live) in changes(&known, &now) {
            if requests.json {
                let mut value = live_value(live);
                value["event"] = what.into();
                println(&value.to_string());
            } else {
                println(&format!("{what:<9} {}", cells(live).join("  ")));
            }
        }
        known = now;
        tokio::time::sleep(PACE).await;
    }
}

fn snapshot(listed: &[LiveRequest], as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return print_json(&listed.iter().map(live_value).collect::<Vec<_>>());
    }
    let rows: Vec<_> = listed.iter().map(cells).collect();
    table::print(["ID", "SINCE", "OF", "MODEL", "RESERVED", "COST"], &rows);
    Ok(())
}

/// What happened between two looks: ends first.
fn changes<'a>(
    before: &'a BTreeMap<u64, LiveRequest>,
    now: &'a BTreeMap<u64, LiveRequest>,
) -> Vec<(&'static str, &'a LiveRequest)> {
    let ended = before.values().filter(|live| !now.contains_key(&live.id));
    let rest = now.values().filter_map(|live| match before.get(&live.id) {
        None => Some(("begins", live)),
        Some(known) if known.cost != live.cost => Some(("goes on", live)),
        Some(_) => None,
    });
    ended.map(|live| ("ends", live)).chain(rest).collect()
}

fn cells(live: &LiveRequest) -> [String; 6] {
    let whose = [&live.key, &live.session, &live.user];
    let whose = whose.into_iter().find(|name| !name.is_empty());
    [
        live.id.to_string(),
        moment::shown_exactly(live.at),
        whose.cloned().unwrap_or_default(),
        format!("{}/{}", live.provider, live.model),
        super::accounts::dollars(live.reserved),
        super::accounts::dollars(live.cost),
    ]
}

fn live_value(live: &LiveRequest) -> Value {
    json!({
        "id": live.id, "at": live.at, "key": live.key, "session": live.session, "user": live.user,
        "provider": live.provider, "model": live.model, "reserved_nano_usd": live.reserved, "cost_nano_usd": live.cost,
    })
}

/// Shows what models cost; with `diff`, only where the configuration says something else than the table.
pub(super) async fn price(
    socket: &Path,
    model: Option<&str>,
    diff: bool,
    as_json: bool,
) -> anyhow::Result<()> {
    let model = model.unwrap_or_default().to_owned();
    let answer = connect(socket)
        .await?
        .list_prices(ListPricesRequest { model })
        .await;
    let mut prices = answer.map_err(|status| refused(&status))?.into_inner().prices;
    if diff {
        prices.retain(|price| price.table.is_some());
    }
    if as_json {
        return print_json(&prices.iter().map(price_value).collect::<Vec<_>>());
    }
    if diff && prices.is_empty() {
        println("no price of the configuration differs from the table");
        return Ok(());
    }
    let tables = prices.iter().flat_map(|price| {
        let table = price.table.as_deref().filter(|_| diff);
        std::iter::once(price).chain(table)
    });
    let rows: Vec<_> = tables.map(price_cells).collect();
    println("Per million tokens:");
    table::print(["MODEL", "INPUT", "CACHED", "WRITTEN", "OUTPUT", "FROM"], &rows);
    Ok(())
}

fn price_value(price: &ModelPrice) -> Value {
    let is_known = !price.source.is_empty();
    let per_million = is_known.then(|| {
        json!({
            "input": price.input, "cache_read": price.cache_read, "cache_write": price.cache_write,
            "cache_write_1h": price.cache_write_1h, "output": price.output,
        })
    });
    let mut value = json!({
        "provider": price.provider, "model": price.model, "source": price.source,
        "nano_usd_per_million_tokens": per_million,
    });
    if let Some(table) = &price.table {
        value["table"] = price_value(table);
    }
    value
}

fn price_cells(price: &ModelPrice) -> [String; 6] {
    let is_known = !price.source.is_empty();
    let shown = |nanos: u64| {
        if is_known {
            super::accounts::dollars(nanos)
        } else {
            "?".to_owned()
        }
    };
    [
        format!("{}/{}", price.provider, price.model),
        shown(price.input),
        shown(price.cache_read),
        shown(price.cache_write),
        shown(price.output),
        if is_known {
            price.source.clone()
        } else {
            "unknown".to_owned()
        },
    ]
}

/// Prints the counters as Prometheus reads them.
pub(super) async fn metrics(socket: &Path) -> anyhow::Result<()> {
    let answer = connect(socket).await?.metrics(MetricsRequest {}).await;
    let text = answer.map_err(|status| refused(&status))?.into_inner().text;
    println(text.trim_end());
    Ok(())
}

/// Has a key work, or not.
pub(super) async fn enable(socket: &Path, id: &str, enabled: bool) -> anyhow::Result<()> {
    let request = EnableKeyRequest {
        id: id.to_owned(),
        enabled,
    };
    let answer = connect(socket).await?.enable_key(request).await;
    answer.map_err(|status| refused(&status))?;
    let (is, what) = if enabled {
        ("enabled", "works")
    } else {
        ("disabled", "works no more, and neither do its children")
    };
    println(&format!("{id} is {is}: it {what}"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_between_two_looks() {
        let live = |id: u64, cost: u64| {
            let live = LiveRequest {
                id,
                cost,
                ..LiveRequest::default()
            };
            (id, live)
        };
        let before = BTreeMap::from([live(1, 0), live(2, 0), live(3, 5)]);
        let now = BTreeMap::from([live(2, 7), live(3, 5), live(4, 0)]);
        let seen: Vec<_> = changes(&before, &now)
            .into_iter()
            .map(|(what, live)| (what, live.id))
            .collect();
        assert_eq!(seen, [("ends", 1), ("goes on", 2), ("begins", 4)]);
    }
}
