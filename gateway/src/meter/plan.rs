//! Reserving: over the dearest of the models a request may go to, for each attempt apart.

use std::sync::Arc;

use bytes::Bytes;

use super::{Meter, Quote, Rates, clamp, not_permitted, refusal, span};
use crate::caller::Caller;
use crate::dialect::{Operation, WireError};
use crate::guest::Gateway;
use crate::ledger::{Ask, Exceeded, OnLimit, Refused, Reserve, Ticket};
use crate::money::Nanos;
use crate::price::{Bound, Pricing};
use crate::telemetry::Trace;

/// How long a request waits for room in a budget.
const QUEUE: std::time::Duration = std::time::Duration::from_mins(2);

/// A request before it is sent, and between two attempts.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    gateway: &'a Gateway,
    caller: &'a Caller,
    operation: &'a Operation,
    quotes: Vec<Quote>,
    rates: Arc<Rates>,
    /// What its attempts have in common, where a collector is told of them.
    trace: Option<Trace>,
}

/// One attempt to be reserved for.
struct Draft<'a> {
    amount: Nanos,
    boundless: Option<&'static str>,
    quote: &'a Quote,
    account: &'a str,
}

impl<'a> Plan<'a> {
    /// Lets a request in. Its key must hold for every model it may go to, whatever it is called by.
    pub(crate) fn new(
        gateway: &'a Gateway,
        caller: &'a Caller,
        operation: &'a Operation,
        quotes: Vec<Quote>,
    ) -> Result<Self, WireError> {
        for Quote { provider, asked, .. } in &quotes {
            if !caller.permits(&provider.name, &asked.model) {
                return Err(not_permitted(&provider.name, &asked.model));
            }
        }
        let bytes = quotes.iter().map(|quote| quote.asked.bytes).max();
        let rates = Arc::new(Rates::enter(caller, bytes.unwrap_or(0) / 4)?);
        Ok(Self {
            gateway,
            caller,
            operation,
            quotes,
            rates,
            trace: gateway.telemetry.trace(),
        })
    }

    /// Reserves for one attempt at the model of `step`; where the policy is to clamp, `body` may ask for less afterwards.
    pub(crate) async fn reserve(
        &self,
        step: usize,
        account: &str,
        body: &mut Bytes,
    ) -> Result<Meter, WireError> {
        let gone = || WireError::unavailable("the request has no such step".to_owned());
        let quote = self.quotes.get(step).ok_or_else(gone)?;
        let bounds = self.quotes.iter().filter_map(|quote| quote.bound);
        let draft = Draft {
            amount: bounds.map(|bound| bound.amount).max().unwrap_or(Nanos::ZERO),
            boundless: self.quotes.iter().find_map(Quote::boundless),
            quote,
            account,
        };
        match self.ask(&draft).await {
            Ok(ticket) => Ok(self.meter(ticket, quote)),
            Err(Refused::Exceeded(exceeded)) if self.caller.on_limit == OnLimit::Clamp => {
                self.clamp(&draft, body, &exceeded).await
            }
            Err(refused) => Err(refusal::error(&refused, &quote.asked.model)),
        }
    }

    fn meter(&self, ticket: Ticket, quote: &Quote) -> Meter {
        let expected = quote.asked.bytes / 4;
        self.rates.begin(expected);
        Meter {
            _place: self.gateway.live.enter(ticket.id(), &self.caller.ended),
            ticket,
            pricing: quote.pricing.clone(),
            bound: quote.bound,
            asked: quote.asked.clone(),
            dialect: quote.dialect,
            rates: Arc::clone(&self.rates),
            span: span::Attempt::begin(
                (&self.gateway.telemetry, self.trace),
                &quote.provider,
                &quote.asked.model,
                self.operation,
            ),
            expected,
            fixed: matches!(self.operation, Operation::Stored(_)),
        }
    }

    async fn ask(&self, draft: &Draft<'_>) -> Result<Ticket, Refused> {
        let ask = |queue| Ask {
            reserve: self.record(draft),
            boundless: draft.boundless,
            queue,
        };
        let queue = self.caller.on_limit == OnLimit::Queue;
        if !queue {
            return self.gateway.ledger.reserve(ask(false)).await;
        }
        let reserving = self.gateway.ledger.reserve(ask(true));
        match tokio::time::timeout(QUEUE, reserving).await {
            Ok(answer) => answer,
            // It has waited long enough: the same without waiting says why.
            Err(_) => self.gateway.ledger.reserve(ask(false)).await,
        }
    }

    fn scopes(&self, draft: &Draft<'_>) -> Vec<Arc<str>> {
        let mut scopes = self.caller.scopes.clone();
        let provider = &draft.quote.provider.name;
        scopes.push(format!("account:{provider}").into());
        scopes.push(format!("account:{provider}/{}", draft.account).into());
        scopes
    }

    fn record(&self, draft: &Draft<'_>) -> Reserve {
        let short = |text: &str| text.chars().filter(|char| !char.is_control()).take(200).collect();
        let quote = draft.quote;
        Reserve {
            at: 0,
            scopes: self.scopes(draft),
            amount: draft.amount,
            key: self.caller.key_id().to_owned(),
            session: self.caller.session.clone(),
            user: self.caller.user.clone(),
            provider: quote.provider.name.clone(),
            model: short(&quote.asked.model),
            price: quote.pricing.as_ref().map_or("", Pricing::version).to_owned(),
        }
    }

    /// As much output as its budget has left, at this model alone.
    async fn clamp(
        &self,
        draft: &Draft<'_>,
        body: &mut Bytes,
        exceeded: &Exceeded,
    ) -> Result<Meter, WireError> {
        let quote = draft.quote;
        let no = || refusal::error(&Refused::Exceeded(Box::new(exceeded.clone())), &quote.asked.model);
        if !matches!(self.operation, Operation::Generate { .. } | Operation::Socket) {
            return Err(no());
        }
        let room = self.gateway.ledger.room(self.scopes(draft)).await;
        let room = room.ok().flatten().ok_or_else(no)?;
        let (pricing, bound) = quote.pricing.as_ref().zip(quote.bound).ok_or_else(no)?;
        // A limit that is added, and does not replace one, is input too.
        let mut cut = None;
        for input in [bound.input, bound.input.saturating_add(clamp::ADDED)] {
            let fits = |output: u64| Bound::dearest(&quote.asked, pricing, input, output) <= room;
            let output = clamp::most(bound.output, fits) / quote.asked.answers;
            let smaller = clamp::output(quote.dialect, quote.provider.kind, body, output).ok_or_else(no)?;
            let clamped = quote.with_body(self.operation, &smaller)?.ok_or_else(no)?;
            let does_fit = clamped.bound.is_some_and(|bound| bound.amount <= room);
            cut = Some((output, smaller, clamped));
            if does_fit {
                break;
            }
        }
        let (output, smaller, clamped) = cut.ok_or_else(no)?;
        tracing::info!(
            caller = self.caller.id,
            model = quote.asked.model,
            output,
            "a request was cut down to what its budget has left"
        );
        *body = smaller;
        let draft = Draft {
            amount: clamped.bound.map_or(Nanos::ZERO, |bound| bound.amount),
            boundless: clamped.boundless(),
            quote: &clamped,
            account: draft.account,
        };
        let ticket = self.ask(&draft).await;
        let ticket = ticket.map_err(|refused| refusal::error(&refused, &quote.asked.model))?;
        Ok(self.meter(ticket, &clamped))
    }
}
