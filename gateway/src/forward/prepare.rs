//! What a request becomes at each of the models it may go to.

use std::sync::Arc;

use bytes::Bytes;
use hyper::http::request::Parts;
use memchr::memmem;

use super::Asking;
use crate::asked;
use crate::dialect::{Dialect, Operation, WireError};
use crate::guest::Gateway;
use crate::json;
use crate::meter::{Quote, Wanted};
use crate::provider::ProviderSpec;
use crate::routes::{Step, Target};
use crate::translate::{self, Keeper, Translation};

/// A request as one target gets it.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) provider: Arc<ProviderSpec>,
    /// The model that runs; empty where the request has none.
    pub(super) model: String,
    /// That of the body and of the answer.
    pub(super) dialect: Dialect,
    pub(super) path: String,
    pub(super) body: Bytes,
    /// Where the provider lacks the caller's dialect: the head in its own, and how to translate back.
    pub(super) translated: Option<(Parts, Translation)>,
}

/// The targets that can take the request, in the order of preference.
pub(super) fn targets(gateway: &Gateway, asking: &Asking<'_>) -> Result<Vec<Prepared>, WireError> {
    let Some(model) = &asking.model else {
        return Ok(vec![Prepared {
            provider: Arc::clone(asking.provider),
            model: String::new(),
            dialect: asking.route.dialect,
            path: asking.route.path.clone(),
            body: asking.body.clone(),
            translated: None,
        }]);
    };
    let registry = gateway.providers.current();
    let steps = registry.routes().steps(&asking.provider.name, model)?;
    let mut prepared: Vec<Prepared> = Vec::new();
    let mut refused = None;
    for step in &steps {
        let Some(provider) = registry.get(&step.target.provider) else {
            continue;
        };
        let can_translate = matches!(asking.route.operation, Operation::Generate { .. })
            && translate::target(provider, asking.route.dialect).is_some();
        let speaks = can_translate || provider.dialects().contains(&asking.route.dialect);
        let is_elsewhere = provider.name != asking.provider.name;
        // Objects are at one provider only, and what one provider signed another refuses.
        let is_stored = matches!(asking.route.operation, Operation::Stored(_));
        let is_bound = is_stored
            || asking.pinned.is_some()
            || is_elsewhere && is_signed(asking.route.dialect, &asking.body);
        if !speaks || !provider.is_usable() || is_elsewhere && is_bound {
            continue;
        }
        if asking.asked.check(&provider.provider_tools).is_err() {
            continue;
        }
        if can_translate && let Some(error) = translate::refusal(&asking.asked) {
            refused = Some(error);
            continue;
        }
        prepared.push(at(gateway, asking, (model, step), Arc::clone(provider))?);
    }
    if let Some(error) = refused.filter(|_| prepared.is_empty()) {
        return Err(error);
    }
    if prepared.is_empty() {
        let model: String = model
            .chars()
            .filter(|char| !char.is_control())
            .take(100)
            .collect();
        return Err(WireError::no_model(format!(
            "none of the models that `{model}` stands for can take this request"
        )));
    }
    Ok(prepared)
}

/// What the request may cost at each of its targets.
pub(super) fn quotes(asking: &Asking<'_>, prepared: &[Prepared]) -> Result<Vec<Quote>, WireError> {
    let quote = |prepared: &Prepared| {
        Quote::of(Wanted {
            provider: &prepared.provider,
            model: &prepared.model,
            dialect: prepared.dialect,
            operation: &asking.route.operation,
            body: &prepared.body,
            asks: &asking.asked,
        })
    };
    prepared.iter().map(quote).collect()
}

/// Whether a request carries something that only the provider that made it accepts.
fn is_signed(dialect: Dialect, body: &[u8]) -> bool {
    let marks: &[&str] = match dialect {
        Dialect::Messages => &["\"signature\"", "\"redacted_thinking\""],
        Dialect::Responses => &["\"encrypted_content\""],
        Dialect::Gemini => &["\"thoughtSignature\"", "\"thought_signature\""],
        Dialect::Chat => &["\"reasoning_details\""],
    };
    marks
        .iter()
        .any(|mark| memmem::find(body, mark.as_bytes()).is_some())
}

fn at(
    gateway: &Gateway,
    asking: &Asking<'_>,
    (model, step): (&str, &Step),
    provider: Arc<ProviderSpec>,
) -> Result<Prepared, WireError> {
    let Step { target, set } = step;
    let mut prepared = Prepared {
        provider,
        model: target.model.clone(),
        dialect: asking.route.dialect,
        path: asking.route.path.clone(),
        body: asking.body.clone(),
        translated: None,
    };
    if let Some(dialect) = translate::target(&prepared.provider, asking.route.dialect) {
        let from = (asking.route.dialect, &asking.route.operation);
        let to = (dialect, &*prepared.provider);
        let kept = &gateway.routing.kept;
        let keeper = Keeper::new(kept, &asking.session, &prepared.provider.name, &target.model);
        let (body, translation) = translate::request(from, to, &asking.body, &target.model, keeper)?;
        let (path, head) = translate::head(&translation, &target.model, asking.parts)?;
        prepared.path = path;
        prepared.body = body.into();
        prepared.dialect = dialect;
        prepared.translated = Some((head, translation));
    } else if target.model != model {
        rename(asking, target, &mut prepared)?;
    }
    for (path, value) in set {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let spliced = json::set(&prepared.body, &path, value);
        prepared.body = spliced.map_err(no_object)?.into();
    }
    add(asking, &mut prepared)?;
    Ok(prepared)
}

/// What the ledger needs and the request does not say: a limit for tools that run at the provider and, where the provider's
/// configuration wants it, the usage at the end of a stream.
fn add(asking: &Asking<'_>, prepared: &mut Prepared) -> Result<(), WireError> {
    let is_limitless = !asking.asked.tools.is_empty();
    if is_limitless && let Some(limited) = asked::limited(prepared.dialect, &prepared.body) {
        prepared.body = limited.into();
    }
    let generates = matches!(asking.route.operation, Operation::Generate { .. });
    let is_chat = prepared.dialect == Dialect::Chat && prepared.translated.is_none();
    if prepared.provider.add_usage && generates && is_chat && asking.asked.stream {
        let path = ["stream_options", "include_usage"];
        if json::get(&prepared.body, &path) != Some(b"true".as_slice()) {
            let spliced = json::set(&prepared.body, &path, "true");
            prepared.body = spliced.map_err(no_object)?.into();
        }
    }
    Ok(())
}

/// Puts another model's name where the dialect has it.
fn rename(asking: &Asking<'_>, target: &Target, prepared: &mut Prepared) -> Result<(), WireError> {
    let is_in_path = match &asking.route.operation {
        Operation::Generate { model, .. } | Operation::CountTokens { model } | Operation::Embed { model } => {
            model.is_some()
        }
        _ => false,
    };
    if is_in_path {
        let action = asking
            .route
            .path
            .rsplit_once(':')
            .map_or("", |(_, action)| action);
        prepared.path = format!("/v1beta/models/{}:{action}", target.model);
        return Ok(());
    }
    let name = match &asking.route.operation {
        Operation::Stored(_) => format!("models/{}", target.model),
        _ => target.model.clone(),
    };
    let spliced = json::set(&prepared.body, &["model"], &json::quoted(&name));
    prepared.body = spliced.map_err(no_object)?.into();
    Ok(())
}

fn no_object(error: json::NoObject) -> WireError {
    WireError::invalid(error.to_string())
}
