//! Counters for Prometheus. Labels are names of the configuration and words of closed lists: nothing that a caller sends
//! becomes one, so there are as many series as the operator has providers.

mod listen;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::accounts;
use crate::dialect::Dialect;
use crate::guest::Gateway;
use crate::ledger::{How, LedgerError, Tally};
pub(crate) use listen::serve;

/// Until a provider's headers are there, seconds.
const BUCKETS: [f64; 10] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Answered {
    provider: String,
    dialect: &'static str,
    status: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfProvider {
    provider: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Tokens {
    provider: String,
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Settled {
    provider: String,
    how: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfAccount {
    provider: String,
    account: String,
    state: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// What is counted as it happens; the rest is asked for when it is shown.
#[derive(Debug)]
pub(crate) struct Metrics {
    requests: Family<Answered, Counter>,
    refusals: Family<Reason, Counter>,
    latency: Family<OfProvider, Histogram, fn() -> Histogram>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            refusals: Family::default(),
            latency: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
        }
    }
}

impl Metrics {
    /// A request was answered. `provider` is one that there is; none: the request named no such.
    pub(crate) fn answered(&self, provider: Option<&str>, dialect: Dialect, status: u16) {
        let status = match status / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        };
        let labels = Answered {
            provider: provider.unwrap_or_default().to_owned(),
            dialect: word(dialect),
            status,
        };
        self.requests.get_or_create(&labels).inc();
    }

    /// The gateway itself answered with an error of this status.
    pub(crate) fn refused(&self, status: u16) {
        let reason = match status {
            400 => "invalid",
            401 => "unauthenticated",
            402 => "budget",
            403 => "forbidden",
            404 => "not_found",
            408 => "slow_client",
            413 => "too_large",
            415 => "compressed",
            429 => "rate",
            502 => "upstream",
            503 => "unavailable",
            504 => "timeout",
            _ => "other",
        };
        self.refusals.get_or_create(&Reason { reason }).inc();
    }

    /// A provider's headers, or the end of waiting for them, came after so long.
    pub(crate) fn waited(&self, provider: &str, time: std::time::Duration) {
        let labels = OfProvider {
            provider: provider.to_owned(),
        };
        self.latency.get_or_create(&labels).observe(time.as_secs_f64());
    }
}

fn word(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Chat => "openai_chat",
        Dialect::Responses => "openai_responses",
        Dialect::Messages => "anthropic_messages",
        Dialect::Gemini => "gemini",
    }
}

/// All of it, in the text format of `OpenMetrics`.
pub(crate) async fn show(gateway: &Gateway) -> Result<String, LedgerError> {
    let tally = gateway.ledger.tally().await?;
    let mut registry = Registry::with_prefix("lodge_gateway");
    let Metrics {
        requests,
        refusals,
        latency,
    } = &gateway.metrics;
    registry.register("requests", "Requests that were answered", requests.clone());
    registry.register("refusals", "Errors of the gateway itself", refusals.clone());
    registry.register_with_unit(
        "upstream_latency",
        "Until a provider's headers",
        Unit::Seconds,
        latency.clone(),
    );
    ledger(&mut registry, &tally);
    breakers(&mut registry, gateway);
    let leases = Gauge::<i64>::default();
    leases.set(signed(gateway.leases.count() as u64));
    registry.register("open_leases", "Sessions that hold a lease", leases);
    spans(&mut registry, gateway);
    let mut shown = String::new();
    // Writing to a string does not fail.
    let _infallible = text::encode(&mut shown, &registry);
    Ok(shown)
}

fn ledger(registry: &mut Registry, tally: &Tally) {
    let tokens = Family::<Tokens, Counter>::default();
    let cost = Family::<OfProvider, Counter>::default();
    let settled = Family::<Settled, Counter>::default();
    // Of each provider that has answered, so that an alarm has something to look at before it goes off.
    let without = Family::<OfProvider, Counter>::default();
    for (provider, of) in &tally.providers {
        for (kind, count) in [
            ("input", of.usage.input),
            ("cache_read", of.usage.cache_read),
            ("cache_write", of.usage.cache_write),
            ("output", of.usage.output),
            ("reasoning", of.usage.reasoning),
        ] {
            let provider = provider.clone();
            tokens.get_or_create(&Tokens { provider, kind }).inc_by(count);
        }
        let of_provider = OfProvider {
            provider: provider.clone(),
        };
        without.get_or_create(&of_provider).inc_by(0);
        cost.get_or_create(&of_provider).inc_by(of.cost.0);
    }
    for ((provider, how), count) in &tally.settled {
        if *how == How::Estimated {
            let provider = provider.clone();
            without.get_or_create(&OfProvider { provider }).inc_by(*count);
        }
        let labels = Settled {
            provider: provider.clone(),
            how: how.as_str(),
        };
        settled.get_or_create(&labels).inc_by(*count);
    }
    let open = Gauge::<i64>::default();
    open.set(signed(tally.open));
    let reserved = Gauge::<i64>::default();
    reserved.set(signed(tally.reserved.0));
    registry.register("tokens", "Tokens of settled requests", tokens);
    registry.register("cost_nano_usd", "Cost of settled requests in nano-dollars", cost);
    registry.register(
        "answers_without_usage",
        "Answers with a success and to their end in which the provider stated no usage",
        without,
    );
    registry.register(
        "settled",
        "Requests that settled, by how sure their cost is",
        settled,
    );
    registry.register("open_requests", "Requests and streams under way", open);
    registry.register(
        "reserved_nano_usd",
        "Nano-dollars reserved by requests under way",
        reserved,
    );
}

/// Where spans are sent to a collector.
fn spans(registry: &mut Registry, gateway: &Gateway) {
    let Some((sent, dropped)) = gateway.telemetry.counts() else {
        return;
    };
    let spans = Family::<Outcome, Counter>::default();
    for (outcome, count) in [("sent", sent), ("dropped", dropped)] {
        spans.get_or_create(&Outcome { outcome }).inc_by(count);
    }
    registry.register("spans", "Spans the collector took, or that were dropped", spans);
}

/// Of the accounts that are configured: what was learned of others is no longer of interest.
fn breakers(registry: &mut Registry, gateway: &Gateway) {
    let states = Family::<OfAccount, Gauge>::default();
    let (snapshot, now) = (gateway.routing.accounts.current(), accounts::now());
    for provider in gateway.providers.current().iter() {
        for account in provider.all_accounts() {
            let known = snapshot.get(&(provider.name.clone(), account.name.clone()));
            let health = known.map(|known| known.health).unwrap_or_default();
            let state = match health.pause(now) {
                Some(pause) => pause.cause.as_str(),
                None if health.is_well(now) => "well",
                None => "trial",
            };
            for each in ["well", "trial", "limited", "failing", "refused"] {
                let labels = OfAccount {
                    provider: provider.name.clone(),
                    account: account.name.clone(),
                    state: each,
                };
                states.get_or_create(&labels).set(i64::from(each == state));
            }
        }
    }
    registry.register("account_state", "1 for the state an account is in", states);
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
