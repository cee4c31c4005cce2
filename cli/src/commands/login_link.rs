//! `lodge login-link`

use crate::data::DataDir;
use crate::failure::Failure;
use crate::supervise::lock;
use crate::terminal::{print_json, println};
use lodge_proto::ErrorCode;
use serde_json::json;

/// Print a new link that logs its holder in, once, within five minutes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  lodge login-link\n  xdg-open \"$(lodge login-link)\"")]
pub struct Args {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub async fn run(data: &DataDir, args: &Args) -> anyhow::Result<u8> {
    if lock::holder(data)?.is_none() {
        return Err(Failure::new(ErrorCode::Unavailable, "Lodge does not run")
            .at(data.path().display().to_string())
            .mend("lodge up")
            .into());
    }
    let url = fetch(data).await?;
    if args.json {
        print_json(&json!({ "url": url }))?;
    } else {
        println(&url);
    }
    Ok(0)
}

/// Asks the backend for a link.
pub async fn fetch(data: &DataDir) -> anyhow::Result<String> {
    Ok(lodge_backend::control::login_link(&data.control_socket(), None)
        .await?
        .url)
}
