//! Aliases, policies and prices.

use super::made;
use crate::rest::body::Body;
use crate::rest::error::{ApiError, ErrorAnswer};
use crate::rest::gateway::on_behalf;
use crate::rest::keys::Administrator;
use axum::extract::Path;
use http::StatusCode;
use lodge_proto::control::{
    AliasSetup, PolicySetup, PriceSetup, PutAliasRequest, PutPolicyRequest, PutPriceRequest,
    RemoveAliasRequest, RemovePolicyRequest, RemovePriceRequest,
};
use lodge_proto::{ErrorBody, ErrorCode};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// What a name stands for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewAlias {
    /// `provider/model`, one to eight, in the order in which they are tried.
    targets: Vec<String>,
}

/// What is done to requests for the models of a pattern; at least one of them.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewPolicy {
    /// Refused, with this reason, which may be empty.
    deny: Option<String>,
    /// Sent to another model of the same provider.
    rewrite: Option<String>,
    /// Dotted paths into the request's body, and what they are set to.
    #[serde(default)]
    set: BTreeMap<String, Value>,
}

/// Nano-dollars per million tokens, as texts of digits. What is absent costs what its class does.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewPrice {
    input: String,
    output: String,
    cache_read: Option<String>,
    cache_write: Option<String>,
    cache_write_1h: Option<String>,
    reasoning: Option<String>,
}

fn nanos(field: &str, text: &str) -> Result<u64, ErrorBody> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().ok_or_else(|| {
        let message = format!(
            "{field}: is nano-dollars per million tokens as a text of digits, such as \"2000000000\""
        );
        ErrorBody::new(ErrorCode::InvalidArgument, message)
    })
}

/// Has a name stand for models.
#[utoipa::path(put, path = "/api/v1/admin/aliases/{provider}/{name}", tag = "gateway", request_body = NewAlias, params(
    ("provider" = String, Path, description = "Under whose path it is asked for"),
    ("name" = String, Path, description = "The name; a slash in it as `%2F`"),
), responses(
    (status = 204, description = "It is there"),
    (status = 400, body = ErrorAnswer, description = "Names the field"),
    (status = 403, body = ErrorAnswer),
    (status = 404, body = ErrorAnswer, description = "There is no such provider"),
    (status = 409, body = ErrorAnswer, description = "The configuration file has it; names the table"),
))]
pub(crate) async fn put_alias(
    administrator: Administrator,
    Path((provider, name)): Path<(String, String)>,
    Body(NewAlias { targets }): Body<NewAlias>,
) -> Result<StatusCode, ApiError> {
    let (app, account) = administrator.into_parts();
    let what = format!("alias.set {provider}/{name}");
    let request = PutAliasRequest {
        alias: Some(AliasSetup {
            provider,
            name,
            targets,
            ..AliasSetup::default()
        }),
    };
    let answer = app.gateway.setup().put_alias(on_behalf(request, &account)).await;
    made(app, account, answer, what).await
}

/// Forgets an alias.
#[utoipa::path(delete, path = "/api/v1/admin/aliases/{provider}/{name}", tag = "gateway", params(
    ("provider" = String, Path, description = "Under whose path it is asked for"),
    ("name" = String, Path, description = "The name; a slash in it as `%2F`"),
), responses(
    (status = 204, description = "Forgotten"),
    (status = 403, body = ErrorAnswer),
    (status = 404, body = ErrorAnswer),
    (status = 409, body = ErrorAnswer, description = "The configuration file has it; names the table"),
))]
pub(crate) async fn remove_alias(
    administrator: Administrator,
    Path((provider, name)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let (app, account) = administrator.into_parts();
    let what = format!("alias.remove {provider}/{name}");
    let request = on_behalf(RemoveAliasRequest { provider, name }, &account);
    let answer = app.gateway.setup().remove_alias(request).await;
    made(app, account, answer, what).await
}

/// Says what is done to requests for the models of a pattern.
#[utoipa::path(put, path = "/api/v1/admin/policies/{provider}/{model}", tag = "gateway", request_body = NewPolicy, params(
    ("provider" = String, Path, description = "A pattern, `*` for any text"),
    ("model" = String, Path, description = "A pattern; a slash in it as `%2F`"),
), responses(
    (status = 204, description = "It holds"),
    (status = 400, body = ErrorAnswer, description = "Names the field"),
    (status = 403, body = ErrorAnswer),
    (status = 409, body = ErrorAnswer, description = "The configuration file has it; names the table"),
))]
pub(crate) async fn put_policy(
    administrator: Administrator,
    Path((provider, model)): Path<(String, String)>,
    Body(new): Body<NewPolicy>,
) -> Result<StatusCode, ApiError> {
    let (app, account) = administrator.into_parts();
    let what = format!("policy.set {provider}/{model}");
    let set = new.set.into_iter();
    let request = PutPolicyRequest {
        policy: Some(PolicySetup {
            provider,
            model,
            deny: new.deny,
            rewrite: new.rewrite.unwrap_or_default(),
            set: set.map(|(path, value)| (path, value.to_string())).collect(),
            ..PolicySetup::default()
        }),
    };
    let answer = app.gateway.setup().put_policy(on_behalf(request, &account)).await;
    made(app, account, answer, what).await
}

