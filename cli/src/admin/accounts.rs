//! `lodgectl key` and `budget`.

use super::moment::{self, Moment};
use super::{connect, refused};
use crate::failure::Failure;
use crate::table;
use crate::terminal::{print_json, println};
use clap::{Args, Subcommand};
use lodge_proto::ErrorCode;
use lodge_proto::control::{
    Access, Budget, CreateKeyRequest, CreateKeyResponse, ListBudgetsRequest, ListKeysRequest,
    RevokeKeyRequest, RotateKeyRequest, SetBudgetRequest, VirtualKey,
};
use serde_json::{Value, json};
use std::path::Path;

#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// Make a key for a person. It is printed once and never again.
    Create(Box<Create>),
    /// All keys, revoked ones included.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// What a key may do, and its budgets.
    Show {
        id: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// End a key and its children for good; their streams are cut.
    Revoke { id: String },
    /// Have a key not work for now; its streams and those of its children are cut.
    Disable { id: String },
    /// Have a disabled key work again.
    Enable { id: String },
    /// Give a key a new text; the old one ends at once, or works for a while too.
    Rotate {
        id: String,
        /// How long the old text works too, such as `24h`; at most `30d`.
        #[arg(long, value_name = "TIME", value_parser = span)]
        overlap: Option<u64>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct Create {
    /// Whose key it is; a child belongs to its parent's user.
    #[arg(long, required_unless_present = "parent")]
    user: Option<String>,
    #[arg(long, default_value = "")]
    team: String,
    #[arg(long, default_value = "")]
    org: String,
    /// For people.
    #[arg(long, default_value = "")]
    name: String,
    /// Id of the key that it is narrower than.
    #[arg(long, default_value = "", value_name = "ID")]
    parent: String,
    /// Budget of this key, such as `5usd`.
    #[arg(long, value_name = "AMOUNT", requires = "window", value_parser = amount)]
    budget: Option<u64>,
    /// How long what was spent counts.
    #[arg(long, value_parser = ["day", "week", "month", "total"], requires = "budget")]
    window: Option<String>,
    /// Models it may use, `*` for any characters; may be given often [default: all].
    #[arg(long = "model", value_name = "GLOB")]
    models: Vec<String>,
    /// Models it may not use; wins.
    #[arg(long = "deny-model", value_name = "GLOB")]
    deny_models: Vec<String>,
    /// Providers it may use [default: all].
    #[arg(long = "provider", value_name = "GLOB")]
    providers: Vec<String>,
    /// Providers it may not use; wins.
    #[arg(long = "deny-provider", value_name = "GLOB")]
    deny_providers: Vec<String>,
    /// Requests a minute [default: any number].
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    rpm: u32,
    /// Tokens a minute [default: any number].
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    tpm: u32,
    /// Requests at a time [default: any number].
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    concurrency: u32,
    /// When it begins: `2026-12-01` or in so long: `12h` [default: now].
    #[arg(long, value_name = "WHEN", value_parser = moment::parse)]
    not_before: Option<Moment>,
    /// When it ends: `2026-12-31` or in so long: `30d` [default: never].
    #[arg(long, value_name = "WHEN", value_parser = moment::parse)]
    expires: Option<Moment>,
    /// What happens to a request that does not fit into a budget.
    #[arg(long, value_parser = ["refuse", "queue", "clamp"], default_value = "refuse")]
    on_limit: String,
    /// Write what it asks and is answered into the gateway's log, for finding out what a client sends.
    #[arg(long)]
    log_bodies: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum BudgetCommand {
    /// Set a budget of a holder: `user:ann`, `team:x`, `org:x`, `key:ID`, `session:UID/ID` or `account:PROVIDER`.
    Set {
        scope: String,
        /// Such as `5usd`; `none` removes the budget.
        #[arg(value_name = "AMOUNT")]
        limit: String,
        #[arg(long, value_parser = ["day", "week", "month", "total"])]
        window: String,
    },
    /// The budgets of one holder or of all, with what is spent and reserved now.
    Show {
        scope: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Runs a command about keys.
pub(super) async fn key(socket: &Path, command: &KeyCommand) -> anyhow::Result<()> {
    match command {
        KeyCommand::Create(create) => self::create(socket, create).await,
        KeyCommand::List { json } => list(socket, *json).await,
        KeyCommand::Show { id, json } => show(socket, id, *json).await,
        KeyCommand::Revoke { id } => {
            let request = RevokeKeyRequest { id: id.clone() };
            let revoked = connect(socket).await?.revoke_key(request).await;
            revoked.map_err(|status| refused(&status))?;
            println(&format!("{id} and its children are revoked"));
            Ok(())
        }
        KeyCommand::Disable { id } => super::ops::enable(socket, id, false).await,
        KeyCommand::Enable { id } => super::ops::enable(socket, id, true).await,
        KeyCommand::Rotate { id, overlap, json } => {
            let request = RotateKeyRequest {
                id: id.clone(),
                overlap: overlap.unwrap_or(0),
            };
            let rotated = connect(socket).await?.rotate_key(request).await;
            made(rotated.map_err(|status| refused(&status))?.into_inner(), *json)
        }
    }
}

async fn create(socket: &Path, create: &Create) -> anyhow::Result<()> {
    let access = Access {
        models: create.models.clone(),
        deny_models: create.deny_models.clone(),
        providers: create.providers.clone(),
        deny_providers: create.deny_providers.clone(),
    };
    let when = |moment: Option<Moment>| moment.map_or(0, Moment::ahead);
    let key = VirtualKey {
        name: create.name.clone(),
        user: create.user.clone().unwrap_or_default(),
        team: create.team.clone(),
        org: create.org.clone(),
        parent: create.parent.clone(),
        access: Some(access),
        rpm: create.rpm,
        tpm: create.tpm,
        concurrency: create.concurrency,
        not_before: when(create.not_before),
        expires: when(create.expires),
        on_limit: create.on_limit.clone(),
        log_bodies: create.log_bodies,
        ..VirtualKey::default()
    };
    let budgets = create.budget.zip(create.window.clone());
    let budgets = budgets.map(|(limit, window)| Budget {
        window,
        limit,
        ..Budget::default()
    });
    let request = CreateKeyRequest {
        key: Some(key),
        budgets: budgets.into_iter().collect(),
    };
    let answer = connect(socket).await?.create_key(request).await;
    made(
        answer.map_err(|status| refused(&status))?.into_inner(),
        create.json,
    )
}

fn made(made: CreateKeyResponse, as_json: bool) -> anyhow::Result<()> {
    let key = made.key.unwrap_or_default();
    if as_json {
        let mut value = key_value(&key);
        value["key"] = made.secret.into();
        return print_json(&value);
    }
    println(&format!("{}\n{}", key.id, made.secret));
    eprintln!("The second line is the key; it is not shown again.");
    Ok(())
}

async fn keys(socket: &Path) -> anyhow::Result<Vec<VirtualKey>> {
    let answer = connect(socket).await?.list_keys(ListKeysRequest {}).await;
    Ok(answer.map_err(|status| refused(&status))?.into_inner().keys)
}

async fn budgets(socket: &Path, scope: String) -> anyhow::Result<Vec<Budget>> {
    let answer = connect(socket)
        .await?
        .list_budgets(ListBudgetsRequest { scope })
        .await;
    Ok(answer.map_err(|status| refused(&status))?.into_inner().budgets)
}

async fn list(socket: &Path, as_json: bool) -> anyhow::Result<()> {
    let keys = keys(socket).await?;
    if as_json {
        return print_json(&keys.iter().map(key_value).collect::<Vec<_>>());
    }
    let row = |key: &VirtualKey| {
        let state = match key {
            key if key.revoked => "revoked",
            key if key.disabled => "disabled",
            _ => "",
        };
        let expires = moment::shown(key.expires);
        [
            key.id.clone(),
            key.user.clone(),
            key.name.clone(),
            key.parent.clone(),
            expires,
            state.to_owned(),
        ]
    };
    let rows: Vec<_> = keys.iter().map(row).collect();
    table::print(["ID", "USER", "NAME", "PARENT", "EXPIRES", "STATE"], &rows);
    Ok(())
}

async fn show(socket: &Path, id: &str, as_json: bool) -> anyhow::Result<()> {
    let found = keys(socket).await?.into_iter().find(|key| key.id == id);
    let key = found.ok_or_else(|| {
        Failure::new(ErrorCode::NotFound, format!("there is no key `{id}`")).mend("lodgectl key list")
    })?;
    let budgets = budgets(socket, format!("key:{id}")).await?;
    let mut value = key_value(&key);
    value["budgets"] = budgets.iter().map(budget_value).collect();
    if as_json {
        return print_json(&value);
    }
    let fields = value.as_object().into_iter().flatten();
    let is_set = |value: &Value| !matches!(value, Value::Null) && *value != json!(0) && *value != json!("");
    let rows: Vec<_> = fields
        .filter(|(name, value)| *name != "budgets" && is_set(value) && **value != json!([]))
        .map(|(name, value)| {
            [
                name.clone(),
                value.as_str().map_or_else(|| value.to_string(), str::to_owned),
            ]
        })
        .collect();
    table::print(["FIELD", "VALUE"], &rows);
    if !budgets.is_empty() {
        print_budgets(&budgets);
    }
    Ok(())
}

fn key_value(key: &VirtualKey) -> Value {
    let access = key.access.clone().unwrap_or_default();
    json!({
        "id": key.id, "name": key.name, "user": key.user, "team": key.team, "org": key.org, "parent": key.parent,
        "models": access.models, "deny_models": access.deny_models, "providers": access.providers,
        "deny_providers": access.deny_providers, "rpm": key.rpm, "tpm": key.tpm, "concurrency": key.concurrency,
        "not_before": key.not_before, "expires": key.expires, "created": key.created, "revoked": key.revoked,
        "disabled": key.disabled, "log_bodies": key.log_bodies, "overlap_until": key.overlap_until,
        "on_limit": key.on_limit,
    })
}

/// Runs a command about budgets.
pub(super) async fn budget(socket: &Path, command: &BudgetCommand) -> anyhow::Result<()> {
    match command {
        BudgetCommand::Set { scope, limit, window } => {
            let remove = limit == "none";
            let nanos = if remove {
                0
            } else {
                amount(limit).map_err(invalid)?
            };
            let request = SetBudgetRequest {
                budget: Some(Budget {
                    scope: scope.clone(),
                    window: window.clone(),
                    limit: nanos,
                    ..Budget::default()
                }),
                remove,
            };
            let set = connect(socket).await?.set_budget(request).await;
            set.map_err(|status| refused(&status))?;
            let what = if remove { "none".to_owned() } else { dollars(nanos) };
            println(&format!("the budget of {scope} for a {window} is {what}"));
            Ok(())
        }
        BudgetCommand::Show { scope, json } => {
            let budgets = budgets(socket, scope.clone().unwrap_or_default()).await?;
            if *json {
                return print_json(&budgets.iter().map(budget_value).collect::<Vec<_>>());
            }
            print_budgets(&budgets);
            Ok(())
        }
    }
}

pub(super) fn print_budgets(budgets: &[Budget]) {
    let row = |budget: &Budget| {
        [
            budget.scope.clone(),
            budget.window.clone(),
            dollars(budget.limit),
            dollars(budget.spent),
            dollars(budget.reserved),
            moment::shown(budget.resets_at),
        ]
    };
    let rows: Vec<_> = budgets.iter().map(row).collect();
    table::print(
        ["HOLDER", "WINDOW", "LIMIT", "SPENT", "RESERVED", "RESETS"],
        &rows,
    );
}

pub(super) fn budget_value(budget: &Budget) -> Value {
    json!({
        "scope": budget.scope, "window": budget.window, "limit_nano_usd": budget.limit,
        "spent_nano_usd": budget.spent, "reserved_nano_usd": budget.reserved, "resets_at": budget.resets_at,
    })
}

fn invalid(message: String) -> anyhow::Error {
    Failure::new(ErrorCode::InvalidArgument, message).into()
}

/// Seconds of `24h` or `7d`.
fn span(text: &str) -> Result<u64, String> {
    match moment::parse(text)? {
        Moment::Distance(seconds) => Ok(seconds),
        Moment::Day(_) => Err(format!("`{text}` is no time such as 7d, 12h or 45m")),
    }
}

/// Nano-dollars of `5usd`, `$5` or `0.25`.
pub(super) fn amount(text: &str) -> Result<u64, String> {
    lodge_gateway::money::Nanos::parse(text)
        .map(|nanos| nanos.0)
        .map_err(|error| error.to_string())
}

pub(super) fn dollars(nanos: u64) -> String {
    lodge_gateway::money::Nanos(nanos).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts() {
        assert_eq!(amount("5usd"), Ok(5_000_000_000));
        assert!(amount("five").unwrap_err().contains("5usd"));
        assert_eq!(dollars(1_250_000_000), "$1.25");
    }
}
