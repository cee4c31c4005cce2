//! Which models a session that is to be made could use.

use crate::shared::Shared;
use lodge_proto::control::Model;
use lodge_proto::limits::SessionLimits;
use lodge_proto::{ErrorBody, ErrorCode};

/// Whether a new session would have a model, and the one that was asked for.
pub(super) async fn check_model(
    shared: &Shared,
    harness: &str,
    wanted: Option<&str>,
    limits: Option<&SessionLimits>,
) -> Result<(), ErrorBody> {
    if let Some(limits) = limits {
        limits.check()?;
    }
    let models = shared.leases.models().await?;
    if models.is_empty() {
        return Err(ErrorBody::new(
            ErrorCode::NotFound,
            "no model is configured: enter a provider's key in the settings, or set `demo = true` in lodge.toml",
        ));
    }
    let models = permitted(models, limits)?;
    let Some(wanted) = wanted else { return Ok(()) };
    let agent = shared.config.agents.get(harness);
    let (usable, others): (Vec<_>, Vec<_>) = models
        .into_iter()
        .partition(|model| crate::harness::launch::can_use(harness, agent, model));
    let ids =
        |models: &[Model]| -> Vec<String> { models.iter().map(crate::harness::launch::model_id).collect() };
    let known = ids(&usable);
    if known.iter().any(|id| id == wanted) {
        return Ok(());
    }
    let all = known.join(", ");
    if ids(&others).iter().any(|id| id == wanted) {
        let message = format!("{harness} does not speak to the model `{wanted}`; it can use: {all}");
        return Err(ErrorBody::new(ErrorCode::UnsupportedByHarness, message));
    }
    Err(ErrorBody::new(
        ErrorCode::NotFound,
        format!("no model `{wanted}`; there are: {all}"),
    ))
}

/// Those that the session's own bounds leave.
fn permitted(models: Vec<Model>, limits: Option<&SessionLimits>) -> Result<Vec<Model>, ErrorBody> {
    let Some(limits) = limits else {
        return Ok(models);
    };
    let all: Vec<String> = models.iter().map(crate::harness::launch::model_id).collect();
    let is_left = |model: &Model| limits.permits(&model.provider, &model.id);
    let left: Vec<Model> = models.into_iter().filter(is_left).collect();
    if left.is_empty() {
        let message = format!(
            "limits.models and limits.providers leave the session no model; there are: {}",
            all.join(", ")
        );
        return Err(ErrorBody::new(ErrorCode::InvalidArgument, message));
    }
    Ok(left)
}
