//! One request's way through the ledger: reserved before its first byte leaves, settled when its last has come.
//!
//! - here: what is under way, and what it is settled at
//! - [`quote`]: what a request may cost at each of the models it may go to; [`plan`]: reserving for one of them
//! - [`body`]: the answer as it passes; [`refusal`]: why not, in words; [`clamp`]: as much output as fits
//! - [`rates`]: limits by the minute; [`span`]: each attempt as a span; [`live`]: ending one by hand

mod body;
mod clamp;
mod live;
mod plan;
mod quote;
mod rates;
mod refusal;
mod span;

use std::sync::Arc;

use crate::asked::Kind;
use crate::dialect::{Action, Dialect, Operation, Stored, WireError};
use crate::ledger::{How, Ticket};
use crate::money::Nanos;
use crate::price::{Asked, Bound, Pricing};
use crate::usage::{Seen, Stated, Usage};
pub(crate) use live::Live;
pub(crate) use plan::Plan;
pub(crate) use quote::{Quote, Wanted};
use rates::Rates;

/// When a request is paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Paid {
    /// The request itself costs money: nothing of it is sent before it is reserved.
    Itself,
    /// What is sent over the connection it opens costs money, message by message.
    ByMessage,
    /// Nothing, at every provider.
    Never,
}

/// When a request of this kind is paid for. Each kind is named: one that is added later has to be thought about here.
pub(crate) fn paid(operation: &Operation) -> Paid {
    match operation {
        Operation::Generate { .. } | Operation::Embed { .. } | Operation::Compact => Paid::Itself,
        Operation::Stored(stored) if costs(stored) => Paid::Itself,
        Operation::Socket => Paid::ByMessage,
        Operation::CountTokens { .. }
        | Operation::Stored(_)
        | Operation::ListModels
        | Operation::GetModel(_)
        | Operation::Probe => Paid::Never,
    }
}

/// What is kept at the provider for a price: containers, and what Gemini has cached, whose life a change makes longer.
fn costs(stored: &Stored) -> bool {
    match (stored.kind, &stored.action) {
        (Kind::Container, Action::Create) | (Kind::Cache, Action::Create | Action::Change(_)) => true,
        (
            Kind::Response
            | Kind::Conversation
            | Kind::Container
            | Kind::File
            | Kind::Cache
            | Kind::Item
            | Kind::VectorStore
            | Kind::Skill
            | Kind::Upload,
            _,
        ) => false,
    }
}

/// A request that is under way to one account.
#[derive(Debug)]
pub(crate) struct Meter {
    ticket: Ticket,
    /// None: nobody knows the price, and no budget asks for it.
    pricing: Option<Pricing>,
    bound: Option<Bound>,
    asked: Asked,
    dialect: Dialect,
    rates: Arc<Rates>,
    span: span::Attempt,
    /// What the request counts as for [`Rates`] until it has settled.
    expected: u64,
    _place: live::Place,
    /// Its answer says nothing of what it costs: all that was reserved counts.
    fixed: bool,
}

impl Meter {
    /// From now on the provider may bill for it.
    pub(crate) fn mark_sent(&mut self) {
        self.ticket.mark_sent();
    }

    /// Nothing was billed.
    pub(crate) fn void(self) {
        self.refused(0);
    }

    /// Nothing was billed: the provider answered with an error of this status.
    pub(crate) fn refused(self, status: u16) {
        self.rates.settle(self.expected, 0);
        self.ticket.void();
        self.span.refused(status);
    }

    /// The attempt failed. Where the provider may have begun to answer, all that it can have cost counts.
    pub(crate) fn failed(self, error: &WireError) {
        if error.maybe_billed {
            self.settle(&Seen::default(), false);
        } else {
            self.rates.settle(self.expected, 0);
            self.ticket.void();
            self.span.failed(error);
        }
    }

    /// Whether what it costs was known when it was reserved.
    fn is_fixed(&self) -> bool {
        self.fixed
    }

