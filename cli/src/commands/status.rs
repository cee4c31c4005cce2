//! `lodge status`

use crate::admin;
use crate::data::DataDir;
use crate::supervise::lock;
use crate::supervise::state::{Health, State};
use crate::terminal::{print_json, println};
use crate::{http, table};
use lodge_proto::control::HealthRequest;
use serde_json::json;
use std::time::Duration;

/// Exit status where nothing runs.
const NOT_RUNNING: u8 = 3;

/// Show whether Lodge runs and how its parts are.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  lodge status\n  lodge status --json | jq .roles\n\n\
    Exit status: 0 all parts are ready, 1 some are not, 3 Lodge does not run."
)]
pub struct Args {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub async fn run(data: &DataDir, args: &Args) -> anyhow::Result<u8> {
    let Some(pid) = lock::holder(data)? else {
        if args.json {
            print_json(&json!({ "running": false, "data": data.path() }))?;
        } else {
            println(&format!(
                "Lodge does not run on {}. Start it with: lodge up",
                data.path().display()
            ));
        }
        return Ok(NOT_RUNNING);
    };
    let state = State::read(&data.state());
    let ready = is_ready(state.as_ref()).await;
    let config_error = config_error(data).await;
    if args.json {
        let mut value = serde_json::to_value(&state)?;
        if !value.is_object() {
            value = json!({ "pid": pid });
        }
        value["running"] = true.into();
        value["config_error"] = config_error.into();
        value["ready"] = ready.into();
        value["data"] = data.path().display().to_string().into();
        print_json(&value)?;
    } else {
        show(data, pid, state.as_ref(), ready);
        if !config_error.is_empty() {
            println(&format!(
                "The configuration file is not what is in force: {config_error}"
            ));
        }
    }
    Ok(u8::from(!ready))
}

/// Why the configuration file is not what is in force; empty: it is, or the gateway does not say.
async fn config_error(data: &DataDir) -> String {
    let asking = async {
        let mut gateway = admin::connect(&data.admin_socket()).await.ok()?;
        let health = gateway.health(HealthRequest {}).await.ok()?;
        Some(health.into_inner().config_error)
    };
    let asked = tokio::time::timeout(Duration::from_secs(5), asking).await;
    asked.ok().flatten().unwrap_or_default()
}

/// Every role serves, and the backend says so too.
async fn is_ready(state: Option<&State>) -> bool {
    let Some(state) = state else { return false };
    if state.roles.is_empty() || state.roles.values().any(|role| role.health != Health::Ready) {
        return false;
    }
    match state.url.as_deref().and_then(http::address) {
        None => true,
        Some(address) => http::get(address, "/readyz", Duration::from_secs(5))
            .await
            .is_ok_and(|status| status == 200),
    }
}

fn show(data: &DataDir, pid: u32, state: Option<&State>, ready: bool) {
    let url = state
        .and_then(|state| state.url.as_deref())
        .unwrap_or("no web address yet");
    let word = if ready { "is ready" } else { "is not ready" };
    println(&format!(
        "Lodge {word}: process {pid}, {url}, data in {}",
        data.path().display()
    ));
    let Some(state) = state else { return };
    let row = |(role, state): (&crate::supervise::Role, &crate::supervise::state::RoleState)| {
        let health = serde_json::to_value(state.health)
            .ok()
            .and_then(|v| v.as_str().map(str::to_owned));
        let pid = state.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        [
            role.as_str().to_owned(),
            health.unwrap_or_default(),
            pid,
            state.restarts.to_string(),
        ]
    };
    let rows: Vec<_> = state.roles.iter().map(row).collect();
    table::print(["ROLE", "STATE", "PID", "RESTARTS"], &rows);
}
