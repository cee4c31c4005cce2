//! One request on its way to a provider: what it asks for is checked, its objects must be its owner's, aliases and
//! policies are applied, an account is chosen, and another one is tried while no byte has gone to the caller.

mod attempts;
mod listing;
mod prepare;
mod socket;
mod stored;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use hyper::http::request::Parts;
use hyper::{Method, Response};

use crate::accounts::Accounts;
use crate::asked::{self, Asked};
use crate::body::GuestBody;
use crate::caller::Caller;
use crate::dialect::{Action, Dialect, Operation, Route, RouteError, WireError};
use crate::guest::Gateway;
use crate::intake::Body;
use crate::meter::{self, Paid, Plan, Quote, Wanted};
use crate::oauth::Oauth;
use crate::provider::{DEFAULT_ACCOUNT, ProviderSpec};
use crate::seal::Seal;
use crate::state::{State, StateError};
use crate::stored::Objects;
use crate::translate::{self, Kept};
pub(crate) use attempts::login;
use socket::Sockets;
pub(crate) use socket::handshake;

/// What routing knows besides the providers themselves.
#[derive(Debug)]
pub struct Routing {
    pub(crate) accounts: Accounts,
    pub(crate) objects: Arc<Objects>,
    pub(crate) sockets: Arc<Sockets>,
    pub(crate) oauth: Oauth,
    /// What providers want back and callers of other dialects cannot carry.
    pub(crate) kept: Arc<Kept>,
    state: Arc<State>,
}

impl Routing {
    /// Opens the state. Blocks on the database; needs a runtime.
    pub fn open(path: &Path, seal: &Arc<Seal>) -> Result<Self, StateError> {
        let (state, loaded) = State::open(path)?;
        let state = Arc::new(state);
        Ok(Self {
            objects: Arc::new(Objects::new(Arc::clone(&state), &loaded.objects)),
            oauth: Oauth::new(Arc::clone(&state), Arc::clone(seal), loaded.tokens),
            accounts: Accounts::start(Arc::clone(&state), loaded.accounts),
            sockets: Arc::default(),
            kept: Arc::default(),
            state,
        })
    }

    /// Writes what waits to be written, for the end of the process.
    pub(crate) async fn flush(&self) {
        if let Err(error) = self.state.flush().await {
            tracing::warn!(%error, "what was learned last is lost");
        }
    }
}

/// Everything about a request that does not change from one attempt to the next.
#[derive(Clone)]
struct Asking<'a> {
    provider: &'a Arc<ProviderSpec>,
    route: &'a Route,
    parts: &'a Parts,
    body: Bytes,
    /// The same as it came, where it came compressed.
    coded: Option<Bytes>,
    asked: Asked,
    /// The model's name, where the request has one.
    model: Option<String>,
    /// Whose the request is, as stored objects know it.
    owner: String,
    /// Requests of one session stay with one account.
    session: String,
    /// The account that has the stored objects it refers to.
    pinned: Option<String>,
}

/// The route of a request among the dialects a provider speaks, or can be spoken to in.
pub(crate) fn find_route(provider: &ProviderSpec, parts: &Parts, path: &str) -> Result<Route, RouteError> {
    let find =
        |dialects: &[Dialect]| Route::find(dialects, &parts.headers, &parts.method, path, parts.uri.query());
    match find(provider.dialects()) {
        Err(error @ RouteError::Dialect { .. }) => match find(&translate::callers(provider)) {
            Ok(route) if matches!(route.operation, Operation::Generate { .. }) => Ok(route),
            _ => Err(error),
        },
        found => found,
    }
}

