//! `lodge debug`

use crate::failure::Failure;
use crate::terminal::print;
use crate::terminal::render::Renderer;
use clap::Subcommand;
use lodge_proto::{ErrorCode, Event};
use lodge_runner::translate::TranslateError;
use std::error::Error;

/// Look inside: recorded transcripts as canonical events.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  lodge debug translate --harness pi --json < transcript.jsonl\n\n\
    A transcript is one JSON object a line: {\"t\": MS, \"dir\": \"in|out|err|meta\", \"line\": \"…\"}."
)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Turn a recorded transcript (standard input) into canonical events.
    Translate {
        /// The adapter; `acp` for the generic one.
        #[arg(long, value_name = "NAME")]
        harness: String,
        /// Print the events, one JSON object a line.
        #[arg(long)]
        json: bool,
    },
}

pub fn run(args: &Args) -> anyhow::Result<u8> {
    let Action::Translate { harness, json } = &args.action;
    let mut renderer = Renderer::default();
    let mut broken = None;
    let mut show = |event: &Event| {
        if !*json {
            print(&renderer.render(event));
            return;
        }
        match serde_json::to_string(event) {
            Ok(line) => print(&format!("{line}\n")),
            Err(error) => broken = Some(error),
        }
    };
    lodge_runner::translate::transcript(harness, std::io::stdin().lock(), &mut show)
        .map_err(|error| refused(&error))?;
    match broken {
        None => Ok(0),
        Some(error) => Err(Failure::new(
            ErrorCode::Internal,
            format!("an event cannot be written as JSON: {error}"),
        )
        .into()),
    }
}

fn refused(error: &TranslateError) -> anyhow::Error {
    let code = match error {
        TranslateError::UnknownHarness { .. } => ErrorCode::NotFound,
        TranslateError::Read { .. } => ErrorCode::Unavailable,
        TranslateError::Malformed { .. } => ErrorCode::InvalidArgument,
    };
    let mut what = error.to_string();
    if let Some(cause) = error.source() {
        what = format!("{what}: {cause}");
    }
    Failure::new(code, what)
        .at("the transcript on standard input")
        .into()
}
