//! One request's way through the ledger: reserved before its first byte leaves, settled when its last has come.
//!
//! - here: reserving; [`body`]: the answer as it passes, and what it is settled at; [`refusal`]: why not, in words
//! - [`clamp`]: as much output as fits

mod body;
mod clamp;
mod refusal;

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use crate::caller::Caller;
use crate::dialect::{Dialect, Operation, Route, WireError};
use crate::guest::Gateway;
use crate::keys::{Entry, Key};
use crate::ledger::{Ask, Exceeded, How, OnLimit, Refused, Reserve, Ticket};
use crate::money::Nanos;
use crate::price::{Asked, Bound, Pricing};
use crate::provider::ProviderSpec;
use crate::usage::{Seen, Stated, Usage};

/// How long a request waits for room in a budget.
const QUEUE: std::time::Duration = std::time::Duration::from_mins(2);

/// A request that is under way.
#[derive(Debug)]
pub(crate) struct Meter {
    ticket: Ticket,
    /// None: nobody knows the price, and no budget asks for it.
    pricing: Option<Pricing>,
    bound: Option<Bound>,
    asked: Asked,
    dialect: Dialect,
    rates: Rates,
}

/// Limits by the minute, to be corrected at the end.
#[derive(Debug, Default)]
struct Rates {
    expected: u64,
    line: Vec<Arc<Key>>,
    _entries: Vec<Entry>,
}

impl Meter {
    /// Reserves for a request; where the policy is to clamp, `body` may ask for less afterwards.
    pub(crate) async fn begin(
        gateway: &Gateway,
        caller: &Caller,
        provider: &ProviderSpec,
        route: &Route,
        body: &mut Bytes,
    ) -> Result<Self, WireError> {
        let mut asked = Asked::read(route.dialect, &route.operation, body)?;
        asked.searches = provider.provider_tools;
        if !caller.permits(&provider.name, &asked.model) {
            return Err(not_permitted(&provider.name, &asked.model));
        }
        let rates = Rates::enter(caller, asked.bytes / 4)?;
        let pricing = Pricing::find(provider, &asked.model, SystemTime::now());
        let bound = pricing
            .as_ref()
            .and_then(|pricing| Bound::of(&asked, provider, pricing));
        let mut meter = Draft {
            gateway,
            caller,
            provider,
            asked,
            pricing,
            bound,
        };
        let ticket = match meter.reserve().await {
            Err(Refused::Exceeded(exceeded)) if caller.on_limit == OnLimit::Clamp => {
                meter.clamp(route, body, &exceeded).await?
            }
            other => other.map_err(|refused| refusal::error(&refused, &meter.asked.model))?,
        };
        Ok(Self {
            ticket,
            pricing: meter.pricing,
            bound: meter.bound,
            asked: meter.asked,
            dialect: route.dialect,
            rates,
        })
    }

    /// From now on the provider may bill for it.
    pub(crate) fn mark_sent(&mut self) {
        self.ticket.mark_sent();
    }

    /// Nothing was billed.
    pub(crate) fn void(self) {
        self.rates.correct(0);
        self.ticket.void();
    }

    /// What it has certainly cost by now.
    fn progress(&self, seen: &Seen) {
        if let Some(pricing) = self.pricing.as_ref().filter(|pricing| !pricing.is_free()) {
            self.ticket
                .progress(pricing.cost(&seen.usage, seen.tier.as_deref()));
        }
    }

    /// It is over. `complete`: the answer came to its end by itself.
    fn settle(self, seen: &Seen, complete: bool) {
        let (usage, cost, how) = if seen.stated == Stated::Finally {
            let cost = self.pricing.as_ref().map_or(Nanos::ZERO, |pricing| {
                pricing.cost(&seen.usage, seen.tier.as_deref())
            });
            (seen.usage, cost, How::Exact)
        } else {
            let (usage, cost) = self.conservative(seen);
            let how = if complete { How::Estimated } else { How::Aborted };
            (usage, cost, how)
        };
        if self.bound.is_some() && cost > self.ticket.amount() {
            tracing::warn!(
                model = self.asked.model,
                reserved = %self.ticket.amount(),
                %cost,
                "a request cost more than its bound"
            );
        }
        self.rates.correct(usage.all_input().saturating_add(usage.output));
        self.ticket.settle(cost, usage, how);
    }

    /// Never below what the provider counted: input as stated or by its bytes, output by the bytes that came through;
    /// all of the reservation where the model may have thought unseen.
    fn conservative(&self, seen: &Seen) -> (Usage, Nanos) {
        let most = self.bound.map_or(u64::MAX, |bound| bound.output);
        let unseen = self.asked.hidden || seen.lost || seen.visible == 0;
        let output = seen
            .visible
            .max(seen.usage.output)
            .min(most.max(seen.usage.output));
        let input_known = seen.stated == Stated::Partly && seen.usage.all_input() > 0;
        let mut usage = if input_known {
            seen.usage
        } else {
            Usage {
                input: self.bound.map_or(self.asked.bytes, |bound| bound.input),
                ..Usage::default()
            }
        };
        usage.output = output;
        let Some(pricing) = &self.pricing else {
            return (usage, Nanos::ZERO);
        };
        let stated = pricing.cost(&seen.usage, seen.tier.as_deref());
        let cost = if unseen {
            self.ticket.amount()
        } else if input_known {
            pricing.cost(&usage, seen.tier.as_deref())
        } else {
            Bound::dearest(&self.asked, pricing, usage.input, output)
        };
        let cost = if self.bound.is_some() {
            cost.min(self.ticket.amount())
        } else {
            cost
        };
        (usage, cost.max(stated))
    }
}

