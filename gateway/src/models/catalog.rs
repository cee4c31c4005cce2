//! Every model with its price, made once and kept while nothing changes: a guest may ask as often as it likes.

use std::sync::Arc;
use std::time::Duration;

use lodge_proto::control::Model as ProtoModel;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{price, usable};
use crate::guest::Gateway;
use crate::price::context_window;
use crate::provider::Registry;
use crate::routes::{Routes, Target};

/// Prices may change at an hour of the day.
const KEPT: Duration = Duration::from_mins(5);

/// A model, and every model that a request for it may run on.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) model: ProtoModel,
    runs: Vec<Target>,
}

impl Offer {
    /// Whether somebody may ask for it, who may use what `permits` (provider, model) says: that must hold for whatever
    /// may run.
    pub(crate) fn is_for(&self, permits: impl Fn(&str, &str) -> bool) -> bool {
        self.runs.iter().all(|run| permits(&run.provider, &run.model))
    }
}

#[derive(Debug)]
struct Made {
    registry: Arc<Registry>,
    until: Instant,
    offers: Arc<Vec<Offer>>,
}

/// All models, as they were made last.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    /// Held while they are made, so that they are made once.
    made: Mutex<Option<Made>>,
}

impl Catalog {
    /// Every model that a request can be sent to.
    pub(crate) async fn offers(&self, gateway: &Gateway) -> Arc<Vec<Offer>> {
        let registry = gateway.providers.current();
        let mut made = self.made.lock().await;
        let is_current = |made: &&Made| Arc::ptr_eq(&made.registry, &registry) && Instant::now() < made.until;
        if let Some(made) = made.as_ref().filter(is_current) {
            return Arc::clone(&made.offers);
        }
        let source = Arc::clone(&registry);
        // The price table takes a moment to read, the first time.
        let making = tokio::task::spawn_blocking(move || make(&source));
        let offers = Arc::new(making.await.unwrap_or_default());
        *made = Some(Made {
            registry,
            until: Instant::now() + KEPT,
            offers: Arc::clone(&offers),
        });
        offers
    }
}

fn make(registry: &Registry) -> Vec<Offer> {
    let models = usable(registry).into_iter();
    models
        .map(|model| offer(registry, registry.routes(), model))
        .collect()
}

fn offer(registry: &Registry, routes: &Routes, mut model: ProtoModel) -> Offer {
    let steps = routes.steps(&model.provider, &model.id).unwrap_or_default();
    let runs: Vec<Target> = steps.into_iter().map(|step| step.target).collect();
    let first = runs
        .iter()
        .find_map(|run| Some((registry.get(&run.provider)?, run)));
    if let Some((provider, run)) = first {
        if model.context_window == 0 {
            model.context_window = context_window(provider, &run.model).unwrap_or(0);
        }
        let price = price(provider, &run.model);
        model.price = Some(price).filter(|price| !price.source.is_empty());
    }
    Offer { model, runs }
}
