//! Keys of people, budgets and usage.

use std::sync::Arc;

use lodge_proto::control::{
    Budget as ProtoBudget, CreateKeyRequest, CreateKeyResponse, ListUsageRequest, SetBudgetRequest, UsageRow,
    VirtualKey,
};
use tonic::{Code, Status};

use crate::guest::Gateway;
use crate::keys::{Key, KeyError, KeySpec};
use crate::ledger::{Budget, Group, LedgerError, Totals, Window};
use crate::money::Nanos;

/// Longest scope, bytes.
const MAX_SCOPE: usize = 256;
/// Largest budget: what SQLite counts in.
const MAX_BUDGET: u64 = i64::MAX.cast_unsigned();

pub(super) fn key_status(error: &KeyError) -> Status {
    let code = match error {
        KeyError::Spec(_) | KeyError::Overlap => Code::InvalidArgument,
        KeyError::Unknown(_) => Code::NotFound,
        KeyError::Revoked(_) => Code::FailedPrecondition,
        KeyError::Random(_) | KeyError::Store(_) | KeyError::Interrupted | KeyError::Stored { .. } => {
            tracing::error!(error = crate::causes(error), "changing a key");
            Code::Internal
        }
    };
    Status::new(code, error.to_string())
}

fn ledger_status(error: &LedgerError) -> Status {
    tracing::error!(error = crate::causes(error), "the ledger");
    Status::internal(error.to_string())
}

/// A key with its ancestors, all of whose rights must hold.
pub(super) fn line(gateway: &Gateway, id: &str) -> Result<Vec<Arc<Key>>, Status> {
    gateway.keys.line(id).map_err(|error| key_status(&error))
}

/// Makes a key and its budgets; the budgets first, so that it is never there without them.
pub(super) async fn create_key(
    gateway: &Gateway,
    request: CreateKeyRequest,
) -> Result<CreateKeyResponse, Status> {
    let spec: KeySpec = request
        .key
        .ok_or_else(|| Status::invalid_argument("key: is missing"))?
        .into();
    let budgets = request
        .budgets
        .iter()
        .map(|budget| Ok((window(&budget.window)?, limit(budget.limit)?)))
        .collect::<Result<Vec<_>, Status>>()?;
    let may_be = gateway.people.check_key(&spec);
    may_be.map_err(|error| super::users::status(&error))?;
    let made = gateway
        .keys
        .create(&gateway.hasher, spec, gateway.ledger.now())
        .await;
    let (spec, secret) = made.map_err(|error| key_status(&error))?;
    let scope = format!("key:{}", spec.id);
    for (window, limit) in budgets {
        if let Err(error) = gateway.ledger.set_budget(&scope, window, Some(limit)).await {
            // Nobody has seen its text: it must not be there without its budgets.
            let _revoked = gateway.keys.revoke(&spec.id).await;
            return Err(ledger_status(&error));
        }
    }
    tracing::info!(key = spec.id, user = spec.user, "a key was made");
    Ok(CreateKeyResponse {
        key: Some(shown(gateway, spec)),
        secret: secret.to_string(),
    })
}

/// A key with the team and organisation it counts for: those of its user, where that user is known.
pub(super) fn shown(gateway: &Gateway, mut spec: KeySpec) -> VirtualKey {
    if let Some(person) = gateway.people.named(&spec.user) {
        for (own, known) in [
            (&mut spec.team, &person.spec.team),
            (&mut spec.org, &person.spec.org),
        ] {
            if !known.is_empty() {
                own.clone_from(known);
            }
        }
    }
    spec.into()
}

/// Sets or removes a budget.
pub(super) async fn set_budget(gateway: &Gateway, request: SetBudgetRequest) -> Result<(), Status> {
    let budget = request
        .budget
        .ok_or_else(|| Status::invalid_argument("budget: is missing"))?;
    let window = window(&budget.window)?;
    check_scope(gateway, &budget.scope)?;
    let limit = if request.remove {
        None
    } else {
        Some(limit(budget.limit)?)
    };
    let set = gateway.ledger.set_budget(&budget.scope, window, limit).await;
    set.map_err(|error| ledger_status(&error))?;
    let limit = limit.map_or_else(|| "none".to_owned(), |limit| limit.to_string());
    tracing::info!(
        scope = budget.scope,
        window = window.as_str(),
        limit,
        "a budget was set"
    );
    Ok(())
}

