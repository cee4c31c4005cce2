//! What a new session may use of what its user may.

use lodge_proto::limits::SessionLimits;

/// Bounds of a new session; they only narrow.
#[derive(Debug, clap::Args)]
#[group(id = "session_limits", multiple = true)]
pub(super) struct Args {
    /// What the whole session may cost, such as `2usd`; requests that could cost more than is left are refused.
    #[arg(long, value_name = "AMOUNT", value_parser = amount, conflicts_with = "session")]
    budget: Option<u64>,
    /// Models the session may use, `*` for any characters; may be given often [default: all its user may].
    #[arg(long = "allow-model", value_name = "GLOB", conflicts_with = "session")]
    models: Vec<String>,
    /// Providers the session may use [default: all its user may].
    #[arg(long = "allow-provider", value_name = "GLOB", conflicts_with = "session")]
    providers: Vec<String>,
    /// Requests to models a minute [default: any number].
    #[arg(long, conflicts_with = "session")]
    rpm: Option<u32>,
    /// Tokens a minute [default: any number].
    #[arg(long, conflicts_with = "session")]
    tpm: Option<u32>,
    /// Requests to models at a time [default: any number].
    #[arg(long, conflicts_with = "session")]
    concurrency: Option<u32>,
}

impl Args {
    /// None where no bound was given.
    pub(super) fn wanted(&self) -> Option<SessionLimits> {
        let limits = SessionLimits {
            budget_nanodollars: self.budget,
            models: self.models.clone(),
            providers: self.providers.clone(),
            requests_per_minute: self.rpm,
            tokens_per_minute: self.tpm,
            concurrent_requests: self.concurrency,
        };
        (limits != SessionLimits::default()).then_some(limits)
    }
}

/// Nano-dollars of `5usd`, `$5` or `0.25`.
pub(crate) fn amount(text: &str) -> Result<u64, String> {
    lodge_gateway::money::Nanos::parse(text)
        .map(|nanos| nanos.0)
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[arg(long)]
        session: Option<String>,
        #[command(flatten)]
        limits: Args,
    }

    #[test]
    fn bounds_are_those_that_were_given() {
        let none = Command::try_parse_from(["chat"]).unwrap();
        assert_eq!(none.limits.wanted(), None);
        let some = [
            "chat",
            "--budget",
            "2usd",
            "--allow-model",
            "claude-*",
            "--rpm",
            "5",
        ];
        let some = Command::try_parse_from(some).unwrap().limits.wanted().unwrap();
        assert_eq!(some.budget_nanodollars, Some(2_000_000_000));
        assert_eq!(
            (some.models, some.requests_per_minute),
            (vec!["claude-*".to_owned()], Some(5))
        );
        for refused in [["--budget", "two"], ["--session", "s"]] {
            let both = ["chat", "--budget", "1usd"].into_iter().chain(refused);
            assert!(Command::try_parse_from(both).is_err(), "{refused:?}");
        }
    }
}
