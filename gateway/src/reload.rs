//! The configuration file read again: when somebody asks, and by itself when it changed. It is checked whole before anything
//! is swapped; an error changes nothing, and is told until the file is what is in force.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use tonic::Status;

use crate::admin::audited;
use crate::audit::Actor;
use crate::config::Config;
use crate::guest::Gateway;
use crate::price;

/// Between two looks at the file.
const PACE: Duration = Duration::from_secs(1);

/// What was read last, and what came of it.
#[derive(Debug)]
pub(crate) struct Reloading {
    /// What the process began with: a part of it holds until the end.
    started: Arc<Config>,
    /// One at a time: the file as it was later must not lose against the file as it was before.
    reading: tokio::sync::Mutex<()>,
    /// Why the file is not what is in force; empty: it is.
    problem: Mutex<String>,
}

impl Reloading {
    pub(crate) fn new(started: Config) -> Self {
        Self {
            started: Arc::new(started),
            reading: tokio::sync::Mutex::default(),
            problem: Mutex::default(),
        }
    }

    /// Why the file is not what is in force; empty: it is.
    pub(crate) fn problem(&self) -> String {
        self.problem
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn note(&self, problem: String) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }

    /// Sections of a configuration that only a restart applies.
    pub(crate) fn needs_restart(&self, config: &Config) -> Vec<String> {
        config.needs_restart(&self.started)
    }
}

/// Reads the file and takes over what it says. The sections that changed and need a restart.
pub(crate) async fn reload(gateway: &Gateway) -> Result<Vec<String>, Status> {
    let reloading = &gateway.reloading;
    let _reading = reloading.reading.lock().await;
    let source = gateway.config.load_full();
    let read = tokio::task::spawn_blocking(move || source.again()).await;
    let read = read.map_err(|_| Status::internal("reading the configuration was interrupted"))?;
    let config = read.map_err(|error| {
        let problem = crate::causes(&error);
        reloading.note(problem.clone());
        Status::invalid_argument(problem)
    })?;
    let changed = gateway.providers.reconfigure(&config).await;
    changed.map_err(|error| {
        tracing::error!(error = crate::causes(&error), "reloading");
        reloading.note("the gateway's database failed when the file was read".to_owned());
        Status::internal("the gateway's database failed; nothing was changed")
    })?;
    gateway.people.reconfigure(&config.users).await;
    let needs_restart = reloading.needs_restart(&config);
    gateway.config.store(Arc::new(config));
    reloading.note(String::new());
    gateway.providers_changed.notify_one();
    price::warm_for(&gateway.providers.current());
    tracing::info!(
        needs_restart = needs_restart.join(", "),
        "the configuration was read again"
    );
    Ok(needs_restart)
}

/// Reads the file again whenever it has changed and then stayed as it is for a moment; until dropped.
pub(crate) async fn watch(gateway: &Gateway) {
    let mut ticks = tokio::time::interval(PACE);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut known = gateway.config.load().stamp();
    let mut seen = known;
    loop {
        ticks.tick().await;
        let config = gateway.config.load_full();
        if !config.watch {
            continue;
        }
        let in_force = config.stamp();
        let Ok(now) = tokio::task::spawn_blocking(move || config.stamp_now()).await else {
            continue;
        };
        // Whoever is still writing has the next look wait.
        let is_settled = now == seen;
        seen = now;
        if now == known || now == in_force || !is_settled {
            if now == in_force {
                known = now;
            }
            continue;
        }
        known = now;
        if now.is_none() {
            let gone = "the configuration file is gone; what it said last is in force";
            tracing::warn!("{gone}");
            gateway.reloading.note(gone.to_owned());
            continue;
        }
        changed(gateway).await;
    }
}

async fn changed(gateway: &Gateway) {
    let actor = Actor {
        uid: lodge_proto::sock::own_uid(),
        pid: i32::try_from(std::process::id()).unwrap_or(0),
        name: "the-file-changed".to_owned(),
    };
    let change = audited::change(actor, "gateway.reload", String::new(), json!({}));
    let needs = |needs: &Vec<String>| needs.join(", ");
    if let Err(error) = audited::around(gateway, change, reload(gateway), needs).await {
        tracing::error!(
            error = error.message(),
            "the configuration file changed and cannot be used; what it said before is in force"
        );
    }
}