/// Budgets of a holder, or all.
pub(super) async fn budgets(gateway: &Gateway, scope: String) -> Result<Vec<ProtoBudget>, Status> {
    let scope = (!scope.is_empty()).then_some(scope);
    let found = gateway.ledger.budgets(scope).await;
    let found = found.map_err(|error| ledger_status(&error))?;
    Ok(found.iter().map(budget).collect())
}

/// Usage by group.
pub(super) async fn usage(gateway: &Gateway, request: ListUsageRequest) -> Result<Vec<UsageRow>, Status> {
    let names = Group::ALL.map(|(name, _)| name).join(", ");
    let group = Group::parse(&request.by)
        .ok_or_else(|| Status::invalid_argument(format!("by: `{}` is none of {names}", request.by)))?;
    let listed = gateway.ledger.usage(group, request.since, request.users).await;
    let listed = listed.map_err(|error| ledger_status(&error))?;
    Ok(listed.into_iter().map(row).collect())
}

fn window(name: &str) -> Result<Window, Status> {
    Window::parse(name).ok_or_else(|| {
        Status::invalid_argument(format!("window: `{name}` is none of day, week, month, total"))
    })
}

fn limit(nanos: u64) -> Result<Nanos, Status> {
    if nanos <= MAX_BUDGET {
        Ok(Nanos(nanos))
    } else {
        Err(Status::invalid_argument(
            "limit: must be below 9.2 billion dollars",
        ))
    }
}

/// A budget of nobody would look like one that holds.
/// Of a provider, all its accounts together, or `provider/account`.
fn is_account(gateway: &Gateway, name: &str) -> bool {
    let providers = gateway.providers.current();
    let (provider, account) = name
        .split_once('/')
        .map_or((name, None), |(of, name)| (of, Some(name)));
    providers.get(provider).is_some_and(|provider| {
        account.is_none_or(|account| provider.all_accounts().iter().any(|known| known.name == account))
    })
}

fn check_scope(gateway: &Gateway, scope: &str) -> Result<(), Status> {
    let bad = |why: &str| Err(Status::invalid_argument(format!("scope: {why}")));
    let Some((kind, name)) = scope.split_once(':') else {
        return bad("is a kind and a name, such as `user:ann`");
    };
    if name.is_empty() || scope.len() > MAX_SCOPE || scope.contains(char::is_control) {
        return bad("needs a name of at most 250 bytes without control characters");
    }
    match kind {
        "user" | "team" | "org" | "session" => Ok(()),
        "key" => gateway
            .keys
            .get(name)
            .map(drop)
            .map_err(|error| key_status(&error)),
        "account" if is_account(gateway, name) => Ok(()),
        "account" => Err(Status::not_found(format!(
            "scope: there is no provider or account `{name}`"
        ))),
        _ => bad("its kind is one of key, session, user, team, org and account"),
    }
}

fn budget(budget: &Budget) -> ProtoBudget {
    ProtoBudget {
        scope: budget.scope.to_string(),
        window: budget.window.as_str().to_owned(),
        limit: budget.limit.0,
        spent: budget.counter.spent.0,
        reserved: budget.counter.reserved.0,
        resets_at: budget.resets_at.unwrap_or(0),
    }
}

fn row(totals: Totals) -> UsageRow {
    UsageRow {
        name: totals.name,
        requests: totals.requests,
        inexact: totals.inexact,
        unpriced: totals.unpriced,
        input: totals.input,
        cache_read: totals.cache_read,
        cache_write: totals.cache_write,
        output: totals.output,
        reasoning: totals.reasoning,
        cost: totals.cost.0,
    }
}
