//! `lodgectl usage`.

use super::accounts::dollars;
use super::moment::{self, Moment};
use super::{connect, refused};
use crate::table;
use crate::terminal::{print_json, println};
use clap::Args;
use lodge_proto::control::{ListUsageRequest, UsageRow};
use serde_json::{Value, json};
use std::path::Path;

/// What usage is listed by.
const GROUPS: [&str; 8] = [
    "user",
    "team",
    "org",
    "organisation",
    "key",
    "model",
    "session",
    "day",
];

#[derive(Debug, Args)]
pub(super) struct Usage {
    #[arg(long, value_parser = GROUPS, default_value = "user")]
    by: String,
    /// From when on: `2026-11-01`, or so long ago: `7d` [default: from the beginning].
    #[arg(long, value_name = "WHEN", value_parser = moment::parse)]
    since: Option<Moment>,
    /// Print JSON.
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print CSV.
    #[arg(long)]
    csv: bool,
}

/// Lists usage.
pub(super) async fn usage(socket: &Path, usage: &Usage) -> anyhow::Result<()> {
    let request = ListUsageRequest {
        by: usage.by.clone(),
        since: usage.since.map_or(0, Moment::ago),
        users: Vec::new(),
    };
    let answer = connect(socket).await?.list_usage(request).await;
    let rows = answer.map_err(|status| refused(&status))?.into_inner().rows;
    if usage.json {
        return print_json(
            &rows
                .iter()
                .map(|row| usage_value(&usage.by, row))
                .collect::<Vec<_>>(),
        );
    }
    let cells = |row: &UsageRow| {
        let numbers = [
            row.requests,
            row.input,
            row.cache_read,
            row.cache_write,
            row.output,
            row.inexact,
            row.unpriced,
        ];
        numbers.map(|number| number.to_string())
    };
    if usage.csv {
        println(&format!(
            "{},requests,input,cache_read,cache_write,output,inexact,unpriced,cost_nano_usd",
            usage.by
        ));
        for row in &rows {
            println(&format!(
                "{},{},{}",
                quoted(&row.name),
                cells(row).join(","),
                row.cost
            ));
        }
        return Ok(());
    }
    let row = |row: &UsageRow| {
        let [requests, input, read, written, output, inexact, _] = cells(row);
        let unpriced = if row.unpriced > 0 { " +?" } else { "" };
        let cost = format!("{}{unpriced}", dollars(row.cost));
        [
            row.name.clone(),
            requests,
            input,
            read,
            written,
            output,
            inexact,
            cost,
        ]
    };
    let rows: Vec<_> = rows.iter().map(row).collect();
    let by = usage.by.to_uppercase();
    table::print(
        [
            &by, "REQUESTS", "INPUT", "CACHED", "WRITTEN", "OUTPUT", "INEXACT", "COST",
        ],
        &rows,
    );
    Ok(())
}

fn usage_value(by: &str, row: &UsageRow) -> Value {
    json!({
        by: row.name, "requests": row.requests, "inexact": row.inexact, "unpriced": row.unpriced, "input": row.input,
        "cache_read": row.cache_read, "cache_write": row.cache_write, "output": row.output,
        "reasoning": row.reasoning, "cost_nano_usd": row.cost,
    })
}

/// A cell of CSV; one that a spreadsheet would run as a formula is kept from it.
fn quoted(text: &str) -> String {
    let guard = if text.starts_with(['=', '+', '-', '@']) {
        "'"
    } else {
        ""
    };
    format!("\"{guard}{}\"", text.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_no_formula() {
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
        assert_eq!(quoted("=1+1"), "\"'=1+1\"");
    }
}
