//! The cases, one file for each kind.

mod aborts;
mod answers;
mod bounds;
mod context;
mod errors;
mod options;
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
    Fork = "fork", Work, resume::fork;
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
}

impl Case {
    /// Whether it needs a Lodge in which tools ask before they run.
    pub(super) const fn asks(self) -> bool {
        matches!(self, Self::Permission | Self::Remember)
    }

    /// How long it may take, the start of its session and of the harness included.
    pub(super) const fn within(self) -> Duration {
        match self {
            // The harness is started three times.
            Self::Remember => Duration::from_mins(1),
            _ => Duration::from_secs(30),
        }
    }

    /// The case of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|case| case.name() == name)
    }
}
