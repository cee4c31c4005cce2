//! What a key may use, as JSON: `GET /lodge/v1/models` on a session's socket and on the listener for people. The settings
//! of a harness can be written from it.

use std::sync::Arc;

use hyper::Method;
use hyper::Response;
use hyper::http::request::Parts;
use lodge_proto::control::{Dialect as ProtoDialect, Model as ProtoModel, ModelPrice};
use serde_json::{Map, Value, json};

use crate::body::{self, GuestBody};
use crate::caller::Caller;
use crate::dialect::{RouteError, WireError};
use crate::guest::Gateway;

/// The path, after the gateway's own name.
const PATH: &str = "/v1/models";
/// Rises when a field changes its meaning or goes away; new ones may come at any time.
const VERSION: u64 = 1;

/// The answer to a request for one of the gateway's own paths.
pub(crate) async fn answer(
    gateway: &Arc<Gateway>,
    caller: &Caller,
    parts: &Parts,
    path: &str,
) -> Result<Response<GuestBody>, WireError> {
    if path != PATH || parts.method != Method::GET {
        let unknown = RouteError::Unknown {
            method: parts.method.clone(),
            path: parts.uri.path().chars().take(200).collect(),
        };
        return Err(WireError::not_found(unknown.to_string()));
    }
    let offers = gateway.catalog.offers(gateway).await;
    let permits = |provider: &str, model: &str| caller.permits(provider, model);
    let own = offers.iter().filter(|offer| offer.is_for(permits));
    let models: Vec<Value> = own.map(|offer| model(&offer.model)).collect();
    Ok(body::json(200, &json!({ "version": VERSION, "models": models })))
}

/// Fields of which nothing is known are absent.
fn model(model: &ProtoModel) -> Value {
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| {
        fields.insert(name.to_owned(), value);
    };
    put("id", json!(model.id));
    put("provider", json!(model.provider));
    put("name", json!(model.name));
    let native = model.dialects.iter().map(|code| (*code, true));
    let translated = model.translated.iter().map(|code| (*code, false));
    let spoken = native.chain(translated);
    let dialects: Vec<Value> = spoken
        .filter_map(|(code, native)| dialect(&model.provider, code, native))
        .collect();
    put("dialects", dialects.into());
    for (name, tokens) in [
        ("context_window", model.context_window),
        ("max_output", model.max_output),
    ] {
        if tokens > 0 {
            put(name, tokens.into());
        }
    }
    put("images", model.images.into());
    put("tools", model.tools.into());
    put("reasoning", model.reasoning.into());
    if !model.efforts.is_empty() {
        put("efforts", json!(model.efforts));
    }
    if let Some(known) = &model.price {
        put("price", price(known));
    }
    if !model.targets.is_empty() {
        put("targets", json!(model.targets));
    }
    if model.listed_at > 0 {
        put("listed_at", model.listed_at.into());
    }
    Value::Object(fields)
}

/// Where a client of that dialect finds it: what its base URL is, after this listener's address.
fn dialect(provider: &str, code: i32, native: bool) -> Option<Value> {
    let (name, version) = match ProtoDialect::try_from(code).ok()? {
        ProtoDialect::OpenaiChat => ("openai_chat", "/v1"),
        ProtoDialect::OpenaiResponses => ("openai_responses", "/v1"),
        ProtoDialect::AnthropicMessages => ("anthropic_messages", ""),
        ProtoDialect::Gemini => ("gemini", ""),
        ProtoDialect::Unspecified => return None,
    };
    Some(json!({ "name": name, "native": native, "base_path": format!("/{provider}{version}") }))
}

/// In dollars per million tokens.
fn price(price: &ModelPrice) -> Value {
    #[allow(clippy::cast_precision_loss)] // for people and settings; the ledger counts in whole numbers
    let dollars = |nanos: u64| nanos as f64 / 1e9;
    json!({
        "source": price.source, "input": dollars(price.input), "output": dollars(price.output),
        "cache_read": dollars(price.cache_read), "cache_write": dollars(price.cache_write),
        "cache_write_1h": dollars(price.cache_write_1h),
    })
}
