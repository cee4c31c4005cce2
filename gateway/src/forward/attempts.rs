//! One account after the other, while nothing has gone to the caller.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::{Response, StatusCode};
use tokio::time::Instant;

use super::Asking;
use super::prepare::Prepared;
use crate::accounts::health::{Cause, Outcome, Pause};
use crate::accounts::order::{self, Candidate};
use crate::accounts::probe::Probe;
use crate::accounts::{self, Admission, quota};
use crate::body::GuestBody;
use crate::caller::Caller;
use crate::dialect::{Action, Dialect, Operation, WireError};
use crate::guest::Gateway;
use crate::meter::{Meter, Plan};
use crate::oauth::{Login, OauthError};
use crate::provider::{Account, ProviderSpec};
use crate::proxy::Attempt;
use crate::stored::{Issuer, Tap};
use crate::translate;

/// Accounts that one request is sent to, at most.
const MAX_ATTEMPTS: usize = 4;
/// How long a request waits for another one that is finding out whether an account works again.
const PROBE_WAIT: Duration = Duration::from_secs(5);

/// One account that could take the request.
pub(super) struct Choice<'a> {
    pub(super) prepared: &'a Prepared,
    step: usize,
    pub(super) account: Account,
}

/// An account's answer to the request: a success, or the last of those that were tried.
pub(super) struct Taken<'a> {
    pub(super) choice: Choice<'a>,
    /// What is reserved for it; none where it costs nothing.
    pub(super) meter: Option<Meter>,
    pub(super) answer: Response<Incoming>,
}

/// Sends the request until an account takes it, or none is left. Each attempt is reserved for apart, after what the one
/// before may have cost has settled.
pub(super) async fn run<'a>(
    gateway: &Gateway,
    asking: &Asking<'_>,
    prepared: &'a [Prepared],
    plan: Option<Plan<'_>>,
) -> Result<Taken<'a>, WireError> {
    let (mut next, mut rest) = first(gateway, asking, prepared).await?;
    for turn in 1.. {
        let (choice, probe) = next;
        let mut body = choice.prepared.body.clone();
        let mut meter = match &plan {
            Some(plan) => Some(plan.reserve(choice.step, &choice.account.name, &mut body).await?),
            None => None,
        };
        if let Some(meter) = &mut meter {
            meter.mark_sent();
        }
        let (choice, answer) = attempt(gateway, asking, choice, &body).await;
        drop(probe);
        let goes_on = match &answer {
            // One that took too long may still be at it.
            Err(error) => matches!(error.status, 401 | 502),
            Ok(answer) => !matches!(outcome(answer), Outcome::Answered),
        };
        let another = (goes_on && turn < MAX_ATTEMPTS).then(|| admitted(gateway, &mut rest));
        let another = another.flatten();
        match (answer, another) {
            (Ok(answer), None) => {
                return Ok(Taken {
                    choice,
                    meter,
                    answer,
                });
            }
            // An error that the provider states costs nothing.
            (Ok(answer), Some(another)) => {
                if let Some(meter) = meter {
                    meter.refused(answer.status().as_u16());
                }
                next = another;
            }
            (Err(error), another) => {
                if let Some(meter) = meter {
                    meter.failed(&error);
                }
                next = another.ok_or(error)?;
            }
        }
    }
    Err(no_account(asking))
}

/// An account that may be asked, and the right to be the only one that asks it.
type Admitted<'a> = (Choice<'a>, Option<Probe>);

/// The account to begin with, and those after it; where all that may be asked are being probed, once that has ended.
async fn first<'a>(
    gateway: &Gateway,
    asking: &Asking<'_>,
    prepared: &'a [Prepared],
) -> Result<(Admitted<'a>, VecDeque<Choice<'a>>), WireError> {
    let until = Instant::now() + PROBE_WAIT;
    loop {
        let mut ended = std::pin::pin!(gateway.routing.accounts.probes().ended());
        ended.as_mut().enable();
        let mut rest = VecDeque::from(ordered(gateway, asking, choices(asking, prepared))?);
        if rest.is_empty() {
            return Err(no_account(asking));
        }
        if let Some(admitted) = admitted(gateway, &mut rest) {
            return Ok((admitted, rest));
        }
        if tokio::time::timeout_at(until, ended).await.is_err() {
            return Err(probed(asking));
        }
    }
}

/// The next of these that may be asked now.
fn admitted<'a>(gateway: &Gateway, rest: &mut VecDeque<Choice<'a>>) -> Option<Admitted<'a>> {
    while let Some(choice) = rest.pop_front() {
        let Prepared { provider, model, .. } = choice.prepared;
        let accounts = &gateway.routing.accounts;
        if let Admission::Go(probe) = accounts.admit(&provider.name, &choice.account.name, model) {
            return Some((choice, probe));
        }
    }
    None
}

