//! Starting a terminal's shell.

use crate::guest::{Stream, Streams};
use lodge_proto::{ErrorBody, ErrorCode};
use lodge_shim::stream::{StartStream, Terminal as Live};

/// The best login shell there is in the sandbox.
const SHELL: &str = "if [ -x /bin/bash ]; then exec /bin/bash -l; fi; exec /bin/sh -l";

/// Starts a login shell on a terminal.
pub async fn start(streams: &Streams, live: Live) -> Result<Stream, ErrorBody> {
    super::check_size(live.rows, live.cols)?;
    let start = StartStream {
        argv: ["/bin/sh", "-c", SHELL].map(str::to_owned).into(),
        env: [("TERM", "xterm-256color"), ("COLORTERM", "truecolor")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        terminal: Some(live),
    };
    streams.start(start).await.map_err(|error| {
        ErrorBody::new(
            ErrorCode::Unavailable,
            format!("the terminal cannot be opened: {}", error.message),
        )
    })
}
