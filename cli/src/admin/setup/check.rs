//! `lodgectl gateway check`: a configuration file, without taking it over.

use super::connect;
use crate::admin::refused;
use crate::config::Config;
use crate::data::DataDir;
use crate::failure::Failure;
use crate::terminal::{print_json, println};
use lodge_proto::ErrorCode;
use lodge_proto::control::CheckConfigRequest;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use zeroize::Zeroizing;

/// Checks a file [default: that of the data directory]: all of it here, and the gateway's part by the gateway that runs,
/// which has the variables that keys are read from; where none runs, with this shell's.
pub(in crate::admin) async fn check(
    data: &DataDir,
    file: Option<&Path>,
    as_json: bool,
) -> anyhow::Result<()> {
    let of_data = data.config();
    let file = file.unwrap_or(&of_data);
    let checked = checked(data, file).await;
    if as_json {
        let (error, by) = match &checked {
            Ok(by) => (None, Some(by)),
            Err(error) => (Some(crate::failure::describe(error)), None),
        };
        let needs_restart = by.map(|by| by.needs_restart.clone()).unwrap_or_default();
        print_json(&json!({
            "file": file.display().to_string(), "valid": error.is_none(), "error": error,
            "needs_restart": needs_restart, "gateway_runs": by.map(|by| by.runs),
        }))?;
    } else if let Ok(by) = &checked {
        println(&format!("{} is valid", file.display()));
        if !by.runs {
            println("no gateway runs here: keys were looked for among the variables of this shell");
        }
        for section in &by.needs_restart {
            println(&format!(
                "[{section}] differs from what is in force and needs a restart"
            ));
        }
    }
    checked.map(drop)
}

struct By {
    runs: bool,
    needs_restart: Vec<String>,
}

async fn checked(data: &DataDir, file: &Path) -> anyhow::Result<By> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => {
            let what = format!("the configuration cannot be read: {error}");
            let failure = Failure::new(ErrorCode::InvalidArgument, what).at(file.display().to_string());
            return Err(failure.mend("name a file: lodgectl gateway check FILE").into());
        }
    };
    Config::check(data, file, &text)?;
    let Ok(mut client) = connect(&data.admin_socket()).await else {
        return locally(data, file, &text);
    };
    let request = CheckConfigRequest { text: Some(text) };
    let answer = client.check_config(request).await;
    let answer = answer.map_err(|status| refused(&status))?.into_inner();
    if answer.error.is_empty() {
        return Ok(By {
            runs: true,
            needs_restart: answer.needs_restart,
        });
    }
    // The gateway speaks of its own file.
    let own = data.config().display().to_string();
    let what = answer.error.replacen(&own, &file.display().to_string(), 1);
    Err(Failure::new(ErrorCode::InvalidArgument, what)
        .mend("mend or remove that key; examples/config/lodge.toml explains every key")
        .into())
}

fn locally(data: &DataDir, file: &Path, text: &str) -> anyhow::Result<By> {
    let mut options = lodge_gateway::Options::embedded(data.path());
    file.clone_into(&mut options.file);
    let environment: BTreeMap<String, Zeroizing<String>> = std::env::vars_os()
        .filter_map(|(name, value)| {
            Some((
                name.into_string().ok()?,
                Zeroizing::new(value.into_string().ok()?),
            ))
        })
        .collect();
    lodge_gateway::Config::parse(&options, text, &environment).map_err(|error| {
        Failure::new(ErrorCode::InvalidArgument, crate::failure::chain(&error))
            .mend("mend or remove that key; examples/config/lodge.toml explains every key")
    })?;
    Ok(By {
        runs: false,
        needs_restart: Vec::new(),
    })
}