    /// The dialect in which its provider answers.
    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// What it has certainly cost by now.
    fn progress(&self, seen: &Seen) {
        if self.pricing.as_ref().is_some_and(|pricing| !pricing.is_free()) {
            self.ticket.progress(self.cost(&seen.usage, seen.tier.as_deref()));
        }
    }

    fn cost(&self, usage: &Usage, tier: Option<&str>) -> Nanos {
        let tokens = Usage {
            web_searches: 0,
            ..*usage
        };
        let pricing = self.pricing.as_ref();
        pricing
            .map_or(Nanos::ZERO, |pricing| pricing.cost(&tokens, tier))
            .plus(self.asked.tools.cost(usage.web_searches))
    }

    /// It is over. `complete`: the answer came to its end by itself.
    pub(crate) fn settle(self, seen: &Seen, complete: bool) {
        let (usage, cost, how) = if seen.stated == Stated::Finally {
            let mut usage = seen.usage;
            if self.dialect == Dialect::Chat && self.asked.tools.most > 0 {
                // This dialect does not say how often a tool was called.
                usage.web_searches = usage.web_searches.max(1);
            }
            (usage, self.cost(&usage, seen.tier.as_deref()), How::Exact)
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
        self.rates
            .settle(self.expected, usage.all_input().saturating_add(usage.output));
        self.span.settled(seen, &usage, cost, how);
        self.ticket.settle(cost, usage, how);
    }

    /// Never below what the provider counted: input as stated or by its bytes, output by the bytes that came through;
    /// all of its bound where the model may have thought, or the provider searched, unseen.
    fn conservative(&self, seen: &Seen) -> (Usage, Nanos) {
        let most = self.bound.map_or(u64::MAX, |bound| bound.output);
        let unseen = self.asked.hidden || seen.lost || seen.visible == 0 || self.asked.tools.most > 0;
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
        // The reservation itself may be larger: it is that of the dearest model the request may go to.
        let whole = self.bound.map_or(self.ticket.amount(), |bound| bound.amount);
        let cost = if unseen {
            whole
        } else if input_known {
            self.cost(&usage, seen.tier.as_deref())
        } else {
            Bound::dearest(&self.asked, pricing, usage.input, output)
        };
        let cost = if self.bound.is_some() {
            cost.min(whole)
        } else {
            cost
        };
        (usage, cost.max(self.cost(&seen.usage, seen.tier.as_deref())))
    }
}

/// 403: the key may not use that model there.
pub(crate) fn not_permitted(provider: &str, model: &str) -> WireError {
    let model = shown(model);
    WireError::forbidden(format!(
        "this key may not use the model `{model}` of the provider `{provider}`"
    ))
}

/// A model's name as it may stand in an error.
fn shown(model: &str) -> String {
    model
        .chars()
        .filter(|char| !char.is_control())
        .take(100)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_costs_money_is_paid_for() {
        let model = || Some("m".to_owned());
        let stored = |kind, action| Operation::Stored(Stored { kind, action });
        for (operation, when) in [
            (
                Operation::Generate {
                    model: model(),
                    sse: None,
                },
                Paid::Itself,
            ),
            (Operation::Embed { model: None }, Paid::Itself),
            (Operation::Socket, Paid::ByMessage),
            (Operation::CountTokens { model: model() }, Paid::Never),
            (Operation::ListModels, Paid::Never),
            (Operation::Compact, Paid::Itself),
            (stored(Kind::Container, Action::Create), Paid::Itself),
            (stored(Kind::Cache, Action::Create), Paid::Itself),
            (stored(Kind::Cache, Action::Change("c".into())), Paid::Itself),
            (stored(Kind::Cache, Action::List), Paid::Never),
            (stored(Kind::File, Action::Upload), Paid::Never),
        ] {
            assert_eq!(paid(&operation), when, "{operation:?}");
        }
    }
}