/// 403: the key may not use that model there.
pub(crate) fn not_permitted(provider: &str, model: &str) -> WireError {
    let model: String = model
        .chars()
        .filter(|char| !char.is_control())
        .take(100)
        .collect();
    WireError::forbidden(format!(
        "this key may not use the model `{model}` of the provider `{provider}`"
    ))
}

impl Rates {
    fn enter(caller: &Caller, expected: u64) -> Result<Self, WireError> {
        let mut entries = Vec::new();
        for key in &caller.line {
            entries.push(key.enter(expected).map_err(refusal::busy)?);
        }
        Ok(Self {
            expected,
            line: caller.line.clone(),
            _entries: entries,
        })
    }

    fn correct(&self, used: u64) {
        for key in &self.line {
            key.correct(self.expected, used);
        }
    }
}

/// A request before it has its reservation.
struct Draft<'a> {
    gateway: &'a Gateway,
    caller: &'a Caller,
    provider: &'a ProviderSpec,
    asked: Asked,
    pricing: Option<Pricing>,
    bound: Option<Bound>,
}

impl Draft<'_> {
    async fn reserve(&self) -> Result<Ticket, Refused> {
        let queue = self.caller.on_limit == OnLimit::Queue;
        let reserving = self.gateway.ledger.reserve(Ask {
            reserve: self.record(),
            boundless: self.boundless(),
            queue,
        });
        if let Ok(answer) = tokio::time::timeout(QUEUE, reserving).await {
            return answer;
        }
        // It has waited long enough: the same without waiting says why.
        let ask = Ask {
            reserve: self.record(),
            boundless: self.boundless(),
            queue: false,
        };
        self.gateway.ledger.reserve(ask).await
    }

    fn scopes(&self) -> Vec<Arc<str>> {
        let mut scopes = self.caller.scopes.clone();
        scopes.push(format!("account:{}", self.provider.name).into());
        scopes
    }

    fn record(&self) -> Reserve {
        let short = |text: &str| text.chars().filter(|char| !char.is_control()).take(200).collect();
        Reserve {
            at: 0,
            scopes: self.scopes(),
            amount: self.bound.map_or(Nanos::ZERO, |bound| bound.amount),
            key: self.caller.key_id().to_owned(),
            session: self.caller.session.clone(),
            user: self.caller.user.clone(),
            provider: self.provider.name.clone(),
            model: short(&self.asked.model),
            price: self.pricing.as_ref().map_or("", Pricing::version).to_owned(),
        }
    }

    fn boundless(&self) -> Option<&'static str> {
        match (&self.pricing, self.bound) {
            (Some(Pricing::Free), _) => None,
            (None, _) => Some("nobody knows its price; an administrator can set one in the configuration"),
            (Some(_), None) => Some(
                "nothing says how long its answer may be; send a limit of output tokens, or set `max_output` of the \
                 model in the configuration",
            ),
            _ if self.asked.surcharge.is_some() => {
                Some("it asks for a surcharge that nobody knows the price of")
            }
            _ => None,
        }
    }

    async fn clamp(
        &mut self,
        route: &Route,
        body: &mut Bytes,
        exceeded: &Exceeded,
    ) -> Result<Ticket, WireError> {
        let no = || refusal::error(&Refused::Exceeded(Box::new(exceeded.clone())), &self.asked.model);
        let room = self
            .gateway
            .ledger
            .room(self.scopes())
            .await
            .ok()
            .flatten()
            .ok_or_else(no)?;
        let (pricing, bound) = self.pricing.as_ref().zip(self.bound).ok_or_else(no)?;
        let fits = |output: u64| Bound::dearest(&self.asked, pricing, bound.input, output) <= room;
        let output = clamp::most(bound.output, fits) / self.asked.answers;
        let Operation::Generate { .. } = route.operation else {
            return Err(no());
        };
        let smaller = clamp::output(route.dialect, body, output).ok_or_else(no)?;
        let mut asked = Asked::read(route.dialect, &route.operation, &smaller)?;
        asked.searches = self.asked.searches;
        let bound = Bound::of(&asked, self.provider, pricing).ok_or_else(no)?;
        tracing::info!(
            caller = self.caller.id,
            model = asked.model,
            output,
            "a request was cut down to what its budget has left"
        );
        self.asked = asked;
        self.bound = Some(bound);
        *body = smaller;
        let reserved = self.reserve().await;
        reserved.map_err(|refused| refusal::error(&refused, &self.asked.model))
    }
}
