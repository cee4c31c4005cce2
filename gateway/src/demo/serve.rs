//! The demo model over HTTP.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::Response;
use hyper::body::Frame;

use super::ids::IdSeed;
use super::plan::{self, Plan};
use super::playback::{Playback, Step};
use super::{MODEL, dialect};
use crate::body::{self, GuestBody};
use crate::dialect::{Dialect, Operation, Route, WireError};

/// Messages whose errors are counted at one time; the oldest is forgotten beyond it.
const MAX_COUNTED: usize = 4096;

/// The demo provider. Its only state is how often a message has been answered with an error (`err CODE xK`).
#[derive(Debug, Default)]
pub struct Demo {
    attempts: Mutex<Attempts>,
}

#[derive(Debug, Default)]
struct Attempts {
    counts: HashMap<blake3::Hash, u32>,
    order: VecDeque<blake3::Hash>,
}

impl Attempts {
    /// Counts one more request, and tells how many there have been.
    fn count(&mut self, key: blake3::Hash) -> u32 {
        if !self.counts.contains_key(&key) {
            if self.order.len() == MAX_COUNTED
                && let Some(oldest) = self.order.pop_front()
            {
                self.counts.remove(&oldest);
            }
            self.order.push_back(key);
        }
        let count = self.counts.entry(key).or_default();
        *count = count.saturating_add(1);
        *count
    }
}

impl Demo {
    /// Answers one request. `caller` is the session the request belongs to.
    pub async fn handle(&self, caller: &str, route: &Route, body: &Bytes) -> Response<GuestBody> {
        match self.answer(caller, route, body).await {
            Ok(response) => response,
            Err(error) => body::error(route.dialect, &error),
        }
    }

    async fn answer(
        &self,
        caller: &str,
        route: &Route,
        body: &Bytes,
    ) -> Result<Response<GuestBody>, WireError> {
        let dialect = route.dialect;
        match &route.operation {
            Operation::Probe => return Ok(body::empty()),
            Operation::ListModels => return Ok(body::json(200, &dialect::models(dialect, false))),
            Operation::GetModel(id) => {
                check_model(id)?;
                return Ok(body::json(200, &dialect::models(dialect, true)));
            }
            Operation::Embed { .. } => {
                return Err(WireError::no_model(
                    "the demo provider has no model for embeddings".to_owned(),
                ));
            }
            // Clients fall back to plain requests.
            Operation::Socket => {
                return Err(WireError::not_found("the demo model has no WebSocket".to_owned()));
            }
            Operation::Stored(_) | Operation::Compact => {
                return Err(WireError::not_found("the demo model keeps nothing".to_owned()));
            }
            Operation::Generate { .. } | Operation::CountTokens { .. } => {}
        }
        let request = dialect::neutral(dialect, &route.operation, body)?;
        check_model(&request.model)?;
        if matches!(route.operation, Operation::CountTokens { .. }) {
            return Ok(body::json(200, &dialect::token_count(dialect, body)));
        }
        let seed = IdSeed::of(dialect, body);
        let plan = plan::plan(dialect, &request, seed);
        self.fail(caller, &plan)?;
        if let Some(wait) = plan.slow {
            tokio::time::sleep(wait).await;
        }
        if request.stream {
            let wire = dialect::wire(dialect, &request, seed, &plan, &route.operation);
            return Ok(play(
                Playback::new(plan, wire),
                content_type(dialect, &route.operation),
            ));
        }
        if let Some(wait) = plan.hang {
            tokio::time::sleep(wait).await;
        }
        if plan.midstream_error {
            return Err(WireError::upstream("scripted error without a stream".to_owned()));
        }
        Ok(body::json(200, &dialect::full(dialect, &request, seed, &plan)))
    }

    /// The error the script asks for, while it is due.
    fn fail(&self, caller: &str, plan: &Plan) -> Result<(), WireError> {
        let Some(fault) = &plan.fault else { return Ok(()) };
        let mut hasher = blake3::Hasher::new();
        hasher.update(&(caller.len() as u64).to_le_bytes());
        hasher.update(caller.as_bytes());
        hasher.update(fault.message.as_bytes());
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = attempts.count(hasher.finalize());
        if fault.first.is_some_and(|first| count > first) {
            Ok(())
        } else {
            Err(fault.error.clone())
        }
    }
}

fn check_model(model: &str) -> Result<(), WireError> {
    // Never an alias: a harness that asks for another model must learn that it is not there.
    if model == MODEL {
        return Ok(());
    }
    let model: String = model
        .chars()
        .filter(|char| !char.is_control())
        .take(100)
        .collect();
    Err(WireError::no_model(format!(
        "model `{model}` does not exist here; the demo provider has only `{MODEL}`"
    )))
}

fn content_type(dialect: Dialect, operation: &Operation) -> &'static str {
    match (dialect, operation) {
        (Dialect::Gemini, Operation::Generate { sse: Some(false), .. }) => "application/json",
        _ => "text/event-stream",
    }
}

fn play(playback: Playback, content_type: &'static str) -> Response<GuestBody> {
    let steps = stream::unfold(Some(playback), |playback| async {
        let mut playback = playback?;
        loop {
            match playback.step() {
                Step::Send { wait, bytes } => {
                    if !wait.is_zero() {
                        tokio::time::sleep(wait).await;
                    }
                    if !bytes.is_empty() {
                        return Some((Ok(Frame::data(Bytes::from(bytes))), Some(playback)));
                    }
                }
                Step::Cut => return Some((Err(body::Cut::Scripted.into()), None)),
                Step::End => return None,
            }
        }
    });
    body::stream(content_type, StreamBody::new(steps).boxed_unsync())
}