/// Forgets a policy.
#[utoipa::path(delete, path = "/api/v1/admin/policies/{provider}/{model}", tag = "gateway", params(
    ("provider" = String, Path, description = "The very pattern"),
    ("model" = String, Path, description = "The very pattern; a slash in it as `%2F`"),
), responses(
    (status = 204, description = "Forgotten"),
    (status = 403, body = ErrorAnswer),
    (status = 404, body = ErrorAnswer),
    (status = 409, body = ErrorAnswer, description = "The configuration file has it; names the table"),
))]
pub(crate) async fn remove_policy(
    administrator: Administrator,
    Path((provider, model)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let (app, account) = administrator.into_parts();
    let what = format!("policy.remove {provider}/{model}");
    let request = on_behalf(RemovePolicyRequest { provider, model }, &account);
    let answer = app.gateway.setup().remove_policy(request).await;
    made(app, account, answer, what).await
}

/// Says what a model costs.
#[utoipa::path(put, path = "/api/v1/admin/prices/{provider}/{model}", tag = "gateway", request_body = NewPrice, params(
    ("provider" = String, Path, description = "The provider"),
    ("model" = String, Path, description = "The model; a slash in it as `%2F`"),
), responses(
    (status = 204, description = "It holds from the next request on"),
    (status = 400, body = ErrorAnswer, description = "Names the field"),
    (status = 403, body = ErrorAnswer),
    (status = 404, body = ErrorAnswer, description = "There is no such provider"),
    (status = 409, body = ErrorAnswer, description = "The configuration file has it; names the table"),
))]
pub(crate) async fn put_price(
    administrator: Administrator,
    Path((provider, model)): Path<(String, String)>,
    Body(new): Body<NewPrice>,
) -> Result<StatusCode, ApiError> {
    let (app, account) = administrator.into_parts();
    let what = format!("price.set {provider}/{model}");
    let some = |field: &str, text: Option<String>| text.map(|text| nanos(field, &text)).transpose();
    let price = PriceSetup {
        provider,
        model,
        input: nanos("input", &new.input)?,
        output: nanos("output", &new.output)?,
        cache_read: some("cache_read", new.cache_read)?,
        cache_write: some("cache_write", new.cache_write)?,
        cache_write_1h: some("cache_write_1h", new.cache_write_1h)?,
        reasoning: some("reasoning", new.reasoning)?,
        ..PriceSetup::default()
    };
    let request = on_behalf(PutPriceRequest { price: Some(price) }, &account);
    let answer = app.gateway.setup().put_price(request).await;
    made(app, account, answer, what).await
}

/// Forgets a price: that of the price table holds again.
#[utoipa::path(delete, path = "/api/v1/admin/prices/{provider}/{model}", tag = "gateway", params(
    ("provider" = String, Path, description = "The provider"),
    ("model" = String, Path, description = "The model; a slash in it as `%2F`"),
), responses(
    (status = 204, description = "Forgotten"),
    (status = 403, body = ErrorAnswer),
    (status = 404, body = ErrorAnswer),
    (status = 409, body = ErrorAnswer, description = "The configuration file has it; names the table"),
))]
pub(crate) async fn remove_price(
    administrator: Administrator,
    Path((provider, model)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let (app, account) = administrator.into_parts();
    let what = format!("price.remove {provider}/{model}");
    let request = on_behalf(RemovePriceRequest { provider, model }, &account);
    let answer = app.gateway.setup().remove_price(request).await;
    made(app, account, answer, what).await
}
