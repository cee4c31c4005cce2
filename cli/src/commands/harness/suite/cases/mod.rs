//! The cases, one file for each kind.

mod aborts;
mod answers;
mod bounds;
mod context;
mod errors;
mod forks;
mod installs;
mod kills;
mod options;
mod outbound;
mod permissions;
mod remember;
mod resume;
mod steer;
mod tools;

use super::bench::{Bench, Done};
use std::time::Duration;

/// Which row of cases it is in; the rows are run side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// Most of these use one session.
    Work,
    /// These break into a turn.
    Trouble,
    /// These wait for what the harness tries again.
    Waits,
    /// These watch what it does by itself.
    Alone,
}

/// Declares the cases in the order in which they are shown.
macro_rules! cases {
    ($($variant:ident = $name:literal, $lane:ident, $run:path;)*) => {
        /// One thing that every harness must do, or say that it cannot.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Case {
            $($variant,)*
        }

        impl Case {
            pub(super) const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// As on the command line.
            pub(super) const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            pub(super) const fn lane(self) -> Lane {
                match self { $(Self::$variant => Lane::$lane,)* }
            }

            pub(super) async fn run(self, bench: &mut Bench<'_>) -> Done {
                // Each is large, and only one runs.
                match self { $(Self::$variant => Box::pin($run(bench)).await,)* }
            }
        }
    };
}

cases! {
    Text = "text", Work, answers::text;
    Thinking = "thinking", Work, answers::thinking;
    Tool = "tool", Work, tools::tool;
    Write = "write", Work, tools::write;
    Unicode = "unicode", Work, answers::unicode;
    BigOutput = "big-output", Work, bounds::big_output;
    Models = "models", Work, options::models;
    Level = "thinking-level", Work, options::level;
    Plan = "plan", Work, context::plan;
    Compact = "compact", Work, context::compact;
    Fork = "fork", Work, forks::fork;
    Image = "image", Work, answers::image;
    Permission = "permission", Work, permissions::permission;
    Remember = "remember", Work, remember::remember;
    Steer = "steer", Trouble, steer::steer;
    AbortText = "abort-text", Trouble, aborts::in_text;
    AbortTool = "abort-tool", Trouble, aborts::in_tool;
    Error = "error", Waits, errors::unauthorized;
    Retry = "retry", Waits, errors::retry;
    Cut = "cut-stream", Waits, errors::cut;
    Kill = "kill-and-resume", Trouble, resume::kill;
    KillText = "kill-text", Trouble, kills::in_text;
    KillAsked = "kill-permission", Trouble, kills::while_it_asks;
    Hang = "hang", Trouble, aborts::in_silence;
    Budget = "error-402", Waits, errors::budget;
    Outbound = "outbound", Alone, outbound::outbound;
    Version = "wrong-version", Waits, installs::version;
    Missing = "missing-program", Waits, installs::missing;
    RetryInternal = "retry-500", Waits, errors::retry_internal;
    RetryOverloaded = "retry-529", Waits, errors::retry_overloaded;
    Limited = "error-429", Work, errors::limited;
    Internal = "error-500", Trouble, errors::internal;
    Overloaded = "error-529", Waits, errors::overloaded;
    CutAlways = "cut-always", Work, errors::cut_always;
    ReadOnlyHome = "read-only-home", Trouble, installs::read_only_home;
}

impl Case {
    /// Whether it needs a Lodge in which tools ask before they run.
    pub(super) const fn asks(self) -> bool {
        matches!(self, Self::Permission | Self::Remember | Self::KillAsked)
    }

    /// Whether it may take minutes: harnesses pause between attempts.
    pub(super) const fn is_long(self) -> bool {
        matches!(
            self,
            Self::RetryInternal
                | Self::RetryOverloaded
                | Self::Limited
                | Self::Internal
                | Self::Overloaded
                | Self::CutAlways
                | Self::Missing
                | Self::ReadOnlyHome
        )
    }

    /// Whether it is a row of the table of faults.
    pub(super) const fn is_fault(self) -> bool {
        self.is_long()
            || matches!(
                self,
                Self::Error
                    | Self::Budget
                    | Self::Retry
                    | Self::Cut
                    | Self::Hang
                    | Self::Kill
                    | Self::KillText
                    | Self::KillAsked
                    | Self::Outbound
                    | Self::Version
            )
    }

    /// How long it may take, the start of its session and of the harness included.
    pub(super) const fn within(self) -> Duration {
        match self {
            // The harness is started several times, and some take long for it on a busy machine.
            Self::Remember | Self::Fork | Self::Outbound | Self::KillText | Self::KillAsked => {
                Duration::from_mins(2)
            }
            _ if self.is_long() => Duration::from_mins(3),
            _ => Duration::from_mins(1),
        }
    }

    /// The case of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|case| case.name() == name)
    }
}
