//! Changes that are noted before they are made, and what is noted of each.

use lodge_proto::control::{Budget, CreateKeyRequest, SetBudgetRequest, SetProviderKeyRequest};
use serde_json::{Value, json};
use tonic::Status;

use crate::audit::{Actor, Begun, Change};
use crate::guest::Gateway;
use crate::money::Nanos;

/// What stands for a name that is none, and may be a key that was pasted in the wrong place.
const NO_NAME: &str = "(not a name)";

/// Notes a change and makes it. What cannot be noted is not done.
pub(crate) async fn around<T>(
    gateway: &Gateway,
    change: Change,
    making: impl Future<Output = Result<T, Status>>,
    made: impl FnOnce(&T) -> String,
) -> Result<T, Status> {
    let begun: Begun = gateway.audit.begin(change).await.map_err(|error| {
        tracing::error!(
            error = crate::causes(&error),
            "a change is not noted, and not made"
        );
        Status::unavailable("the gateway cannot write its audit, and changes nothing that it could not note")
    })?;
    let result = making.await;
    let (outcome, what) = match &result {
        Ok(value) => ("ok".to_owned(), made(value)),
        Err(status) => (format!("{:?}", status.code()), String::new()),
    };
    begun.end(&outcome, &what).await;
    result
}

pub(crate) fn change(actor: Actor, action: &'static str, target: String, detail: Value) -> Change {
    Change {
        actor,
        action,
        target,
        detail,
    }
}

/// The name of a provider or an account, as they may be.
pub(super) fn name(name: &str) -> String {
    let is_name = (1..=32).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if is_name { name } else { NO_NAME }.to_owned()
}

/// An account of a provider.
pub(super) fn account(provider: &str, account: &str) -> String {
    format!("{}/{}", name(provider), name(account))
}

/// Of an address, the host alone: the rest could hold a password.
pub(super) fn host(address: &str) -> Option<String> {
    let address: hyper::Uri = address.parse().ok()?;
    address.host().map(str::to_owned)
}

/// The id of a key that there is.
pub(super) fn key(gateway: &Gateway, id: &str) -> String {
    gateway
        .keys
        .get(id)
        .map_or_else(|_| NO_NAME.to_owned(), |spec| format!("key:{}", spec.id))
}

pub(super) fn provider(request: &SetProviderKeyRequest) -> Value {
    json!({ "kind": name(&request.kind.replace('_', "-")), "host": host(&request.base_url) })
}

pub(super) fn created(request: &CreateKeyRequest) -> (String, Value) {
    let key = request.key.clone().unwrap_or_default();
    let access = key.access.unwrap_or_default();
    let budgets: Vec<Value> = request.budgets.iter().map(limit).collect();
    let detail = json!({
        "name": key.name, "team": key.team, "org": key.org, "parent": key.parent, "models": access.models,
        "deny_models": access.deny_models, "providers": access.providers, "deny_providers": access.deny_providers,
        "rpm": key.rpm, "tpm": key.tpm, "concurrency": key.concurrency, "not_before": key.not_before,
        "expires": key.expires, "on_limit": key.on_limit, "log_bodies": key.log_bodies, "budgets": budgets,
    });
    (format!("user:{}", key.user), detail)
}

pub(super) fn budget(request: &SetBudgetRequest) -> (String, Value) {
    let budget = request.budget.clone().unwrap_or_default();
    let mut detail = limit(&budget);
    if request.remove {
        detail["limit"] = Value::Null;
    }
    (budget.scope, detail)
}

fn limit(budget: &Budget) -> Value {
    json!({ "window": budget.window, "limit": Nanos(budget.limit).to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_secret_is_not_noted() {
        assert_eq!(name("anthropic"), "anthropic");
        for pasted in ["sk-ant-api03-AbC", "", "a b", &"a".repeat(33)] {
            assert_eq!(name(pasted), NO_NAME);
        }
        let request = SetProviderKeyRequest {
            kind: "openai_compatible".into(),
            key: "sk-secret".into(),
            base_url: "https://ann:hunter2@models.example/v1?key=hunter3".into(),
            ..SetProviderKeyRequest::default()
        };
        let noted = provider(&request).to_string();
        assert!(noted.contains("models.example"), "{noted}");
        assert!(!noted.contains("hunter") && !noted.contains("secret"), "{noted}");
    }
}