/// Forwards a request and passes the answer on; dropped, it cancels whatever is under way.
pub(crate) async fn send(
    gateway: &Arc<Gateway>,
    caller: &Caller,
    provider: &Arc<ProviderSpec>,
    route: &Route,
    parts: &Parts,
    Body { plain: body, coded }: Body,
) -> Result<Response<GuestBody>, WireError> {
    let asked = match &route.operation {
        Operation::Stored(stored) => {
            stored::check_room(gateway, &provider.name, caller, stored)?;
            stored::asked(provider, route, stored, parts, &body)?
        }
        _ if parts.method == Method::POST => asked::read(route.dialect, &body)?,
        _ => Asked::default(),
    };
    asked.check(&provider.provider_tools)?;
    let model = match &route.operation {
        Operation::Generate { model, .. } | Operation::CountTokens { model } | Operation::Embed { model } => {
            // Some servers take a request that names no model; policy for all models is for it too.
            let named = model.clone().or_else(|| asked.model.clone());
            Some(named.unwrap_or_default())
        }
        Operation::Compact => Some(asked.model.clone().unwrap_or_default()),
        Operation::Stored(stored) => stored::model(stored, &asked),
        Operation::GetModel(model) if !caller.permits(&provider.name, model) => {
            return Err(meter::not_permitted(&provider.name, model));
        }
        Operation::ListModels | Operation::GetModel(_) | Operation::Probe | Operation::Socket => None,
    };
    let owner = caller.owner().to_owned();
    let pinned = gateway
        .routing
        .objects
        .pinned(&provider.name, &owner, &asked.objects)?;
    let asking = Asking {
        provider,
        route,
        parts,
        body,
        coded,
        asked,
        model,
        owner,
        session: caller.affinity().to_owned(),
        pinned,
    };
    if let Operation::Stored(stored) = &route.operation
        && stored.action == Action::List
    {
        return stored::list(gateway, caller, &asking, stored.kind).await;
    }
    let prepared = prepare::targets(gateway, &asking)?;
    let plan = match meter::paid(&route.operation) {
        Paid::Itself => {
            let quotes = prepare::quotes(&asking, &prepared)?;
            Some(Plan::new(gateway, caller, &route.operation, quotes)?)
        }
        // Of a socket, each message has a plan of its own.
        Paid::ByMessage | Paid::Never => {
            permit(caller, &prepared)?;
            None
        }
    };
    let taken = attempts::run(gateway, &asking, &prepared, plan).await?;
    if route.operation == Operation::Socket {
        return socket::open(gateway, caller, &asking, taken).await;
    }
    let account = taken.choice.account.name.clone();
    let answer = attempts::pass_on(gateway, caller, &asking, taken).await?;
    if let Operation::Stored(stored) = &route.operation {
        return stored::after(gateway, &asking, &account, stored, answer);
    }
    if route.operation == Operation::ListModels {
        return listing::narrowed(gateway, caller, &provider.name, answer).await;
    }
    Ok(answer)
}

/// A key must hold for whatever runs, also where that costs nothing.
fn permit(caller: &Caller, prepared: &[prepare::Prepared]) -> Result<(), WireError> {
    let named = prepared.iter().filter(|prepared| !prepared.model.is_empty());
    for prepare::Prepared { provider, model, .. } in named {
        if !caller.permits(&provider.name, model) {
            return Err(meter::not_permitted(&provider.name, model));
        }
    }
    Ok(())
}

/// Has the demo model answer: free, and counted like any other.
pub(crate) async fn demo(
    gateway: &Gateway,
    caller: &Caller,
    provider: &Arc<ProviderSpec>,
    route: &Route,
    mut body: Bytes,
) -> Result<Response<GuestBody>, WireError> {
    let named = match &route.operation {
        Operation::Generate { model, .. } | Operation::Embed { model } => model.clone(),
        _ => None,
    };
    if meter::paid(&route.operation) != Paid::Itself {
        let answer = gateway.demo.handle(&caller.id, route, &body).await;
        if route.operation == Operation::ListModels {
            return listing::narrowed(gateway, caller, &provider.name, answer).await;
        }
        return Ok(answer);
    }
    let asks = Asked::default();
    let model = match named {
        Some(model) => model,
        None => asked::read(route.dialect, &body)?.model.unwrap_or_default(),
    };
    let quote = Quote::of(Wanted {
        provider,
        model: &model,
        dialect: route.dialect,
        operation: &route.operation,
        body: &body,
        asks: &asks,
    })?;
    let plan = Plan::new(gateway, caller, &route.operation, vec![quote])?;
    let mut meter = plan.reserve(0, DEFAULT_ACCOUNT, &mut body).await?;
    meter.mark_sent();
    let response = gateway.demo.handle(&caller.id, route, &body).await;
    Ok(meter.watch(response, caller))
}