/// Passes the answer on to the caller, watched where it may issue ids, and where it costs money.
pub(super) async fn pass_on(
    gateway: &Gateway,
    caller: &Caller,
    asking: &Asking<'_>,
    taken: Taken<'_>,
) -> Result<Response<GuestBody>, WireError> {
    let Taken {
        choice,
        meter,
        answer,
    } = taken;
    let (provider, account) = (&choice.prepared.provider, &choice.account);
    let translation = choice.prepared.translated.as_ref();
    let tap = match translation {
        None => tap(gateway, asking, &choice, &answer),
        Some(_) => None,
    };
    let passed = gateway.upstream.pass_on(provider, account, answer, tap).await;
    // The usage is read as the provider states it, before anything is translated.
    let passed = match (passed, meter) {
        (Ok(passed), Some(meter)) => meter.watch(passed, caller),
        (Ok(passed), None) => passed,
        (Err(error), meter) => {
            if let Some(meter) = meter {
                meter.failed(&error);
            }
            return Err(error);
        }
    };
    match translation {
        None => Ok(passed),
        Some((_, translation)) => translate::answer(translation.clone(), passed).await,
    }
}

fn choices<'a>(asking: &Asking<'_>, prepared: &'a [Prepared]) -> Vec<Choice<'a>> {
    let mut choices = Vec::new();
    for (step, prepared) in prepared.iter().enumerate() {
        let accounts = prepared.provider.all_accounts().into_iter();
        let has_objects = |account: &Account| {
            asking
                .pinned
                .as_ref()
                .is_none_or(|pinned| *pinned == account.name)
        };
        choices.extend(accounts.filter(has_objects).map(|account| Choice {
            prepared,
            step,
            account,
        }));
    }
    choices
}

fn ordered<'a>(
    gateway: &Gateway,
    asking: &Asking<'_>,
    choices: Vec<Choice<'a>>,
) -> Result<Vec<Choice<'a>>, WireError> {
    let snapshot = gateway.routing.accounts.current();
    let now = accounts::now();
    let candidates: Vec<Candidate<'_>> = choices
        .iter()
        .map(|choice| {
            let (provider, account) = (&choice.prepared.provider.name, &choice.account.name);
            let known = snapshot.get(&(provider.clone(), account.clone()));
            Candidate {
                step: choice.step,
                provider,
                account,
                health: known
                    .map(|known| known.health_for(&choice.prepared.model, now))
                    .unwrap_or_default(),
            }
        })
        .collect();
    let order = order::order(&asking.session, &candidates, now);
    match order {
        Ok(order) => {
            let mut choices: Vec<Option<Choice<'_>>> = choices.into_iter().map(Some).collect();
            let mut take = |index: usize| choices.get_mut(index).and_then(Option::take);
            Ok(order.into_iter().filter_map(&mut take).collect())
        }
        Err(Some(pause)) => Err(paused(asking, pause, now)),
        Err(None) => Err(no_account(asking)),
    }
}

fn no_account(asking: &Asking<'_>) -> WireError {
    let name = &asking.provider.name;
    WireError::upstream(format!(
        "no account of the provider `{name}` can take this request"
    ))
}

/// Another request is out to see whether the provider works again.
fn probed(asking: &Asking<'_>) -> WireError {
    let name = &asking.provider.name;
    let mut error = WireError::limited(format!(
        "the provider `{name}` comes out of a pause, and another request is finding out whether it works again"
    ));
    error.retry_after = Some("1".to_owned());
    error
}

/// Every account was told to wait.
fn paused(asking: &Asking<'_>, pause: Pause, now: u64) -> WireError {
    let seconds = pause.until.saturating_sub(now).div_ceil(1000).max(1);
    let name = &asking.provider.name;
    let message = format!("the provider `{name}` asked to be left alone for another {seconds} s");
    let mut error = match pause.cause {
        Cause::Limited => WireError::limited(message),
        Cause::Failing | Cause::Refused => WireError::overloaded(message),
    };
    error.retry_after = Some(seconds.to_string());
    error
}

