//! Why a request is not sent, so that a harness stops and a person knows what to do.

use crate::dialect::WireError;
use crate::keys::Busy;
use crate::ledger::{Exceeded, Refused, Window};

/// In words, and in a status that no client tries again.
pub(super) fn error(refused: &Refused, model: &str) -> WireError {
    match refused {
        Refused::Exceeded(exceeded) => WireError::budget(exceeded_text(exceeded)),
        Refused::Boundless(why) => {
            let model: String = model
                .chars()
                .filter(|char| !char.is_control())
                .take(100)
                .collect();
            WireError::budget(format!(
                "a budget applies to this request, and the model `{model}` cannot be held to it: {why}"
            ))
        }
        Refused::Unavailable => {
            let mut error = WireError::unavailable(
                "the gateway cannot write its ledger, and sends nothing that it could not account for; its log says why, \
                 most often the disk is full"
                    .to_owned(),
            );
            // Longer than clients wait by themselves: a disk does not get empty in a second.
            error.retry_after = Some("30".to_owned());
            error
        }
    }
}

/// 429 with the time to wait.
pub(super) fn busy(busy: Busy) -> WireError {
    let seconds = busy.wait.as_secs_f64().ceil().max(1.0);
    let mut error = WireError::rate(format!("{} has used up its {}", busy.who, busy.what));
    error.retry_after = Some(format!("{seconds:.0}"));
    error
}

fn exceeded_text(exceeded: &Exceeded) -> String {
    let Exceeded {
        scope,
        window,
        limit,
        counter,
        asked,
        resets_at,
        ..
    } = exceeded;
    let (kind, name) = scope.split_once(':').unwrap_or(("", scope));
    let holder = match kind {
        "session" => "this session".to_owned(),
        "account" => format!("the provider `{name}`"),
        kind => format!("the {kind} `{name}`"),
    };
    let period = match window {
        Window::Day => "daily ",
        Window::Week => "weekly ",
        Window::Month => "monthly ",
        Window::Total => "",
    };
    let renewed = resets_at.map_or_else(String::new, |at| {
        format!("; it begins anew on {} at 00:00 UTC", date(at))
    });
    format!(
        "the {period}budget of {holder} is {limit}: {} spent, {} reserved by requests under way, and this request may \
         cost up to {asked}{renewed}",
        counter.spent, counter.reserved
    )
}

/// Of seconds since 1970.
fn date(at: u64) -> String {
    let month = Window::Month.index(at);
    let mut day = 1;
    // Back to the first of the month.
    while Window::Month.index(at.saturating_sub(day * 86_400)) == month && day < 32 {
        day += 1;
    }
    format!("{:04}-{:02}-{day:02}", month / 12, month % 12 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::State;
    use crate::money::Nanos;

    #[test]
    fn the_reason_names_who_what_and_when() {
        let budgets = [(("user:ann".into(), Window::Month), Nanos(5_000_000_000))].into();
        let state = State::default();
        let exceeded = state
            .check(
                &budgets,
                &["user:ann".into()],
                Nanos(6_000_000_000),
                1_795_190_400,
            )
            .unwrap_err();
        let error = error(&Refused::Exceeded(Box::new(exceeded)), "m");
        assert_eq!(error.status, 402);
        assert_eq!(
            error.message,
            "the monthly budget of the user `ann` is $5.00: $0.00 spent, $0.00 reserved by requests under way, and this \
             request may cost up to $6.00; it begins anew on 2026-12-01 at 00:00 UTC"
        );
        assert_eq!(date(1_795_190_400), "2026-11-20");
    }
}