/// Sends it to one account, and tells how that went. The account comes back with the key that was used.
async fn attempt<'a>(
    gateway: &Gateway,
    asking: &Asking<'_>,
    mut choice: Choice<'a>,
    body: &Bytes,
) -> (Choice<'a>, Result<Response<Incoming>, WireError>) {
    let provider = &choice.prepared.provider;
    let mut answer = send(gateway, asking, &mut choice, body).await;
    if is_refused_token(&choice, &answer) {
        // It may have been withdrawn before its time: once more with a new one.
        if let (Some(login), Some(token)) = (login(provider, &choice.account), choice.account.key.clone()) {
            gateway.routing.oauth.expire(login, &token).await;
            answer = send(gateway, asking, &mut choice, body).await;
        }
    }
    let (outcome, quotas) = match &answer {
        Ok(response) => (
            outcome(response),
            quota::parse(response.headers(), accounts::now()),
        ),
        // A request that cannot be forwarded is the caller's doing.
        Err(error) if error.status == 400 => (Outcome::Answered, Vec::new()),
        Err(error) if error.status == 401 => (Outcome::Refused, Vec::new()),
        Err(_) => (Outcome::Failed, Vec::new()),
    };
    gateway
        .routing
        .accounts
        .report(
            (&provider.name, &choice.account.name, &choice.prepared.model),
            outcome,
            quotas,
        )
        .await;
    (choice, answer)
}

pub(crate) fn login<'a>(provider: &'a ProviderSpec, account: &'a Account) -> Option<Login<'a>> {
    Some(Login {
        provider: &provider.name,
        account: &account.name,
        base: &provider.base,
        spec: account.oauth.as_deref()?,
    })
}

fn is_refused_token(choice: &Choice<'_>, answer: &Result<Response<Incoming>, WireError>) -> bool {
    let is_refused = |response: &Response<Incoming>| response.status() == StatusCode::UNAUTHORIZED;
    choice.account.oauth.is_some() && answer.as_ref().is_ok_and(is_refused)
}

async fn send(
    gateway: &Gateway,
    asking: &Asking<'_>,
    choice: &mut Choice<'_>,
    body: &Bytes,
) -> Result<Response<Incoming>, WireError> {
    let provider = &choice.prepared.provider;
    if let Some(login) = login(provider, &choice.account) {
        let token = gateway.routing.oauth.access(&gateway.upstream, login).await;
        choice.account.key = Some(token.map_err(|error| no_token(&provider.name, &error))?);
    }
    // What came compressed goes on as it came, unless something of it had to be changed.
    let changed = asking.coded.is_some() && *body != asking.body;
    let body = match &asking.coded {
        Some(coded) if !changed => coded.clone(),
        _ => body.clone(),
    };
    let attempt = Attempt {
        provider,
        account: &choice.account,
        path: &choice.prepared.path,
        parts: choice
            .prepared
            .translated
            .as_ref()
            .map_or(asking.parts, |(head, _)| head),
        body,
        changed,
        websocket: asking.route.operation == Operation::Socket,
    };
    let begun = std::time::Instant::now();
    let answer = gateway.upstream.attempt(attempt).await;
    gateway.metrics.waited(&provider.name, begun.elapsed());
    answer
}

fn no_token(provider: &str, error: &OauthError) -> WireError {
    let message = format!("the provider `{provider}`: {error}");
    match error {
        OauthError::LoggedOut | OauthError::Refused(_) => WireError::unauthenticated(&message),
        _ => WireError::upstream(message),
    }
}

fn outcome(response: &Response<Incoming>) -> Outcome {
    let after = quota::retry_after(response.headers());
    match response.status() {
        StatusCode::TOO_MANY_REQUESTS => Outcome::Limited { after },
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Outcome::Refused,
        status if status.is_server_error() && after.is_some() => Outcome::Limited { after },
        status if status.is_server_error() => Outcome::Failed,
        _ => Outcome::Answered,
    }
}

fn tap(
    gateway: &Gateway,
    asking: &Asking<'_>,
    choice: &Choice<'_>,
    response: &Response<Incoming>,
) -> Option<Tap> {
    let issuer = || Issuer {
        provider: choice.prepared.provider.name.clone(),
        account: choice.account.name.clone(),
        owner: asking.owner.clone(),
    };
    let objects = std::sync::Arc::clone(&gateway.routing.objects);
    if let Operation::Stored(stored) = &asking.route.operation {
        let makes = matches!(
            stored.action,
            Action::Create | Action::Upload | Action::Continue(_)
        );
        let made = makes && response.status().is_success();
        return made.then(|| Tap::made(objects, issuer(), asking.route.dialect, stored.kind));
    }
    let may_issue = match asking.route.dialect {
        Dialect::Responses => asking.asked.keeps,
        // Containers, and the files that come out of them.
        Dialect::Messages => !asking.asked.tools.is_empty(),
        Dialect::Chat | Dialect::Gemini => false,
    };
    if !may_issue || !response.status().is_success() {
        return None;
    }
    let content_type = response.headers().get(CONTENT_TYPE)?.to_str().ok()?;
    let lines = content_type.starts_with("text/event-stream");
    Some(Tap::new(objects, issuer(), asking.route.dialect, lines))
}
